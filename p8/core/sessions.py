"""`SessionManager`: what a session may do, and the only place that changes one.

Every change is one journal entry first; the live `Session` object, the database and the subscribers follow from it.
Refuses: SQL, git, containers, the terminal. A session is written to by one process, which holds its lease.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from time import perf_counter

from p8.core.custody import Custody
from p8.errors import Conflict, InvalidTransition, NotSaved, StoreError
from p8.events import Change
from p8.model import (
    IdMaker,
    Kind,
    SessionId,
    SessionRow,
    Status,
    check_id,
    check_transition,
    from_us,
    text_of,
    title_from,
)
from p8.store.manager import PersistenceManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from p8.core.health import Timings
    from p8.session import Session

#: what is said about a session and has a column of its own; see `store/batch.py`
ABOUT = ("title", "project", "directory", "branch", "commit", "model")


class SessionManager:
    """
    Starts, resumes, records and ends sessions (row P2).

    Args:
        store: where they are kept; the default home where none is given.
        new_id: makes session ids.

    Attributes:
        current: the session being recorded, or None.
        custody: who holds which session; finds those whose process died.
        runs: executions recorded since it became current, and before how many new messages each stands.
    """

    def __init__(self, store: PersistenceManager | None = None, *, new_id: Callable[[], str] | None = None) -> None:
        self.store = store or PersistenceManager()
        self.bus = self.store.bus
        self.current: Session | None = None
        self._new_id = new_id or IdMaker(self.store.clock)
        self._lock = threading.RLock()
        self._titled = False
        self.runs: list[tuple[int, dict[str, Any]]] = []
        self._house = f"~{self.store.leases.me.owner}"
        self.custody = Custody(self.store, self._lost)

    @cached_property
    def timings(self) -> Timings:
        """How long creating and saving took in this process."""
        from p8.core.health import Timings

        return Timings()

    @cached_property
    def _append(self) -> Callable[..., tuple[int, int]]:
        return self.store.record

    # life

    def start_session(self, project_name: str, **about: Any) -> Session:
        """
        Begin a session and make it the current one. One that is active here is paused first.

        Args:
            project_name: what lists call its project.
            about: `project` (id), `directory`, `branch`, `commit`, `model`, `title`, and anything else worth keeping.

        Raises:
            NotSaved: the disk refuses; the session exists in memory and is written as soon as it can be.
        """
        with self._lock:
            self._put_down()
            begun = perf_counter()
            session_id = SessionId(self._new_id())
            values = {"project_name": project_name, "status": "active", **about}
            if about.get("title"):
                values["title_source"] = "manual"
            data = {"what": "started", "set": values, "lease": self.store.leases.claim(session_id)}
            session = self._begin(session_id, project_name, data, "started", dict(about))
            self.timings.sessions += 1
            self.timings.created_s.append(perf_counter() - begun)
            return session

    def fork_session(
        self, session_id: str | None = None, seq: int | None = None, stream: str = "", title: str = ""
    ) -> Session:
        """
        Begin a session that continues another one from a point on; it shares the entries before it and copies none.

        Args:
            session_id: which to fork; the current one where none is given.
            seq: the last entry to keep; all where none is given.
            stream: the session in which that entry was recorded, where it belongs to a parent of `session_id`.
            title: a title by hand; else the parent's, marked as a fork.

        Raises:
            NotFound: there is no such session or entry.
            StoreError: the database is out of reach.
        """
        with self._lock:
            source = check_id(stream or session_id or self._required().session_id)
            self.store.drain()
            row = self.store.sessions.get(source)
            newest, head = self.store.sessions.head(source)
            at = newest if seq is None else seq
            if at != newest:
                self.store.entry(source, at)
                head = self.store.sessions.hash_at(source, at)
            self._put_down()
            child = SessionId(self._new_id())
            values = {
                "project_name": row.project_name, "status": "active", "parent": source, "fork_seq": at,
                "project": row.project, "directory": row.directory, "branch": row.branch, "commit": row.commit,
                "model": row.model, "title": title or f"↳ {row.title}", "title_source": "manual" if title else "auto",
            }  # fmt: skip
            data = {
                "what": "forked", "chained_to": f"{head:016x}", "set": values, "lease": self.store.leases.claim(child),
            }  # fmt: skip
            self.store.journal.adopt(child, 0, head)
            about = {key: values[key] for key in (*ABOUT, "parent", "fork_seq")}
            session = self._begin(child, row.project_name, data, "forked", about)
            self._attach_history(session)
            return session

    def resume_session(self, session_id: str, *, take_over: bool = False) -> Session:
        """
        Make an earlier session the current one.

        Args:
            session_id: an exact id.
            take_over: take it from another living process that has it open.

        Raises:
            NotFound: there is none of that id.
            Held: a living process has it open and `take_over` is not set.
            InvalidTransition: it is in the trash.
            StoreError: the database is out of reach.
        """
        with self._lock:
            session_id = check_id(session_id)
            if self.current is not None and self.current.session_id == session_id:
                return self.current
            self.store.drain()
            row = self.store.sessions.get(session_id)
            if row.trashed_us is not None:
                raise InvalidTransition(f"session {session_id} is in the trash", "take it out first: /session undo")
            self.store.leases.acquire(session_id, take_over)
            self.store.drain()
            row = self.store.sessions.get(session_id)
            if row.status is Status.ACTIVE:  # its process is gone, or has just been relieved of it
                row = self.custody.abandon(row)
            check_transition(row.status, Status.ACTIVE, session_id)
            self._put_down()
            self.store.journal.adopt(session_id, *self.store.sessions.head(session_id))
            session = self._revive(row)
            self.current = session
            self.runs = []
            self._titled = bool(row.title)
            self._say("resumed", {"status": "active", "ended": None})
            return session

    def _revive(self, row: SessionRow) -> Session:
        from p8.session import Session

        metadata = (
            {name: getattr(row, name) for name in ABOUT} | {"parent": row.parent, "tags": list(row.tags)} | row.meta
        )
        session = Session(row.id, row.project_name, from_us(row.created_us), Status.ACTIVE, None, metadata=metadata)
        self._attach_history(session)
        return session

    def _attach_history(self, session: Session) -> None:
        from p8.core.history import History, execution_of

        read, upto = self.store.sessions.entries, self.store.sessions.head(session.session_id)[0]
        lineage = session.session_id, upto
        session.conversation_history = History(read, *lineage, Kind.MESSAGE, lambda entry: entry.data)
        session.command_history = History(
            read, *lineage, Kind.COMMAND, lambda entry: str(entry.data.get("command", ""))
        )
        session.execution_histories = History(read, *lineage, Kind.EXECUTION, execution_of)

    def _begin(
        self, session_id: SessionId, project_name: str, data: dict[str, Any], name: str, about: dict[str, Any]
    ) -> Session:
        from p8.session import Session

        failure: NotSaved | None = None
        try:
            seq, at = self.store.record(session_id, Kind.SESSION, data)
        except NotSaved as error:
            failure, seq, at = error, 1, self.store.clock()
        session = Session(session_id, project_name, from_us(at), metadata=about)
        self.current = session
        self.runs = []
        self._titled = bool(about.get("title"))
        self._publish(Kind.SESSION, name, seq, at, data)
        if failure is not None:
            raise failure
        return session

    def end_session(self) -> None:
        """
        Complete the current session and save it; nothing is current after it.

        Raises:
            InvalidTransition: none is current, or it was taken over.
        """
        self._finish(Status.COMPLETED)

    def pause_session(self) -> None:
        """
        Put the current session down, to be resumed later, and save it; nothing is current after it.

        Raises:
            InvalidTransition: none is current, or it was taken over.
        """
        self._finish(Status.PAUSED)

    def _finish(self, status: Status, **more: Any) -> None:
        with self._lock:
            session = self._required()
            check_transition(session.status, status, session.session_id)
            values: dict[str, Any] = {"status": str(status), **self._named_by_runs(), **more}
            if status is Status.COMPLETED:
                values["ended"] = self.store.clock()
            try:
                self._say(str(status), values, lease="released", owner=self.store.leases.me.owner)
            finally:
                session.status = status
                session.end_time = from_us(values["ended"]) if "ended" in values else None
                self._drop()
            self.store.save()

    def _named_by_runs(self) -> dict[str, Any]:
        """Return a title made of the first command of a session in which nothing was said."""
        session = self._required()
        if self._titled or not self.runs:
            return {}
        session.metadata["title"] = title = title_from(f"$ {self.runs[0][1].get('command', '')}")
        return {"title": title, "title_source": "auto"}

    def _put_down(self) -> None:
        if self.current is not None:
            self.pause_session()

    def _drop(self) -> None:
        if self.current is not None:
            self.store.leases.release(self.current.session_id)
            self.store.journal.forget(self.current.session_id)
        self.current = None

    # recording

    def record_message(self, message: dict[str, Any]) -> None:
        """
        Record something said. When this returns, it survives the death of the process.

        Args:
            message: `role` and `content`, and whatever is known: model, tokens_in, tokens_out, duration_s, cost. Kept
                as it is, unknown keys included.

        Raises:
            InvalidTransition: no session is current.
            NotSaved: the disk refuses; it is kept in memory and retried.
        """
        session = self.current
        if session is None:
            raise _no_session()
        # The hot path: one call less than `record`.
        try:
            seq, at = self._append(session.session_id, "message", message)
        except NotSaved:
            self._recorded("message", message, 0, self.store.clock())
            raise
        session.conversation_history.append(message)  # type: ignore[attr-defined]
        if not self._titled or self.bus.listening:
            self._heard("message", message, seq, at)

    def record_command(self, command: str) -> None:
        """Record a line typed at the prompt. Raises as `record_message` does."""
        self.record("command", {"command": command})

    def record_execution(
        self,
        command: str,
        *,
        exit_code: int | None = None,
        output: str = "",
        duration_s: float | None = None,
        started_at: datetime | None = None,
        where: str = "host",
        **metadata: Any,
    ) -> None:
        """Record a command that ran, with what it printed (see `ExecutionHistory`). Raises as `record_message` does."""
        from p8.session import ExecutionHistory

        started = started_at or from_us(self.store.clock())
        execution = ExecutionHistory(command, started, exit_code, duration_s, output, where, metadata)
        self.record("execution", execution.to_dict())

    def record(self, kind: str, data: dict[str, Any]) -> int:
        """
        Append an entry of any kind to the current session.

        Returns:
            its sequence number.

        Raises:
            InvalidTransition: no session is current.
            NotSaved: the disk refuses; it is kept in memory and retried.
        """
        session = self.current
        if session is None:
            raise _no_session()
        try:
            seq, at = self._append(session.session_id, kind, data)
        except NotSaved:
            self._recorded(kind, data, 0, self.store.clock())
            raise
        self._recorded(kind, data, seq, at)
        return seq

    def _recorded(self, kind: str, data: dict[str, Any], seq: int, at: int) -> None:
        """Bring the live session and the subscribers up to an entry."""
        session = self._required()
        if kind == "message":
            session.conversation_history.append(data)  # type: ignore[attr-defined]
        elif kind == "command":
            session.command_history.append(data["command"])  # type: ignore[attr-defined]
        elif kind == "execution":
            self._ran(session, data)
        self._heard(kind, data, seq, at)

    def _ran(self, session: Session, data: dict[str, Any]) -> None:
        from p8.core.history import fresh
        from p8.session import ExecutionHistory

        session.execution_histories.append(ExecutionHistory.from_dict(data))  # type: ignore[attr-defined]
        self.runs.append((len(fresh(session.conversation_history)), data))

    def _heard(self, kind: str, data: dict[str, Any], seq: int, at: int) -> None:
        session = self._required()
        if not self._titled and kind == "message" and data.get("role") == "user":
            self._titled = True
            session.metadata["title"] = title_from(text_of(data))
        if self.bus.listening:
            self.bus.publish(Change(kind, kind, session.session_id, seq, at, data))

    def annotate(self, session_id: str | None = None, **changes: Any) -> None:
        """
        Say something about a session: title, pinned, archived, trashed, tags, model, branch, or anything else.

        Args:
            session_id: which; the current one where none is given. One that another process holds can be annotated too.
            changes: `title` counts as given by hand; `trashed` is a bool; None removes a value.

        Raises:
            NotFound: there is none of that id.
            Conflict: it is open in another process and would go to the trash under it.
        """
        with self._lock:
            about = check_id(session_id or self._required().session_id)
            mine = self.current is not None and self.current.session_id == about
            if not mine:
                self.store.sessions.get(about)
                if changes.get("trashed") and self.store.leases.holder(about) is not None:
                    raise Conflict(f"session {about} is open in another p8", "end it there first")
            values = dict(changes)
            if "title" in values:
                values.setdefault("title_source", "manual" if values["title"] else "")
            if "trashed" in values:
                values["trashed"] = self.store.clock() if values["trashed"] else None
            if mine and self.current is not None:
                self.current.metadata.update(changes)
                self._titled = self._titled or "title" in changes
            data = {"what": "annotated", "about": about, "set": values}
            stream = about if mine else self._house
            seq, at = self.store.record(stream, Kind.SESSION, data)
            self._publish(Kind.SESSION, "annotated", seq, at, data, about)

    # saving and listing

    def save_session(self) -> None:
        """
        Return when everything recorded so far survives a power cut.

        Raises:
            StoreError: the disk refuses.
        """
        begun = perf_counter()
        self.store.save()
        self.timings.saved_s.append(perf_counter() - begun)

    async def save_session_async(self) -> None:
        """Do what `save_session` does, off the loop; concurrent callers share one sync."""
        await self.store.save_async()

    def list_all_sessions(self) -> list[SessionId]:
        """
        Return the ids of all sessions that are not in the trash, newest first.

        Raises:
            StoreError: the database is out of reach.
        """
        return [
            SessionId(row[0])
            for row in self.store.read("SELECT id FROM sessions WHERE trashed IS NULL ORDER BY last DESC, num DESC")
        ]

    async def list_all_sessions_async(self) -> list[SessionId]:
        """Do what `list_all_sessions` does, off the loop."""
        import asyncio

        return await asyncio.to_thread(self.list_all_sessions)

    def close(self, *, completed: bool = False) -> None:
        """Pause (or complete) the current session, save, and close the store. Safe to call twice."""
        try:
            if self.current is not None:
                self._finish(Status.COMPLETED if completed else Status.PAUSED)
        except StoreError:
            pass  # told as a notice; the store tries once more while it closes
        finally:
            self.store.close()

    # small

    def _lost(self, session_id: str) -> bool:
        """Let go of a session that another process has taken; return whether it was the current one."""
        with self._lock:
            if self.current is None or self.current.session_id != session_id:
                return False
            self.current = None
            return True

    def _required(self) -> Session:
        if self.current is None:
            raise _no_session()
        return self.current

    def _say(self, what: str, values: Mapping[str, Any], **more: Any) -> None:
        session = self._required()
        data = {"what": what, "set": dict(values), **more}
        seq, at = self.store.record(session.session_id, Kind.SESSION, data)
        self._publish(Kind.SESSION, what, seq, at, data)

    def _publish(self, kind: str, name: str, seq: int, at: int, data: dict[str, Any], stream: str = "") -> None:
        if self.bus.listening:
            where = stream or (self.current.session_id if self.current else "")
            self.bus.publish(Change(kind, name, where, seq, at, data))


def _no_session() -> InvalidTransition:
    return InvalidTransition("no session is active", "start or resume one first")
