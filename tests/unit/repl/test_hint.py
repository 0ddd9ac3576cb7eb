"""The suggestion under the prompt: what is shown, what Tab takes, and what a keystroke costs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from p8.core.habits import Suggestion
from p8.repl.hint import Hint
from p8.repl.status import StatusLine
from p8.testing import make_app


class Given:
    """An app that suggests what it is told to."""

    def __init__(self, *found: Suggestion) -> None:
        self.view = {"suggestions": True}
        self.suggestions = self
        self.found = found

    def refresh(self) -> tuple[Suggestion, ...]:
        return self.found


def hint_of(*found: Suggestion) -> Hint:
    drawn: list[bool] = []
    hint = Hint(Given(*found), lambda: drawn.append(True))
    hint.refresh()
    until = time.monotonic() + 5
    while not drawn and time.monotonic() < until:
        time.sleep(0.005)
    return hint


def text(hint: Hint, width: int = 80) -> str:
    return "".join(part for _, part in hint.parts(width))


def test_the_likely_ones_are_shown_and_tab_takes_the_first() -> None:
    hint = hint_of(Suggestion("/do test", 0.62, "test"), Suggestion("!git push", 0.21), Suggestion("!ls", 0.01))
    assert text(hint) == "\n Tab /do test 62%   !git push 21%"
    assert hint.take() == "/do test"
    assert text(hint, 24) == "\n Tab /do test 62%"
    assert text(hint, 10) == ""


def test_what_is_unlikely_gets_no_line() -> None:
    hint = hint_of(Suggestion("/do test", 0.2, "test"))
    assert (text(hint), hint.take()) == ("", "")


def test_whoever_does_not_want_it_sees_nothing() -> None:
    app = Given(Suggestion("/do test", 0.9, "test"))
    app.view = {"suggestions": False}
    drawn: list[bool] = []
    hint = Hint(app, lambda: drawn.append(True))
    hint.refresh()
    until = time.monotonic() + 5
    while not drawn and time.monotonic() < until:
        time.sleep(0.005)
    assert drawn
    assert (text(hint), hint.take()) == ("", "")


def test_hostile_lines_are_harmless_on_the_screen() -> None:
    assert "\x1b" not in text(hint_of(Suggestion("!echo \x1b]0;owned\x07 \u202e", 0.9)))


@pytest.mark.parametrize("typed", ["", "/do te"])
def test_a_keystroke_costs_less_than_a_millisecond(home: Path, tmp_path: Path, typed: str) -> None:
    app = make_app(home, tmp_path)
    app.ensure_session()
    for number in range(300):
        app.sessions.record_command(f"!make {'build' if number % 2 else 'ship'}")
        app.sessions.record_execution("make", exit_code=0)
    status, drawn = StatusLine(app), []
    hint = Hint(app, lambda: drawn.append(True))
    hint.refresh()
    until = time.monotonic() + 20
    while not drawn and time.monotonic() < until:
        time.sleep(0.01)
    assert hint.take()
    costs = []
    for _ in range(1000):
        begun = time.perf_counter()
        [*status.parts(100), *hint.parts(100)]
        hint.take()
        costs.append(time.perf_counter() - begun)
    app.close()
    costs.sort()
    assert costs[950] < 0.001
