"""What P8 asks of a container engine: the `Runtime` protocol and the words it is spoken in.

A runtime observes and does; it decides nothing. It lists and touches only containers that bear this installation's
label. Refuses: to know sessions, ports' owners or policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from p8.errors import ContainerError

#: labels; everything P8 makes bears MANAGED and INSTALLATION
MANAGED, INSTALLATION, INSTANCE = "p8.managed", "p8.installation", "p8.instance"
SESSION, MODE, PROJECT, PATH, PORT, OWNER = "p8.session", "p8.mode", "p8.project", "p8.path", "p8.port", "p8.owner"
SYNC = "p8.sync"  #: of an instance or session whose volumes it holds, on an engine that cannot mount
#: document 2's own labels, written beside P8's and never trusted
FOREIGN_LABELS = {"ai.instance": INSTANCE, "ai.mode": MODE, "ai.project": PROJECT}

HOME_INSIDE = "/home/p8"
RUN_INSIDE = "/run/p8"
MIB = 1 << 20


class State(StrEnum):
    """States of a container, as an engine has them."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    DEAD = "dead"
    REMOVING = "removing"

    @classmethod
    def of(cls, word: str) -> State:
        """Return the state of that name; an unknown one counts as dead."""
        return cls(word) if word in cls._value2member_map_ else cls.DEAD


class EngineDown(ContainerError):
    """The engine cannot be reached now; nothing is known of its containers."""


class ImageMissing(ContainerError):
    """The engine has no image of that name."""


class PortTaken(ContainerError):
    """A port of the host was taken between the check and the start."""


class Gone(ContainerError):
    """The container does not exist any more, or is not P8's."""


class Mount(NamedTuple):
    """A directory or file of the host made visible inside."""

    source: Path
    target: str
    read_only: bool = False


class Volume(NamedTuple):
    """A folder the engine keeps under a name, for where nothing of this machine can be mounted."""

    name: str
    target: str
    copy_of: Path | None = None  #: what of this machine is to be in it; refused as a mount of it would be


class Health(NamedTuple):
    """A command the engine runs inside to tell whether the container is well. Times in seconds."""

    command: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 5.0
    retries: int = 3
    start_period_s: float = 5.0


class Limits(NamedTuple):
    """What a container may use at most. Swap counts as memory: there is none on top."""

    memory_bytes: int = 512 * MIB
    cpus: float = 0.5
    pids: int = 256
    scratch_bytes: int = 64 * MIB  #: of /tmp, which is kept in memory


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """
    A container to be made. What is not said here is not granted.

    That is: no capabilities, no new privileges, a read-only root, an init process, ports on 127.0.0.1 only.
    """

    name: str
    image: str
    labels: Mapping[str, str]  #: without MANAGED and INSTALLATION, which the runtime adds
    user: str  #: `uid:gid`
    command: tuple[str, ...] = ()  #: the image's own where empty
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[Volume, ...] = ()  #: made where there are none; they stay when the container goes
    writable_root: bool = False  #: for what nobody's program runs in
    ports: tuple[tuple[int, int], ...] = ()  #: (inside, on the host's 127.0.0.1)
    network: str = "none"  #: "none", or "bridge": out into the world, and no way to P8's other containers
    limits: Limits = field(default_factory=Limits)
    health: Health | None = None
    workdir: str = ""


class Container(NamedTuple):
    """A container as it was when inspected."""

    id: str
    name: str
    state: State
    image: str
    labels: Mapping[str, str]
    created_us: int
    started_us: int  #: 0 where it never ran
    exit_code: int
    health: str  #: "healthy", "unhealthy", "starting" or ""
    oom_killed: bool
    ports: tuple[tuple[int, int], ...]
    pid: int
    address: str  #: on its bridge, or ""
    error: str = ""


class Sample(NamedTuple):
    """What a container used over about the last second."""

    container: str
    cpu_percent: float  #: of one processor: 100 is one busy core
    memory_bytes: int  #: without file cache that can be dropped at once
    memory_limit: int
    pids: int
    net_in: int
    net_out: int
    block_in: int
    block_out: int
    throttled: int  #: periods in which the CPU limit held it back, since it started

    @property
    def memory_percent(self) -> float:
        """Return the memory used, of the limit."""
        return 100.0 * self.memory_bytes / self.memory_limit if self.memory_limit else 0.0


class Event(NamedTuple):
    """Something the engine did or saw: start, die, oom, pause, unpause, destroy, health_status: unhealthy."""

    container: str
    action: str
    time_us: int
    labels: Mapping[str, str]
    attributes: Mapping[str, str]


