"""What has changed since a session was left: said before the first prompt, and told to the assistant (row X4).

Compares what was recorded with what is there now. What is there is recorded with each checkpoint, at each resume and
at each way out. Refuses: to change anything of the work, or to guess at what was not recorded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from p8.core.sessions import SessionManager
from p8.errors import NotFound, WorkspaceError
from p8.model import GitState, Kind, SessionRow
from p8.workspace import git

SHORT = 10
LEAVING_S = 3.0  #: how long git may take where somebody waits for P8 to begin or end
#: newest entries among which the last git state is looked for; checkpoints are found wherever they are
LOOK_BACK = 5000
DETACHED = "none (detached HEAD)"


def place_now(directory: Path) -> GitState:
    """Return how a directory stands; of one where git fails or is slow only branch and commit, and no `root`."""
    try:
        return git.git_state(directory, LEAVING_S)
    except WorkspaceError:
        return GitState(*git.head(directory))


def note_place(
    sessions: SessionManager, directory: Path, state: GitState, container: dict[str, Any] | None = None
) -> None:
    """
    Record of the current session where the work stands. It moves the session in no list.

    Args:
        sessions: records.
        directory: where the person stands.
        state: how that stands in git.
        container: what the session's commands run in, where that is known.

    Raises:
        InvalidTransition: no session is current.
        NotSaved: the disk refuses; it is kept in memory and retried.
    """
    where = {"directory": git.shown(str(directory)), "branch": state.branch, "commit": state.commit}
    if sessions.current is not None:
        known = sessions.current.metadata
        if state == GitState() and not container and all(known.get(name) == value for name, value in where.items()):
            return
        known.update(where)
    more = {"container": container} if container else {}
    sessions.record(Kind.SESSION, {"what": "stands", "set": where, "git": state.to_dict(), **more})


def note_container(sessions: SessionManager, container: dict[str, Any]) -> None:
    """Record of the current session what its commands run in. Raises as `note_place` does."""
    sessions.record(Kind.SESSION, {"what": "stands", "set": {}, "container": container})


class Stood(NamedTuple):
    """What is recorded last of how a session stood."""

    git: GitState | None  #: when it was left, or by a checkpoint; None where there is none
    container: dict[str, Any]  #: what its commands ran in (see `core/container_reality.py`), or {}


def last_stood(sessions: SessionManager, session_id: str) -> Stood:
    """
    Return what is recorded last in a session, or in those it was forked from, of how it stood.

    Raises:
        StoreError: the database is out of reach.
    """
    table = sessions.store.sessions
    at: str | None = session_id
    upto: int | None = None
    known: dict[str, dict[str, Any]] = {}
    try:
        while at and len(known) < len(Stood._fields):
            row = table.get(at)
            upto = row.entries if upto is None else min(upto, row.entries)
            own = {"first": 2, "last": upto, "newest": True, "whole": True}
            found = table.entries(at, kinds=(Kind.CHECKPOINT,), limit=1, **own)  # type: ignore[arg-type]
            found += table.entries(at, kinds=(Kind.SESSION,), **{**own, "first": max(2, upto - LOOK_BACK)})  # type: ignore[arg-type]
            for entry in sorted(found, key=lambda entry: entry.seq, reverse=True):
                for what in Stood._fields:
                    if isinstance(entry.data.get(what), dict):
                        known.setdefault(what, entry.data[what])
            at, upto = row.parent, row.fork_seq
    except NotFound:
        pass
    git_state = known.get("git")
    return Stood(None if git_state is None else GitState.from_dict(git_state), dict(known.get("container", {})))


def reality_check(row: SessionRow, directory: Path, recorded: GitState | None = None) -> list[str]:
    """
    Return what differs, a line each; nothing where all is as it was left.

    Args:
        row: the session, with the directory, branch and commit recorded last.
        directory: where the person stands now.
        recorded: the git state recorded last, whose files and stashes are compared too.
    """
    lines, place = _where(row, directory)
    if place is None:
        return lines
    if (row.branch or row.commit) and git.find(place) is None:
        return [*lines, "its work tree was removed" if git.is_orphaned(place) else "the repository is gone"]
    now = place_now(place) if recorded is not None and recorded.root else GitState(*git.head(place))
    if row.branch or row.commit:
        lines += _moved(GitState(row.branch, row.commit), now, place)
    if recorded is not None and recorded.root and now.root:
        lines += _changed(recorded, now)
    return lines


def _where(row: SessionRow, directory: Path) -> tuple[list[str], Path | None]:
    """Return what to say of the directory, and where to look for the rest; None where it cannot be looked for."""
    if row.directory in {"", str(directory), git.shown(str(directory))}:
        return [], directory
    recorded = Path(row.directory)
    if not recorded.is_dir():
        gone = f"its directory is gone: {recorded}"
        if not _has(directory, row.commit):
            return [gone], None
        return [f"{gone}; its repository is in {directory}"], directory
    if os.path.realpath(recorded) == os.path.realpath(directory):
        return [], directory
    here, there = git.find(directory), git.find(recorded)
    same = here is not None and there is not None and here.common_dir == there.common_dir
    return [f"it was recorded in {recorded}, you are in {directory}"], directory if same else recorded


def _has(directory: Path, commit: str) -> bool:
    try:
        return git.has_commit(directory, commit)
    except WorkspaceError:
        return False


def differences(old: GitState, new: GitState, place: Path | None = None) -> list[str]:
    """
    Return what differs between two git states, a line each.

    Args:
        old: the earlier state.
        new: the later one.
        place: a directory of the repository, to count the commits between them.
    """
    return _moved(old, new, place) + _changed(old, new)


def _moved(old: GitState, new: GitState, place: Path | None) -> list[str]:
    lines = []
    if old.branch != new.branch:
        lines.append(f"branch was {old.branch or DETACHED}, is {new.branch or DETACHED}")
    if old.commit != new.commit:
        was, now = old.commit[:SHORT] or "none", new.commit[:SHORT] or "none"
        lines.append(f"HEAD was {was}, is {now}{_distance(place, old.commit, new.commit)}")
    return lines


def _distance(place: Path | None, old: str, new: str) -> str:
    if place is None or not old or not new:
        return ""
    try:
        counted = git.distance(place, old, new)
    except WorkspaceError:
        return ""
    if counted is None:
        return " (the commit it was at is not there any more)"
    ahead, behind = counted
    return f" ({', '.join(filter(None, (_commits(ahead, 'ahead'), _commits(behind, 'behind'))))})"


def _commits(count: int, how: str) -> str:
    return f"{count} commit{'s' if count > 1 else ''} {how}" if count else ""


def _changed(old: GitState, new: GitState) -> list[str]:
    lines = []
    if old.stashes != new.stashes:
        lines.append(f"stashes were {old.stashes}, are {new.stashes}")
    for what, before, after in (
        ("changed", {*old.staged, *old.modified}, {*new.staged, *new.modified}),
        ("untracked", set(old.untracked), set(new.untracked)),
        ("in conflict", set(old.conflicted), set(new.conflicted)),
    ):
        more, less = sorted(after - before), sorted(before - after)
        if more:
            lines.append(f"{_files(more)} {what}: {_some(more)}")
        if less:
            lines.append(f"{_files(less)} no longer {what}: {_some(less)}")
    return lines


def _files(paths: list[str]) -> str:
    return f"{len(paths)} file{'s' if len(paths) > 1 else ''}"


def _some(paths: list[str]) -> str:
    shown = ", ".join(paths[:3])
    return f"{shown} …" if len(paths) > 3 else shown


def told(lines: list[str]) -> str:
    """Return what the assistant is told of it."""
    return "Since this conversation was left:\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
