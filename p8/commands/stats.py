"""How the work goes: a session's metrics, sums over all sessions, and P8's own health."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Meter, Meters, Plot, Result, Text, View, command
from p8.core.amounts import bytes_said, hours_said, many
from p8.errors import NotFound
from p8.model import SessionRow, from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.metrics import Segment, SessionMetrics
    from p8.core.plan import Plan
    from p8.store.figures import Figures

DAY_US = 86_400_000_000
GROUPS = 20  #: of projects and of models that `--json` lists
NEARLY, FULL = 0.7, 0.9  #: of the budget
SHOWN = 8  #: of those that are drawn


@command(
    "stats", "Show how the work goes: this session's, or that of all sessions.",
    Arg("session", "which session; the current one, and sums over all where none is current", "session", "*"),
    Arg("--all", "sums over all sessions", flag=True), Arg("--project", "sums over this project's", flag=True),
    Arg("--days", "so many days are drawn", default=14, type=int), Arg("--health", "P8's own figures", flag=True),
    Arg("--watch", "draw it anew every so often, until Ctrl-C; `view watch_s` says how often", flag=True),
    examples=("stats", "stats last", "stats --project --days 30", "stats --watch", "stats --health --json"),
)  # fmt: skip
def stats(app: App, args: Namespace) -> Result:
    """Show figures."""
    if not args.watch:
        return _stats(app, args)
    from p8.commands.registry import Live

    return Result(_stats(app, args).data, (), Live(lambda: _stats(app, args).views, app.view.get("watch_s")))


def _stats(app: App, args: Namespace) -> Result:
    from p8.store.figures import Figures

    figures = Figures(app.store.read)
    if args.health:
        return _health(app, figures)
    sums = args.all or args.project
    if args.session or (not sums and _is_begun(app)):
        from p8.commands.session import target

        try:
            return session_stats(app, target(app, args.session))
        except NotFound:
            if args.session:
                raise
    return _sums(app, figures, app.project.id if args.project else None, max(1, min(args.days, 3650)))


def _is_begun(app: App) -> bool:
    """Return whether there is a session in which anything was said, run or planned: a line typed is nothing yet."""
    current = app.session_known
    if current is None:
        return False
    return bool(current.conversation_history or current.execution_histories or current.metadata.get("plan"))


# one session


def session_stats(app: App, row: SessionRow, completed: bool = False) -> Result:
    """Return a session's metrics, drawn; `completed` where it is about to be."""
    from p8.core.gauge import gauge_of, recorded
    from p8.core.metrics import measure

    current = app.session_known
    if current is not None and current.session_id == row.id:
        place, plan, usage, gauge = app.directory, app.planner.plan, app.planner.usage, app.planner.gauge()
    else:
        place = Path(row.directory) if row.directory else app.directory
        usage, plan = recorded(row.meta)
        gauge = gauge_of(usage, plan)
    found = measure(app.sessions, row, place, gauge, plan, [tokens for _, tokens in usage.turns], completed)
    return Result(found.to_dict(), tuple(_session_views(row, found, gauge.used, plan)))


def _session_views(row: SessionRow, found: SessionMetrics, used: int, plan: Plan | None) -> list[View]:
    whole, part = found.whole, found.segment
    resumed = part.messages != whole.messages or part.executions != whole.executions
    lines, rate = whole.lines, whole.lines_per_h
    fields = [
        ("worked", hours_said(whole.active_h) + (f", {hours_said(part.active_h)} since it was resumed" * resumed)),
        ("said", _said(whole)), ("", f"{_said(part)} since it was resumed" if resumed else ""),
        ("lines", f"+{lines.lines} code, +{lines.tests} tests, +{lines.docs} docs, -{lines.removed}" if lines else ""),
        ("velocity", f"{rate:,.0f} lines an hour" if rate is not None else ""),
        ("commits", str(found.commits) if found.commits else ""),
        ("docs", f"{found.documentation:.2f} lines a line of code" if found.documentation is not None else ""),
    ]  # fmt: skip
    views: list[View] = [Card(row.title or "(nothing said)", tuple((k, v) for k, v in fields if v))]
    meters = tuple(_meters(found, used, plan))
    if meters:
        views.append(Meters(meters, "At a glance"))
    if found.burndown is not None and len(found.burndown.left) > 1:
        left = tuple(map(float, found.burndown.left))
        labels = ("start", f"turn {len(left) - 1}")
        even = (("even", found.burndown.ideal),) if found.burndown.ideal else ()
        views.append(Plot("Tokens left of the plan", "lines", labels, (("left", left), *even)))
    return views


