"""The container under a session: launched in the background, so that no prompt waits; what `!command` runs in.

It sees the session's directory at the same path as outside, and a state folder that outlives it. Paused with its
session, it goes on with it; it is removed when the session ends or P8 is left, and by whoever starts next where its
process died. Refuses: the terminal, the journal.
"""

from __future__ import annotations

import codecs
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from p8.config import Config
from p8.containers import base, quantities
from p8.containers.base import Channel, Container, ImageMissing, Runtime, State
from p8.containers.images import of_sessions, short_id
from p8.containers.settings import Networking, Resources, Settings
from p8.core import blueprint, leftovers
from p8.core.blueprint import Places
from p8.core.mirror import TAKE_S, About, Mirror, Tell
from p8.core.output import Kept
from p8.errors import ConfigError, ContainerError, P8Error
from p8.events import Change
from p8.model import Kind
from p8.store.leases import this_process
from p8.workspace import git

PIDS = 512
SCRATCH = 128 << 20
LAST_S = 20.0  #: for what is under way when P8 is left
LAST_ELSEWHERE_S = 120.0  #: the last changes come from there; what is not here by then comes the next time
SETTLE_S = 2.0
ONE_STREAM = ("sh", "-c", 'exec sh -c "$1" 2>&1', "sh")  #: of two, the engine does not keep the order
MOST_PAUSED = 3  #: sessions put down whose containers are kept frozen; the one paused first is removed


class ContainerState(StrEnum):
    """How the container under a session stands."""

    OFF = "off"  # none is wanted, or the setting is never
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"  # no engine, no image, or it was refused; `problem` says which
    GONE = "gone"  # it ended, or somebody removed it


class ExecutionResult(NamedTuple):
    """What came of a command."""

    exit_code: int
    output: str  #: both streams in the order they came; of a long one the first and the last part
    duration_s: float
    started_at: datetime
    cut_bytes: int
    interrupted: bool
    where: str  #: the container's name


@dataclass(frozen=True, slots=True)
class _Launched:
    """A container that runs for a session."""

    container: Container
    image: str  #: its image's id
    root: Path  #: what is mounted
    directory: Path  #: where commands run
    mirror: Mirror | None = None  #: where the engine cannot mount it


