"""Import: conversations of other tools."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Confirm, Result, Table, Text, View, command
from p8.commands.session import age, short
from p8.errors import UsageError
from p8.model import from_us

if TYPE_CHECKING:
    from p8.app import App
    from p8.core.transfer import Found, Outcome, Report

MOST = 20
NEW = ("new", "grown", "forked")
SAYS = {"new": "new", "grown": "more of it", "forked": "more of it, as a fork", "trash": "in the trash"}


@command(
    "import", "Bring in conversations of Claude Code, Codex, Gemini CLI, llm, aider and opencode.",
    Arg("path", "a file or folder of theirs", "path", "*"),
    Arg("--scan", "all that are in the usual places", flag=True),
    Arg("--dry-run", "only say what would come", flag=True),
    examples=("import --scan --dry-run", "import --scan", "import ~/.claude/projects"),
)  # fmt: skip
def import_(app: App, args: Namespace) -> Result:
    """Import conversations; without words, say what there is."""
    if args.path and args.scan:
        raise UsageError("either a path or --scan", "p8 import --scan, or p8 import ~/.claude")
    dry = args.dry_run or not (args.path or args.scan)
    found: list[Found] = []
    for path in args.path:
        found += [one for one in app.transfer.detect(Path(path)) if one not in found]
    if not args.path:
        found = app.transfer.scan()
    report = (app.transfer.preview if dry else app.transfer.run)(found, app.progress)
    new = [one for one in report.outcomes if one.state in NEW]
    ask = not args.path and not args.scan and not args.dry_run
    if ask and new and args.door == "repl":
        return Result(_data(report, dry), _views(report, dry=True), Confirm("Import them?", "import --scan"))
    hint = (Text("p8 import --scan brings them in", "dim"),) if ask and new else ()
    return Result(_data(report, dry), (*_views(report, dry=dry), *hint))


def _views(report: Report, *, dry: bool) -> tuple[View, ...]:
    """Return what a person reads of a report: figures by tool, what is new, what went wrong."""
    outcomes = report.outcomes
    tools = list(dict.fromkeys(one.tool for one in outcomes))
    rows = tuple((tool, *_figures([one for one in outcomes if one.tool == tool])) for tool in tools)
    columns = ("TOOL", "FOUND", "NEW", "GROWN", "KNOWN", "ENTRIES", "UNREADABLE")
    new = [one for one in outcomes if one.state in NEW]
    views: list[View] = [Table(columns, rows, "Nothing was found. p8 import PATH looks in another place.")]
    listed = sorted(new, key=lambda one: -one.ended_us)[:MOST]
    if listed:
        cells = tuple(
            (one.tool, age(one.ended_us), str(one.added), SAYS[one.state], short(one.session) if not dry else "",
             one.title or "(nothing said)") for one in listed
        )  # fmt: skip
        views.append(Table(("TOOL", "AGE", "ENTRIES", "", "ID", "TITLE"), cells))
    if len(new) > len(listed):
        views.append(Text(f"… and {len(new) - len(listed)} more", "dim"))
    bad = sum(one.bad for one in outcomes)
    if bad:
        views.append(Text(f"{bad} records could not be read and are left out", "warning"))
    views += [Text(f"left out: {why}", "warning") for _, why in report.problems[:MOST]]
    if outcomes:
        done = "would be imported" if dry else "imported"
        views.append(Text(f"{len(new)} conversations {done}, {sum(one.added for one in new)} entries.", "good"))
    return tuple(views)


def _figures(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    states = [one.state for one in outcomes if one.state != "empty"]
    grown = states.count("grown") + states.count("forked")
    known = states.count("known") + states.count("trash")
    figures = (
        len(states), states.count("new"), grown, known, sum(o.added for o in outcomes), sum(o.bad for o in outcomes),
    )  # fmt: skip
    return tuple(map(str, figures))


def _data(report: Report, dry: bool) -> dict[str, Any]:
    listed = []
    for one in report.outcomes:
        data = one._asdict()
        for name in ("started", "ended"):
            data[name] = from_us(data.pop(f"{name}_us")).isoformat()
        listed.append(data)
    states = [one.state for one in report.outcomes]
    return {
        "dry_run": dry,
        "totals": {state: states.count(state) for state in ("new", "grown", "forked", "known", "trash", "empty")}
        | {"entries": sum(o.added for o in report.outcomes), "unreadable": sum(o.bad for o in report.outcomes)},
        "conversations": listed,
        "problems": [{"source": source, "reason": why} for source, why in report.problems],
    }
