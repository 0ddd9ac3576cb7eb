"""What usually comes next: learnt from what was done, by what went before and how it ended (row C8).

A Witten-Bell model: each context is trusted as far as it has been seen, and otherwise the next simpler one is asked.
What was done lately counts more. Learnt by counting what the journal holds; nothing leaves the machine.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

HALF_LIFE = 400  #: after so many steps one counts half
RARE = 1.3  #: a line must weigh so much before it is suggested: it was done twice, not long ago
SAID = "say"  #: a message to the assistant: it tells what comes next and is never suggested
MOST_LINE = 160
PRIOR = 4.0  #: what a signal named by an action's `when` counts against one that is not
AGAINST = 0.15  #: what is left of an action whose opposite holds: to commit where nothing has changed
OPPOSITES = (("dirty", "clean"), ("clean", "dirty"), ("failing", "passing"))
KINDS = {"python", "node", "rust", "go"}
Context = tuple[object, ...]


class Step(NamedTuple):
    """One thing done in a session."""

    name: str  #: `do NAME`, `!command`, `/command` or SAID
    failed: bool | None = None  #: None where it is not known, or cannot fail
    project: str = ""


class Suggestion(NamedTuple):
    """What may come next."""

    line: str  #: as it is typed; ends with a space where something is to be added
    confidence: float  #: 0 to 1: the part of such moments in which it came
    action: str = ""  #: its name, where it is one


class Habits:
    """
    Learns and suggests.

    Args:
        fits: by action, the signals that speak for it; asked where nothing was learnt.
        half_life: after so many steps one counts half.
    """

    def __init__(self, fits: Mapping[str, Sequence[str]], half_life: int = HALF_LIFE) -> None:
        self._fits = {f"do {name}": tuple(when) for name, when in fits.items()}
        self._growth = 2.0 ** (1.0 / half_life)
        self._weight = 1.0  #: of the newest step; older ones stay as they were, and so become lighter beside it
        self._seen: dict[Context, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._uses: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def learn(self, before: Sequence[Step], step: Step) -> None:
        """
        Take in one step.

        Args:
            before: what was done before it in the session, oldest first; the last two count.
            step: what was done then; how it ended tells what comes after it.
        """
        self._weight *= self._growth
        if self._weight > 1e12:
            self._rescale()
        for context in contexts(before, step.project):
            self._seen[context][step.name] += self._weight
        self._uses[step.name][0] += 1

    def failed(self, name: str) -> None:
        """Take in that the last step of a name ended badly."""
        self._uses[name][1] += 1

    def _rescale(self) -> None:
        for counts in self._seen.values():
            for name in counts:
                counts[name] /= self._weight
        self._weight = 1.0

    def uses(self, name: str) -> tuple[int, int]:
        """Return how often something was done, and how often it failed."""
        done, failed = self._uses.get(name, (0, 0))
        return done, failed

    def suggest(
        self, before: Sequence[Step], signals: frozenset[str] = frozenset(), project: str = "", count: int = 3
    ) -> list[Suggestion]:
        """
        Return what may come next, likeliest first.

            w(step)         = 2 ** (-steps since / 400)
            n(context, a)   = sum of w over the steps a in the context and in no closer one
            n(context)      = sum of n(context, a) over all a
            T(context)      = sum over all a of min(1, n(context, a))
            p(a | context)  = (n(context, a) + T * p(a | simpler context)) / (n(context) + T)
            p(a | nothing)  = 4 ** (signals that hold among those the action names), 0.05 where none of them does,
                              shared out over all actions
            p(a)            = p(a | closest context), * 0.15 where the opposite of a signal it names holds, shared out

        Args:
            before: what was done before in the session, oldest first.
            signals: those that hold now.
            project: whose habits go first.
            count: at most so many.
        """
        scores = self._prior(signals)
        for seen in reversed(self._apart(contexts(before, project))):
            types = sum(min(1.0, n) for n in seen.values())
            total = sum(seen.values())
            names = scores.keys() | seen.keys()
            scores = {a: (seen.get(a, 0.0) + types * scores.get(a, 0.0)) / (total + types) for a in names}
        for name, fits in self._fits.items():
            if any(wanted in fits and other in signals and other not in fits for wanted, other in OPPOSITES):
                scores[name] *= AGAINST
        whole = sum(scores.values()) or 1.0
        everywhere = self._seen.get((), {})
        known = {a: s / whole for a, s in scores.items() if a in self._fits or self._is_usual(a, everywhere)}
        ranked = sorted(known.items(), key=lambda item: (-item[1], item[0]))
        return [_suggestion(name, round(score, 4)) for name, score in ranked[:count]]

    def _apart(self, chain: Sequence[Context]) -> list[dict[str, float]]:
        """Return what was seen in each context of a chain and in none of those before it; nothing counts twice."""
        found: list[dict[str, float]] = []
        closer: Mapping[str, float] = {}
        for context in chain:
            counts = self._seen.get(context, {})
            left = {name: (weight - closer.get(name, 0.0)) / self._weight for name, weight in counts.items()}
            some = {name: weight for name, weight in left.items() if weight > 1e-6}
            if some:
                found.append(some)
            closer = counts
        return found

    def _is_usual(self, name: str, everywhere: Mapping[str, float]) -> bool:
        return name != SAID and not name.startswith("do ") and everywhere.get(name, 0.0) / self._weight >= RARE

    def _prior(self, signals: frozenset[str]) -> dict[str, float]:
        weights = {}
        for name, fits in self._fits.items():
            named = set(fits)
            wrong_kind = bool(named & KINDS) and not named & KINDS & signals
            holding = len((named - KINDS) & signals)
            weights[name] = 0.001 if wrong_kind else PRIOR**holding if holding else 0.05
        whole = sum(weights.values()) or 1.0
        return {name: weight / whole for name, weight in weights.items()}


def _suggestion(name: str, confidence: float) -> Suggestion:
    if name.startswith("do "):
        return Suggestion(f"/{name}", confidence, name[3:])
    return Suggestion(name, confidence)


def contexts(before: Sequence[Step], project: str) -> list[Context]:
    """Return what a moment is known by, from the closest to the simplest; each holds all of the one before it."""
    last = before[-1] if before else Step("")
    one = last.name, last.failed
    two = before[-2].name if len(before) > 1 else ""
    return [("two", two, *one, project), ("one here", *one, project), ("one", *one), ("name", last.name), ()]


class Lines:
    """
    Gives what was typed a name: an action's, the line itself where it comes again, else what it begins with.

    Args:
        named: returns the action that a line is, or "".
    """

    def __init__(self, named: Callable[[str], str]) -> None:
        self._named = named
        self._count: dict[str, int] = defaultdict(int)

    def count(self, lines: Iterable[str]) -> None:
        """Take in lines, so that those that come again are known."""
        for line in lines:
            self._count[line.strip()] += 1

    def name(self, line: str) -> str:
        """Return the name of a line; "" for one that says nothing of habits."""
        line = line.strip()
        if line == "/do" or line.startswith("/do "):
            words = line.split()
            return f"do {words[1]}" if len(words) > 1 and not words[1].startswith("-") else ""
        if not line[1:].strip() or line[0] not in "!/" or len(line) > 4 * MOST_LINE:
            return ""
        action = self._named(line)
        if action:
            return f"do {action}"
        if self._count[line] > 1 and len(line) <= MOST_LINE:
            return line
        return shape(line)


def shape(line: str) -> str:
    """Return what a line begins with, before what is different each time: program, subcommands, options."""
    try:
        words = shlex.split(line, comments=False)
    except ValueError:
        words = line.split()
    kept = words[:1]
    for word in words[1:]:
        option = word.startswith("-") and "=" not in word
        subcommand = word.replace("-", "").isalpha() and len(kept) < 3 and not kept[-1].startswith("-")
        if " " in word or not (option or subcommand):
            return " ".join(kept) + " "
        kept.append(word)
    return " ".join(kept)
