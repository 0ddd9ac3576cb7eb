"""What every test has: a home of its own, and none of the person's environment."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("p8", deadline=None)  # time is measured in tests/perf, on machines that are not shared
settings.load_profile("p8")
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in a script's background: all we start would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("P8_", "GIT_", "OPENAI", "LLM_")) or name in {"NO_COLOR", "COLUMNS"}:
            monkeypatch.delenv(name)
    os.umask(0o022)  # a test that runs P8 in this process leaves P8's own behind
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("P8_HOME", str(tmp_path / "home"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder to work in, with nothing in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def store(home: Path) -> Iterator[PersistenceManager]:
    store = PersistenceManager(home, background=False)
    yield store
    store.close()


@pytest.fixture
def manager(store: PersistenceManager) -> SessionManager:
    return SessionManager(store)


def need(program: str) -> None:
    """Skip a test whose program is missing; fail it in CI, where nothing may be missing."""
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is missing in CI")
        pytest.skip(f"needs {program}")
