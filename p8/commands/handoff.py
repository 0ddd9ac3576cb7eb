"""Handing the work over to another assistant, or a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Markdown, Result, Switched, Table, Text, command
from p8.commands.session import age, short, target
from p8.errors import P8Error, UsageError
from p8.model import Status, from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.handoff import Note


@command(
    "handoff", "Write down where the work stands, for whoever goes on.",
    Arg("--to", "go on at once in a new session with this assistant", "model", default=""),
    Arg("--file", "write it there too", "path", default=""),
    Arg("--plain", "without a summary by the assistant", flag=True),
    Arg("--session", "in the shell: which session", "session", default=""),
    examples=("handoff", "handoff --to claude", "handoff --file HANDOFF.md --plain"),
)  # fmt: skip
def handoff(app: App, args: Namespace) -> Result:
    """Write a handoff; with --to, begin the next session from it."""
    if args.door == "repl" and args.session:
        raise UsageError("--session is for the shell", "here it is this session's")
    row = target(app, [args.session]) if args.session else None
    if row is not None:
        app.sessions.resume_session(row.id)
    result = _written(app, args)
    if row is not None and row.status is Status.COMPLETED and app.sessions.current is not None and not args.to:
        app.sessions.end_session()  # as it was
    return result


def _written(app: App, args: Namespace) -> Result:
    from p8.core.handoff import as_message

    if app.sessions.current is None:
        raise UsageError("no session is active", "resume the one to hand over; in the shell, name it with --session")
    receiver = app.catalog.open(args.to) if args.to else None  # before anything is written
    if receiver is not None:
        receiver.close()
    file = (app.directory / Path(args.file).expanduser()) if args.file else None
    if file is not None and file.exists():
        raise UsageError(f"{file} exists already", "name another file")
    app.planner.settle()
    note = app.handoff.write("asked", summarise=not args.plain, to=args.to)
    if file is not None:
        try:
            file.write_text(note.text, "utf-8", "backslashreplace")
        except OSError as error:
            raise P8Error(f"{file} cannot be written: {error.strerror}", f"it is in {note.path}") from error
    data = {"id": note.path.stem.removeprefix("handoff-"), "session": note.session, "file": str(file or note.path),
            "by": note.by, "text": note.text}  # fmt: skip
    said = Text(f"Written to {file or note.path}" + (f", summary by {note.by}" if note.by else ""), "good")
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


def plain(note: Note) -> dict[str, str]:
    """Return a handoff as `--json` prints it."""
    created = from_us(note.created_us).isoformat()
    return {"id": note.id, "session": note.session, "title": note.title, "created": created, "file": str(note.path)}


@command("handoff list", "List the handoffs, newest first.",
         Arg("session", "of this session; all where none is given", "session", "*"),
         examples=("handoff list", "handoff list last"))  # fmt: skip
def handoff_list(app: App, args: Namespace) -> Result:
    """List handoffs."""
    from p8.core.handoff import Notes

    found = Notes(app.config.home).all(target(app, args.session).id if args.session else "")
    rows = tuple((one.title, age(one.created_us), short(one.session), one.id) for one in found)
    return Result([plain(one) for one in found], (Table(("TITLE", "AGE", "SESSION", "ID"), rows, "No handoff yet."),))


@command("handoff show", "Show a handoff.",
         Arg("handoff", "its id, its session's, or `last`", nargs="?", default="last"),
         examples=("handoff show", "handoff show 20261121-093000-123456-ab12"))  # fmt: skip
def handoff_show(app: App, args: Namespace) -> Result:
    """Show a handoff."""
    from p8.core.handoff import Notes

    notes = Notes(app.config.home)
    found = notes.get(args.handoff)
    text = notes.text(found)
    return Result(plain(found) | {"text": text}, (Markdown(text),))
