"""What an editor is offered and told: who answers, what a session that is gone on with is answered by."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import acp
import pytest
from acp.exceptions import RequestError

from p8.app import App
from p8.config import Config
from p8.server.acp_agent import Agent, choices
from p8.testing import FakeAssistant, make_app


class Told:
    def __init__(self) -> None:
        self.updates: list[Any] = []

    async def session_update(self, session_id: str, update: Any) -> None:
        self.updates.append(update)


@pytest.fixture
def agent(home: Path, tmp_path: Path):
    names = ("one", "two")
    config = Config(home=home, container="never", snapshots=False)

    def make(place: Path) -> App:
        return App(config, place, {name: lambda name=name: FakeAssistant(name=name) for name in names}, False)

    made = Agent(make, tmp_path)
    made.on_connect(Told())
    yield made
    made.close()


def now(options: list[Any]) -> str:
    (option,) = options
    return option.current_value


def test_a_session_is_gone_on_with_by_who_answered_it(agent: Agent, tmp_path: Path) -> None:
    async def go() -> None:
        first = await agent.new_session(str(tmp_path))
        assert now(first.config_options) == "one"
        changed = await agent.set_config_option("model", first.session_id, "two")
        assert now(changed.config_options) == "two"
        await agent.prompt(first.session_id, [acp.text_block("hello")])
        second = await agent.new_session(str(tmp_path))  # as in the REPL, the one used last
        assert now(second.config_options) == "two"
        assert now((await agent.set_config_option("model", second.session_id, "one")).config_options) == "one"
        await agent.close_session(first.session_id)
        assert now((await agent.load_session(str(tmp_path), first.session_id)).config_options) == "two"
        await agent.close_session(first.session_id)
        assert now((await agent.resume_session(str(tmp_path), first.session_id)).config_options) == "two"
        await agent.close_session(first.session_id)
        assert now((await agent.fork_session(str(tmp_path), first.session_id)).config_options) == "two"

    asyncio.run(go())


def test_only_what_can_answer_and_agents_are_offered(agent: Agent, tmp_path: Path) -> None:
    async def go() -> list[Any]:
        return (await agent.new_session(str(tmp_path))).config_options

    (option,) = asyncio.run(go())
    offered = {one.value: one.description for one in option.options}
    assert list(offered)[:2] == ["one", "two"]
    assert "npm install" in offered["qwen"]
    assert "gpt-4o" not in offered
    assert "local" not in offered


def test_where_nobody_can_answer_yet_that_is_the_choice(home: Path, tmp_path: Path) -> None:
    app = App(Config(home=home), tmp_path, background=False)
    (option,) = choices(app)
    assert (option.current_value, option.options[0].name) == ("", "nobody yet")
    app.close()


@pytest.mark.parametrize(("config", "value", "word"), [("model", "three", "three"), ("mode", "one", "mode")])
def test_what_cannot_be_chosen_is_told(agent: Agent, tmp_path: Path, config: str, value: str, word: str) -> None:
    async def go() -> None:
        made = await agent.new_session(str(tmp_path))
        with pytest.raises(RequestError) as caught:
            await agent.set_config_option(config, made.session_id, value)
        assert word in f"{caught.value} {caught.value.data}"
        assert now((await agent.set_config_option("model", made.session_id, "one")).config_options) == "one"

    asyncio.run(go())


def test_a_session_that_another_p8_has_taken_is_not_written_to(agent: Agent, home: Path, tmp_path: Path) -> None:
    async def go() -> str:
        made = await agent.new_session(str(tmp_path))
        await agent.prompt(made.session_id, [acp.text_block("mine")])
        other = make_app(home, tmp_path)
        other.sessions.resume_session(made.session_id, take_over=True)
        for text in ("no longer mine", "!touch made"):
            with pytest.raises(RequestError) as caught:
                await agent.prompt(made.session_id, [acp.text_block(text)])
            assert caught.value.data["kind"] == "Held"
        other.close()
        return made.session_id

    session = asyncio.run(go())
    app = make_app(home, tmp_path)
    assert [e.data["content"].strip() for e in app.store.sessions.entries(session, kinds=("message",))] == [
        "mine", "You said: mine",
    ]  # fmt: skip
    assert not (tmp_path / "made").exists()
    app.close()
