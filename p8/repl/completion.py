"""What Tab offers: commands, sessions, checkpoints, models, tags, paths. Fuzzy: letters in order are enough."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from p8.errors import P8Error
from p8.repl.screen import clip, escape

if TYPE_CHECKING:
    from p8.app import App

MOST = 60
FOLDER_ENTRIES = 5000


class ReplCompleter(Completer):
    """
    Completes what is typed at the prompt.

    Args:
        app: whose commands and sessions.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._models: list[str] | None = None

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield completions for the text before the cursor."""
        text = document.text_before_cursor
        try:
            if text.startswith("/") and "\n" not in text and not text.startswith("//"):
                yield from self._command(text[1:])
            else:
                word = document.get_word_before_cursor(WORD=True)
                if text.startswith("!") or word.startswith("@"):
                    yield from self._path(word.lstrip("!@"))
        except (P8Error, OSError):
            return

    def _command(self, text: str) -> Iterator[Completion]:
        registry = self._app.registry
        names = registry.names("repl")
        typed = text.split(" ")
        path = next((" ".join(typed[:n]) for n in (2, 1) if len(typed) > n and " ".join(typed[:n]) in names), "")
        offered = _fuzzy(text, [name for name in names if not (path and name == path)])
        if offered and (not path or len(typed) == 2):
            for name in offered:
                help_ = registry.commands[name].help
                yield Completion(
                    f"/{name}", start_position=-len(text) - 1, display=f"/{name}", display_meta=clip(help_, 60)
                )
        if path:
            words = text[len(path) :].lstrip().split(" ")
            kinds = {arg.complete for arg in registry.commands[path].args if arg.complete}
            options = [arg.name for arg in registry.commands[path].args if arg.name.startswith("--")]
            yield from self._values(kinds, " ".join(words), options)
            if "path" in kinds:
                yield from self._path(words[-1])

    def _values(self, kinds: set[str], typed: str, options: list[str]) -> Iterator[Completion]:
        values: list[tuple[str, str]] = [(option, "") for option in options if typed.startswith("-")]
        if "session" in kinds:
            rows = self._app.store.sessions.page(project=self._app.project.id, limit=200)
            values += [(row.id, f"{escape(row.title, lines=False) or 'untitled'}") for row in rows]
        if "checkpoint" in kinds:
            values += [(c.id, escape(c.name, lines=False)) for c in self._app.checkpoints.list()]
        if "model" in kinds:
            self._models = self._models or [m.name for m in self._app.catalog.models()]
            values += [(name, "") for name in self._models]
        if "project" in kinds:
            values += [(p.project.id, escape(p.project.name, lines=False)) for p in self._app.portfolio.listed()]
        if "action" in kinds:
            values += [(text, escape(note, lines=False)) for text, note in self._app.actions.completions(typed)]
        if "agent" in kinds:
            values += [(name, "") for name in self._app.catalog.agents.names()]
        if "command" in kinds:
            values += [(name, "") for name in self._app.registry.names("repl")]
        if "tag" in kinds:
            rows = self._app.store.sessions.page(limit=500)
            values += [(tag, "") for tag in sorted({tag for row in rows for tag in row.tags})]
        found = _fuzzy(typed, [f"{value} {meta}" for value, meta in values])
        by_text = {f"{value} {meta}": (value, meta) for value, meta in values}
        for text in found[:MOST]:
            value, meta = by_text[text]
            yield Completion(
                value, start_position=-len(typed), display=meta or value, display_meta=value if meta else ""
            )

    def _path(self, word: str) -> Iterator[Completion]:
        folder, _, start = word.rpartition("/")
        base = Path(folder).expanduser() if folder else Path()
        where = self._app.directory / base if folder or not word.startswith("/") else Path("/")
        names: list[tuple[str, bool]] = []
        with contextlib.suppress(OSError), os.scandir(where) as entries:
            for entry in entries:
                names.append((entry.name, entry.is_dir()))
                if len(names) >= FOLDER_ENTRIES:
                    break
        hidden = start.startswith(".")
        folders = dict(names)
        for name in _fuzzy(start, sorted(n for n, _ in names if hidden or not n.startswith(".")))[:MOST]:
            tail = "/" if folders[name] else ""
            yield Completion(name + tail, start_position=-len(start), display=escape(name + tail, lines=False))


def _fuzzy(typed: str, values: list[str]) -> list[str]:
    """Return the values that have the typed letters in order: beginnings first, then parts, then scattered ones."""
    wanted = typed.lower()
    ranked = []
    for index, value in enumerate(values):
        low = value.lower()
        if low.startswith(wanted):
            ranked.append((0, 0, index))
        elif wanted in low:
            ranked.append((1, low.index(wanted), index))
        else:
            at = -1
            for letter in wanted:
                at = low.find(letter, at + 1)
                if at < 0:
                    break
            else:
                ranked.append((2, at, index))
    return [values[index] for _, _, index in sorted(ranked)]
