"""Quick actions: `/do`, what may come next, and the definitions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Confirm, Result, RunLines, Table, Text, command
from p8.core.actions import MISSING, PROJECT_FOLDER, USER_FOLDER, Action, Book, Parameter, read_actions, values_of
from p8.errors import NotFound, P8Error, StoreError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.habits import Suggestion

TRUSTED = "trusted_actions"  #: setting: fingerprints of projects' actions that the person agreed to
MOST_TRUSTED = 500
KINDS = frozenset({"python", "node", "rust", "go"})  #: signals that are kinds of projects


@command(
    "do", "Do a quick action; list them, with what may come next, where none is named.",
    Arg("action", "its name", "action", "?"), Arg("values", "name=value, or values in order", "action", "*"),
    Arg("--yes", "agree to the project's actions as they are now", flag=True),
    Arg("--show", "only say what it would do", flag=True),
    Arg("--all", "list also what is for other kinds of project", flag=True),
    Arg("--session", "in the shell: record it in this session instead of a new one", default=""),
    examples=("do test", "do commit fix the parser", "do log count=3 --show"),
)  # fmt: skip
def do(app: App, args: Namespace) -> Result:
    """Do an action."""
    book = app.actions
    if not args.action:
        return _listed(app, book, args.all)
    action = book.get(args.action)
    named = isinstance(args.values, Mapping)  # a door that has them apart
    given = [f"{name}={value}" for name, value in args.values.items()] if named else args.values
    words = shlex.join([args.action, *given])
    if action.source == "project" and not args.show and not _agreed(app, book, args.yes):
        question = f"{PROJECT_FOLDER} came with this project. Trust it as it is, and run `{'; '.join(action.run)}`?"
        session = f" --session {shlex.quote(args.session)}" if args.session else ""
        return Result({"action": action.name, "lines": []}, (), Confirm(question, f"do {words} --yes{session}"))
    values = dict(args.values) if named else values_of(given, action)
    lines = action.lines(values, app.directory)
    data = {"action": action.name, "source": action.source, "lines": list(lines)}
    if args.show:
        return Result(data, tuple(Text(line) for line in lines))
    about: dict[str, Any] = {"action": action.name, "parameters": values}
    session = ""
    if args.door != "repl":
        about["typed"] = f"/do {words}"
        session = app.store.sessions.resolve(args.session, app.project.id).id if args.session else ""
    elif args.session:
        raise UsageError("--session is for the shell", "here it is recorded in this session")
    return Result(data, (), RunLines(lines, about, session))


def _listed(app: App, book: Book, everything: bool) -> Result:
    chances = {s.action: s.confidence for s in _suggested(app, 1000) if s.action}
    habits = _uses(app)
    kinds = KINDS & app.suggestions.signals()
    elsewhere = KINDS - kinds if kinds and not everything else frozenset()
    foreign = [a for a in book.all() if elsewhere.intersection(a.when) and not kinds.intersection(a.when)]
    ordered = sorted(book.all(), key=lambda a: (-chances.get(a.name, 0.0), a.name))
    rows = tuple(
        (_percent(chances.get(a.name, 0.0)), a.usage().removeprefix("/do "), a.source, a.help)
        for a in ordered
        if a not in foreign
    )
    data = [plain(a) | {"confidence": chances.get(a.name, 0.0), **habits.get(a.name, {})} for a in ordered]
    problems = tuple(Text(problem, "warning") for problem in book.problems)
    more = f"{len(foreign)} more are for other kinds of project: --all lists them. " if foreign else ""
    where = f"Your own: {app.config.home / USER_FOLDER}/*.yaml; the project's: {PROJECT_FOLDER}/*.yaml"
    return Result(data, (Table(("NEXT", "ACTION", "FROM", ""), rows), *problems, Text(more + where, "dim")))


def _percent(chance: float) -> str:
    return f"{chance:.0%}" if chance >= 0.01 else ""


def _suggested(app: App, count: int) -> list[Suggestion]:
    try:
        return app.suggestions.now(count)
    except StoreError:
        return []


def _uses(app: App) -> dict[str, dict[str, int]]:
    try:
        habits = app.suggestions.habits()
    except StoreError:
        return {}
    found = {}
    for action in app.actions.all():
        uses, failed = habits.uses(f"do {action.name}")
        found[action.name] = {"uses": uses, "failed": failed}
    return found


def plain(action: Action) -> dict[str, Any]:
    """Return an action as `--json` prints it."""
    return {
        "action": action.name, "help": action.help, "run": list(action.run), "source": action.source,
        "where": action.where, "when": list(action.when),
        "parameters": {p.name: _plain_parameter(p) for p in action.parameters},
    }  # fmt: skip


def _plain_parameter(parameter: Parameter) -> dict[str, Any]:
    needed = parameter.default is MISSING
    return {
        "type": parameter.type, "required": needed, "default": None if needed else parameter.default,
        "help": parameter.help, "choices": list(parameter.choices), "min": parameter.low, "max": parameter.high,
        "pattern": parameter.pattern,
    }  # fmt: skip


def _agreed(app: App, book: Book, yes: bool) -> bool:
    """Return whether the person trusts the project's files as they are now; `yes` says so from now on."""
    mark = book.fingerprint()
    if not mark:
        return False
    try:
        if mark in app.store.settings.get(TRUSTED, []):
            return True
        if yes:
            app.store.settings.claim(TRUSTED, lambda old: [*(old or []), mark][-MOST_TRUSTED:])
    except StoreError:
        pass
    return yes


