"""What both ends of a synchronisation do to a tree, and how it is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p8.containers import sync_agent
from p8.containers.sync import IGNORED, Status


def test_what_is_never_brought_over_is_listed_by_its_top(tmp_path: Path) -> None:
    for path in (".git/objects/x", "src/node_modules/y/z", "src/a.py", "src/a.pyc", ".p8-sync/mark"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()

    assert sync_agent.ignored(str(tmp_path), IGNORED) == [".git", "src/a.pyc", "src/node_modules"]


def test_a_tree_keeps_its_mark_and_another_has_another(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first = sync_agent.mark_of(str(tmp_path / "a"))

    assert sync_agent.mark_of(str(tmp_path / "a")) == first
    assert sync_agent.mark_of(str(tmp_path / "b")) != first
    (tmp_path / "a" / "mark").write_text("half")
    assert len(sync_agent.mark_of(str(tmp_path / "a"))) == 32


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_new_files_get_the_mode_and_old_ones_keep_theirs(tmp_path: Path, mode: int) -> None:
    staged = tmp_path / ".p8-sync" / "in"
    staged.mkdir(parents=True)
    for name in ("1", "2"):
        (staged / name).write_text(name)
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o640)
    seen = sync_agent.signature(str(tmp_path / "old"))
    steps = [["file", "new", None, "1", True], ["file", "old", seen, "2", False], ["file", "gone", ["x"], "2", False]]

    assert sync_agent.apply(str(tmp_path), steps, mode) == [0, 1]
    assert (tmp_path / "new").stat().st_mode & 0o777 == mode | 0o111
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "old").read_text() == "2"


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_whom_the_tree_does(tmp_path: Path) -> None:
    (tmp_path / ".p8-sync" / "in").mkdir(parents=True)
    (tmp_path / ".p8-sync" / "in" / "1").touch()
    os.chown(tmp_path, 1234, 1235)
    steps = [["folder", "d", None], ["file", "d/f", None, "1", False], ["link", "l", None, "d/f"]]

    assert sync_agent.apply(str(tmp_path), steps) == [0, 1, 2]
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (tmp_path / "d", tmp_path / "d/f", tmp_path / "l")}
    assert owners == {(1234, 1235)}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status(), "sync begins"), (Status("syncing", pending=1234), "sync 1,234 files"),
        (Status("synced", at=1.0), "in sync"), (Status("syncing", at=1.0), "in sync"),
        (Status("synced", conflicts=("a", "b"), at=1.0), "conflict 2"),
        (Status("cut", pending=3, at=1.0), "cut, retrying"), (Status("failed", at=1.0), "sync failed"),
    ],
)  # fmt: skip
def test_the_status_line_says_it_in_two_words(status: Status, said: str) -> None:
    assert status.short == said
