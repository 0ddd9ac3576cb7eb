"""A project and a state folder on an engine elsewhere: two volumes there, kept one with the folders here (row M15).

A helper of P8's own holds the volumes, so that they can be reached while the instance is stopped, frozen or gone, and
moving files costs it nothing. One process at a time does it. Refuses: to remove a volume before all of it is here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from p8.containers import base
from p8.containers.base import ContainerSpec, EngineDown, Limits, Runtime, State, Volume
from p8.containers.sync import BACKOFF_S, IGNORED, POLL_S, Progress, Status, Sync
from p8.containers.sync_agent import is_ignored
from p8.core.blueprint import Places
from p8.core.policy import Alert
from p8.core.processlock import ProcessLock, holder_of
from p8.errors import Conflict, ContainerError, P8Error

PROJECT, STATE = "project", "state"
STATE_POLL_S = 10.0
ASKED = "asked"  #: file that is touched to ask whoever does it for a round
STATE_IGNORED = (".cache", ".npm/_cacache")
MADE_ANEW = ("__pycache__", "*.pyc", ".DS_Store")  #: of what stays there, what nobody misses
HELPER = Limits(512 * base.MIB, 1.0, 64)
TAKE_S = 60.0  #: for whoever does it now to finish a round
SAID_S = 0.5  #: while files are moved, how far it is is written down so often
ROUNDS, LAST_ROUNDS = 6, 3  #: somebody waits for the last
STATES = ("synced", "syncing", "waiting", "cut", "failed")  #: the worse, the later
Tell = Callable[[str, str, dict[str, Any]], None]


class About(NamedTuple):
    """Whose folders, and as whom."""

    name: str  #: the instance's or session's id
    project: Path
    image: str  #: for the helper; with python3
    user: tuple[int, int]  #: whom the volumes belong to there
    labels: Mapping[str, str] = {}  #: of helper and volumes
    ignored: tuple[str, ...] = ()  #: patterns beside IGNORED


class Mirror:
    """
    The two volumes of one instance or session.

    Args:
        runtime: the engine.
        home: P8's home.
        about: whose.
        tell: told of conflicts and cuts: level, text, data.
        progress: told how far the first round is.
    """

    def __init__(
        self, runtime: Runtime, home: Path, about: About, tell: Tell = lambda *_: None,
        progress: Progress = lambda *_: None,
    ) -> None:  # fmt: skip
        self.about = about
        self._runtime = runtime
        self._folder = folder_of(home, about.name)
        self._tell = tell
        self.progress = progress
        self._lock = ProcessLock(self._folder / "lock")
        self._guard = threading.Lock()
        self._saying = threading.Lock()
        self._heeded = 0
        self._is_cut = False
        self._helper = ""
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._wrote = 0.0
        self._was: dict[str, Status] = {}
        places = Places.of(home, about.name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stem = f"p8-{runtime.installation[:12]}-{about.name}"
        self._holds = (
            Volume(f"{stem}-{PROJECT}", f"/p8/{PROJECT}", about.project),
            Volume(f"{stem}-{STATE}", f"/p8/{STATE}", places.state),
        )
        ignored = {PROJECT: (*IGNORED, *about.ignored), STATE: STATE_IGNORED}
        self._trees = {
            name: Sync(
                self._reach, volume.target, volume.copy_of or places.state, self._folder / f"{name}.json",
                ignored[name], name == STATE,
            ) for name, volume in zip((PROJECT, STATE), self._holds, strict=True)
        }  # fmt: skip
        for name, tree in self._trees.items():
            self._was[name] = tree.status
            tree.on_change = lambda status, name=name: self._changed(name, status)  # type: ignore[misc]

    def volumes(self, workspace: str) -> tuple[Volume, ...]:
        """Return what the instance's or session's own container is to have in place of mounts."""
        return tuple(
            Volume(volume.name, target, volume.copy_of)
            for volume, target in zip(self._holds, (workspace, base.HOME_INSIDE), strict=True)
        )

    # the helper

    def _reach(self) -> tuple[Any, str]:
        """Return a client and the helper's id; it is started where it does not run."""
        about = self.about
        name = f"p8-{self._runtime.installation[:6]}-{about.name}-sync"
        with self._guard:
            found = self._runtime.inspect(self._helper or name)
            if found is None or found.state is not State.RUNNING:
                found = self._runtime.start(
                    ContainerSpec(
                        name, about.image, {**about.labels, base.SYNC: about.name},
                        f"{about.user[0]}:{about.user[1]}", ("sleep", "infinity"), volumes=self._holds,
                        writable_root=True, limits=HELPER,
                    )
                )  # fmt: skip
            self._helper = found.id
        return self._runtime.connection(), self._helper

    def _dismiss(self) -> None:
        with contextlib.suppress(ContainerError):
            self._runtime.act(self._helper or f"p8-{self._runtime.installation[:6]}-{self.about.name}-sync", "remove")
        self._helper = ""

    # one at a time

    def take(self, wait_s: float = 0.0) -> bool:
        """Return whether this is who does it now; another process that does is waited for."""
        until = time.monotonic() + wait_s
        while not self._lock.is_held and not self._lock.acquire():
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
        return True

    def release(self, dismiss: bool = False) -> None:
        """Let another do it; the helper stays, or is dismissed. Safe to call twice."""
        self._rest()
        if dismiss:
            self._dismiss()
        for tree in self._trees.values():
            tree.close()
        self._lock.release()

    # what it does

    def settle(self, rounds: int = ROUNDS) -> int:
        """
        Make both sides one, through cuts; return how many files still differ, as they change or cannot be written.

        Raises:
            EngineDown: the engine stays away.
            ContainerError: it cannot be done.
        """
        return sum(self._settled(tree, rounds) for tree in self._trees.values())

    def _settled(self, tree: Sync, rounds: int) -> int:
        tree.progress = self.progress
        try:
            for attempt in range(rounds):
                try:
                    left = tree.cycle().pending
                except EngineDown:
                    if attempt + 1 == rounds:
                        raise
                    left = -1
                if left == 0:
                    break
                time.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)] if left < 0 else 0.1)
            return left
        finally:
            tree.progress = lambda *_: None

    def keep(self) -> None:
        """Keep both sides one from now on, in the background."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=tree.run, args=(self._stop, poll_s), name=f"p8-sync-{name}", daemon=True)
            for (name, tree), poll_s in zip(self._trees.items(), (POLL_S, STATE_POLL_S), strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def heed(self) -> None:
        """Make a round soon where another process has asked for one."""
        with contextlib.suppress(OSError):
            asked = (self._folder / ASKED).stat().st_mtime_ns
            if asked != self._heeded:
                self._heeded = asked
                for tree in self._trees.values():
                    tree.wake()

    def flush(self) -> None:
        """Bring what has changed in the project over now, either way; what goes wrong is told by the status."""
        with contextlib.suppress(ContainerError):
            self._trees[PROJECT].cycle()

    def _rest(self) -> None:
        self._stop.set()
        for tree in self._trees.values():
            tree.wake()
        for thread in self._threads:
            thread.join(TAKE_S)
        self._threads = []

    def finish(self) -> str:
        """
        Bring the last changes over, and take the helper away; nothing may run on the volumes any more.

        Returns:
            what is not on this machine, in a line; "" where all is. The volumes stay as they are.
        """
        self._rest()
        try:
            left = self.settle(LAST_ROUNDS)
            problem = f"{left:,} files could not be brought over" if left else ""
        except P8Error as error:
            problem = error.message
        self.release(dismiss=True)
        return f"{problem}; what is missing is kept in volume {self._holds[0].name}" if problem else ""

    def end(self) -> str:
        """Finish, and remove the volumes where nothing is only there; return what is, in a line."""
        problem = self.finish()
        if problem or not self.take(TAKE_S):
            return problem
        try:
            self.discard()
            return ""
        except P8Error as error:
            return error.message
        finally:
            self.release()

    def discard(self, force: bool = False) -> None:
        """
        Remove the volumes, once everything in them is here; the lock must be held.

        Args:
            force: also where something in them is never brought over (`.git`, `node_modules` …).

        Raises:
            Conflict: something would be lost.
            ContainerError: it cannot be looked at, or not be removed.
        """
        try:
            if not force:
                self._nothing_lost()
        finally:
            for tree in self._trees.values():
                tree.close()
            self._dismiss()
        for volume in self._holds:
            self._runtime.remove_volume(volume.name)
        for name in (*(f"{tree}.json" for tree in self._trees), "status.json"):
            (self._folder / name).unlink(missing_ok=True)

    def _nothing_lost(self) -> None:
        left = self.settle(LAST_ROUNDS)
        stays = [path for path in self._trees[PROJECT].left_there() if not is_ignored(path, MADE_ANEW)]
        if left or stays:
            what = f"{left:,} files" if left else ", ".join(stays[:6])
            raise Conflict(f"only in the volume of {self.about.name}: {what}", "copy it out, or --discard it")

    # how it stands

    @property
    def status(self) -> Status:
        """Both trees' status as one: the worse state, all that is to come."""
        return together(tree.status for tree in self._trees.values())

    def _changed(self, tree: str, status: Status) -> None:
        with self._saying:
            was, self._was[tree] = self._was[tree], status
            about = {"instance": self.about.name, "tree": tree}
            for path in [path for path in status.conflicts if path not in was.conflicts]:
                text = f"{self.about.name}: {path.rpartition('.conflict-')[0]} was changed on both sides; both are kept"
                data = {**about, "alert": str(Alert.SYNC_CONFLICT), "what": "conflict", "kept": path}
                self._tell("warning", f"{text}, one as {path.rpartition('/')[2]}", data)
            if self._threads and status.state == "cut" and tree == PROJECT and not self._is_cut:
                self._is_cut = True
                text = f"{self.about.name}: {status.problem}; it is tried again"
                self._tell("warning", text, {**about, "what": "cut"})
            elif status.state == "synced" and tree == PROJECT and self._is_cut:
                self._is_cut = False
                self._tell("info", f"{self.about.name} is in sync again", {**about, "what": "in sync"})
            if status.state == "syncing" and time.monotonic() - self._wrote < SAID_S:
                return
            self._wrote = time.monotonic()
            body = orjson.dumps({name: tree.status._asdict() for name, tree in self._trees.items()})
            young = self._folder / "status.young"
            with contextlib.suppress(OSError):
                young.write_bytes(body)
                young.replace(self._folder / "status.json")


def together(statuses: Iterable[Status]) -> Status:
    """Return several trees' status as one: the worst state, and all of what is to come."""
    found = list(statuses)
    worst = max(found, key=lambda one: STATES.index(one.state) if one.state in STATES else 0)
    return worst._replace(
        files=sum(one.files for one in found), moved=sum(one.moved for one in found),
        pending=sum(one.pending for one in found), conflicts=tuple(path for one in found for path in one.conflicts),
        at=min(one.at for one in found), begun=min(one.begun for one in found),
    )  # fmt: skip


def folder_of(home: Path, name: str) -> Path:
    """Return where it is written down what both sides agreed on."""
    return home / "states" / name / "sync"


def ask(home: Path, name: str) -> None:
    """Ask whoever keeps an instance's or session's trees one for a round now."""
    with contextlib.suppress(OSError):
        (folder_of(home, name) / ASKED).touch()


def recorded(home: Path, name: str) -> tuple[Status, int]:
    """Return how an instance's or session's trees stand, as last written down, and the process that is at it, or 0."""
    folder = folder_of(home, name)
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        said = orjson.loads((folder / "status.json").read_bytes())
        return together(Status(**one) for one in said.values()), holder_of(folder / "lock")
    return Status(), holder_of(folder / "lock")
