"""Sessions and the processes that hold them: finds those whose process died, notices those that were taken.

A session left active by a process that is gone is marked abandoned: shown as such, and resumable. Nothing of it is
changed besides.
"""

from __future__ import annotations

from collections.abc import Callable

from p8.errors import Conflict, StoreError
from p8.events import Change
from p8.model import Kind, SessionId, SessionRow, Status
from p8.store.manager import PersistenceManager


class Custody:
    """
    Watches over who holds what.

    Args:
        store: where sessions are kept.
        lost: told of a session held here that another process has taken; returns whether it was at work here.
    """

    def __init__(self, store: PersistenceManager, lost: Callable[[str], bool]) -> None:
        self._store = store
        self._lost = lost
        store.on_ready = self._ready
        store.on_pulse = self._look

    def recover(self) -> list[SessionId]:
        """
        Mark the sessions whose process died as abandoned; return their ids.

        Raises:
            StoreError: the database is out of reach.
        """
        found = []
        for session_id in self._store.leases.left():
            try:
                self._store.leases.acquire(session_id)
                row = self._store.sessions.get(session_id)
                if row.status is Status.ACTIVE:
                    self.abandon(row, keep=False)
                    found.append(row.id)
            except Conflict:
                continue
            finally:
                self._store.leases.release(session_id)
        return found

    def abandon(self, row: SessionRow, keep: bool = True) -> SessionRow:
        """
        Record that a session's process is gone; this process must hold it, and goes on to with `keep`.

        Returns:
            the session as it is then.
        """
        store = self._store
        data = {
            "what": "abandoned",
            "set": {"status": "abandoned"},
            "lease": "released",
            "owner": store.leases.me.owner,
        }
        store.journal.adopt(row.id, *store.sessions.head(row.id))
        store.leases.release(row.id)
        seq, at = store.record(row.id, Kind.SESSION, data)
        store.bus.publish(Change(Kind.SESSION, "abandoned", row.id, seq, at, data))
        store.drain()
        if keep:
            store.leases.acquire(row.id, take_over=True)
        return store.sessions.get(row.id)

    def still_mine(self, session_id: str) -> bool:
        """Return whether a session has not been taken by another process; asks the database where it can."""
        try:
            self._look()
        except StoreError:
            return True
        return self._store.leases.held(session_id)

    def _ready(self) -> None:
        self.recover()
        self._store.bus.publish(Change("store", "ready", time_us=self._store.clock()))

    def _look(self) -> None:
        for session_id in self._store.leases.lost():
            if self._lost(session_id):
                self._store.bus.publish(Change("lease", "lost", session_id, time_us=self._store.clock()))
