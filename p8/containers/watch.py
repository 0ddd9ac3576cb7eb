"""Observes containers: the engine's events, a sample a second, and probes of ports and sockets. Decides nothing.

All that is seen is delivered on one thread, in order, so that whoever decides needs no locks.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from p8.containers.base import Container, EngineDown, Event, Runtime, Sample, State
from p8.errors import P8Error
from p8.model import now_us

LOOK_S = 0.5  #: how often the list of targets is read anew
RECONNECT_S = (0.1, 0.2, 0.5, 1.0)
LOCAL_S = 0.2  #: an engine on this machine is knocked at so often, as that costs nothing
CLOSED_WITHIN_S = 0.1  #: the engine's proxy accepts for a program that does not listen, and hangs up at once
PROBES_AT_ONCE = 8
#: events after which a container is looked at at once
TELLING = ("die", "stop", "kill", "pause", "unpause", "destroy", "start", "restart", "oom", "health_status")


class Target(NamedTuple):
    """What is to be watched."""

    id: str  #: the instance's
    container: str
    port: int = 0  #: on this machine's 127.0.0.1; 0 where none must answer
    socket: Path | None = None  #: must answer where it exists
    interval_s: float = 30.0
    timeout_s: float = 5.0


class Verdict(NamedTuple):
    """How a target was found."""

    id: str
    container: str
    healthy: bool
    state: State | None  #: None where the container is gone
    reasons: tuple[str, ...]  #: what is wrong
    at_us: int
    exit_code: int = 0

    @property
    def is_up(self) -> bool:
        """Return whether the container at least runs."""
        return self.state is State.RUNNING


class EngineState(NamedTuple):
    """The engine went away, or came back."""

    up: bool
    text: str = ""


Observation = Verdict | Sample | Event | EngineState


def probe(runtime: Runtime, target: Target) -> Verdict:
    """
    Look at a target now.

    Raises:
        EngineDown: nothing can be said.
    """
    found = runtime.inspect(target.container) if target.container else None
    reasons = tuple(_wrong(found, target))
    state = found.state if found is not None else None
    return Verdict(target.id, target.container, not reasons, state, reasons, now_us(), found.exit_code if found else 0)


def _wrong(found: Container | None, target: Target) -> list[str]:
    if found is None:
        return ["its container is gone"]
    if found.state is not State.RUNNING:
        how = f" with status {found.exit_code}" if found.state is State.EXITED else ""
        how += " (out of memory)" if found.oom_killed else ""
        return [f"its container is {found.state}{how}"]
    wrong = []
    if found.health == "unhealthy":
        wrong.append("its health command fails")
    if target.port and not port_answers(target.port, target.timeout_s):
        wrong.append(f"port {target.port} does not answer")
    if target.socket is not None and not socket_answers(target.socket, target.timeout_s):
        wrong.append("its socket does not answer")
    return wrong


def port_answers(port: int, timeout_s: float) -> bool:
    """Return whether a program accepts connections on a port of this machine, and keeps them for a moment."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as tried:
            return _stays(tried)
    except OSError:
        return False


