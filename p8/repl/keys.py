"""What the keys do at the prompt, beyond what prompt_toolkit gives."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.application.current import get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from p8.repl.screen import Screen

FENCES = ("```", "~~~")


def goes_on(text: str) -> bool:
    """Return whether Enter should begin a new line: after a backslash, or inside an open code fence."""
    if text.endswith("\\") and not text.endswith("\\\\"):
        return True
    return any(sum(line.lstrip().startswith(f) for line in text.splitlines()) % 2 for f in FENCES)


def bindings(screen: Screen, suggested: Callable[[], str] = str) -> KeyBindings:
    """Return the key bindings of the prompt; `suggested` is the line that Tab takes where nothing is typed."""
    keys = KeyBindings()
    empty = {"count": 0}

    @keys.add("enter")
    @keys.add("c-j")  # what Enter was, typed while something still ran
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if not goes_on(buffer.text):
            buffer.validate_and_handle()
            return
        if buffer.text.endswith("\\"):
            buffer.delete_before_cursor(1)
        buffer.insert_text("\n")

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
            empty["count"] = 0
            return
        empty["count"] += 1
        if empty["count"] % 2 == 0:
            run_in_terminal(lambda: screen.line("Ctrl-D or /quit leaves; everything is saved.", "dim"))

    @keys.add("tab", filter=Condition(lambda: not get_app().current_buffer.text and bool(suggested())))
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text(suggested())

    @keys.add("escape", "escape")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if not buffer.text:
            buffer.text = "/rewind"
            buffer.validate_and_handle()

    return keys
