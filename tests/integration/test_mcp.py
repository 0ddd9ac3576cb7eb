"""The SDK's own client and Claude Code keep their work in P8, over a real pipe; a REPL's picker sees it at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from p8.testing import make_app
from support.agents import claude_code
from support.model_server import model_server
from support.recorded import recovered
from support.terminal import Terminal

AT_ONCE_S = 2.0  #: from the key to the list, on a machine that is shared


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main", str(place)], check=True)
    (place / "a.txt").write_text("one")
    return place


def server_env(home: Path) -> dict[str, str]:
    return {"P8_HOME": str(home), "HOME": str(home.parent), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def talk(home: Path, place: Path, work: Callable[[Client], Awaitable[Any]]) -> Any:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "p8", "mcp"], env=server_env(home), cwd=str(place)
    )

    async def go() -> Any:
        async with Client(server, read_timeout_seconds=60) as client:
            return await work(client)

    return asyncio.run(go())


async def use(client: Client, tool: str, **arguments: Any) -> Any:
    found = await client.call_tool(tool, arguments)
    assert not found.is_error, found.content
    data = found.structured_content
    return data["result"] if set(data) == {"result"} else data


async def fails(client: Client, tool: str, **arguments: Any) -> str:
    found = await client.call_tool(tool, arguments)
    assert found.is_error
    return found.content[0].text


def test_a_client_starts_records_checkpoints_finds_and_completes_a_session(home: Path, place: Path) -> None:
    async def work(client: Client) -> dict[str, Any]:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools >= {"start_session", "record", "create_checkpoint", "create_handoff", "complete_session",
                         "search_sessions", "get_context"}  # fmt: skip
        started = await use(client, "start_session", title="The parser")
        said = await use(client, "record", content="Why does it fail on zymurgy?")
        assert (said["session"], said["seq"] > 1) == (started["session"], True)
        await use(
            client, "record", content="It reads too far.", role="assistant", model="m-1", tokens_in=7, tokens_out=5
        )
        await use(client, "record_execution", command="pytest -q", exit_code=1, output="1 failed")
        mark = await use(client, "create_checkpoint", name="found it")
        assert mark["files"]["count"] == 1
        hits = await use(client, "search_sessions", query="zymurgy")
        assert {hit["session"] for hit in hits} == {started["session"]}
        context = await use(client, "get_context")
        assert [e["text"] for e in context["entries"]][:2] == ["Why does it fail on zymurgy?", "It reads too far."]
        assert "exit 1" in context["entries"][2]["text"]
        assert [c["name"] for c in context["checkpoints"]] == ["found it"]
        listed = {str(r.uri): r for r in (await client.list_resources()).resources}
        assert listed[f"p8://session/{started['session']}"].title == "The parser"
        read = await client.read_resource(f"p8://session/{started['session']}")
        assert json.loads(read.contents[0].text)["session"]["id"] == started["session"]
        picker = make_app(home, place)  # another process's view, while the session is open
        rows = picker.store.sessions.page(project=picker.project.id)
        assert [(row.title, row.messages, str(row.status)) for row in rows] == [("The parser", 2, "active")]
        picker.close()
        return await use(client, "complete_session", summary="Fixed.")

    done = talk(home, place, work)
    app = make_app(home, place)
    row = app.store.sessions.get(done["session"])
    assert (str(row.status), row.messages, row.tokens_out, row.project) == ("completed", 3, 5, app.project.id)
    app.close()


def test_a_session_of_the_repl_is_gone_on_with_and_paused_when_the_client_leaves(home: Path, place: Path) -> None:
    app = make_app(home, place)
    session = app.sessions.start_session("work", project=app.project.id).session_id
    app.sessions.record_message({"role": "user", "content": "from the prompt"})
    app.close()

    async def work(client: Client) -> None:
        assert (await use(client, "start_session", session="last"))["session"] == session
        await use(client, "record", content="from the client")

    talk(home, place, work)
    again = make_app(home, place)
    row = again.store.sessions.get(session)
    assert (row.messages, str(row.status)) == (2, "paused")
    again.close()


def test_what_does_not_work_is_told_in_words(home: Path, place: Path) -> None:
    async def work(client: Client) -> None:
        assert "no session is active" in await fails(client, "complete_session")
        assert "no session is active" in await fails(client, "get_context")
        assert "no session is called" in await fails(client, "start_session", session="nothing like it")
        await fails(client, "record", content="x", role="nobody")
        with pytest.raises(Exception, match="no session"):
            await client.read_resource("p8://session/20200101-000000-000000-abcd")
        await use(client, "record", content="begins one by itself")

    talk(home, place, work)


def test_a_handoff_is_written_where_the_command_is_installed(home: Path, place: Path) -> None:
    app = make_app(home, place)
    app.registry.load()
    installed = "handoff" in app.registry.commands
    app.close()

    async def work(client: Client) -> None:
        await use(client, "record", content="Make it so.")
        if installed:
            assert "Make it so." in (await use(client, "create_handoff"))["text"]
        else:
            assert "get_context" in await fails(client, "create_handoff")

    talk(home, place, work)


def test_killed_or_told_to_stop_nothing_recorded_is_lost(home: Path, place: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):

        async def work(client: Client, number: int = number) -> None:
            await use(client, "record", content=f"before {number}")
            children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
            os.kill(int(children[0]), number)

        talk(home, place, work)
    assert recovered(home) == {"before 9": "abandoned", "before 15": "paused"}


@pytest.fixture
def repl(home: Path, place: Path) -> Iterator[Terminal]:
    made = Terminal(home, place, rows=40, columns=120)
    made.wait("›")
    yield made
    made.close()


def picked_at_once(repl: Terminal, title: str) -> None:
    """The picker of a REPL that runs already lists a session as soon as it is opened."""
    repl.send("/resume")
    repl.pump(0.3)
    begun = time.monotonic()
    repl.send("\r")
    repl.wait(title, AT_ONCE_S)
    assert time.monotonic() - begun < AT_ONCE_S


def test_the_picker_of_a_running_repl_lists_a_clients_session_at_once(home: Path, place: Path, repl: Terminal) -> None:
    async def work(client: Client) -> None:
        await use(client, "start_session", title="Kept by a client")
        await use(client, "record", content="Is it there already?")
        await asyncio.to_thread(picked_at_once, repl, "Kept by a client")

    talk(home, place, work)


SCRIPT = (
    ("start_session", {"title": "The parser of Claude"}),
    ("record", {"content": "Why does it fail on zymurgy?"}),
    ("record", {"content": "It reads too far.", "role": "assistant", "model": "claude"}),
    ("create_checkpoint", {"name": "found it"}),
    ("create_handoff", {}),
)


def test_claude_code_starts_records_checkpoints_and_hands_off(
    home: Path, place: Path, tmp_path: Path, repl: Terminal
) -> None:
    program = claude_code()
    server = {"command": sys.executable, "args": ["-m", "p8", "mcp"], "env": server_env(home)}
    calls = [f"call mcp__p8__{tool}: {json.dumps(given)}" for tool, given in SCRIPT]
    calls[3] = f"when told {calls[3]}"  # it is in the middle of its work while the picker is looked at
    with model_server() as model:
        words = [
            program, "-p", "\n".join(calls), "--mcp-config", json.dumps({"mcpServers": {"p8": server}}),
            "--strict-mcp-config", "--allowedTools", "mcp__p8__*",
        ]  # fmt: skip
        env = {
            "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "ANTHROPIC_BASE_URL": model.address,
            "ANTHROPIC_API_KEY": "sk-test-0123456789", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "IS_SANDBOX": "1", "ENABLE_TOOL_SEARCH": "false",
        }  # fmt: skip
        log = (tmp_path / "claude.log").open("w+")
        claude = subprocess.Popen(words, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            app = make_app(home, place)
            until = time.monotonic() + 90
            while [row.messages for row in app.store.sessions.page()] != [2]:
                assert claude.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < until, Path(log.name).read_text()
                time.sleep(0.05)
            picked_at_once(repl, "The parser of Claude")
            row = next(row for row in app.store.sessions.page() if row.messages)
            assert (row.title, str(row.status), row.project) == ("The parser of Claude", "active", app.project.id)
            app.close()
            model.told.set()
            assert claude.wait(60) == 0, Path(log.name).read_text()
        finally:
            claude.kill()
            claude.wait()
            log.close()
    assert "It was done." in Path(log.name).read_text()
    results = [
        block for message in model.asked[-1][1]["messages"] if isinstance(message["content"], list)
        for block in message["content"] if block["type"] == "tool_result"
    ]  # fmt: skip
    assert [bool(block.get("is_error")) for block in results] == [False] * len(SCRIPT)
    handoff = json.dumps(results[-1]["content"])
    assert "zymurgy" in handoff
    repl.send("parser")
    repl.pump(0.5)
    repl.send("\r")  # it is put down by now, and the REPL goes on with it
    repl.wait("It reads too far.")
    repl.wait("◆ checkpoint found it")
    repl.line("/quit", "Saved")
    app = make_app(home, place)
    row = app.store.sessions.get(row.id)
    assert [e.data["content"] for e in app.store.sessions.entries(row.id, kinds=("message",))][:2] == [
        "Why does it fail on zymurgy?", "It reads too far.",
    ]  # fmt: skip
    assert [one.name for one in app.checkpoints.list(row.id)] == ["found it"]
    app.close()
