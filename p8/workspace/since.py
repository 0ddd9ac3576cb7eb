"""What has been done in a repository since a commit: commits, and lines by file, work not committed included.

Runs git as `git.py` does: nothing of the repository's own is run. Refuses: to guess at lines of binary or huge files.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from p8.errors import WorkspaceError
from p8.workspace import git

TIMEOUT_S = 5.0
MOST_COMMITS = 200
MOST_UNTRACKED = 500
MOST_BYTES = 2 << 20  #: of an untracked file are counted


class Commit(NamedTuple):
    """A commit of the line of work."""

    id: str
    subject: str


class FileChange(NamedTuple):
    """Lines added to and removed from a file; both 0 for a binary one."""

    path: str
    added: int
    removed: int
    untracked: bool = False


def commits(directory: Path, start: str) -> list[Commit]:
    """
    Return the commits from `start` (left out) to HEAD, newest first; none where it is not there.

    Raises:
        WorkspaceError: git is missing, failed or took too long.
    """
    found = git.find(directory)
    if found is None or not git.has_commit(directory, start):
        return []
    words = (
        "log",
        "-z",
        "--no-show-signature",
        f"--max-count={MOST_COMMITS}",
        "--format=%H %s",
        f"{start}..HEAD",
        "--",
    )
    out = git.run(found, *words, timeout_s=TIMEOUT_S).decode("utf-8", "replace")
    parts = (line.strip("\n").partition(" ") for line in out.split("\0") if line.strip())
    return [Commit(commit, subject) for commit, _, subject in parts]


def changes(directory: Path, start: str) -> list[FileChange]:
    """
    Return what differs between `start` and the files as they are now, by path; untracked files count whole.

    Empty outside a repository, where `start` is not there, and where there is no work tree.

    Raises:
        WorkspaceError: git is missing, failed or took too long.
    """
    found = git.find(directory)
    if found is None or not git.has_commit(directory, start):
        return []
    settings = git.overrides(found)
    if settings is None:
        return []
    words = ("diff", "--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
    out = git.run(found, *words, start, "--", settings=settings, timeout_s=TIMEOUT_S)
    changed = [change for record in out.split(b"\0") if (change := _numstat(record)) is not None]
    listed = ("ls-files", "-z", "--others", "--exclude-standard")
    names = git.run(found, *listed, settings=settings, timeout_s=TIMEOUT_S).split(b"\0")
    changed += [_untracked(found.root, os.fsdecode(name)) for name in names[:MOST_UNTRACKED] if name]
    return sorted(changed)


def _numstat(record: bytes) -> FileChange | None:
    parts = record.lstrip(b"\n").split(b"\t", 2)
    if len(parts) < 3:
        return None
    added, removed = (int(part) if part.isdigit() else 0 for part in parts[:2])
    return FileChange(git.shown(os.fsdecode(parts[2])), added, removed)


def _untracked(root: Path, name: str) -> FileChange:
    lines = 0
    with contextlib.suppress(OSError):
        raw = git.read(root / name, MOST_BYTES)
        lines = 0 if b"\0" in raw[:8000] else raw.count(b"\n") + (not raw.endswith(b"\n") and bool(raw))
    return FileChange(git.shown(name), lines, 0, True)


def quietly(directory: Path, start: str) -> tuple[list[Commit], list[FileChange]]:
    """Return commits and changes; nothing where git cannot say."""
    try:
        return commits(directory, start), changes(directory, start)
    except WorkspaceError:
        return [], []
