"""Forks: compare two sessions, and carry what came of one back into another."""

from __future__ import annotations

from p8.commands.registry import Arg, Result, Table, Text, View, command
from p8.commands.session import short, target
from p8.commands.transcript import entry_data, entry_views
from p8.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.compare import Side

SHOWN = 30  #: entries of each side; --json has them all


@command("session diff", "Compare two sessions: messages, commands, files, figures.",
         Arg("old", "id, title or `last`", "session"),
         Arg("new", "the other one; the current one where none is given", "session", "?", default=""),
         aliases=("sess diff",), examples=("session diff 135313-67a5 last",))  # fmt: skip
def session_diff(app: App, args: Namespace) -> Result:
    """Compare two sessions."""
    from p8.core.compare import compare

    found = compare(app.sessions, target(app, [args.old]), target(app, [args.new] if args.new else ()))
    views: list[View] = []
    if found.parted is not None:
        first = found.parted.text.splitlines() or [""]
        views.append(Text(f"{found.shared} entries are the same, up to: {first[0][:70]}", "dim"))
    else:
        views.append(Text("They have nothing in common.", "dim"))
    for sign, side in (("-", found.old), ("+", found.new)):
        views.append(Text(f"{sign} {side.row.title or short(side.row.id)}", "title"))
        views += [view for entry in side.entries[-SHOWN:] for view in entry_views(entry)]
        if len(side.entries) > SHOWN:
            views.append(Text(f"(and {len(side.entries) - SHOWN} before these)", "dim"))
    paths = sorted(found.old.files.keys() | found.new.files.keys())
    rows = tuple((path, found.old.files.get(path, ""), found.new.files.get(path, "")) for path in paths)
    names = (short(found.old.row.id), short(found.new.row.id))
    if rows:
        views.append(Table(("FILE", *names), rows))
    figures = tuple((n, f"{v:g}", f"{found.new.figures[n]:g}") for n, v in found.old.figures.items())
    views.append(Table(("SINCE THEN", *names), figures))
    data = {"shared": found.shared, "old": _plain(found.old), "new": _plain(found.new)}
    return Result(data, tuple(views))


def _plain(side: Side) -> dict[str, object]:
    return {
        "session": side.row.id, "entries": [entry_data(e) for e in side.entries], "files": side.files,
        "figures": side.figures,
    }  # fmt: skip


@command("session carry", "Carry what came of another session into this one, as one entry.",
         Arg("session", "the other one: id, title or `last`", "session"),
         Arg("words", "what came of it; the assistant's last answer there, where none are given", nargs="*"),
         doors=("repl",), aliases=("sess carry",),
         examples=("session carry 135313-67a5", "session carry last The cache was the culprit"))  # fmt: skip
def session_carry(app: App, args: Namespace) -> Result:
    """Carry a conclusion over."""
    from p8.core.compare import conclusion

    row = target(app, [args.session])
    text = " ".join(args.words) or conclusion(app.sessions, row)
    if not text:
        raise UsageError(f"nothing was concluded in {row.title or short(row.id)}", "say it: /session carry ID WORDS")
    app.ensure_session()
    said = f"From the session “{row.title or short(row.id)}”:\n\n{text}"
    app.sessions.record_message({"role": "system", "content": said, "carried_from": row.id})
    first = text.splitlines()[0][:80]
    return Result({"session": row.id, "text": text}, (Text(f"Carried over: {first}", "good"),))
