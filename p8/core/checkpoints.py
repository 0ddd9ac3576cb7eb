"""Checkpoints: a name for a place in a conversation, bound to the state of the work at that moment.

A checkpoint is an entry of the session like any other. Going back to one forks the session there: the original stays
as it is, and nothing in the project is touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p8.core.reality import differences
from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound, StoreError, WorkspaceError
from p8.model import Checkpoint, CheckpointId, Entry, GitState, IdMaker, Kind, SessionId
from p8.session import Session
from p8.workspace import git

MOST = 500  #: checkpoints of all sessions are listed, the newest


class Checkpoints:
    """
    The checkpoints of a store's sessions.

    Args:
        sessions: records and forks.
        directory: returns where the person stands.
        git_state: reads a directory's git state.
        snapshots: keeps the files of a directory and returns what a checkpoint notes of them; none are kept without.
        container: returns what is known of what commands run in.
    """

    def __init__(
        self,
        sessions: SessionManager,
        directory: Callable[[], Path],
        git_state: Callable[[Path], GitState] = git.git_state,
        snapshots: Callable[[Path], dict[str, Any]] | None = None,
        container: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._sessions = sessions
        self._directory = directory
        self._git_state = git_state
        self._snapshots = snapshots
        self._container = container
        self._new_id = IdMaker(sessions.store.clock)

    def create(self, name: str = "", **more: Any) -> Checkpoint:
        """
        Record a checkpoint at the end of the current session and make it durable.

        Args:
            name: what to call it; "checkpoint 3" and so on where none is given.
            more: anything else to record with it.

        Raises:
            InvalidTransition: no session is current.
            StoreError: the disk refuses.
        """
        directory = self._directory()
        data: dict[str, Any] = {"id": self._new_id(), "name": name.strip() or self._next_name()}
        container = self._container()
        about = {"container": container} if container else {}
        data |= {"directory": git.shown(str(directory)), **self._work(directory), **about, **more}
        seq = self._sessions.record(Kind.CHECKPOINT, data)
        self._sessions.annotate(directory=data["directory"], branch=data["git"]["branch"], commit=data["git"]["commit"])
        self._sessions.save_session()
        current = self._sessions.current
        assert current is not None
        return _checkpoint(Entry(current.session_id, seq, self._sessions.store.clock(), Kind.CHECKPOINT, data))

    def _next_name(self) -> str:
        session = self._sessions.current
        try:
            known = self.list(session.session_id) if session is not None else []
        except (NotFound, StoreError):  # not folded yet, and cannot be now
            return "checkpoint"
        return f"checkpoint {len(known) + 1}"

    def _work(self, directory: Path) -> dict[str, Any]:
        """Return the state of the work; what of it cannot be had is said, as the place in the conversation counts."""
        found: dict[str, Any] = {}
        try:
            state = self._git_state(directory)
            commit = git.describe(directory) if state.commit else {}
            found |= {"head": commit} if commit else {}
        except WorkspaceError as error:
            state = GitState(*git.head(directory))
            found["git_problem"] = error.message
        found["git"] = state.to_dict()
        if self._snapshots is not None:
            try:
                found["files"] = self._snapshots(directory)
            except WorkspaceError as error:
                found["files_problem"] = error.message
        return found

    def list(self, session_id: str | None = None) -> list[Checkpoint]:
        """
        Return checkpoints, newest first: those of one session with its ancestors', or of all sessions.

        Raises:
            NotFound: no such session.
            StoreError: the database is out of reach.
        """
        table = self._sessions.store.sessions
        if session_id is None:
            return [_checkpoint(entry) for entry in table.checkpoints(MOST)]
        return [_checkpoint(entry) for entry in table.entries(session_id, kinds=(Kind.CHECKPOINT,), whole=True)][::-1]

    def get(self, words: str, session_id: str | None = None) -> Checkpoint:
        """
        Find the checkpoint a person means: "last", an id or its beginning, a name or its beginning.

        Args:
            words: what the person said.
            session_id: whose; where none is given, those of the current session go before all others.

        Raises:
            NotFound: nothing fits.
            Conflict: several fit; the hint names them.
            StoreError: the database is out of reach.
        """
        session = self._sessions.current
        if session_id is None and session is not None:
            with contextlib.suppress(NotFound):
                return _fitting(words, self.list(session.session_id))
        return _fitting(words, self.list(session_id))

    def go_back(self, checkpoint: Checkpoint) -> Session:
        """
        Continue from a checkpoint in a fork of its session. Files and git are left as they are.

        The fork counts as left where the checkpoint was made, so that the reality check says what differs from there.

        Raises:
            NotFound: its session is gone.
            StoreError: the database is out of reach.
        """
        session = self._sessions.fork_session(checkpoint.session_id, checkpoint.seq, title=f"↳ {checkpoint.name}")
        if checkpoint.git.commit or checkpoint.git.branch:
            where = str(checkpoint.data.get("directory", ""))
            self._sessions.annotate(
                branch=checkpoint.git.branch, commit=checkpoint.git.commit, **({"directory": where} if where else {})
            )
        return session

    def diff(self, old: Checkpoint, new: Checkpoint | None = None) -> Sequence[str]:
        """
        Return what differs in git between two checkpoints, or a checkpoint and now, a line each.

        Raises:
            WorkspaceError: what is now cannot be read.
        """
        place = self._directory()
        return differences(old.git, new.git if new is not None else self._git_state(place), place)


def _fitting(words: str, known: Sequence[Checkpoint]) -> Checkpoint:
    if words in {"", "last"} and known:
        return known[0]
    wanted = words.casefold()
    for fits in (
        [c for c in known if words in {c.id, c.name}],
        [c for c in known if c.name.casefold() == wanted],
        [c for c in known if words and (c.id.startswith(words) or c.name.casefold().startswith(wanted))],
    ):
        if len({c.name for c in fits}) == 1:
            return fits[0]  # of several with one name the newest
        if fits:
            raise Conflict(f"{words!r} fits several checkpoints", ", ".join(f"{c.name} ({c.id})" for c in fits[:4]))
    raise NotFound(f"no checkpoint is called {words!r}", "/checkpoint list shows them")


def _checkpoint(entry: Entry) -> Checkpoint:
    data = entry.data
    git_data = data.get("git")
    return Checkpoint(
        CheckpointId(str(data.get("id", ""))), SessionId(entry.stream), entry.seq, str(data.get("name", "")),
        entry.time_us, GitState.from_dict(git_data) if isinstance(git_data, dict) else GitState(), data,
    )  # fmt: skip
