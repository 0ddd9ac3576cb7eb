"""What the server takes: pages beside the framework's own bare route, long lists, and how late an event is told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import connect

from support.seed import seed
from support.serving import Served

SESSIONS = int(os.environ.get("P8_SCALE", "2000"))
BARE = """
import socket, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def bare(request):
    return JSONResponse({"ok": True})
listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen(100)
print(listening.getsockname()[1], flush=True)
app = Starlette(routes=[Route("/", bare)])
settings = uvicorn.Config(app, loop="asyncio", http="httptools", lifespan="off", log_config=None, access_log=False)
uvicorn.Server(settings).run(sockets=[listening])
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("served")
    seed(root / "home", SESSIONS, SESSIONS * 10)
    with Served(root / "home", root) as served:
        yield served


@pytest.fixture(scope="module")
def bare() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()


def load(port: int, path: str, token: str, seconds: float, connections: int = 4) -> tuple[float, list[float]]:
    """Return requests a second, and how long each took, in milliseconds, sorted."""
    line = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n\r\n".encode()
    taken: list[float] = []

    async def one(until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (begun := time.perf_counter()) < until:
            writer.write(line)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 " in head[:20]
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            taken.append((time.perf_counter() - begun) * 1000)
        writer.close()

    async def go() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(one(begun + seconds) for _ in range(connections)))
        return len(taken) / (time.perf_counter() - begun)

    rate = asyncio.run(go())
    return rate, sorted(taken)


def test_a_page_of_a_session_beside_a_bare_route(served: Served, bare: int, report) -> None:
    session = served.get("/api/v1/sessions?limit=1").json["items"][0]["id"]
    path = f"/api/v1/sessions/{session}/entries?limit=50"
    ratios, rates = [], []
    for _ in range(5):
        floor = load(bare, "/", "", 0.5)[0]
        rates.append(load(served.port, path, served.token, 0.5)[0])
        ratios.append(rates[-1] / floor)
    ratio, rate = sorted(ratios)[2], sorted(rates)[2]
    met = ratio >= 0.6 or rate >= 2000
    report("a session's page / the framework's bare route", ratio, ">= 0.6, or 2,000/s", "x", met, f"{rate:,.0f}/s")
    assert ratio > 0.2


def test_a_long_list_page_by_page(served: Served, report) -> None:
    taken, after, count = [], "", 0
    while True:
        begun = time.perf_counter()
        page = served.get(f"/api/v1/sessions?limit=50&after={after}").json
        taken.append((time.perf_counter() - begun) * 1000)
        count += len(page["items"])
        after = page["next"]
        if not after:
            break
    p95 = sorted(taken)[int(len(taken) * 0.95)]
    report(f"a page of 50 of {count} sessions, p95", p95, "< 20", "ms", p95 < 20)
    assert count == SESSIONS
    assert p95 < 200


def test_how_late_an_event_is_told(served: Served, report) -> None:
    from p8.core.sessions import SessionManager
    from p8.store.manager import PersistenceManager

    manager = SessionManager(PersistenceManager(served.home))
    manager.start_session("late")

    async def go() -> list[float]:
        late: list[float] = []
        head = {"authorization": f"Bearer {served.token}"}
        async with connect(f"ws://127.0.0.1:{served.port}/api/v1/stream", additional_headers=head) as socket:
            await socket.recv()
            for number in range(200):
                manager.record_message({"role": "user", "content": str(number), "at": time.time()})
                while len(late) <= number:
                    message = json.loads(await asyncio.wait_for(socket.recv(), 20))
                    late += [
                        (time.time() - e["data"]["at"]) * 1000 for e in message["events"] if e["kind"] == "message"
                    ]
        return late

    late = sorted(asyncio.run(go()))
    manager.close()
    p99 = late[int(len(late) * 0.99)]
    report("an entry of another process told, p99", p99, "< 100", "ms", p99 < 100, f"p50 {late[len(late) // 2]:.0f} ms")
    assert late[len(late) // 2] < 500
