"""What the conversation costs: the gauge by phase and by source, the forecast, the triggers."""

from __future__ import annotations

from p8.commands.registry import Arg, Meter, Meters, Plot, Result, Text, View, command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.gauge import Gauge

WARNING, FULL = 0.7, 0.9
MARKS = {"done": "✓", "now": "▸"}


@command(
    "context", "Show how full the context is, by phase and by source.",
    Arg("session", "which session; the current one, in the shell the last one", "session", "*"),
    examples=("context", "context last --json"),
)  # fmt: skip
def context(app: App, args: Namespace) -> Result:
    """Show the gauge."""
    current = app.session_known
    if not args.session and current is not None:
        return _shown(app.planner.gauge())
    from p8.assistants.tokens import window_of
    from p8.commands.session import last_worked, target
    from p8.core.gauge import gauge_of, recorded

    row = target(app, args.session) if args.session else last_worked(app)
    if current is not None and row.id == current.session_id:
        return _shown(app.planner.gauge())
    window = window_of(row.model, limit=app.config.context_limit_tokens)
    return _shown(gauge_of(*recorded(row.meta), (), row.model, window)._replace(fired=(), waiting=()))


def _shown(found: Gauge) -> Result:
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
    part = 1.0 if how == "done" else used / may if may else 0.0
    return Meter(f"{MARKS.get(how, ' ')} {name}", part, note, style)
