"""Markdown on the terminal, also while it is still being written.

Text is made harmless before rich sees it. While an answer streams, finished blocks (paragraphs, lists, fences) are
printed once and for good; only the unfinished last block is redrawn. The only room that imports rich.
"""

from __future__ import annotations

import io
import re
from typing import Any, TextIO

from p8.repl.screen import Screen, escape
from p8.repl.theme import theme_of

FENCE = re.compile(r"^ {0,3}(```+|~~~+)", re.MULTILINE)


def render(text: str, width: int, theme: str = "auto") -> str:
    """Return Markdown drawn in a theme for a terminal of `width` columns."""
    out = io.StringIO()
    console = _console(out, width, theme, force_terminal=True, legacy_windows=False)
    console.print(_drawn(text, theme))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _console(out: TextIO, width: int, theme: str, **more: Any) -> Any:
    from rich.console import Console
    from rich.theme import Theme

    look = theme_of(theme)
    system: Any = "standard" if theme == "auto" else "256"
    return Console(
        file=out, width=width, color_system=system, no_color=not look.has_color, highlight=False,
        theme=Theme(dict(look.markdown)), **more,
    )  # fmt: skip


def _drawn(text: str, theme: str) -> Any:
    from rich.markdown import Markdown

    return Markdown(escape(text), code_theme=theme_of(theme).code, hyperlinks=False)


def split(text: str) -> int:
    """Return how much of `text` consists of finished blocks: an offset behind a blank line outside of any fence."""
    fences = [m.start() for m in FENCE.finditer(text)]
    limit = fences[-1] if len(fences) % 2 else len(text)
    at = text.rfind("\n\n", 0, limit)
    return at + 2 if at >= 0 else 0


class Stream:
    """
    Draws an answer as it comes.

    Args:
        screen: where to. Without colour the text is written as it comes, unrendered.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._text = ""
        self._live: Any = None

    def feed(self, piece: str) -> None:
        """Take in a piece of the answer."""
        if not self._screen.color:
            self._screen.write(escape(piece))
            self._text += piece
            return
        self._text += piece
        done = split(self._text)
        if done:
            self._settle(self._text[:done])
            self._text = self._text[done:]
        self._show()

    def _show(self) -> None:
        from rich.live import Live

        if not self._text.strip():
            return
        screen = self._screen
        if self._live is None:
            console = _console(screen.out, screen.width, screen.theme)
            self._live = Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        tail = self._text[-4000:] if len(self._text) > 4000 else self._text
        self._live.update(_drawn(tail, screen.theme), refresh=True)

    def _settle(self, text: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if text.strip():
            self._screen.write(render(text, self._screen.width, self._screen.theme))

    def close(self) -> None:
        """Draw what is left, for good."""
        if not self._screen.color:
            if self._text and not self._text.endswith("\n"):
                self._screen.write("\n")
            return
        self._settle(self._text)
        self._text = ""
