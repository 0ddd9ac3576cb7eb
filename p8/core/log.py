"""The one ordered stream of everything that happens, to be read and followed from any process (row C9).

What is not part of a session (notices, automatic acts on projects) is an entry of the process it happened in.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from p8.errors import P8Error, StoreError
from p8.events import Change
from p8.model import Kind
from p8.store.feed import START, Event
from p8.store.manager import PersistenceManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POLL_S = 0.1
#: notices that no entry is made of: recording itself has trouble, or each act has an entry of its own
UNRECORDED = {"disk", "home", "projects", "trash of projects"}


def note(store: PersistenceManager, what: str, **data: Any) -> None:
    """Record something that belongs to no session, and tell subscribers; a disk that refuses costs a notice."""
    said = {"what": what, **data}
    stream = f"~{store.leases.me.owner}"
    with contextlib.suppress(StoreError):
        seq, at = store.record(stream, Kind.EVENT, said)
        store.bus.publish(Change(Kind.EVENT, what, stream, seq, at, said))


def note_error(store: PersistenceManager, error: P8Error, session: str = "") -> None:
    """Record an error that a person was shown."""
    about = {"about": session} if session else {}
    kind = type(error).__name__
    note(store, "error", error=kind, text=error.message, hint=error.hint, **about)


def note_notice(store: PersistenceManager, change: Change) -> None:
    """Record a warning or an error of P8's own, so that other processes see it too; any other change is left alone."""
    if change.kind == "notice" and change.data["level"] != "info" and change.name not in UNRECORDED:
        note(store, "notice", topic=change.name, **change.data)


def concerns(event: Event, session: str) -> bool:
    """Return whether an event belongs to a session, or says something about it."""
    return session in {event.entry.stream, event.entry.data.get("about")}


def plain(event: Event) -> dict[str, Any]:
    """Return an event as `--json` prints it."""
    entry = event.entry
    return {
        "cursor": event.cursor, "stream": entry.stream, "seq": entry.seq, "time": entry.time.isoformat(),
        "kind": entry.kind, **({"preview": True} if entry.large else {}), "data": entry.data,
    }  # fmt: skip


def now(store: PersistenceManager) -> str:
    """
    Return the cursor behind everything that has happened.

    Raises:
        StoreError: there is a database and it cannot be read.
    """
    try:
        return store.feed.now()
    except StoreError:
        if store.path.exists():
            raise
        return START


def follow(
    store: PersistenceManager, cursor: str, wanted: Callable[[Event], bool], stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """
    Yield what happens after a cursor, and go on for as long as nobody stops it.

    A database that is out of reach for a while delays the events and loses none.

    Raises:
        UsageError: it is no cursor of this database.
    """
    while not stop():
        try:
            found = store.feed.after(cursor)
        except StoreError:
            found = []
        for event in found:
            cursor = event.cursor
            if wanted(event):
                yield event
        if not found:
            time.sleep(POLL_S)