@command("action", "List the quick actions, with what may come next.",
         Arg("--all", "also those for other kinds of project", flag=True), aliases=("action list",),
         examples=("action", "action list"))  # fmt: skip
def action(app: App, args: Namespace) -> Result:
    """List actions."""
    return _listed(app, app.actions, args.all)


@command("action show", "Show what an action does and takes.", Arg("action", "its name", "action"),
         examples=("action show commit",))  # fmt: skip
def action_show(app: App, args: Namespace) -> Result:
    """Show an action."""
    found = app.actions.get(args.action)
    used = _uses(app).get(found.name, {})
    takes = "\n".join(_takes(p) for p in found.parameters)
    fields = (
        ("", found.help), ("usage", found.usage()), ("does", "\n".join(found.run)), ("takes", takes),
        ("when", " ".join(found.when)), ("from", f"{found.source}: {found.where}"),
        ("used", f"{used.get('uses', 0)} times, {used.get('failed', 0)} failed" if used.get("uses") else ""),
    )  # fmt: skip
    return Result(plain(found) | used, (Card(found.name, tuple((k, v) for k, v in fields if v)),))


def _takes(parameter: Parameter) -> str:
    span = [
        f"{word} {limit:g}" for word, limit in (("from", parameter.low), ("to", parameter.high)) if limit is not None
    ]
    default = "" if parameter.default is MISSING else f"default {parameter.default}"
    more = [
        ", ".join(parameter.choices),
        *span,
        parameter.pattern and f"like {parameter.pattern}",
        default,
        parameter.help,
    ]
    return f"{parameter.name}: {parameter.type}" + "".join(f"; {part}" for part in more if part)


@command(
    "action save", "Keep an action of your own, for every project.",
    Arg("name", "small letters, digits and hyphens"),
    Arg("lines", "what it does, each in quotes; {name} stands for a value: {name}, {name:int} or {name:text=default}",
        nargs="+"),
    Arg("--about", "a sentence about it", default=""),
    Arg("--when", "signals that speak for it, with commas", default=""),
    Arg("--replace", "even if there is one of that name", flag=True),
    examples=("action save serve 'python -m http.server {port:int=8000}'",
              "action save ship 'python -m pytest -q' 'git push' --when ahead --about 'Test and push.'"),
)  # fmt: skip
def action_save(app: App, args: Namespace) -> Result:
    """Keep an action."""
    import re

    parameters: dict[str, dict[str, Any]] = {}

    def hole(match: re.Match[str]) -> str:
        name, kind, default = match.groups()
        said = {"type": kind or "text"} | ({"default": default} if default is not None else {})
        if kind or default is not None or name not in parameters:
            parameters[name] = said
        return f"{{{name}}}"

    lines = [re.sub(r"(?<![$\\])\{([a-z][a-z0-9_]*)(?::([a-z]+))?(?:=([^{}]*))?\}", hole, line) for line in args.lines]
    definition = {"help": args.about, "run": lines[0] if len(lines) == 1 else lines, "parameters": parameters,
                  "when": [word for word in args.when.split(",") if word]}  # fmt: skip
    made = app.actions.save(args.name, definition, args.replace)
    return Result(plain(made), (Text(f"{made.usage()}  does it.", "good"),))


@command("action remove", "Remove an action of your own.", Arg("action", "its name", "action"),
         examples=("action remove serve",))  # fmt: skip
def action_remove(app: App, args: Namespace) -> Result:
    """Remove an action."""
    aside = app.actions.remove(args.action)
    return Result({"action": args.action, "kept": str(aside)}, (Text(f"Removed; kept aside as {aside}."),))


@command("action check", "Check definitions of actions: a file, or all that are at hand.",
         Arg("file", "a file of actions", "path", "?"),
         examples=("action check .ai-sessions/actions/mine.yaml",))  # fmt: skip
def action_check(app: App, args: Namespace) -> Result:
    """Check definitions."""
    if args.file:
        file = app.directory / Path(args.file).expanduser()
        if not file.is_file():
            raise NotFound(f"no file {file}")
        found, problems = read_actions(file, "user")
    else:
        found, problems = app.actions.all(), app.actions.problems
    if problems:
        more = f"; {len(problems) - 1} more" if len(problems) > 1 else ""
        raise P8Error(problems[0] + more, "\n  ".join(problems[1:6]))
    return Result({"actions": [a.name for a in found]}, (Text(f"{len(found)} actions, nothing wrong.", "good"),))


@command("action suggest", "Say what may come next, and how likely it is.",
         Arg("--limit", "at most so many", default=3, type=int),
         examples=("action suggest", "action suggest --limit 5"))  # fmt: skip
def action_suggest(app: App, args: Namespace) -> Result:
    """Suggest."""
    app.project  # noqa: B018 its own habits go first
    found = app.suggestions.now(max(args.limit, 1))
    rows = tuple((f"{s.confidence:.0%}", s.line) for s in found)
    signals = sorted(app.suggestions.signals())
    data = {"signals": signals, "suggestions": [s._asdict() for s in found]}
    return Result(data, (Table(("", "NEXT"), rows, "Nothing to suggest yet."), Text(" ".join(signals), "dim")))
