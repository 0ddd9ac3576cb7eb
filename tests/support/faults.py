"""A fleet of real instances, looked after by `p8 watch`, probed once a second, made to fail in every way there is."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from p8.app import App
from support.engine import IMAGE, OwnEngine, client, tidy_app, until
from support.prober import get, is_up, registry, says

CLOSELY = 4
CONTROLS = 8
PATIENCE = 4  #: times as long as it may take is waited, as what it took is judged afterwards, without what was still
SERVED = Path(__file__).with_name("served.py")
SETTINGS = """\
instance: {{workspace: /app/project}}
command: ["python3", "-I", "-S", "/app/project/served.py"]
health: {{check_interval: {interval}, timeout: 1s, max_retries: 2, retry_delay: 200ms, stable: 3s{more}}}
resources: {{memory: 160Mi}}
networking: {{network: {network}}}
image: {image}
"""
#: ends the program for want of memory: it is offered to the kernel first, and another one beside it asks for too much
HOG = (
    "for p in $(pgrep -xf 'python3 -I -S /app/project/served.py'); do echo 1000 > /proc/$p/oom_score_adj; done;"
    " exec python3 -c 'x = bytearray(400 << 20)'"
)


class Fleet:
    """
    Instances of one home on one engine.

    Args:
        app: the home's.
        folder: for logs.
        count: how many instances.
        engine: the engine's socket.
        recovers: whether what fails is to be brought back.
        network: "bridge", with a port each, or "none".
        every: how often each is checked, where no event tells of it.
    """

    def __init__(
        self,
        app: App,
        folder: Path,
        count: int,
        engine: str,
        recovers: bool = True,
        network: str = "bridge",
        every: str = "1s",
    ) -> None:
        self.app = app
        self.ids = [f"i{n}-shell" for n in range(count)]
        self._folder = folder
        self._engine = engine
        self._recovers = recovers
        self._network = network
        self._every = every
        self._watch: subprocess.Popen[bytes] | None = None
        self._sdk: Any = None
        self.broken = dict.fromkeys(self.ids, 0)  #: how often each was made to fail
        self._told: Counter[tuple[str, str]] = Counter()
        self._log = app.instances.files.log.follow()

    def start(self, plain: bool = False) -> None:
        """
        Start all, wait until they answer, and have them looked after by a process of their own.

        Args:
            plain: without what some have: the first CLOSELY are checked twice a second, and no other has its port
                closed; the first has a health command; the last has an image of a name of its own.
        """
        self.app.store.start()
        shutil.copy(SERVED, self.app.directory)
        configs = self.app.config.home / "configs"
        (configs / "default.yml").write_text(f"global: {{max_instances: {len(self.ids) + 1}}}\n")
        for number, name in enumerate(self.ids):
            image = IMAGE if plain or name != self.ids[-1] else f"p8-test-fault-{name}:1"
            if image != IMAGE:
                self.sdk.images.get(IMAGE).tag(image)
            more = "" if plain or number else ', command: "test ! -e /tmp/sick"'
            more += "" if self._recovers else ", restart: false"
            interval = "500ms" if number < CLOSELY else self._every
            text = SETTINGS.format(interval=interval, more=more, network=self._network, image=image)
            (configs / f"{name}.yml").write_text(text)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self.app.instances.start(name[:-6], self.app.directory, "shell"), self.ids))
        log = (self._folder / "watch.log").open("ab")
        env = {**os.environ, "P8_HOME": str(self.app.config.home)}
        with log:
            self._watch = subprocess.Popen(
                [sys.executable, "-m", "p8", "watch"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env
            )
        until(lambda: all(self.answers(name) for name in self.ids), 60, "all answer")
        until(lambda: b"looking after" in (self._folder / "watch.log").read_bytes(), 30, "they are looked after")

    def stop(self) -> None:
        """End the process that looks after them; remove images of their own."""
        if self._watch is not None:
            self._watch.send_signal(signal.SIGTERM)
            assert self._watch.wait(60) == 0, (self._folder / "watch.log").read_text()[-2000:]
        for tag in [tag for image in self.sdk.images.list() for tag in image.tags]:
            if tag.startswith("p8-test-fault-"):
                self.sdk.images.remove(tag, force=True)
        self.sdk.close()

    @property
    def sdk(self) -> Any:
        """What other people talk to the engine with."""
        if self._sdk is None:
            self._sdk = client(self._engine)
        return self._sdk

    def probed(self) -> dict[str, Any]:
        """Return what the prober is told of it."""
        path = str(self.app.config.home / "registry.json")
        return {"registry": path, "engine": self._engine.removeprefix("unix://"), "ids": self.ids}

    def answers(self, name: str) -> bool:
        """Return whether an instance answers now, as the prober sees it."""
        return asyncio.run(is_up(registry(self.probed()["registry"]), name))

    def container(self, name: str) -> Any:
        """Return the SDK's view of an instance's container."""
        return self.sdk.containers.get(self.app.instances.roster.get(name).container)

    def asked(self, name: str, path: str) -> None:
        """Ask an instance's program for something."""
        one = self.app.instances.roster.get(name)
        place = one.port or str(one.meta["socket"])
        asyncio.run(asyncio.wait_for(get(place, path.encode()), 5))

    def told(self, kind: str, name: str = "") -> int:
        """Return how many alerts of a kind there have been of an instance, or of the engine."""
        for line in self._log.new():
            data = line["metadata"]
            self._told[str(data.get("alert", "")), str(data.get("instance", ""))] += 1
        return self._told[kind, name]


