"""`Roster`: the instances that are recorded, what each is to be like, and what happened to them.

Reads and notes; what changes an instance is `instances.py`. The words of both are here: `Instance`, `InstanceStatus`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from p8.containers.settings import Settings
from p8.containers.watch import Target, Verdict
from p8.core.blueprint import Places
from p8.core.instance_files import InstanceFiles
from p8.core.policy import topic_of
from p8.errors import Conflict, NotFound, P8Error
from p8.model import Notice, from_us
from p8.store.manager import PersistenceManager


class InstanceStatus(StrEnum):
    """States of an instance."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    ERROR = "error"


UP = (InstanceStatus.INITIALIZING, InstanceStatus.RUNNING, InstanceStatus.PAUSED)


class Instance(NamedTuple):
    """One instance as it is recorded. Times in microseconds, 0 for never."""

    id: str
    project_name: str
    project_path: Path
    mode: str
    status: InstanceStatus
    container: str
    port: int
    created_us: int
    started_us: int
    checked_us: int
    meta: dict[str, Any]  #: pid, socket, template, limits, usage, health, error, config …

    def to_dict(self) -> dict[str, Any]:
        """Return it as `registry.json` and `--json` have it (document 2)."""
        meta = self.meta
        times = {"created": self.created_us, "started": self.started_us, "last_health_check": self.checked_us}
        return {
            "id": self.id, "project_path": str(self.project_path), "project_name": self.project_name, "mode": self.mode,
            "status": str(self.status), "pid": meta.get("pid", 0), "container_id": self.container, "port": self.port,
            "socket_path": meta.get("socket", ""),
            "resources": {
                name: meta.get(name, "") for name in ("memory_limit", "cpu_limit", "memory_usage", "cpu_usage")
            },
            "timestamps": {name: from_us(at).isoformat() if at else None for name, at in times.items()},
            "config": meta.get("config", {}), "health": meta.get("health", ""), "template": meta.get("template", ""),
            "restarts": meta.get("restarts", 0), "error": meta.get("error", ""), "image": meta.get("image", ""),
        }  # fmt: skip


class Roster:
    """
    What is recorded of instances in one home.

    Args:
        store: where.
    """

    def __init__(self, store: PersistenceManager) -> None:
        self.store = store
        self.files = InstanceFiles(store.home, store.clock)

    def all(self, status: str = "all") -> list[Instance]:
        """Return instances by id; those of one status, or `up` for all that are not stopped."""
        found = [instance_of(row) for row in self.store.instances.all()]
        if status == "all":
            return found
        return [one for one in found if one.status == status or (status == "up" and one.status in UP)]

    def get(self, instance_id: str) -> Instance:
        """
        Return one by its id, or by a part of it that no other has.

        Raises:
            NotFound: there is none.
            Conflict: the part fits several.
        """
        row = self.store.instances.get(instance_id)
        if row is not None:
            return instance_of(row)
        near = [one for one in self.all() if instance_id and instance_id.lower() in one.id.lower()]
        if len(near) > 1:
            raise Conflict(f"{instance_id!r} fits {', '.join(one.id for one in near[:6])}", "say more of it")
        if not near:
            raise NotFound(f"there is no instance {instance_id!r}", "ai-session list shows them")
        return near[0]

    def find(self, project: str, mode: str = "") -> list[Instance]:
        """Return the instances of a project, by name or path, of one mode where one is given."""
        path = str(Path(project).expanduser().resolve()) if "/" in project or project == "." else ""
        return [
            one for one in self.all()
            if (str(one.project_path) == path if path else project.lower() in one.project_name.lower())
            and (not mode or one.mode == mode)
        ]  # fmt: skip

    def settings_of(self, instance: Instance) -> Settings:
        """Return what an instance is to be like; raises ConfigError with the line of what is wrong."""
        template = str(instance.meta.get("template") or instance.mode)
        return self.files.settings(instance.id, instance.mode, instance.project_path, template)

    def target(self, instance: Instance, settings: Settings) -> Target:
        """Return what is to be watched of an instance."""
        health = settings.health
        here = not instance.meta.get("remote")  # elsewhere the engine itself looks whether the port answers
        port = instance.port if here and health.port and settings.networking.network != "none" else 0
        socket = Places.of(self.store.home, instance.id).socket if here and health.socket else None
        return Target(instance.id, instance.container, port, socket, health.check_interval_s, health.timeout_s)

    def note(self, verdict: Verdict, **more: Any) -> None:
        """Record how an instance was found; `more` goes into its meta."""
        health = "healthy" if verdict.healthy else ", ".join(verdict.reasons)
        self.store.instances.update(verdict.id, {"health": health, **more}, checked=verdict.at_us)

    def fail(self, instance_id: str, reason: str) -> None:
        """Record that an instance is given up."""
        self.store.instances.update(instance_id, {"error": reason, "lost": False}, status="error")
        self.export()

    def export(self) -> None:
        """Write `registry.json`."""
        self.files.export(self.all())

    def tell(self, level: str, text: str, data: dict[str, Any]) -> None:
        """Record an event of an instance: in the journal, in the log, and, where it matters, to the person."""
        with contextlib.suppress(P8Error):
            self.store.record(f"~{self.store.leases.me.owner}", "event", {"text": text, "level": level, **data})
        self.files.log.write(self.store.clock(), level, "instances", text, data)
        if data.get("alert"):
            told(self.store, level, text, data)


def told(store: PersistenceManager, level: str, text: str, data: Mapping[str, Any]) -> None:
    """Tell the person at this process of an alert."""
    topic = topic_of(data)
    store.notice(topic, None if data.get("over") else Notice(level, topic, text, str(data.get("hint", ""))))


def instance_of(row: Mapping[str, Any]) -> Instance:
    """Return an instance from its row."""
    return Instance(
        row["id"], row["project_name"], Path(row["project_path"]), row["mode"], InstanceStatus(row["status"]),
        row["container"], row["port"], row["created"], row["started"], row["checked"], row["meta"],
    )  # fmt: skip


def slug_part(name: str) -> str:
    """Return a name with nothing in it that an id may not have."""
    return re.sub(r"[^a-zA-Z0-9_]+", "-", name).strip("-_")[:40] or "project"


def slug(project: str, mode: str) -> str:
    """Return the id of a project's instance of a mode."""
    return f"{slug_part(project)}-{mode}"
