"""The trash: what is in it, what may leave it, and how a session is removed for good.

A purge takes what is in the trash, whole, and nothing else. Forks and branches share the entries before the point where
they begin; so a session is purged only together with all of them, and refused, naming them, otherwise: one rule that
can be told in a line, under which neither a fork loses its beginning nor a word survives in one.
Expiry is off unless it is set; what is due is listed first, and goes a day later. Pinned sessions never expire.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from p8.core.sessions import SessionManager
from p8.errors import Conflict, InvalidTransition, NotFound, P8Error
from p8.events import Change, Subscriber
from p8.model import Entry, Kind, Notice, SessionRow
from p8.store.purge import Doomed, Gone, Purge

DAY_US = 86_400_000_000
TOLD = "trash_told"  #: setting: when each session that is due was first listed
Also = Callable[[Sequence[Entry]], Iterable[str]]


def once_ready(do: Callable[[], object]) -> Subscriber:
    """Return a subscriber that does something aside as soon as the store is ready: whoever publishes must not wait."""

    def work() -> None:
        with contextlib.suppress(P8Error):
            do()

    def heard(change: Change) -> None:
        if (change.kind, change.name) == ("store", "ready"):
            threading.Thread(target=work, name="p8-trash", daemon=True).start()

    return heard


class Plan(NamedTuple):
    """What a purge would do."""

    doomed: tuple[Doomed, ...]
    copies: tuple[str, ...]  #: kept copies of a damaged database, which may hold them too


class Trash:
    """
    Purges sessions.

    Args:
        sessions: says which there are, and who holds them.
        expire_days: sessions so long in the trash are due; 0 for never.
        also: told the events and checkpoints of purged sessions, to remove what belongs to them elsewhere (snapshots);
            each returns what it could not remove.
    """

    def __init__(self, sessions: SessionManager, expire_days: int = 0, also: Sequence[Also] = ()) -> None:
        self._sessions = sessions
        self._store = sessions.store
        self._days = expire_days
        self._also = tuple(also)

    def _purge(self) -> Purge:
        store = self._store
        folders = [
            store.home / "journal",
            store.journal.folder,
            *([store.journal.spill] if store.journal.spill else []),
        ]
        return Purge(store.home, list(dict.fromkeys(folders)), store.keeper)

    def plan(self, ids: Sequence[str]) -> Plan:
        """
        Return what purging these would remove; change nothing.

        Raises:
            NotFound: there is none of an id.
            InvalidTransition: one is not in the trash.
            Conflict: one is open, or forks that are not among these share its entries.
            StoreError: the database is out of reach.
        """
        ids = list(dict.fromkeys(ids))
        self._store.drain()
        purge = self._purge()
        doomed = purge.doomed(ids)
        found = {one.id for one in doomed}
        for name in ids:
            if name not in found:
                raise NotFound(f"no session {name}", "p8 session list --trash --all shows the trash")
        for one in doomed:
            current = self._sessions.current
            if (current is not None and current.session_id == one.id) or self._store.leases.holder(one.id) is not None:
                raise Conflict(f"session {one.id} is open", "end it there first")
            if one.trashed_us is None:
                raise InvalidTransition(
                    f"session {one.id} is not in the trash", f"p8 session delete {one.id} puts it there"
                )
        forks = purge.forks(ids)
        if forks:
            names = ", ".join(f"{name} ({title[:40] or 'untitled'})" for name, title, _ in forks[:6])
            more = f" and {len(forks) - 6} more" if len(forks) > 6 else ""
            raise Conflict(
                f"session {forks[0][2]} shares its entries with {len(forks)} fork(s): {names}{more}",
                "name them too, once they are in the trash, or keep the session",
            )
        return Plan(tuple(doomed), tuple(path.name for path in purge.copies()))

    def purge(self, ids: Sequence[str], copies: bool = False) -> Gone:
        """
        Remove sessions from the trash for good.

        Args:
            ids: which.
            copies: delete the kept copies of a damaged database too.

        Raises:
            NotFound, InvalidTransition, Conflict, StoreError: as `plan` does; nothing was removed.
        """
        plan = self.plan(ids)
        names = [one.id for one in plan.doomed]
        left: list[str] = []
        if self._also:
            table = self._store.sessions
            kinds = (Kind.EVENT, Kind.CHECKPOINT)
            entries = [
                entry for name in names for entry in table.entries(name, kinds=kinds, whole=True)
                if entry.stream in names
            ]  # fmt: skip
            for remove in self._also:
                left += remove(entries)
        gone = self._purge().run(names, self._store.clock(), copies)
        return gone._replace(left=(*gone.left, *left))

    def finish(self) -> None:
        """Complete a purge that was interrupted. Raises StoreError."""
        self._purge().run([], self._store.clock())

    # expiry

    def due(self) -> list[SessionRow]:
        """Return the sessions that have been in the trash for longer than is set, oldest first. Raises StoreError."""
        if self._days <= 0:
            return []
        before = self._store.clock() - self._days * DAY_US
        rows = self._store.sessions.page(trashed=True, limit=100_000)
        return sorted(
            (row for row in rows if row.trashed_us is not None and row.trashed_us < before and not row.pinned),
            key=lambda row: row.trashed_us or 0,
        )

    def expire(self) -> list[str]:
        """
        List what is due, and purge what was listed a day ago or earlier; return the ids of what was purged.

        What cannot be purged, because forks share it or somebody has it open, stays.

        Raises:
            StoreError: the database is out of reach.
        """
        due = self.due()
        now = self._store.clock()
        told = {str(k): int(v) for k, v in (self._store.settings.get(TOLD, {}) or {}).items()}
        names = {row.id for row in due}
        ripe = [row.id for row in due if now - told.get(row.id, now) >= DAY_US]
        gone: list[str] = []
        for name in ripe:
            try:
                self.purge([name])
                gone.append(name)
            except (Conflict, InvalidTransition, NotFound):
                continue
        kept = {name: told.get(name, now) for name in names if name not in gone}
        if kept != told:
            self._store.settings.put(TOLD, kept)
        fresh = len(kept)
        text = f"{fresh} session(s) have been in the trash for {self._days} days and go a day after this"
        hint = "p8 session purge --expired --dry-run lists them; /session undo, or a pin, keeps one"
        self._store.notice("trash", Notice("info", "trash", text, hint) if fresh else None)
        return gone
