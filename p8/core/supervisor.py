"""Looks after instances: what the watch sees goes to the policy, what that decides is carried out (rows M8 to M10).

One process of a home does it for all (`p8 watch` or `p8 serve`); a REPL does it for its own while no such process runs,
and only listens to the log while one does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from p8.containers.base import EngineDown, Event, Sample
from p8.containers.quantities import show_memory
from p8.containers.settings import Settings
from p8.containers.watch import EngineState, Observation, Target, Verdict, Watch
from p8.core.instances import InstanceManager
from p8.core.policy import Alert, Decision, GiveUp, Policy, Recover, Tell
from p8.core.processlock import ProcessLock, held_by
from p8.core.remotes import Keeper, is_remote
from p8.core.roster import InstanceStatus, told
from p8.errors import Conflict, InvalidTransition, P8Error

SETTINGS_S = 5.0  #: how long a configuration once read is believed
AGAIN_S = 0.25  #: a container that was just restarted is looked at so often
BUSY_S = 1.0  #: one that somebody is at work on is looked at again after so long
AT_ONCE = 4  #: recoveries
DAEMON_S = 1.0
KEPT = (InstanceStatus.RUNNING, InstanceStatus.PAUSED)  #: in sync, on an engine elsewhere
WATCH_LOCK = "states/watch.lock"
STANDBY_S = 2.0  #: how often it is looked whether there is something to look after
END_S = 30.0


class Supervisor:
    """
    Looks after instances until told to stop.

    Args:
        manager: whose.
        own: asked which ids; all where none is given.
        now: seconds of a clock that only goes forward.

    Attributes:
        usage: the newest sample of each instance.
    """

    def __init__(
        self,
        manager: InstanceManager,
        own: Callable[[], set[str]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.usage: dict[str, Sample] = {}
        self._manager = manager
        self._own = own
        self._now = now
        self._policy = Policy()
        self._lock = threading.RLock()
        self._names: dict[str, str] = {}
        self._settings: dict[str, tuple[float, Settings]] = {}
        self._noted: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, "p8-recover")
        self._watch = Watch(manager.runtime, self._targets, self._hear)
        self._follower = manager.files.log.follow() if own is not None else None
        self._keeper = Keeper(lambda name: manager.remotes.mirror(manager.roster.get(name)))
        self._asked_daemon = 0.0
        self._daemon = False

    def run(self) -> None:
        """Look after them; returns after `stop`."""
        try:
            self._watch.run()
        finally:
            self._keeper.close()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """Make `run` return soon. From any thread."""
        self._watch.stop()

    # what is watched

    def _targets(self) -> list[Target]:
        if self._own is not None and self._daemon_runs():
            self._pass_on()
            self._keeper.keep(())
            return []
        own = self._own() if self._own is not None else None
        found, everyone = [], self._manager.roster.all()
        self._keeper.keep({
            one.id for one in everyone
            if is_remote(one) and (one.status in KEPT or one.meta.get("lost")) and (own is None or one.id in own)
        })  # fmt: skip
        for instance in everyone:
            wanted = instance.status is InstanceStatus.RUNNING or instance.meta.get("lost")
            if not wanted or (own is not None and instance.id not in own):
                continue
            try:
                settings = self._settings_of(instance.id)
            except P8Error:
                continue  # its file is being edited; it is looked after again when it can be read
            found.append(self._manager.roster.target(instance, settings))
        with self._lock:
            for gone in self._settings.keys() - {target.id for target in found}:
                del self._settings[gone]
                self._policy.forget(gone)
                self.usage.pop(gone, None)
            self._names = {target.container: target.id for target in found if target.container}
        return found

    def _settings_of(self, name: str) -> Settings:
        read, settings = self._settings.get(name, (0.0, None))
        if settings is None or self._now() - read > SETTINGS_S:
            settings = self._manager.roster.settings_of(self._manager.roster.get(name))
            self._settings[name] = (self._now(), settings)
        return settings

    def _daemon_runs(self) -> bool:
        now = self._now()
        if now - self._asked_daemon >= DAEMON_S:
            self._asked_daemon = now
            self._daemon = bool(daemon_pid(self._manager.store.home))
        return self._daemon

    def _pass_on(self) -> None:
        """Tell the person here what the process that does the work has written to the log."""
        own = self._own() if self._own is not None else set()
        for line in self._follower.new() if self._follower is not None else ():
            data = line.get("metadata") or {}
            if data.get("alert") and (data.get("instance") in own or not data.get("instance")):
                told(self._manager.store, str(line["level"]).lower(), str(line["message"]), data)

    # what is seen

    def _hear(self, seen: Observation) -> None:
        with self._lock:
            if isinstance(seen, Verdict):
                self._verdict(seen)
            elif isinstance(seen, Sample):
                self._sample(seen)
            elif isinstance(seen, EngineState):
                self._engine(seen)
            elif isinstance(seen, Event) and seen.action == "oom" and seen.container in self._names:
                name = self._names[seen.container]
                limit = show_memory(self._settings_of(name).resources.memory_bytes)
                text = f"{Alert.OUT_OF_MEMORY}: a program of {name} was ended at its limit of {limit}"
                self._do(Tell(Alert.OUT_OF_MEMORY, name, "error", text, {"limit": limit}))

    def _verdict(self, verdict: Verdict) -> None:
        cached = self._settings.get(verdict.id)
        if cached is None or self._names.get(verdict.container, verdict.id) != verdict.id:
            return
        if not verdict.healthy and not self._is_meant_to_run(verdict):
            return
        rules, now = cached[1].health, self._now()
        if not verdict.healthy or now - self._noted.get(verdict.id, -1e9) >= min(rules.check_interval_s, 30.0) * 0.9:
            self._noted[verdict.id] = now
            self._manager.roster.note(verdict, **self._usage_of(verdict.id))
        for decision in self._policy.judge(verdict, rules, now):
            self._do(decision)
        account = self._policy.account(verdict.id)
        if not verdict.healthy and not account.recovering:
            wait = max(account.not_before - now, 0.0) if not verdict.is_up else AGAIN_S if account.attempts else 1e9
            self._watch.soon(verdict.id, min(max(wait, AGAIN_S), rules.check_interval_s, rules.timeout_s))

    def _is_meant_to_run(self, verdict: Verdict) -> bool:
        """Return whether what was found is a fault, and not somebody's doing since the list was read."""
        row = self._manager.store.instances.get(verdict.id)
        if row is None or row["container"] != verdict.container:
            return False
        if self._manager.is_busy(row):
            self._watch.soon(verdict.id, BUSY_S)
            return False
        return row["status"] == InstanceStatus.RUNNING or bool(row["meta"].get("lost"))

    def _usage_of(self, name: str) -> dict[str, str]:
        sample = self.usage.get(name)
        if sample is None:
            return {}
        return {"cpu_usage": f"{sample.cpu_percent:.0f}%", "memory_usage": show_memory(sample.memory_bytes)}

    def _sample(self, sample: Sample) -> None:
        name = self._names.get(sample.container)
        if name is None or name not in self._settings:
            return
        self.usage[name] = sample
        for decision in self._policy.weigh(name, sample, self._settings[name][1].resources, self._now()):
            self._do(decision)

    def _engine(self, seen: EngineState) -> None:
        if seen.up:
            self._do(Tell(Alert.ENGINE_UP, "", "info", "the container engine is back", {}))
            self._pool.submit(self._reconcile)
        else:
            self._do(Tell(Alert.ENGINE_DOWN, "", "error", f"the container engine is away: {seen.text}", {}))

    def _reconcile(self) -> None:
        try:
            for said in self._manager.reconcile():
                self._manager.roster.tell("info", said, {})
        except P8Error:
            pass  # away again; it will come back again

    # what is done

    def _do(self, decision: Decision) -> None:
        roster = self._manager.roster
        if isinstance(decision, Tell):
            data = {"alert": str(decision.alert), "instance": decision.instance, **decision.data}
            roster.tell(decision.level, decision.text, data)
        elif isinstance(decision, GiveUp):
            roster.fail(decision.instance, decision.reason)
        else:
            self._pool.submit(self._recover, decision)

    def _recover(self, decision: Recover) -> None:
        name, trouble = decision.instance, ""
        try:
            self._manager.recover(name, decision.state)
        except (EngineDown, Conflict):
            with self._lock:
                self._policy.postponed(name)
            self._watch.soon(name, AGAIN_S)
            return
        except InvalidTransition:
            with self._lock:
                self._policy.forget(name)
            return
        except P8Error as error:
            trouble = error.message
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
        with self._lock:
            cached = self._settings.get(name)
            delay = self._policy.tried(name, cached[1].health, self._now(), trouble) if cached is not None else 0.0
        self._watch.soon(name, delay if trouble else 0.05)


