"""From what is wanted of a container to its specification: folders, mounts, user, labels and variables.

The one place that says what of this machine is seen inside: the project, a state folder, a socket folder, and a
passwd file that knows the user. Refuses: the engine, the registry, the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from p8.containers import base
from p8.containers.base import ContainerSpec, Health, Limits, Mount, Volume
from p8.containers.settings import Bind, Settings
from p8.errors import ContainerError

SOCKET = "ai.sock"
KNOCK = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5).close()"


class Places(NamedTuple):
    """Folders of one instance in P8's home."""

    state: Path  #: its home directory inside; stays when the container goes
    etc: Path  #: read-only files made for it
    run: Path  #: for its socket

    @classmethod
    def of(cls, home: Path, name: str) -> Places:
        """Return those of the instance or session of that name."""
        return cls(home / "states" / name / "home", home / "states" / name / "etc", home / "sockets" / name)

    @property
    def socket(self) -> Path:
        """Return where its program may answer."""
        return self.run / SOCKET


def user_of(project: Path, wanted: str = "") -> tuple[int, int]:
    """Return uid and gid for inside: the person's; where that is root, the owner of the project's directory."""
    if wanted:
        first, _, second = wanted.partition(":")
        return int(first), int(second or first)
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        state = project.stat()
        uid, gid = state.st_uid, state.st_gid
    return uid, gid


def prepare(places: Places, user: tuple[int, int]) -> None:
    """
    Make the folders and files that are mounted.

    Raises:
        ContainerError: the disk refuses.
    """
    uid, gid = user
    home = base.HOME_INSIDE
    lines = ["root:x:0:0:root:/root:/usr/sbin/nologin", f"p8:x:{uid}:{gid}:p8:{home}:/bin/sh"]
    try:
        for folder in (places.state, places.etc, places.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.getuid() == 0 and folder is not places.etc:
                os.chown(folder, uid, gid)
        _write(places.etc / "passwd", "\n".join(lines if uid else [f"root:x:0:{gid}:root:{home}:/bin/sh"]) + "\n")
        _write(places.etc / "group", "\n".join(["root:x:0:", *([f"p8:x:{gid}:"] if gid else [])]) + "\n")
        places.etc.chmod(0o755)
    except OSError as error:
        raise ContainerError(f"{error.filename}: {error.strerror}", "P8's home must be writable") from error


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
    path.chmod(0o644)


def specification(
    settings: Settings, places: Places, project: Path, about: Mapping[str, Any], environment: Mapping[str, str]
) -> ContainerSpec:
    """
    Return the specification of a container.

    Args:
        settings: what is wanted.
        places: prepared folders.
        project: the directory to work on.
        about: name, image, labels, user (uid, gid), port (0 for none), workspace; volumes in place of mounts, where
            the engine cannot mount.
        environment: variables beside P8's own.
    """
    workspace = about["workspace"]
    uid, gid = about["user"]
    volumes = about.get("volumes", ())
    port = about["port"] if settings.networking.network != "none" else 0
    mode = settings.mode or "shell"
    model = settings.ai_of(mode)
    known = {
        "HOME": base.HOME_INSIDE, "USER": "p8" if uid else "root", "AI_MODE": mode, "AI_INSTANCE_ID": settings.id,
        "AI_STATE_DIR": base.HOME_INSIDE, "AI_WORKSPACE": workspace,
        **({"AI_SOCKET_PATH": f"{base.RUN_INSIDE}/{SOCKET}"} if not volumes else {}),
        **({"AI_PORT": str(port)} if port else {}),
        **{f"AI_{name.upper()}": str(value) for name, value in model.items()},
    }  # fmt: skip
    resources, health = settings.resources, settings.health
    return ContainerSpec(
        name=about["name"], image=about["image"], labels=about["labels"], user=f"{uid}:{gid}", command=settings.command,
        environment={**known, **environment},
        mounts=() if volumes else (
            *_own_mounts(places), *project_mounts(project, workspace, settings.protect_git),
            *_asked(settings, places, project),
        ),
        volumes=_checked(volumes, settings),
        ports=((port, port),) if port else (), network=settings.networking.network,
        limits=Limits(resources.memory_bytes, resources.cpus, resources.pids, resources.disk_bytes),
        health=_health(settings, port if volumes and health.port else 0),
        workdir=about.get("workdir") or workspace,
    )  # fmt: skip


def _health(settings: Settings, port: int) -> Health | None:
    """Return what the engine is to run inside: the command that is wanted, and where a port is given, a knock at it."""
    health = settings.health
    words = ("sh", "-c", health.command) if health.command else ("python3", "-c", KNOCK, str(port)) if port else ()
    return Health(words, health.check_interval_s, health.timeout_s, health.max_retries) if words else None


def _checked(volumes: tuple[Volume, ...], settings: Settings) -> tuple[Volume, ...]:
    """Refuse mounts that are asked for where nothing can be mounted; a cache lies in the state folder's volume then."""
    for bind in settings.mounts if volumes else ():
        is_project = bind.type == "project" and bind.source in {".", "./"} and bind.target == settings.workspace
        if not is_project and not (bind.type == "cache" and _target(bind.target).startswith(f"{base.HOME_INSIDE}/")):
            raise ContainerError(
                f"{bind.source} cannot be mounted: the engine is on another machine", "take it out of the mounts"
            )
    return volumes


def _own_mounts(places: Places) -> tuple[Mount, ...]:
    return (
        Mount(places.state, base.HOME_INSIDE), Mount(places.run, base.RUN_INSIDE),
        Mount(places.etc / "passwd", "/etc/passwd", True), Mount(places.etc / "group", "/etc/group", True),
    )  # fmt: skip


def project_mounts(project: Path, workspace: str, protect_git: bool) -> tuple[Mount, ...]:
    """Return the project, and over it, not to be written to, what git would run on the host."""
    mounts = [Mount(project, workspace)]
    if protect_git and (project / ".git").is_dir() and not (project / ".git").is_symlink():
        for name in ("hooks", "config"):
            path = project / ".git" / name
            if path.exists() and not path.is_symlink():
                mounts.append(Mount(path, f"{workspace}/.git/{name}", True))
    return tuple(mounts)


def _asked(settings: Settings, places: Places, project: Path) -> tuple[Mount, ...]:
    return tuple(
        Mount(_source(bind, places, project), _target(bind.target), bind.read_only)
        for bind in settings.mounts
        if not (bind.type == "project" and bind.source in {".", "./"} and bind.target == settings.workspace)
    )


def _source(bind: Bind, places: Places, project: Path) -> Path:
    if bind.type == "project":
        return project / bind.source
    path = Path(bind.source).expanduser()
    if bind.type == "cache" and not path.exists():
        path = places.state.parent / "cache" / path.name.lstrip(".")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.getuid() == 0:
            os.chown(path, *user_of(project, ""))
    return path if path.is_absolute() else project / path


def _target(target: str) -> str:
    """Return a place inside; root's home is the user's."""
    return f"{base.HOME_INSIDE}{target[5:]}" if target.startswith("/root/") else target
