"""Projects: create, list, show, tag, pin, extend, delete, clean up."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Card, Confirm, Result, Table, Text, command
from p8.commands.session import age, short
from p8.core.hosting import Hosted, said
from p8.core.projects import prefix_from
from p8.model import from_us

if TYPE_CHECKING:
    from p8.app import App

WHICH = Arg("project", "id, name or the beginning of one; this directory's where none is given", "project", "?")


def target(app: App, words: str | None) -> Hosted:
    """Return the project that words name, or the directory's."""
    return app.hosting.find(words) if words else app.hosting.get(app.project.id)


@command("project", "Show this directory's project.", WHICH, examples=("project",))
def project(app: App, args: Namespace) -> Result:
    """Show a project."""
    return _shown(app, target(app, args.project))


@command("project show", "Show a project with its sessions.", WHICH)
def project_show(app: App, args: Namespace) -> Result:
    """Show a project."""
    return _shown(app, target(app, args.project))


def _shown(app: App, found: Hosted) -> Result:
    records = app.hosting.sessions(found.id, 10)
    s = found.statistics
    kept = f"until {from_us(found.kept_until_us):%Y-%m-%d}" if found.kept_until_us else ""
    fields = (
        ("id", found.id), ("root", found.root), ("workspace", found.workspace), ("about", found.description),
        ("tags", " ".join(found.tags)), ("pinned", "yes" if found.pinned else ""), ("kept", kept),
        ("in the trash", f"since {from_us(found.trashed_us):%Y-%m-%d}" if found.trashed_us else ""),
        ("used", f"{age(found.last_us)} ago"),
        ("sessions", f"{s.sessions}: {s.messages} messages, {s.commands} typed, {s.executions} run"),
        ("tokens", f"{s.tokens_in:,} in, {s.tokens_out:,} out" + (f", ${s.cost:.4f}" if s.cost else "")),
    )  # fmt: skip
    rows = tuple(
        (r.title or "(nothing said)", r.last[:10], str(r.messages), r.status, short(r.session_id)) for r in records
    )
    data = found.to_dict() | {"records": [{name: getattr(r, name) for name in r.__slots__} for r in records]}
    table = Table(("SESSION", "LAST", "MSGS", "STATUS", "ID"), rows, "No sessions yet.")
    return Result(data, (Card(found.name, tuple((k, v) for k, v in fields if v)), table))


@command(
    "project create", "Make a project: of this directory, or a workspace that P8 keeps.",
    Arg("name", "small letters, digits and hyphens; the directory's name where none is given", nargs="?"),
    Arg("--workspace", "a workspace in P8's home", flag=True), Arg("--about", "a description", default=""),
    Arg("--tag", "tags, with commas", "tag", default=""),
    examples=("project create my-api", "project create scratch --workspace --tag try"),
)  # fmt: skip
def project_create(app: App, args: Namespace) -> Result:
    """Create a project."""
    name = args.name or prefix_from(app.directory.name)
    tags = [tag for tag in args.tag.split(",") if tag]
    place = None if args.workspace else app.directory
    made = app.hosting.create(name, directory=place, description=args.about, tags=tags)
    if place is not None:
        app.move(app.directory)  # it is another project now
    return Result(made.to_dict(), (Text(f"{made.id} in {made.root}", "good"),))


@command(
    "project list", "List projects, last used first.", Arg("--prefix", "only ids that begin so", default=""),
    Arg("--tag", "only with these tags, with commas", "tag", default=""),
    Arg("--trash", "those in the trash instead", flag=True), examples=("project list --tag work",),
)  # fmt: skip
def project_list(app: App, args: Namespace) -> Result:
    """List projects."""
    found = app.hosting.list(args.prefix, [tag for tag in args.tag.split(",") if tag], args.trash)
    rows = tuple(
        (
            ("★ " if p.pinned else "") + p.name,
            age(p.last_us),
            str(p.statistics.sessions),
            " ".join(p.tags),
            p.id,
            p.root,
        )
        for p in found
    )
    table = Table(("PROJECT", "USED", "SESSIONS", "TAGS", "ID", "ROOT"), rows, "No projects.")
    return Result([p.to_dict() for p in found], (table,))


