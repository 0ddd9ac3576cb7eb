"""An engine that takes its time to make containers: the usual one behind a socket that holds such requests back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USUAL = "/var/run/docker.sock"


class SlowEngine:
    """What is known of it: `address`, and how many containers it has been asked for and has made."""

    def __init__(self, path: Path, delay_s: float) -> None:
        self.address = f"unix://{path}"
        self.asked = 0
        self.made = 0
        self._delay_s = delay_s
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()

    def serve(self) -> None:
        while True:
            try:
                talk, _ = self._listening.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(USUAL)
            threading.Thread(target=self._pass, args=(talk, engine, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(engine, talk, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, to_engine: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                create = to_engine and data.startswith(b"POST") and b"/containers/create" in data.split(b"\r\n", 1)[0]
                if create:
                    self.asked += 1
                    time.sleep(self._delay_s)
                target.sendall(data)
                self.made += create
            target.shutdown(socket.SHUT_WR)
        if not to_engine:
            for one in (source, target):
                one.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@contextmanager
def slow_engine(path: Path, delay_s: float) -> Iterator[SlowEngine]:
    """Give one at a path whose name is short."""
    made = SlowEngine(path, delay_s)
    threading.Thread(target=made.serve, daemon=True).start()
    try:
        yield made
    finally:
        made.close()