class SessionContainer:
    """
    The container of one session at a time.

    Args:
        config: the settings `container*` and `output_limit_bytes`.
        runtime: builds the engine; called on the thread that launches.
        changed: called on any thread when `state` has changed.
        tell: told what happens while files are synchronised: level, text, data.
    """

    def __init__(
        self, config: Config, runtime: Callable[[], Runtime], changed: Callable[[], None] = lambda: None,
        tell: Tell = lambda *_: None,
    ) -> None:  # fmt: skip
        self._config = config
        self._make_runtime = runtime
        self.on_change = changed
        self.session = ""  #: whose it is, or was last
        self.state = ContainerState.OFF
        self.problem = ""  #: why it failed, one line
        self.hint = ""
        self.bringing: tuple[float, str] | None = None  #: how far the project is, on its way to an engine elsewhere
        self.goes_on = False  #: whether it is the one that was paused with the session, or is to be
        self._tell = tell
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._launched: _Launched | None = None
        self._paused: dict[str, _Launched] = {}  # by session, the one paused first in front
        self._generation = 0
        self._ready = threading.Event()

    # life

    def start_in_background(self, session: str, directory: Path) -> None:
        """
        Launch a container for a session and return at once, or let its paused one go on; another's is removed.

        Args:
            session: the session's id; this process holds its lease.
            directory: where the person stands; its repository, or itself, is mounted.
        """
        if self._config.container == "never":
            return
        if self._config.container not in {"auto", "always"}:
            raise ConfigError(f"container is {self._config.container!r}", "it must be auto, always or never")
        with self._lock:
            self._let_go()
            self._ready.clear()
            self.session = session
            paused = self._paused.pop(session, None)
            self.goes_on = paused is not None
            self._say(ContainerState.STARTING)
            self._aside("p8-container", self._launch, self._generation, session, directory, paused)

    def wait(self, seconds: float) -> ContainerState:
        """Return the state once the launch has come to an end, or as it is after so long."""
        self._ready.wait(seconds)
        return self.state

    def put_down(self, session: str) -> None:
        """Freeze the container of a session that was paused, and keep it; returns at once. One of another is left."""
        with self._lock:
            if session != self.session or self.state is ContainerState.OFF:
                return
            launched = self._launched
            if launched is None or self.state is not ContainerState.RUNNING:
                self._let_go()
                self._say(ContainerState.OFF)
                return
            self._launched = None
            self._let_go()
            self._paused[session] = launched
            surplus = [self._paused.pop(name) for name in list(self._paused)[:-MOST_PAUSED]]
            self._say(ContainerState.PAUSED)
            self._aside("p8-pause", self._freeze, session, launched, surplus)

    def drop(self, session: str) -> None:
        """Remove the container of a session, also one that is paused or being launched; returns at once."""
        with self._lock:
            paused = self._paused.pop(session, None)
            if paused is not None:
                self._aside("p8-remove", self._remove, paused)
            if session == self.session:
                self._let_go()
                self._say(ContainerState.OFF)

    def stop(self) -> None:
        """Remove all there is, also what is being launched, before P8 is left. Safe to call twice."""
        with self._lock:
            paused, self._paused = list(self._paused.values()), {}
            elsewhere = any(one is not None and one.mirror is not None for one in (self._launched, *paused))
            self._let_go()
            last = self._thread
            others = [threading.Thread(target=self._remove, args=(one,), daemon=True) for one in paused]
            self._say(ContainerState.OFF)
        until = time.monotonic() + (LAST_ELSEWHERE_S if elsewhere else LAST_S)
        for thread in others:
            thread.start()
        for thread in [*others, *([last] if last is not None else [])]:
            if thread is not threading.current_thread():
                thread.join(max(until - time.monotonic(), 0.0))

    def _let_go(self) -> None:
        """Have nothing launched any more: what runs is removed aside, what is on its way when it is there."""
        self._generation += 1
        self._ready.set()  # whoever waits for it waits for nothing
        launched, self._launched = self._launched, None
        if launched is not None:
            self._aside("p8-remove", self._remove, launched)

    def _aside(self, name: str, work: Callable[..., None], *words: Any) -> None:
        """Do something in a thread, after all that was begun before."""
        before = self._thread

        def run() -> None:
            if before is not None:
                before.join()
            work(*words)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self._thread = thread  # only now: others join what they find here

    def _freeze(self, session: str, launched: _Launched, surplus: list[_Launched]) -> None:
        try:
            self._make_runtime().act(launched.container.id, "pause")
        except P8Error:  # it is gone, or the engine is
            with self._lock:
                if self._paused.get(session) is launched:
                    del self._paused[session]
            surplus = [*surplus, *([launched] if launched.mirror is not None else [])]
        for one in surplus:
            self._remove(one)

    def facts(self) -> dict[str, Any]:
        """
        Return what checkpoints and the reality check record of it; empty where none is wanted, or not there yet.

        That is: name, id, image, image_id, engine, network, state; state and problem of one that could not be made.
        """
        launched = self._launched
        if launched is None:
            failed = self.state is ContainerState.FAILED
            return {"state": str(self.state), "problem": self.problem} if failed else {}
        one = launched.container
        return {
            "name": one.name, "id": one.id[:12], "image": one.image, "image_id": short_id(launched.image),
            "engine": self._make_runtime().endpoint, "network": self._config.container_network,
            "state": str(self.state),
        }  # fmt: skip

    @property
    def sync(self) -> str:
        """How far the project is the same here and on an engine elsewhere, in a few words; "" where it is mounted."""
        launched = self._launched
        return launched.mirror.status.short if launched is not None and launched.mirror is not None else ""

    # commands

    def covers(self, directory: Path) -> bool:
        """Return whether a command in this directory can run in the container now."""
        launched = self._launched
        if launched is None or self.state is not ContainerState.RUNNING:
            return False
        place = directory.resolve()
        return place == launched.root or launched.root in place.parents

    def execute(
        self,
        command: str,
        on_output: Callable[[str], None],
        stop: threading.Event | None = None,
        directory: Path | None = None,
    ) -> ExecutionResult:
        """
        Run a line in the container's shell and wait for it.

        Args:
            command: the line.
            on_output: called with each piece of output.
            stop: when set, the command and all it started are ended.
            directory: where; the session's where none is given.

        Raises:
            ContainerError: there is no container, or it ended before the command could begin.
        """
        launched = self._launched
        if launched is None:
            raise ContainerError(f"there is no container: it is {self.state}", self.problem)
        place = str((directory or launched.directory).resolve())
        if launched.mirror is not None:
            launched.mirror.flush()
        started, begun = datetime.now(UTC), time.monotonic()
        try:
            channel = self._make_runtime().open(launched.container.id, (*ONE_STREAM, command), workdir=place)
        except ContainerError:
            self._look(launched)
            raise
        kept = Kept(self._config.output_limit_bytes)
        over = threading.Event()
        interrupted = self._pump(channel, kept, on_output, stop or threading.Event(), over)
        code = self._status(channel, interrupted)
        channel.end()
        if code is None:
            self._look(launched)
        if launched.mirror is not None:
            launched.mirror.flush()
        return ExecutionResult(
            -9 if code is None else code, kept.text(), round(time.monotonic() - begun, 3), started, kept.cut,
            interrupted, launched.container.name,
        )  # fmt: skip

    def open(self, command: tuple[str, ...], tty: tuple[int, int] | None = None, **environment: str) -> Channel:
        """Run a program in the container, with its streams: what an agent is started with. Raises ContainerError."""
        launched = self._launched
        if launched is None:
            raise ContainerError(f"there is no container: it is {self.state}", self.problem)
        return self._make_runtime().open(
            launched.container.id, command, tty=tty, environment=environment, workdir=str(launched.directory)
        )

    def _pump(
        self, channel: Channel, kept: Kept, show: Callable[[str], None], stop: threading.Event, over: threading.Event
    ) -> bool:
        """Read until the program ends or is stopped; return whether it was stopped."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        stopped = threading.Event()

        def watch() -> None:
            while not over.is_set():
                if stop.wait(0.05):
                    stopped.set()
                    channel.end()
                    return

        guard = threading.Thread(target=watch, name="p8-stop", daemon=True)
        guard.start()
        try:
            channel.close_input()
            while (piece := channel.read()) is not None:
                kept.add(piece[1])
                show(decoder.decode(piece[1]))
        finally:
            over.set()
            guard.join()
        return stopped.is_set()

    def _status(self, channel: Channel, interrupted: bool) -> int | None:
        until = time.monotonic() + SETTLE_S
        while True:
            with contextlib.suppress(Exception):
                code = channel.exit_code()
                if code is not None:
                    return code
            if interrupted or time.monotonic() >= until:
                return 130 if interrupted else None
            time.sleep(0.005)

    def _look(self, launched: _Launched) -> None:
        """See what became of a container that does not do as it should."""
        with contextlib.suppress(ContainerError):
            found = self._make_runtime().inspect(launched.container.id)
            if found is None or found.state is not State.RUNNING:
                with self._lock:
                    if self._launched is launched:
                        self._say(ContainerState.GONE, "its container ended", "the next command runs on the host")

    # launching

    def _launch(self, generation: int, session: str, directory: Path, paused: _Launched | None) -> None:
        try:
            runtime = self._make_runtime()
            place = directory.resolve()
            launched = self._thawed(runtime, paused, place) if paused is not None else None
            if launched is None:
                if paused is not None and paused.mirror is not None:
                    self._remove(paused)
                leftovers.sweep(runtime, self._config.home, session)
                launched = self._made(runtime, session, place, generation)
        except P8Error as error:
            with self._lock:
                if generation == self._generation:
                    self._say(ContainerState.FAILED, error.message, error.hint)
        except Exception as error:
            with self._lock:
                if generation == self._generation:
                    self._say(ContainerState.FAILED, f"{type(error).__name__}: {error}")
        else:
            with self._lock:
                wanted = generation == self._generation
                if wanted:
                    self._launched = launched
                    self._say(ContainerState.RUNNING)
            if not wanted:
                self._remove(launched)
        finally:
            with self._lock:
                if generation == self._generation:
                    self._ready.set()

    def _thawed(self, runtime: Runtime, paused: _Launched, directory: Path) -> _Launched | None:
        """Let a paused container go on; None where it cannot, or does not hold the directory."""
        if directory != paused.root and paused.root not in directory.parents:
            return None
        try:
            runtime.act(paused.container.id, "unpause")
            found = runtime.inspect(paused.container.id)
        except base.EngineDown:
            raise
        except ContainerError:
            return None
        up = found is not None and found.state is State.RUNNING
        return replace(paused, directory=directory) if up else None

    def _made(self, runtime: Runtime, session: str, directory: Path, generation: int) -> _Launched:
        config = self._config
        runtime.engine()
        names = of_sessions(config)
        found = {name: runtime.has_image(name) for name in names}
        image = next((name for name in names if found[name]), "")
        if not image:
            raise ImageMissing(
                f"the engine has no image {names[-1]}", "p8 image build makes it; commands run on the host"
            )
        repository = git.find(directory)
        root = Path(repository.root).resolve() if repository is not None and repository.root else directory
        try:
            resources = Resources(
                memory_bytes=quantities.memory(config.container_memory), cpus=quantities.cpus(config.container_cpus),
                pids=PIDS, disk_bytes=SCRATCH,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(f"container_memory or container_cpus: {error}", "") from error
        settings = Settings(
            id=session, mode="shell", workspace=str(root), resources=resources,
            networking=Networking(network=config.container_network),
        )  # fmt: skip
        places, user = Places.of(config.home, session), blueprint.user_of(root)
        blueprint.prepare(places, user)
        owner = orjson.dumps(this_process().to_dict()).decode()
        leftovers.mark(config.home, session, owner)
        labels = {base.SESSION: session, base.PATH: str(root), base.OWNER: owner}
        about: dict[str, Any] = {
            "name": f"p8-{runtime.installation[:6]}-s-{session}", "image": image, "port": 0, "user": user,
            "workspace": str(root), "workdir": str(directory), "labels": labels,
        }  # fmt: skip
        theirs = About(session, root, image, user, labels, config.sync_ignored)
        mirror = None if runtime.is_local else self._mirrored(runtime, theirs, generation)
        about["volumes"] = mirror.volumes(str(root)) if mirror is not None else ()
        try:
            spec = blueprint.specification(settings, places, root, about, {})
            return _Launched(runtime.start(spec), found[image], root, directory, mirror)
        except BaseException:
            if mirror is not None:
                mirror.end()
            raise

    def _mirrored(self, runtime: Runtime, about: About, generation: int) -> Mirror:
        """Bring the project over, and keep it in sync from then on."""

        def progress(fraction: float, text: str) -> None:
            if text and generation != self._generation:
                raise ContainerError("the session was put down meanwhile", "")
            self.bringing = fraction, text
            with contextlib.suppress(Exception):
                self.on_change()

        mirror = Mirror(runtime, self._config.home, about, self._tell, progress)
        if not mirror.take(TAKE_S):
            raise ContainerError(f"another process synchronises session {about.name}", "leave it there first")
        try:
            self.bringing = 0.0, "bringing the project to the container"
            mirror.settle()
            mirror.progress = lambda *_: None
            mirror.keep()
        except BaseException:
            mirror.release(dismiss=True)
            raise
        finally:
            self.bringing = None
        return mirror

    def _remove(self, launched: _Launched) -> None:
        """Remove a container; from an engine elsewhere its last changes are brought here, and then its volumes go."""
        mirror = launched.mirror
        with contextlib.suppress(P8Error):
            if mirror is not None:  # its programs may write something down
                self._make_runtime().act(launched.container.id, "stop", 5.0)
            self._make_runtime().act(launched.container.id, "remove")
            leftovers.unmark(self._config.home, launched.container.labels.get(base.SESSION, "none"))
        problem = mirror.end() if mirror is not None else ""
        if problem:
            self._tell("warning", problem, {"what": "kept there"})

    def _say(self, state: ContainerState, problem: str = "", hint: str = "") -> None:
        self.state, self.problem, self.hint = state, problem, hint
        with contextlib.suppress(Exception):
            self.on_change()


def follower(container: SessionContainer) -> Callable[[Change], None]:
    """Return a subscriber that lets the container follow its session: paused with it, and gone with it."""

    def heard(change: Change) -> None:
        if change.kind == "lease" and change.name == "lost":
            container.drop(change.stream)
        elif change.kind != Kind.SESSION:
            return
        elif change.name == "paused":
            container.put_down(change.stream)
        elif change.name == "completed" or (change.data.get("set") or {}).get("trashed"):
            container.drop(change.stream)

    return heard
