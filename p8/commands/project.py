"""Projects: make, list, show, describe, tag, pin, keep for longer, delete, restore, clean up, relink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Confirm, Result, Switched, Table, Text, command
from p8.commands.session import UNDO_STEPS, age, short
from p8.core.amounts import bytes_said, many
from p8.errors import UsageError
from p8.model import ProjectRow, from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.cleanup import Act
    from p8.core.project_trash import Leaving

WHICH = Arg("project", "id, name or part of one; that of this directory where none is given", "project", "*")
NAMED = Arg("--project", "which; that of this directory where none is given", "project", default="")
SHOWN = 20  #: sessions that `project show` lists


def target(app: App, words: Sequence[str], deleted: bool = False) -> ProjectRow:
    """
    Return the project that words name, or that of the directory.

    Raises:
        NotFound, Conflict: the words fit none, or several.
    """
    if words:
        return app.portfolio.resolve(" ".join(words), deleted)
    return app.portfolio.get(app.project.id)


def plain(app: App, row: ProjectRow) -> dict[str, Any]:
    """Return a project as `--json` prints it."""
    data = app.portfolio.metadata(row)
    return data | {"root": row.project.root, "remote": row.project.remote, "workspace": row.project.workspace}


def brief(row: ProjectRow) -> dict[str, Any]:
    """Return a project as `--json` prints it in lists."""
    from p8.core.portfolio import figures

    project = row.project
    return {
        "project_id": project.id, "name": project.name, "description": project.description, "tags": [*project.tags],
        "pinned": project.pinned, "root": project.root, "workspace": project.workspace, "remote": project.remote,
        "created_at": from_us(row.created_us).isoformat(), "last_accessed": from_us(row.used_us).isoformat(),
        "deleted_at": from_us(row.deleted_us).isoformat() if row.deleted_us is not None else None,
        "statistics": figures(row.statistics),
    }  # fmt: skip


@command(
    "project", "Show the project of this directory, or another one.", WHICH,
    examples=("project", "project my-api"),
)  # fmt: skip
def project(app: App, args: Namespace) -> Result:
    """Show a project."""
    return _shown(app, target(app, args.project))


@command("project show", "Show a project: what it is, what was done in it, its sessions.", WHICH,
         examples=("project show", "project show my-api-a7b3c2d1"))  # fmt: skip
def project_show(app: App, args: Namespace) -> Result:
    """Show a project."""
    return _shown(app, target(app, args.project))


def _shown(app: App, row: ProjectRow) -> Result:
    made = row.statistics
    one = row.project
    kept = from_us(app.portfolio.due_us(row))
    fields = (
        ("id", one.id), ("description", one.description), ("tags", " ".join(one.tags)), ("where", one.root),
        ("workspace", one.workspace), ("remote", one.remote),
        ("made", f"{from_us(row.created_us):%Y-%m-%d %H:%M} UTC"), ("last used", f"{age(row.used_us)} ago"),
        ("kept", "always: it is pinned" if one.pinned else f"until {kept:%Y-%m-%d} if it is not used"
         if app.cleanup.on else ""),
        ("sessions", f"{made.sessions}" + (f", {made.in_trash} in the trash" if made.in_trash else "")),
        ("work", f"{made.messages} messages, {made.commands} commands, {made.executions} run, {_span(made.span_us)}"),
        ("tokens", f"{made.tokens_in} in, {made.tokens_out} out" + (f", ${made.cost:.4f}" if made.cost else "")),
        ("size", f"{bytes_said(made.size_bytes)} said"),
        ("deleted", f"{from_us(row.deleted_us):%Y-%m-%d %H:%M} UTC" if row.deleted_us is not None else ""),
    )  # fmt: skip
    card = Card(("★ " if one.pinned else "") + one.name, tuple((k, v) for k, v in fields if v))
    cells = tuple(
        (r.title or "(nothing said)", age(r.last_us), str(r.messages), r.model, r.status, short(r.id))
        for r in app.portfolio.records(one.id, SHOWN)
    )
    columns = ("TITLE", "AGE", "MSGS", "MODEL", "STATUS", "ID")
    return Result(plain(app, row), (card, Table(columns, cells, "No session yet.")))


def _span(span_us: int) -> str:
    hours, minutes = divmod(span_us // 60_000_000, 60)
    return f"{hours} h {minutes:02d} min"


@command(
    "project create", "Make a project of this directory, or one that P8 hosts.",
    Arg("prefix", "what its id begins with: a letter, then letters, digits and hyphens, lower case"),
    Arg("--workspace", "in a folder of P8's own, instead of this directory", flag=True),
    Arg("--name", "what lists call it; the prefix where none is given", default=""),
    Arg("--description", "a sentence about it", default=""),
    Arg("--tag", "a tag, or several with commas between", default=""),
    Arg("--keep-days", "clean it up after so many days without use, where cleanup is on", type=int, default=0),
    Arg("--adopt", "let the sessions of this directory so far belong to it", flag=True),
    examples=("project create my-api --tag web,python", "project create scratch --workspace --keep-days 7"),
)  # fmt: skip
def project_create(app: App, args: Namespace) -> Result:
    """Make a project."""
    if args.workspace and args.adopt:
        raise UsageError("--adopt is about this directory, and --workspace makes another", "leave one of them out")
    before = None if args.workspace else app.project
    row = app.portfolio.create(
        args.prefix, None if args.workspace else app.directory, name=args.name, description=args.description,
        tags=[tag for tag in args.tag.split(",") if tag], keep_days=args.keep_days,
    )  # fmt: skip
    views = [
        Text(f"Project {row.project.id}.", "good"),
        Text(f"cd {row.project.root}" if args.workspace else "", "dim"),
    ]
    if before is not None:
        app.move(app.directory)
        if args.adopt:
            count = app.portfolio.adopt(row, before)
            views.append(Text(f"{count} session(s) of {before.name} belong to it now.", "dim"))
        elif app.store.sessions.count(project=before.id):
            views.append(Text(f"Earlier sessions here stay with {before.id}; --adopt would have brought them.", "dim"))
    return Result(plain(app, app.portfolio.get(row.project.id)), tuple(view for view in views if view.text))


@command(
    "project list", "List projects, last used first.",
    Arg("prefix", "only whose id begins with it", nargs="?", default=""),
    Arg("--tag", "only with this tag, or these with commas between", default=""),
    Arg("--trash", "those in the trash instead", flag=True),
    examples=("project list", "project list my --tag web", "project list --trash"),
)  # fmt: skip
def project_list(app: App, args: Namespace) -> Result:
    """List projects."""
    rows = app.portfolio.listed(args.prefix, [tag for tag in args.tag.split(",") if tag], args.trash)
    cells = tuple(
        (("★ " if r.project.pinned else "") + r.project.name, age(r.used_us), str(r.statistics.sessions),
         " ".join(r.project.tags), r.project.id, r.project.root)
        for r in rows
    )  # fmt: skip
    table = Table(("NAME", "AGE", "SESSIONS", "TAGS", "ID", "WHERE"), cells, "No projects.")
    return Result([brief(row) for row in rows], (table,))


@command("project describe", "Say what a project is.", Arg("text", "a sentence; none takes it back", nargs="*"), NAMED,
         examples=("project describe The public interface --project my-api",))  # fmt: skip
def project_describe(app: App, args: Namespace) -> Result:
    """Describe a project."""
    row = target(app, _one(args.project))
    return _said(app, app.portfolio.change(row.project.id, description=" ".join(args.text)[:1000] or None), "Noted")


@command("project tag", "Add tags to a project, or remove them.", Arg("tags", "the tags", nargs="+"), NAMED,
         Arg("--remove", "remove them instead", flag=True),
         examples=("project tag web python", "project tag web --remove --project my-api"))  # fmt: skip
def project_tag(app: App, args: Namespace) -> Result:
    """Tag a project."""
    row = target(app, _one(args.project))
    changed = app.portfolio.tag(row.project.id, *(((), args.tags) if args.remove else (args.tags,)))
    return _said(app, changed, f"Tags: {' '.join(changed.project.tags) or 'none'}")


@command("project pin", "Never clean a project up, and list it first.", WHICH, examples=("project pin my-api",))
def project_pin(app: App, args: Namespace) -> Result:
    """Pin a project."""
    return _said(app, app.portfolio.change(target(app, args.project).project.id, pinned=True), "Pinned")


@command("project unpin", "Take a pin back.", WHICH, examples=("project unpin my-api",))
def project_unpin(app: App, args: Namespace) -> Result:
    """Unpin a project."""
    return _said(app, app.portfolio.change(target(app, args.project).project.id, pinned=None), "Not pinned any more")


@command("project extend", "Keep a project for longer without use.", WHICH,
         Arg("--days", "so many days more; as many as cleanup waits where none are given", type=int, default=0),
         examples=("project extend my-api --days 90",))  # fmt: skip
def project_extend(app: App, args: Namespace) -> Result:
    """Extend a project."""
    row = app.portfolio.extend(target(app, args.project).project.id, args.days)
    return _said(app, row, f"Kept until {from_us(app.portfolio.due_us(row)):%Y-%m-%d} if it is not used")


@command("project delete", "Put a project into the trash: its sessions, and the folder where P8 hosts it.", WHICH,
         Arg("--yes", "do not ask", flag=True), examples=("project delete scratch --yes",))  # fmt: skip
def project_delete(app: App, args: Namespace) -> Result:
    """Delete a project."""
    row = target(app, args.project)
    one, count = row.project, row.statistics.sessions - row.statistics.in_trash
    if not args.yes:
        folder = f" and its folder {one.workspace}" if one.workspace else f"; {one.root} is not touched"
        question = f"Put {one.name} ({one.id}) into the trash: {count} session(s){folder}?"
        return Result({"project_id": one.id, "done": ""}, (), Confirm(question, f"project delete {one.id} --yes"))
    current = app.sessions.current
    mine = current is not None and current.metadata.get("project") == one.id
    if mine:
        app.sessions.pause_session()
    app.removal.delete(row)
    views = (Text(f"In the trash: {one.name}, {count} session(s)"),
             Text(f"project restore {one.id} takes it out again", "dim"))  # fmt: skip
    return Result({"project_id": one.id, "done": "deleted"}, views, Switched("", "new") if mine else None)


@command("project restore", "Take a project out of the trash, with its sessions and its folder.",
         Arg("project", "id, name or part of one", "project", "+"), examples=("project restore scratch",))  # fmt: skip
def project_restore(app: App, args: Namespace) -> Result:
    """Restore a project."""
    row = app.removal.restore(target(app, args.project, deleted=True))
    return _said(app, row, "Out of the trash")


@command(
    "project purge", "Remove projects in the trash for good: their sessions there, and the folder where P8 hosts it.",
    Arg("project", "one in the trash: id, name or part of one", "project", "*"),
    Arg("--expired", "those that are due, where trash.expire_days is set", flag=True),
    Arg("--dry-run", "list what would go, and do nothing", flag=True), Arg("--yes", "do not ask", flag=True),
    examples=("project purge scratch --dry-run", "project purge --expired"),
)  # fmt: skip
def project_purge(app: App, args: Namespace) -> Result:
    """Purge projects."""
    if bool(args.project) == args.expired:
        raise UsageError("name a project, or say --expired", "project list --trash shows what can be purged")
    kept = app.project_trash
    leaving = kept.due() if args.expired else [kept.leaving(target(app, args.project, deleted=True))]
    if not leaving:
        days = app.config.trash_expire_days
        said = (
            f"Nothing has been in the trash for {days} days." if days else "trash.expire_days is not set: nothing goes."
        )
        return Result({"purged": []}, (Text(said),))
    table = Table(
        ("NAME", "SESSIONS", "FOLDER", "IN TRASH SINCE", "GOES BY ITSELF", "ID"),
        tuple(
            (one.row.project.name, str(len(app.removal.sessions_in_trash(one.row))),
             bytes_said(one.size_bytes) if one.folder else "", f"{from_us(one.row.deleted_us or 0):%Y-%m-%d}",
             f"{from_us(one.goes_us):%Y-%m-%d %H:%M}" if one.goes_us else "", one.row.project.id)
            for one in leaving
        ),
    )  # fmt: skip
    data: dict[str, Any] = {"projects": [_leaving(one) for one in leaving], "purged": []}
    if args.dry_run:
        return Result(data, (table, Text("Nothing was removed.", "dim")))
    if not args.yes:
        words = "--expired" if args.expired else leaving[0].row.project.id
        what = leaving[0].row.project.name if len(leaving) == 1 else f"{len(leaving)} projects"
        return Result(data, (table,), Confirm(f"Remove {what} for good? This cannot be taken back.",
                                              f"project purge {words} --yes"))  # fmt: skip
    gone = [(one, kept.purge(one.row)) for one in leaving]
    said = ", ".join(f"{one.row.project.name} ({bytes_said(done.size_bytes)}, {many(len(done.sessions), 'session')})"
                     for one, done in gone)  # fmt: skip
    stay = tuple(Text(f"It stays: {why}", "warning") for _, done in gone for why in done.kept)
    purged = [one.row.project.id for one, _ in gone]
    return Result(data | {"purged": purged, "kept": [why for _, done in gone for why in done.kept]},
                  (Text(f"Removed for good: {said}."), *stay))  # fmt: skip


def _leaving(one: Leaving) -> dict[str, Any]:
    return {
        "project_id": one.row.project.id, "name": one.row.project.name, "folder": one.folder,
        "size_bytes": one.size_bytes, "deleted_at": from_us(one.row.deleted_us or 0).isoformat(),
        "goes_at": from_us(one.goes_us).isoformat() if one.goes_us else None,
    }  # fmt: skip


@command(
    "project cleanup", "Warn of, mark and delete projects that nobody uses, where that is switched on.",
    Arg("--dry-run", "only say what would be done now, also where it is off", flag=True),
    examples=("project cleanup --dry-run",),
)  # fmt: skip
def project_cleanup(app: App, args: Namespace) -> Result:
    """Clean up."""
    cleanup = app.cleanup
    if not args.dry_run and not cleanup.on:
        raise UsageError(
            "cleanup is off",
            f"project_cleanup = true in {app.config.home / 'config.toml'} switches it on; --dry-run shows what it does",
        )
    here = app.project.id
    acts = cleanup.plan(here) if args.dry_run else cleanup.run(here)
    cells = tuple((act.name, f"{act.day}", act.what, _day(act), act.project) for act in acts)
    table = Table(("PROJECT", "DAYS", "WHAT", "TO THE TRASH", "ID"), cells, "Nothing is due.")
    note = "" if cleanup.on else "Cleanup is off: nothing of this happens by itself."
    said = Text("Nothing was changed." if args.dry_run and cleanup.on else note, "dim")
    return Result([_act_data(act) for act in acts], (table, *((said,) if said.text else ())))


def _act_data(act: Act) -> dict[str, Any]:
    return {"project_id": act.project, "name": act.name, "what": act.what, "day": act.day,
            "deleted_on": from_us(act.deleted_on_us).isoformat() if act.deleted_on_us else None}  # fmt: skip


def _day(act: Act) -> str:
    return f"{from_us(act.deleted_on_us):%Y-%m-%d}" if act.deleted_on_us else ""


def _one(word: str) -> list[str]:
    return [word] if word else []


def _said(app: App, row: ProjectRow, text: str) -> Result:
    return Result(brief(row), (Text(f"{text}: {row.project.name}" if row.project.name not in text else text),))


@command("project relink", "Say that a project is in another directory now; its sessions follow.",
         Arg("old", "the project: its id, its name, or the directory where it was"),
         Arg("new", "the directory where it is now", "path"),
         Arg("--dry-run", "list what would change, and do nothing", flag=True),
         Arg("--yes", "do not ask", flag=True),
         examples=("project relink ~/old/tool ~/new/tool --dry-run", "project relink tool-1a2b3c4d ."))  # fmt: skip
def project_relink(app: App, args: Namespace) -> Result:
    """Relink a project."""
    import shlex

    from p8.core.relink import Relink

    relink = Relink(app.sessions)
    app.store.drain()
    plan = relink.plan(args.old, args.new, app.directory)
    name = plan.project["name"]
    rows = tuple(
        (moved.title or "(nothing said)", moved.directory, "=" if moved.to == moved.directory else moved.to,
         short(moved.id))
        for moved in plan.sessions
    )  # fmt: skip
    data = {
        "project": plan.project["id"], "from": plan.project["root"], "to": plan.root,
        "joined": plan.joined["id"] if plan.joined else "", "sessions": [m._asdict() for m in plan.sessions],
    }  # fmt: skip
    views = (
        Text(f"{name} ({plan.project['id']}): {plan.project['root'] or 'nowhere'} → {plan.root}", "title"),
        *((Text(f"{plan.root} counted as {plan.joined['name']} ({plan.joined['id']}): its sessions join.", "warning"),)
          if plan.joined else ()),
        Table(("TITLE", "DIRECTORY", "BECOMES", "ID"), rows, "No session changes."),
    )  # fmt: skip
    if args.dry_run:
        return Result(data | {"done": False}, (*views, Text("Nothing was changed.", "dim")))
    if not args.yes:
        again = f"project relink {shlex.quote(args.old)} {shlex.quote(args.new)} --yes"
        return Result(data | {"done": False}, views, Confirm(f"Relink {name}, {len(rows)} sessions?", again))
    step = relink.apply(plan)
    undo = {"session": "", "what": "relinked", "before": {}, "title": name, "relink": step}
    app.store.settings.put("undo", [*app.store.settings.get("undo", []), undo][-UNDO_STEPS:])
    app.move(app.directory)
    said = Text(f"{name} is at {plan.root} now, with {len(rows)} sessions changed.")
    return Result(data | {"done": True}, (said, Text("session undo takes it back", "dim")))
