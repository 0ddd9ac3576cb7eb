"""Instances on an engine elsewhere: begins, keeps, forces and ends the synchronisation of each (row M15).

Whoever holds an instance's lock does it: `p8 watch`, a REPL for its own, or for a moment the command that starts, stops
or forces it. Refuses: to start or stop containers of instances, which is `instances.py`'s business.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from p8.containers import base
from p8.containers.base import Runtime
from p8.containers.sync import Progress, Status
from p8.core.mirror import TAKE_S, About, Mirror, ask, recorded
from p8.core.roster import UP, Instance, Roster
from p8.errors import Conflict, ContainerError, P8Error, UsageError

LOOK_S = 0.1
FORCE_S = 120.0  #: for a round of whoever does it now
AGAIN_S, HEED_S = 2.0, 0.3


def is_remote(instance: Instance) -> bool:
    """Return whether an instance's project is synchronised."""
    return bool(instance.meta.get("remote"))


class Remotes:
    """
    The synchronisation of the instances of one home.

    Args:
        roster: where they are recorded.
        runtime: the engine.

    Attributes:
        ignored: patterns that are left out, beside those that always are.
        progress: told how far a first round is.
    """

    def __init__(self, roster: Roster, runtime: Runtime) -> None:
        self.ignored: tuple[str, ...] = ()
        self.progress: Progress = lambda _fraction, _text: None
        self._roster = roster
        self._runtime = runtime
        self._home = roster.store.home

    def mirror(self, instance: Instance) -> Mirror:
        """Return what brings an instance's files over, as it was recorded when it was started."""
        uid, _, gid = str(instance.meta.get("user") or "0:0").partition(":")
        about = About(
            instance.id, instance.project_path, str(instance.meta.get("image", "")), (int(uid), int(gid)),
            {base.PATH: str(instance.project_path)}, self.ignored,
        )  # fmt: skip
        return Mirror(self._runtime, self._home, about, self._roster.tell, self.progress)

    def begin(self, instance: Instance, image: str, user: tuple[int, int]) -> Mirror:
        """
        Make both sides one before the instance's container is there; whoever keeps it goes on from there.

        Raises:
            EngineDown: the engine stays away.
            ContainerError: it cannot be done.
        """
        meta = {"remote": self._runtime.engine().endpoint, "image": image, "user": f"{user[0]}:{user[1]}"}
        self._roster.store.instances.update(instance.id, meta)
        instance = instance._replace(meta={**instance.meta, **meta})
        mirror = self.mirror(instance)
        if mirror.take():
            try:
                mirror.settle()
            finally:
                mirror.release()
                self.progress(1.0, "")
        else:
            self._wait(instance)
        return mirror

    def end(self, instance: Instance) -> str:
        """Bring the last changes of a stopped instance here; return what could not be, in a line."""
        mirror = self.mirror(instance)
        if not mirror.take(TAKE_S):
            return f"process {recorded(self._home, instance.id)[1]} is still synchronising it"
        try:
            return mirror.finish()
        finally:
            mirror.release()

    def discard(self, instance: Instance, force: bool) -> None:
        """Remove a stopped instance's volumes. Raises as `Mirror.discard` does."""
        mirror = self.mirror(instance)
        if not mirror.take(TAKE_S):
            raise Conflict(f"another process synchronises {instance.id}", "wait a moment")
        try:
            mirror.discard(force)
        finally:
            mirror.release()

    def sync(self, instance: Instance) -> Status:
        """
        Bring everything that has changed over now; who keeps it in sync already is waited for.

        Raises:
            UsageError: it is not synchronised, but mounted.
            EngineDown: the engine stays away.
            ContainerError: it cannot be done, or not in time.
        """
        if not is_remote(instance):
            raise UsageError(f"{instance.id} is mounted, not synchronised", "its engine can mount this machine's files")
        mirror = self.mirror(instance)
        if not mirror.take():
            return self._wait(instance)
        try:
            mirror.settle()
            status = mirror.status
            if instance.status not in UP:
                mirror.finish()
            return status
        finally:
            mirror.release()
            self.progress(1.0, "")

    def _wait(self, instance: Instance) -> Status:
        """Return the status after a whole round that began after now."""
        since = time.time()
        ask(self._home, instance.id)
        until = time.monotonic() + FORCE_S
        while time.monotonic() < until:
            status, holder = recorded(self._home, instance.id)
            if status.begun > since:
                return status
            if not holder:  # it let go
                return self.sync(instance)
            if status.state == "failed":
                raise ContainerError(f"{instance.id} is not synchronised: {status.problem}", "it is tried again")
            time.sleep(LOOK_S)
        problem = f"{instance.id} is not in sync after {FORCE_S:.0f} s: {status.problem}"
        raise ContainerError(problem, "it is tried again")

    def describe(self, instance: Instance) -> dict[str, Any]:
        """Return how an instance's synchronisation stands, as `--json` has it."""
        if not is_remote(instance):
            return {"id": instance.id, "sync": "mounted"}
        status, holder = recorded(self._home, instance.id)
        return {
            "id": instance.id, "sync": status.short, "engine": instance.meta["remote"], "kept_by": holder,
            **status._asdict(), "conflicts": list(status.conflicts),
        }  # fmt: skip


class Keeper:
    """
    Keeps instances in sync as long as it is told to, each on threads of its own, and only where nobody else does.

    Args:
        open_: returns what brings an instance's files over; may raise P8Error.
    """

    def __init__(self, open_: Callable[[str], Mirror]) -> None:
        self._open = open_
        self._stops: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def keep(self, names: Collection[str]) -> None:
        """Keep these from now on, and no others. Returns at once."""
        for gone in [name for name in self._stops if name not in names]:
            self._stops.pop(gone).set()
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for name in names:
            if name not in self._stops:
                stop = self._stops[name] = threading.Event()
                thread = threading.Thread(target=self._hold, args=(name, stop), name=f"p8-keep-{name}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        """Keep none any more; returns when all have let go."""
        self.keep(())
        for thread in self._threads:
            thread.join(TAKE_S)

    def _hold(self, name: str, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                mirror = self._open(name)
                if mirror.take():
                    try:
                        mirror.keep()
                        while not stop.wait(HEED_S):
                            mirror.heed()
                    finally:
                        mirror.release()
            except P8Error:
                pass  # the database, or the row, is away now
            stop.wait(AGAIN_S)
