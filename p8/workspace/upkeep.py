"""Keeps a store of snapshots small and whole: sizes, deletion, verification, mending.

Nothing here knows which snapshots matter: who calls says which may go.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from p8.errors import NotFound, WorkspaceError
from p8.workspace.snapshots import Snapshots


class Upkeep:
    """
    Looks after one store.

    Args:
        snapshots: any tree's in it.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self.folder = snapshots.folder
        self._objects = snapshots.objects

    def all(self) -> list[tuple[str, float]]:
        """Return (snapshot, when it was taken in seconds since 1970) of the whole store, oldest first."""
        if not self.folder.is_dir():
            return []
        found = ((name, (self.folder / "refs" / "p8" / name).stat().st_mtime) for name, _ in self._objects.refs())
        return sorted(found, key=lambda pair: pair[1])

    def size_bytes(self) -> int:
        """Return what the store takes beyond what it shares with the project's repository."""
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):
                state = path.lstat()
                total += state.st_size if state.st_nlink == 1 and stat.S_ISREG(state.st_mode) else 0
        return total

    def drop(self, snapshots: Collection[str]) -> int:
        """
        Delete snapshots and what only they held; return how many bytes became free.

        Who calls says which may go: nothing here knows what refers to them.

        Raises:
            WorkspaceError: the store is busy, or git failed; nothing that stays is touched either way.
        """
        if not self.folder.is_dir():
            return 0
        before = self.size_bytes()
        with self._snapshots.locked():
            gone = [name for name, _ in self._objects.refs() if name in set(snapshots)]
            if not gone:
                return 0
            for name in gone:
                (self.folder / "refs" / "p8" / name).unlink(missing_ok=True)
            self._forget(set(gone))
            self._objects.close()
            self._objects.git("repack", "-a", "-d", "-q", "--no-write-bitmap-index", timeout_s=600)
            self._objects.git("prune", "--expire=now", timeout_s=600)
        return max(before - self.size_bytes(), 0)

    def _forget(self, gone: set[str]) -> None:
        """Drop what names snapshots, or objects, that may be gone now."""
        for seen in (self.folder / "p8").glob("*.seen"):
            seen.unlink(missing_ok=True)
        for last in (self.folder / "p8").glob("*.last"):
            if last.read_text().split()[0] in gone:
                last.unlink(missing_ok=True)
                last.with_suffix(".known").unlink(missing_ok=True)
        self._snapshots.forget()

    def forget_restores(self, gone: Collection[str]) -> None:
        """Delete the records of restores to or from snapshots that are gone."""
        names = [name.encode() for name in gone]
        for record in (self.folder / "p8" / "restores").glob("*.json"):
            if any(name in record.read_bytes() for name in names):
                record.unlink(missing_ok=True)

    def unreadable(self, snapshot: str) -> list[str]:
        """Return the paths of a snapshot whose content is missing or damaged; "" for what names them all."""
        try:
            files = self._snapshots.files(snapshot)
        except (WorkspaceError, NotFound):
            return [""]
        lost = []
        for path, state in sorted(files.items()):
            if not state.is_folder:
                try:
                    self._snapshots.read(state)
                except WorkspaceError:
                    lost.append(path)
        return lost

    def mend(self, aside: Path) -> list[str]:
        """
        Move what can be read of damaged packs into loose objects, and keep the packs aside; return what was done.

        What is in the project's files still is kept anew by the next checkpoint.
        """
        said = []
        with self._snapshots.locked():
            for pack in sorted((self.folder / "objects" / "pack").glob("*.pack")):
                with contextlib.suppress(WorkspaceError):
                    self._objects.git("verify-pack", str(pack.with_suffix(".idx")), timeout_s=600)
                    continue
                aside.mkdir(parents=True, exist_ok=True, mode=0o700)
                kept = aside / pack.name
                shutil.move(pack, kept)
                index = pack.with_suffix(".idx")
                if index.exists():
                    shutil.move(index, aside / index.name)
                self._objects.close()
                with contextlib.suppress(WorkspaceError):  # it tells of what it could not read, and does the rest
                    self._objects.git("unpack-objects", "-r", "-q", given=kept.read_bytes(), timeout_s=600)
                said.append(f"{self.folder.name}: what can be read of {pack.name} was kept, the pack is in {aside}")
            self._forget(set())
        return said

    def verify(self) -> list[str]:
        """Return what is damaged, a line each: every object is read and compared with its name."""
        if not self.folder.is_dir():
            return []
        problems = []
        try:
            self._objects.git("fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress", timeout_s=600)
        except WorkspaceError as error:
            problems.append(error.message)
        for name, commit in self._objects.refs():
            try:
                self._objects.git("rev-list", "--objects", "--quiet", commit, timeout_s=120)
            except WorkspaceError as error:
                problems.append(f"snapshot {name[:12]}: {error.message}")
        return problems
