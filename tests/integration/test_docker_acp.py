"""An editor's sessions have containers of their own, on a real engine; the agent of its choice works in there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import acp
import pytest

from p8.store.instances import installation_of
from p8.testing import make_app
from support.editing import Editor, edit
from support.engine import client, remove_all, until

AGENT = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    method, given, result = asked.get("method"), asked.get("params", {}), {}
    if method == "initialize":
        result = {"protocolVersion": 1, "agentCapabilities": {}}
    elif method == "session/new":
        result = {"sessionId": "inner"}
    elif method == "session/prompt":
        said = f"{open('/proc/1/comm').read().strip()} {os.path.exists('/.dockerenv')} {os.getcwd()}"
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": said}}
        note = {"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "inner", "update": update}}
        print(json.dumps(note), flush=True)
        result = {"stopReason": "end_turn"}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


@pytest.fixture
def home(tmp_path: Path, image: str) -> Iterator[Path]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(
        f'container_image = "{image}"\nagents_in = "container"\n'
        f'[agents.inner]\ncommand = ["python3", "{tmp_path}/work/agent.py"]\n'
    )
    yield home
    remove_all(installation_of(home))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    (place / "agent.py").write_text(AGENT)
    return place


def ours(home: Path, *, everything: bool = True) -> dict[str, str]:
    """Containers of this home by session."""
    found = client().containers.list(all=everything, filters={"label": f"p8.installation={installation_of(home)}"})
    return {one.labels["p8.session"]: one.name for one in found}


async def there(home: Path, session: str) -> str:
    await asyncio.to_thread(until, lambda: session in ours(home), 30, "a container")
    return ours(home)[session]


def ran(editor: Editor) -> Any:
    return [u for _, u in editor.told if u.session_update == "tool_call_update"][-1]


def test_each_session_has_a_container_of_its_own_until_it_is_put_down(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> tuple[str, str]:
        one, two = [(await conn.new_session(cwd=str(place), mcp_servers=[])).session_id for _ in range(2)]
        names = [await there(home, one), await there(home, two)]
        assert names[0] != names[1]
        await conn.prompt(session_id=one, prompt=[acp.text_block("!cat /proc/1/comm; pwd; echo inside > made")])
        shown = ran(editor)
        assert (shown.status, shown.raw_output) == ("completed", {"exit_code": 0, "container": names[0]})
        assert shown.content[0].content.text.split() == ["docker-init", str(place)]
        assert (place / "made").read_text() == "inside\n"
        await conn.close_session(session_id=one)
        assert set(ours(home)) == {two}
        await conn.load_session(cwd=str(place), session_id=one)  # a fresh one, and what it ran is told again
        assert await there(home, one)
        assert "cat /proc/1/comm" in [u for _, u in editor.told if u.session_update == "tool_call"][-1].title
        return one, names[0]

    one, name = edit(home, place, work, FAKE_CONTAINER="auto")
    assert ours(home) == {}
    app = make_app(home, place)
    (entry,) = app.store.sessions.entries(one, kinds=("execution",))
    assert entry.data["where"] == name
    app.close()


def test_the_agent_that_the_editor_chooses_works_in_the_container(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> None:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        await conn.prompt(session_id=made, prompt=[acp.text_block("before")])
        options = (await conn.set_config_option("model", made, "inner")).config_options
        assert options[0].current_value == "inner"
        name = await there(home, made)
        editor.told.clear()
        await conn.prompt(session_id=made, prompt=[acp.text_block("where are you?")])
        assert editor.said() == f"docker-init True {place}"
        assert f"inner works in container {name}, without a network" in "".join(editor.texts("agent_thought_chunk"))

    edit(home, place, work, FAKE_CONTAINER="auto")
    assert ours(home) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_it_leaves_no_container_or_the_next_one_removes_it(home: Path, place: Path, number: int) -> None:
    async def work(conn: Any, editor: Editor, process: Any) -> str:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        await there(home, made)
        await conn.prompt(session_id=made, prompt=[acp.text_block("!true")])
        process.send_signal(number)
        await process.wait()
        return made

    first = edit(home, place, work, FAKE_CONTAINER="auto")
    assert list(ours(home)) == ([first] if number == signal.SIGKILL else [])

    async def again(conn: Any, editor: Editor, _process: Any) -> None:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        await there(home, made)
        assert first not in ours(home)

    edit(home, place, again, FAKE_CONTAINER="auto")


def test_without_an_engine_a_line_runs_here_and_says_so(home: Path, place: Path, tmp_path: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> None:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        for _ in range(2):
            await conn.prompt(session_id=made, prompt=[acp.text_block("!echo here")])
        assert ran(editor).raw_output == {"exit_code": 0}
        told = [text for text in editor.texts("agent_thought_chunk") if "not in a container" in text]
        assert len(told) == 1

    edit(home, place, work, FAKE_CONTAINER="auto", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
