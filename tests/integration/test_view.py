"""How a session is looked at, on the screen: theme, status line, the picker's layout, how often things are drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.repos import Repo, make_repo
from support.terminal import Terminal

MARKDOWN = "Use `parse` now."


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "project")


@pytest.fixture
def start(home: Path, repo: Repo) -> Iterator[Callable[..., Terminal]]:
    running: list[Terminal] = []

    def begin(*args: str, **more) -> Terminal:
        one = Terminal(home, repo.root, *args, **more)
        running.append(one)
        return one

    yield begin
    for one in running:
        one.close()


def style_of(one: Terminal, text: str, last: bool = True) -> tuple[str, bool]:
    """Return colour and weight of the first letter of a text on the screen; of the lowest line that has it."""
    rows = [row for row, line in enumerate(one.screen.display) if text in line]
    row = rows[-1 if last else 0]
    char = one.screen.buffer[row][one.screen.display[row].index(text)]
    return char.fg, char.bold


def prompt(one: Terminal, line: str, wanted: str) -> str:
    """Type a line and return the screen once what was wanted stands below it."""
    one.line(line)
    until = time.monotonic() + 20
    while wanted not in one.text.rpartition(f"› {line}")[2] and time.monotonic() < until:
        one.pump()
    assert wanted in one.text.rpartition(f"› {line}")[2], one.text
    one.pump(0.4)
    return one.text


def test_a_theme_changes_status_line_answers_and_errors_and_comes_back_with_the_session(start) -> None:
    one = start(FAKE_SAYS=MARKDOWN)
    one.wait("›")
    prompt(one, "hello", "Use parse now")
    one.wait("saved")
    assert style_of(one, "saved") == ("green", False)
    assert style_of(one, "parse")[0] == "cyan"
    prompt(one, "/view theme dark", "theme is dark now")
    one.wait("saved")
    assert style_of(one, "saved") == ("87d787", False)
    assert style_of(one, "› ") == ("87d7ff", True)
    prompt(one, "again", "Use parse now")
    assert style_of(one, "parse")[0] == "87d7ff"
    prompt(one, "/nonsense", "no command is called")
    assert style_of(one, "✗")[0] == "ff8787"
    prompt(one, "/view theme none", "theme is none now")
    one.wait("saved")
    assert style_of(one, "saved")[0] == "default"
    prompt(one, "third", "Use parse now")
    assert style_of(one, "parse") == ("default", True)
    prompt(one, "/session new", "New session")
    one.line("/quit")
    one.end()

    two = start()  # a new one begins with what was chosen last
    two.wait("›")
    assert style_of(two, "› ") == ("default", True)
    prompt(two, "/view theme light", "theme is light now")
    assert style_of(two, "› ")[0] == "005faf"
    prompt(two, "/resume hello", "hello")  # that one was left without colours
    two.wait("saved")
    assert style_of(two, "› ") == ("default", True)


def test_what_cannot_be_is_one_clear_error(start) -> None:
    one = start()
    one.wait("›")
    screen = prompt(one, "/view theme pink", "cannot be 'pink'")
    assert "it may be auto, dark, light, none" in screen
    screen = prompt(one, "/view status_s never", "cannot be 'never'")
    assert "0.2 to 60 seconds" in screen
    assert "no view setting is called 'colour'" in prompt(one, "/view colour red", "colour")
    assert "Traceback" not in one.text
    broken = start(P8_THEME="pink")
    broken.wait("theme cannot be 'pink'")
    assert "auto or dark or light or none" in broken.text
    assert broken.end() == 6


def test_the_status_line_can_be_short_or_gone(start) -> None:
    one = start()
    one.wait("›")
    prompt(one, "name me", "You said")
    assert "⎇ main" in one.wait("saved")
    prompt(one, "/view status compact", "status is compact now")
    last = one.text.splitlines()[-1]
    assert "name me" in last
    assert "saved" in last
    assert "⎇" not in last
    prompt(one, "/view suggestions off", "suggestions is off now")
    prompt(one, "/view status off", "status is off now")
    one.pump(0.5)
    assert one.text.splitlines()[-1].strip() == "›"
    prompt(one, "/view status --reset", "status is full again")
    one.wait("⎇ main")


def test_the_branch_is_looked_at_as_often_as_is_set_without_a_key(start, repo: Repo) -> None:
    one = start()
    one.wait("⎇ main")
    prompt(one, "/view status_s 0.3", "status_s is 0.3 now")
    repo.git("checkout", "-q", "-b", "elsewhere")
    one.wait("⎇ elsewhere", 5)


def test_the_pickers_preview_stands_where_it_is_told(start) -> None:
    one = start(columns=110, rows=30)
    one.wait("›")
    for number in range(3):
        prompt(one, f"question number {number}", f"You said: question number {number}")
        prompt(one, "/session new", "New session")
    one.line("/resume", "type to search")
    one.send("\x1b[B")
    one.wait("│ › question number")
    assert one.screen.display[2].count("│") == 1
    one.send("\x0c")  # right
    one.wait("layout: right")
    one.send("\x0c")
    one.wait("layout: below")
    one.pump(0.3)
    rows = one.screen.display
    assert not any("│" in row for row in rows)
    rules = [at for at, row in enumerate(rows) if row.startswith("────")]
    assert len(rules) == 3
    assert any("You said: question number" in row for row in rows[rules[1] :])
    one.send("\x0c")
    one.wait("layout: off")
    one.pump(0.3)
    assert not any("You said: question" in row for row in one.screen.display)
    one.send("\t")
    one.wait("choose a message")
    assert any("You said: question" in row for row in one.screen.display)
    one.send("\t")
    one.send("\x1b")
    one.pump(0.4)
    assert "off" in prompt(one, "/view picker_preview", "(auto, right, below, off)")
    prompt(one, "/view picker_preview below", "below now")
    one.line("/resume", "type to search")
    one.send("\x1b[B")
    one.wait("You said: question number")
    assert sum(row.startswith("────") for row in one.screen.display) == 3


def test_figures_are_drawn_anew_until_ctrl_c(start, home: Path) -> None:
    one = start()
    one.wait("›")
    prompt(one, "first", "You said: first")
    prompt(one, "/view watch_s 0.3", "watch_s is 0.3 now")
    two = start("stats", "--watch", "--all")
    two.wait("Ctrl-C leaves")
    assert "2 messages" in two.wait("All sessions")
    prompt(one, "second", "You said: second")
    two.wait("4 messages")
    two.send("\x03")
    assert two.end() == 0


def test_tab_offers_settings_and_their_values(start) -> None:
    one = start()
    one.wait("›")
    one.send("/view picker_pr\t")
    one.wait("› /view picker_preview")
    one.send(" bel\t")
    one.wait("› /view picker_preview below")
    one.send("\r")
    one.wait("picker_preview is below now")
    one.send("/stats --h\t")
    one.wait("› /stats --health")
    one.send("\x03")
    one.send("/log --kind chec\t")
    one.wait("› /log --kind checkpoint")
    one.send("\x03")
    one.send("/handoff --to oth\t")
    one.wait("› /handoff --to other")
