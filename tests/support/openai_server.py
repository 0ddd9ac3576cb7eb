"""A small server on loopback that speaks OpenAI's chat protocol, well or badly as it is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.loopback import LoopbackServer, QuietHandler


class Server(LoopbackServer):
    """The server; `mode` says how it behaves."""

    mode = "ok"
    says = "Hello from the loopback."

    def __init__(self) -> None:
        super().__init__(Handler)

    @property
    def address(self) -> str:
        return f"{super().address}/v1"


class Handler(QuietHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers.get("authorization", ""))
        mode = self.server.mode
        if mode in {"401", "429", "500"}:
            self._refuse(int(mode))
        elif mode == "garbage":
            self._start("text/html")
            self.wfile.write(b"<html>not what you think</html>")
        else:
            self._stream(mode)

    def _start(self, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        if status == 429:
            self.send_header("retry-after", "7")
            self.send_header("x-should-retry", "false")
        self.send_header("connection", "close")
        self.end_headers()

    def _refuse(self, status: int) -> None:
        self._start("application/json", status)
        words = {401: "Incorrect API key provided", 429: "Rate limit reached", 500: "Internal error"}[status]
        self.wfile.write(json.dumps({"error": {"message": words, "type": "x", "code": "x"}}).encode())

    def _stream(self, mode: str) -> None:
        self._start("text/event-stream")
        words = self.server.says.split(" ")
        for number, word in enumerate(words):
            if mode == "hang" and number == 2:
                time.sleep(60)
            if mode == "cut" and number == 2:
                self.connection.close()
                return
            if mode == "slow":
                time.sleep(0.2)
            self._chunk({"choices": [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]})
        self._chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._chunk({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": len(words), "total_tokens": 0}})
        self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, data: dict) -> None:
        whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "loop", **data}
        self.wfile.write(b"data: " + json.dumps(whole).encode() + b"\n\n")
        self.wfile.flush()


@contextmanager
def openai_server() -> Iterator[Server]:
    """Run a server while the block lasts."""
    server = Server()
    with server.running():
        yield server
