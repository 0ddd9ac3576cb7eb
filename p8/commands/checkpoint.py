"""Checkpoints: make one, list them, go back to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Choose, Result, Switched, Table, Text, View, command
from p8.commands.session import age, short, target
from p8.model import Checkpoint, GitState, from_us

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App


def plain(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint as `--json` prints it."""
    return {
        "id": checkpoint.id, "session": checkpoint.session_id, "seq": checkpoint.seq, "name": checkpoint.name,
        "created": from_us(checkpoint.created_us).isoformat(), "git": checkpoint.git.to_dict(),
        **{k: v for k, v in checkpoint.data.items() if k not in {"id", "name", "git"}},
    }  # fmt: skip


def git_line(state: GitState) -> str:
    """Return a git state in one line."""
    if not state.commit and not state.branch:
        return "no repository"
    changed = len({*state.staged, *state.modified})
    parts = [f"{changed} changed" if changed else "", f"{len(state.untracked)} untracked" if state.untracked else ""]
    parts += [f"↑{state.ahead}" if state.ahead else "", f"↓{state.behind}" if state.behind else ""]
    parts += [f"{state.stashes} stashed" if state.stashes else ""]
    said = ", ".join(filter(None, parts)) or "clean"
    return f"{state.branch or 'detached'} {state.commit[:10]} ({said})"


@command("checkpoint", "Choose a checkpoint to go back to, as a fork.",
         Arg("name", "makes one of this name", nargs="*"),
         doors=("repl",), examples=("checkpoint", "checkpoint before the refactoring"))  # fmt: skip
def checkpoint(app: App, args: Namespace) -> Result:
    """Choose a checkpoint, or make one where a name is given."""
    if args.name:
        return _create(app, " ".join(args.name))
    current = app.sessions.current
    known = app.checkpoints.list(current.session_id if current is not None else None)
    if not known:
        return Result([], (Text("No checkpoint yet. /checkpoint create NAME makes one.", "dim"),))
    options = tuple((c.id, f"{c.name}  {age(c.created_us)} ago", _preview(c)) for c in known)
    return Result([plain(c) for c in known], (), Choose("Go back to", options, "checkpoint go --ask"))


def _preview(checkpoint: Checkpoint) -> str:
    files = checkpoint.data.get("files")
    return git_line(checkpoint.git) + (f" · {files['count']:,} files" if isinstance(files, dict) else " · no files")


@command("checkpoint create", "Mark this place in the conversation, with the files and the state of git.",
         Arg("name", "what to call it", nargs="*"),
         Arg("--large", "keep the files of this tree although they are many, now and later", flag=True),
         doors=("repl",), examples=("checkpoint create tests pass",))  # fmt: skip
def checkpoint_create(app: App, args: Namespace) -> Result:
    """Make a checkpoint."""
    if args.large:
        app.files.allow()
    return _create(app, " ".join(args.name))


def _create(app: App, name: str) -> Result:
    app.ensure_session()
    made = app.checkpoints.create(name)
    said = Text(f"◆ {made.name} — {git_line(made.git)}", "good")
    views: list[View] = [said]
    for what in ("git", "files"):
        problem = made.data.get(f"{what}_problem")
        if problem:
            views.append(Text(f"{what}: {problem}", "warning"))
    skipped = made.data.get("files", {}).get("skipped", [])
    if skipped:
        named = ", ".join(f"{path} ({why})" for path, why, _ in skipped[:3])
        views.append(Text(f"left out: {named}{' …' if len(skipped) > 3 else ''}", "dim"))
    return Result(plain(made), tuple(views))


@command("checkpoint list", "List checkpoints, newest first.",
         Arg("session", "of this session; all where none", "session", "*"),
         examples=("checkpoint list last",))  # fmt: skip
def checkpoint_list(app: App, args: Namespace) -> Result:
    """List checkpoints."""
    session = target(app, args.session).id if args.session else None
    known = app.checkpoints.list(session)
    rows = tuple((c.name, age(c.created_us), git_line(c.git), short(c.session_id), short(c.id)) for c in known)
    return Result(
        [plain(c) for c in known], (Table(("NAME", "AGE", "GIT", "SESSION", "ID"), rows, "No checkpoint yet."),)
    )


@command("checkpoint show", "Show a checkpoint.", Arg("checkpoint", "name, id or `last`", "checkpoint", "+"))
def checkpoint_show(app: App, args: Namespace) -> Result:
    """Show a checkpoint."""
    from p8.core.container_reality import line

    found = app.checkpoints.get(" ".join(args.checkpoint))
    state = found.git
    head = found.data.get("head") or {}
    fields = (
        ("id", found.id), ("session", f"{found.session_id}, after entry {found.seq - 1}"),
        ("made", f"{from_us(found.created_us):%Y-%m-%d %H:%M} UTC"),
        ("directory", str(found.data.get("directory", ""))),
        ("git", git_line(state)), ("commit", str(head.get("subject", ""))), ("staged", "\n".join(state.staged)),
        ("modified", "\n".join(state.modified)), ("untracked", "\n".join(state.untracked)),
        ("conflicted", "\n".join(state.conflicted)), ("container", line(found.data.get("container") or {})),
    )  # fmt: skip
    return Result(plain(found), (Card(f"◆ {found.name}", tuple((k, v) for k, v in fields if v)),))


@command("checkpoint go", "Go back to a checkpoint: the conversation as a fork, the files, or both.",
         Arg("checkpoint", "name, id or `last`", "checkpoint", "+"),
         Arg("--parts", "what goes back", choices=("conversation", "files", "both"), default="conversation"),
         Arg("--ask", "choose what goes back", flag=True),
         Arg("--everything", "also files that something else than P8 has changed since", flag=True),
         Arg("--yes", "do not ask", flag=True), doors=("repl",),
         examples=("checkpoint go tests pass", "checkpoint go tests pass --parts both"))  # fmt: skip
def checkpoint_go(app: App, args: Namespace) -> Result:
    """Go back."""
    from p8.commands.files import restored
    from p8.core.files import snapshot_of

    found = app.checkpoints.get(" ".join(args.checkpoint))
    if args.ask and isinstance(found.data.get("files"), dict):
        options = (("conversation", "Conversation only", "As a fork; files and git stay as they are."),
                   ("both", "Conversation and files", "What is changed is shown first, and can be undone."),
                   ("files", "Files only", "The conversation goes on here."))  # fmt: skip
        return Result(
            plain(found), (), Choose(f"Bring back · ◆ {found.name}", options, f"checkpoint go {found.id} --parts")
        )
    views: list[View] = []
    if args.parts != "conversation":
        args.dry_run = False
        again = f"checkpoint go {found.id} --parts {args.parts} --yes" + (" --everything" if args.everything else "")
        result = restored(app, *snapshot_of(found), args, again, f"Files are as at ◆ {found.name}")
        if result.effect is not None or args.parts == "files":
            return result
        views += result.views
    made = app.checkpoints.go_back(found)
    stay = "" if args.parts == "both" else " Files and git are as they are now."
    views.append(Text(f"Back at ◆ {found.name}, in a fork.{stay}"))
    data = {"session": made.session_id, "checkpoint": found.id}
    return Result(data, tuple(views), Switched(made.session_id, "forked"))
