"""Follows what several containers use, for as long as somebody looks: a thread each, the newest sample kept."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping

from p8.containers.base import Runtime, Sample
from p8.errors import P8Error

UNSEEN_S = 15.0  #: what nobody has looked at for so long is followed no more


class Meter:
    """
    Samples of some containers, as they come.

    Args:
        runtime: the engine.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._seen = time.monotonic()
        self._latest: dict[str, Sample] = {}
        self._following: dict[str, threading.Thread] = {}
        self._over = threading.Event()

    def follow(self, containers: set[str]) -> None:
        """Follow these from now on, and no others."""
        with self._lock:
            self._seen = time.monotonic()
            for gone in [name for name, one in self._following.items() if not one.is_alive() or name not in containers]:
                del self._following[gone]
                self._latest.pop(gone, None)
            for name in containers - self._following.keys():
                thread = threading.Thread(target=self._run, args=(name,), name="p8-meter", daemon=True)
                self._following[name] = thread
                thread.start()

    def latest(self, wait_s: float = 0.0) -> Mapping[str, Sample]:
        """Return the newest sample by container, after waiting so long at most for the first of each."""
        until = time.monotonic() + wait_s
        while time.monotonic() < until and any(
            name not in self._latest and thread.is_alive() for name, thread in list(self._following.items())
        ):
            time.sleep(0.05)
        return dict(self._latest)

    def close(self) -> None:
        """Stop following."""
        self._over.set()

    def _run(self, container: str) -> None:
        with contextlib.suppress(P8Error):
            for sample in self._runtime.samples(container):
                unseen = time.monotonic() - self._seen > UNSEEN_S
                if self._over.is_set() or unseen or self._following.get(container) is not threading.current_thread():
                    return
                self._latest[container] = sample
