"""What tests of snapshots have: a project, and P8's own repository for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from p8.workspace.snapshots import Snapshots


@pytest.fixture
def root(directory: Path) -> Path:
    return directory


@pytest.fixture
def snapshots(tmp_path: Path, root: Path) -> Snapshots:
    return Snapshots(tmp_path / "store" / "p.git", root)
