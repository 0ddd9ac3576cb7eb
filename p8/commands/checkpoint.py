"""Checkpoints: make one, list them, go back to one."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Choose, Result, Switched, Table, Text, command
from p8.commands.session import age, short, target
from p8.model import Checkpoint, GitState, from_us

if TYPE_CHECKING:
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
    options = tuple((c.id, f"{c.name}  {age(c.created_us)} ago", git_line(c.git)) for c in known)
    return Result([plain(c) for c in known], (), Choose("Go back to", options, "checkpoint go"))


@command("checkpoint create", "Mark this place in the conversation, with the state of git.",
         Arg("name", "what to call it", nargs="*"), doors=("repl",),
         examples=("checkpoint create tests pass",))  # fmt: skip
def checkpoint_create(app: App, args: Namespace) -> Result:
    """Make a checkpoint."""
    return _create(app, " ".join(args.name))


def _create(app: App, name: str) -> Result:
    app.ensure_session()
    made = app.checkpoints.create(name)
    said = Text(f"◆ {made.name} — {git_line(made.git)}", "good")
    problem = made.data.get("git_problem")
    return Result(plain(made), (said, *((Text(f"git: {problem}", "warning"),) if problem else ())))


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
    found = app.checkpoints.get(" ".join(args.checkpoint))
    state = found.git
    head = found.data.get("head") or {}
    fields = (
        ("id", found.id), ("session", f"{found.session_id}, after entry {found.seq - 1}"),
        ("made", f"{from_us(found.created_us):%Y-%m-%d %H:%M} UTC"),
        ("directory", str(found.data.get("directory", ""))),
        ("git", git_line(state)), ("commit", str(head.get("subject", ""))), ("staged", "\n".join(state.staged)),
        ("modified", "\n".join(state.modified)), ("untracked", "\n".join(state.untracked)),
        ("conflicted", "\n".join(state.conflicted)),
    )  # fmt: skip
    return Result(plain(found), (Card(f"◆ {found.name}", tuple((k, v) for k, v in fields if v)),))


@command("checkpoint go", "Go back to a checkpoint, as a fork; the session itself stays as it is.",
         Arg("checkpoint", "name, id or `last`", "checkpoint", "+"), doors=("repl",),
         examples=("checkpoint go tests pass",))  # fmt: skip
def checkpoint_go(app: App, args: Namespace) -> Result:
    """Go back."""
    found = app.checkpoints.get(" ".join(args.checkpoint))
    made = app.checkpoints.go_back(found)
    said = Text(f"Back at ◆ {found.name}, in a fork. Files and git are as they are now.")
    return Result({"session": made.session_id, "checkpoint": found.id}, (said,), Switched(made.session_id, "forked"))