def _stays(tried: socket.socket) -> bool:
    tried.settimeout(CLOSED_WITHIN_S)
    try:
        return tried.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def socket_answers(path: Path, timeout_s: float) -> bool:
    """Return whether a Unix socket accepts connections; one that does not exist is well."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return True
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(timeout_s)
            tried.connect(f"/proc/self/fd/{folder}/{path.name}")  # a socket's address has 107 bytes at most
            return True
    except OSError:
        return False
    finally:
        os.close(folder)


def wait_until_well(runtime: Runtime, target: Target, seconds: float) -> Verdict:
    """Return the first healthy verdict, or the last one when it takes longer, or the container has stopped."""
    until = time.monotonic() + seconds
    while True:
        verdict = probe(runtime, target)
        if verdict.healthy or not verdict.is_up or time.monotonic() >= until:
            return verdict
        time.sleep(0.05)


class Watch:
    """
    Watches until told to stop.

    Args:
        runtime: the engine.
        targets: asked twice a second what is to be watched.
        hear: told everything, on the thread that called `run`.
        samples: whether use of CPU and memory is followed too.
    """

    def __init__(
        self,
        runtime: Runtime,
        targets: Callable[[], Sequence[Target]],
        hear: Callable[[Observation], None],
        samples: bool = True,
    ) -> None:
        self._runtime = runtime
        self._targets = targets
        self._hear = hear
        self._with_samples = samples
        self._seen: queue.SimpleQueue[Observation | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._up = True
        self._due: dict[str, float] = {}
        self._probing: set[str] = set()
        self._sampling: dict[str, threading.Thread] = {}
        self._standing: dict[str, Target] = {}
        self._pool = ThreadPoolExecutor(PROBES_AT_ONCE, "p8-probe")

    def stop(self) -> None:
        """Make `run` return soon. From any thread."""
        self._stop.set()
        self._seen.put(None)

    def soon(self, target_id: str, seconds: float = 0.0) -> None:
        """Look at a target so soon, and not only when its turn comes. From any thread."""
        self._due[target_id] = min(self._due.get(target_id, float("inf")), time.monotonic() + seconds)

    def run(self) -> None:
        """Watch."""
        listening = threading.Thread(target=self._listen, name="p8-events", daemon=True)
        listening.start()
        looked = 0.0
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                if now - looked >= LOOK_S:
                    looked = now
                    self._look()
                self._probe_due(now)
                wait = max(min([looked + LOOK_S, *self._due.values()]) - time.monotonic(), 0.0)
                with contextlib.suppress(queue.Empty):
                    while (seen := self._seen.get(timeout=wait)) is not None:
                        self._take(seen)
                        wait = 0.0
        finally:
            self._stop.set()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        try:
            targets = {target.id: target for target in self._targets()}
        except P8Error:
            return  # the database is busy; what was watched goes on to be
        for name in list(self._due):
            if name not in targets:
                del self._due[name]
        for name, target in targets.items():
            old = self._standing.get(name)
            if old is None or old.container != target.container:
                self.soon(name)
            else:
                self.soon(name, target.interval_s)
        self._standing = targets
        if self._with_samples:
            self._follow({target.container for target in targets.values() if target.container})

    def _probe_due(self, now: float) -> None:
        for name, due in list(self._due.items()):
            if due > now:
                continue
            if name in self._probing:
                self._due[name] = now + CLOSED_WITHIN_S
                continue
            target = self._standing.get(name)
            if target is None:
                del self._due[name]
                continue
            self._due[name] = now + target.interval_s
            if self._up:
                self._probing.add(name)
                self._pool.submit(self._probe, target)

    def _probe(self, target: Target) -> None:
        try:
            self._seen.put(probe(self._runtime, target))
        except EngineDown as error:
            self._seen.put(EngineState(False, error.message))
        except P8Error:
            pass  # looked at again when its turn comes
        finally:
            self._probing.discard(target.id)

    def _take(self, seen: Observation) -> None:
        if isinstance(seen, EngineState):
            if seen.up == self._up:
                return
            self._up = seen.up
            if seen.up:
                for name in self._standing:
                    self.soon(name)
        elif isinstance(seen, Event) and seen.action.split(":")[0] in TELLING:
            for target in self._standing.values():
                if target.container == seen.container:
                    self.soon(target.id)
        self._hear(seen)

    # streams

    def _listen(self) -> None:
        since, failures = now_us(), 0
        while not self._stop.is_set():
            try:
                self._runtime.engine()
                self._seen.put(EngineState(True))
                failures = 0
                for event in self._runtime.events(since):
                    since = max(since, event.time_us + 1)
                    self._seen.put(event)
                    if self._stop.is_set():
                        return
            except P8Error as error:
                if isinstance(error, EngineDown):
                    self._seen.put(EngineState(False, error.message))
            wait = RECONNECT_S[min(failures, len(RECONNECT_S) - 1)]
            self._stop.wait(min(wait, LOCAL_S) if self._runtime.endpoint.startswith("unix://") else wait)
            failures += 1

    def _follow(self, containers: set[str]) -> None:
        for container, thread in list(self._sampling.items()):
            if not thread.is_alive():
                del self._sampling[container]
        for container in containers - self._sampling.keys() if self._up else ():
            thread = threading.Thread(target=self._sample, args=(container,), name="p8-samples", daemon=True)
            self._sampling[container] = thread
            thread.start()

    def _sample(self, container: str) -> None:
        with contextlib.suppress(P8Error):
            for sample in self._runtime.samples(container):
                self._seen.put(sample)
                if self._stop.is_set() or all(t.container != container for t in list(self._standing.values())):
                    return
