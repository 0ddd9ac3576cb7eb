"""Going back: restore a checkpoint's files, undo that, rewind a conversation with its files, compare checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p8.commands.checkpoint import git_line
from p8.commands.registry import Arg, Choose, Confirm, Result, Switched, Table, Text, View, command
from p8.commands.session import age, target
from p8.errors import NotFound, UsageError
from p8.model import Checkpoint, from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.files import Turn
    from p8.workspace.restore import Action, Plan, Record

SIGNS = {"write": "~", "delete": "-", "mode": "m", "skip": "!"}
CHECKPOINT = Arg("checkpoint", "name, id or `last`", "checkpoint", "*")
EVERYTHING = Arg("--everything", "also files that something else than P8 has changed since", flag=True)
DRY_RUN = Arg("--dry-run", "only show what would happen", flag=True)
YES = Arg("--yes", "do not ask", flag=True)
SHOWN = 40  #: paths; --dry-run shows them all


def _sign(action: Action) -> str:
    return "+" if action.what == "write" and action.old is None else SIGNS[action.what]


def _rows(actions: tuple[Action, ...] | list[Action]) -> tuple[tuple[str, str, str], ...]:
    return tuple((_sign(a), a.path + ("/" if _is_folder(a) else ""), a.reason) for a in actions)


def _is_folder(action: Action) -> bool:
    state = action.new or action.old
    return state is not None and state.is_folder


def plan_views(plan: Plan, whole: bool) -> tuple[View, ...]:
    """Return what is shown of a plan."""
    if not plan.actions and not plan.skipped:
        return (Text("Nothing to do: the files are as they were then.", "good"),)
    rows = _rows(plan.actions)
    views: list[View] = []
    if rows:
        shown = rows if whole else rows[:SHOWN]
        views.append(Table(("", "PATH", ""), shown))
        if len(rows) > len(shown):
            views.append(Text(f"… and {len(rows) - len(shown)} more; --dry-run shows them all", "dim"))
    if plan.skipped:
        views += [Text(f"{len(plan.skipped)} kept as they are; --everything includes them:", "warning"),
                  Table(("", "PATH", "WHY"), _rows(plan.skipped)[: None if whole else SHOWN])]  # fmt: skip
    return tuple(views)


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return a plan as `--json` prints it."""
    return {
        "target": plan.target, "safety": plan.safety,
        "actions": [{"path": a.path, "what": a.what, "new": a.old is None} for a in plan.actions],
        "skipped": [{"path": a.path, "reason": a.reason} for a in plan.skipped],
    }  # fmt: skip


def done_result(done: Record, said: str) -> Result:
    """Return what is shown of a finished restore."""
    views: list[View] = [Text(f"{said}: {_count(len(done.actions))}. /checkpoint undo takes it back.", "good")]
    if done.skipped:
        views += [Text(f"{_count(len(done.skipped))} kept as they are:", "warning"),
                  Table(("", "PATH", "WHY"), _rows(done.skipped)[:SHOWN])]  # fmt: skip
    data = {
        "safety": done.safety, "changed": [a.path for a in done.actions],
        "skipped": [{"path": a.path, "reason": a.reason} for a in done.skipped],
    }  # fmt: skip
    return Result(data, tuple(views))


def _count(files: int) -> str:
    return f"{files} file{'' if files == 1 else 's'}"


@command("checkpoint restore", "Bring the files of a checkpoint back; shows what it would do and asks first.",
         CHECKPOINT, Arg("--path", "only this file or directory", "path", default=""), EVERYTHING, DRY_RUN, YES,
         examples=("checkpoint restore tests pass", "checkpoint restore last --dry-run",
                   "checkpoint restore last --path src/parser.py"))  # fmt: skip
def checkpoint_restore(app: App, args: Namespace) -> Result:
    """Restore a checkpoint's files."""
    from p8.core.files import snapshot_of

    found = app.checkpoints.get(" ".join(args.checkpoint))
    snapshot, root = snapshot_of(found)
    again = f"checkpoint restore {found.id} --yes" + (" --everything" if args.everything else "")
    again += f" --path {args.path!r}" if args.path else ""
    paths = (args.path,) if args.path else ()
    return restored(app, snapshot, root, args, again, f"Files are as at ◆ {found.name}", paths)


