"""The files side of checkpoints: kept with each checkpoint and around whatever may change them, and brought back.

Conversation and files are bound by entries: a checkpoint names its snapshot, and after a command or an agent has
changed files, an entry names the snapshots before and after. A tree that is too much to keep costs one notice and
nothing else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from p8.core.sessions import SessionManager
from p8.errors import NotFound, P8Error, StoreError, WorkspaceError
from p8.model import Checkpoint, Entry, Kind, Notice
from p8.workspace import git
from p8.workspace.restore import Plan, Record, Restore
from p8.workspace.scan import Limits
from p8.workspace.snapshots import Change, Snapshot, Snapshots, too_much
from p8.workspace.upkeep import Upkeep

MOST_NAMED = 200  #: changed paths that an entry names; the snapshots hold them all
CHANGED = "files"  #: what an entry about changed files is called
LARGE = Limits(files=2_000_000, tree_bytes=1 << 40)
ALLOWED = "snapshots.allowed"  #: setting: trees that the person wants kept although they are much
DAY_S = 86_400
KEPT_RECORDS = 20  #: newest restores whose safety snapshots are never pruned


class Turn(NamedTuple):
    """A place in a conversation to rewind to, and what files changed from there to the next."""

    stream: str
    seq: int
    time_us: int
    text: str
    kind: str  #: message or command
    changed: tuple[tuple[str, str], ...]  #: (path, what happened to it)
    files: int  #: changed, also those not named


class Files:
    """
    The files of the project that the person stands in.

    Args:
        sessions: records.
        home: P8's home.
        project_id: returns the project's id: each has one store.
        directory: returns where the person stands.
        limits: what is too much to keep unasked.
        automatic: keep files around commands and agents.
        tell: told of progress: a fraction and what is being done.
    """

    def __init__(
        self,
        sessions: SessionManager,
        home: Path,
        project_id: Callable[[], str],
        directory: Callable[[], Path],
        limits: Limits,
        automatic: bool = True,
        tell: Callable[[float, str], None] = lambda _fraction, _text: None,
    ) -> None:  # fmt: skip
        self._sessions = sessions
        self._home = home
        self._project_id = project_id
        self._directory = directory
        self._limits = limits
        self._automatic = automatic
        self._tell = tell
        self._open: tuple[object, Snapshots] | None = None

    def root(self) -> Path:
        """Return the top of the tree that is kept: the repository's, or the directory itself."""
        directory = self._directory()
        found = git.find(directory)
        return found.root if found is not None else directory

    def allow(self) -> None:
        """Keep this tree from now on although it is much."""
        settings = self._sessions.store.settings
        settings.put(ALLOWED, sorted({*settings.get(ALLOWED, []), str(self.root())}))

    def snapshots(self, root: Path | None = None) -> Snapshots:
        """
        Return the snapshots of the tree.

        Raises:
            WorkspaceError: it is too much to keep unasked.
        """
        place = root or self.root()
        reason = too_much(place, self._home)
        limits = self._limits
        if reason or self._is_allowed(place):
            if not self._is_allowed(place):
                raise WorkspaceError(
                    f"the files of {place} are not kept: {reason}", "/checkpoint create --large keeps them all the same"
                )
            limits = LARGE._replace(file_bytes=self._limits.file_bytes)
        folder = self._home / "snapshots" / f"{self._project_id()}.git"
        found = git.find(place)
        source = found.common_dir / "objects" if found is not None else None
        key = folder, place, limits
        if self._open is None or self._open[0] != key:
            self._open = key, Snapshots(folder, place, limits, [self._home], source, self._tell)
        return self._open[1]

    def _is_allowed(self, place: Path) -> bool:
        with contextlib.suppress(StoreError):
            return str(place) in self._sessions.store.settings.get(ALLOWED, [])
        return False

    # keeping

    def note(self, _directory: Path) -> dict[str, Any]:
        """
        Keep the files for a checkpoint; return what it says of them.

        Raises:
            WorkspaceError: they cannot be kept; the message says why.
        """
        taken = self.snapshots().take()
        note: dict[str, Any] = {"snapshot": taken.id, "root": git.shown(str(self.root())), "count": taken.files}
        if taken.skipped:
            note["skipped"] = [[git.shown(s.path), s.reason, s.size_bytes] for s in taken.skipped[:MOST_NAMED]]
        if taken.nested:
            note["nested"] = [git.shown(path) for path in taken.nested]
        return note

    @contextlib.contextmanager
    def around(self) -> Iterator[list[Change]]:
        """
        Keep the files before and after what is done within; afterwards the list says what it changed.

        Never fails: where files cannot be kept, a notice says so once.
        """
        changed: list[Change] = []
        before = self._take() if self._automatic else None
        try:
            yield changed
        finally:
            after = self._take() if before is not None else None
            if before is not None and after is not None and before.id != after.id:
                with contextlib.suppress(P8Error):
                    changed += self.snapshots().claim(before.id, after.id)
                    self._record(before.id, after.id, changed)

    def _take(self) -> Snapshot | None:
        store = self._sessions.store
        try:
            taken = self.snapshots().take(known=False)
        except P8Error as error:
            store.notice("files", Notice("info", "files", f"no file checkpoints here: {error.message}", error.hint))
            return None
        store.notice("files", None)
        return taken

    def _record(self, before: str, after: str, changed: list[Change]) -> None:
        if self._sessions.current is None:
            return
        data = {
            "what": CHANGED, "before": before, "after": after, "root": git.shown(str(self.root())),
            "changed": [[git.shown(c.path), c.what] for c in changed[:MOST_NAMED]], "count": len(changed),
        }  # fmt: skip
        self._sessions.record(Kind.EVENT, data)

    # bringing back

    def plan(self, snapshot: str, everything: bool = False, paths: tuple[str, ...] = (), root: str = "") -> Plan:
        """
        Say what bringing a snapshot back would do; changes no file.

        Args:
            snapshot: which.
            everything: also what something else than P8 has changed since.
            paths: only these, and what is below them; all where none is given.
            root: the tree it was taken of.

        Raises:
            NotFound: it is gone, or of another tree than the one the person stands in.
            WorkspaceError: the present files cannot be kept first, so nothing may be changed.
        """
        if root and root != git.shown(str(self.root())):
            raise NotFound(f"that snapshot is of {root}, and this is {self.root()}", f"cd {root} first")
        return Restore(self.snapshots()).plan(snapshot, everything, _below(self.root(), self._directory(), paths))

    def restore(self, plan: Plan, what: str = "") -> Record:
        """Do what was planned, and record it. Raises WorkspaceError where nothing could be begun."""
        done = Restore(self.snapshots()).apply(plan)
        self._say("restored", done, what)
        return done

    def undo(self) -> Record:
        """Take the last restore back. Raises NotFound where there is none."""
        done = Restore(self.snapshots()).undo()
        self._say("restore undone", done, "")
        return done

    def resume(self) -> Record:
        """Finish a restore that was interrupted. Raises NotFound where none was."""
        done = Restore(self.snapshots()).resume()
        self._say("restored", done, "")
        return done

    def interrupted(self) -> Record | None:
        """Return the restore of this tree that was interrupted, if one was."""
        if not (self._home / "snapshots").is_dir():
            return None
        with contextlib.suppress(P8Error, OSError):
            return Restore(self.snapshots()).interrupted()
        return None

    def _say(self, what: str, done: Record, name: str) -> None:
        if self._sessions.current is None:
            return
        data = {
            "what": what, "name": name, "snapshot": done.target, "safety": done.safety, "root": git.shown(done.root),
            "changed": [[git.shown(a.path), a.what] for a in done.actions[:MOST_NAMED]], "count": len(done.actions),
            "skipped": [[git.shown(a.path), a.reason] for a in done.skipped[:MOST_NAMED]],
        }  # fmt: skip
        self._sessions.record(Kind.EVENT, data)

    # turns

    def turns(self, session_id: str) -> list[Turn]:
        """
        Return the places of a conversation to rewind to, newest first, each with the files changed from there on.

        Raises:
            NotFound: no such session.
            StoreError: the database is out of reach.
        """
        kinds = (Kind.MESSAGE, Kind.COMMAND, Kind.EVENT)
        found: list[Turn] = []
        for entry in self._sessions.store.sessions.entries(session_id, kinds=kinds):
            if entry.kind == Kind.EVENT:
                if entry.data.get("what") == CHANGED and found:
                    found[-1] = _with_changes(found[-1], entry)
                continue
            text = str(entry.data.get("content") if entry.kind == Kind.MESSAGE else entry.data.get("command", ""))
            if entry.kind == Kind.MESSAGE and entry.data.get("role") != "user":
                continue
            if entry.kind == Kind.COMMAND and not text.startswith("!"):
                continue
            found.append(Turn(entry.stream, entry.seq, entry.time_us, text, entry.kind, (), 0))
        return found[::-1]

    def snapshot_at(self, session_id: str, turn: Turn) -> tuple[str, str]:
        """
        Return the snapshot of how files stood before a turn, and its tree; "" where nothing changed since.

        That is the one taken before the first change that P8 recorded from there on.
        """
        kinds = (Kind.EVENT, Kind.CHECKPOINT, Kind(turn.kind))
        seen = False
        for entry in self._sessions.store.sessions.entries(session_id, kinds=kinds, whole=True):
            seen = seen or (entry.stream, entry.seq) == (turn.stream, turn.seq)
            if not seen:
                continue
            if entry.kind == Kind.CHECKPOINT and isinstance(entry.data.get("files"), dict):
                return str(entry.data["files"].get("snapshot", "")), str(entry.data["files"].get("root", ""))
            if entry.data.get("what") == CHANGED:
                return str(entry.data.get("before", "")), str(entry.data.get("root", ""))
        return "", ""

    # keeping the store small

    def prunable(self, quota_bytes: int) -> tuple[list[str], int]:
        """
        Return the snapshots that may go so that the project's store keeps to its quota, oldest first, and its size.

        Never those that a checkpoint names, that a pinned session names, that a recent restore may be undone with, or
        the newest.

        Raises:
            StoreError: the database is out of reach: then nothing may go.
        """
        store = self.snapshots()
        upkeep = Upkeep(store)
        size = upkeep.size_bytes()
        if size <= quota_bytes:
            return [], size
        held = self._referenced(store)
        return [name for name, _ in upkeep.all()[:-1] if name not in held], size

    def _referenced(self, store: Snapshots) -> set[str]:
        table = self._sessions.store.sessions
        held = {str(e.data["files"].get("snapshot")) for e in table.checkpoints(1 << 30) if _has_files(e)}
        for row in table.page(limit=1 << 30):
            if not row.pinned:
                break  # pinned ones come first
            for entry in table.entries(row.id, kinds=(Kind.EVENT,), whole=True):
                held |= {str(entry.data.get(name)) for name in ("before", "after", "snapshot", "safety")}
        held |= {store.last or "", store.known().snapshot}
        for path in sorted((store.folder / "p8" / "restores").glob("*.json"))[-KEPT_RECORDS:]:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                record = Record.from_bytes(path.read_bytes())
                held |= {record.safety, record.target}
        return held

    def look_after(self, quota_bytes: int) -> None:
        """
        Say where a restore was interrupted, and once a day keep the store to its quota. For a thread with time.

        Raises:
            P8Error: the store or the database is out of reach.
        """
        store = self._sessions.store
        if self.interrupted() is not None:
            said = "a restore of files was interrupted here"
            hint = "/checkpoint resume finishes it, /checkpoint undo takes it back"
            store.notice("restore", Notice("warning", "restore", said, hint))
        snapshots = self.snapshots()
        stamp = snapshots.folder / "p8" / "tidied"
        if not stamp.parent.is_dir() or (stamp.exists() and time.time() - stamp.stat().st_mtime < DAY_S):
            return
        stamp.touch()
        names, _ = self.prunable(quota_bytes)
        if names:
            gone, freed = self.prune(names, quota_bytes)
            said = f"{gone} old automatic snapshots of files were deleted to keep to the quota ({freed >> 20} MiB)"
            store.notice("pruned", Notice("info", "pruned", said, "what checkpoints name is kept; snapshot_quota_mb"))

    def prune(self, names: list[str], quota_bytes: int) -> tuple[int, int]:
        """Delete snapshots, the oldest first, until the store keeps to its quota; return how many and their bytes."""
        store = Upkeep(self.snapshots())
        freed = gone = 0
        step = max(len(names) // 8, 1)
        for at in range(0, len(names), step):
            if store.size_bytes() <= quota_bytes:
                break
            some = names[at : at + step]
            freed += store.drop(some)
            gone += len(some)
        return gone, freed


def snapshot_of(checkpoint: Checkpoint) -> tuple[str, str]:
    """
    Return a checkpoint's snapshot and the tree it is of.

    Raises:
        NotFound: it has none; the hint says why.
    """
    files = checkpoint.data.get("files")
    if not isinstance(files, dict) or not files.get("snapshot"):
        why = str(checkpoint.data.get("files_problem") or "it was made without them")
        raise NotFound(f"checkpoint {checkpoint.name!r} holds no files", why)
    return str(files["snapshot"]), str(files.get("root", ""))


def _has_files(entry: Entry) -> bool:
    return isinstance(entry.data.get("files"), dict)


def _with_changes(turn: Turn, entry: Entry) -> Turn:
    changed = entry.data.get("changed")
    named = tuple((str(c[0]), str(c[1])) for c in changed) if isinstance(changed, list) else ()
    count = entry.data.get("count")
    return turn._replace(changed=turn.changed + named, files=turn.files + (count if isinstance(count, int) else 0))


def _below(root: Path, directory: Path, paths: tuple[str, ...]) -> Callable[[str], bool]:
    if not paths:
        return lambda _path: True
    wanted = []
    for path in paths:
        place = Path(path) if Path(path).is_absolute() else directory / path
        try:
            wanted.append(str(place.relative_to(root)).rstrip("/"))
        except ValueError as error:
            raise NotFound(f"{path} is not in {root}", "paths are relative to where you stand") from error
    return lambda path: any(w in {".", path} or path.startswith(f"{w}/") for w in wanted)
