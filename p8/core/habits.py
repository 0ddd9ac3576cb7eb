"""What usually comes next: learnt from what was done, by what went before and how things stood (row C8).

A Witten-Bell model over what was done before and the signals that held: each context is trusted as far as it has been
seen, and otherwise the next simpler one is asked. Learnt by counting; nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

KEPT = 5000  #: newest uses are looked at
MOST_BYTES = 2 << 20
CHANGING = ("dirty", "ahead", "failing", "passing", "budget")  #: signals that tell one moment from another
PRIOR = 4.0  #: what a signal named by an action's `when` counts against one that is not


class Use(NamedTuple):
    """One action done."""

    action: str
    before: tuple[str, ...]  #: the actions done before it in the session, newest first, at most two
    signals: frozenset[str]
    project: str = ""


class Suggestion(NamedTuple):
    """What may come next."""

    action: str
    confidence: float  #: 0 to 1: the part of such moments in which it came


class Habits:
    """
    Learns and suggests.

    Args:
        uses: what was done, oldest first.
        fits: by action, the signals that speak for it; asked where nothing was learnt.
    """

    def __init__(self, uses: Iterable[Use], fits: Mapping[str, Sequence[str]]) -> None:
        self._fits = fits
        self._seen: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
        for use in uses:
            self.learn(use)

    def learn(self, use: Use) -> None:
        """Take in one use."""
        for context in _contexts(use):
            self._seen[context][use.action] += 1

    def suggest(
        self, before: Sequence[str], signals: frozenset[str], project: str = "", count: int = 3
    ) -> list[Suggestion]:
        """
        Return what may come next, likeliest first.

            p(a | context)  = (n(context, a) + T * p(a | simpler context)) / (n(context) + T)
            T               = different actions seen in the context
            p(a | nothing)  = 4 ** (signals that hold among those the action names), 0.05 where none of them does,
                              shared out over all actions

        Args:
            before: actions done before in the session, newest first.
            signals: those that hold now.
            project: whose habits go first.
            count: at most so many.
        """
        scores = self._prior(signals)
        moment = Use("", tuple(before[:2]), signals, project)
        for context in reversed(_contexts(moment)):
            counts = self._seen.get(context)
            if counts is None:
                continue
            types, total = len(counts), sum(counts.values())
            known = {*scores, *counts} & {*self._fits}
            scores = {a: (counts[a] + types * scores.get(a, 0.0)) / (total + types) for a in known}
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return [Suggestion(action, round(score, 4)) for action, score in ranked[:count]]

    def _prior(self, signals: frozenset[str]) -> dict[str, float]:
        kinds = {"python", "node", "rust", "go"}
        weights = {}
        for action, fits in self._fits.items():
            named = set(fits)
            wrong_kind = bool(named & kinds) and not named & kinds & signals
            holding = len((named - kinds) & signals)
            weights[action] = 0.001 if wrong_kind else PRIOR**holding if holding else 0.05
        whole = sum(weights.values()) or 1.0
        return {action: weight / whole for action, weight in weights.items()}


def _contexts(use: Use) -> list[tuple[object, ...]]:
    """Return what a moment is known by, from the closest to the simplest."""
    changing = frozenset(use.signals & set(CHANGING))
    one, two = use.before[:1], use.before[:2]
    return [
        ("two+signals", two, changing), ("two", two), ("one+signals", one, changing), ("one", one),
        ("signals", changing), ("project", use.project), ("all",),
    ]  # fmt: skip


class UseLog:
    """
    The uses, kept as a line each in one file that all processes append to.

    Args:
        home: P8's home.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / "states" / "actions.jsonl"

    def add(self, use: Use) -> None:
        """Write one down; a disk that refuses costs the learning and nothing else."""
        line = json.dumps([use.action, list(use.before), sorted(use.signals), use.project]) + "\n"
        with contextlib.suppress(OSError):
            self._trim()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._file, flags, 0o600)
            try:
                os.write(fd, line.encode())
            finally:
                os.close(fd)

    def _trim(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._file.stat().st_size > MOST_BYTES:
                lines = self._file.read_bytes().splitlines(keepends=True)[-KEPT:]
                young = self._file.with_name(f"actions.{os.getpid()}.new")
                young.write_bytes(b"".join(lines))
                young.replace(self._file)

    def __iter__(self) -> Iterator[Use]:
        try:
            lines = self._file.read_bytes().splitlines()[-KEPT:]
        except OSError:
            return
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                action, before, signals, project = json.loads(line)
                yield Use(str(action), tuple(map(str, before))[:2], frozenset(map(str, signals)), str(project))
