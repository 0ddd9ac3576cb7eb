"""What happened, in order, and what happens now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Follow, Result, Table, command
from p8.commands.session import age, short, target
from p8.errors import UsageError
from p8.model import Kind

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.store.feed import Event

MOST = 100_000


@command(
    "log", "Show what happened in all sessions, in order; with --follow, as it happens.",
    Arg("--follow", "go on until Ctrl-C; with --json an object a line", flag=True),
    Arg("--after", "a cursor that an earlier run printed, or start, or now; the newest where none is given"),
    Arg("--session", "only of this session", "session", default=""),
    Arg("--kind", "only of this kind", choices=tuple(map(str, Kind))),
    Arg("--what", "only what says this: metrics, error, handoff, started …; several with commas between", default=""),
    Arg("--limit", "at most so many", default=50, type=int),
    examples=("log", "log --follow --json", "log --after start --kind event --limit 1000", "log --session last",
              "log --follow --what metrics,error --json"),
)  # fmt: skip
def log(app: App, args: Namespace) -> Result:
    """Show or follow events."""
    from p8.core.log import concerns, follow, now, plain
    from p8.store.feed import START

    said = {word.strip() for word in args.what.split(",")} - {""}
    session = target(app, [args.session]).id if args.session else ""

    def wanted(event: Event) -> bool:
        entry = event.entry
        return (
            (not session or concerns(event, session))
            and (not args.kind or entry.kind == args.kind)
            and (not said or str(entry.data.get("what", "")) in said)
        )

    given = {"start": START}.get(args.after, args.after)
    given = now(app.store) if given == "now" or (args.follow and not given) else given
    if args.follow:
        if args.door != "cli":
            raise UsageError("the prompt cannot wait for what happens", "p8 log --follow, in another terminal")
        if given != START:
            app.store.feed.after(given, 1)  # a bad cursor is told before anything is waited for
        events = follow(app.store, given, wanted)
        return Result(None, (), Follow((plain(event), line_of(event)) for event in events))
    found = _found(app, given, max(1, min(args.limit, MOST)), wanted)
    rows = tuple((age(e.entry.time_us), short(e.entry.stream), e.entry.kind, what(e), e.cursor) for e in found)
    table = Table(("AGE", "SESSION", "KIND", "WHAT", "CURSOR"), rows, "Nothing has happened yet.")
    return Result([plain(event) for event in found], (table,))


def _found(app: App, given: str | None, limit: int, wanted: Callable[[Event], bool]) -> list[Event]:
    """Return the first `limit` events after a cursor; the newest where none is given. Oldest first."""
    from p8.store.feed import START

    feed = app.store.feed
    if given:
        found: list[Event] = []
        while len(found) < limit and (batch := feed.after(given)):
            found += filter(wanted, batch)
            given = batch[-1].cursor
        return found[:limit]
    reach = limit
    while True:  # what is wanted may lie far apart: look back twice as far until there is enough of it
        cursor = feed.before_last(reach)
        newest: list[Event] = []
        while batch := feed.after(cursor):
            newest = [*newest, *filter(wanted, batch)][-limit:]
            cursor = batch[-1].cursor
        if len(newest) >= limit or feed.before_last(reach) == START:
            return newest
        reach *= 4


def what(event: Event) -> str:
    """Return a line about an event."""
    entry = event.entry
    said = str(entry.data.get("what", ""))
    values = entry.data.get("set")
    changed = ", ".join(map(str, values)) if said == "annotated" and isinstance(values, dict) else ""
    who = f"{entry.role}: " if entry.role else ""
    if said == "metrics":
        from p8.core.pulse import line_of as metrics_line

        return f"metrics, {metrics_line(entry.data)}"
    return " ".join(f"{said} {changed} {who}{entry.text}".split())[:200]


def line_of(event: Event) -> str:
    """Return an event as one line for a person."""
    entry = event.entry
    return f"{entry.time:%H:%M:%S} {short(entry.stream)} {entry.kind} {what(event)}"
