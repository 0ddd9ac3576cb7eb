"""Checkpoints: a name for a place in a conversation, bound to the state of the work at that moment.

A checkpoint is an entry of the session like any other. Going back to one forks the session there: the original stays
as it is, and nothing in the project is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound, WorkspaceError
from p8.model import Checkpoint, CheckpointId, Entry, GitState, IdMaker, Kind, Session, SessionId
from p8.workspace import git


class Checkpoints:
    """
    The checkpoints of a store's sessions.

    Args:
        sessions: records and forks.
        directory: returns where the person stands.
        git_state: reads a directory's git state.
    """

    def __init__(
        self,
        sessions: SessionManager,
        directory: Callable[[], Path],
        git_state: Callable[[Path], GitState] = git.git_state,
    ) -> None:
        self._sessions = sessions
        self._directory = directory
        self._git_state = git_state
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
        problem = ""
        try:
            state = self._git_state(directory)
            commit = dict(git.describe(directory)) if state.commit else {}
        except WorkspaceError as error:  # the place in the conversation is worth keeping all the same
            state, commit, problem = GitState(*git.head(directory)), {}, error.message
        session = self._sessions.current
        if not name:
            known = self.list(session.session_id) if session is not None else []
            name = f"checkpoint {len(known) + 1}"
        data: dict[str, Any] = {
            "id": self._new_id(), "name": name, "directory": str(directory), "git": state.to_dict(), **more,
        }  # fmt: skip
        if commit:
            data["head"] = commit
        if problem:
            data["git_problem"] = problem
        seq = self._sessions.record(Kind.CHECKPOINT, data)
        self._sessions.annotate(branch=state.branch, commit=state.commit)
        self._sessions.save_session()
        current = self._sessions.current
        assert current is not None
        return _checkpoint(Entry(current.session_id, seq, self._sessions.store.clock(), Kind.CHECKPOINT, data))

    def list(self, session_id: str | None = None) -> list[Checkpoint]:
        """
        Return checkpoints, newest first: those of one session with its ancestors', or of all sessions.

        Raises:
            NotFound: no such session.
            StoreError: the database is out of reach.
        """
        store = self._sessions.store
        if session_id is not None:
            return [_checkpoint(e) for e in store.sessions.entries(session_id, kinds=(Kind.CHECKPOINT,))][::-1]
        rows = store.read(
            "SELECT s.id, e.id & 4294967295 FROM entries e JOIN sessions s ON s.num = e.id >> 32"
            " WHERE e.kind = 'checkpoint' AND s.trashed IS NULL ORDER BY e.time DESC LIMIT 500"
        )
        return [_checkpoint(store.entry(session, seq)) for session, seq in rows]

    def get(self, words: str, session_id: str | None = None) -> Checkpoint:
        """
        Find the checkpoint a person means: "last", an id or its beginning, a name or its beginning.

        Raises:
            NotFound: nothing fits.
            Conflict: several fit; the hint names them.
        """
        known = self.list(session_id)
        if words in {"", "last"} and known:
            return known[0]
        for fits in (
            [c for c in known if words in {c.id, c.name}],
            [c for c in known if c.id.startswith(words) or c.name.lower().startswith(words.lower())],
        ):
            if len(fits) == 1 or (fits and fits[0].name == words):
                return fits[0]
            if fits:
                raise Conflict(f"{words!r} fits several checkpoints", ", ".join(f"{c.name} ({c.id})" for c in fits[:4]))
        raise NotFound(f"no checkpoint is called {words!r}", "/checkpoint list shows them")

    def go_back(self, checkpoint: Checkpoint) -> Session:
        """
        Continue from a checkpoint in a fork of its session. Files and git are left as they are.

        Raises:
            NotFound: its session is gone.
            StoreError: the database is out of reach.
        """
        return self._sessions.fork_session(checkpoint.session_id, checkpoint.seq, title=f"↳ {checkpoint.name}")


def _checkpoint(entry: Entry) -> Checkpoint:
    data = entry.data
    git_data = data.get("git")
    return Checkpoint(
        CheckpointId(str(data.get("id", ""))), SessionId(entry.stream), entry.seq, str(data.get("name", "")),
        entry.time_us, GitState.from_dict(git_data) if isinstance(git_data, dict) else GitState(), data,
    )  # fmt: skip