# faults: each returns when what it does is done


def kill(fleet: Fleet, name: str) -> None:
    fleet.container(name).kill()


def pause(fleet: Fleet, name: str) -> None:
    fleet.container(name).pause()


def remove(fleet: Fleet, name: str) -> None:
    fleet.container(name).remove(force=True)


def out_of_memory(fleet: Fleet, name: str) -> None:
    fleet.container(name).exec_run(["sh", "-c", HOG], detach=True)


def close_port(fleet: Fleet, name: str) -> None:
    try:
        fleet.asked(name, "/close")
    except (OSError, ValueError, IndexError, TimeoutError):
        pass  # nobody answers any more


def sicken(fleet: Fleet, name: str) -> None:
    fleet.asked(name, "/sick")


def take_image(fleet: Fleet, name: str) -> None:
    """Remove image and container; the image is back once it was told that it is missing."""
    image = f"p8-test-fault-{name}:1"
    fleet.sdk.images.remove(image, force=True)
    remove(fleet, name)
    until(lambda: image in str(fleet.app.instances.roster.get(name).meta.get("error")), 20, "told of the image")
    fleet.sdk.images.get(IMAGE).tag(image)


FAULTS: dict[str, Callable[[Fleet, str], None]] = {
    "killed": kill, "paused": pause, "out of memory": out_of_memory, "removed": remove, "port closed": close_port,
    "health command": sicken, "image missing": take_image,
}  # fmt: skip


class Span(NamedTuple):
    """From when to when something took, in seconds since 1970."""

    begun: float
    ended: float

    def without(self, still: Sequence[float]) -> float:
        """Return how many seconds it took beside those in which the machine stood still."""
        return self.ended - self.begun - sum(self.begun <= second <= self.ended for second in still)


def break_one(fleet: Fleet, kind: str, within_s: float) -> Span:
    """
    Make an instance fail, the one it has happened to least, and wait until it is well.

    Returns:
        when it did not answer, at most: from before the fault until it answered again.
    """
    within_s *= PATIENCE
    some = {"port closed": fleet.ids[:CLOSELY], "health command": fleet.ids[:1], "image missing": fleet.ids[-1:]}
    fitting = some.get(kind, fleet.ids)
    name = min(fitting, key=lambda one: fleet.broken[one])
    fleet.broken[name] += 1
    until(lambda: fleet.answers(name), within_s, f"{name} answers before it is made to fail")
    before = fleet.told("UNHEALTHY", name), fleet.told("RECOVERED", name)
    begun = time.time()
    FAULTS[kind](fleet, name)
    until(lambda: fleet.told("UNHEALTHY", name) > before[0], within_s, f"{kind}: {name} was told of")
    until(lambda: fleet.told("RECOVERED", name) > before[1], within_s, f"{kind}: {name} was recovered")
    until(lambda: fleet.answers(name), within_s, f"{kind}: {name} answers")
    return Span(begun, time.time())


