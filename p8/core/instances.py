"""`InstanceManager`: what an instance may do, and the only place that changes one (rows M1 to M8, M16).

An instance is a container of P8's own with a name, a mode, a port and a configuration; it outlives the process that
started it. Every change is claimed in the database first, so that of two processes one is refused. Refuses: SQL, the
engine's own words, the terminal.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from p8.containers import base, quantities, templates
from p8.containers.base import Channel, Container, EngineDown, ImageMissing, PortTaken, Runtime, State
from p8.containers.images import fitting
from p8.containers.ports import Ports, is_free
from p8.containers.settings import Settings
from p8.containers.templates import variant_of
from p8.containers.watch import Verdict, probe, wait_until_well
from p8.core import blueprint
from p8.core.blueprint import Places
from p8.core.mirror import recorded
from p8.core.remotes import Remotes, is_remote
from p8.core.roster import UP, Instance, InstanceStatus, Roster, instance_of, slug, slug_part
from p8.errors import Conflict, ContainerError, InvalidTransition, P8Error, UsageError
from p8.store.manager import PersistenceManager

ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}")
WELL_WITHIN_S = 30.0
TRIES = 20  #: ports the engine may refuse before a start is given up
LOG_TAIL = 15
Environment = Callable[[tuple[str, ...]], dict[str, str]]


class Started(NamedTuple):
    """What came of a start."""

    instance: Instance
    verdict: Verdict | None  #: None where nobody waited for one
    warnings: tuple[str, ...]


class InstanceManager:
    """
    The instances of one home.

    Args:
        store: where they are recorded.
        runtime: the engine.
        environment: returns the person's variables of these names.
        image: the image to use where neither template nor configuration name one.
    """

    def __init__(self, store: PersistenceManager, runtime: Runtime, environment: Environment, image: str = "") -> None:
        self.store = store
        self.runtime = runtime
        self.roster = Roster(store)
        self.files = self.roster.files
        self.remotes = Remotes(self.roster, runtime)
        self._environment = environment
        self._image = image
        self._lock = threading.Lock()
        self._at_work: set[str] = set()

    def check(self, instance_id: str) -> Verdict:
        """Look at an instance now and record how it was found. Raises EngineDown."""
        instance = self.roster.get(instance_id)
        verdict = probe(self.runtime, self.roster.target(instance, self.roster.settings_of(instance)))
        self.roster.note(verdict)
        return verdict

    # life

    def start(
        self,
        project_name: str,
        project_path: Path,
        mode: str,
        instance_id: str = "",
        template: str = "",
        wait_s: float = WELL_WITHIN_S,
    ) -> Started:
        """
        Start an instance, a new one or one that is stopped.

        Args:
            project_name: what lists call its project.
            project_path: the directory it works on.
            mode: "shell", "claude", "gemini", "codex", …, or a template's name.
            instance_id: `<project>-<mode>` where none is given.
            template: laid over the defaults; the mode's own where none is given.
            wait_s: for its first good health; 0 for not at all.

        Raises:
            Conflict: it runs already, another process is at it, or there are `max_instances`.
            ConfigError: its configuration is wrong.
            ContainerError: the engine refused, or its program ended at once; the last log lines are in the message.
        """
        name = instance_id or slug(project_name, mode)
        if not ID.fullmatch(name):
            raise UsageError(f"not an instance id: {name[:80]!r}", "letters, digits, - and _; at most 63")
        if not ID.fullmatch(mode):
            raise UsageError(f"not a mode: {mode[:80]!r}", f"one of {', '.join(templates.MODES)}")
        standing = self.store.instances.get(name)
        if standing is not None:
            self._refresh(instance_of(standing))
            if Path(standing["project_path"]) != project_path:
                raise Conflict(
                    f"instance {name} belongs to {standing['project_path']}", "give another id as the third word"
                )
            template = template or str(standing["meta"].get("template") or "")
        template = template or mode
        settings = self.files.settings(name, mode, project_path, template, write=True)
        most = self.files.everywhere().max_instances
        row = {"id": name, "project_name": project_name, "project_path": str(project_path), "mode": mode}

        def allowed(found: dict[str, Any] | None, others: int) -> None:
            if found is not None and found["status"] in UP and found["status"] != "initializing":
                raise Conflict(f"instance {name} is {found['status']} already", f"ai-session attach {name}")
            self._not_busy(found)
            if others >= most:
                raise Conflict(f"{others} instances are up, and max_instances is {most}", "stop one, or raise it")

        with self._claimed(row, allowed, status="initializing") as before:
            instance = self._launch(before, settings, template)
        self._changed("started", instance)
        verdict = self._settle(instance, settings, wait_s) if wait_s else None
        return Started(self.roster.get(name), verdict, tuple(self._missing_tools(instance, settings)))

    def stop(self, instance_id: str, force: bool = False) -> Instance:
        """
        Stop an instance: asked to end, then killed; its container, port and socket are removed, its state stays.

        From an engine elsewhere the last changes are brought here; what cannot be is in the meta `unsynced`, in words.

        Raises:
            NotFound, Conflict: there is none, or another process is at it.
            EngineDown: nothing was changed.
        """
        instance = self.roster.get(instance_id)
        with self._claimed({"id": instance.id}, lambda found, _others: self._not_busy(found), str(instance.status)):
            self.store.instances.update(instance.id, status="stopped")  # so that nobody takes its end for a fault
            self._clear(instance, 0.0 if force else 10.0)
            self.store.ports.release(instance.id)
            meta = {"pid": 0, "health": "", "lost": False}
            if is_remote(instance):
                meta["unsynced"] = self.remotes.end(instance)
            self.store.instances.update(instance.id, meta, container="", owner="")
        self._changed("stopped", instance)
        return self.roster.get(instance.id)

    def restart(self, instance_id: str) -> Started:
        """Stop and start again, with its configuration as it is now. Raises as both do."""
        instance = self.roster.get(instance_id)
        self.roster.settings_of(instance)  # a wrong configuration must not stop what runs
        self.stop(instance.id)
        return self.start(instance.project_name, instance.project_path, instance.mode, instance.id)

    def pause(self, instance_id: str, paused: bool = True) -> Instance:
        """
        Freeze an instance, or let it go on.

        Raises:
            InvalidTransition: it is not running, or not paused.
        """
        instance = self.roster.get(instance_id)
        wanted = InstanceStatus.RUNNING if paused else InstanceStatus.PAUSED
        if instance.status is not wanted:
            raise InvalidTransition(f"instance {instance.id} is {instance.status}", f"it must be {wanted} for that")
        if paused:  # recorded before and taken back after, so that nobody takes it for a fault
            self.store.instances.update(instance.id, status="paused")
        try:
            self.runtime.act(instance.container, "pause" if paused else "unpause")
        except ContainerError:
            self.store.instances.update(instance.id, status=str(instance.status))
            raise
        self.store.instances.update(instance.id, status="paused" if paused else "running")
        self._changed("paused" if paused else "resumed", instance)
        return self.roster.get(instance.id)

    def remove(self, instance_id: str, discard: bool = False) -> None:
        """
        Stop an instance and forget it; its state folder and configuration stay.

        Args:
            instance_id: which.
            discard: give up what is only on an engine elsewhere, and never brought here.

        Raises:
            Conflict: something would be lost; or as `stop` does.
        """
        instance = self.roster.get(instance_id)
        self.stop(instance.id)
        if is_remote(instance):
            self.remotes.discard(instance, discard)
        self.store.instances.remove(instance.id)
        self._changed("removed", instance)

    def recover(self, instance_id: str, state: State | None) -> Instance:
        """
        Make an instance run that should: let go on, started, restarted, or made anew, whichever is the least.

        Args:
            instance_id: which.
            state: its container's as it was found; None where it is gone.

        Raises:
            InvalidTransition: it was stopped meanwhile.
            EngineDown: nothing was tried.
            ContainerError: it could not be done.
        """
        instance = self.roster.get(instance_id)

        def allowed(found: dict[str, Any] | None, _others: int) -> None:
            self._not_busy(found)
            if found is None or found["status"] in {"stopped", "paused"}:
                raise InvalidTransition(f"instance {instance_id} was stopped meanwhile", "")

        self.runtime.engine()  # in one that is shutting down, what is started now would be left behind
        with self._claimed({"id": instance.id}, allowed, str(instance.status)):
            restarts = int(instance.meta.get("restarts", 0)) + 1
            self.store.instances.update(instance.id, {"restarts": restarts})
            if not self._revive(instance, state):
                self._clear(instance, 2.0)
                self._launch(instance, self.roster.settings_of(instance))
        self._changed("recovered", instance)
        return self.roster.get(instance.id)

    def is_busy(self, row: dict[str, Any]) -> bool:
        """Return whether this or another living process is at work on the instance of a row."""
        with self._lock:
            return row["id"] in self._at_work or self.store.instances.busy(row)

    # what was left

    def reconcile(self) -> list[str]:
        """
        Bring the registry and the engine together: adopt own containers found running, remove proven orphans.

        Returns:
            what was done, a line each.

        Raises:
            EngineDown: nothing was done.
        """
        done: list[str] = []
        known = {one.id: one for one in self.roster.all()}
        found = self.runtime.list()
        ids = {container.id for container in found}
        for container in found:
            name = container.labels.get(base.INSTANCE, "")
            if base.SYNC in container.labels:
                done += self._left_helper(container, known.get(container.labels[base.SYNC]))
            elif name:
                said = self._meet(known.get(name), container, ids)
                done += [said] if said else []
        for instance in self.roster.all("up"):
            self._refresh(instance, ids)
        self.roster.export()
        return done

    def _left_helper(self, container: Container, instance: Instance | None) -> list[str]:
        """Remove what held an instance's volumes, and is left over of it; the volumes stay."""
        name = container.labels[base.SYNC]
        needed = instance is not None and (instance.status is not InstanceStatus.STOPPED or self._is_busy(name))
        if needed or base.SESSION in container.labels or recorded(self.store.home, name)[1]:
            return []
        self.runtime.act(container.id, "remove")
        return [f"removed container {container.name}, left over of {name}"]

    def _is_busy(self, name: str) -> bool:
        row = self.store.instances.get(name)
        return row is not None and self.is_busy(row)

    def _meet(self, instance: Instance | None, container: Container, ids: set[str]) -> str:
        """Deal with one container that says it is an instance's."""
        name = container.labels[base.INSTANCE]
        if instance is not None and instance.container == container.id:
            return ""
        if instance is not None and self._is_busy(name):
            return ""
        left = container.state not in {State.RUNNING, State.PAUSED}
        if left or (instance is not None and instance.container in ids):
            if not self.files.everywhere().auto_cleanup:
                return f"container {container.name} is left over of {name}"
            self.runtime.act(container.id, "remove")
            return f"removed container {container.name}, left over of {name}"
        port = int(container.labels.get(base.PORT) or 0)
        path = container.labels.get(base.PATH, "")
        self.store.instances.insert({
            "id": name, "project_name": container.labels.get(base.PROJECT, ""), "project_path": path,
            "mode": container.labels.get(base.MODE, "shell"),
        })  # fmt: skip
        if port and not self.store.ports.hold(name, port):
            self.runtime.act(container.id, "remove")
            return f"removed container {container.name}: its port {port} belongs to another instance now"
        status = "running" if container.state is State.RUNNING else "paused"
        meta = {"pid": container.pid, "error": "", "image": container.image, "socket": str(self._places(name).socket)}
        if not self.runtime.is_local and Path(path).is_dir():
            uid, gid = blueprint.user_of(Path(path))
            meta |= {"remote": self.runtime.engine().endpoint, "user": f"{uid}:{gid}", "socket": ""}
        self.store.instances.update(
            name, meta, container=container.id, port=port, started=container.started_us, status=status, owner=""
        )
        return f"adopted {name}, found running"

    def _refresh(self, instance: Instance, ids: set[str] | None = None) -> None:
        """Record what became of an instance's container behind P8's back."""
        if instance.status not in UP or self.store.instances.busy(
            self.store.instances.get(instance.id) or {"owner": ""}
        ):
            return
        gone = instance.container not in ids if ids is not None and instance.container else None
        found = None if gone or not instance.container else self.runtime.inspect(instance.container)
        if found is None:
            self.store.instances.update(
                instance.id, {"error": "its container is gone", "pid": 0, "lost": True}, status="error", container=""
            )
        elif found.state not in {State.RUNNING, State.PAUSED}:
            why = f"its container {found.state} with status {found.exit_code}"
            self.store.instances.update(instance.id, {"error": why, "pid": 0, "lost": True}, status="error")
        elif instance.status is InstanceStatus.INITIALIZING:
            self.store.instances.update(instance.id, status="running")

    # inside

    def open(self, instance_id: str, command: tuple[str, ...] = (), tty: tuple[int, int] | None = None) -> Channel:
        """
        Run a program in an instance; what its mode attaches to where none is given.

        Raises:
            InvalidTransition: it is not running.
        """
        instance = self.roster.get(instance_id)
        if instance.status is not InstanceStatus.RUNNING:
            raise InvalidTransition(
                f"instance {instance.id} is {instance.status}", f"ai-session start, or heal {instance.id}"
            )
        settings = self.roster.settings_of(instance)
        words = command or settings.attach or templates.attach_command(instance.mode)
        terminal = {"TERM": "xterm-256color", **self._environment(("TERM", "COLORTERM"))} if tty else {}
        return self.runtime.open(instance.container, words, tty=tty, environment=terminal)

    def logs(self, instance_id: str, tail: int | None, follow: bool = False) -> Iterator[bytes]:
        """Return what an instance's program has printed. Raises InvalidTransition where it has no container."""
        instance = self.roster.get(instance_id)
        if not instance.container:
            raise InvalidTransition(f"instance {instance.id} is {instance.status}: it has no log", "start it")
        return self.runtime.logs(instance.container, tail, follow)

    # how it is done

    def _places(self, name: str) -> Places:
        return Places.of(self.store.home, name)

    def _not_busy(self, row: dict[str, Any] | None) -> None:
        if row is not None and self.store.instances.busy(row):
            raise Conflict(f"another p8 is at work on instance {row['id']}", "wait a moment")

    @contextlib.contextmanager
    def _claimed(
        self,
        row: dict[str, Any],
        allowed: Callable[[dict[str, Any] | None, int], None],
        failed: str = "error",
        status: str = "",
    ) -> Iterator[Instance]:
        """
        Keep everybody else from an instance meanwhile, and give it as it was.

        The last update within gives the claim back (`owner=""`). What goes wrong is recorded with the status `failed`.
        """
        name = row["id"]
        with self._lock:
            if name in self._at_work:
                raise Conflict(f"instance {name} is being worked on", "wait a moment")
            self._at_work.add(name)
        try:
            before = self.store.instances.claim(row, allowed, status)
            try:
                yield instance_of(before)
            except BaseException as error:
                said = error.message if isinstance(error, P8Error) else type(error).__name__
                with contextlib.suppress(P8Error):
                    self.store.instances.update(name, {"error": said}, status=failed, owner="")
                    if failed == "error":
                        self.store.ports.release(name)
                    self.roster.export()
                raise
        finally:
            with self._lock:
                self._at_work.discard(name)

    def _launch(self, instance: Instance, settings: Settings, template: str = "") -> Instance:
        """Make the container, record it and give the claim back."""
        image = self._image_of(instance.mode, settings)
        places = self._places(instance.id)
        user = blueprint.user_of(instance.project_path, settings.user)
        blueprint.prepare(places, user)
        workspace = settings.workspace or f"/app/{slug_part(instance.project_name)}"
        here = self.runtime.is_local
        volumes = () if here else self.remotes.begin(instance, image, user).volumes(workspace)
        networking = settings.networking
        ports = Ports(self.store.ports, is_free if here else lambda _port: True)
        avoid: set[int] = set()
        for attempt in range(TRIES):
            preferred = networking.preferred_port or instance.port
            open_ = networking.network != "none"  # without a network nothing can be published
            port = ports.allocate(instance.id, *networking.port_range, preferred, avoid) if open_ else 0
            about = {
                "name": f"p8-{self.runtime.installation[:6]}-{instance.id}", "image": image, "port": port, "user": user,
                "labels": self._labels(instance, port), "workspace": workspace, "volumes": volumes,
            }  # fmt: skip
            given = {**dict(settings.environment), **self._environment(settings.pass_environment)}
            spec = blueprint.specification(settings, places, instance.project_path, about, given)
            try:
                container = self.runtime.start(spec)
                break
            except PortTaken:
                avoid.add(port)
                if attempt == TRIES - 1:
                    raise
        meta = {
            "pid": container.pid, "socket": str(places.socket) if here else "", "image": image, "error": "",
            "health": "", "lost": False, "template": template or instance.meta.get("template", ""),
            **({"remote": ""} if here else {}),
            "memory_limit": quantities.show_memory(settings.resources.memory_bytes),
            "cpu_limit": quantities.show_cpus(settings.resources.cpus), "memory_usage": "", "cpu_usage": "",
            "config": settings.ai_of(instance.mode),
        }  # fmt: skip
        self.store.instances.update(
            instance.id,
            meta,
            container=container.id,
            port=port,
            started=container.started_us,
            status="running",
            owner="",
        )
        return instance._replace(
            container=container.id, port=port, started_us=container.started_us, status=InstanceStatus.RUNNING,
            meta={**instance.meta, **meta},
        )  # fmt: skip

    def _labels(self, instance: Instance, port: int) -> Mapping[str, str]:
        return {
            base.INSTANCE: instance.id, base.MODE: instance.mode, base.PROJECT: instance.project_name,
            base.PATH: str(instance.project_path), base.PORT: str(port),
        }  # fmt: skip

    def _image_of(self, mode: str, settings: Settings) -> str:
        wanted = fitting(variant_of(mode), settings.image, self._image)
        found = next((name for name in wanted if self.runtime.has_image(name)), "")
        if not found:
            variant = wanted[0].rpartition(":")[2]
            how = f"p8 image build --variant {variant}" if wanted[0].startswith("p8-session:") else "pull or build it"
            raise ImageMissing(f"the engine has no image {wanted[0]}", how)
        return found

    def _settle(self, instance: Instance, settings: Settings, wait_s: float) -> Verdict:
        """Wait until an instance is well; where its program has ended already, say so with its last lines."""
        verdict = wait_until_well(self.runtime, self.roster.target(instance, settings), wait_s)
        self.roster.note(verdict)
        if verdict.state is State.RUNNING:
            return verdict
        tail = ""
        with contextlib.suppress(ContainerError):
            tail = b"".join(self.runtime.logs(instance.container, LOG_TAIL, False)).decode("utf-8", "replace").strip()
        reason = ", ".join(verdict.reasons)
        self.roster.fail(instance.id, reason)
        raise ContainerError(
            f"instance {instance.id} did not stay up: {reason}\n{tail}".strip(), "ai-session logs shows more"
        )

    def _missing_tools(self, instance: Instance, settings: Settings) -> Iterator[str]:
        """Return what a template promises and the image does not keep."""
        for name, version in settings.tools:
            if name == "docker":
                yield "docker is not given to instances: its socket would be the whole machine"
                continue
            channel = self.runtime.open(instance.container, ("sh", "-c", f"{name} --version 2>&1"))
            said = b""
            while (piece := channel.read()) is not None and len(said) < 4096:
                said += piece[1]
            channel.end()
            found = re.search(r"\d+(\.\d+)*", said.decode("utf-8", "replace"))
            if found is None:
                yield f"{name} is not in the image"
            elif version != "latest" and f"{found[0]}.".split(f"{version}.")[0] != "":
                yield f"{name} is {found[0]} in the image, and the template wants {version}"

    def _revive(self, instance: Instance, state: State | None) -> bool:
        """Bring the container it has back; return False where a new one is needed."""
        verbs = {State.PAUSED: "unpause", State.EXITED: "start", State.CREATED: "start", State.RUNNING: "restart"}
        if state not in verbs or not instance.container:
            return False
        try:
            self.runtime.act(instance.container, verbs[state], 2.0)
            container = self.runtime.inspect(instance.container)
        except EngineDown:
            raise
        except ContainerError:
            return False
        if container is None or container.state is not State.RUNNING:
            return False
        self.store.instances.update(
            instance.id,
            {"pid": container.pid, "error": "", "lost": False},
            started=container.started_us,
            status="running",
            owner="",
        )
        return True

    def _clear(self, instance: Instance, grace_s: float) -> None:
        if instance.container:
            self.runtime.act(instance.container, "stop" if grace_s else "kill", grace_s)
            self.runtime.act(instance.container, "remove")
        self._places(instance.id).socket.unlink(missing_ok=True)

    def _changed(self, what: str, instance: Instance) -> None:
        self.roster.export()
        self.roster.tell(
            "info", f"instance {instance.id} {what}", {"what": what, "instance": instance.id, "port": instance.port}
        )
