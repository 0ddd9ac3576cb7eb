"""The line under the status: what may come next, which Tab takes on an empty prompt.

Worked out in the background after each line; drawing it looks at what is there and costs microseconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from p8.repl.screen import clip, escape, width_of

if TYPE_CHECKING:
    from p8.app import App
    from p8.core.habits import Suggestion

LEAST = 0.3  #: what is less likely than this is not worth a line
BESIDE = 0.1  #: nor is this worth standing beside the first
MOST = 60  #: columns of one suggestion
Part = tuple[str, str]


class Hint:
    """
    Draws the line.

    Args:
        app: whose suggestions.
        changed: called, from another thread, when there is something new to draw.
    """

    def __init__(self, app: App, changed: Callable[[], object]) -> None:
        self._app = app
        self._changed = changed
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._drawn: tuple[tuple[Suggestion, ...], int, list[Part]] = ((), 0, [])
        self._shown: tuple[Suggestion, ...] = ()

    def refresh(self) -> None:
        """Work it out again, soon."""
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="p8-hint", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            with contextlib.suppress(Exception):  # a suggestion is never worth an error
                found = self._app.suggestions.refresh() if self._app.view.get("suggestions") else ()
                first = found[0].confidence if found else 0.0
                self._shown = tuple(s for s in found if s.confidence >= BESIDE) if first >= LEAST else ()
                self._changed()

    def take(self) -> str:
        """Return the line that is suggested first, or ""."""
        return self._shown[0].line if self._shown else ""

    def parts(self, width: int) -> list[Part]:
        """Return (style class, text) pieces: the end of the line before it, and the line; none for no line."""
        shown, columns, parts = self._drawn
        if shown is not self._shown or columns != width:
            parts = self._draw(self._shown, width)
            self._drawn = self._shown, width, parts
        return parts

    def _draw(self, shown: tuple[Suggestion, ...], width: int) -> list[Part]:
        parts: list[Part] = []
        left = width - 6
        for suggestion in shown:
            text = clip(escape(suggestion.line.rstrip(), lines=False), MOST)
            chance = f" {suggestion.confidence:.0%}"
            needed = width_of(text) + len(chance) + 3
            if needed > left:
                break
            left -= needed
            style = "class:hint.first" if not parts else "class:hint"
            parts += [("class:hint", "\n Tab " if not parts else "   "), (style, text), ("class:hint", chance)]
        return parts
