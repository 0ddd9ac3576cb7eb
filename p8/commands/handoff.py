"""Handing the work over to another assistant, or a person."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Markdown, Result, Switched, Text, command
from p8.errors import NotFound, P8Error, UsageError

if TYPE_CHECKING:
    from p8.app import App


@command(
    "handoff", "Write down where the work stands, for whoever goes on.",
    Arg("session", "in the shell: whose last handoff is shown; that of the last session", "session", "*"),
    Arg("--to", "go on at once in a new session with this assistant", "model", default=""),
    Arg("--file", "write it there too", "path", default=""),
    Arg("--plain", "without a summary by the assistant", flag=True),
    examples=("handoff", "handoff --to claude", "handoff --file HANDOFF.md --plain"),
)  # fmt: skip
def handoff(app: App, args: Namespace) -> Result:
    """Write a handoff; with --to, begin the next session from it."""
    from p8.core.handoff import as_message

    if getattr(args, "door", "repl") == "cli":
        return _last(app, args)
    if args.session:
        raise UsageError("here the current session is handed over", "/resume the other one first")
    if app.sessions.current is None:
        raise UsageError("no session is active", "resume the one to hand over")
    receiver = app.catalog.open(args.to) if args.to else None  # before anything is written
    if receiver is not None:
        receiver.close()
    target = _target(app, args.file)
    app.planner.settle()
    note = app.handoff.write("asked", summarise=not args.plain, to=args.to)
    if target is not None:
        _write(target, note.text)
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


def _last(app: App, args: Namespace) -> Result:
    """Show the handoff that was written last in a session; writing one needs the session at work."""
    from p8.commands.session import last_worked
    from p8.commands.session import target as session_of
    from p8.model import Kind

    if args.to:
        raise UsageError("handing over needs the session at work", f"p8 -r, then /handoff --to {args.to}")
    row = session_of(app, args.session) if args.session else last_worked(app)
    entries = app.store.sessions.entries(row.id, kinds=(Kind.EVENT,), whole=True)
    found = next((entry for entry in reversed(entries) if entry.data.get("what") == "handoff"), None)
    if found is None:
        raise NotFound(f"no handoff of {row.title or row.id!r} was written yet", f"p8 -r {row.id}, then /handoff")
    data = {"session": row.id, "at": found.time.isoformat(), "by": found.data.get("by", ""), "text": found.text}
    target = _target(app, args.file)
    if target is not None:
        _write(target, found.text)
        return Result(data | {"file": str(target)}, (Text(f"Written to {target}", "good"),))
    return Result(data, (Markdown(found.text),))


def _target(app: App, name: str) -> Path | None:
    target = (app.directory / Path(name).expanduser()) if name else None
    if target is not None and target.exists():
        raise UsageError(f"{target} exists already", "name another file")
    return target


def _write(target: Path, text: str) -> None:
    try:
        target.write_text(text, "utf-8", "backslashreplace")
    except OSError as error:
        raise P8Error(f"{target} cannot be written: {error.strerror}", "/handoff without --file keeps it") from error
