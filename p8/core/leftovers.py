"""Containers that a session's process has left behind: found without asking the engine, removed where that is proven.

Each launch leaves a small file in the home for as long as its container is there, so that a start that finds none
whose process is dead need not load the engine's library. Refuses: to touch what may be somebody's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from p8.containers import base
from p8.containers.base import Runtime
from p8.errors import ContainerError
from p8.model import now_us
from p8.store.leases import Holder, is_alive

FOLDER = "launched.d"  #: below `states`; an instance's id has no dot


def _holder(text: str | bytes) -> Holder | None:
    """Return who made a container, as its label or file has it; None where that cannot be told."""
    try:
        said = orjson.loads(text)
        return Holder(said["owner"], said["pid"], said["started"], said["boot"], said["host"], now_us(), 0)
    except (ValueError, KeyError, TypeError):
        return None


def _is_dead(holder: Holder | None) -> bool:
    return holder is not None and holder.host == os.uname().nodename and not is_alive(holder, now_us())


def mark(home: Path, session: str, owner: str) -> None:
    """Note that a container is being made for a session; where the disk refuses, a later launch still finds it."""
    folder = home / "states" / FOLDER
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / f"{session}.{os.getpid()}").write_text(owner, "utf-8")


def unmark(home: Path, session: str) -> None:
    """Note that this process's container of a session is gone."""
    with contextlib.suppress(OSError):
        (home / "states" / FOLDER / f"{session}.{os.getpid()}").unlink(missing_ok=True)


def _left(home: Path) -> Iterator[Path]:
    """Yield the marks of processes that are dead."""
    with contextlib.suppress(OSError):
        for path in (home / "states" / FOLDER).iterdir():
            with contextlib.suppress(OSError):
                if _is_dead(_holder(path.read_bytes())):
                    yield path


def is_any(home: Path) -> bool:
    """Return whether a dead process may have left a container. Reads a few small files."""
    return next(_left(home), None) is not None


def sweep(runtime: Runtime, home: Path, session: str = "") -> int:
    """
    Remove session containers whose process is proven dead.

    Args:
        runtime: the engine.
        home: P8's home.
        session: one whose lease this process holds: whoever made its container, it is removed.

    Returns:
        how many.

    Raises:
        EngineDown: nothing is known.
    """
    removed = 0
    left = list(_left(home))
    for container in runtime.list():
        name = container.labels.get(base.SESSION, "")
        if not name or base.INSTANCE in container.labels:
            continue
        if name == session or _is_dead(_holder(container.labels.get(base.OWNER, ""))):
            with contextlib.suppress(ContainerError):
                runtime.act(container.id, "remove")
                removed += 1
    for path in left:
        path.unlink(missing_ok=True)
    return removed
