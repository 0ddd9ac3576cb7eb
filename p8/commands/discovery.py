"""What the project is: shown, given to the assistant, written into the project's `.ai-sessions/` where asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p8.commands.registry import Arg, Card, Result, Table, Text, View, command
from p8.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App
    from p8.core.discovery import Discovered

TOKENS = 2000  #: what is given unless asked otherwise, or a tenth of what the model takes
LEAST = 100


def _tokens(word: str) -> int:
    if not word.isascii() or not word.isdigit() or int(word) < LEAST:
        raise UsageError(f"--tokens {word}: a whole number from {LEAST} on is wanted", "such as --tokens 1500")
    return int(word)


BUDGET = Arg("--tokens", f"how many it may cost; {TOKENS}, or a tenth of what the model takes, if that is less",
             type=_tokens)  # fmt: skip


@command("context project", "Give the assistant what P8 finds in the project's files; in the shell, print it.", BUDGET,
         examples=("context project", "context project --tokens 800"))  # fmt: skip
def context_project(app: App, args: Namespace) -> Result:
    """Give what was found to the assistant, as an entry of the session."""
    from p8.core.discovery import Discovery, as_message, brief

    gives = args.door == "repl"
    most = app.planner.window // 4
    budget = args.tokens or max(LEAST, min(TOKENS, app.planner.window // 10))
    if gives and budget > most:
        raise UsageError(
            f"{budget:,} tokens are more than a quarter of what the model takes", f"--tokens {most} at most"
        )
    found = Discovery(app.config.home, lambda: app.directory).project()
    text = brief(found, budget, app.planner.count_soon)
    tokens = app.planner.count_soon(text)
    data = {"text": text, "tokens": tokens, "budget": budget, "given": gives, **_figures(found)}
    if not gives:
        return Result(data, (Text(text),))
    app.ensure_session()
    app.sessions.record_message(as_message(text))
    app.sessions.save_session()
    said = Text(f"The assistant knows the project now: about {tokens:,} tokens of at most {budget:,}.", "good")
    return Result(data, (*_summary(found), said))


@command("project context", "Show what the project is: types, languages, dependencies, configuration, git.",
         Arg("--write", "write it to .ai-sessions/context/ in the project", flag=True),
         Arg("--history", "with --write: commands that ran and checkpoints too, redacted, to .ai-sessions/state/",
             flag=True),
         Arg("--files", "list every file that git would not ignore", flag=True),
         examples=("project context", "project context --files --json", "project context --write",
                   "project context --write --history"))  # fmt: skip
def project_context(app: App, args: Namespace) -> Result:
    """Show what was found; write it down where asked."""
    from p8.core.discovery import Discovery, file_entry, git_state, metadata

    if args.history and not args.write:
        raise UsageError("--history says what to write", "project context --write --history")
    discovery = Discovery(app.config.home, lambda: app.directory)
    found = discovery.project()
    data: dict[str, Any] = {**metadata(found), "git": git_state(found.git), "read": _figures(found)["read"]}
    views = _summary(found)
    if args.files:
        data["index"] = [file_entry(file) for file in found.listing.files]
        rows = tuple((f"{e['bytes']:,}", str(e.get("language", "")), _line(e["path"])) for e in data["index"])
        views.append(Table(("BYTES", "LANGUAGE", "PATH"), rows, "No file."))
    if args.write:
        data["written"] = discovery.write(found, _state(app) if args.history else None)
        said = f"Written: {', '.join(data['written'])}" if data["written"] else "It stands there already as it is now."
        views.append(Text(said, "good"))
    return Result(data, tuple(views))


def _state(app: App) -> dict[str, bytes]:
    from pathlib import Path

    from p8.config import secrets_in
    from p8.core.project_state import files

    return files(app.store, app.project.id, app.checkpoints.list(), Path.home(), secrets_in())


def _figures(found: Discovered) -> dict[str, Any]:
    from p8.workspace.git import shown

    return {
        "name": found.name, "types": [kind for kind, _ in found.types], "files": len(found.listing.files),
        "bytes": found.size_bytes, "read": [shown(path) for path in found.read],
    }  # fmt: skip


def _summary(found: Discovered) -> list[View]:
    state = found.git.state
    changed = len({*state.staged, *state.modified, *state.conflicted})
    where = f"{state.branch or '(detached)'} {state.commit[:10]}, {changed} changed, {len(state.untracked)} untracked"
    dependencies = sum(len(one.facts.get("dependencies", ())) for one in found.components)
    fields = [
        ("type", ", ".join(kind for kind, _ in found.types) or "unknown"),
        ("files", f"{len(found.listing.files):,}"),
        ("languages", ", ".join(f"{name} {files:,}" for name, files, _ in found.languages[:6])),
        ("described by", _line(", ".join(one.path for one in found.components[:8]))),
        ("dependencies", f"{dependencies:,}"),
        ("installed with", ", ".join(found.installers)),
        ("git", where if state.branch or state.commit else "no repository"),
    ]
    views: list[View] = [Card(_line(found.name), tuple((name, value) for name, value in fields if value))]
    problems = [f"{one.path}: {one.facts['problem']}" for one in found.components if one.facts.get("problem")]
    problems += [f"git: {found.git.problem}"] if found.git.problem else []
    problems += [f"{path}: left out, it {why}" for path, why in found.listing.left_out[:5] if why]
    return views + [Text(_line(problem), "warning") for problem in problems[:10]]


def _line(text: str) -> str:
    from p8.core.discovery import safe

    return safe(text)
