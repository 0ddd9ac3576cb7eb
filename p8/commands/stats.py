"""How the work goes: a session's metrics, sums over all sessions, and P8's own health."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Plot, Result, Text, View, command
from p8.commands.session import target
from p8.errors import NotFound
from p8.model import SessionRow, from_us

if TYPE_CHECKING:
    from p8.app import App
    from p8.core.metrics import Segment, SessionMetrics
    from p8.store.figures import Figures

DAY_US = 86_400_000_000


def session_stats(app: App, row: SessionRow) -> Result:
    """Return a session's metrics, drawn."""
    return _session(app, row)


@command(
    "stats", "Show how the work goes: this session's, or that of all sessions.",
    Arg("session", "which session; the current one, and sums over all where none is current", "session", "*"),
    Arg("--all", "sums over all sessions", flag=True), Arg("--project", "sums over this project's", flag=True),
    Arg("--days", "of the days shown", default=14, type=int), Arg("--health", "P8's own figures", flag=True),
    examples=("stats", "stats last", "stats --project --days 30", "stats --health"),
)  # fmt: skip
def stats(app: App, args: Namespace) -> Result:
    """Show figures."""
    from p8.store.figures import Figures

    figures = Figures(app.store.read)
    if args.health:
        return _health(app, figures)
    if args.session or (app.sessions.current is not None and not args.all and not args.project):
        try:
            return _session(app, target(app, args.session))
        except NotFound:
            if args.session:
                raise
    return _sums(app, figures, app.project.id if args.project else None, max(1, min(args.days, 3650)))


# one session


def _session(app: App, row: SessionRow) -> Result:
    from p8.core.metrics import measure
    from p8.core.plan import Plan

    current = app.sessions.current
    mine = current is not None and current.session_id == row.id
    gauge = app.planner.gauge() if mine else None
    plan, turns = (app.planner.plan, app.planner.usage.turns) if mine else (None, [])
    if not mine and isinstance(row.meta.get("plan"), dict):
        plan = Plan.from_dict(row.meta["plan"])
        usage = row.meta.get("usage")
        turns = usage.get("turns", []) if isinstance(usage, dict) else []
    recorded = Path(row.directory) if row.directory else app.directory
    place = app.directory if mine else recorded
    found = measure(app.sessions, row, place, gauge, plan, [tokens for _, tokens in turns])
    return Result(found.to_dict(), tuple(_session_views(row, found)))


def _session_views(row: SessionRow, found: SessionMetrics) -> list[View]:
    fields = [
        ("worked", f"{_hours(found.whole.active_h)}, {_hours(found.segment.active_h)} since it was resumed"),
        ("said", _segment(found.whole)), ("", f"{_segment(found.segment)} since it was resumed"),
        ("lines", _lines(found.whole)), ("velocity", _rate(found.whole) or ""),
        ("commits", str(found.commits) if found.commits else ""),
        ("coverage", f"{found.coverage.percent:.1f} %{_moved(found.coverage_progress)} ({found.coverage.source})"
         if found.coverage else ""),
        ("tests", f"{found.tests.passed} of {found.tests.total} passed, {found.tests.failed} failed"
         if found.tests else ""),
        ("docs", f"{found.documentation:.2f} lines a line of code" if found.documentation is not None else ""),
        ("completion", f"{found.completion:.0%}" if found.completion is not None else ""),
        ("left", f"about {_hours(found.time_left_h)} of work" if found.time_left_h is not None else ""),
    ]  # fmt: skip
    scores = [("efficiency", found.efficiency), ("context", found.context_efficiency), ("quality", found.quality)]
    known = [(name, value) for name, value in scores if value is not None]
    views: list[View] = [Card(row.title or "(nothing said)", tuple((k, v) for k, v in fields if v))]
    if known:
        names, values = zip(*known, strict=True)
        views += [Plot("Scores, of 100", "bars", (*names, ""), (("score", (*values, 100.0)),))]
    if found.burndown is not None and len(found.burndown.left) > 1:
        left = tuple(map(float, found.burndown.left))
        labels = ("start", f"turn {len(left) - 1}")
        views.append(Plot("Tokens left of the plan", "lines", labels, (("left", left), ("even", found.burndown.ideal))))
    return views


def _segment(part: Segment) -> str:
    cost = f", ${part.cost:.4f}" if part.cost else ""
    return (f"{part.messages} messages, {part.executions} commands run, {part.tokens_in:,} tokens in, "
            f"{part.tokens_out:,} out{cost}")  # fmt: skip


