"""Projects: which there are, and relinking one that is found again elsewhere."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Confirm, Result, Table, Text, command
from p8.commands.session import UNDO_STEPS, age, short

if TYPE_CHECKING:
    from p8.app import App


@command("project list", "List projects, last used first.")
def project_list(app: App, args: Namespace) -> Result:
    """List projects."""
    rows = app.store.projects.all()
    cells = tuple((r["name"], age(r["last"]), r["remote"], r["root"], r["id"]) for r in rows)
    return Result(rows, (Table(("NAME", "AGE", "REMOTE", "WHERE", "ID"), cells, "No project yet."),))


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
