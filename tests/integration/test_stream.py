"""The live stream: four processes write, twenty clients read, some leave and come back: each has each event once."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from support.serving import Served

#: of all writers; P8_STREAM_EVENTS=20000 is the full count
EVENTS = int(os.environ.get("P8_STREAM_EVENTS", "4000"))
FULL = "P8_STREAM_EVENTS" in os.environ
PAUSE_S = 0.01 if FULL else 0.002  #: of each writer between two events; how late is measured where nothing piles up
LATE_S = 0.1  #: from the record to the client, p99; held to at the full count, on a machine of one's own
WRITERS, CLIENTS = 4, 20
WRITER = """
import sys, time
from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
manager = SessionManager(PersistenceManager(sys.argv[1]))
manager.start_session(f"writer {sys.argv[2]}")
time.sleep(max(float(sys.argv[5]) - time.time(), 0))
for number in range(int(sys.argv[3])):
    manager.record_message({"role": "user", "content": f"{sys.argv[2]}:{number}", "at": time.time()})
    time.sleep(float(sys.argv[4]))
manager.save_session()
manager.close()
"""


@pytest.fixture
def served(home: Path, tmp_path: Path):
    with Served(home, tmp_path) as served:
        yield served


def writers(home: Path, each: int, pause_s: float, count: int = WRITERS, after_s: float = 0) -> list[Any]:
    """Begin processes that write; the first word comes `after_s` from now, when all have been started."""
    given = [str(each), str(pause_s), str(time.time() + after_s)]
    return [subprocess.Popen([sys.executable, "-c", WRITER, str(home), str(n), *given]) for n in range(count)]


def stream(served: Served, query: str = "", **more: Any) -> Any:
    headers = {"authorization": f"Bearer {served.token}"}
    return connect(f"ws://127.0.0.1:{served.port}/api/v1/stream{query}", additional_headers=headers, **more)


class Client:
    """Reads from a cursor on, leaves at random and comes back."""

    def __init__(self, seed: int, leaves: bool) -> None:
        self.seen: list[tuple[str, str]] = []  # (cursor, what was said)
        self.late_s: list[float] = []
        self.cursor = "0.0"
        self.came = asyncio.Event()  #: set when it has been there once
        self._random = random.Random(seed)
        self._leaves = leaves

    async def read(self, served: Served, wanted: int) -> None:
        while len(self.seen) < wanted:
            stay = self._random.randint(1, 15) if self._leaves else 1 << 30
            try:
                async with stream(served, f"?after={self.cursor}") as socket:
                    self.came.set()
                    while stay and len(self.seen) < wanted:
                        self.take(json.loads(await asyncio.wait_for(socket.recv(), 60)))
                        stay -= 1
            except (ConnectionClosed, OSError):
                await asyncio.sleep(0.1)

    def take(self, message: dict[str, Any]) -> None:
        now = time.time()
        for event in message["events"]:
            if event["kind"] == "message":
                self.seen.append((event["cursor"], event["data"]["content"]))
                self.late_s.append(now - event["data"]["at"])
        self.cursor = message["cursor"]


def in_order(seen: list[tuple[str, str]], each: int) -> bool:
    """Whether each writer's messages are there, each once, in the order they were written."""
    of = {n: [int(said.split(":")[1]) for _, said in seen if said.startswith(f"{n}:")] for n in range(WRITERS)}
    return all(found == list(range(each)) for found in of.values())


@pytest.mark.timeout(280)
def test_each_client_has_each_event_once_and_in_order(served: Served, home: Path) -> None:
    each = EVENTS // WRITERS
    clients = [Client(n, leaves=n % 2 == 1) for n in range(CLIENTS)]

    async def go() -> None:
        async with stream(served, "?after=0.0") as lazy:  # one that never reads
            reading = asyncio.gather(*(c.read(served, each * WRITERS) for c in clients))
            await asyncio.gather(*(c.came.wait() for c in clients))
            running = writers(home, each, PAUSE_S, after_s=2.0)
            await asyncio.wait_for(reading, 200)
            assert [one.wait(60) for one in running] == [0] * WRITERS
            lazy.transport.abort()

    gc.disable()  # the clients share a process: a collection there would hold up all of them at once
    try:
        asyncio.run(go())
    finally:
        gc.enable()
    for client in clients:
        assert in_order(client.seen, each)
        assert client.seen == clients[0].seen
    staying = sorted(late for client in clients[::2] for late in client.late_s)
    leaving = sorted(late for client in clients[1::2] for late in client.late_s)
    told = {
        name: tuple(round(late[int(len(late) * part)] * 1000) for part in (0.5, 0.99, 0.999))
        for name, late in (("who stay", staying), ("who leave and come back", leaving))
    }
    print(f"\nlate by ms, p50 p99 p99.9: {told}")
    assert not FULL or staying[int(len(staying) * 0.99)] < LATE_S, told


def test_a_client_of_one_session_hears_only_of_it(served: Served, home: Path) -> None:
    for one in writers(home, 5, 0.0, 2):
        assert one.wait(60) == 0
    session = served.get("/api/v1/sessions").json["items"][0]["id"]

    async def go() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with stream(served, f"?after=start&session={session}") as socket:
            while len([e for e in found if e["kind"] == "message"]) < 5:
                found += json.loads(await asyncio.wait_for(socket.recv(), 20))["events"]
            changed = await asyncio.to_thread(
                served.ask, "PATCH", f"/api/v1/sessions/{session}", {"title": "renamed elsewhere"}
            )
            assert changed.status == 200
            while not [e for e in found if e["data"].get("set", {}).get("title") == "renamed elsewhere"]:
                found += json.loads(await asyncio.wait_for(socket.recv(), 20))["events"]
        return found

    events = asyncio.run(go())
    assert {session, None} >= {e["data"].get("about", session) for e in events}
    assert {e["stream"] for e in events if e["kind"] == "message"} == {session}


def test_without_a_cursor_only_what_happens_from_now_on_is_told(served: Served, home: Path) -> None:
    for one in writers(home, 3, 0.0, 1):
        assert one.wait(60) == 0

    async def go() -> list[str]:
        async with stream(served) as socket:
            first = json.loads(await socket.recv())
            assert first["events"] == []
            writer = writers(home, 2, 0.0, 1)[0]
            said: list[str] = []
            while len(said) < 2:
                events = json.loads(await asyncio.wait_for(socket.recv(), 20))["events"]
                said += [e["data"]["content"] for e in events if e["kind"] == "message"]
            writer.wait(60)
            return said

    assert asyncio.run(go()) == ["0:0", "0:1"]


@pytest.mark.parametrize("query", ["?after=x", "?after=1", "?session=x", "?nothing=1", "?after=99999999.1"])
def test_a_bad_question_is_told_and_ends(served: Served, query: str) -> None:
    async def go() -> tuple[dict[str, Any], int | None]:
        async with stream(served, query) as socket:
            said: dict[str, Any] = {}
            while "problem" not in said:
                said = json.loads(await asyncio.wait_for(socket.recv(), 20))
            await socket.wait_closed()
            return said, socket.close_code

    said, code = asyncio.run(go())
    assert said["problem"]["status"] == 422
    assert code == 4422


def test_what_a_client_sends_is_not_needed_and_may_not_be_large(served: Served) -> None:
    async def go() -> int | None:
        async with stream(served) as socket:
            await socket.recv()
            await socket.send("hello")
            await socket.send("x" * 100_000)
            await socket.wait_closed()
            return socket.close_code

    assert asyncio.run(go()) == 1009
    assert served.get("/health").status == 200
