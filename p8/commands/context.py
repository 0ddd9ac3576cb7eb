"""What the conversation costs: the gauge by phase and by source, the forecast, the triggers."""

from __future__ import annotations

from p8.commands.registry import Plot, Result, Table, Text, View, command
from p8.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.context import Gauge

CELLS = 30
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
    label = f"{found.model or 'no model'} takes"
    views: list[View] = [_gauge(label, found.filled, found.window, found.turns_left_window)]
    if found.budget:
        views.append(_gauge("the plan allows", found.used, found.budget, found.turns_left_budget))
    rows = tuple(
        (f"{MARKS.get(how, ' ')} {name}", _bar(used, may), f"{used:,}", f"{may:,}" if may else "")
        for name, used, may, how in found.phases
    )
    if found.budget:
        views.append(Table(("PHASE", "", "USED", "MAY USE"), rows))
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


def _gauge(label: str, used: int, whole: int, turns: int | None) -> Text:
    part = used / whole if whole else 0.0
    style = "bad" if part >= FULL else "warning" if part >= WARNING else "good"
    ahead = f", about {turns} turns left" if turns is not None else ""
    return Text(f"{_bar(used, whole)} {part:4.0%} of {whole:,} tokens {label}{ahead}", style)


def _bar(used: int, whole: int) -> str:
    filled = min(CELLS, round(CELLS * used / whole)) if whole else 0
    return "━" * filled + "─" * (CELLS - filled)
