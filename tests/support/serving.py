"""A P8 that is served: in this process behind its guard, or as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

TOKEN = "0123456789abcdef" * 4


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    asgi: Any,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, Any] | None = None,
    raw: Any = (),
    **scope: Any,
) -> Answer:
    """Ask an ASGI application; with the token and the right host where `headers` do not say otherwise."""
    given = {"host": "127.0.0.1:8008", "authorization": f"Bearer {TOKEN}"} | (headers or {})
    content = body if isinstance(body, bytes) else (b"" if body is None else json.dumps(body).encode())
    if body is not None:
        given.setdefault("content-type", "application/json")
    path, _, query = path.partition("?")
    full = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "scheme": "http", "server": ("127.0.0.1", 8008),
        "client": ("127.0.0.1", 1), "headers": raw or encoded(given), **scope,
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def go() -> None:
        waiting = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> Any:
            return waiting.pop(0) if waiting else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await asgi(full, receive, send)

    asyncio.run(go())
    start = sent[0]
    found = {k.decode().lower(): v.decode("latin-1") for k, v in start["headers"]}
    return Answer(start["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


def encoded(headers: dict[str, str | None]) -> list[tuple[bytes, bytes]]:
    return [(k.encode(), v.encode("latin-1")) for k, v in headers.items() if v is not None]


def knock(asgi: Any, path: str, headers: dict[str, str | None] | None = None) -> list[dict[str, Any]]:
    """Open a WebSocket and leave at once; return what the application sent."""
    given = {"host": "127.0.0.1:8008", "authorization": f"Bearer {TOKEN}"} | (headers or {})
    path, _, query = path.partition("?")
    scope = {
        "type": "websocket", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "scheme": "ws", "server": ("127.0.0.1", 8008), "client": ("127.0.0.1", 1), "subprotocols": [],
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items() if v is not None],
        "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def go() -> None:
        waiting = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

        async def receive() -> Any:
            return waiting.pop(0) if waiting else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await asyncio.wait_for(asgi(scope, receive, send), 10)

    asyncio.run(go())
    return sent


class Served:
    """`p8 serve` as a process of its own, on a free port; with `fake`, its models echo (see `fake_repl`)."""

    def __init__(self, home: Path, directory: Path, *options: str, fake: bool = False, **more: str) -> None:
        self.home = home
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKER", "P8_"))}
        env |= {"P8_HOME": str(home), "HOME": str(home.parent), "DOCKER_HOST": f"unix://{home.parent}/no-engine.sock"}
        env |= {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))} | more
        self.log = (home.parent / "serve.log").open("w+b")
        command = [sys.executable, "-m", "support.fake_repl" if fake else "p8", "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, cwd=directory, env=env, stdout=self.log, stderr=subprocess.STDOUT)
        said = self._wait_for(r"http://127\.0\.0\.1:(\d+)/#(\S+)")
        self.port, self.code = int(said[1]), said[2]
        self.token = (home / "server" / "token").read_text().strip()

    def _wait_for(self, pattern: str) -> re.Match[str]:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            self.log.flush()
            found = re.search(pattern, self.said())
            if found is not None:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"p8 serve said {self.said()!r}")

    def said(self) -> str:
        return Path(self.log.name).read_text("utf-8", "replace")

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        import http.client

        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        given = {"authorization": f"Bearer {self.token}", "content-type": "application/json"} | headers
        asked.request(method, path, None if body is None else json.dumps(body), given)
        found = asked.getresponse()
        made = Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        asked.close()
        return made

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
