"""Import: conversations of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Confirm, Result, Table, Text, View, command
from p8.commands.session import age, short
from p8.errors import UsageError
from p8.model import from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.transfer import Found, Outcome, Report

MOST = 20
NEW = ("new", "grown", "forked")
SAYS = {"new": "new", "grown": "more of it", "forked": "more of it, as a fork", "trash": "in the trash"}


@command(
    "import", "Bring in P8's archives, and conversations of Claude Code, Codex, Gemini CLI, llm, aider and opencode.",
    Arg("path", "an archive, or a file or folder of theirs", "path", "*"),
    Arg("--scan", "all that are in the usual places", flag=True),
    Arg("--dry-run", "only say what would come", flag=True),
    examples=("import --scan --dry-run", "import --scan", "import ~/.claude/projects", "import work.p8.zip"),
)  # fmt: skip
def import_(app: App, args: Namespace) -> Result:
    """Import conversations; without words, say what there is."""
    if args.path and args.scan:
        raise UsageError("either a path or --scan", "p8 import --scan, or p8 import ~/.claude")
    dry = args.dry_run or not (args.path or args.scan)
    archives = [Path(path) for path in args.path if _is_archive(Path(path))]
    if archives:
        if len(archives) < len(args.path):
            raise UsageError("archives and other files at once", "import them one after the other")
        results = [_archive(app, path, dry) for path in archives]
        return Result([r.data for r in results], tuple(view for r in results for view in r.views))
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


def _is_archive(path: Path) -> bool:
    try:
        with path.expanduser().open("rb") as file:
            return file.read(4) == b"PK\3\4"
    except OSError:
        return False


def _archive(app: App, path: Path, dry: bool) -> Result:
    """Take in one of P8's own archives, or say what is in it."""
    from p8.core.archive import made_on, read_archive, restore_archive

    archive = read_archive(path.expanduser(), app.progress)
    app.progress(1.0, "")
    rows = tuple(
        (carried.row.title or "(nothing said)", f"{carried.entries:,}", carried.row.id)
        for carried in archive.sessions[:MOST]
    )
    made = made_on(archive)
    head = Text(
        f"{path.name}: {len(archive.sessions)} sessions, {archive.entries:,} entries"
        + (f", of {made}" if made else ""),
        "title",
    )
    views: list[View] = [head, Table(("TITLE", "ENTRIES", "ID"), rows)]
    data: dict[str, Any] = {"archive": str(path), "sessions": [c.row.id for c in archive.sessions]}
    if dry:
        return Result(data, (*views, Text("Nothing was imported.", "dim")))
    done = restore_archive(app.store, archive, app.progress)
    parts = [(len(done.added), "new"), (len(done.continued), "continued"), (len(done.copied), "as copies"),
             (len(done.known), "here already"), (len(done.held), "open, left as they are")]  # fmt: skip
    said = ", ".join(f"{count} {what}" for count, what in parts if count)
    data |= {"added": list(done.added), "continued": list(done.continued), "copied": dict(done.copied),
             "known": list(done.known), "held": list(done.held), "entries": done.entries}  # fmt: skip
    return Result(data, (*views, Text(f"Imported: {said}; {done.entries:,} entries.", "good")))


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
