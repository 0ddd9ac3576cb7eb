"""Brings files back: plans first, keeps what is there now, writes each path whole, and can be taken back.

A path is only touched while it is what the plan saw; what P8 has never kept is never deleted or overwritten. Every step
is in a record beside the snapshots before the first one is taken, so that a crash is finished or undone later. Nothing
is written through a link: each directory on the way is opened by itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from p8.errors import NotFound, WorkspaceError
from p8.workspace.objects import Reader, oid_of, write_durably
from p8.workspace.scan import OURS, content_at, open_parent
from p8.workspace.snapshots import FileState, Snapshots

WRITE, DELETE, MODE, SKIP = "write", "delete", "mode", "skip"
FOREIGN = "changed since by something else than P8"
UNSEEN = "P8 has never kept it"
GONE_ON = "is not as it was planned"
READ_LIMIT = 1 << 40
SYNCED_SINGLY = 200  #: paths; syncing more of them one by one takes longer than syncing everything


class Action(NamedTuple):
    """What is done to one path."""

    path: str
    what: str  #: write, delete, mode or skip
    old: FileState | None  #: as it is before
    new: FileState | None  #: as it is to be
    reason: str = ""  #: why it is skipped


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do, in the order it would do it."""

    target: str  #: the snapshot whose files come back
    safety: str  #: the snapshot of how things are now
    actions: tuple[Action, ...]
    skipped: tuple[Action, ...]


@dataclass(slots=True)
class Record:
    """What a restore did, or was doing when it was killed."""

    id: str
    root: str
    target: str
    safety: str
    state: str  #: running, done, undoing, undone
    actions: list[Action] = field(default_factory=list)
    skipped: list[Action] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """Return JSON."""
        plain = {
            "id": self.id, "root": self.root, "target": self.target, "safety": self.safety, "state": self.state,
            "actions": [_plain(a) for a in self.actions], "skipped": [_plain(a) for a in self.skipped],
        }  # fmt: skip
        return json.dumps(plain).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Record:
        """Return what `to_bytes` was given."""
        plain = json.loads(raw)
        actions, skipped = ([_action(a) for a in plain[name]] for name in ("actions", "skipped"))
        return cls(plain["id"], plain["root"], plain["target"], plain["safety"], plain["state"], actions, skipped)


def _plain(action: Action) -> list[Any]:
    states = [[s.mode, s.oid.hex()] if s is not None else None for s in (action.old, action.new)]
    return [action.path, action.what, *states, action.reason]


def _action(plain: list[Any]) -> Action:
    old, new = (FileState(s[0], bytes.fromhex(s[1])) if s is not None else None for s in plain[2:4])
    return Action(plain[0], plain[1], old, new, plain[4])


