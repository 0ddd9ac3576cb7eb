"""Sessions: list, start, resume, name, tidy, fork, show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from p8.commands.registry import (
    Arg,
    Card,
    Confirm,
    OpenPicker,
    Result,
    Switched,
    Table,
    Text,
    command,
)
from p8.errors import Conflict, NotFound, UsageError
from p8.model import Entry, SessionRow, from_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from p8.app import App

WHICH = Arg("session", "id, part of one, title, or `last`; the current one where none is given", "session", "*")
UNDO_STEPS = 50


def age(time_us: int, now: datetime | None = None) -> str:
    """Return how long ago something was, short: 5s, 12m, 3h, 6d, or the date."""
    seconds = ((now or datetime.now(UTC)) - from_us(time_us)).total_seconds()
    for limit, unit, size in ((60, "s", 1), (3600, "m", 60), (86400, "h", 3600), (86400 * 14, "d", 86400)):
        if seconds < limit:
            return f"{max(int(seconds // size), 0)}{unit}"
    return from_us(time_us).strftime("%Y-%m-%d")


def short(session_id: str) -> str:
    """Return the part of an id that is enough to name it."""
    return session_id[16:] if len(session_id) == 27 else session_id


def marks(row: SessionRow) -> str:
    """Return what stands before a session's title."""
    return ("★ " if row.pinned else "") + ("⌂ " if row.archived else "")


def target(app: App, words: Sequence[str]) -> SessionRow:
    """
    Return the session that words name, or the current one.

    Raises:
        UsageError: none is current and none is named.
        NotFound, Conflict: the words fit none, or several.
    """
    if words:
        return app.store.sessions.resolve(" ".join(words), app.project.id)
    if app.sessions.current is None:
        raise UsageError("which session?", "name one by id, title or `last`; p8 session list shows them")
    return app.store.sessions.get(app.sessions.current.session_id)


def last_worked(app: App) -> SessionRow:
    """
    Return the project's newest session in which something was said, run or planned.

    Raises:
        NotFound: there is none.
    """
    for row in app.store.sessions.page(project=app.project.id, limit=100):
        if row.messages or row.executions or "plan" in row.meta:
            return row
    raise NotFound("no session in this project yet", "say something, and one begins")


def plain(row: SessionRow) -> dict[str, Any]:
    """Return a session as `--json` prints it."""
    data = row._asdict()
    times = {"created": row.created_us, "last": row.last_us, "ended": row.ended_us, "trashed": row.trashed_us}
    data |= {name: from_us(at).isoformat() if at is not None else None for name, at in times.items()}
    for name in times:
        data.pop(f"{name}_us", None)
    return data | {"status": str(row.status), "tags": list(row.tags)}


def remember_undo(app: App, row: SessionRow, what: str, before: dict[str, Any]) -> None:
    """Keep what it takes to undo a change."""
    steps = app.store.settings.get("undo", [])
    step = {"session": row.id, "what": what, "before": before, "title": row.title}
    app.store.settings.put("undo", [*steps, step][-UNDO_STEPS:])


def change(app: App, row: SessionRow, what: str, said: str, **changes: Any) -> Result:
    """Change something about a session, so that it can be undone."""
    before = {
        name: row.trashed_us is not None
        if name == "trashed"
        else list(row.tags)
        if name == "tags"
        else getattr(row, name)
        for name in changes
    }
    app.sessions.annotate(row.id, **changes)
    remember_undo(app, row, what, before)
    data = {"session": row.id, "done": what, **changes}
    return Result(data, (Text(f"{said}: {row.title or short(row.id)}"), Text("/session undo takes it back", "dim")))


@command(
    "session", "Pick a session to resume; in the shell, list them.",
    Arg("query", "words to begin the search with", nargs="*"),
    Arg("--all", "of all projects, not only this one", flag=True),
    aliases=("sess",), examples=("session", "session parser bug"),
)  # fmt: skip
def session(app: App, args: Namespace) -> Result:
    """Open the picker."""
    listed = _listed(app, session_list.fit({"query": args.query, "all": args.all, "limit": 20}, args.door))
    return Result(listed.data, listed.views, OpenPicker(" ".join(args.query), args.all))


