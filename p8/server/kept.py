"""Answers that are still true: kept until the database changes, or for a few seconds, within a bound."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

FOR_S = 5.0  #: what does not stand in the database (which processes live) is looked at again after so long
BYTES = 16 << 20

Stamped = tuple[int, int, int]


class Kept:
    """
    Keeps answers.

    Args:
        stamp: returns what is another value after any change, or None where that cannot be said.
        clock: seconds.
    """

    def __init__(self, stamp: Callable[[], Stamped | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._stamp = stamp
        self._clock = clock
        self._answers: OrderedDict[str, tuple[Stamped, float, bytes]] = OrderedDict()
        self._bytes = 0

    def stamp(self) -> Stamped | None:
        """Return the stamp; to be taken before what is kept is read."""
        return self._stamp()

    def get(self, question: str) -> bytes | None:
        """Return an answer that is still true."""
        found = self._answers.get(question)
        if found is None:
            return None
        if found[1] < self._clock() or found[0] != self._stamp():
            self._drop(question)
            return None
        return found[2]

    def put(self, question: str, stamp: Stamped | None, answer: bytes) -> None:
        """Keep an answer that was read when the stamp was this."""
        if stamp is None or len(question) > 1000 or len(answer) > BYTES // 8:
            return
        self._drop(question)
        self._answers[question] = stamp, self._clock() + FOR_S, answer
        self._bytes += len(answer)
        while self._bytes > BYTES:
            self._drop(next(iter(self._answers)))

    def _drop(self, question: str) -> None:
        found = self._answers.pop(question, None)
        self._bytes -= len(found[2]) if found is not None else 0