class Restore:
    """
    Restores the files of one tree.

    Args:
        snapshots: of the tree.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._root = snapshots.root
        self._records = snapshots.folder / "p8" / "restores"

    def plan(self, target: str, everything: bool = False, below: Callable[[str], bool] = lambda _path: True) -> Plan:
        """
        Say what bringing a snapshot back would do. Keeps the files as they are now; changes none of them.

        Args:
            target: the snapshot.
            everything: also what was changed since by something else than P8: it is kept in the safety snapshot.
            below: the paths it is about.

        Raises:
            NotFound: the snapshot is gone.
            WorkspaceError: the tree cannot be kept as it is.
        """
        wanted = self._snapshots.files(target, below)
        known = self._known()
        with self._snapshots.locked():
            safety, there = self._snapshots.take_locked()
            there = {path: state for path, state in there.items() if below(path)}
            hidden = self._hidden(wanted, there)
            if hidden and everything:
                safety, seen = self._snapshots.take_locked(hidden)
                there |= {path: seen[path] for path in hidden if path in seen}
        return _planned(target, safety.id, wanted, there, known, everything, set(hidden))

    def _known(self) -> dict[str, FileState]:
        """Return the states that a restore may replace unasked: what the person kept, and what P8 did since."""
        known = self._snapshots.known()
        states: dict[str, FileState] = {}
        with contextlib.suppress(NotFound):
            states = self._snapshots.files(known.snapshot) if known.snapshot else {}
        for path, state in known.ours.items():
            if state is None:
                states.pop(path, None)
            else:
                states[path] = state
        return states

    def _hidden(self, wanted: dict[str, FileState], there: dict[str, FileState]) -> list[str]:
        """Return what is in the way of a wanted path though no snapshot holds it: ignored, or too large."""
        hidden = []
        for path in wanted.keys() - there.keys():
            with contextlib.suppress(OSError):
                parent, name = open_parent(self._root, path)
                try:
                    now = self._as_it_is(parent, name, path)
                finally:
                    os.close(parent)
                if now == wanted[path]:
                    there[path] = wanted[path]
                elif now is not None:
                    hidden.append(path)
        return hidden

    def apply(self, plan: Plan) -> Record:
        """
        Do what was planned. What is no longer as it was is skipped, and named in the record.

        Raises:
            WorkspaceError: the record cannot be written; nothing was changed then.
        """
        name = f"{time.time_ns():020d}"
        record = Record(name, str(self._root), plan.target, plan.safety, "running", list(plan.actions),
                        list(plan.skipped))  # fmt: skip
        with self._snapshots.locked():
            self._save(record)
            self._carry_out(record, record.actions)
            record.state = "done"
            self._save(record)
            self._snapshots.own({action.path: action.new for action in record.actions})
        return record

    def undo(self, which: str | None = None) -> Record:
        """
        Take a restore back, the last one unless told otherwise; also one that was interrupted.

        Raises:
            NotFound: there is none to take back.
        """
        record = self._pick(which, {"running", "done", "undoing"})
        with self._snapshots.locked():
            record.state = "undoing"
            self._save(record)
            back = [Action(a.path, _what(a.new, a.old), a.new, a.old) for a in record.actions]
            done = replace(record, actions=_ordered(back), skipped=[])
            self._carry_out(done, done.actions)
            record.state = done.state = "undone"
            self._save(record)
            self._snapshots.own({action.path: action.new for action in done.actions})
        return done

    def resume(self) -> Record:
        """
        Finish a restore, or the undoing of one, that was interrupted.

        Raises:
            NotFound: none was.
        """
        record = self._pick(None, {"running", "undoing"})
        if record.state == "undoing":
            return self.undo(record.id)
        with self._snapshots.locked():
            self._carry_out(record, record.actions)
            record.state = "done"
            self._save(record)
            self._snapshots.own({action.path: action.new for action in record.actions})
        return record

    def interrupted(self) -> Record | None:
        """Return the restore that was interrupted, if one was."""
        try:
            return self._pick(None, {"running", "undoing"})
        except NotFound:
            return None

    def _pick(self, which: str | None, states: set[str]) -> Record:
        for path in sorted(self._records.glob("*.json"), reverse=True) if self._records.is_dir() else []:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                record = Record.from_bytes(path.read_bytes())
                fits = record.state in states and record.root == str(self._root)
                if fits and (which is None or record.id == which):
                    return record
        raise NotFound("no restore to go back from", "/checkpoint list shows what can be restored")

    def _save(self, record: Record) -> None:
        try:
            write_durably(self._records / f"{record.id}.json", record.to_bytes())
        except OSError as error:
            raise WorkspaceError(f"the restore cannot be recorded: {error.strerror}", "nothing was changed") from error

    # doing it

    def _carry_out(self, record: Record, actions: list[Action]) -> None:
        final = {action.path: action.new for action in actions}
        self._clean(f"{OURS}{record.id}-", actions)
        with self._snapshots.objects.reader() as reader:
            for action in (*actions, *(a for a in reversed(actions) if a.new is not None and a.new.is_folder)):
                try:
                    self._one(action, final[action.path], record.id, reader)
                except (OSError, WorkspaceError) as error:
                    said = error.message if isinstance(error, WorkspaceError) else error.strerror or str(error)
                    record.skipped.append(action._replace(what=SKIP, reason=_plainly(error, said)))
        gone = {skipped.path for skipped in record.skipped}
        record.actions = [action for action in actions if action.path not in gone]
        self._sync(record.actions)

    def _sync(self, actions: list[Action]) -> None:
        """Make what was done durable: path by path, or all at once where there are many."""
        if len(actions) > SYNCED_SINGLY:
            os.sync()
            return
        for action in actions:
            with contextlib.suppress(OSError):
                parent, name = open_parent(self._root, action.path)
                try:
                    os.fsync(parent)
                    if stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
                        os.fsync(descriptor)
                        os.close(descriptor)
                finally:
                    os.close(parent)

    def _clean(self, mark: str, actions: list[Action]) -> None:
        """Delete what this restore was just writing when it was killed."""
        for path in {action.path.rpartition("/")[0] for action in actions}:
            with contextlib.suppress(OSError):
                parent, _ = open_parent(self._root, f"{path}/x" if path else "x")
                try:
                    for name in [n for n in os.listdir(parent) if n.startswith(mark)]:
                        os.unlink(name, dir_fd=parent)
                finally:
                    os.close(parent)

    def _one(self, action: Action, final: FileState | None, mark: str, reader: Reader) -> None:
        parent, name = open_parent(self._root, action.path)
        try:
            now = self._as_it_is(parent, name, action.path)
            if now in {action.new, final}:
                return
            if now is not None and now.is_folder and action.new is not None and action.new.is_folder:
                os.chmod(name, stat.S_IMODE(action.new.mode), dir_fd=parent)  # once all is in it
                return
            if now != action.old:
                raise WorkspaceError(GONE_ON)
            if action.new is None:
                _remove(parent, name, action.old)
            elif action.what == MODE:
                os.chmod(name, stat.S_IMODE(action.new.mode), dir_fd=parent)
            elif action.new.is_folder:
                os.mkdir(name, 0o700, dir_fd=parent)
            else:
                _write(parent, name, mark, action.new, reader.read(action.new.oid))
        finally:
            os.close(parent)

    def _as_it_is(self, parent: int, name: str, path: str) -> FileState | None:
        try:
            state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(state.st_mode):
            return FileState(stat.S_IFDIR | stat.S_IMODE(state.st_mode), b"")
        content, state = content_at(self._root, path, READ_LIMIT)
        mode = stat.S_IFLNK | 0o777 if stat.S_ISLNK(state.st_mode) else state.st_mode
        return FileState(mode, oid_of("blob", content))


def _plainly(error: Exception, said: str) -> str:
    if isinstance(error, OSError) and error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return "a link or file stands in the place of its directory"
    if isinstance(error, OSError) and error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
        return "it holds files that P8 does not know"
    return said


def _remove(parent: int, name: str, old: FileState | None) -> None:
    if old is not None and old.is_folder:
        os.rmdir(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _write(parent: int, name: str, mark: str, new: FileState, content: bytes) -> None:
    """Put a file or link in place, whole: nobody sees a part of it."""
    fresh = f"{OURS}{mark}-{time.time_ns()}"
    try:
        if stat.S_ISLNK(new.mode):
            os.symlink(content, os.fsencode(fresh), dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(fresh, flags, 0o600, dir_fd=parent), "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), stat.S_IMODE(new.mode))
        os.rename(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh, dir_fd=parent)
        raise


# planning


def _what(old: FileState | None, new: FileState | None) -> str:
    if new is None:
        return DELETE
    if old is not None and old.oid == new.oid and stat.S_IFMT(old.mode) == stat.S_IFMT(new.mode):
        return MODE
    return WRITE


def _planned(
    target: str, safety: str, wanted: dict[str, FileState], there: dict[str, FileState], known: dict[str, FileState],
    everything: bool, hidden: set[str],
) -> Plan:  # fmt: skip
    actions: list[Action] = []
    skipped: list[Action] = []
    for path in wanted.keys() | there.keys():
        now, then = there.get(path), wanted.get(path)
        if now == then:
            continue
        if now is None and path in hidden:
            skipped.append(Action(path, SKIP, None, then, UNSEEN))
        elif now is not None and known.get(path) != now and not everything:
            skipped.append(Action(path, SKIP, now, then, FOREIGN if path in known else UNSEEN))
        elif now is not None and then is not None and stat.S_IFMT(now.mode) != stat.S_IFMT(then.mode):
            actions += [Action(path, DELETE, now, None), Action(path, WRITE, None, then)]
        else:
            actions.append(Action(path, _what(now, then), now, then))
    stay = {action.path for action in skipped}
    # A directory stays where something in it stays, and what would stand in its place waits.
    for path in stay.copy():
        stay.update(_folders_above(path))
    for action in actions.copy():
        if action.path in stay and action.what == DELETE:
            actions = [a for a in actions if a.path != action.path]
            if action.old is not None and not action.old.is_folder:
                skipped.append(action._replace(what=SKIP, reason="something in it is kept"))
    return Plan(target, safety, tuple(_ordered(actions)), tuple(sorted(skipped, key=lambda a: a.path)))


def _folders_above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _ordered(actions: list[Action]) -> list[Action]:
    """Sort: deletions from the deepest up, directories from the top down, files, permissions of directories last."""

    def rank(action: Action) -> tuple[int, int, str]:
        depth = action.path.count("/")
        if action.what == DELETE:
            return 0, -depth, action.path
        folder = action.new is not None and action.new.is_folder
        if action.what == MODE and folder:
            return 3, -depth, action.path
        return (1 if folder else 2), depth, action.path

    return sorted(actions, key=rank)
