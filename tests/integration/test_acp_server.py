"""An editor, by the SDK's own client, lists, loads and continues sessions; the REPL goes on with what it made."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import acp
import pytest
from acp.exceptions import RequestError

from p8.testing import make_app
from support.editing import TESTS, Editor, edit
from support.recorded import recovered
from support.terminal import Terminal


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main", str(place)], check=True)
    return place


def test_an_editor_lists_loads_and_continues_a_session_of_the_repl(home: Path, place: Path) -> None:
    app = make_app(home, place)
    session = app.sessions.start_session("work", project=app.project.id, directory=str(place)).session_id
    app.sessions.record_message({"role": "user", "content": "from the prompt"})
    app.sessions.record_message({"role": "assistant", "content": "and its answer"})
    app.sessions.record_execution("pytest -q", exit_code=1, output="1 failed")
    app.close()

    async def work(conn: Any, editor: Editor, _process: Any) -> str:
        listed = (await conn.list_sessions()).sessions
        assert [(one.session_id, one.title, one.cwd) for one in listed] == [(session, "from the prompt", str(place))]
        assert (await conn.list_sessions(cwd="/nowhere")).sessions == []
        await conn.load_session(cwd=str(place), session_id=session)
        assert editor.texts("user_message_chunk") == ["from the prompt"]
        assert editor.texts("agent_message_chunk") == ["and its answer"]
        ran = [u for _, u in editor.told if u.session_update == "tool_call"]
        assert [(u.title, u.status) for u in ran] == [("pytest -q", "failed")]
        editor.told.clear()
        done = await conn.prompt(session_id=session, prompt=[acp.text_block("from the editor")])
        assert (done.stop_reason, done.usage.output_tokens > 0) == ("end_turn", True)
        return editor.said()

    assert "You said: from the editor" in edit(home, place, work)
    again = make_app(home, place)
    again.sessions.resume_session(session)  # the REPL's own way; nobody holds it any more
    said = [message["content"].strip() for message in again.sessions.current.conversation_history]
    assert said == ["from the prompt", "and its answer", "from the editor", "You said: from the editor"]
    again.close()


def test_the_repl_goes_on_with_a_session_that_an_editor_made(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> str:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        file = acp.resource_block(acp.embedded_text_resource("file:///a.py", "x = 1"))
        await conn.prompt(session_id=made, prompt=[acp.text_block("What is this?"), file])
        assert "x = 1" in editor.said()
        return made

    made = edit(home, place, work)
    app = make_app(home, place)
    row = app.store.sessions.resolve("last", app.project.id)
    assert (row.id, row.title, row.messages, str(row.status)) == (made, "What is this?", 2, "paused")
    app.close()


def test_a_real_repl_and_an_editor_go_on_with_each_others_sessions(home: Path, place: Path) -> None:
    def repl(*words: str) -> Terminal:
        one = Terminal(home, place, *words, columns=120)
        opened.append(one)
        one.wait("›")
        return one

    def left(one: Terminal) -> None:
        one.line("/quit", "Saved")
        assert one.end() == 0

    opened: list[Terminal] = []
    first = repl()
    first.line("from the prompt", "You said: from the prompt")
    first.line("!echo ran > made; echo it ran", "it ran")

    async def blocked(conn: Any, _editor: Editor, _process: Any) -> str:
        (one,) = (await conn.list_sessions(cwd=str(place))).sessions
        with pytest.raises(RequestError, match="open") as caught:
            await conn.load_session(cwd=str(place), session_id=one.session_id)
        assert caught.value.data["kind"] == "Held"
        return one.session_id

    async def go_on(conn: Any, editor: Editor, _process: Any) -> str:
        (one,) = (await conn.list_sessions(cwd=str(place))).sessions
        assert (one.title, one.session_id) == ("from the prompt", session)
        await conn.load_session(cwd=str(place), session_id=session)
        assert editor.texts("user_message_chunk") == ["from the prompt"]
        assert [u.title for _, u in editor.told if u.session_update == "tool_call"] == ["echo ran > made; echo it ran"]
        await conn.prompt(session_id=session, prompt=[acp.text_block("from the editor")])
        return (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id

    async def begin(conn: Any, editor: Editor, _process: Any) -> str:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        await conn.prompt(session_id=made, prompt=[acp.text_block("begun by the editor")])
        return made

    try:
        session = edit(home, place, blocked)
        left(first)
        edit(home, place, go_on)
        second = repl("-r", session)
        second.wait("You said: from the editor")
        second.line("back at the prompt", "You said: back at the prompt")
        left(second)
        theirs = edit(home, place, begin)
        third = repl("-c")
        third.wait("You said: begun by the editor")
        third.line("gone on with here", "You said: gone on with here")
        left(third)
    finally:
        for one in opened:
            one.close()
    app = make_app(home, place)
    said = {name: [e.data["content"].strip() for e in app.store.sessions.entries(name, kinds=("message",))
                   if e.role == "user"] for name in (session, theirs)}  # fmt: skip
    assert said == {session: ["from the prompt", "from the editor", "back at the prompt"],
                    theirs: ["begun by the editor", "gone on with here"]}  # fmt: skip
    app.close()


def test_an_editor_chooses_who_answers(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> str:
        made = await conn.new_session(cwd=str(place), mcp_servers=[])
        (option,) = made.config_options
        assert (option.id, option.category, option.current_value) == ("model", "model", "fake")
        assert {"fake", "other", "claude", "codex", "gemini"} <= {one.value for one in option.options}
        assert "not installed" in {one.value: one.description for one in option.options}["qwen"]
        await conn.prompt(session_id=made.session_id, prompt=[acp.text_block("one")])
        changed = await conn.set_config_option("model", made.session_id, "other")
        assert [one.current_value for one in changed.config_options] == ["other"]
        await conn.prompt(session_id=made.session_id, prompt=[acp.text_block("two")])
        for wrong in (("model", made.session_id, "nobody at all"), ("colour", made.session_id, "red"),
                      ("model", "not open", "fake")):  # fmt: skip
            with pytest.raises(RequestError):
                await conn.set_config_option(*wrong)
        return made.session_id

    made = edit(home, place, work)
    app = make_app(home, place)
    answers = [e.data for e in app.store.sessions.entries(made, kinds=("message",)) if e.role == "assistant"]
    assert [data["model"] for data in answers] == ["fake", "other"]
    assert app.store.sessions.get(made).model == "other"
    app.close()


def test_a_line_with_a_mark_is_run_shown_and_recorded(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> str:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        done = await conn.prompt(session_id=made, prompt=[acp.text_block("!echo made > b.txt; echo said; exit 3")])
        assert done.stop_reason == "end_turn"
        begun, *_, ended = (u for _, u in editor.told if u.session_update.startswith("tool_call"))
        assert (begun.title, begun.kind, begun.status) == (
            "echo made > b.txt; echo said; exit 3",
            "execute",
            "in_progress",
        )
        assert (ended.status, ended.raw_output) == ("failed", {"exit_code": 3})
        assert ended.content[0].content.text == "said\n"
        running = asyncio.ensure_future(conn.prompt(session_id=made, prompt=[acp.text_block("!echo on; sleep 300")]))
        while not [u for _, u in editor.told if getattr(u, "title", "") == "echo on; sleep 300"]:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        await conn.cancel(session_id=made)
        assert (await asyncio.wait_for(running, 15)).stop_reason == "cancelled"
        return made

    made = edit(home, place, work)
    assert (place / "b.txt").read_text() == "made\n"
    app = make_app(home, place)
    ran = [e.data for e in app.store.sessions.entries(made, kinds=("execution",), whole=True)]
    assert (ran[0]["exit_code"], [r["output"] for r in ran]) == (3, ["said\n", "on\n"])
    app.close()


def test_two_sessions_at_once_a_fork_and_a_closed_one(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> tuple[str, str, str]:
        one, two = [(await conn.new_session(cwd=str(place), mcp_servers=[])).session_id for _ in range(2)]
        await asyncio.gather(*(conn.prompt(session_id=s, prompt=[acp.text_block(f"I am {s}")]) for s in (one, two)))
        for session in (one, two):
            mine = "".join(u.content.text for s, u in editor.told if s == session)
            assert session in mine
        await conn.close_session(session_id=one)
        await conn.resume_session(cwd=str(place), session_id=one, mcp_servers=[])
        await conn.prompt(session_id=one, prompt=[acp.text_block("again")])
        await conn.close_session(session_id=one)
        fork = (await conn.fork_session(cwd=str(place), session_id=one)).session_id
        await conn.prompt(session_id=fork, prompt=[acp.text_block("in the fork")])
        return one, two, fork

    one, _two, fork = edit(home, place, work)
    app = make_app(home, place)
    assert app.store.sessions.get(fork).parent == one
    assert app.store.sessions.get(one).messages == 4
    app.close()


def test_an_answer_is_cancelled_and_what_came_is_kept(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> str:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        asking = asyncio.ensure_future(conn.prompt(session_id=made, prompt=[acp.text_block("long " * 400)]))
        while not editor.said():
            await asyncio.sleep(0.05)
        await conn.cancel(session_id=made)
        assert (await asking).stop_reason == "cancelled"
        return made

    made = edit(home, place, work, FAKE_DELAY_S="0.05")
    app = make_app(home, place)
    answer = app.store.sessions.entries(made, kinds=("message",))[-1].data
    assert answer["cancelled"] is True
    assert answer["content"]
    app.close()


def test_what_does_not_work_is_told_in_words(home: Path, place: Path) -> None:
    async def work(conn: Any, editor: Editor, _process: Any) -> None:
        for call, word in (
            (conn.prompt(session_id="nothing", prompt=[acp.text_block("x")]), "not open"),
            (conn.load_session(cwd=str(place), session_id="20200101-000000-000000-abcd"), "no session"),
            (conn.load_session(cwd=str(place), session_id="../../etc"), "not a session id"),
            (conn.new_session(cwd="relative", mcp_servers=[]), "no directory"),
            (conn.new_session(cwd="/nowhere/at/all", mcp_servers=[]), "no directory"),
        ):
            with pytest.raises(RequestError) as caught:
                await call
            assert word in f"{caught.value} {caught.value.data}"

    edit(home, place, work)


@pytest.mark.parametrize(("choice", "done"), [("once", True), ("no", False), ("cancel", False)])
def test_the_inner_agents_questions_go_to_the_editor(home: Path, place: Path, choice: str, done: bool) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(
        f'[agents.inner]\ncommand = ["{sys.executable}", "-m", "support.acp_agent"]\n'
        f'env = {{ AGENT_STATE = "{home.parent}/agent", PYTHONPATH = "{TESTS}" }}\n'
    )
    editor = Editor(choice)

    async def work(conn: Any, editor: Editor, _process: Any) -> str:
        made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
        answer = await conn.prompt(session_id=made, prompt=[acp.text_block("edit a.txt changed")])
        return answer.stop_reason

    reason = edit(home, place, work, editor, P8_MODEL="inner")
    assert len(editor.asked) == 1
    assert (place / "a.txt").exists() == done
    assert reason == ("cancelled" if choice == "cancel" else "end_turn")
    if choice != "cancel":
        assert [u.title for _, u in editor.told if u.session_update == "tool_call"] == ["Edit a.txt"]
        assert ("done" if done else "not done") in editor.said()


def test_killed_or_told_to_stop_what_was_said_is_there(home: Path, place: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):

        async def work(conn: Any, editor: Editor, process: Any, number: int = number) -> None:
            made = (await conn.new_session(cwd=str(place), mcp_servers=[])).session_id
            await conn.prompt(session_id=made, prompt=[acp.text_block(f"before {number}")])
            process.send_signal(number)
            await process.wait()

        edit(home, place, work)
    assert recovered(home) == {"before 9": "abandoned", "before 15": "paused"}