def restored(
    app: App, snapshot: str, root: str, args: Namespace, again: str, said: str, paths: tuple[str, ...] = ()
) -> Result:
    """Plan, and do it where the person has agreed; else show the plan and ask."""
    plan = app.files.plan(snapshot, args.everything, paths, root)
    data = plan_data(plan)
    if args.dry_run or not plan.actions:
        return Result(data, plan_views(plan, args.dry_run))
    if not args.yes:
        if args.door != "repl":
            raise UsageError(
                f"this would change {_count(len(plan.actions))}", f"--dry-run shows which; p8 {again} does it"
            )
        question = f"Change {_count(len(plan.actions))}? How they are now is kept."
        return Result(data, plan_views(plan, False), Confirm(question, again))
    return done_result(app.files.restore(plan, said), said)


@command("checkpoint undo", "Take the last restore of files back, also one that was interrupted.",
         examples=("checkpoint undo",))  # fmt: skip
def checkpoint_undo(app: App, args: Namespace) -> Result:
    """Undo a restore."""
    return done_result(app.files.undo(), "Files are as they were before the restore")


@command("checkpoint resume", "Finish a restore of files that was interrupted.")
def checkpoint_resume(app: App, args: Namespace) -> Result:
    """Finish a restore."""
    return done_result(app.files.resume(), "The restore is finished")


@command("checkpoint diff", "Compare two checkpoints, or one with how things are now: files and git.",
         Arg("old", "the earlier one", "checkpoint"), Arg("new", "the later one; now where none is given",
                                                          "checkpoint", "?", default=""),
         Arg("--patch", "show what changed in the files", flag=True),
         examples=("checkpoint diff last", "checkpoint diff before after --patch"))  # fmt: skip
def checkpoint_diff(app: App, args: Namespace) -> Result:
    """Compare."""
    from p8.core.files import snapshot_of

    old = app.checkpoints.get(args.old)
    new = app.checkpoints.get(args.new) if args.new else None
    lines = list(app.checkpoints.diff(old, new))
    views: list[View] = [Text(f"{_name(old)} → {_name(new)}", "title"), *(Text(line) for line in lines)]
    snapshots = app.files.snapshots()
    first = snapshot_of(old)[0]
    second = snapshot_of(new)[0] if new is not None else snapshots.take(known=False).id
    changed = snapshots.diff(first, second)
    rows = tuple((c.what, c.path) for c in changed if (c.new or c.old) and not _plain_folder(c))
    views.append(Table(("FILE", "PATH"), rows, "No file differs."))
    data: dict[str, Any] = {"git": lines, "files": [{"path": c.path, "what": c.what} for c in changed]}
    if args.patch:
        data["patch"] = snapshots.patch(first, second) if rows else ""
        views.append(Text(data["patch"]))
    return Result(data, tuple(views))


def _plain_folder(change: Any) -> bool:
    return all(state is None or state.is_folder for state in (change.old, change.new))


def _name(checkpoint: Checkpoint | None) -> str:
    return f"◆ {checkpoint.name} ({git_line(checkpoint.git)})" if checkpoint is not None else "now"


@command("checkpoint prune", "Delete what was kept automatically beyond the quota; never what a checkpoint names.",
         Arg("--quota", "MiB to keep to; the setting snapshot_quota_mb", type=int), DRY_RUN, YES)  # fmt: skip
