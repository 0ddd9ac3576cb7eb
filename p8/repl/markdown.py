"""Markdown on the terminal, also while it is still being written.

Text is made harmless before rich sees it. While an answer streams, finished blocks (paragraphs, lists, fences) are
printed once and for good; only the unfinished last block is redrawn. The only room that imports rich.
"""

from __future__ import annotations

import io
import re
from typing import Any

from p8.repl.screen import Screen, escape

FENCE = re.compile(r"^ {0,3}(```+|~~~+)", re.MULTILINE)


def render(text: str, width: int) -> str:
    """Return Markdown drawn with colours for a terminal of `width` columns."""
    from rich.console import Console
    from rich.markdown import Markdown

    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=True, color_system="standard", legacy_windows=False, highlight=False
    )
    console.print(Markdown(escape(text), code_theme="ansi_dark", hyperlinks=False))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


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
        from rich.console import Console
        from rich.live import Live
        from rich.markdown import Markdown

        if not self._text.strip():
            return
        if self._live is None:
            console = Console(file=self._screen.out, width=self._screen.width, color_system="standard", highlight=False)
            self._live = Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        tail = self._text[-4000:] if len(self._text) > 4000 else self._text
        self._live.update(Markdown(escape(tail), code_theme="ansi_dark", hyperlinks=False), refresh=True)

    def _settle(self, text: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if text.strip():
            self._screen.write(render(text, self._screen.width))

    def close(self) -> None:
        """Draw what is left, for good."""
        if not self._screen.color:
            if self._text and not self._text.endswith("\n"):
                self._screen.write("\n")
            return
        self._settle(self._text)
        self._text = ""
