"""Handing the work over to another assistant, or a person."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Markdown, Result, Switched, Text, command
from p8.errors import P8Error, UsageError

if TYPE_CHECKING:
    from p8.app import App


@command(
    "handoff", "Write down where the work stands, for whoever goes on.",
    Arg("--to", "go on at once in a new session with this assistant", "model", default=""),
    Arg("--file", "write it there too", "path", default=""),
    Arg("--plain", "without a summary by the assistant", flag=True), doors=("repl",),
    examples=("handoff", "handoff --to claude", "handoff --file HANDOFF.md --plain"),
)  # fmt: skip
def handoff(app: App, args: Namespace) -> Result:
    """Write a handoff; with --to, begin the next session from it."""
    from p8.core.handoff import as_message

    if app.sessions.current is None:
        raise UsageError("no session is active", "resume the one to hand over")
    receiver = app.catalog.open(args.to) if args.to else None  # before anything is written
    if receiver is not None:
        receiver.close()
    target = (app.directory / Path(args.file).expanduser()) if args.file else None
    if target is not None and target.exists():
        raise UsageError(f"{target} exists already", "name another file")
    app.planner.settle()
    note = app.handoff.write("asked", summarise=not args.plain, to=args.to)
    if target is not None:
        try:
            target.write_text(note.text, "utf-8", "backslashreplace")
        except OSError as error:
            raise P8Error(f"{target} cannot be written: {error.strerror}", f"it is in {note.path}") from error
    data = {"session": note.session, "file": str(target or note.path), "by": note.by, "text": note.text}
    said = Text(f"Written to {target or note.path}" + (f", summary by {note.by}" if note.by else ""), "good")
    if not args.to:
        return Result(data, (Markdown(note.text), said))
    title = str(app.sessions.current.metadata.get("title") or "")
    app.note_place()
    app.sessions.pause_session()
    app.switch_model(args.to)
    made = app.ensure_session()
    app.sessions.annotate(continues=note.session, **({"title": f"→ {title}"[:72]} if title else {}))
    app.sessions.record_message(as_message(note))
    app.sessions.save_session()
    more = Text(f"{app.model} goes on from it in a new session; the old one is paused.")
    return Result(data | {"next": made.session_id}, (said, more), Switched(made.session_id, "new"))
