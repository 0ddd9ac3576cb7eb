"""Who may write to a session: one process, named by pid, start time, boot, host and heartbeat.

A lease outlives its process only as long as nobody looks: whoever finds the process gone may take it. On another
host, where that cannot be seen, a heartbeat older than a minute counts as gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from p8.errors import Held
from p8.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEARTBEAT_S = 5.0
SILENT_US = 60_000_000


class Holder(Record):
    """The process that holds a session."""

    owner: str  #: random name of that process's store
    pid: int
    started: str  #: start time in the kernel's own ticks: a pid alone may have been given out again
    boot: str
    host: str
    heartbeat_us: int
    epoch: int  #: grows by one with each takeover

    def to_dict(self) -> dict[str, Any]:
        """Return what an entry says of it."""
        return {
            "owner": self.owner, "pid": self.pid, "started": self.started, "boot": self.boot, "host": self.host,
        }  # fmt: skip


def this_process() -> Holder:
    """Describe the process this runs in."""
    return Holder(os.urandom(6).hex(), os.getpid(), _started(os.getpid()), _boot(), os.uname().nodename, 0, 0)


def is_alive(holder: Holder, now_us: int) -> bool:
    """Return whether the process that holds a lease still runs, as far as can be seen from here."""
    if holder.host != os.uname().nodename:
        return now_us - holder.heartbeat_us < SILENT_US
    if holder.boot != _boot():
        return False
    return _started(holder.pid) == holder.started


class Leases:
    """
    The leases of one store.

    Args:
        write: runs a function with the writable connection inside a transaction.
        read: one query's rows.
        clock: microseconds since 1970.
    """

    def __init__(
        self,
        write: Callable[[Callable[[Any], Any]], Any],
        read: Callable[..., list[tuple[Any, ...]]],
        clock: Callable[[], int],
    ) -> None:
        self._write = write
        self._read = read
        self._clock = clock
        self.me = this_process()
        self._held: set[str] = set()

    def claim(self, session_id: str) -> dict[str, Any]:
        """Hold a session that nobody else can know yet; return what its first entry says of the lease."""
        self._held.add(session_id)
        return self.me.to_dict()

    def acquire(self, session_id: str, take_over: bool = False) -> None:
        """
        Hold a session.

        Args:
            session_id: which.
            take_over: take it even from a living process; what that one still writes goes to a branch of its own.

        Raises:
            Held: a living process holds it.
            StoreError: the database is out of reach.
        """

        def take(db: Any) -> None:
            found = _holder(db.execute(_SELECT, (session_id,)).fetchone())
            if found is not None and found.owner != self.me.owner and not take_over and is_alive(found, self._clock()):
                raise Held(
                    session_id,
                    f"session {session_id} is open in another p8 (process {found.pid} on {found.host})",
                    "view it read-only, take it over, or fork it",
                )
            me = self.me
            db.execute(
                "INSERT INTO leases VALUES (?,?,?,?,?,?,?,1) ON CONFLICT (session) DO UPDATE SET owner=excluded.owner,"
                " pid=excluded.pid, started=excluded.started, boot=excluded.boot, host=excluded.host,"
                " heartbeat=excluded.heartbeat, epoch=epoch+1",
                (session_id, me.owner, me.pid, me.started, me.boot, me.host, self._clock()),
            )

        self._write(take)
        self._held.add(session_id)

    def release(self, session_id: str) -> None:
        """Stop counting a session as held here; the entry that says so deletes the row when it is folded."""
        self._held.discard(session_id)

    def held(self, session_id: str) -> bool:
        """Return whether this process holds a session, as far as it knows without asking the database."""
        return session_id in self._held

    def holder(self, session_id: str) -> Holder | None:
        """Return the living process that holds a session, or None. Raises StoreError when it cannot be read."""
        rows = self._read(_SELECT, (session_id,))
        found = _holder(rows[0]) if rows else None
        return found if found is not None and is_alive(found, self._clock()) else None

    def lost(self) -> list[str]:
        """Return the sessions held here that another process has taken since. Raises StoreError."""
        before = tuple(self._held)
        if not before:
            return []
        marks = ",".join("?" * len(before))
        # Whoever took one may have put it down again: then it is not active, and no lease of it is left.
        rows = self._read(
            f"SELECT session FROM leases WHERE owner <> ? AND session IN ({marks}) UNION ALL"
            f" SELECT id FROM sessions WHERE id IN ({marks}) AND status <> 'active'"
            " AND id NOT IN (SELECT session FROM leases)",
            (self.me.owner, *before, *before),
        )
        taken = [session for (session,) in rows if session in self._held]
        self._held.difference_update(taken)
        return taken

    def beat(self, db: Any) -> None:
        """Renew this process's leases on a writable connection."""
        if self._held:
            db.execute("UPDATE leases SET heartbeat = ? WHERE owner = ?", (self._clock(), self.me.owner))

    def left(self) -> list[str]:
        """Return active sessions whose process is gone. Raises StoreError."""
        rows = self._read(
            "SELECT s.id, l.owner, l.pid, l.started, l.boot, l.host, l.heartbeat, l.epoch FROM sessions s"
            " LEFT JOIN leases l ON l.session = s.id WHERE s.status = 'active'"
        )
        now = self._clock()
        gone = []
        for session, *fields in rows:
            found = _holder(tuple(fields)) if fields[0] is not None else None
            if session not in self._held and (found is None or not is_alive(found, now)):
                gone.append(session)
        return gone


_SELECT = "SELECT owner, pid, started, boot, host, heartbeat, epoch FROM leases WHERE session = ?"


def _holder(row: tuple[Any, ...] | None) -> Holder | None:
    return Holder(*row) if row else None


def _started(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return stat[stat.rindex(b")") + 2 :].split()[19].decode()
    except (OSError, ValueError, IndexError):
        return ""


def _boot() -> str:
    global _BOOT
    if not _BOOT:
        try:
            _BOOT = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        except OSError:
            _BOOT = "unknown"
    return _BOOT


_BOOT = ""
