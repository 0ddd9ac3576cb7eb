"""What happened, in order, and what happens now."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Follow, Result, Table, command
from p8.commands.session import age, short, target
from p8.errors import UsageError
from p8.model import Kind

if TYPE_CHECKING:
    from p8.app import App
    from p8.store.feed import Event


@command(
    "log", "Show what happened in all sessions, in order; with --follow, as it happens.",
    Arg("--follow", "go on until Ctrl-C; with --json a JSON object a line", flag=True),
    Arg("--from", "a cursor, start or now; the newest where none is given", default=""),
    Arg("--session", "only of this session", "session", default=""),
    Arg("--kind", "only of this kind", choices=tuple(Kind)), Arg("--limit", "at most so many", default=50, type=int),
    examples=("log", "log --follow --json", "log --from start --kind event --limit 1000"),
)  # fmt: skip
def log(app: App, args: Namespace) -> Result:
    """Show or follow events."""
    from p8.core.log import follow, plain
    from p8.store.feed import START

    feed = app.store.feed
    session = target(app, [args.session]).id if args.session else ""
    given = getattr(args, "from")

    def wanted(event: Event) -> bool:
        return (not session or event.entry.stream == session) and (not args.kind or event.entry.kind == args.kind)

    if args.follow:
        if getattr(args, "door", "cli") != "cli":
            raise UsageError("the prompt cannot wait for what happens", "p8 log --follow, in another terminal")
        cursor = START if given == "start" else feed.now() if given in {"", "now"} else given
        feed.after(cursor, 1)
        return Result(None, (), Follow((plain(event), line_of(event)) for event in follow(app.store, cursor, wanted)))
    limit = max(1, min(args.limit, 100_000))
    if given:
        cursor = START if given == "start" else feed.now() if given == "now" else given
    else:
        cursor = feed.before_last(limit) if not session and not args.kind else START
    found: list[Event] = []
    while batch := feed.after(cursor):
        found += [event for event in batch if wanted(event)]
        cursor = batch[-1].cursor
        if given and len(found) >= limit:
            break
    found = found[:limit] if given else found[-limit:]
    rows = tuple((age(e.entry.time_us), short(e.entry.stream), e.entry.kind, what(e), e.cursor) for e in found)
    table = Table(("AGE", "SESSION", "KIND", "WHAT", "CURSOR"), rows, "Nothing has happened yet.")
    return Result([plain(event) for event in found], (table,))


def what(event: Event) -> str:
    """Return a line about an event."""
    entry = event.entry
    said = str(entry.data.get("what", ""))
    who = f"{entry.role}: " if entry.role else ""
    return " ".join(f"{said} {who}{entry.text}".split())[:200]


def line_of(event: Event) -> str:
    """Return an event as one line for a person."""
    entry = event.entry
    return f"{entry.time:%H:%M:%S} {short(entry.stream)} {entry.kind} {what(event)}"
