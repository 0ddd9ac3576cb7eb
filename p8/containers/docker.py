"""The `Runtime` on a Docker engine, through its SDK: whichever engine DOCKER_HOST or the current context names.

Hardened by default and nothing by request but what `ContainerSpec` has words for. Every container is inspected again
before it is touched, and left alone where it does not bear this installation's label.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p8.containers.base import (
    FOREIGN_LABELS,
    INSTALLATION,
    MANAGED,
    Container,
    ContainerSpec,
    Engine,
    EngineDown,
    Event,
    Gone,
    Health,
    ImageMissing,
    Mount,
    PortTaken,
    Sample,
    State,
    Volume,
    check_mounts,
)
from p8.containers.channel import ExecChannel
from p8.containers.endpoint import CONNECT_S, Address, knock, library, options_of
from p8.containers.network import Bridge
from p8.errors import ContainerError
from p8.model import parse_time, to_us

TIMEOUT_S = 60.0
SILENT_S = 10.0  #: a stream of samples that says nothing for so long has ended
POOL = 64
OLDEST_API = "1.41"
BUSY_PORT = re.compile(r"port is already allocated|address already in use|ports are not available", re.IGNORECASE)
SOCKETS = ("/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/crio/crio.sock")
NO_ENGINE = "start Docker, or name an engine with DOCKER_HOST; everything else of P8 works without"


class Docker:
    """
    The containers of one installation on one Docker engine. Nothing is contacted before it is needed.

    Args:
        installation: this installation's id.
        home: P8's home, of which nothing but an instance's own folders is ever mounted.
        person: the person's home directory, which is never mounted.
        address: which engine.
    """

    def __init__(self, installation: str, home: Path, person: Path, address: Address | None = None) -> None:
        self.installation = installation
        self._home = home
        self._person = person
        self.address = address or Address()
        self.endpoint = ""  #: as it was found; empty until first used
        self._lock = threading.Lock()
        self._client: Any = None
        self._streams: Any = None
        self._engine: Engine | None = None
        self._bridge = Bridge(installation, home)
        self._open: list[Any] = []

    # the engine

    def _api(self, streaming: bool = False) -> Any:
        """Return a client; the one for streams has no time limit. Raises EngineDown."""
        with self._lock:
            if streaming:
                if self._streams is None:
                    self._streams = self._connect(None)
                return self._streams
            if self._client is None:
                self._client = self._connect(TIMEOUT_S)
            return self._client

    def _connect(self, timeout_s: float | None) -> Any:
        docker = library()
        options = options_of(self.address)
        self.endpoint = options.get("base_url") or "unix:///var/run/docker.sock"
        try:
            knock(self.endpoint)
            client = docker.APIClient(**options, version="auto", timeout=CONNECT_S, max_pool_size=POOL)
        except Exception as error:
            raise _translated(error, self.endpoint) from error
        client.timeout = timeout_s
        return client

    @contextlib.contextmanager
    def _asking(self, what: str = "") -> Iterator[Any]:
        """Lend a client; what goes wrong comes out as a ContainerError."""
        try:
            yield self._api()
        except ContainerError:
            raise
        except Exception as error:
            raise self._said(error, what) from error

    def _said(self, error: Exception, what: str = "") -> ContainerError:
        """Return what went wrong in P8's words; where the engine is away, the next call looks for it anew."""
        said = _translated(error, self.endpoint, what)
        if isinstance(said, EngineDown):
            with self._lock:
                self._client = self._streams = None
        return said

    @property
    def is_local(self) -> bool:
        """Return whether its containers can mount this machine's directories; asked once."""
        return (self._engine or self.engine()).is_local

    def engine(self) -> Engine:
        """
        Return what the engine is; that it still answers is asked each time.

        One that is shutting down goes on to serve old connections, and takes no new ones: that counts as away.
        """
        with self._asking():
            knock(self.endpoint)
        if self._engine is None:
            with self._asking() as api:
                info, version = api.info(), api.version()
            local = self.address.is_local(self.endpoint)
            holds = bool(info.get("MemoryLimit") and info.get("CpuCfsQuota") and info.get("PidsLimit", True))
            if _number(version.get("ApiVersion", "0")) < _number(OLDEST_API):
                raise ContainerError(
                    f"the engine at {self.endpoint} speaks API {version['ApiVersion']}", "20.10 is needed"
                )
            self._engine = Engine(
                self.endpoint, str(version.get("Version", "")), str(version.get("ApiVersion", "")), local,
                int(info.get("NCPU") or 1), int(info.get("MemTotal") or 0), holds,
            )  # fmt: skip
        else:
            with self._asking() as api:
                api.ping()
        return self._engine

    def has_image(self, name: str) -> str:
        """Return the id of an image, or ""."""
        docker = library()
        with self._asking() as api:
            try:
                return str(api.inspect_image(name)["Id"])
            except docker.errors.ImageNotFound:
                return ""

    def build(
        self, context: bytes, tag: str, target: str, arguments: Mapping[str, str], network: str
    ) -> Iterator[dict[str, Any]]:
        """Build an image from a tar of its context; returns what the engine says of it, as it comes."""
        import io

        try:
            api = self._api(streaming=True)
            yield from api.build(
                fileobj=io.BytesIO(context), custom_context=True, tag=tag, target=target, buildargs=dict(arguments),
                network_mode=network or None, decode=True, rm=True, forcerm=True,
                labels={"p8.image": target},
            )  # fmt: skip
        except ContainerError:
            raise
        except Exception as error:
            raise self._said(error, f"image {tag}") from error

    # containers

    def start(self, spec: ContainerSpec) -> Container:
        """Make a container and start it; see `Runtime.start`."""
        self._check(spec)
        made = self._create(spec)
        try:
            with self._asking(spec.name) as api:
                api.start(made)
            found = self.inspect(made)
        except ContainerError as error:
            with contextlib.suppress(ContainerError):
                self.act(made, "remove")
            if BUSY_PORT.search(error.message):
                raise PortTaken(f"a port of {spec.name} was taken meanwhile: {error.message}", "") from error
            if self._bridge.is_lost(error.message):
                return self.start(spec)
            raise
        if found is None:
            raise Gone(f"container {spec.name} vanished while it was started", "try again")
        return found

    def _check(self, spec: ContainerSpec) -> None:
        if not self.is_local and spec.mounts:
            raise ContainerError(
                f"the engine at {self.endpoint} is on another machine: it cannot mount {spec.mounts[0].source}",
                "synchronise the project instead",
            )
        sockets = [Path(self.endpoint.partition("://")[2])] if self.endpoint.startswith("unix://") else []
        run = Path(f"/run/user/{os.getuid()}")
        own = [run / "docker.sock", run / "podman/podman.sock"]
        copies = [Mount(volume.copy_of, volume.target) for volume in spec.volumes if volume.copy_of is not None]
        check_mounts([*spec.mounts, *copies], self._home, self._person, [*sockets, *map(Path, SOCKETS), *own])

    def _create(self, spec: ContainerSpec) -> str:
        """Create a container, in the way of none but P8's own leftovers; return its id."""
        docker = library()
        import requests

        body = self._body(spec)
        name = spec.name
        for attempt in range(4):
            try:
                with self._asking(spec.name) as api:
                    return str(api.create_container_from_config(body, name)["Id"])
            except ContainerError as error:
                cause = error.__cause__
                if isinstance(cause, docker.errors.ImageNotFound | docker.errors.NotFound):
                    raise ImageMissing(f"the engine has no image {spec.image}", "p8 image build makes it") from error
                conflict = isinstance(cause, docker.errors.APIError) and cause.status_code == 409
                if (not conflict and not isinstance(cause, requests.exceptions.Timeout)) or attempt == 3:
                    raise
                name = self._make_way(spec, name)
        raise AssertionError("unreachable")

    def _make_way(self, spec: ContainerSpec, name: str) -> str:
        """Return a name to try next: the same one where what bore it was P8's own and is gone now."""
        standing = self.inspect(name)
        if standing is None:
            return f"{spec.name}-{os.urandom(3).hex()}"
        if standing.state in {State.RUNNING, State.PAUSED, State.RESTARTING}:
            raise ContainerError(f"container {standing.name} is running already", "stop it first")
        self.act(standing.id, "remove")
        return name

    def _body(self, spec: ContainerSpec) -> dict[str, Any]:
        from docker.types import LogConfig, Ulimit

        labels = {**spec.labels, MANAGED: "1", INSTALLATION: self.installation}
        labels |= {foreign: labels[own] for foreign, own in FOREIGN_LABELS.items() if own in labels}
        limits = spec.limits
        with self._asking(spec.name) as api:
            host = api.create_host_config(
                network_mode="none" if spec.network == "none" else self._bridge.id(api),
                port_bindings={inside: ("127.0.0.1", outside) for inside, outside in spec.ports},
                mounts=[*map(_mount, spec.mounts), *(_volume(volume, labels) for volume in spec.volumes)],
                tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,size={limits.scratch_bytes},mode=1777"},  # noqa: S108
                mem_limit=limits.memory_bytes, memswap_limit=limits.memory_bytes,
                nano_cpus=int(limits.cpus * 1_000_000_000), pids_limit=limits.pids,
                cap_drop=["ALL"], security_opt=["no-new-privileges:true"], read_only=not spec.writable_root,
                init=True,
                privileged=False, restart_policy={"Name": "no"}, ulimits=[Ulimit(name="core", soft=0, hard=0)],
                log_config=LogConfig(type="local", config={"max-size": "1m", "max-file": "2"}),
            )  # fmt: skip
            config = api.create_container_config(
                spec.image, list(spec.command) or None, host_config=host, labels=labels, user=spec.user,
                environment=dict(spec.environment), working_dir=spec.workdir or None, hostname=spec.name[:63],
                ports=[(inside, "tcp") for inside, _ in spec.ports], stop_signal="SIGTERM",
                healthcheck=_healthcheck(spec.health),
            )  # fmt: skip
        return dict(config)

    def list(self) -> list[Container]:
        """Return this installation's containers, oldest first."""
        with self._asking() as api:
            rows = api.containers(all=True, filters={"label": [f"{INSTALLATION}={self.installation}"]})
        found = [self.inspect(row["Id"]) for row in rows]
        return sorted((one for one in found if one is not None), key=lambda one: one.created_us)

    def inspect(self, container_id: str) -> Container | None:
        """Return one of this installation's containers as it is now, or None."""
        docker = library()
        with self._asking(container_id[:24]) as api:
            try:
                data = api.inspect_container(container_id)
            except docker.errors.NotFound:
                return None
        labels = data["Config"].get("Labels") or {}
        return _container(data, labels) if labels.get(INSTALLATION) == self.installation else None

    def _mine(self, container_id: str) -> Container:
        found = self.inspect(container_id)
        if found is None:
            raise Gone(f"there is no container {container_id[:24]} of P8's", "it was removed by somebody else")
        return found

    def act(self, container_id: str, verb: str, grace_s: float = 10.0) -> None:
        """Do one of start, stop, kill, restart, pause, unpause or remove; see `Runtime.act`."""
        docker = library()
        if verb not in _ACTS:
            raise ValueError(verb)
        try:
            one = self._mine(container_id)
        except Gone:
            if verb in {"remove", "stop", "kill"}:
                return
            raise
        if one.state is State.PAUSED and verb in {"stop", "restart"}:
            self.act(one.id, "unpause")  # a frozen process hears no signal
        with self._asking(one.name) as api:
            try:
                _ACTS[verb](api, one.id, grace_s)
            except docker.errors.NotFound:
                if verb not in {"remove", "stop", "kill"}:
                    raise
            except docker.errors.APIError as error:
                if not _is_so_already(error):
                    raise

    # inside

    def open(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        tty: tuple[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        workdir: str = "",
    ) -> ExecChannel:
        """Run a program inside."""
        one = self._mine(container_id)
        try:
            return ExecChannel(
                self._api(), self._api(streaming=True), one.id, command, tty, dict(environment or {}), workdir
            )
        except ContainerError:
            raise
        except Exception as error:
            raise self._said(error, one.name) from error

    def logs(self, container_id: str, tail: int | None, follow: bool, timestamps: bool = False) -> Iterator[bytes]:
        """Return what the container has printed."""
        one = self._mine(container_id)
        count: int | str = "all" if tail is None else tail
        if not follow:
            with self._asking(one.name) as api:
                yield api.logs(one.id, tail=count, timestamps=timestamps)
            return
        yield from self._following(
            lambda api: api.logs(one.id, tail=count, timestamps=timestamps, stream=True, follow=True), one.name
        )

    def samples(self, container_id: str) -> Iterator[Sample]:
        """Return a sample a second, until the container stops."""
        one = self._mine(container_id)
        client = self._connect(SILENT_S)
        before: dict[str, Any] = {}
        try:
            for data in client.stats(one.id, decode=True, stream=True):
                if not data.get("memory_stats") or not data["cpu_stats"].get("system_cpu_usage"):
                    now = self.inspect(one.id)
                    if now is None or now.state not in {State.RUNNING, State.PAUSED}:
                        return
                    continue
                if before:
                    yield sample_of(one.id, data, before)
                before = data["cpu_stats"]
        except (GeneratorExit, ContainerError):
            raise
        except Exception as error:
            raise self._said(error, one.name) from error
        finally:
            client.close()

    def events(self, since_us: int) -> Iterator[Event]:
        """Return events from a moment on, as they come."""
        since = f"{since_us // 1_000_000}.{since_us % 1_000_000 * 1000:09d}"
        filters = {"type": ["container"], "label": [f"{INSTALLATION}={self.installation}"]}
        for data in self._following(lambda api: api.events(since=since, filters=filters, decode=True), "events"):
            actor = data.get("Actor") or {}
            attributes = actor.get("Attributes") or {}
            if attributes.get(INSTALLATION) == self.installation:
                labels = {k: v for k, v in attributes.items() if k.startswith("p8.")}
                yield Event(actor.get("ID", ""), data.get("Action", ""), data["timeNano"] // 1000, labels, attributes)

    def _following(self, ask: Callable[[Any], Any], what: str) -> Iterator[Any]:
        """Pass on a stream that `close` can end from another thread."""
        stream: Any = None
        try:
            stream = ask(self._api(streaming=True))
            with self._lock:
                self._open.append(stream)
            yield from stream
        except (GeneratorExit, ContainerError):
            raise
        except Exception as error:
            raise self._said(error, what) from error
        finally:
            with self._lock:
                if stream in self._open:
                    self._open.remove(stream)
            if stream is not None:
                with contextlib.suppress(Exception):
                    stream.close()

    def connection(self) -> Any:
        """Return a client of the caller's own."""
        return self._connect(TIMEOUT_S)

    def remove_volume(self, name: str) -> None:
        """Remove one of this installation's volumes."""
        docker = library()
        with self._asking(name) as api:
            try:
                labels = api.inspect_volume(name).get("Labels") or {}
            except docker.errors.NotFound:
                return
            if labels.get(INSTALLATION) != self.installation:
                raise ContainerError(f"volume {name} is not of this P8", "it is left alone")
            api.remove_volume(name)

    def close(self) -> None:
        """Let go of the engine; streams end."""
        with self._lock:
            streams, self._open = self._open, []
            clients, self._client, self._streams = [self._client, self._streams], None, None
        for one in [*streams, *clients]:
            if one is not None:
                with contextlib.suppress(Exception):
                    one.close()


_ACTS: Mapping[str, Callable[[Any, str, float], Any]] = {
    "start": lambda api, one, _grace: api.start(one),
    "stop": lambda api, one, grace: api.stop(one, timeout=int(grace)),
    "kill": lambda api, one, _grace: api.kill(one),
    "restart": lambda api, one, grace: api.restart(one, timeout=int(grace)),
    "pause": lambda api, one, _grace: api.pause(one),
    "unpause": lambda api, one, _grace: api.unpause(one),
    "remove": lambda api, one, _grace: api.remove_container(one, force=True, v=True),
}


def _is_so_already(error: Any) -> bool:
    said = str(error.explanation or "")
    return (
        error.status_code in {304, 409}
        and bool(re.search(r"is not running|is not paused|already paused|already in progress|not running", said))
    ) or (error.status_code == 500 and bool(re.search("is not paused|is already paused", said)))


def _healthcheck(health: Health | None) -> dict[str, Any] | None:
    if health is None:
        return None
    return {
        "test": ["CMD", *health.command], "interval": _ns(health.interval_s), "timeout": _ns(health.timeout_s),
        "retries": health.retries, "start_period": _ns(health.start_period_s),
    }  # fmt: skip


def _mount(mount: Mount) -> dict[str, Any]:
    from docker.types import Mount as Bind

    source = str(mount.source.resolve())  # as it was checked
    return dict(Bind(mount.target, source, type="bind", read_only=mount.read_only, propagation="rprivate"))


def _volume(volume: Volume, labels: Mapping[str, str]) -> dict[str, Any]:
    from docker.types import Mount as Named

    return dict(Named(volume.target, volume.name, type="volume", no_copy=True, labels=dict(labels)))


def _translated(error: Exception, endpoint: str, what: str = "") -> ContainerError:
    """Make a ContainerError of what the SDK raised."""
    docker = library()
    import requests

    if isinstance(error, ContainerError):
        return error
    said = str(getattr(error, "explanation", None) or error).strip() or type(error).__name__
    if isinstance(error, docker.errors.NotFound):
        return Gone(f"{what}: {said}" if what else said, "")
    if isinstance(error, docker.errors.APIError):
        return ContainerError(f"{what}: {said}" if what else said, "")
    if isinstance(error, requests.exceptions.ReadTimeout):
        return ContainerError(f"the engine did not answer in time{f' ({what})' if what else ''}", "it may still do it")
    if isinstance(error, docker.errors.DockerException | requests.exceptions.RequestException | OSError):
        reason = "permission denied" if "ermission denied" in said else "it cannot be reached"
        return EngineDown(f"no container engine at {endpoint or 'the usual place'}: {reason}", NO_ENGINE)
    import urllib3.exceptions

    if isinstance(error, urllib3.exceptions.HTTPError):
        return EngineDown(f"the connection to the engine broke off ({type(error).__name__})", NO_ENGINE)
    return ContainerError(f"{what}: {type(error).__name__}: {said}", "")


def _container(data: Mapping[str, Any], labels: Mapping[str, str]) -> Container:
    state, host = data["State"], data.get("HostConfig") or {}
    bindings = host.get("PortBindings") or {}
    ports = tuple(
        (int(inside.split("/")[0]), int(one["HostPort"]))
        for inside, bound in bindings.items() for one in bound or () if one.get("HostPort")
    )  # fmt: skip
    networks = (data.get("NetworkSettings") or {}).get("Networks") or {}
    address = next((n["IPAddress"] for n in networks.values() if n.get("IPAddress")), "")
    return Container(
        id=data["Id"], name=data["Name"].lstrip("/"), state=State.of(state["Status"]),
        image=data["Config"]["Image"], labels=dict(labels), created_us=_time(data["Created"]),
        started_us=_time(state.get("StartedAt")), exit_code=int(state.get("ExitCode") or 0),
        health=(state.get("Health") or {}).get("Status", ""),
        oom_killed=bool(state.get("OOMKilled")), ports=ports, pid=int(state.get("Pid") or 0), address=address,
        error=str(state.get("Error") or ""),
    )  # fmt: skip


def sample_of(container: str, data: Mapping[str, Any], before: Mapping[str, Any]) -> Sample:
    """Return a sample from an engine's statistics and the CPU figures of the ones before."""
    cpu, memory = data["cpu_stats"], data.get("memory_stats") or {}
    used = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    system = cpu["system_cpu_usage"] - before["system_cpu_usage"]
    cores = cpu.get("online_cpus") or len(cpu["cpu_usage"].get("percpu_usage") or [1])
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    networks = (data.get("networks") or {}).values()
    blocks = (data.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return Sample(
        container=container, cpu_percent=round(100.0 * used / system * cores, 2) if system > 0 else 0.0,
        memory_bytes=max(memory.get("usage", 0) - cache, 0), memory_limit=memory.get("limit", 0),
        pids=(data.get("pids_stats") or {}).get("current", 0),
        net_in=sum(n.get("rx_bytes", 0) for n in networks), net_out=sum(n.get("tx_bytes", 0) for n in networks),
        block_in=sum(b["value"] for b in blocks if b["op"].lower() == "read"),
        block_out=sum(b["value"] for b in blocks if b["op"].lower() == "write"),
        throttled=(cpu.get("throttling_data") or {}).get("throttled_periods", 0),
    )  # fmt: skip


def _time(text: str | None) -> int:
    """Return microseconds since 1970 of an engine's time (nanoseconds, Z); 0 for never."""
    if not text or text.startswith("0001-"):
        return 0
    return to_us(parse_time(re.sub(r"(\.\d{1,6})\d*", r"\1", text).replace("Z", "+00:00")))


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