def _lines(part: Segment) -> str:
    if part.lines is None:
        return ""
    lines = part.lines
    return f"+{lines.lines} code, +{lines.tests} tests, +{lines.docs} docs, -{lines.removed}"


def _rate(part: Segment) -> str:
    return f"{part.lines_per_h:,.0f} lines an hour" if part.lines_per_h is not None else ""


def _moved(progress: float | None) -> str:
    return f", {progress:+.1f} since the plan" if progress is not None else ""


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


# sums


def _sums(app: App, figures: Figures, project: str | None, days: int) -> Result:
    now = app.store.clock()
    first = (now // DAY_US - days + 1) * DAY_US
    totals, states = figures.overview(project)
    by_day = dict(figures.by_day(first, project))
    by_model = figures.by_model(project)
    by_project = figures.by_project() if project is None else []
    names = [f"{from_us(first + at * DAY_US):%Y-%m-%d}" for at in range(days)]
    data = {
        "project": project, "totals": totals, "status": states, "by_project": _list(by_project, "project"),
        "by_model": _list(by_model, "model"), "by_day": _list([(n, by_day[n]) for n in names if n in by_day], "day"),
    }  # fmt: skip
    fields = (
        ("sessions", f"{totals['sessions']:,}: " + ", ".join(f"{count:,} {name}" for name, count in states.items())),
        ("said", f"{totals['messages']:,} messages, {totals['commands']:,} typed, {totals['executions']:,} run"),
        ("tokens", f"{totals['tokens_in']:,} in, {totals['tokens_out']:,} out"),
        ("cost", f"${totals['cost']:,.4f}" if totals["cost"] else ""), ("size", f"{totals['size_bytes']:,} bytes"),
    )  # fmt: skip
    daily = tuple(float(by_day.get(name, {}).get("messages", 0)) for name in names)
    views: list[View] = [
        Card(app.project.name if project else "All sessions", tuple((k, v) for k, v in fields if v)),
        Plot("Messages, by the day a session was last worked in", "lines", (names[0], names[-1]), (("", daily),)),
    ]
    top = [(name, sums) for name, sums in by_project if sums["messages"]][:8]
    views.append(Plot("Messages by project", "bars", tuple(n for n, _ in top),
                      (("messages", tuple(float(s["messages"]) for _, s in top)),)))  # fmt: skip
    spent = [(name or "unknown", s["tokens_in"] + s["tokens_out"]) for name, s in by_model]
    spent = [(name, tokens) for name, tokens in spent if tokens][:8]
    views.append(Plot("Tokens by model", "bars", tuple(n for n, _ in spent),
                      (("tokens", tuple(float(t) for _, t in spent)),)))  # fmt: skip
    return Result(data, tuple(views))


def _list(rows: list[tuple[str, dict[str, Any]]], key: str) -> list[dict[str, Any]]:
    return [{key: name, **sums} for name, sums in rows]


# P8 itself


def _health(app: App, figures: Figures) -> Result:
    from p8.core import health

    lines = list(health.read(app.config.home))
    sizes = figures.sizes(app.config.home)
    found = health.figures(lines, figures.damaged(), sizes)
    count = sizes["sessions"]
    found["storage_per_session_bytes"] = round(found["storage_bytes"] / count) if count else None
    fields = (
        ("creation", _times(found["creation_ms"])), ("saving", _times(found["persistence_ms"])),
        ("memory", f"{found['memory_per_session_kb']:,} kB a session"
         if found["memory_per_session_kb"] is not None else ""),
        ("errors", f"{found['serialisation_errors']} damaged places in the journal"),
        ("storage", f"{found['storage_bytes']:,} bytes" + (f", {found['storage_growth_bytes_per_day']:+,} a day"
                    if found["storage_growth_bytes_per_day"] is not None else "")),
        ("seen", f"{found['processes']} processes"),
    )  # fmt: skip
    views: list[View] = [Card("P8 itself", tuple((k, v) for k, v in fields if v))]
    sizes_seen = tuple(float(line.get("database", 0) + line.get("journal", 0)) for line in lines)
    if len(sizes_seen) > 1:
        ends = (f"{from_us(lines[0]['time']):%Y-%m-%d}", f"{from_us(lines[-1]['time']):%Y-%m-%d}")
        views.append(Plot("Bytes on disk", "lines", ends, (("", sizes_seen),)))
    if not lines:
        views.append(Text("Figures come from processes that have ended.", "dim"))
    return Result(found, tuple(views))


def _times(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['median']:.2f} ms, at worst {found['worst']:.2f}, of {found['count']:,}"
