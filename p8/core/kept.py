"""What is kept of files, across all projects: examined, mended, and removed with the sessions it belonged to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from p8.core.sessions import SessionManager
from p8.errors import NotFound, P8Error, StoreError
from p8.model import Entry, Finding, Kind
from p8.workspace.snapshots import Snapshots
from p8.workspace.upkeep import Upkeep

NAMES = ("before", "after", "snapshot", "safety")  #: where an entry names snapshots
KINDS = (Kind.EVENT, Kind.CHECKPOINT)


def snapshots_of(entry: Entry) -> set[str]:
    """Return the snapshots that an entry names."""
    files = entry.data.get("files") if entry.kind == Kind.CHECKPOINT else entry.data
    if not isinstance(files, dict):
        return set()
    return {str(files[name]) for name in NAMES if isinstance(files.get(name), str) and files[name]}


class Kept:
    """
    All stores of files under a home.

    Args:
        sessions: whose entries name snapshots.
    """

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions
        self._home = sessions.store.home

    def _stores(self) -> Iterator[Upkeep]:
        for folder in sorted((self._home / "snapshots").glob("*.git")):
            yield Upkeep(Snapshots(folder, self._home))

    def examine(self) -> Iterable[Finding]:
        """Compare every kept object with its name; name the checkpoints that are not whole any more."""
        for store in self._stores():
            wrong = store.verify()
            if not wrong:
                continue
            place = str(store.folder.relative_to(self._home))
            run = {"op": "call", "run": store.mend}
            repair = "what can be read is moved into a new pack, the damaged one is kept aside"
            yield Finding("snapshot", "; ".join(wrong)[:300], file=place, repair=repair, level="error", what=run)
            yield from self._broken(store, place)

    def _broken(self, store: Upkeep, place: str) -> Iterator[Finding]:
        there = {name for name, _ in store.all()}
        entries: list[Entry] = []
        with contextlib.suppress(StoreError):
            entries = self._sessions.store.sessions.checkpoints(1 << 30)
        for entry in entries:
            for name in snapshots_of(entry) & there:
                lost = store.unreadable(name)
                if lost:
                    text = f"checkpoint {entry.data.get('name', '')!r} lacks {len(lost)} file(s): {', '.join(lost[:3])}"
                    key = f"snapshot:{entry.stream}:{entry.seq}"
                    yield Finding("snapshot", text, entry.stream, entry.seq, place, level="error", key=key)

    def purge(self, entries: Sequence[Entry]) -> list[str]:
        """
        Remove the snapshots that only these entries name; return what could not be removed.

        Args:
            entries: of sessions that are purged: events and checkpoints.
        """
        named = {name for entry in entries for name in snapshots_of(entry)}
        if not named:
            return []
        streams = {entry.stream for entry in entries}
        named -= self._elsewhere(named, streams)
        left = []
        for store in self._stores():
            try:
                store.drop(named & {name for name, _ in store.all()})
                store.forget_restores(named)
            except P8Error as error:
                left.append(f"{store.folder.name}: {error.message}")
        return left

    def _elsewhere(self, named: set[str], streams: set[str]) -> set[str]:
        """Return which of these snapshots other sessions name, too."""
        table = self._sessions.store.sessions
        held: set[str] = set()
        for archived, trashed in ((False, False), (True, False), (False, True)):
            for row in table.page(archived=archived, trashed=trashed, limit=1 << 30):
                with contextlib.suppress(NotFound):
                    for entry in table.entries(row.id, kinds=KINDS, whole=True):
                        if entry.stream not in streams:
                            held |= snapshots_of(entry) & named
        return held
