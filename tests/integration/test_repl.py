"""The REPL as a person meets it: keys in, the screen out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
from support.recorded import entries, recorded
from support.terminal import Start, opening

HOSTILE = "\x1b[31mred\x1b]0;owned\x07 \x1b]52;c;cm0=\x07 \u202eevil\u202c nul\0 csi\x9b31m bel\x07 bom\ufeff end"


@pytest.fixture
def terminals(home: Path, directory: Path) -> Iterator[Start]:
    with opening(home, directory) as start:
        yield start


def messages(home: Path) -> list[list[str]]:
    return [[str(data["content"]) for data in session] for session in recorded(home, "message")]


def test_talk_run_and_come_back(terminals, home: Path, directory: Path) -> None:
    (directory / "notes.txt").write_text("x")
    one = terminals()
    one.wait("›")
    one.line("hello there", "You said: hello there")
    one.line("!ls", "notes.txt")
    one.process.kill(signal.SIGKILL)
    one.end()
    two = terminals("-c")
    screen = two.wait("its process died")

    assert "hello there" in screen
    assert "notes.txt" in screen
    two.send("\x1b[A")
    two.wait("› !ls")
    two.send("\x1b[A")
    two.wait("› hello there")
    two.send("\x03")
    two.line("what did I run?", "You said: what did I run?")


def test_the_status_line_tells_title_project_and_safety(terminals) -> None:
    one = terminals()
    one.wait("›")
    one.line("name me", "You said: name me")
    screen = one.wait("saved")

    assert re.search(r"name me +project +fake +\d+ tokens +saved", screen.replace("\n", " "))


@pytest.mark.parametrize("how", ["/quit", "ctrl-d", "SIGTERM", "SIGHUP", "close"])
def test_every_way_out_saves(terminals, home: Path, how: str) -> None:
    one = terminals()
    one.wait("›")
    one.line("remember this", "You said: remember this")
    if how == "/quit":
        one.line("/quit")
    elif how == "ctrl-d":
        one.send("\x04")
    elif how == "close":
        one.hang_up()
    else:
        one.process.kill(getattr(signal, how))
    if how == "close":
        deadline = time.monotonic() + 15
        while one.process.ptyproc.isalive() and time.monotonic() < deadline:
            time.sleep(0.1)
    else:
        assert one.end() == 0
    store = PersistenceManager(home, background=False)
    (row,) = store.sessions.page()
    store.close()

    assert messages(home) == [["remember this", "You said: remember this "]]
    assert row.status == "paused"
    if how in {"/quit", "ctrl-d", "SIGTERM"}:
        assert f"p8 -r {row.id}" in one.text.replace("\n", "")


def test_an_empty_visit_leaves_nothing(terminals, home: Path) -> None:
    one = terminals()
    one.wait("›")
    one.send("\x04")
    one.end()

    assert messages(home) == []


def test_ctrl_c_stops_an_answer_and_keeps_what_came(terminals, home: Path) -> None:
    one = terminals(FAKE_SAYS="one two three four five six seven eight nine ten", FAKE_DELAY_S="0.4")
    one.wait("›")
    one.line("count", "two")
    one.send("\x03")
    one.wait("/retry asks again")
    one.line("/quit", "Saved")
    one.end()
    (said,) = messages(home)

    assert said[0] == "count"
    assert said[1].startswith("one two")
    assert "ten" not in said[1]


def test_several_lines_are_one_message(terminals, home: Path) -> None:
    one = terminals()
    one.wait("›")
    one.send("first\x1b\rsecond")
    one.pump(0.2)
    one.send("\x1b[200~pasted a\rpasted b\x1b[201~")
    one.pump(0.2)
    one.send("\r")
    one.wait("You said: first")
    one.line("/quit", "Saved")
    one.end()

    assert messages(home)[0][0] == "first\nsecondpasted a\npasted b"


def test_a_command_that_fails_shows_its_status(terminals, home: Path) -> None:
    one = terminals()
    one.wait("›")
    one.line("!echo out; exit 3", "exit 3")
    one.line("/sesion list", "did you mean")
    one.line("/session rename", "the following arguments are required")


def test_the_picker_finds_a_word_said_in_the_middle(terminals, home: Path, directory: Path) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    wanted = ""
    for number in range(200):
        session = manager.start_session("project", directory=str(directory))
        manager.record_message({"role": "user", "content": f"question number {number}"})
        if number == 77:
            wanted = session.session_id
        for turn in range(6):
            word = "the zymurgy of ale" if number == 77 and turn == 3 else "nothing special"
            manager.record_message({"role": "assistant", "content": f"answer {turn}: {word}"})
    manager.close()
    one = terminals("-r")
    one.wait("type to search")
    one.send("\x0f")
    one.wait("all projects")
    one.wait("200 ·")
    one.send("zymurgy")
    one.wait("the zymurgy of ale")
    screen = one.wait("question number 77")
    assert "question number 78" not in screen
    one.send("\r")
    one.wait("── question number 77")
    one.line("/session info", wanted)


def test_rename_pin_trash_and_undo_in_the_picker(terminals, home: Path, directory: Path) -> None:
    one = terminals()
    one.wait("›")
    one.line("make a session", "You said: make a session")
    one.line("/resume", "type to search")
    one.send("\x10")
    one.wait("★")
    one.send("\x12")
    one.wait("rename:")
    one.send("\x7f" * 20 + "better name\r")
    one.wait("renamed")
    one.wait("★ ● better name")
    one.send("\x1a")
    one.wait("Taken back")
    one.send("\x1b")
    one.wait("make a session")


def test_two_repls_on_one_session_are_kept_apart(terminals, home: Path) -> None:
    one = terminals()
    one.wait("›")
    one.line("mine", "You said: mine")
    two = terminals("-c")
    two.wait("It is open elsewhere")
    two.send("fork\r")
    two.wait("── ↳ mine")
    two.line("in the fork", "You said: in the fork")
    three = terminals("-r", "mine")
    three.wait("It is open elsewhere")
    three.send("take\r")
    three.wait("── mine")
    three.line("taken", "You said: taken")
    one.line("still here?", "You said: still here?")
    for terminal in (one, two, three):
        terminal.line("/quit", "Saved")
        terminal.end()
    said = sorted(messages(home), key=len)

    assert ["still here?", "You said: still here? "] in said
    assert ["mine", "You said: mine ", "taken", "You said: taken "] in said
    assert ["mine", "You said: mine ", "in the fork", "You said: in the fork "] in said


def test_a_branch_that_changed_is_told_before_the_first_prompt(terminals, directory: Path) -> None:
    def git(*words: str) -> None:
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
        who = ["git", "-c", "user.name=n", "-c", "user.email=e@x"]
        subprocess.run([*who, *words], cwd=directory, env=env, check=True, capture_output=True)

    git("init", "-b", "alpha")
    (directory / "f").write_text("1")
    git("add", "f")
    git("commit", "-m", "first")
    one = terminals()
    one.wait("›")
    one.line("work", "You said: work")
    one.line("/checkpoint before", "◆ before — alpha")
    one.line("/quit", "Saved")
    one.end()
    git("checkout", "-b", "beta")
    (directory / "g").write_text("2")
    two = terminals("-c")
    screen = two.wait("! 1 file untracked: g")

    assert "branch was alpha, is beta" in screen
    two.line("/quit", "Saved")
    two.end()
    three = terminals("-c")
    three.wait("- 1 file untracked: g")  # what the assistant was told stands in the transcript
    three.pump(0.5)
    assert "! " not in three.text


def test_hostile_text_never_reaches_the_terminal(terminals, home: Path, directory: Path) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    branch = "evil\u202ebranch\u202c\u200b"  # what git itself lets a branch be called
    subprocess.run(["git", "init", "-q", "-b", branch], cwd=directory, check=True)
    session = manager.start_session("project", directory=str(directory), branch=HOSTILE)
    manager.record_message({"role": "user", "content": f"hostile {HOSTILE} lone \udcff"})
    manager.record_message({"role": "assistant", "content": f"```\n{HOSTILE}\n```\n{HOSTILE}"})
    manager.record_execution(HOSTILE, exit_code=0, output=HOSTILE)
    manager.annotate(tags=["t\x1b[31m"], model=f"m{HOSTILE}")
    manager.close()
    one = terminals("-r", session.session_id, FAKE_SAYS=HOSTILE.replace("\0", ""))
    one.wait("hostile")
    one.line("/session info", "‹202e›branch")
    one.line("/session list --all", "hostile")
    one.line("/search hostile", "hostile")
    one.line("say it", "say it")
    one.line("/quit", "Saved")
    one.end()
    own = re.sub(r"\x1b\[[0-9;?<>=]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1b[=>78M]|\x1b\][02];\x07", "", one.raw)

    assert "owned\x07" not in one.raw
    assert "\x1b]52" not in one.raw
    assert not re.search("[\x9b\u202e\ufeff\0]", one.raw)
    assert "\x07" not in own
    assert "red" in one.raw
    stored = PersistenceManager(home, background=False)
    assert stored.sessions.entries(session.session_id, kinds=("message",))[0].data["content"].endswith("lone \udcff")
    stored.close()


def test_a_message_of_50_mb_is_kept_whole_and_never_reaches_the_terminal_raw(
    terminals, home: Path, directory: Path
) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    session = manager.start_session("project", directory=str(directory))
    huge = "\x1b]0;owned\x07 monster \u202e" + "\x1b[31mx\0" * (50 * 1024 * 1024 // 7)
    manager.record_message({"role": "user", "content": huge})
    manager.record_message({"role": "assistant", "content": huge})
    manager.close()
    one = terminals("-r", session.session_id)
    one.wait("monster")
    one.line("and now", "You said: and now")
    one.line("/search monster", "monster")
    one.line("/quit", "Saved")
    one.end()
    texts = [data["content"] for data in entries(home, "message")]

    assert "owned\x07" not in one.raw
    assert not re.search("[\0\u202e]", one.raw)
    assert len(one.raw) < 200_000
    assert texts[:2] == [huge, huge]


def test_a_narrow_terminal_is_usable(terminals) -> None:
    one = terminals(columns=40, rows=14)
    one.wait("›")
    one.line("hi", "You said: hi")
    one.line("/resume", "›")
    one.wait("hi")
    assert all(len(line) <= 40 for line in one.text.splitlines())


def test_without_colour_nothing_is_coloured(terminals) -> None:
    one = terminals(NO_COLOR="1")
    one.wait("›")
    one.line("plain", "You said: plain")
    one.line("/session list", "TITLE")

    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", one.raw)
