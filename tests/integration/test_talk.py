"""Messages sent over the stream: answered by the server, handed to the prompt that has the session, or taken over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
from p8.testing import make_app
from support.agents import told_agent
from support.serving import Served
from support.terminal import Terminal


@pytest.fixture
def serve(home: Path, directory: Path) -> Iterator[Callable[..., Served]]:
    opened: list[Served] = []

    def start(**env: str) -> Served:
        opened.append(Served(home, directory, fake=True, **env))
        return opened[-1]

    yield start
    for one in opened:
        one.stop()


def session_of(home: Path, directory: Path, *texts: str, **about: Any) -> str:
    app = make_app(home, directory)
    made = app.sessions.start_session("project", directory=str(directory), project=app.project.id, **about)
    for text in texts:
        app.sessions.record_message({"role": "user", "content": text})
    app.close()
    return made.session_id


def stream(served: Served, query: str) -> Any:
    headers = {"authorization": f"Bearer {served.token}"}
    return connect(f"ws://127.0.0.1:{served.port}/api/v1/stream?{query}", additional_headers=headers)


class Heard:
    """What a client has been told so far."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.problems: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.live = ""
        self.asked: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def take(self, told: dict[str, Any]) -> None:
        self.events += told.get("events", [])
        for part in told.get("live", {}).get("parts", []):
            self.live += part["text"] if part["kind"] == "text" else ""
            self.asked += [part] if part["kind"] == "question" else []
        if "said" in told:
            self.states.append((told["said"]["id"], told["said"]["state"]))
            self.problems += [told["said"]["problem"]] if "problem" in told["said"] else []
        if "refused" in told:
            self.refused.append(told["refused"])

    async def until(self, socket: ClientConnection, true: Callable[[Heard], object], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not true(self):
                self.take(json.loads(await socket.recv()))

    @property
    def messages(self) -> list[str]:
        return [e["data"]["content"].strip() for e in self.events if e["kind"] == "message"]


def stored(home: Path, session: str) -> list[str]:
    store = PersistenceManager(home, background=False)
    try:
        return [
            str(e.data["content"]).strip() for e in store.sessions.entries(session, kinds=("message",), whole=True)
            if e.role in {"user", "assistant"}
        ]  # fmt: skip
    finally:
        store.close()


def status(home: Path, session: str) -> str:
    store = PersistenceManager(home, background=False)
    try:
        return str(store.sessions.get(session).status)
    finally:
        store.close()


def test_a_session_nobody_holds_is_answered_piece_by_piece_and_put_down(serve, home: Path, directory: Path) -> None:
    session = session_of(home, directory, "before")
    served = serve(FAKE_SAYS="one two three four", FAKE_DELAY_S="0.2")

    async def go() -> Heard:
        heard = Heard()
        async with stream(served, f"session={session}") as socket, stream(served, f"session={session}") as other:
            await socket.send(json.dumps({"say": "count for me", "id": "a"}))
            await heard.until(socket, lambda h: ("a", "recorded") in h.states)
            assert stored(home, session)[:2] == ["before", "count for me"]  # on disk when it is acknowledged
            await heard.until(socket, lambda h: "two" in h.live)
            assert "four" not in heard.live
            await heard.until(socket, lambda h: ("a", "done") in h.states and len(h.messages) == 2)
            watcher = Heard()
            await watcher.until(other, lambda h: "four" in h.live and len(h.messages) == 2)
            assert watcher.states == []  # replies are for whoever asked
        return heard

    heard = asyncio.run(go())
    assert heard.live == "one two three four "
    assert heard.messages == ["count for me", "one two three four"]
    assert stored(home, session) == ["before", "count for me", "one two three four"]
    until = time.monotonic() + 10
    while status(home, session) != "paused" and time.monotonic() < until:
        time.sleep(0.1)
    assert status(home, session) == "paused"


def test_messages_of_one_session_are_answered_in_order_and_an_answer_can_be_stopped(
    serve, home: Path, directory: Path
) -> None:
    session = session_of(home, directory, "before")
    served = serve(FAKE_SAYS=" ".join(map(str, range(30))), FAKE_DELAY_S="0.1")

    async def go() -> Heard:
        heard = Heard()
        async with stream(served, f"session={session}") as socket:
            for key in "abc":
                await socket.send(json.dumps({"say": key, "id": key}))
            for key in "abc":
                await heard.until(socket, lambda h, key=key: (key, "recorded") in h.states)
                await heard.until(socket, lambda h: "3" in h.live)
                heard.live = ""
                await socket.send(json.dumps({"stop": True}))
                await heard.until(socket, lambda h, key=key: (key, "done") in h.states)
            await heard.until(socket, lambda h: len(h.messages) == 6)
        return heard

    heard = asyncio.run(go())
    assert heard.messages[::2] == ["a", "b", "c"]
    assert all(text.startswith("0 1 2 3") and "29" not in text for text in heard.messages[1::2])


def test_what_comes_again_is_not_said_twice(serve, home: Path, directory: Path) -> None:
    session = session_of(home, directory)
    served = serve()

    async def go() -> None:
        async with stream(served, f"session={session}") as socket:
            for _ in range(2):
                heard = Heard()
                await socket.send(json.dumps({"say": "hello", "id": "k1"}))
                await heard.until(socket, lambda h: ("k1", "done") in h.states)
                await asyncio.sleep(0.5)

    asyncio.run(go())
    assert stored(home, session) == ["hello", "You said: hello"]


def test_the_prompt_that_has_the_session_says_and_answers_it(serve, home: Path, directory: Path) -> None:
    served = serve()
    one = Terminal(home, directory)
    try:
        one.wait("›")
        one.line("mine", "You said: mine")
        session = served.get("/api/v1/sessions").json["items"][0]["id"]
        one.send("half a li")
        one.pump(0.3)

        async def go() -> Heard:
            heard = Heard()
            async with stream(served, f"session={session}") as socket:
                await socket.send(json.dumps({"say": "/quit from outside", "id": "x"}))

                async def look() -> None:
                    while True:
                        one.pump(0.02)
                        await asyncio.sleep(0)

                looking = asyncio.create_task(look())
                await heard.until(socket, lambda h: ("x", "done") in h.states and len(h.messages) == 2)
                looking.cancel()
            return heard

        heard = asyncio.run(go())
        assert [s for _, s in heard.states] == ["waiting", "recorded", "done"]
        assert "You said: /quit from outside" in heard.live
        one.wait("» /quit from outside")
        one.wait("› half a li")
        assert "› half a li" not in one.text.split("» /quit from outside")[0]  # the old prompt is gone
        one.line("ne", "You said: half a line")
        one.line("/quit", "Saved")
        one.end()
    finally:
        one.close()
    assert stored(home, session) == [
        "mine", "You said: mine", "/quit from outside", "You said: /quit from outside", "half a line",
        "You said: half a line",
    ]  # fmt: skip


def test_what_is_sent_while_the_prompt_answers_waits_and_the_answer_can_be_stopped_from_outside(
    serve, home: Path, directory: Path
) -> None:
    served = serve()
    one = Terminal(home, directory, FAKE_SAYS=" ".join(map(str, range(40))), FAKE_DELAY_S="0.1")
    try:
        one.wait("›")
        one.line("count", "5")
        session = served.get("/api/v1/sessions").json["items"][0]["id"]

        async def go() -> None:
            heard = Heard()

            async def look() -> None:
                while True:
                    one.pump(0.02)
                    await asyncio.sleep(0)

            async with stream(served, f"session={session}") as socket:
                looking = asyncio.create_task(look())
                await socket.send(json.dumps({"say": "and again", "id": "x"}))
                await heard.until(socket, lambda h: ("x", "waiting") in h.states)
                await heard.until(socket, lambda h: ("x", "recorded") in h.states)
                await heard.until(socket, lambda h: "3" in h.live)
                await socket.send(json.dumps({"stop": True}))
                await heard.until(socket, lambda h: ("x", "done") in h.states)
                looking.cancel()

        asyncio.run(go())
        one.wait("Stopped")
        one.line("/quit", "Saved")
        one.end()
    finally:
        one.close()
    said = stored(home, session)
    assert said[0] == "count"
    assert said[1].endswith("39")
    assert said[2] == "and again"
    assert "39" not in said[3]


def test_a_session_is_taken_over_when_that_is_said(serve, home: Path, directory: Path) -> None:
    served = serve()
    one = Terminal(home, directory)
    try:
        one.wait("›")
        one.line("mine", "You said: mine")
        session = served.get("/api/v1/sessions").json["items"][0]["id"]

        async def go() -> None:
            heard = Heard()
            async with stream(served, f"session={session}") as socket:
                await socket.send(json.dumps({"say": "now it is mine", "id": "x", "take_over": True}))
                await heard.until(socket, lambda h: ("x", "done") in h.states)

        asyncio.run(go())
        one.line("still here?", "You said: still here?")
        one.wait("taken this session over")
        one.line("/quit", "Saved")
        one.end()
    finally:
        one.close()
    assert stored(home, session) == ["mine", "You said: mine", "now it is mine", "You said: now it is mine"]
    other = [row for row in served.get("/api/v1/sessions").json["items"] if row["id"] != session]
    assert stored(home, other[0]["id"])[0] == "still here?"


def test_a_holder_that_takes_no_messages_is_told_of_and_can_be_relieved(serve, home: Path, directory: Path) -> None:
    served = serve()
    manager = SessionManager(PersistenceManager(home))
    session = manager.start_session("project", directory=str(directory)).session_id
    manager.record_message({"role": "user", "content": "held by a program"})
    manager.save_session()

    async def go() -> Heard:
        heard = Heard()
        async with stream(served, f"session={session}") as socket:
            await socket.send(json.dumps({"say": "hello", "id": "1"}))
            await heard.until(socket, lambda h: ("1", "refused") in h.states)
            await socket.send(json.dumps({"say": "hello", "id": "1", "take_over": True}))
            await heard.until(socket, lambda h: ("1", "done") in h.states)
        return heard

    heard = asyncio.run(go())
    manager.close()
    assert heard.problems[0]["type"] == "urn:p8:Held"
    assert heard.problems[0]["status"] == 409
    assert "take it over" in heard.problems[0]["hint"]
    assert stored(home, session) == ["held by a program", "hello", "You said: hello"]


@pytest.mark.parametrize(
    ("text", "status"),
    [("hello", 400), ("[]", 400), ('{"say": ""}', 400), ('{"say": "x", "more": 1}', 400), ('{"stop": false}', 400),
     ('{"say": "x", "take_over": "yes"}', 400), ('{"answer": "maybe", "question": "q"}', 400)],
)  # fmt: skip
def test_what_is_no_message_is_refused_and_the_stream_goes_on(
    serve, home: Path, directory: Path, text: str, status: int
) -> None:
    session = session_of(home, directory)
    served = serve()

    async def go() -> Heard:
        heard = Heard()
        async with stream(served, f"session={session}") as socket, stream(served, "") as whole:
            await socket.send(text)
            await heard.until(socket, lambda h: h.refused)
            await whole.send(json.dumps({"say": "to whom?"}))
            await heard.until(whole, lambda h: len(h.refused) == 2)
        return heard

    assert [one["status"] for one in asyncio.run(go()).refused] == [status, 422]
    assert stored(home, session) == []


def test_what_cannot_be_answered_is_a_clear_problem_and_nothing_is_recorded(home: Path, directory: Path) -> None:
    session = session_of(home, directory, "before")
    gone = "20200101-000000-000000-abcd"
    with Served(home, directory) as served:  # without any model

        async def go() -> Heard:
            heard = Heard()
            async with stream(served, f"session={session}") as socket, stream(served, f"session={gone}") as other:
                await socket.send(json.dumps({"say": "hello", "id": "1"}))
                await heard.until(socket, lambda h: h.problems)
                await other.send(json.dumps({"say": "hello", "id": "2"}))
                await heard.until(other, lambda h: len(h.problems) == 2)
            return heard

        problems = asyncio.run(go()).problems
    assert [(one["status"], one["type"]) for one in problems] == [
        (424, "urn:p8:AssistantError"),
        (404, "urn:p8:NotFound"),
    ]
    assert stored(home, session) == ["before"]


def test_a_client_of_a_project_hears_of_its_sessions_alone(serve, home: Path, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mine, other = session_of(home, directory, "of mine"), session_of(home, tmp_path / "other", "of the other")
    served = serve()
    project = served.get(f"/api/v1/sessions/{mine}").json["project"]

    async def go() -> list[dict[str, Any]]:
        heard = Heard()
        async with stream(served, f"after=start&project={project}") as socket:
            await heard.until(socket, lambda h: "of mine" in h.messages)
            for session in (other, mine):
                await asyncio.to_thread(served.ask, "PATCH", f"/api/v1/sessions/{session}", {"title": "renamed"})
            await asyncio.to_thread(served.ask, "POST", f"/api/v1/projects/{project}/pin", {})
            await heard.until(socket, lambda h: [e for e in h.events if e["data"].get("about") == mine])
        return heard.events

    events = asyncio.run(go())
    assert {e["stream"] for e in events if e["kind"] == "message"} == {mine}
    assert other not in {e["data"].get("about") for e in events}


def test_what_an_agent_asks_is_asked_of_whoever_follows_the_session(
    home: Path, directory: Path, tmp_path: Path
) -> None:
    told_agent(home, tmp_path / "state")
    session = session_of(home, directory, model="tester")
    with Served(home, directory) as served:

        async def go() -> Heard:
            heard = Heard()
            async with stream(served, f"session={session}") as socket:
                await socket.send(json.dumps({"say": "edit a.txt hello", "id": "1"}))
                await heard.until(socket, lambda h: h.asked, 60)
                assert not (directory / "a.txt").exists()
                question = heard.asked[0]
                await socket.send(json.dumps({"answer": "once", "question": "another"}))
                await socket.send(json.dumps({"answer": "once", "question": question["question"]}))
                await heard.until(socket, lambda h: ("1", "done") in h.states)
                await socket.send(json.dumps({"say": "edit b.txt hello", "id": "2"}))
                await heard.until(socket, lambda h: len(h.asked) == 2, 60)
            return heard  # and leaves, without an answer

        heard = asyncio.run(go())
        assert heard.asked[0]["content"][0]["new"] == "hello"
        assert (directory / "a.txt").read_text() == "hello"
        until = time.monotonic() + 40
        while len(stored(home, session)) < 4 and time.monotonic() < until:
            time.sleep(0.3)
    assert stored(home, session)[1::2] == ["let me see done", "let me see not done"]
    assert not (directory / "b.txt").exists()


@pytest.mark.timeout(280)
def test_killed_while_it_answers_each_message_is_there_once(serve, home: Path, directory: Path) -> None:
    session = session_of(home, directory)
    served = serve(FAKE_DELAY_S="0.01")
    texts = [f"number {n}" for n in range(12)]

    async def go() -> None:
        done: set[str] = set()
        while len(done) < len(texts):
            try:
                async with stream(served, f"session={session}") as socket:
                    heard = Heard()
                    for text in texts:
                        if text in done:
                            continue
                        await socket.send(json.dumps({"say": text, "id": text}))
                        await heard.until(
                            socket, lambda h, text=text: {(text, "done"), (text, "refused")} & {*h.states}, 60
                        )
                        done |= {key for key, state in heard.states if state == "done"}
            except (ConnectionClosed, OSError, EOFError, TimeoutError):
                await asyncio.sleep(0.1)
            except Exception as error:  # a handshake that was cut off
                if "handshake" not in type(error).__name__.lower() and "Invalid" not in type(error).__name__:
                    raise
                await asyncio.sleep(0.1)

    async def kill() -> None:
        for wait in (0.4, 0.9, 0.6):
            await asyncio.sleep(wait)
            for child in served.children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    async def both() -> None:
        killing = asyncio.create_task(kill())
        await go()
        await killing

    asyncio.run(both())
    said = stored(home, session)
    assert [text for text in said if text in texts] == texts
    assert [f"You said: {text}" in said for text in texts] == [True] * len(texts)