class Engine(NamedTuple):
    """What an engine says of itself."""

    endpoint: str
    version: str
    api: str
    is_local: bool  #: its containers can mount this machine's directories
    cpus: int
    memory_bytes: int
    limits_hold: bool  #: memory, CPU and process limits are all supported


class Channel(Protocol):
    """A program run inside a container, with its streams. Not for several threads at once, but read beside write."""

    def read(self) -> tuple[int, bytes] | None:
        """Return the next piece as (1 for stdout, 2 for stderr, bytes); None at the end. Blocks."""
        ...

    def write(self, data: bytes) -> None:
        """Send to the program's standard input."""
        ...

    def close_input(self) -> None:
        """Tell the program that nothing more comes."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Tell a program on a terminal the terminal's size."""
        ...

    def exit_code(self) -> int | None:
        """Return the status, or None while it runs."""
        ...

    def wait(self, seconds: float) -> int | None:
        """Return the status as soon as it is known, or None when that takes longer."""
        ...

    def end(self) -> None:
        """End the program and all it started, and let go of the streams. Safe to call twice."""
        ...


class Runtime(Protocol):
    """
    One engine, and in it the containers of one installation of P8.

    Every method may raise EngineDown; those that take an id raise Gone where there is no container of that id, or it is
    not this installation's.
    """

    installation: str
    endpoint: str  #: the engine's address, empty until it was first used

    @property
    def is_local(self) -> bool:
        """Return whether its containers can mount this machine's directories; asked once."""
        ...

    def engine(self) -> Engine:
        """Return what the engine is."""
        ...

    def has_image(self, name: str) -> str:
        """Return the id of an image, or ""."""
        ...

    def start(self, spec: ContainerSpec) -> Container:
        """
        Make a container and start it. One of P8's own of the same name that is not running is replaced.

        Raises:
            ImageMissing, PortTaken: nothing is left behind.
            ContainerError: anything else the engine refuses; nothing is left behind.
        """
        ...

    def list(self) -> list[Container]:
        """Return this installation's containers, whatever their state, oldest first."""
        ...

    def inspect(self, container_id: str) -> Container | None:
        """Return one of this installation's containers as it is now, or None."""
        ...

    def act(self, container_id: str, verb: str, grace_s: float = 10.0) -> None:
        """Do one of start, stop, kill, restart, pause, unpause or remove. Doing what is already so is no error."""
        ...

    def open(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        tty: tuple[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
    ) -> Channel:
        """Run a program inside; `tty` is (rows, columns) where it shall have a terminal."""
        ...

    def logs(self, container_id: str, tail: int | None, follow: bool, timestamps: bool = False) -> Iterator[bytes]:
        """Return what the container has printed, in pieces; with `follow`, also what it will print."""
        ...

    def samples(self, container_id: str) -> Iterator[Sample]:
        """Return a sample a second until the container stops or the caller closes the iterator."""
        ...

    def events(self, since_us: int) -> Iterator[Event]:
        """Return events of this installation's containers from a moment on, as they come. Ends when the engine does."""
        ...

    def connection(self) -> Any:
        """Return a client of the engine's own kind, to be closed by the caller: for `Sync`, which moves files."""
        ...

    def remove_volume(self, name: str) -> None:
        """Remove one of this installation's volumes, with what is in it; one that is not there is no error."""
        ...

    def close(self) -> None:
        """Let go of the engine; iterators end."""
        ...


def check_mounts(mounts: Sequence[Mount], own: Path, home: Path, sockets: Sequence[Path]) -> None:
    """
    Refuse mounts that would hand out more than a project.

    Args:
        mounts: what is to be mounted.
        own: P8's home; only what lies in its `states`, `sockets` and `workspaces` may be mounted from it.
        home: the person's home directory.
        sockets: the engine's.

    Raises:
        ContainerError: a source does not exist, or is, contains or leads to what must stay outside.
    """
    own, home = own.resolve(), home.resolve()
    for mount in mounts:
        try:
            source = mount.source.resolve(strict=True)
        except OSError as error:
            raise ContainerError(
                f"{mount.source} cannot be mounted: {error.strerror}", "name one that exists"
            ) from error
        if source == Path("/") or source == home or source in home.parents:
            raise ContainerError(
                f"{source} is not mounted: it is, or holds, your home directory", "start in a project's directory"
            )
        if source == own or source in own.parents or (own in source.parents and not _in_own(source, own)):
            raise ContainerError(f"{source} is not mounted: it is, or holds, P8's own home {own}", "move one of them")
        for socket in sockets:
            place = socket.resolve()
            if source == place or source in place.parents:
                raise ContainerError(f"{source} is not mounted: the engine's socket {place} lies in it", "")


def _in_own(source: Path, own: Path) -> bool:
    return any(own / name in source.parents for name in ("states", "sockets", "workspaces"))
