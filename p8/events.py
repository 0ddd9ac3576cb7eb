"""Publish and subscribe within the process.

Delivery is in the order of publishing, on the publisher's thread, to each subscriber in the order they came.
A subscriber that raises is logged and stays subscribed; it never disturbs the publisher or the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from p8.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Change(Record):
    """One thing that happened: a journal entry just written (`stream`, `seq` set) or a passing notice (seq 0)."""

    kind: str  #: a `Kind` value, or "notice"
    name: str  #: what happened: "started", "message", "renamed", "database" …
    stream: str = ""  #: session id, where it belongs to one
    seq: int = 0
    time_us: int = 0
    data: dict[str, Any] = {}  # noqa: RUF012 #: not to be modified


Subscriber = Callable[[Change], None]


class Bus:
    """
    Carries changes to whoever asked for them.

    Publishing is serialised by one lock, so every subscriber sees the same order, whichever threads publish.
    A subscriber may publish from within a delivery; what it publishes is delivered after the current change.

    Attributes:
        listening: whether anybody would hear a change; hot paths skip making one when not.
    """

    def __init__(self) -> None:
        self.listening = False
        self._subscribers: list[Subscriber] = []
        self._lock = threading.RLock()
        self._queue: list[Change] = []
        self._delivering = False

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Deliver every change from now on to `subscriber`; calling the result ends it."""
        with self._lock:
            self._subscribers = [*self._subscribers, subscriber]
            self.listening = True

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = [s for s in self._subscribers if s is not subscriber]
                self.listening = bool(self._subscribers)

        return unsubscribe

    def publish(self, change: Change) -> None:
        """Deliver `change` to every subscriber before returning, or queue it when called from a delivery."""
        with self._lock:
            self._queue.append(change)
            if self._delivering:
                return
            self._delivering = True
            try:
                while self._queue:
                    self._deliver(self._queue.pop(0))
            finally:
                self._delivering = False

    def _deliver(self, change: Change) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(change)
            except Exception:
                import logging

                logging.getLogger("p8.events").exception("a subscriber failed on %s %s", change.kind, change.name)
