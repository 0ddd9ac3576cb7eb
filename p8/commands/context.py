"""What the conversation costs: the gauge by phase and by source, the forecast, the triggers."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from p8.commands.registry import Meter, Meters, Plot, Result, Text, View, command
from p8.errors import UsageError

if TYPE_CHECKING:
    from p8.app import App
    from p8.core.context import Gauge

WARNING, FULL = 0.7, 0.9
MARKS = {"done": "✓", "now": "▸"}


@command("context", "Show how full the context is, by phase and by source.", doors=("repl",))
def context(app: App, args: Namespace) -> Result:
    """Show the gauge."""
    if app.sessions.current is None:
        raise UsageError("no session is active", "say something and one begins, or /resume one")
    found = app.planner.gauge()
    plain = found._asdict() | {"phases": [list(p) for p in found.phases], "forecast": found.forecast._asdict()}
    return Result(plain, tuple(views_of(found)))


def views_of(found: Gauge) -> list[View]:
    """Return the gauge as a person reads it."""
    meters = [_meter(found.model or "no model", found.filled, found.window, found.turns_left_window)]
    if found.budget:
        meters.append(_meter("the plan", found.used, found.budget, found.turns_left_budget))
    views: list[View] = [Meters(tuple(meters))]
    if found.budget:
        views.append(Meters(tuple(_phase(*phase) for phase in found.phases), "Phases of the plan"))
    sources = tuple((name, float(tokens)) for name, tokens in found.sources.items() if tokens)
    if sources:
        names, values = zip(*sources, strict=True)
        views.append(Plot("Tokens by source", "bars", names, (("tokens", values),)))
    ahead = found.forecast
    said = []
    if ahead.per_turn:
        said.append(f"{ahead.per_turn:,.0f} tokens a turn{f', {ahead.trend}' if ahead.trend else ''}")
    if found.completion is not None:
        said.append(f"{found.completion:.0%} done, {found.buffer:,} tokens of buffer left")
    if found.waiting and found.budget:
        said.append(f"next checkpoint at {found.waiting[0]}")
    said.append("counted with the model's own vocabulary" if found.exact else "counted with another model's vocabulary")
    return [*views, Text("; ".join(said), "dim")]


def _meter(label: str, used: int, whole: int, turns: int | None) -> Meter:
    part = used / whole if whole else 0.0
    style = "bad" if part >= FULL else "warning" if part >= WARNING else "good"
    ahead = f", about {turns} turns left" if turns is not None else ""
    return Meter(label, part, f"{used:,} of {whole:,} tokens{ahead}", style)


def _phase(name: str, used: int, may: int, how: str) -> Meter:
    note = f"{used:,} of {may:,} tokens" if may and how != "done" else f"{used:,} tokens"
    style = "dim" if how == "done" else "bad" if used > may else "accent"
    return Meter(f"{MARKS.get(how, ' ')} {name}", used / may if may else 0.0, note, style)
