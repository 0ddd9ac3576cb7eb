"""A list to choose one thing from, with a preview of what it is; type to narrow it down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.styles import Style

from p8.repl.screen import Screen, escape
from p8.repl.theme import theme_of

MOST_LINES = 12
STOP_POLL_S = 0.1
STYLE = {"title": "bold", "chosen": "reverse", "dim": "{dim}", "preview": "{dim} italic"}


class Chooser:
    """
    What is listed and what is chosen; no terminal.

    Args:
        options: (value, label, preview) each.
    """

    def __init__(self, options: Sequence[tuple[str, str, str]]) -> None:
        self._all = [(v, escape(label, lines=False), escape(preview, lines=False)) for v, label, preview in options]
        self.query = ""
        self.at = 0

    @property
    def shown(self) -> list[tuple[str, str, str]]:
        """Return the options that hold every word of the query."""
        words = self.query.lower().split()
        return [o for o in self._all if all(w in f"{o[1]} {o[2]}".lower() for w in words)]

    def move(self, by: int) -> None:
        """Go up or down, as far as there is something."""
        self.at = max(0, min(self.at + by, len(self.shown) - 1))

    def type(self, text: str) -> None:
        """Narrow down."""
        self.query += text
        self.at = 0

    def erase(self) -> None:
        """Take the last letter back."""
        self.query = self.query[:-1]
        self.at = 0

    @property
    def value(self) -> str | None:
        """Return what is chosen."""
        shown = self.shown
        return shown[self.at][0] if shown else None


def choose(
    title: str, options: Sequence[tuple[str, str, str]], screen: Screen, stop: threading.Event | None = None
) -> str | None:
    """
    Let the person choose.

    Args:
        title: what it is about.
        options: (value, label, preview) each.
        screen: whose colours are used.
        stop: leaves it when it is set.

    Returns:
        the value chosen, or None.
    """
    state = Chooser(options)

    def lines() -> StyleAndTextTuples:
        shown = state.shown
        top = max(0, min(state.at - MOST_LINES // 2, len(shown) - MOST_LINES))
        head = f"{title}  {state.query}" if state.query else title
        text: StyleAndTextTuples = [("class:title", f"{head}\n")]
        for index, (_, label, _preview) in enumerate(shown[top : top + MOST_LINES], top):
            mark, style = ("❯ ", "class:chosen") if index == state.at else ("  ", "")
            text.append((style, f"{mark}{label}\n"))
        if not shown:
            text.append(("class:dim", "  nothing fits\n"))
        elif shown[state.at][2]:
            text.append(("class:preview", f"  {shown[state.at][2]}\n"))
        text.append(("class:dim", "  ↑↓ move · type to narrow · Enter choose · Esc leave it"))
        return text

    height = Dimension(preferred=min(len(options), MOST_LINES) + 3)
    body = HSplit(
        [Window(FormattedTextControl(lines, focusable=True, show_cursor=False), height=height, wrap_lines=False)]
    )
    look = theme_of(screen.theme)
    application: Application[str | None] = Application(
        Layout(body), key_bindings=_keys(state), style=Style.from_dict(look.prompt(STYLE)), erase_when_done=True,
        color_depth=None if screen.color and look.has_color else ColorDepth.DEPTH_1_BIT,
    )  # fmt: skip
    application.ttimeoutlen = 0.05

    async def watch() -> None:
        while stop is not None and not stop.is_set():  # noqa: ASYNC110  set by a signal or another thread
            await asyncio.sleep(STOP_POLL_S)
        application.exit(result=None)

    def begin() -> None:
        if stop is not None:
            application.create_background_task(watch())

    return application.run(pre_run=begin)


def _keys(state: Chooser) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("up")
    @keys.add("c-p")
    def _(event: KeyPressEvent) -> None:
        state.move(-1)

    @keys.add("down")
    @keys.add("c-n")
    def _(event: KeyPressEvent) -> None:
        state.move(1)

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.app.exit(result=state.value)

    @keys.add("escape", eager=True)
    @keys.add("c-c")
    @keys.add("c-d")
    def _(event: KeyPressEvent) -> None:
        event.app.exit(result=None)

    @keys.add("backspace")
    def _(event: KeyPressEvent) -> None:
        state.erase()

    @keys.add("<any>")
    def _(event: KeyPressEvent) -> None:
        if event.data.isprintable():
            state.type(event.data)

    return keys
