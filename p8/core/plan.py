"""What a session is planned to cost in tokens: scope, budget, phases, triggers, reallocation, forecast (C1, C2, C4).

Arithmetic only: the formula of document 5 and what follows from it. What was really used is counted in `context.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from p8.errors import UsageError

TOKENS_PER_LINE = 10
TEST_OVERHEAD = (3, 2)  #: 1.5, as a fraction, so that tokens stay whole
DOC_OVERHEAD = (6, 5)  #: 1.2
BUFFER = (6, 5)  #: 1.2: a fifth on top of the estimate
#: the shares of document 5's own plan; triggers stand at the sum of the first one, the first two, and its ceiling
PHASES = (("implement", 35), ("integrate", 25), ("test", 20), ("document", 10), ("finish", 10))
TRIGGER_PERCENTS = (35, 60, 70)
EMERGENCY_PERCENT = 90  #: of the budget with its buffer, or of what the model takes
MOST_LINES = 10_000_000
MOST_PHASES = 20
TREND_TURNS = 10


class Scope(NamedTuple):
    """What is to be written, in lines."""

    lines: int = 0
    tests: int = 0
    docs: int = 0

    @classmethod
    def parse(cls, text: str) -> Scope:
        """
        Read `lines=700,tests=200,docs=50`; what is not named is 0.

        Raises:
            UsageError: anything else.
        """
        values: dict[str, int] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, number = part.partition("=")
            name = name.strip()
            if name not in cls._fields or name in values or not number.strip().isdecimal():
                raise UsageError(f"not a scope: {text[:80]!r}", "lines=700,tests=200,docs=50")
            if len(number.strip()) > 9 or int(number) > MOST_LINES:
                raise UsageError(f"{name}={number.strip()[:20]} is too much", f"at most {MOST_LINES:,} lines")
            values[name] = int(number)
        if not any(values.values()):
            raise UsageError("the scope is empty", "lines=700,tests=200,docs=50")
        return cls(**values)


class Phase(NamedTuple):
    """A part of the work: its share of the estimate in percent, and in tokens."""

    name: str
    percent: int
    tokens: int


class Trigger(NamedTuple):
    """What makes a checkpoint by itself: a number of tokens reached, or the end of a phase."""

    name: str  #: "35%", "phase:test", "emergency"
    kind: str  #: "percentage", "phase" or "emergency"
    at_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A session's plan. Tokens are whole numbers."""

    id: str
    scope: Scope
    estimate: int  #: without the buffer
    total_budget: int  #: with it
    phases: tuple[Phase, ...]
    triggers: tuple[Trigger, ...]  #: by percentage, lowest first, then the phases', then the emergency

    @property
    def buffer(self) -> int:
        """Return the tokens beyond the estimate."""
        return self.total_budget - self.estimate

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; `from_dict` computes the rest again."""
        return {"id": self.id, "scope": self.scope._asdict(), "phases": [[p.name, p.percent] for p in self.phases]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """
        Build from `to_dict`'s shape.

        Raises:
            UsageError: it is not of that shape.
        """
        try:
            scope = Scope(**{k: int(v) for k, v in data["scope"].items()})
            return allocate(scope, [(str(n), int(p)) for n, p in data["phases"]], str(data["id"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"the plan cannot be read: {error}", "/session start --scope makes another") from error


def parse_phases(text: str) -> tuple[tuple[str, int], ...]:
    """
    Read `build=60,test=30,docs=10`; the percents must add up to 100.

    Raises:
        UsageError: they do not, a name comes twice, or it is no such list.
    """
    hint = "build=60,test=30,docs=10, adding up to 100"
    found: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, number = (x.strip() for x in part.partition("="))
        if not name.replace("-", "").replace("_", "").isalnum() or not number.isdecimal() or name in found:
            raise UsageError(f"not phases: {text[:80]!r}", hint)
        if len(name) > 40 or len(found) >= MOST_PHASES:
            raise UsageError("too many phases, or too long a name", f"at most {MOST_PHASES}, of 40 letters")
        found[name] = int(number[:6])
    if sum(found.values()) != 100 or 0 in found.values():
        raise UsageError(f"the phases add up to {sum(found.values())} percent", hint)
    return tuple(found.items())


def allocate(scope: Scope, phases: Sequence[tuple[str, int]] = PHASES, plan_id: str = "") -> Plan:
    """
    Return a session's plan (row C2, document 5's `allocateContextBudget`).

        estimate     = lines * 10 + tests * 10 * 1.5 + docs * 10 * 1.2
        total_budget = estimate * 1.2, rounded to a whole token
        phase        = estimate * share; what rounding leaves goes to the largest fractions, so that the sum is exact
        triggers     = estimate * 35 %, 60 %, 70 %, rounded up; the end of each phase; 90 % of total_budget
    """
    base = TOKENS_PER_LINE
    test, doc = scope.tests * base * TEST_OVERHEAD[0], scope.docs * base * DOC_OVERHEAD[0]
    estimate = scope.lines * base + test // TEST_OVERHEAD[1] + doc // DOC_OVERHEAD[1]
    total = (estimate * BUFFER[0] * 2 + BUFFER[1]) // (BUFFER[1] * 2)
    shares = share(estimate, [percent for _, percent in phases])
    made = tuple(Phase(name, percent, tokens) for (name, percent), tokens in zip(phases, shares, strict=True))
    triggers = [Trigger(f"{p}%", "percentage", -(-estimate * p // 100)) for p in TRIGGER_PERCENTS]
    triggers += [Trigger(f"phase:{phase.name}", "phase") for phase in made]
    triggers.append(Trigger("emergency", "emergency", -(-total * EMERGENCY_PERCENT // 100)))
    return Plan(plan_id, scope, estimate, total, made, tuple(triggers))


def share(tokens: int, weights: Sequence[int]) -> list[int]:
    """Return `tokens` split by weights, whole, adding up exactly; what is left over goes to the largest fractions."""
    whole = sum(weights)
    if whole <= 0 or tokens <= 0:
        return [0] * len(weights)
    parts = [divmod(tokens * weight, whole) for weight in weights]
    found = [part[0] for part in parts]
    order = sorted(range(len(parts)), key=lambda at: (-parts[at][1], at))
    for at in order[: tokens - sum(found)]:
        found[at] += 1
    return found


def reallocate(plan: Plan, used: Mapping[str, int], done: Iterable[str]) -> dict[str, int]:
    """
    Return what each open phase may use now, from what was really used (row C2).

    What finished phases left over goes to the open ones by their shares. What they took too much is taken from the
    buffer first, then from the open ones. Together the open ones never get more than what is left of the budget:

        net  = used by finished phases - their allocations
        pool = allocations of the open phases - max(0, net - buffer), and - net where net < 0, and never below 0
    """
    finished = set(done)
    open_phases = [phase for phase in plan.phases if phase.name not in finished]
    net = sum(used.get(p.name, 0) - p.tokens for p in plan.phases if p.name in finished)
    pool = sum(p.tokens for p in open_phases) - (net if net < 0 else max(0, net - plan.buffer))
    shares = share(max(0, pool), [p.percent for p in open_phases])
    return {phase.name: tokens for phase, tokens in zip(open_phases, shares, strict=True)}


def buffer_left(plan: Plan, used: Mapping[str, int], done: Iterable[str]) -> int:
    """Return what is left of the buffer after what finished phases took too much."""
    finished = set(done)
    net = sum(used.get(p.name, 0) - p.tokens for p in plan.phases if p.name in finished)
    return max(0, plan.buffer - max(0, net))


def completion(plan: Plan, used: Mapping[str, int], done: Iterable[str], current: str = "") -> float:
    """
    Return how much of the plan is done, 0 to 1 (row C6).

    Finished phases count whole by their share; the current one by what it used of what it may use, at most 0.9 of its
    share, as only a person can say that it is finished.
    """
    finished = set(done)
    may = reallocate(plan, used, finished)
    total = 0.0
    for phase in plan.phases:
        if phase.name in finished:
            total += phase.percent
        elif phase.name == current:
            total += phase.percent * min(0.9, used.get(phase.name, 0) / max(may[phase.name], 1))
    return total / 100


class Forecast(NamedTuple):
    """Where the use of tokens goes (row C3)."""

    per_turn: float  #: mean tokens of the last ten turns
    slope: float  #: by how many tokens a turn grows from one to the next, by least squares
    trend: str  #: "rising", "falling", "steady", or "" before the third turn

    def turns_until(self, tokens: int) -> int | None:
        """
        Return how many more turns fit into `tokens`; None where that cannot be said, or it is more than 1,000.

        The n-th turn from now (0, 1, 2 …) is taken to cost per_turn while the trend is steady, else
        per_turn + slope * n, and at least half of per_turn: one that grows cheaper does not end up costing nothing.
        """
        if self.per_turn <= 0:
            return None
        slope = 0.0 if self.trend == "steady" else self.slope
        left, turn = float(tokens), 0
        while turn <= 1000:
            left -= max(1.0, self.per_turn / 2, self.per_turn + slope * turn)
            if left < 0:
                return turn
            turn += 1
        return None


def forecast(turns: Sequence[int]) -> Forecast:
    """
    Return the trend of the tokens that turns cost, oldest first.

        per_turn = mean of the last 10
        slope    = sum((i - mean i) * (t - mean t)) / sum((i - mean i)^2) over the same
        rising, falling: the slope over those turns amounts to more than a fifth of the mean
    """
    last = turns[-TREND_TURNS:]
    if not last:
        return Forecast(0.0, 0.0, "")
    mean = sum(last) / len(last)
    if len(last) < 3:
        return Forecast(mean, 0.0, "")
    middle = (len(last) - 1) / 2
    slope = sum((i - middle) * (t - mean) for i, t in enumerate(last)) / sum(
        (i - middle) ** 2 for i in range(len(last))
    )
    moved = slope * (len(last) - 1)
    trend = "rising" if moved > mean / 5 else "falling" if moved < -mean / 5 else "steady"
    return Forecast(mean, slope, trend)