def _meters(found: SessionMetrics, used: int, plan: Plan | None) -> Iterator[Meter]:
    """Yield what is known as parts of wholes."""
    if found.completion is not None:
        left = f"{hours_said(found.time_left_h)} of work left, as it goes" if found.time_left_h else ""
        yield Meter("done", found.completion, left, "good")
    if plan is not None:
        part = used / max(plan.total_budget, 1)
        style = "bad" if part >= FULL else "warning" if part >= NEARLY else "accent"
        yield Meter("budget", part, f"{used:,} of {plan.total_budget:,} tokens", style)
    tests, covered = found.tests, found.coverage
    if tests is not None and tests.total > tests.skipped:
        ran = tests.total - tests.skipped
        failed = f", {tests.failed} failed" if tests.failed else ""
        style = "bad" if tests.failed else "good"
        yield Meter("tests", tests.passed / ran, f"{tests.passed} of {ran} passed{failed}", style)
    if covered is not None:
        moved = f", {found.coverage_progress:+.1f} since the plan" if found.coverage_progress is not None else ""
        yield Meter("coverage", covered.percent / 100, f"{covered.source}{moved}", _how(covered.percent))
    parts = ", ".join(f"{name} {value:.0%}" for name, value in found.quality_parts.items() if value is not None)
    scores = (
        ("quality", found.quality, parts), ("efficiency", found.efficiency, "how much is done for the budget used"),
        ("context", found.context_efficiency, "how much of what was sent was new"),
    )  # fmt: skip
    for name, value, note in scores:
        if value is not None:
            yield Meter(name, value / 100, note, _how(value))


def _how(percent: float) -> str:
    return "good" if percent >= 66 else "warning" if percent >= 33 else "bad"


def _said(part: Segment) -> str:
    cost = f", ${part.cost:.4f}" if part.cost else ""
    tokens = f", {part.tokens_in:,} tokens in, {part.tokens_out:,} out" if part.tokens_in or part.tokens_out else ""
    return f"{many(part.messages, 'message')}, {many(part.executions, 'command')} run{tokens}{cost}"


# sums


def _sums(app: App, figures: Figures, project: str | None, days: int) -> Result:
    now = app.store.clock()
    first = now // DAY_US - days + 1
    found = figures.sums(first * DAY_US, project)
    totals = found.totals
    by_status = {name: sums["sessions"] for name, sums in sorted(found.by_status.items())}
    by_model = sorted(found.by_model.items(), key=lambda one: -_tokens(one[1]))[:GROUPS]
    by_project = sorted(found.by_project.items(), key=lambda one: -found.used_us[one[0]])[: 0 if project else GROUPS]
    by_day = [(_date(day), sums) for day, sums in sorted(found.by_day.items())]
    data = {
        "project": project, "totals": totals, "status": by_status, "by_project": _list(by_project, "project"),
        "by_model": _list(by_model, "model"), "by_day": _list(by_day, "day"),
    }  # fmt: skip
    if not totals["sessions"]:
        return Result(data, (Text("No session yet.", "dim"),))
    states = ", ".join(f"{count:,} {name}" for name, count in by_status.items())
    cost = f", ${totals['cost']:,.2f}" if totals["cost"] else ""
    fields = (
        ("sessions", f"{totals['sessions']:,}: {states}"),
        ("said", f"{totals['messages']:,} messages, {totals['commands']:,} lines typed, {totals['executions']:,} run"),
        ("tokens", f"{totals['tokens_in']:,} in, {totals['tokens_out']:,} out{cost}" if _tokens(totals) else ""),
        ("size", bytes_said(totals["size_bytes"])),
    )
    daily = tuple(float(found.by_day.get(first + at, {}).get("messages", 0)) for at in range(days))
    views: list[View] = [
        Card(app.project.name if project else "All sessions", tuple((k, v) for k, v in fields if v)),
        Plot(
            "Messages, by the day their session was last worked in",
            "columns",
            (_date(first), _date(first + days - 1)),
            (("", daily),),
        ),
    ]
    talked = [(name, float(sums["messages"])) for name, sums in by_project if sums["messages"]]
    views += _bars("Messages by project, last used first", talked)
    views += _bars("Tokens by model", [(name or "unknown", float(_tokens(s))) for name, s in by_model if _tokens(s)])
    return Result(data, tuple(views))


def _date(day: int) -> str:
    return f"{from_us(day * DAY_US):%Y-%m-%d}"


def _bars(title: str, values: list[tuple[str, float]]) -> list[View]:
    """Return bars; none where there is nothing to compare."""
    shown = values[:SHOWN]
    names, sizes = [name for name, _ in shown], [value for _, value in shown]
    return [Plot(title, "bars", tuple(names), (("", tuple(sizes)),))] if len(shown) > 1 else []


def _tokens(sums: dict[str, Any]) -> int:
    return int(sums["tokens_in"] + sums["tokens_out"])


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
        ("errors", f"{found['serialisation_errors'] or 'no'} damaged places in the journal"),
        ("storage", bytes_said(found["storage_bytes"]) + (f", {bytes_said(growth)} more each day"
                    if (growth := found["storage_growth_bytes_per_day"]) is not None else "")),
        ("a session", f"{bytes_said(found['storage_per_session_bytes'])}" if count else ""),
        ("seen", f"{found['processes']} processes that have ended" if lines else ""),
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