@command(
    "session list", "List sessions, newest first.",
    Arg("query", "only where title, project, branch or a tag contains these words", nargs="*"),
    Arg("--all", "of all projects, not only this one", flag=True),
    Arg("--limit", "at most so many", default=50, type=int),
    Arg("--sort", "recent, created, size or title", default="recent", choices=("recent", "created", "size", "title")),
    Arg("--archived", "archived ones instead", flag=True),
    Arg("--trash", "those in the trash instead", flag=True),
    Arg("--tag", "only with this tag", "tag", default=""),
    Arg("--project", "of the project of this id", default=""),
    Arg("--after", "those that are listed behind this session, by id", default=""),
    aliases=("sess list",), examples=("session list --all", "session list --sort size --limit 5"),
)  # fmt: skip
def session_list(app: App, args: Namespace) -> Result:
    """List sessions."""
    app.sessions.custody.recover()
    return _listed(app, args)


def _listed(app: App, args: Namespace) -> Result:
    rows = app.store.sessions.page(
        project=args.project or (None if args.all else app.project.id), sort=args.sort, text=" ".join(args.query),
        archived=args.archived, trashed=args.trash, tag=args.tag, limit=args.limit,
        after=app.store.sessions.get(args.after) if args.after else None,
    )  # fmt: skip
    columns = ("TITLE", *(("PROJECT",) if args.all else ()), "AGE", "MSGS", "MODEL", "STATUS", "ID")
    cells = tuple(
        (
            marks(row) + (row.title or "(nothing said)"), *((row.project_name,) if args.all else ()), age(row.last_us),
            str(row.messages), row.model, str(row.status), short(row.id),
        )
        for row in rows
    )  # fmt: skip
    empty = (
        "No sessions here yet. p8 session list --all shows those of other projects."
        if not args.all
        else "No sessions yet."
    )
    return Result([plain(row) for row in rows], (Table(columns, cells, empty),))


@command("session new", "Begin a new session; the current one is paused.", Arg("title", "its title", nargs="*"),
         doors=("repl",), aliases=("sess new",), examples=("session new Fix the parser",))  # fmt: skip
def session_new(app: App, args: Namespace) -> Result:
    """Begin a session."""
    if app.sessions.current is not None:
        app.sessions.pause_session()
    made = app.ensure_session()
    if args.title:
        app.sessions.annotate(title=" ".join(args.title))
    return Result({"session": made.session_id}, (Text("New session."),), Switched(made.session_id, "new"))


@command("session end", "Complete the current session.", doors=("repl",), aliases=("sess end",))
def session_end(app: App, args: Namespace) -> Result:
    """End the session."""
    return _put_down(app, "completed", app.sessions.end_session)


@command(
    "session pause", "Put the current session down, to be resumed later.", doors=("repl",), aliases=("sess pause",)
)
def session_pause(app: App, args: Namespace) -> Result:
    """Pause the session."""
    return _put_down(app, "paused", app.sessions.pause_session)


def _put_down(app: App, what: str, act: Any) -> Result:
    current = app.sessions.current
    if current is None:
        raise UsageError("no session is active", "say something and one begins, or /resume one")
    act()
    said = f"Session {what}. What you type next begins a new one; /resume last goes back."
    return Result({"session": current.session_id, "status": what}, (Text(said),), Switched("", "new"))


