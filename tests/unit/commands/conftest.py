"""What tests of commands have: a P8 in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.app import App
from p8.testing import make_app


@pytest.fixture
def app(home: Path, tmp_path: Path) -> Iterator[App]:
    (tmp_path / "here").mkdir()
    app = make_app(home, tmp_path / "here")
    yield app
    app.close()
