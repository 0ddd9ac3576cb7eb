"""The one ordered stream of everything that happens, to be read and followed from any process (row C9).

What is not part of a session (notices, automatic acts on projects) is an entry of the process it happened in.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from p8.errors import StoreError
from p8.events import Change
from p8.model import Kind
from p8.store.feed import Event
from p8.store.manager import PersistenceManager

POLL_S = 0.1


def note(store: PersistenceManager, what: str, **data: Any) -> None:
    """Record something that belongs to no session, and tell subscribers; a disk that refuses costs a notice."""
    said = {"what": what, **data}
    stream = f"~{store.leases.me.owner}"
    with contextlib.suppress(StoreError):
        seq, at = store.record(stream, Kind.EVENT, said)
        store.bus.publish(Change(Kind.EVENT, what, stream, seq, at, said))


def plain(event: Event) -> dict[str, Any]:
    """Return an event as `--json` prints it."""
    entry = event.entry
    return {
        "cursor": event.cursor, "stream": entry.stream, "seq": entry.seq, "time": entry.time.isoformat(),
        "kind": entry.kind, **({"preview": True} if entry.large else {}), "data": entry.data,
    }  # fmt: skip


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
