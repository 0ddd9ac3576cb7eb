"""What has changed since a session was left: said before the first prompt, and told to the assistant (row X4).

Compares what was recorded with what is there now. Refuses: to change anything, or to guess at what was not recorded.
"""

from __future__ import annotations

from pathlib import Path

from p8.errors import WorkspaceError
from p8.model import Checkpoint, GitState, SessionRow
from p8.workspace import git

SHORT = 10


def reality_check(row: SessionRow, directory: Path, checkpoint: Checkpoint | None = None) -> list[str]:
    """
    Return what differs, a line each; nothing where all is as it was left.

    Args:
        row: the session, with the branch and commit recorded last.
        directory: where the person stands now.
        checkpoint: the session's newest one, whose git state is compared in full.
    """
    lines = []
    recorded = Path(row.directory) if row.directory else None
    if recorded is not None and not recorded.is_dir():
        lines.append(f"its directory is gone: {recorded}")
    elif recorded is not None and recorded.resolve() != directory.resolve():
        lines.append(f"it was recorded in {recorded}, you are in {directory}")
    place = recorded if recorded is not None and recorded.is_dir() else directory
    branch, commit = git.head(place)
    if row.branch and branch != row.branch:
        lines.append(f"branch was {row.branch}, is {branch or 'none (detached HEAD)'}")
    if row.commit and commit and commit != row.commit:
        lines.append(f"HEAD was {row.commit[:SHORT]}, is {commit[:SHORT]}{_distance(place, row.commit, commit)}")
    elif row.commit and not commit:
        lines.append("the repository is gone" if git.find(place) is None else "the repository has no commit any more")
    if checkpoint is not None:
        lines += _differences(checkpoint, place)
    return lines


def _distance(place: Path, old: str, new: str) -> str:
    found = git.find(place)
    if found is None:
        return ""
    try:
        ahead, behind = git.run(found, "rev-list", "--left-right", "--count", f"{new}...{old}").split()
    except (WorkspaceError, ValueError):
        return " (the old commit is not there any more)"
    parts = [f"{int(ahead)} ahead" if int(ahead) else "", f"{int(behind)} behind" if int(behind) else ""]
    return f" ({', '.join(filter(None, parts))})" if any(parts) else ""


def _differences(checkpoint: Checkpoint, place: Path) -> list[str]:
    old = checkpoint.git
    if not old.commit:
        return []
    try:
        now = git.git_state(place)
    except WorkspaceError:
        return []
    lines = []
    if now.stashes != old.stashes:
        lines.append(f"stashes: {old.stashes} at checkpoint {checkpoint.name!r}, {now.stashes} now")
    for what, before, after in (
        ("changed", _changed(old), _changed(now)),
        ("untracked", set(old.untracked), set(now.untracked)),
    ):
        if before != after:
            more, less = sorted(after - before), sorted(before - after)
            parts = [f"{_some(more)} more" if more else "", f"{_some(less)} no longer" if less else ""]
            lines.append(f"{what} files since checkpoint {checkpoint.name!r}: {', '.join(filter(None, parts))}")
    return lines


def _changed(state: GitState) -> set[str]:
    return {*state.staged, *state.modified, *state.conflicted}


def _some(paths: list[str]) -> str:
    shown = ", ".join(paths[:3])
    return f"{shown} and {len(paths) - 3} others" if len(paths) > 3 else shown


def told(lines: list[str]) -> str:
    """Return what the assistant is told of it."""
    return "Since this conversation was left:\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
