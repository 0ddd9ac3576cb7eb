"""What tests on real container engines have: P8's image, a P8 whose containers are gone afterwards, a second engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.app import App
from support.engine import Line, Second, second_engine, session_image, tidy_app


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return session_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose name is short: a socket's address holds a hundred characters."""
    made = Path(tempfile.mkdtemp(prefix="p8-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def app(home: Path, tmp_path: Path, image: str) -> Iterator[App]:
    with tidy_app(home, tmp_path / "project") as made:
        yield made


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:
    with second_engine(session_image(tmp_path_factory.mktemp("image"))) as made:
        yield made


@pytest.fixture
def line(tmp_path: Path, second: Second) -> Iterator[Line]:
    """A connection to the second engine that can be cut."""
    made = Line(tmp_path / "engine.sock", second.address)
    yield made
    made.close()
