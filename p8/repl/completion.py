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
    from p8.commands.registry import Arg

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
        others = [name for name in names if not (path and name == path)]
        if not path or len(typed) == 2:
            for name in (others[at] for at in _fuzzy(text, others)):
                help_ = registry.commands[name].help
                yield Completion(
                    f"/{name}", start_position=-len(text) - 1, display=f"/{name}", display_meta=clip(help_, 60)
                )
        if path:
            yield from self._words(registry.commands[path].args, text[len(path) :].lstrip())

    def _words(self, args: tuple[Arg, ...], typed: str) -> Iterator[Completion]:
        """Yield what the words after a command may become."""
        options = {arg.name: arg for arg in args if arg.name.startswith("-")}
        *before, last = typed.split(" ")
        option = options.get(before[-1]) if before else None
        if option is not None and not option.flag:  # its value, and nothing else
            yield from self._values({option.complete}, last, [(choice, "") for choice in option.choices or ()])
            if option.complete == "path":
                yield from self._path(last)
            return
        if last.startswith("-"):
            fit = [(name, arg.help) for name, arg in options.items() if name not in before and name.startswith(last)]
            yield from _offer(last, fit)
            return
        plain = [arg for arg in args if not arg.name.startswith("-")]
        kinds = {arg.complete for arg in plain if arg.complete}
        yield from self._values(kinds, typed, [(choice, "") for arg in plain for choice in arg.choices or ()])
        if "path" in kinds:
            yield from self._path(last)

    def _values(self, kinds: set[str], typed: str, words: list[tuple[str, str]]) -> Iterator[Completion]:
        """Yield values of some kinds, and `words`: those known by their name first, then those known by a title."""
        named = list(words)
        titled: list[tuple[str, str]] = []
        if "session" in kinds:
            rows = self._app.store.sessions.page(project=self._app.project.id, limit=200)
            titled += [(row.id, row.title or "untitled") for row in rows]
        if "memory" in kinds:
            titled += [(memory.id, memory.text) for memory in self._app.memories.all()]
        if "checkpoint" in kinds:
            titled += [(c.id, c.name) for c in self._app.checkpoints.list()]
        if "model" in kinds:
            self._models = self._models or [m.name for m in self._app.catalog.models()]
            named += [(name, "") for name in self._models]
        if "project" in kinds:
            titled += [(p.project.id, p.project.name) for p in self._app.portfolio.listed()]
        if "action" in kinds:
            named += self._app.actions.completions(typed)
        if "agent" in kinds:
            named += [(name, "") for name in self._app.catalog.agents.names()]
        if "command" in kinds:
            named += [(name, "") for name in self._app.registry.names("repl")]
        if "view" in kinds:
            from p8.core.ui import offered

            named += offered(typed)
        if "tag" in kinds:
            rows = self._app.store.sessions.page(limit=500)
            named += [(tag, "") for tag in sorted({tag for row in rows for tag in row.tags})]
        yield from _offer(typed, named)
        shown = [f"{value} {escape(title, lines=False)}" for value, title in titled]
        for at in _fuzzy(typed, shown)[:MOST]:
            value, title = titled[at]
            shown_as = escape(title, lines=False)
            yield Completion(value, start_position=-len(typed), display=shown_as, display_meta=value)

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
        shown = sorted(name for name, _ in names if hidden or not name.startswith("."))
        for name in (shown[at] for at in _fuzzy(start, shown)[:MOST]):
            tail = "/" if folders[name] else ""
            yield Completion(name + tail, start_position=-len(start), display=escape(name + tail, lines=False))


def _offer(typed: str, values: list[tuple[str, str]]) -> Iterator[Completion]:
    """Yield values, each with what is said of it, that fit what was typed."""
    for at in _fuzzy(typed, [value for value, _ in values])[:MOST]:
        value, meta = values[at]
        said = clip(escape(meta, lines=False), 60)
        yield Completion(value, start_position=-len(typed), display=escape(value, lines=False), display_meta=said)


def _fuzzy(typed: str, values: list[str]) -> list[int]:
    """Return where those stand that have the typed letters in order: beginnings first, then parts, then scattered."""
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
    return [index for _, _, index in sorted(ranked)]