@command("session info", "Show what is known of a session.", WHICH, aliases=("sess info", "session show-info"))
def session_info(app: App, args: Namespace) -> Result:
    """Show a session."""
    from p8.core.amounts import bytes_said

    row = target(app, args.session)
    holder = app.store.leases.holder(row.id)
    forks = app.store.sessions.children(row.id)
    fields = [
        ("id", row.id), ("status", f"{row.status}" + (f", open in process {holder.pid}" if holder else "")),
        ("project", f"{row.project_name}  {row.project}"), ("directory", row.directory),
        ("branch", f"{row.branch} {row.commit[:10]}".strip()), ("model", row.model),
        ("begun", f"{from_us(row.created_us):%Y-%m-%d %H:%M} UTC"), ("last", f"{age(row.last_us)} ago"),
        ("messages", str(row.messages)), ("commands", f"{row.commands} typed, {row.executions} run"),
        ("tokens", f"{row.tokens_in} in, {row.tokens_out} out" + (f", ${row.cost:.4f}" if row.cost else "")),
        ("size", f"{bytes_said(row.size_bytes)} in {row.entries:,} entries"), ("tags", " ".join(row.tags)),
        ("forked from", f"{row.parent} at {row.fork_seq}" if row.parent else ""),
        ("forks", ", ".join(short(f.id) for f in forks)),
    ]  # fmt: skip
    card = Card(marks(row) + (row.title or "(nothing said)"), tuple((k, v) for k, v in fields if v))
    return Result(plain(row) | {"forks": [f.id for f in forks]}, (card,))


@command("session rename", "Give a session a title.", Arg("title", "the new title", nargs="+"),
         Arg("--id", "which session; the current one", "session", default=""),
         aliases=("sess rename",), examples=("session rename Fix the parser",))  # fmt: skip
def session_rename(app: App, args: Namespace) -> Result:
    """Rename a session."""
    row = target(app, [args.id] if args.id else [])
    title = " ".join(args.title)
    before = {"title": row.title, "title_source": row.title_source}
    app.sessions.annotate(row.id, title=title)
    remember_undo(app, row, "renamed", before)
    return Result({"session": row.id, "title": title}, (Text(f"It is called {title!r} now."),))


@command("session pin", "Keep a session at the top of lists.", WHICH, aliases=("sess pin",))
def session_pin(app: App, args: Namespace) -> Result:
    """Pin a session."""
    return change(app, target(app, args.session), "pinned", "Pinned", pinned=True)


@command("session unpin", "Take a pin back.", WHICH, aliases=("sess unpin",))
def session_unpin(app: App, args: Namespace) -> Result:
    """Unpin a session."""
    return change(app, target(app, args.session), "unpinned", "Not pinned any more", pinned=False)


@command("session tag", "Add tags to a session.", Arg("tags", "the tags", "tag", nargs="+"),
         Arg("--id", "which session; the current one", "session", default=""), aliases=("sess tag",))  # fmt: skip
def session_tag(app: App, args: Namespace) -> Result:
    """Tag a session."""
    row = target(app, [args.id] if args.id else [])
    return change(app, row, "tagged", f"Tagged {' '.join(args.tags)}", tags=sorted({*row.tags, *args.tags}))


@command("session untag", "Remove tags from a session.", Arg("tags", "the tags", "tag", nargs="+"),
         Arg("--id", "which session; the current one", "session", default=""), aliases=("sess untag",))  # fmt: skip
def session_untag(app: App, args: Namespace) -> Result:
    """Untag a session."""
    row = target(app, [args.id] if args.id else [])
    return change(app, row, "untagged", "Tags removed", tags=[tag for tag in row.tags if tag not in args.tags])


@command("session archive", "Take a session out of the lists, to be found by search.", WHICH, aliases=("sess archive",))
def session_archive(app: App, args: Namespace) -> Result:
    """Archive a session."""
    return change(app, target(app, args.session), "archived", "Archived", archived=True)


@command("session unarchive", "Bring an archived session back into the lists.", WHICH, aliases=("sess unarchive",))
def session_unarchive(app: App, args: Namespace) -> Result:
    """Unarchive a session."""
    return change(app, target(app, args.session), "unarchived", "Back in the lists", archived=False)


@command("session delete", "Put a session into the trash.", WHICH, Arg("--yes", "do not ask", flag=True),
         aliases=("sess delete",), examples=("session delete 135313-67a5 --yes",))  # fmt: skip
def session_delete(app: App, args: Namespace) -> Result:
    """Trash a session."""
    row = target(app, args.session)
    if not args.yes:
        question = f"Put {row.title or row.id!r} ({row.messages} messages) into the trash?"
        return Result({"session": row.id, "done": ""}, (), Confirm(question, f"session delete {row.id} --yes"))
    current = app.sessions.current
    if current is not None and current.session_id == row.id:
        app.sessions.pause_session()
    done = change(app, row, "trashed", "In the trash", trashed=True)
    mine = current is not None and current.session_id == row.id
    return Result(done.data, done.views, Switched("", "new") if mine else None)


