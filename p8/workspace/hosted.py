"""Workspaces that P8 hosts for a project: their folders, and `.project_metadata.json` (row J2).

    <home>/workspaces/<project id>/
        .project_metadata.json     what the project is; paths within it are relative, so the folder may be moved
        repo/                      the files
        .memories/hot/  .memories/persistent/  .logs/  tmp/

Refuses: to follow links in the place of its own folders, and to replace what is already there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from p8.errors import Conflict, WorkspaceError
from p8.workspace.git import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDER = "workspaces"
REPO = "repo"
LAYOUT = (REPO, ".memories/hot", ".memories/persistent", ".logs", "tmp")
METADATA = ".project_metadata.json"
MOST_BYTES = 16 << 20


def make(folder: Path) -> None:
    """
    Make a workspace.

    Raises:
        Conflict: there is something of that name.
        WorkspaceError: the disk refuses.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        mend(folder)
    except FileExistsError as error:
        raise Conflict(f"{folder} is there already") from error
    except OSError as error:
        raise WorkspaceError(f"{folder} cannot be made: {error.strerror}", "check the disk") from error


def mend(folder: Path) -> None:
    """Make those of a workspace's folders that are missing. Raises OSError."""
    for name in LAYOUT:
        at = folder
        for part in name.split("/"):
            at /= part
            with contextlib.suppress(FileExistsError):
                at.mkdir(mode=0o700)


def write_metadata(folder: Path, data: Mapping[str, Any]) -> None:
    """
    Write down what a project is, whole or not at all.

    Raises:
        WorkspaceError: the disk refuses; what stood there still does.
    """
    import json

    young = folder / f"{METADATA}.{os.getpid()}.new"
    try:
        descriptor = os.open(young, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as out:
            json.dump(data, out, indent=2, ensure_ascii=False)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        young.replace(folder / METADATA)
    except OSError as error:
        with contextlib.suppress(OSError):
            young.unlink()
        raise WorkspaceError(f"{folder / METADATA} cannot be written: {error.strerror}", "check the disk") from error


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return what is written down of a project; nothing where there is none, or it cannot be read."""
    import json

    with contextlib.suppress(OSError, ValueError, RecursionError):
        data = json.loads(read(folder / METADATA, MOST_BYTES))
        if isinstance(data, dict):
            return data
    return {}


def move(folder: Path, to: Path) -> bool:
    """
    Move a workspace into the trash or out of it, whole.

    Returns:
        whether there was one; not where it has been moved already.

    Raises:
        Conflict: something stands where it is to go.
        WorkspaceError: the disk refuses; it is where it was.
    """
    if not folder.is_dir() or folder.is_symlink():
        return False
    if os.path.lexists(to):
        raise Conflict(f"{to} is there already", "move it away first")
    try:
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.rename(to)
    except OSError as error:
        raise WorkspaceError(f"{folder} cannot be moved: {error.strerror}", "it is where it was") from error
    return True


def remove(folder: Path) -> None:
    """
    Remove a workspace for good. Links in it are removed, not followed; nothing that is none is touched.

    Raises:
        WorkspaceError: something in it cannot be removed; the rest is gone.
    """
    import shutil

    if folder.is_symlink() or not folder.is_dir():
        return

    for at, names, _ in os.walk(folder):
        for path in (Path(at, name) for name in names):
            with contextlib.suppress(OSError):
                if not path.is_symlink() and path.stat().st_mode & 0o700 != 0o700:
                    path.chmod(0o700)  # what its owner may not write to cannot be emptied
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise WorkspaceError(f"{folder} cannot be removed whole", "look at who owns what is left, and remove it")


def size_bytes(folder: Path) -> int:
    """Return how much a workspace holds, links not followed."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(at, name)).st_size  # noqa: PTH118 a Path for each file costs ten times this
    return total
