"""What happens, in order, whoever recorded it: read from the store's feed. The one place here that knows the feed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from p8.errors import StoreError
from p8.store.feed import START

if TYPE_CHECKING:
    from p8.app import App
    from p8.server.routes import Call
    from p8.store.feed import Event

BATCH = 500


class Told(NamedTuple):
    """An event, and which sessions it is about."""

    cursor: str
    about: frozenset[str]
    data: dict[str, Any]


def events_after(app: App, cursor: str, limit: int = BATCH) -> list[Told]:
    """
    Return what happened after a cursor, oldest first.

    Raises:
        UsageError: it is no cursor of this database.
        StoreError: the database is out of reach.
    """
    return [told(event) for event in app.store.feed.after(cursor, limit)]


def newest(app: App) -> str:
    """Return the cursor behind everything that happened. Raises StoreError."""
    with contextlib.suppress(StoreError):
        return app.store.feed.now()
    if app.store.path.exists():
        return app.store.feed.now()
    return START


def told(event: Event) -> Told:
    """Return an event as clients are told it."""
    entry = event.entry
    about = frozenset({entry.stream, str(entry.data.get("about", ""))})
    data = {
        "cursor": event.cursor, "stream": entry.stream, "seq": entry.seq, "time": entry.time.isoformat(),
        "kind": entry.kind, "data": entry.data, **({"preview": True} if entry.large else {}),
    }  # fmt: skip
    return Told(event.cursor, about, data)


def page_of_events(call: Call, v: Mapping[str, Any]) -> Any:
    """Return a page of events, of one session or of all."""
    cursor: str = call.app.store.feed.before_last(v["limit"]) if v["newest"] else v["after"]
    found: list[dict[str, Any]] = []
    while len(found) < v["limit"]:
        batch = events_after(call.app, cursor)
        for event in batch:
            cursor = event.cursor
            if not v["session"] or v["session"] in event.about:
                found.append(event.data)
            if len(found) == v["limit"]:
                break
        if len(batch) < BATCH:
            break
    return {"items": found, "next": cursor}
