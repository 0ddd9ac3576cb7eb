"""The container under a session: launched in the background, so that no prompt waits; what `!command` runs in.

It sees the session's directory at the same path as outside, and a state folder that outlives it. It is removed when
the session is put down; one whose process died is removed by whoever starts next. Refuses: the terminal, the journal.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from p8.config import Config
from p8.containers import base, quantities
from p8.containers.base import Channel, Container, ImageMissing, Runtime, State
from p8.containers.settings import Networking, Resources, Settings
from p8.core import blueprint
from p8.core.blueprint import Places
from p8.core.mirror import TAKE_S, About, Mirror, Tell
from p8.core.output import Kept
from p8.errors import ConfigError, ContainerError, P8Error
from p8.model import now_us
from p8.store.leases import Holder, is_alive, this_process
from p8.workspace import git

PIDS = 512
SCRATCH = 128 << 20
LAST_S = 20.0  #: for a launch that is under way when the session is put down
SETTLE_S = 2.0


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
        self._tell = tell
        self._leaving: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._launched: _Launched | None = None
        self._generation = 0
        self._ready = threading.Event()

    # life

    def start_in_background(self, session: str, directory: Path) -> None:
        """
        Launch a container for a session and return at once; one of another session is stopped first.

        Args:
            session: the session's id.
            directory: where the person stands; its repository, or itself, is mounted.
        """
        if self._config.container == "never":
            return
        if self._config.container not in {"auto", "always"}:
            raise ConfigError(f"container is {self._config.container!r}", "it must be auto, always or never")
        self.stop(wait=False)
        with self._lock:
            self._generation += 1
            self._ready.clear()
            self.session = session
            self._say(ContainerState.STARTING)
            self._thread = threading.Thread(
                target=self._launch, args=(self._generation, session, directory), name="p8-container", daemon=True
            )
            self._thread.start()

    def wait(self, seconds: float) -> ContainerState:
        """Return the state once the launch has come to an end, or as it is after so long."""
        self._ready.wait(seconds)
        return self.state

    def stop(self, wait: bool = True) -> None:
        """Remove the container; one that is being launched is removed when it is there. Safe to call twice."""
        with self._lock:
            self._generation += 1
            thread, launched, self._launched = self._thread, self._launched, None
            self._thread = None
            self._say(ContainerState.OFF)
        if launched is not None:
            self._put_down(launched, wait)
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join(LAST_S)
        while wait and self._leaving:
            self._leaving.pop().join()

    def pause(self, paused: bool = True) -> None:
        """Freeze the container, or let it go on. Nothing where there is none. Raises ContainerError."""
        launched = self._launched
        if launched is None:
            return
        self._make_runtime().act(launched.container.id, "pause" if paused else "unpause")
        self._say(ContainerState.PAUSED if paused else ContainerState.RUNNING)

    def facts(self) -> dict[str, Any]:
        """Return what checkpoints and the reality check record of it: image, name, id, state. Empty without one."""
        launched = self._launched
        if launched is None:
            return {}
        one = launched.container
        return {"name": one.name, "id": one.id[:12], "image": one.image, "state": str(self.state)}

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
            channel = self._make_runtime().open(launched.container.id, ("sh", "-c", command), workdir=place)
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

    def _launch(self, generation: int, session: str, directory: Path) -> None:
        try:
            runtime = self._make_runtime()
            sweep(runtime)
            launched = self._made(runtime, session, directory.resolve())
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
                self._put_down(launched)
        finally:
            self._ready.set()

    def _made(self, runtime: Runtime, session: str, directory: Path) -> _Launched:
        config = self._config
        runtime.engine()
        names = blueprint.image_for("shell", "", config.container_image)
        image = next((name for name in [*names[::-1]] if runtime.has_image(name)), "")
        if not image:
            raise ImageMissing(
                f"the engine has no image {names[0]}", "p8 image build makes it; commands run on the host"
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
        me = orjson.dumps(this_process().to_dict()).decode()
        labels = {base.SESSION: session, base.PATH: str(root), base.OWNER: me}
        about: dict[str, Any] = {
            "name": f"p8-{runtime.installation[:6]}-s-{session}", "image": image, "port": 0, "user": user,
            "workspace": str(root), "workdir": str(directory), "labels": labels,
        }  # fmt: skip
        mirror = None if runtime.is_local else self._mirrored(runtime, About(session, root, image, user, labels))
        about["volumes"] = mirror.volumes(str(root)) if mirror is not None else ()
        try:
            spec = blueprint.specification(settings, places, root, about, {})
            return _Launched(runtime.start(spec), root, directory, mirror)
        except BaseException:
            if mirror is not None:
                mirror.end()
            raise

    def _mirrored(self, runtime: Runtime, about: About) -> Mirror:
        """Bring the project over, and keep it in sync from then on."""
        generation = self._generation

        def progress(fraction: float, text: str) -> None:
            if text and generation != self._generation:
                raise ContainerError("the session was put down meanwhile", "")
            self.bringing = fraction, text
            with contextlib.suppress(Exception):
                self.on_change()

        about = about._replace(ignored=self._config.sync_ignored)
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

    def _put_down(self, launched: _Launched, wait: bool = True) -> None:
        """Remove a container; from an engine elsewhere its last changes are brought here, and then its volumes go."""
        mirror = launched.mirror
        if mirror is None:
            self._remove(launched.container.id)
            return

        def work() -> None:
            with contextlib.suppress(ContainerError):  # its programs may write something down
                self._make_runtime().act(launched.container.id, "stop", 5.0)
            self._remove(launched.container.id)
            problem = mirror.end()
            if problem:
                self._tell("warning", problem, {"what": "kept there", "session": self.session})

        thread = threading.Thread(target=work, name="p8-put-down")
        self._leaving.append(thread)
        thread.start()
        if wait:
            thread.join()

    def _remove(self, container: str) -> None:
        with contextlib.suppress(ContainerError):
            self._make_runtime().act(container, "remove")

    def _say(self, state: ContainerState, problem: str = "", hint: str = "") -> None:
        self.state, self.problem, self.hint = state, problem, hint
        with contextlib.suppress(Exception):
            self.on_change()


def sweep(runtime: Runtime) -> int:
    """Remove session containers whose process is proven dead; return how many. Raises EngineDown."""
    removed = 0
    for container in runtime.list():
        if base.SESSION not in container.labels or base.INSTANCE in container.labels:
            continue
        try:
            said = orjson.loads(container.labels.get(base.OWNER, ""))
            owner = Holder(said["owner"], said["pid"], said["started"], said["boot"], said["host"], now_us(), 0)
        except (ValueError, KeyError, TypeError):
            continue  # nobody can say whose it is, so nobody removes it
        if owner.host == os.uname().nodename and not is_alive(owner, now_us()):
            with contextlib.suppress(ContainerError):
                runtime.act(container.id, "remove")
                removed += 1
    return removed