@command("project tag", "Add tags to a project; those with a ^ before them are removed.",
         Arg("tags", "the tags", "tag", nargs="+"), Arg("--project", "which", "project", default=""),
         examples=("project tag work api", "project tag ^old --project my-api"))  # fmt: skip
def project_tag(app: App, args: Namespace) -> Result:
    """Tag a project."""
    add = [tag for tag in args.tags if not tag.startswith("^")]
    remove = [tag[1:] for tag in args.tags if tag.startswith("^")]
    changed = app.hosting.tag(target(app, args.project).id, add, remove)
    return Result(changed.to_dict(), (Text(f"{changed.name}: {' '.join(changed.tags) or 'no tags'}"),))


@command("project pin", "Keep a project from ever being cleaned up.", WHICH)
def project_pin(app: App, args: Namespace) -> Result:
    """Pin a project."""
    changed = app.hosting.pin(target(app, args.project).id)
    return Result(changed.to_dict(), (Text(f"{changed.name} is pinned."),))


@command("project unpin", "Take a pin back.", WHICH)
def project_unpin(app: App, args: Namespace) -> Result:
    """Unpin a project."""
    changed = app.hosting.pin(target(app, args.project).id, False)
    return Result(changed.to_dict(), (Text(f"{changed.name} is not pinned any more."),))


@command("project extend", "Keep a project for some days from now, used or not.", WHICH,
         Arg("--days", "so many", default=30, type=int), examples=("project extend --days 90",))  # fmt: skip
def project_extend(app: App, args: Namespace) -> Result:
    """Extend a project."""
    changed = app.hosting.extend(target(app, args.project).id, args.days)
    return Result(changed.to_dict(), (Text(f"{changed.name} is kept for {args.days} days."),))


@command("project delete", "Put a project and its sessions into the trash; your own directory stays as it is.",
         Arg("project", "which", "project"), Arg("--yes", "do not ask", flag=True))  # fmt: skip
def project_delete(app: App, args: Namespace) -> Result:
    """Trash a project."""
    found = app.hosting.find(args.project)
    if not args.yes:
        what = f"{found.statistics.sessions} sessions" + (f" and {found.workspace}" if found.workspace else "")
        return Result(None, (), Confirm(f"Put {found.id} ({what}) into the trash?", f"project delete {found.id} --yes"))
    gone = app.hosting.delete(found.id)
    return Result(gone.to_dict(), (Text(f"In the trash: {gone.id}"), Text("p8 project restore takes it back", "dim")))


@command("project restore", "Take a project out of the trash.", Arg("project", "which", "project"))
def project_restore(app: App, args: Namespace) -> Result:
    """Restore a project."""
    back = app.hosting.restore(app.hosting.find(args.project).id)
    return Result(back.to_dict(), (Text(f"Back: {back.id}"),))


@command("project cleanup", "Warn of, mark and put into the trash what nobody uses; see the setting project_cleanup.",
         Arg("--dry-run", "only say what would be done", flag=True),
         examples=("project cleanup --dry-run",))  # fmt: skip
def project_cleanup(app: App, args: Namespace) -> Result:
    """Clean up."""
    steps = app.hosting.cleanup(dry_run=args.dry_run)
    data = [{"project": s.project, "action": s.action, "day": s.day, "left_days": s.left_days} for s in steps]
    lines = [Text(said(step), "warning") for step in steps] or [Text("Nothing is due.")]
    note = [Text("Nothing was done.", "dim")] if args.dry_run else []
    if not app.config.project_cleanup:
        note.append(Text("By itself this never happens: the setting project_cleanup is false.", "dim"))
    return Result(data, (*lines, *note))
