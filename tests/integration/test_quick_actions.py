"""Quick actions and the line under the prompt, through a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.recorded import entries
from support.terminal import Terminal


@pytest.fixture
def terminal(home: Path, tmp_path: Path) -> Iterator[Terminal]:
    folder = tmp_path / "project"
    (folder / ".ai-sessions" / "actions").mkdir(parents=True)
    (folder / ".ai-sessions" / "actions" / "mine.yaml").write_text("theirs:\n  run: echo from the project\n")
    own = home / "configs" / "actions"
    own.mkdir(parents=True)
    home.chmod(0o700)
    (own / "mine.yaml").write_text("build:\n  run: echo built {what}\n  parameters: {what: {default: all}}\n"
                                   "fails:\n  run: ['false', echo never]\n")  # fmt: skip
    opened = Terminal(home, folder)
    opened.wait("›")
    yield opened
    opened.close()


def test_done_recorded_suggested_and_taken_with_one_key(terminal: Terminal, home: Path) -> None:
    for number in range(4):
        terminal.line(f"change {number}", f"You said: change {number}")
        terminal.line(f"/do build part{number}", f"built part{number}")
    terminal.line("and again", "You said: and again")
    screen = terminal.wait("Tab /do build")
    assert "%" in screen.split("Tab /do build")[1].splitlines()[0]
    terminal.send("\t")
    terminal.wait("› /do build")
    terminal.send("\r")
    terminal.wait("built all")
    terminal.line("/do fails", "exit 1")
    terminal.line("/do build 'x", "quote")
    terminal.line("/quit")
    terminal.end()
    assert "never" not in terminal.text

    runs = entries(home, "execution")
    assert [r["command"] for r in runs] == [*(f"echo built part{n}" for n in range(4)), "echo built all", "false"]
    assert [r["metadata"]["action"] for r in runs] == ["build"] * 5 + ["fails"]


def test_what_a_project_brings_along_is_asked_about_first(terminal: Terminal) -> None:
    terminal.line("/do theirs", "Trust it")
    terminal.send("n\r")
    terminal.pump(0.5)
    assert "\nfrom the project" not in terminal.text
    terminal.line("/do theirs", "Trust it")
    terminal.send("y\r")
    terminal.wait("\nfrom the project")
    terminal.line("/do theirs")
    terminal.pump(1)
    assert terminal.text.count("\nfrom the project") == 2
    assert terminal.text.count("Trust it") == 2
