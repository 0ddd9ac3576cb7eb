"""Two sessions side by side: what they share, what only one of them holds, and what each changed and cost."""

from __future__ import annotations

from typing import NamedTuple

from p8.core.files import CHANGED
from p8.core.sessions import SessionManager
from p8.model import Entry, Kind, SessionRow

SHOWN = (Kind.MESSAGE, Kind.EXECUTION, Kind.CHECKPOINT)


class Side(NamedTuple):
    """What only one of two sessions holds."""

    row: SessionRow
    entries: list[Entry]  #: messages, commands run and checkpoints, oldest first
    files: dict[str, str]  #: path -> what happened to it last
    figures: dict[str, float]  #: messages, commands, tokens_in, tokens_out, cost, seconds


class Comparison(NamedTuple):
    """Two sessions."""

    shared: int  #: entries that both hold
    parted: Entry | None  #: the last one of them
    old: Side
    new: Side


def compare(sessions: SessionManager, old: SessionRow, new: SessionRow) -> Comparison:
    """
    Compare two sessions, forks of each other or not.

    Raises:
        StoreError: the database is out of reach.
    """
    table = sessions.store.sessions
    kinds = (*SHOWN, Kind.EVENT)
    ours = table.entries(old.id, kinds=kinds)
    theirs = table.entries(new.id, kinds=kinds)
    shared = 0
    for one, two in zip(ours, theirs, strict=False):
        if (one.stream, one.seq) != (two.stream, two.seq):
            break
        shared += 1
    parted = next((e for e in reversed(ours[:shared]) if e.kind != Kind.EVENT), None)
    return Comparison(shared, parted, _side(old, ours[shared:]), _side(new, theirs[shared:]))


def _side(row: SessionRow, entries: list[Entry]) -> Side:
    files: dict[str, str] = {}
    figures = dict.fromkeys(("messages", "commands", "tokens_in", "tokens_out", "cost", "seconds"), 0.0)
    for entry in entries:
        if entry.kind == Kind.MESSAGE:
            figures["messages"] += 1
            for name in ("tokens_in", "tokens_out", "cost"):
                figures[name] += _number(entry.data.get(name))
        elif entry.kind == Kind.EXECUTION:
            figures["commands"] += 1
        elif entry.kind == Kind.EVENT and entry.data.get("what") == CHANGED:
            changed = entry.data.get("changed")
            if isinstance(changed, list):
                files.update((str(c[0]), str(c[1])) for c in changed if len(c) == 2)
        if entry.kind in {Kind.MESSAGE, Kind.EXECUTION}:
            figures["seconds"] += _number(entry.data.get("duration_s"))
    return Side(row, [e for e in entries if e.kind in SHOWN], files, figures)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def conclusion(sessions: SessionManager, row: SessionRow) -> str:
    """Return the last thing the assistant said in a session, or ""."""
    entries = sessions.store.sessions.entries(row.id, kinds=(Kind.MESSAGE,), limit=20, newest=True, whole=True)
    return next((str(e.data.get("content", "")) for e in reversed(entries) if e.role == "assistant"), "")
