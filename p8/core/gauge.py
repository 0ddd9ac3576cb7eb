"""Where a session stands: the tokens it has used, by phase and by source, and what follows from them (rows C2, C3).

Plain values and arithmetic on them; who counts is `context.py`. Refuses: to count, and to keep anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from p8.core import plan as planning
from p8.core.plan import Forecast, Plan
from p8.errors import UsageError

SOURCES = ("messages", "tools", "memories", "files")
UNPLANNED = "session"  #: the phase of a session without a plan


@dataclass(slots=True)
class Usage:
    """Where the counting of a session stands. Plain in the journal as `usage`."""

    seq: int = 0  #: the last entry that is counted
    phase: str = UNPLANNED
    done: list[str] = field(default_factory=list)
    used: dict[str, dict[str, int]] = field(default_factory=dict)  #: phase -> source -> tokens
    turns: list[list[int]] = field(default_factory=list)  #: [time (µs), tokens], oldest first
    sent: int = 0  #: tokens of the last request and its answer, as reported, else counted
    extra: dict[str, int] = field(default_factory=dict)  #: source -> most tokens sent of what is not recorded

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Any) -> Usage:
        """Build from `to_dict`'s shape; what does not fit is begun anew."""
        found = cls()
        for name in cls.__slots__:
            value = data.get(name) if isinstance(data, Mapping) else None
            if type(value) is type(getattr(found, name)):
                setattr(found, name, value)
        if not all(isinstance(v, dict) for v in found.used.values()):
            found.used = {}
        found.turns = [turn for turn in found.turns if isinstance(turn, list) and len(turn) == 2]
        return found

    def add(self, source: str, tokens: int) -> None:
        """Count tokens in the current phase."""
        if tokens:
            by_source = self.used.setdefault(self.phase, {})
            by_source[source] = by_source.get(source, 0) + tokens

    def by_phase(self) -> dict[str, int]:
        """Return tokens by phase."""
        return {phase: sum(sources.values()) for phase, sources in self.used.items()}

    def by_source(self) -> dict[str, int]:
        """Return tokens by source, all sources named."""
        return {s: sum(sources.get(s, 0) for sources in self.used.values()) for s in SOURCES}

    @property
    def total(self) -> int:
        """Return all tokens."""
        return sum(self.by_phase().values())


class Gauge(NamedTuple):
    """What `/context` shows. Tokens throughout."""

    model: str
    exact: bool  #: counted with the model's own vocabulary
    window: int  #: what the model takes at once
    filled: int  #: of it by the last request and its answer
    used: int  #: by the whole session
    sources: dict[str, int]
    phases: tuple[tuple[str, int, int, str], ...]  #: name, used, may use, "done", "now" or ""
    budget: int  #: 0 without a plan
    buffer: int  #: left of the fifth on top
    completion: float | None
    forecast: Forecast
    turns_left_budget: int | None
    turns_left_window: int | None
    fired: tuple[str, ...]
    waiting: tuple[str, ...]


def gauge_of(
    usage: Usage, plan: Plan | None, fired: Collection[str] = (), model: str = "", window: int = 0, exact: bool = False
) -> Gauge:
    """Return where a session stands that is at this usage and has this plan."""
    by_phase = usage.by_phase()
    may = planning.reallocate(plan, by_phase, usage.done) if plan is not None else {}
    names = [p.name for p in plan.phases] if plan is not None else []
    names += [name for name in by_phase if name not in names]
    now = "" if usage.phase in usage.done else usage.phase
    phases = tuple(
        (n, by_phase.get(n, 0), may.get(n, by_phase.get(n, 0) if n in usage.done else 0),
         "done" if n in usage.done else "now" if n == now else "")
        for n in names
    )  # fmt: skip
    ahead = planning.forecast([tokens for _, tokens in usage.turns])
    left = plan.total_budget - usage.total if plan is not None else 0
    triggers = [t.name for t in plan.triggers] if plan is not None else ["emergency"]
    return Gauge(
        model, exact, window, usage.sent, usage.total, usage.by_source(), phases,
        plan.total_budget if plan is not None else 0,
        planning.buffer_left(plan, by_phase, usage.done) if plan is not None else 0,
        planning.completion(plan, by_phase, usage.done, now) if plan is not None else None,
        ahead, ahead.turns_until(left) if plan is not None else None, ahead.turns_until(window - usage.sent),
        tuple(t for t in triggers if t in fired), tuple(t for t in triggers if t not in fired),
    )  # fmt: skip


def recorded(meta: Mapping[str, Any]) -> tuple[Usage, Plan | None]:
    """Return usage and plan as a session's row has them, as of the turn that was counted last."""
    plan = None
    with contextlib.suppress(UsageError):
        plan = Plan.from_dict(meta["plan"]) if isinstance(meta.get("plan"), dict) else None
    return Usage.from_dict(meta.get("usage")), plan


def figures_of(usage: Usage, plan: Plan | None, window: int) -> dict[str, Any]:
    """Return in plain numbers where a session stands, as counted with the last turn (see `core/pulse.py`)."""
    ahead = planning.forecast([tokens for _, tokens in usage.turns])
    found: dict[str, Any] = {
        "used": usage.total, "sent": usage.sent, "window": window, "full": usage.sent / max(window, 1),
        "tokens_per_turn": round(ahead.per_turn), "trend": ahead.trend,
    }  # fmt: skip
    if plan is None:
        return found
    now = "" if usage.phase in usage.done else usage.phase
    return found | {
        "phase": usage.phase, "budget": plan.total_budget, "spent": usage.total / max(plan.total_budget, 1),
        "completion": planning.completion(plan, usage.by_phase(), usage.done, now),
        "turns_left": ahead.turns_until(plan.total_budget - usage.total),
    }  # fmt: skip
