"""The one way to the terminal: text from models, tools, files and titles is made harmless, views are drawn.

Only P8's own styles emit escape sequences (RELIABILITY section 3, "Terminal"). No rich, no prompt_toolkit: the CLI
draws with this too, and must start in milliseconds. Markdown is in `markdown.py`.
"""

from __future__ import annotations

import os
import re
import sys

from p8.commands.registry import Card, Markdown, Meters, Plot, Table, Text, View
from p8.errors import P8Error
from p8.model import Notice
from p8.patterns import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

#: C0 but tab and newline, DEL, C1, the bidirectional controls, other invisible formatters, surrogates
HOSTILE = pattern(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
#: the theme "auto": the terminal's own sixteen colours, which fit its background
STYLES = {
    "dim": "2", "good": "32", "warning": "33", "bad": "31", "title": "1", "accent": "36", "user": "1;36",
    "mark": "1;33", "inverse": "7",
}  # fmt: skip
GAP = "  "
SMALLEST_COLUMN = 6


def escape(text: str, *, lines: bool = True) -> str:
    """
    Return `text` with everything that a terminal would act on turned into visible marks.

    Args:
        text: anything at all.
        lines: keep newlines and tabs; else they become spaces, for titles and rows of lists.
    """
    if lines:
        if "\r" in text:
            text = text.replace("\r\n", "\n")
    else:
        text = " ".join(text.split())
    return text if text.isprintable() else HOSTILE.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # ␀ ␛ …
    if code == 0x7F:
        return "␡"
    return f"‹{code:02x}›"


def width_of(text: str) -> int:
    """Return how many columns `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def clip(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, ending in … where something was cut off."""
    if width_of(text) <= width:
        return text
    kept, used = [], 0
    for c in text:
        used += width_of(c)
        if used > width - 1:
            break
        kept.append(c)
    return "".join(kept) + "…" if width > 0 else ""


def pad(text: str, width: int) -> str:
    """Return `text` clipped or filled to exactly `width` columns."""
    text = clip(text, width)
    return text + " " * (width - width_of(text))


class Screen:
    """
    Draws views as text.

    Args:
        out: where to.
        color: whether styles may be used; what is not a terminal gets none.
        width: columns; asked of the terminal where none is given.
    """

    def __init__(self, out: TextIO | None = None, color: bool = True, width: int | None = None) -> None:
        self.out = out or sys.stdout
        self.is_terminal = self.out.isatty()
        self.color = color and self.is_terminal
        self.theme = "auto"
        self.styles: Mapping[str, str] = STYLES
        self._width = width

    def use_theme(self, name: str) -> None:
        """Draw in another theme from now on (see `theme.py`)."""
        if name != self.theme:
            from p8.repl.theme import theme_of

            self.theme, self.styles = name, theme_of(name).screen

    @property
    def width(self) -> int:
        """Return the columns at hand: the terminal's, or enough for a line where there is none."""
        if self._width is not None:
            return self._width
        try:
            return max(os.get_terminal_size(self.out.fileno()).columns, 20)
        except (OSError, ValueError):
            return 160

    def style(self, text: str, name: str) -> str:
        """Return harmless text in one of P8's styles."""
        code = self.styles.get(name) if self.color else None
        return f"\x1b[{code}m{text}\x1b[0m" if code and text else text

    def write(self, text: str) -> None:
        """Write harmless text as it is."""
        try:
            self.out.write(text)
            self.out.flush()
        except UnicodeEncodeError:
            self.out.write(text.encode("ascii", "backslashreplace").decode())
            self.out.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line, or several, of any text."""
        self.write(self.style(escape(text), style) + "\n")

    def draw(self, *views: View) -> None:
        """Draw what a command shows."""
        for view in views:
            if isinstance(view, Text):
                self.line(view.text, view.style)
            elif isinstance(view, Markdown):
                self._markdown(view.text)
            elif isinstance(view, Table):
                self._table(view)
            elif isinstance(view, Plot):
                self._plot(view)
            elif isinstance(view, Meters):
                self._meters(view)
            else:
                self._card(view)

    def error(self, error: P8Error) -> None:
        """Draw an error: what was wrong, and what to do."""
        self.write(self.style("✗ ", "bad") + escape(error.message) + "\n")
        if error.hint:
            self.write(self.style(f"  {escape(error.hint)}", "dim") + "\n")

    def notice(self, notice: Notice) -> None:
        """Draw a notice."""
        mark, style = {"error": ("✗", "bad"), "warning": ("!", "warning")}.get(notice.level, ("·", "dim"))
        hint = f" — {notice.hint}" if notice.hint else ""
        self.write(
            self.style(f"{mark} ", style) + self.style(escape(f"{notice.text}{hint}", lines=False), "dim") + "\n"
        )

    def _markdown(self, text: str) -> None:
        if self.color:
            from p8.repl.markdown import render

            self.write(render(text, self.width, self.theme))
        else:
            self.line(text)

    def _table(self, table: Table) -> None:
        if not table.rows:
            self.line(table.empty, "dim")
            return
        rows = [[escape(cell, lines=False) for cell in row] for row in table.rows]
        widths = self._columns(table.columns, rows)
        head = GAP.join(pad(name, w) for name, w in zip(table.columns, widths, strict=True)).rstrip()
        self.write(self.style(head, "dim") + "\n")
        for row in rows:
            self.write(GAP.join(pad(cell, w) for cell, w in zip(row, widths, strict=True)).rstrip() + "\n")

    def _plot(self, plot: Plot) -> None:
        from p8.repl.charts import lines_of

        drawn = lines_of(plot, min(self.width, 100))
        if drawn:
            self.line(escape(plot.title, lines=False), "title")
        for style, text in drawn:
            self.line(text, style)

    def _meters(self, meters: Meters) -> None:
        from p8.repl.charts import rows_of

        if meters.title:
            self.line(escape(meters.title, lines=False), "title")
        for pieces in rows_of(meters, min(self.width, 100)):
            self.write("".join(self.style(text, style) for style, text in pieces).rstrip() + "\n")

    def _columns(self, names: tuple[str, ...], rows: list[list[str]]) -> list[int]:
        """Return column widths: as wide as needed; where that is too much, the widest give way first."""
        widths = [max(width_of(name), *(width_of(row[i]) for row in rows)) for i, name in enumerate(names)]
        if not self.is_terminal and self._width is None:
            return widths
        room = self.width - len(GAP) * (len(widths) - 1)
        while sum(widths) > room and max(widths) > SMALLEST_COLUMN:
            widest = widths.index(max(widths))
            widths[widest] -= max(1, min(widths[widest] - SMALLEST_COLUMN, sum(widths) - room, 4))
        return widths

    def _card(self, card: Card) -> None:
        if card.title:
            self.line(escape(card.title, lines=False), "title")
        label = max((width_of(name) for name, _ in card.fields), default=0)
        for name, value in card.fields:
            first, *rest = escape(value).split("\n")
            self.write(f"  {self.style(pad(name, label), 'dim')}  {first}\n")
            for line in rest:
                self.write(f"  {' ' * label}  {line}\n")
