"""Memories: remember, recall, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Card, Confirm, Result, Table, Text, command
from p8.commands.session import age, short
from p8.core.memories import SCOPES
from p8.core.shelf import Memory

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App

SCOPE = Arg("--scope", "session, project or user", choices=SCOPES)


@command(
    "remember", "Remember something for later sessions; the assistant is told of it.",
    Arg("text", "what", nargs="*"), SCOPE, Arg("--keep", "as a file at once, not only in memory", flag=True),
    Arg("--tag", "a word to find it by; several with commas", "tag", default=""),
    Arg("--promote", "make this hot memory a file", "memory", default=""),
    examples=("remember The build needs Python 3.11", "remember --scope user --keep I prefer short answers",
              "remember --promote ab12-9f3e"),
)  # fmt: skip
def remember(app: App, args: Namespace) -> Result:
    """Remember."""
    if args.promote:
        kept = app.memories.promote(app.memories.find(args.promote).id)
        return Result(kept.to_dict(), (Text(f"Kept as a file: {app.memories.shelf(kept.scope).path(kept.id)}"),))
    tags = [tag.strip() for tag in args.tag.split(",") if tag.strip()]
    # A short command has no RAM to keep it in.
    keep = args.keep or args.door == "cli"
    made = app.memories.remember(" ".join(args.text), args.scope or "project", keep=keep, tags=tags)
    app.memories.snapshot()
    how = "kept as a file" if not made.hot else "recalled three times it becomes a file"
    return Result(made.to_dict(), (Text(f"Remembered for this {made.scope}; {how}."), Text(short(made.id), "dim")))


@command(
    "recall", "Find what is remembered.", Arg("words", "words; all where none are given", nargs="*"), SCOPE,
    Arg("--limit", "at most so many", default=20, type=int), examples=("recall", "recall build python"),
)  # fmt: skip
def recall(app: App, args: Namespace) -> Result:
    """Recall."""
    found = app.memories.recall(" ".join(args.words), args.scope or "", max(args.limit, 1))
    if len(found) == 1 and args.words:
        return Result([found[0].to_dict()], (_card(found[0]),))
    rows = tuple((m.scope, "hot" if m.hot else "file", age(m.updated_us), " ".join(m.tags), short(m.id), m.text)
                 for m in found)  # fmt: skip
    empty = "Nothing found." if args.words else "Nothing is remembered yet: /remember TEXT."
    return Result([m.to_dict() for m in found], (Table(("SCOPE", "KIND", "AGE", "TAGS", "ID", "TEXT"), rows, empty),))


def _card(memory: Memory) -> Card:
    fields = (
        ("scope", memory.scope), ("kind", "hot" if memory.hot else "file"), ("age", age(memory.updated_us)),
        ("tags", " ".join(memory.tags)), ("id", memory.id),
    )  # fmt: skip
    return Card(memory.text, tuple((name, value) for name, value in fields if value))


@command(
    "forget", "Forget a memory; a file goes to the trash.",
    Arg("memory", "its id, or words only it has", "memory", "+"), Arg("--yes", "do not ask", flag=True),
    examples=("forget ab12-9f3e", "forget build needs Python"),
)  # fmt: skip
def forget(app: App, args: Namespace) -> Result:
    """Forget."""
    memory = app.memories.find(" ".join(args.memory))
    if not args.yes:
        return Result(None, (), Confirm(f"Forget {memory.text[:60]!r}?", f"forget {memory.id} --yes"))
    gone = app.memories.forget(memory.id)
    return Result(gone.to_dict() | {"forgotten": True}, (Text("Forgotten."),))
