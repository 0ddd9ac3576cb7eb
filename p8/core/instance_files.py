"""Files of instances in P8's home: configuration, `registry.json`, the event log.

The database is the registry; `registry.json` is its export, for people and scripts, and is never read back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from p8.containers import templates
from p8.containers.settings import Everywhere, Settings, read_defaults, read_settings, tree
from p8.containers.yamlfile import Document
from p8.core import homefiles
from p8.errors import ConfigError, NotFound, UsageError
from p8.store.eventlog import EventLog

if TYPE_CHECKING:
    from p8.core.roster import Instance

DEFAULT = """\
# What holds for all instances. A template and an instance's own file say otherwise.
defaults:
  resources:
    memory_limit: "512Mi"
    cpu_limit: "500m"
  health:
    check_interval: "30s"
    timeout: "5s"
  networking:
    port_range: [9000, 9999]

global:
  max_instances: 10
  auto_cleanup: true
  log_retention: "7d"
"""
FRESH = """\
# {id}: what this instance is to be like. `ai-session config {id}` shows what else can be said.
instance:
  id: "{id}"
  project: {project}
  mode: "{mode}"
"""


class InstanceFiles:
    """
    The files of one home.

    Args:
        home: P8's home.
        clock: microseconds since 1970.
    """

    def __init__(self, home: Path, clock: Callable[[], int]) -> None:
        self._home = home
        self._clock = clock

    @cached_property
    def log(self) -> EventLog:
        """The event log."""
        try:
            kept = self.everywhere().log_retention_s
        except ConfigError:
            kept = Everywhere().log_retention_s
        return EventLog(self._home / "logs", kept)

    def everywhere(self) -> Everywhere:
        """Return what holds for all instances. Raises ConfigError."""
        return self._defaults()[1]

    def _defaults(self) -> tuple[Settings, Everywhere]:
        return read_defaults(self._home / "configs" / "default.yml")

    def path(self, instance_id: str) -> Path:
        """Return where an instance's configuration is."""
        return self._home / "configs" / f"{instance_id}.yml"

    def settings(self, instance_id: str, mode: str, project: Path, template: str, write: bool = False) -> Settings:
        """
        Return an instance's settings: its file over its template over the defaults.

        Args:
            instance_id: which.
            mode: its mode.
            project: its directory, whose templates count too.
            template: a template's name, or a mode.
            write: make its file where there is none.

        Raises:
            ConfigError: a file is wrong; the message has the line.
            NotFound: there is no such template.
        """
        base = self._defaults()[0]._replace(id=instance_id, mode=mode, project=str(project))
        base = templates.apply(template, self._home, project, base)
        path = self.path(instance_id)
        if write:
            self._make(path, instance_id, str(project), mode)
        settings = read_settings(Document.read(path), base)
        if settings.id != instance_id:
            raise ConfigError(f"{path.name}: instance.id is {settings.id!r}", "it must be the file's name")
        return settings._replace(mode=mode, project=str(project))

    def _make(self, path: Path, instance_id: str, project: str, mode: str) -> None:
        for file, text in (
            (path.with_name("default.yml"), DEFAULT),
            (path, FRESH.format(id=instance_id, project=orjson.dumps(project).decode(), mode=mode)),
        ):
            with contextlib.suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8") as made:
                    made.write(text)

    def value(self, settings: Settings, key: str) -> Any:
        """
        Return one setting by its path, such as `resources.memory.limit`.

        Raises:
            NotFound: there is none of that name.
        """
        found: Any = tree(settings)
        for name in key.split("."):
            if not isinstance(found, dict) or name not in found:
                known = ", ".join(found) if isinstance(found, dict) else "nothing under it"
                raise NotFound(f"there is no setting {key!r}", f"at {name!r} there are {known}")
            found = found[name]
        return found

    def set(self, instance: Instance, template: str, key: str, value: str) -> Settings:
        """
        Set one value in an instance's file; what would make the file wrong is refused and changes nothing.

        Raises:
            ConfigError, UsageError: the value, or the name, is none that can be.
        """
        where = tuple(key.split("."))
        if not all(name.replace("_", "").replace("-", "").isalnum() for name in where):
            raise UsageError(f"not a setting: {key!r}", "such as resources.memory.limit")
        if "\n" in value or "\r" in value:
            raise UsageError("a value stands on one line", "edit the file for more")
        path = self.path(instance.id)
        self._make(path, instance.id, str(instance.project_path), instance.mode)
        text = Document.read(path).with_value(where, _shown(value))
        return self.replace(instance, template, text)

    def replace(self, instance: Instance, template: str, text: str) -> Settings:
        """Replace an instance's file, if the text makes sense. Raises ConfigError; then the file is as it was."""
        base = self._defaults()[0]._replace(id=instance.id, mode=instance.mode, project=str(instance.project_path))
        base = templates.apply(template, self._home, instance.project_path, base)
        path = self.path(instance.id)
        settings = read_settings(Document(path.name, text), base)
        if settings.id != instance.id:
            raise ConfigError(f"{path.name}: instance.id is {settings.id!r}", "it must be the file's name")
        homefiles.replace(path, text.encode())
        return settings

    def export(self, instances: Sequence[Instance]) -> None:
        """Write `registry.json`; where the disk refuses, the database still has it all."""
        body = orjson.dumps({"instances": {one.id: one.to_dict() for one in instances}}, option=orjson.OPT_INDENT_2)
        with contextlib.suppress(OSError), homefiles.locked(self._home / "states" / "registry.lock"):
            homefiles.replace(self._home / "registry.json", body + b"\n")


def _shown(value: str) -> str:
    """Return a value as YAML takes it: numbers, lists and yes/no as they are, text in quotes."""
    if value in {"true", "false", "null"} or (value[:1] in "[{" and value[-1:] in "]}"):
        return value
    with contextlib.suppress(ValueError):
        float(value)
        return value
    return orjson.dumps(value).decode()
