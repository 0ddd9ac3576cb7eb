"""Files that other tools wrote, and imports of them into a store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from p8.core.projects import Projects
from p8.core.sessions import SessionManager
from p8.core.transfer import Report, Transfer
from p8.formats.foreign import Conversation
from p8.model import Entry

DATA = Path(__file__).parents[1] / "data"
ASKED = "Use a tool to read notes.txt"
THEN = "And what is a git branch?"
ANSWER = "The file notes.txt says hello from the loopback; a git branch is a pointer to a commit."
#: what most tools wrote of it
TALK = [
    ("user", ASKED), ("assistant", "I will look."), ("assistant", ANSWER), ("user", THEN), ("assistant", ANSWER),
]  # fmt: skip


def transfer(manager: SessionManager, directory: Path) -> Transfer:
    return Transfer(manager, Projects(manager.store), lambda: directory)


def bring_in(manager: SessionManager, path: Path) -> Report:
    """Import what is at a path."""
    one = transfer(manager, path.parent)
    return one.run(one.detect(path))


def said(manager: SessionManager, session: str) -> list[Entry]:
    kinds = ("message", "command", "execution")
    return manager.store.sessions.entries(session, kinds=kinds, whole=True)


def calls(manager: SessionManager, session: str) -> list[tuple[str, str, str, str]]:
    """Return the tool calls of a session as (kind, title, status, what came of it)."""
    parts = manager.store.sessions.entries(session, kinds=("part",), whole=True)
    return [(p.data["kind"], p.data["title"], p.data["status"], p.text) for p in parts]


def talk(conversation: Conversation) -> list[tuple[str, str]]:
    return [(item.role or item.kind, item.content.strip().strip('"')) for item in conversation.items]


def jsonl(path: Path, records: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), "utf-8")
    return path


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def twice_adds_nothing(manager: SessionManager, path: Path) -> list[str]:
    """Import twice, see that nothing came the second time; return the sessions."""
    first = bring_in(manager, path)
    assert first.problems == []
    assert {one.state for one in first.outcomes} == {"new"}
    before = manager.store.read("SELECT id, data FROM entries ORDER BY id")
    second = bring_in(manager, path)
    assert {(one.state, one.added) for one in second.outcomes} == {("known", 0)}
    assert manager.store.read("SELECT id, data FROM entries ORDER BY id") == before
    return [one.session for one in first.outcomes]


def every_cut(path: Path, read: Callable[[Path], Iterable[Conversation]], copy: Path, step: int = 97) -> int:
    """Read a file cut off at many places: each gives conversations; return the most items seen."""
    whole, most = path.read_bytes(), 0
    for at in range(0, len(whole), step):
        copy.write_bytes(whole[:at])
        most = max([most, *(len(one.items) for one in read(copy))])
    return most