class Lookout:
    """
    Looks after all instances of a home, where no other process does.

    Args:
        manager: whose.
        name: what this process is called: "watch" or "serve".
        say: told what was found at the beginning.
    """

    def __init__(self, manager: InstanceManager, name: str, say: Callable[[str], None] = lambda _text: None) -> None:
        self._manager = manager
        self._name = name
        self._say = say
        self._lock = DaemonLock(manager.store.home)
        self._supervisor = Supervisor(manager)
        self._thread = threading.Thread(target=self._run, name="p8-supervisor", daemon=True)

    def begin(self) -> bool:
        """Begin; return whether this is the process that does it now."""
        if not self._lock.acquire(self._name):
            return False
        self._thread.start()
        return True

    @property
    def runs(self) -> bool:
        """Return whether it still does."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Finish what is being done, and let others do it."""
        self._supervisor.stop()
        if self._thread.is_alive():
            self._thread.join(END_S)
        self._lock.release()

    def _run(self) -> None:
        try:
            for said in self._manager.reconcile():
                self._say(said)
        except P8Error as error:
            self._say(f"{error.message}; it is waited for")
        self._supervisor.run()


class Standby:
    """
    Begins to look after instances as soon as there are any and no other process does so, for as long as it lives.

    Args:
        manager: returns whose; asked when there are some.
        any_there: returns whether there are some.
        name: what this process is called.
    """

    def __init__(self, manager: Callable[[], InstanceManager], any_there: Callable[[], bool], name: str) -> None:
        self._manager = manager
        self._any_there = any_there
        self._name = name
        self._over = threading.Event()
        self._lookout: Lookout | None = None
        self._thread = threading.Thread(target=self._run, name="p8-standby", daemon=True)

    def begin(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Finish what is being done."""
        self._over.set()
        self._thread.join(END_S)
        if self._lookout is not None:
            self._lookout.end()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._look()
            except P8Error:
                pass  # the database is busy; looked again
            except Exception:
                logging.getLogger("p8.core").exception("instances are not looked after")
            self._over.wait(STANDBY_S)

    def _look(self) -> None:
        if self._lookout is not None and not self._lookout.runs:
            self._lookout.end()
            self._lookout = None
        if self._lookout is None and self._any_there():
            manager = self._manager()
            lookout = Lookout(manager, self._name) if not daemon_pid(manager.store.home) else None
            if lookout is not None and lookout.begin():
                self._lookout = lookout


class DaemonLock(ProcessLock):
    """Held by the one process of a home that looks after all its instances."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / WATCH_LOCK)


def daemon_pid(home: Path) -> int:
    """Return the process that looks after all instances of a home, or 0."""
    return daemon(home)[0]


def daemon(home: Path) -> tuple[int, str]:
    """Return the process that looks after all instances of a home and what it is called; 0 where there is none."""
    return held_by(home / WATCH_LOCK)