@command("session purge", "Remove sessions in the trash for good: entries, search index, journals, every byte.",
         Arg("session", "ids of sessions in the trash", "session", "*"),
         Arg("--expired", "those that are due, where trash.expire_days is set", flag=True),
         Arg("--dry-run", "list what would go, and do nothing", flag=True),
         Arg("--copies", "delete the kept copies of a damaged database too; other sessions are in them", flag=True),
         Arg("--yes", "do not ask", flag=True), aliases=("sess purge",),
         examples=("session purge 135313-67a5 --dry-run", "session purge --expired"))  # fmt: skip
def session_purge(app: App, args: Namespace) -> Result:
    """Purge sessions."""
    if args.expired and args.session:
        raise UsageError("name sessions, or say --expired", "not both")
    ids = [row.id for row in app.trash.due()] if args.expired else _in_trash(app, args.session)
    if not ids:
        if not args.expired:
            raise UsageError("which sessions?", "p8 session list --trash --all shows what can be purged")
        days = app.config.trash_expire_days
        said = (
            f"Nothing has been in the trash for {days} days."
            if days
            else "trash.expire_days is not set: nothing expires."
        )
        return Result({"purged": []}, (Text(said),))
    plan = app.trash.plan(ids)
    rows = tuple(
        (one.title or "(nothing said)", str(one.entries), f"{one.size_bytes:,}",
         f"{from_us(one.trashed_us or 0):%Y-%m-%d}", one.id)
        for one in plan.doomed
    )  # fmt: skip
    table = Table(("TITLE", "ENTRIES", "BYTES", "IN TRASH SINCE", "ID"), rows)
    copies = tuple(
        Text(f"{name} is a copy of a damaged database and may hold them too"
             + (": it will be deleted" if args.copies else "; --copies deletes it"), "warning")
        for name in plan.copies
    )  # fmt: skip
    data: dict[str, Any] = {"sessions": [one._asdict() for one in plan.doomed], "copies": list(plan.copies)}
    if args.dry_run:
        return Result(data | {"purged": []}, (table, *copies, Text("Nothing was removed.", "dim")))
    if not args.yes:
        many = f"{len(ids)} sessions" if len(ids) > 1 else repr(plan.doomed[0].title or ids[0])
        again = f"session purge {' '.join(ids)} --yes{' --copies' if args.copies else ''}"
        question = f"Remove {many} for good? This cannot be taken back."
        return Result(data | {"purged": []}, (table, *copies), Confirm(question, again))
    gone = app.trash.purge(ids, args.copies)
    left = tuple(Text(f"Bytes of it are still in {where}.", "warning") for where in gone.left)
    data |= {"purged": ids, "entries": gone.entries, "repacked": gone.repacked, "left": list(gone.left)}
    said = f"Removed for good: {len(ids)} session(s), {gone.entries} entries."
    return Result(data | {"copies": list(gone.copies)}, (Text(said), *left), status=1 if gone.left else 0)


def _in_trash(app: App, words: Sequence[str]) -> list[str]:
    """Return the ids that words name, each of one session in the trash, by its id or a part of that."""
    found: list[str] = []
    trash = app.store.sessions.page(trashed=True, limit=100_000)
    for word in words:
        fitting = [row.id for row in trash if row.id == word] or [row.id for row in trash if word in row.id]
        if len(fitting) > 1:
            raise Conflict(f"{word!r} fits several sessions in the trash", ", ".join(fitting[:4]))
        found.append(fitting[0] if fitting else app.store.sessions.resolve(word, app.project.id).id)
    return found


@command("session undo", "Take back the last rename, pin, tag, archive, delete or relink.", aliases=("sess undo",))
def session_undo(app: App, args: Namespace) -> Result:
    """Undo."""
    step = take_back(app)
    return Result(step, (Text(taken_back(step)),))


