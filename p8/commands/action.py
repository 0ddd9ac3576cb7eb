"""Quick actions: `/do` and what it suggests."""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Confirm, Result, RunLines, Table, Text, command
from p8.core.actions import MISSING, Book, Parameter, signals_of, values_of
from p8.core.habits import Habits, Suggestion, Use, UseLog
from p8.errors import P8Error, StoreError, UsageError
from p8.model import Kind

if TYPE_CHECKING:
    from p8.app import App

LOOK_BACK = 40  #: newest commands run, to see what was done and whether tests failed
TESTS = ("pytest", "npm test", "cargo test", "go test", "unittest", "tox", "make test", "make check")


@command(
    "do", "Do a quick action; list them, with what may come next, where none is named.",
    Arg("action", "its name", "action", "?"), Arg("values", "name=value, or values in order", nargs="*"),
    Arg("--yes", "agree to the project's actions as they are now", flag=True),
    Arg("--show", "only say what it would do", flag=True),
    examples=("do test", "do commit fix the parser", "do log count=3 --show"),
)  # fmt: skip
def do(app: App, args: Namespace) -> Result:
    """Do an action."""
    book = book_of(app)
    if not args.action:
        return _listed(app, book)
    action = book.get(args.action)
    lines = action.lines(values_of(args.values, action), app.directory)
    data = {"action": action.name, "source": action.source, "lines": list(lines)}
    if args.show:
        return Result(data, tuple(Text(line) for line in lines))
    if action.source == "project" and not _agreed(app, book, args.yes):
        question = (
            f"{book.project_file} came with this project. Run `{'; '.join(lines)}`, and trust that file as it is?"
        )
        words = " ".join(_quoted(value) for value in (args.action, *args.values))
        return Result(data, (), Confirm(question, f"do {words} --yes"))
    before, signals = moment(app, book)
    UseLog(app.config.home).add(Use(action.name, before, signals, _project(app)))
    return Result(
        data, (), RunLines(lines, {"action": action.name, "parameters": dict(values_of(args.values, action))})
    )


def book_of(app: App) -> Book:
    """Return the actions at hand."""
    from p8.workspace import git

    found = git.find(app.directory)
    return Book(app.config.home, found.root if found is not None else app.directory)


def _listed(app: App, book: Book) -> Result:
    likely = suggestions(app, book)
    chances = {s.action: s.confidence for s in likely}
    ordered = sorted(book.all(), key=lambda a: (-chances.get(a.name, 0.0), a.name))
    rows = tuple(
        (f"{chances[a.name]:.0%}" if a.name in chances else "", a.usage().removeprefix("/do "), a.source, a.help)
        for a in ordered
    )
    data = [
        {"action": a.name, "help": a.help, "run": list(a.run), "source": a.source,
         "confidence": chances.get(a.name, 0.0), "parameters": [_parameter(p) for p in a.parameters]}
        for a in ordered
    ]  # fmt: skip
    problems = tuple(Text(problem, "warning") for problem in book.problems)
    return Result(data, (Table(("NEXT", "ACTION", "FROM", ""), rows), *problems))


def _parameter(parameter: Parameter) -> dict[str, Any]:
    default = None if parameter.default is MISSING else parameter.default
    return {"name": parameter.name, "type": parameter.type, "default": default, "needed": parameter.default is MISSING}


def suggestions(app: App, book: Book | None = None, count: int = 3) -> list[Suggestion]:
    """Return what may come next, likeliest first; nothing where it cannot be said now."""
    book = book or book_of(app)
    before, signals = moment(app, book)
    fits = {a.name: a.when for a in book.all()}
    return Habits(UseLog(app.config.home), fits).suggest(before, signals, _project(app), count)


def learn_typed(app: App, line: str) -> None:
    """Learn from a line typed by hand where it is what an action does."""
    with contextlib.suppress(P8Error, OSError):
        book = book_of(app)
        name = book.named(line)
        if name:
            before, signals = moment(app, book)
            UseLog(app.config.home).add(Use(name, before, signals, _project(app)))


def _project(app: App) -> str:
    return app.project_known.id if app.project_known is not None else ""


def moment(app: App, book: Book) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return what was done last in this session, newest first, and how things stand."""
    from p8.core.reality import place_now

    runs = [data for _, data in app.sessions.runs[-LOOK_BACK:]]
    done = [str(data.get("metadata", {}).get("action") or book.named(f"!{data.get('command', '')}")) for data in runs]
    state = place_now(app.directory)
    facts: dict[str, Any] = {"ahead": state.ahead, "behind": state.behind, "checkpoint": _has_checkpoint(app)}
    if state.root:
        facts["changed"] = len(state.staged) + len(state.modified) + len(state.untracked)
    tested = [d for d in runs if any(word in str(d.get("command", "")) for word in TESTS)]
    facts["last_exit"] = tested[-1].get("exit_code") if tested else None
    usage, plan = app.planner.usage, app.planner.plan
    facts["budget"] = max(usage.sent / max(app.planner.window, 1), usage.total / plan.total_budget if plan else 0)
    with contextlib.suppress(OSError):
        return tuple(name for name in reversed(done) if name)[:2], signals_of(facts, os.listdir(app.directory))
    return (), signals_of(facts, ())


def _has_checkpoint(app: App) -> bool:
    current = app.sessions.current
    if current is None:
        return False
    with contextlib.suppress(P8Error):
        kinds = (Kind.CHECKPOINT,)
        return bool(app.store.sessions.entries(current.session_id, kinds=kinds, limit=1))
    return False


def _agreed(app: App, book: Book, yes: bool) -> bool:
    """Return whether the person trusts the project's file as it is now; `yes` says so from now on."""
    print_ = book.fingerprint()
    try:
        trusted = app.store.settings.get("trusted_actions", [])
        if yes and print_ not in trusted:
            app.store.settings.put("trusted_actions", [*trusted, print_][-500:])
    except StoreError:
        return yes
    return yes or print_ in trusted


def _quoted(word: str) -> str:
    import shlex

    if "\n" in word:
        raise UsageError("a value must be one line")
    return shlex.quote(word)
