"""What an instance is to be like: its YAML file over its template over the defaults, each value checked at its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from p8.containers import quantities as q
from p8.containers.yamlfile import Document, Section

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
USER = re.compile(r"\d{1,10}(:\d{1,10})?")


class Resources(NamedTuple):
    """Limits, and from where on an alert is due."""

    memory_bytes: int = 512 << 20
    memory_warning: int = 435 << 20
    memory_critical: int = 486 << 20
    cpus: float = 0.5
    cpu_warning: float = 0.4
    cpu_critical: float = 0.48
    pids: int = 256
    disk_bytes: int = 64 << 20  #: of /tmp, which is kept in memory


class HealthRules(NamedTuple):
    """How an instance is looked after. Times in seconds."""

    check_interval_s: float = 30.0
    timeout_s: float = 5.0
    max_retries: int = 3  #: checks failed in a row before it is unhealthy
    retry_delay_s: float = 10.0  #: before the second restart; doubled for each further one
    max_restarts: int = 5  #: within `stable_s` of each other; then it is given up
    stable_s: float = 300.0  #: well for so long, its restarts are forgotten
    port: bool = True  #: its port must answer
    socket: bool = True  #: its socket, where it has made one, must answer
    command: str = ""  #: run inside by the engine; must succeed
    restart: bool = True


class Networking(NamedTuple):
    """Ports of the host, and the way out."""

    preferred_port: int = 0
    port_range: tuple[int, int] = (9000, 9999)
    network: str = "bridge"


class Bind(NamedTuple):
    """A mount asked for by a template."""

    type: str  #: project, cache or bind
    source: str
    target: str
    read_only: bool = False


class Settings(NamedTuple):
    """All of it."""

    id: str = ""
    project: str = ""
    mode: str = ""
    template: str = ""
    image: str = ""  #: the mode's own where empty
    command: tuple[str, ...] = ()  #: the image's own where empty
    attach: tuple[str, ...] = ()  #: what `attach` runs; the mode's own where empty
    user: str = ""  #: `uid:gid`; the person's where empty
    workspace: str = ""  #: where the project is inside; /app/<project> where empty
    protect_git: bool = True  #: hooks and configuration of the repository cannot be written to
    resources: Resources = Resources()
    health: HealthRules = HealthRules()
    networking: Networking = Networking()
    environment: tuple[tuple[str, str], ...] = ()
    pass_environment: tuple[str, ...] = ()  #: names of the person's variables that are handed in
    mounts: tuple[Bind, ...] = ()
    tools: tuple[tuple[str, str], ...] = ()
    context: tuple[tuple[str, Any], ...] = ()
    ai: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()  #: mode -> model, max_tokens, temperature …

    def ai_of(self, mode: str) -> dict[str, Any]:
        """Return model, max_tokens and the like of a mode."""
        return dict(dict(self.ai).get(mode, ()))


class Everywhere(NamedTuple):
    """What holds for all instances: `global` in `configs/default.yml`."""

    max_instances: int = 10
    auto_cleanup: bool = True
    log_retention_s: float = 7 * 86400.0


def read_settings(document: Document, base: Settings) -> Settings:
    """Return `base` with what a document says; raises ConfigError with the line of what is wrong."""
    top = Section(document, document.values)
    about = top.section("instance")
    settings = base._replace(
        id=about.take("id", text, base.id), project=about.take("project", text, base.project),
        mode=about.take("mode", word, base.mode), template=about.take("template", text, base.template),
        image=about.take("image", text, top.take("image", text, base.image)),
        user=about.take("user", _user, base.user), workspace=about.take("workspace", _inside, base.workspace),
        command=about.take("command", words, top.take("command", words, base.command)),
        attach=about.take("attach", words, top.take("attach", words, base.attach)),
        protect_git=about.take("protect_git", yes, base.protect_git),
    )  # fmt: skip
    about.done()
    top.take("name", text, "")
    top.take("description", text, "")
    settings = settings._replace(
        resources=_resources(top.section("resources"), base.resources),
        health=_health(top.section("health"), base.health),
        networking=_networking(top.section("networking"), base.networking),
        environment=_pairs(top, "environment", base.environment),
        pass_environment=top.take("pass_environment", _names, base.pass_environment),
        mounts=(*base.mounts, *top.take("mounts", _binds, tuple[Bind, ...]())),
        tools=top.take("tools", _tools, base.tools),
        context=top.take("context", _open, base.context), ai=_ai(top.section("ai_config"), base.ai),
    )  # fmt: skip
    top.done()
    return settings


def read_defaults(path: Path) -> tuple[Settings, Everywhere]:
    """Return what `configs/default.yml` says; the built-in values where there is none."""
    document = Document.read(path)
    top = Section(document, document.values)
    inner, everywhere = top.section("defaults"), top.section("global")
    settings = Settings(
        resources=_resources(inner.section("resources"), Resources()),
        health=_health(inner.section("health"), HealthRules()),
        networking=_networking(inner.section("networking"), Networking()),
        environment=_pairs(inner, "environment", ()), pass_environment=inner.take("pass_environment", _names, ()),
        image=inner.take("image", text, ""), protect_git=inner.take("protect_git", yes, True),
        ai=_ai(inner.section("ai_config"), ()),
    )  # fmt: skip
    general = Everywhere(
        everywhere.take("max_instances", _count, 10), everywhere.take("auto_cleanup", yes, True),
        everywhere.take("log_retention", q.duration, 7 * 86400.0),
    )  # fmt: skip
    for section in (inner, everywhere, top):
        section.done()
    return settings, general


def _resources(given: Section, base: Resources) -> Resources:
    """Read limits: `memory: 1Gi`, `memory_limit: 1Gi`, or `memory: {limit, warning_threshold, critical_threshold}`."""
    amounts: dict[str, tuple[Any, Any, Any]] = {}
    for name, parse, old in (
        ("memory", q.memory, (base.memory_bytes, base.memory_warning, base.memory_critical)),
        ("cpu", q.cpus, (base.cpus, base.cpu_warning, base.cpu_critical)),
    ):
        limit = given.take(f"{name}_limit", parse, None)
        if isinstance(given.take(name, lambda value: value, None), Mapping):
            inner = given.section(name)
            limit = inner.take("limit", parse, limit)
            warning, critical = (inner.take(f"{n}_threshold", parse, None) for n in ("warning", "critical"))
            inner.done()
        else:
            limit, warning, critical = given.take(name, parse, limit), None, None
        amounts[name] = _thresholds(given, name, (limit, warning, critical), old)
    resources = Resources(
        *amounts["memory"], *amounts["cpu"], pids=given.take("pids", _count, base.pids),
        disk_bytes=given.take("disk", q.memory, base.disk_bytes),
    )  # fmt: skip
    given.done()
    return resources


def _thresholds(
    given: Section, name: str, new: tuple[Any, Any, Any], old: tuple[Any, Any, Any]
) -> tuple[Any, Any, Any]:
    """Return limit, warning and critical; where only the limit is new, the others keep their share of it."""
    limit = old[0] if new[0] is None else new[0]
    scale = limit / old[0]
    kind = type(limit)
    warning, critical = (
        kind(round(o * scale, 3) if kind is float else o * scale) if n is None else n
        for n, o in zip(new[1:], old[1:], strict=True)
    )
    if not warning <= critical <= limit:
        raise given.wrong(name, "warning_threshold ≤ critical_threshold ≤ limit is wanted")
    return limit, warning, critical


def _health(given: Section, base: HealthRules) -> HealthRules:
    values: dict[str, Any] = {
        f"{name}_s": given.take(name, q.duration, getattr(base, f"{name}_s"))
        for name in ("check_interval", "timeout", "retry_delay", "stable")
    }
    values |= {name: given.take(name, _count, getattr(base, name)) for name in ("max_retries", "max_restarts")}
    values |= {name: given.take(name, yes, getattr(base, name)) for name in ("port", "socket", "restart")}
    rules = HealthRules(**values, command=given.take("command", text, base.command))
    given.done()
    if rules.check_interval_s < 0.1:
        raise given.wrong("check_interval", "at least 100ms are wanted")
    return rules


def _networking(given: Section, base: Networking) -> Networking:
    found = Networking(
        given.take("preferred_port", port, base.preferred_port), given.take("port_range", _range, base.port_range),
        given.take("network", _network, base.network),
    )  # fmt: skip
    given.done()
    return found


def _ai(given: Section, base: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]) -> Any:
    known = dict(base)
    for mode in list(given._values):
        inner = given.section(mode)
        values = dict(known.get(mode, ()))
        for name, parse in (
            ("model", text), ("max_tokens", _count), ("max_output_tokens", _count), ("temperature", _temperature),
        ):  # fmt: skip
            found = inner.take(name, parse, None)
            if found is not None:
                values[name] = found
        inner.done()
        known[mode] = tuple(values.items())
    given.done()
    return tuple(known.items())


def _pairs(given: Section, name: str, base: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    inner = given.section(name)
    merged = dict(base)
    for key in list(inner._values):
        if not ENVIRONMENT_NAME.fullmatch(key):
            raise inner.wrong(key, "a variable's name has letters, digits and _ only")
        merged[key] = inner.take(key, lambda value: text(value) if value is not None else "", "")
    return tuple(merged.items())


# parsers: each raises ValueError with what is wanted


def text(value: Any) -> str:
    """Return a text without control characters."""
    said = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if said is None or any(ord(c) < 32 or ord(c) == 127 for c in said):
        raise ValueError(f"a text on one line is wanted, not {value!r}")
    return said


def word(value: Any) -> str:
    """Return letters, digits, - and _."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", value):
        raise ValueError(f"a word of letters, digits, - and _ is wanted, not {value!r}")
    return value