def take_back(app: App) -> dict[str, Any]:
    """
    Undo the last change; return its step.

    Raises:
        NotFound: there is none.
    """
    steps = app.store.settings.get("undo", [])
    if not steps:
        raise NotFound("nothing to take back")
    step: dict[str, Any] = steps[-1]
    if step.get("relink"):
        from p8.core.relink import Relink

        Relink(app.sessions).undo(step["relink"])
    else:
        app.sessions.annotate(step["session"], **step["before"])
    app.store.settings.put("undo", steps[:-1])
    return step


def taken_back(step: dict[str, Any]) -> str:
    """Return what a person reads of an undone step."""
    return f"Taken back: {step['title'] or short(step['session'])} is not {step['what']} any more."


@command("session fork", "Continue a session from its end, or from an entry, as a new one.", WHICH,
         Arg("--at", "sequence number of the last entry to keep", type=int), doors=("repl",), aliases=("sess fork",),
         examples=("session fork", "session fork last --at 12"))  # fmt: skip
def session_fork(app: App, args: Namespace) -> Result:
    """Fork a session."""
    row = target(app, args.session)
    made = app.sessions.fork_session(row.id, args.at)
    said = Text(f"A fork of {row.title or short(row.id)}; the original stays as it is.")
    return Result({"session": made.session_id, "parent": row.id}, (said,), Switched(made.session_id, "forked"))


@command("session show", "Show a session's transcript.", WHICH, Arg("--limit", "newest entries", default=200, type=int),
         Arg("--before", "those before this entry: its number, or SESSION:NUMBER where a fork shows its parent's",
             default=""),
         aliases=("sess show",), examples=("session show last --limit 20",))  # fmt: skip
def session_show(app: App, args: Namespace) -> Result:
    """Show a transcript."""
    from p8.commands.transcript import entry_data, entry_views

    row = target(app, args.session)
    entries = app.store.sessions.entries(row.id, limit=args.limit, newest=True, before=_place(row, args.before))
    data = {"session": plain(row), "entries": [entry_data(e) for e in entries]}
    return Result(data, (Text(row.title, "title"), *(view for e in entries for view in entry_views(e))))


def _place(row: SessionRow, words: str) -> Entry | None:
    """Return an entry to page back from."""
    stream, _, number = words.rpartition(":")
    if words and not (number.isdecimal() and number.isascii() and len(number) < 12):
        raise UsageError(f"not an entry: {words[:60]!r}", "its number, or SESSION:NUMBER")
    return Entry(stream or row.id, int(number), 0, "", {}) if words else None


@command("session status", "Show how safe what you typed is.", aliases=("sess status",))
def session_status(app: App, args: Namespace) -> Result:
    """Show durability."""
    state = app.store.durability()
    fields = (
        ("on disk", "everything" if not state.unwritten else f"NOT: {state.unwritten} entries are only in memory"),
        ("power cut", "safe" if not state.unsynced_bytes else f"{state.unsynced_bytes} bytes not synced yet"),
        ("database", "up to date" if not state.unfolded else "behind the journal; it catches up by itself"),
        ("home", str(app.store.home)),
        *((("problem", state.problem),) if state.problem else ()),
    )
    data = {name: getattr(state, name) for name in state._fields} | {"home": str(app.store.home)}
    return Result(data, (Card("", fields), *(Text(f"{n.text} — {n.hint}", "warning") for n in app.store.notices())))


@command("resume", "Go on with an earlier session.",
         Arg("session", "id, title, words in it, or `last`", "session", "*"),
         Arg("--take-over", "even if another p8 has it open", flag=True), doors=("repl",),
         examples=("resume last", "resume parser bug"))  # fmt: skip
def resume(app: App, args: Namespace) -> Result:
    """Resume a session."""
    if not args.session:
        return Result(effect=OpenPicker())
    words = " ".join(args.session)
    try:
        row = target(app, args.session)
    except NotFound:
        return Result(effect=OpenPicker(words))
    app.sessions.resume_session(row.id, take_over=args.take_over)
    return Result({"session": row.id}, (), Switched(row.id, "resumed"))
