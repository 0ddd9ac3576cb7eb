"""An HTTP server on loopback, or on a unix socket, that keeps what it was asked; what it answers is its handler's."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class LoopbackServer(ThreadingHTTPServer):
    """The server; `asked` keeps the requests, `keys` what it was shown."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], path: Path | None = None) -> None:
        if path is not None:
            self.address_family = socket.AF_UNIX
        super().__init__(("127.0.0.1", 0) if path is None else str(path), handler)  # type: ignore[arg-type]
        if path is not None:
            path.chmod(0o666)
        self.asked: list[Any] = []
        self.keys: list[str] = []

    def server_bind(self) -> None:
        """Bind; the library's own asks for the name of the address."""
        socketserver.TCPServer.server_bind(self)
        if self.address_family != socket.AF_UNIX:
            self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the game."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer while the block lasts."""
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that does not write to the terminal."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""