def words(value: Any) -> tuple[str, ...]:
    """Return a command: a list of words, or one line as a shell would take it."""
    import shlex

    if isinstance(value, list) and value and all(isinstance(w, str) for w in value):
        return tuple(value)
    if isinstance(value, str) and value.strip():
        return tuple(shlex.split(value))
    raise ValueError(f"a command is wanted, not {value!r}")


def yes(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"true or false is wanted, not {value!r}")  # noqa: TRY004
    return value


def port(value: Any) -> int:
    """Return a port that needs no rights."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1024 <= value <= 65535:
        raise ValueError(f"a port from 1024 to 65535 is wanted, not {value!r}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000_000:
        raise ValueError(f"a whole number from 1 on is wanted, not {value!r}")
    return value


def _range(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"two ports such as [9000, 9999] are wanted, not {value!r}")
    low, high = port(value[0]), port(value[1])
    if low > high:
        raise ValueError(f"the lower port comes first, not {value!r}")
    return low, high


def _network(value: Any) -> str:
    if value not in {"none", "bridge"}:
        raise ValueError(f"none or bridge is wanted, not {value!r}")
    return str(value)


def _temperature(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 2:
        raise ValueError(f"a temperature from 0 to 2 is wanted, not {value!r}")
    return float(value)


def _user(value: Any) -> str:
    if not USER.fullmatch(str(value)):
        raise ValueError(f"numbers such as 1000:1000 are wanted, not {value!r}")
    return str(value)


def _inside(value: Any) -> str:
    said = text(value)
    if not said.startswith("/") or ".." in said.split("/") or said.rstrip("/") == "":
        raise ValueError(f"a path from / on is wanted, not {value!r}")
    return said


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and ENVIRONMENT_NAME.fullmatch(v) for v in value):
        raise ValueError(f"a list of variables' names is wanted, not {value!r}")
    return tuple(value)


def _binds(value: Any) -> tuple[Bind, ...]:
    found = []
    for one in value if isinstance(value, list) else [None]:
        if not isinstance(one, dict) or not {"source", "target"} <= one.keys() <= {
            "type",
            "source",
            "target",
            "read_only",
        }:
            raise ValueError("mounts are a list of {type, source, target, read_only}")
        if one.get("type", "bind") not in {"project", "cache", "bind"}:
            raise ValueError(f"a mount's type is project, cache or bind, not {one['type']!r}")
        found.append(
            Bind(one.get("type", "bind"), text(one["source"]), _inside(one["target"]), yes(one.get("read_only", False)))
        )
    return tuple(found)


def _tools(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) and len(one) == 1 for one in value):
        raise ValueError('tools are a list such as `- node: "22"`')
    return tuple((word(str(name)), text(version)) for one in value for name, version in one.items())


def _open(value: Any) -> tuple[tuple[str, Any], ...]:
    if not isinstance(value, dict):
        raise ValueError("names with values are wanted")  # noqa: TRY004
    return tuple(value.items())


def tree(settings: Settings) -> dict[str, Any]:
    """Return settings as their file would have them: what `config get` reads from."""
    r, h, n = settings.resources, settings.health, settings.networking
    return {
        "instance": {
            "id": settings.id, "project": settings.project, "mode": settings.mode, "template": settings.template,
            "image": settings.image or None, "user": settings.user or None, "workspace": settings.workspace or None,
            "command": list(settings.command) or None, "attach": list(settings.attach) or None,
            "protect_git": settings.protect_git,
        },
        "resources": {
            "memory": {
                "limit": q.show_memory(r.memory_bytes), "warning_threshold": q.show_memory(r.memory_warning),
                "critical_threshold": q.show_memory(r.memory_critical),
            },
            "cpu": {
                "limit": q.show_cpus(r.cpus), "warning_threshold": q.show_cpus(r.cpu_warning),
                "critical_threshold": q.show_cpus(r.cpu_critical),
            },
            "pids": r.pids, "disk": q.show_memory(r.disk_bytes),
        },
        "health": {
            "check_interval": q.show_duration(h.check_interval_s), "timeout": q.show_duration(h.timeout_s),
            "max_retries": h.max_retries, "retry_delay": q.show_duration(h.retry_delay_s),
            "max_restarts": h.max_restarts, "stable": q.show_duration(h.stable_s), "port": h.port, "socket": h.socket,
            "command": h.command, "restart": h.restart,
        },
        "networking": {
            "preferred_port": n.preferred_port or None, "port_range": list(n.port_range), "network": n.network,
        },
        "environment": dict(settings.environment), "pass_environment": list(settings.pass_environment),
        "mounts": [bind._asdict() for bind in settings.mounts],
        "tools": [{name: version} for name, version in settings.tools], "context": dict(settings.context),
        "ai_config": {mode: dict(values) for mode, values in settings.ai},
    }  # fmt: skip