def checkpoint_prune(app: App, args: Namespace) -> Result:
    """Prune."""
    quota = (args.quota if args.quota is not None else app.config.snapshot_quota_mb) << 20
    names, size = app.files.prunable(quota)
    data: dict[str, Any] = {"size_bytes": size, "quota_bytes": quota, "may_go": names}
    said = f"{size / (1 << 20):.1f} MiB are kept, the quota is {quota >> 20} MiB"
    if not names or args.dry_run:
        return Result(data, (Text(f"{said}; {len(names)} snapshots may go."),))
    if not args.yes:
        question = f"{said}. Delete up to {len(names)} snapshots that no checkpoint names?"
        return Result(data, (), Confirm(question, f"checkpoint prune --quota {quota >> 20} --yes"))
    gone, freed = app.files.prune(names, quota)
    return Result(data | {"deleted": gone, "freed_bytes": freed},
                  (Text(f"{gone} snapshots deleted, {freed / (1 << 20):.1f} MiB free.", "good"),))  # fmt: skip


# rewinding


@command("rewind", "Go back to before something you said or ran: the conversation, the files, or both.",
         Arg("to", "the entry's number; chosen from a list where none is given", nargs="?", default="", type=str),
         Arg("--parts", "what goes back", choices=("conversation", "files", "both")), EVERYTHING, DRY_RUN, YES,
         doors=("repl",), examples=("rewind", "rewind 12 --parts both"))  # fmt: skip
def rewind(app: App, args: Namespace) -> Result:
    """Rewind."""
    session = target(app, ())
    turns = app.files.turns(session.id)
    if not turns:
        return Result([], (Text("Nothing to go back to: nothing was said yet.", "dim"),))
    if not args.to:
        options = tuple((_key(t, session.id), _label(t), _files_line(t)) for t in turns)
        return Result([_plain_turn(t) for t in turns], (), Choose("Go back to before", options, "rewind"))
    turn = next((t for t in turns if _key(t, session.id) == args.to), None)
    if turn is None:
        raise NotFound(f"nothing was said or run at entry {args.to}", "/rewind shows the list")
    snapshot, root = app.files.snapshot_at(session.id, turn)
    if not args.parts:
        parts = [("both", "Conversation and files", _since(turns, turn)), ("conversation", "Conversation only", ""),
                 ("files", "Files only", _since(turns, turn))]  # fmt: skip
        options = tuple(parts if snapshot else parts[1:2])
        return Result(
            _plain_turn(turn), (), Choose(f"Bring back · {_label(turn)}", options, f"rewind {turn.seq} --parts")
        )
    views: list[View] = []
    if args.parts in {"files", "both"} and snapshot:
        again = f"rewind {args.to} --parts {args.parts} --yes" + (" --everything" if args.everything else "")
        said = "Files are as they were then"
        result = restored(app, snapshot, root, args, again, said)
        if result.effect is not None or args.dry_run or args.parts == "files":
            return result
        views += result.views
    if args.dry_run:
        return Result(_plain_turn(turn), (Text("The conversation would go on in a fork from there."),))
    made = app.sessions.fork_session(session.id, turn.seq - 1, turn.stream)
    views.append(Text("Back before that, in a fork; the session itself stays as it is."))
    draft = turn.text if turn.kind == "message" else ""
    return Result({"session": made.session_id}, tuple(views), Switched(made.session_id, "forked", draft))


def _key(turn: Turn, session_id: str) -> str:
    return str(turn.seq) if turn.stream == session_id else f"{turn.stream}:{turn.seq}"


def _label(turn: Turn) -> str:
    return f"{age(turn.time_us):>4}  {' '.join(turn.text.split())[:90]}"


def _files_line(turn: Turn) -> str:
    if not turn.files:
        return "no file changed"
    names = ", ".join(path for path, _ in turn.changed[:5])
    return f"{_count(turn.files)} changed: {names}{' …' if turn.files > 5 else ''}"


def _since(turns: list[Turn], turn: Turn) -> str:
    changed = sorted({path for t in turns if (t.time_us, t.seq) >= (turn.time_us, turn.seq) for path, _ in t.changed})
    return f"{_count(len(changed))} changed since: {', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}"


def _plain_turn(turn: Turn) -> dict[str, Any]:
    return {
        "seq": turn.seq, "time": from_us(turn.time_us).isoformat(), "text": turn.text, "kind": turn.kind,
        "changed": [list(c) for c in turn.changed], "files": turn.files,
    }  # fmt: skip
