"""The doctor: what is wrong with everything P8 keeps, and setting it right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Confirm, Result, Table, Text, View, command
from p8.core.doctor import Report, plain
from p8.model import Finding

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App

COLUMNS = ("SESSION", "ENTRY", "WHERE", "WHAT")


@command("doctor", "Check everything P8 keeps: database, entries, counters, search index, journals, leases.",
         Arg("--repair", "set right what can be; nothing that can be read is lost", flag=True),
         Arg("--session", "only this session, by id or a part of it", "session", default=""),
         Arg("--yes", "do not ask", flag=True),
         examples=("doctor", "doctor --repair", "doctor --session 135313-67a5"))  # fmt: skip
def doctor(app: App, args: Namespace) -> Result:
    """Examine, and repair when told to. The status is 1 where something is wrong."""
    session = app.doctor.named(args.session) if args.session else ""
    if args.repair and args.yes:
        return _repaired(app.doctor.repair(session))
    report = app.doctor.examine(session)
    views = _views(report, args.repair)
    if args.repair and report.findings:
        only = f" --session {session}" if session else ""
        question = "Set this right? What is replaced is kept below damaged/ in the home."
        return Result(_data(report), views, Confirm(question, f"doctor --repair --yes{only}"), 1)
    return Result(_data(report), views, status=0 if report.clean else 1)


def _repaired(report: Report) -> Result:
    said: list[View] = [Text(line, "good") for line in report.done]
    said += [Text(f"Not done: {line}", "bad") for line in report.failed]
    if report.salvaged:
        said.append(Text(f"What can be read of sessions that are not whole: {', '.join(report.salvaged)}"))
    if report.kept:
        said.append(Text(f"Everything that was replaced is kept in {report.kept}", "dim"))
    fine = report.clean and not report.failed
    return Result(_data(report), (*said, *_views(report, False)), status=0 if fine else 1)


def _views(report: Report, repair: bool) -> tuple[View, ...]:
    views: list[View] = []
    if report.findings:
        views.append(Table(COLUMNS, tuple(_row(f, repair) for f in report.findings)))
        if not repair and any(f.repair for f in report.findings):
            views.append(Text("p8 doctor --repair sets right what can be, and asks before.", "dim"))
    else:
        count = report.looked_at
        said = f"{count.get('sessions', 0)} sessions, {count.get('entries', 0)} entries: nothing is wrong."
        views.append(Text(said, "good"))
    if report.known:
        views.append(Table(("KNOWN", "ENTRY", "WHERE", "WHAT"), tuple(_row(f, False) for f in report.known)))
    return tuple(views)


def _row(finding: Finding, repair: bool) -> tuple[str, ...]:
    does = f" → {finding.repair}" if repair and finding.repair else " → nothing can be done here" if repair else ""
    return (finding.session, str(finding.seq or ""), finding.file, f"{finding.area}: {finding.text}{does}")


def _data(report: Report) -> dict[str, Any]:
    return {
        "clean": report.clean, "findings": [plain(f) for f in report.findings],
        "known": [plain(f) for f in report.known], "looked_at": report.looked_at, "done": list(report.done),
        "failed": list(report.failed), "kept": report.kept, "salvaged": list(report.salvaged),
    }  # fmt: skip
