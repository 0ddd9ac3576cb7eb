"""Agents in the REPL: Claude Code and Codex against a model on loopback, and one that does what it is told."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agents import agents_at, agents_path, told_agent
from support.model_server import ModelServer, model_server
from support.recorded import entries, parts
from support.terminal import P8, Start, opening

pytest.importorskip("acp")
KEY = "sk-test-0123456789"


@pytest.fixture(scope="session")
def path() -> str:
    return agents_path()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def start(home: Path, directory: Path) -> Iterator[Start]:
    with opening(home, directory, program=P8, rows=45, columns=120) as start:
        yield start


@pytest.fixture
def real(home: Path, server: ModelServer) -> None:
    """Claude Code and Codex, pointed at the server; Codex in the mode in which it asks."""
    settings(home, 'model = "claude"', *agents_at(server.address), 'INITIAL_AGENT_MODE = "read-only"')


@pytest.fixture
def told(home: Path, tmp_path: Path) -> Path:
    """An agent that does what it is told; returns the folder it keeps its state in."""
    state = tmp_path / "state"
    told_agent(home, state)
    return state


def settings(home: Path, *lines: str) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("\n".join(['agents_in = "host"', 'container = "never"', *lines]) + "\n")


def answered(home: Path, seconds: float = 10.0) -> dict[str, Any]:
    """The newest answer, as soon as it is recorded."""
    until = time.monotonic() + seconds
    while entries(home, "message")[-1]["role"] != "assistant" and time.monotonic() < until:
        time.sleep(0.1)
    return entries(home, "message")[-1]


def pids(state: Path) -> list[int]:
    return [int(line.split()[1]) for line in (state / "log").read_text().splitlines() if line.startswith("start")]


def gone(pid: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def working_in(folder: Path) -> list[str]:
    """What runs with this folder as its directory."""
    found = []
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if cwd.readlink() == folder:
                found.append((cwd.parent / "cmdline").read_text().replace("\0", " "))
    return found


def none_working_in(folder: Path, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while working_in(folder) and time.monotonic() < until:
        time.sleep(0.1)
    return working_in(folder) == []


def test_real_agents_edit_with_permission_and_hand_the_conversation_over(
    start: Start, real: None, path: str, server: ModelServer, home: Path, directory: Path
) -> None:
    keys = {"PATH": path, "ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": f"{KEY}-o"}
    one = start(**keys)
    one.wait("›")
    one.line("create notes.txt: by claude")
    screen = one.wait("May it? Write notes.txt", 90)
    assert "+by claude" in screen
    assert not (directory / "notes.txt").exists()
    one.send("\r")
    one.wait("It was done.", 60)
    assert (directory / "notes.txt").read_text() == "by claude"

    one.line("/agent codex", "codex answers from now on; it was claude")
    one.line("recall")
    screen = one.wait("I was told:", 90).replace("\n", " ")
    assert "User: create notes.txt: by claude" in screen
    one.line("create other.txt: by codex")
    one.wait("May it? Edit files", 60)
    one.send("always\r")
    one.wait("Success. Updated", 60)
    one.line("create third.txt: as said before")
    one.wait("✓ allowed (as said before)", 60)
    one.wait("A third.txt", 60)
    assert (directory / "other.txt").read_text() == "by codex\n"
    assert (directory / "third.txt").read_text() == "as said before\n"

    one.line("/agent claude", "claude answers from now on; it was codex")
    one.line("recall")
    screen = one.wait("I was told: create notes.txt: by claude | This was said since your last answer", 90)
    one.line("/quit", "Saved")
    one.end()

    asked = parts(home, "permission")
    assert [(p["agent"], p["answer"], p["by"]) for p in asked] == [
        ("claude", "once", "person"), ("codex", "always", "person"), ("codex", "always", "session"),
    ]  # fmt: skip
    tools = parts(home, "tool")
    ended = {(t["agent"], t["content"][0]["path"].rsplit("/")[-1]) for t in tools if t["status"] == "completed"}
    assert ended == {("claude", "notes.txt"), ("codex", "other.txt"), ("codex", "third.txt")}
    assert {t["id"] for t in tools if t["status"] == "completed"} == {t["id"] for t in tools}
    answers = [m for m in entries(home, "message") if m["role"] == "assistant"]
    assert [m["model"] for m in answers] == ["claude", "codex", "codex", "codex", "claude"]
    assert answers[0]["tools"][0]["title"] == "Write notes.txt"
    assert answers[0]["agent_session"]["session"] == answers[-1]["agent_session"]["session"]
    assert answers[0]["tokens_in"] > 0
    assert {key for key in server.keys if key} == {KEY, f"Bearer {KEY}-o"}
    assert KEY not in json.dumps(entries(home))
    assert none_working_in(directory)


def test_a_real_agent_goes_on_after_p8_was_killed(
    start: Start, real: None, path: str, home: Path, directory: Path
) -> None:
    keys = {"PATH": path, "ANTHROPIC_API_KEY": KEY}
    one = start(**keys)
    one.wait("›")
    one.line("remember the number seven")
    one.wait("You said: remember the number seven", 90)
    session = answered(home)["agent_session"]["session"]
    assert any("claude" in line for line in working_in(directory))
    one.process.kill(signal.SIGKILL)
    one.end()
    assert none_working_in(directory)
    two = start("-c", **keys)
    two.wait("its process died")
    two.line("recall")
    two.wait("I was told: remember the number seven", 90)
    two.line("/quit", "Saved")
    two.end()
    assert entries(home, "message")[-1]["agent_session"]["session"] == session


def test_without_a_key_of_its_own_an_agent_gets_none(
    start: Start, real: None, path: str, server: ModelServer, home: Path
) -> None:
    config = home / "config.toml"
    config.write_text(config.read_text().replace('pass = ["ANTHROPIC_API_KEY"]', ""))
    one = start(PATH=path, ANTHROPIC_API_KEY=KEY)
    one.wait("›")
    one.line("hello")
    one.wait("✗ claude wants you to sign in", 90)
    one.wait("run `claude` once and /login there")
    one.line("/quit", "Saved")
    one.end()

    assert [key for key in server.keys if key] == []
    question, answer = entries(home, "message")
    assert question["content"] == "hello"
    assert "sign in" in answer["error"]


def test_never_is_refused_without_asking_again(start: Start, told: Path, home: Path, directory: Path) -> None:
    one = start()
    one.wait("›")
    one.line("edit a.txt hello")
    one.wait("May it? Edit a.txt", 30)
    one.send("never\r")
    one.wait("not done")
    one.line("edit b.txt hello")
    one.wait("✗ refused (as said before)")
    one.line("/agent show tester", "never edit")
    one.line("/session new")
    one.line("edit c.txt hello")
    one.wait("May it? Edit c.txt")
    one.send("\r")
    one.wait("done")
    one.line("/quit", "Saved")
    one.end()

    assert sorted(p.name for p in directory.iterdir()) == ["c.txt"]


def test_ctrl_c_while_it_works_and_while_it_asks(start: Start, told: Path, home: Path, directory: Path) -> None:
    one = start()
    one.wait("›")
    one.line("slow", "3 4 5")
    one.send("\x03")
    one.wait("Stopped; what came is kept")
    one.line("edit a.txt hello")
    one.wait("May it? Edit a.txt")
    one.send("\x03")
    one.pump(0.3)
    one.line("say still here", "\nstill here")
    one.line("/quit", "Saved")
    one.end()

    assert not (directory / "a.txt").exists()
    said = [m for m in entries(home, "message") if m["role"] == "assistant"]
    assert [m.get("cancelled") for m in said] == [True, True, None]
    assert parts(home, "permission")[0]["answer"] == "cancel"
    assert len(pids(told)) == 1
    assert gone(pids(told)[0])


def test_sigterm_while_it_asks_saves_and_leaves(start: Start, told: Path, home: Path, directory: Path) -> None:
    one = start()
    one.wait("›")
    one.line("edit a.txt hello")
    one.wait("May it? Edit a.txt", 30)
    one.process.kill(signal.SIGTERM)

    assert one.end() == 0
    assert [m["content"] for m in entries(home, "message")] == ["edit a.txt hello", "let me see "]
    assert gone(pids(told)[0])


def test_one_that_dies_costs_a_line_and_the_next_answer_starts_it_again(start: Start, told: Path, home: Path) -> None:
    one = start()
    one.wait("›")
    one.line("say before", "\nbefore")
    one.line("die")
    screen = one.wait("✗ tester ended with status 3: Error: out of cheese", 30)
    assert "half" in screen
    one.line("recall", '["say before", "die"')
    one.line("/quit", "Saved")
    one.end()
    said = entries(home, "message")

    assert said[3]["content"] == "half "
    assert said[3]["error"].startswith("tester ended with status 3")
    assert "Traceback" not in one.raw


def test_what_it_did_is_on_disk_while_it_still_works(start: Start, told: Path, home: Path, directory: Path) -> None:
    one = start()
    one.wait("›")
    one.line("edit a.txt hello")
    one.wait("May it? Edit a.txt", 30)
    one.process.kill(signal.SIGKILL)
    one.end()

    assert gone(pids(told)[0])
    assert [p["text"] for p in parts(home, "text")] == ["let me see "]
    assert [(p["title"], p["status"]) for p in parts(home, "tool")] == [("Edit a.txt", "pending")]


def test_with_nobody_to_ask_it_is_refused_unless_the_settings_allow(told: Path, home: Path, directory: Path) -> None:
    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*P8, "-p", "edit a.txt hello"], cwd=directory, capture_output=True, text=True,
            timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    refused = ask()
    assert refused.returncode == 0, refused.stderr
    assert refused.stdout.strip() == "let me see not done"
    assert "tester asked to: Edit a.txt; nobody is here to allow it" in refused.stderr
    assert not (directory / "a.txt").exists()
    config = home / "config.toml"
    config.write_text('permissions = "allow"\n' + config.read_text())
    allowed = ask()
    assert allowed.stdout.strip() == "let me see done"
    assert (directory / "a.txt").read_text() == "hello"


def test_agents_are_listed_with_their_pinned_versions(told: Path, directory: Path) -> None:
    def p8(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*P8, *words], cwd=directory, capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    listed = {row["name"]: row for row in json.loads(p8("agent", "list", "--json").stdout)}
    assert list(listed) == ["claude", "codex", "gemini", "qwen", "opencode", "tester"]
    assert listed["tester"]["ready"] is True
    assert all(listed[name]["pinned"] for name in ("claude", "codex", "gemini", "qwen", "opencode"))
    shown = p8("agent", "show", "codex").stdout
    assert f"npm install -g @agentclientprotocol/codex-acp@{listed['codex']['pinned']}" in shown
    unknown = p8("agent", "show", "nobody")
    assert unknown.returncode == 3
    assert "no agent is called 'nobody'" in unknown.stderr