def restart_engine(fleet: Fleet, engine: OwnEngine, within_s: float) -> Span:
    """Stop a fleet's engine and start it; return from its first answer to when all were well."""
    within_s *= PATIENCE
    before = fleet.told("ENGINE_UP")
    engine.stop()
    until(lambda: not any(fleet.answers(name) for name in fleet.ids), within_s, "nobody answers without an engine")
    engine.start()
    begun = time.time()
    until(lambda: fleet.told("ENGINE_UP") > before, within_s, "told that the engine is back")
    until(lambda: all(fleet.answers(name) for name in fleet.ids), within_s, "all answer again")
    return Span(begun, time.time())


@contextmanager
def probing(folder: Path, fleets: Sequence[Fleet]) -> Iterator[Path]:
    """Probe all instances meanwhile; gives the log, to be added up afterwards."""
    log, asked = folder / "probes.log", folder / "probes.json"
    with controls(folder) as ports:
        fleets_probed = [fleet.probed() for fleet in fleets]
        asked.write_text(json.dumps({"log": str(log), "fleets": fleets_probed, "controls": ports}))
        with asking(asked):
            until(lambda: log.exists() and log.stat().st_size, 20, "the first probe")
            yield log


@contextmanager
def asking(asked: Path) -> Iterator[None]:
    """Have a process do what `support/prober.py` does."""
    process = subprocess.Popen([sys.executable, "-m", "support.prober", str(asked)], cwd=Path(__file__).parents[1])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def controls(folder: Path) -> Iterator[dict[str, int]]:
    """Give ports of containers like those of instances that neither P8 nor a fault touches."""
    sdk = client("unix:///var/run/docker.sock")
    shutil.copy(SERVED, folder / SERVED.name)
    made: dict[str, Any] = {}
    try:
        for name in (f"control-{number}" for number in range(CONTROLS)):
            made[name] = sdk.containers.run(
                IMAGE, ["python3", "-I", "-S", f"/{SERVED.name}"], detach=True, ports={"9000/tcp": ("127.0.0.1", None)},
                environment={"AI_INSTANCE_ID": name, "AI_PORT": "9000", "AI_SOCKET_PATH": "/tmp/s"},
                volumes=[f"{folder / SERVED.name}:/{SERVED.name}:ro"],
            )  # fmt: skip
        known = {name: int(sdk.api.port(one.id, 9000)[0]["HostPort"]) for name, one in made.items()}
        until(lambda: all(asyncio.run(says(name, port)) for name, port in known.items()), 30, "the controls answer")
        yield known
    finally:
        for one in made.values():
            one.remove(force=True)
        sdk.close()


@contextmanager
def fleet_of(
    folder: Path, name: str, count: int, engine: OwnEngine | None = None, recovers: bool = True, every: str = "1s"
) -> Iterator[Fleet]:
    """
    Give a fleet, and take it away afterwards.

    Args:
        folder: with a short name: a socket's path has 107 bytes.
        name: of its home.
        count: how many instances.
        engine: an engine of the test's own, without networks; the usual one where none is given.
        recovers: whether what fails is to be brought back.
        every: how often each is checked.
    """
    home, settings = folder / name, {} if engine is None else {"engine": engine.address}
    with ExitStack() as stack:
        home.mkdir(mode=0o700)
        lines = "".join(f'{key} = "{value}"\n' for key, value in settings.items())
        (home / "config.toml").write_text(lines)
        app = stack.enter_context(tidy_app(home, folder / f"{name}-project", **settings))
        address = settings.get("engine", "unix:///var/run/docker.sock")
        (folder / f"{name}-log").mkdir()
        network = "bridge" if engine is None else "none"
        fleet = Fleet(app, folder / f"{name}-log", count, address, recovers, network, every)
        stack.callback(fleet.stop)
        yield fleet
