"""Decides what is to be done about what was seen of instances. No clock, no engine, no disk: facts in, decisions out.

A container that stopped is started again at once, one that answers no longer after its retries; each further restart
waits twice as long, and after a ceiling it is given up and said so. Being well for a while clears the account. When
most fall silent at once it is the machine that is slow: restarting them all would make it slower, so it is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from p8.containers.base import Sample, State
from p8.containers.quantities import show_cpus, show_memory
from p8.containers.settings import HealthRules, Resources
from p8.containers.watch import Verdict

LONGEST_DELAY_S = 300.0
OVER_SAMPLES = 2  #: in a row at or over a threshold, for an alert
UNDER_SAMPLES = 5  #: in a row well under it, for the alert to be over
UNDER = 0.9
GRACE_S = 10.0  #: after a restart a program may take so long to answer
MANY = 3  #: that fall silent at once, and are more than half of those looked at
AT_ONCE_S = 6.0  #: longer than a silent one is left alone
HELD_S = 15.0  #: so long the machine is waited for
AGAIN_S = 60.0  #: the same alert is not said more often


class Alert(StrEnum):
    """What is told."""

    HIGH_CPU = "HIGH_CPU"
    HIGH_MEM = "HIGH_MEM"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    UNHEALTHY = "UNHEALTHY"
    RECOVERED = "RECOVERED"
    RECOVERY_FAILED = "RECOVERY_FAILED"
    ENGINE_DOWN = "ENGINE_DOWN"
    ENGINE_UP = "ENGINE_UP"
    SYNC_CONFLICT = "SYNC_CONFLICT"


#: alerts of one topic take each other's place on the screen
TOPICS = {
    Alert.HIGH_CPU: "cpu", Alert.HIGH_MEM: "memory", Alert.OUT_OF_MEMORY: "memory limit", Alert.UNHEALTHY: "health",
    Alert.RECOVERED: "health", Alert.RECOVERY_FAILED: "health", Alert.ENGINE_DOWN: "engine", Alert.ENGINE_UP: "engine",
    Alert.SYNC_CONFLICT: "sync",
}  # fmt: skip


def topic_of(data: Mapping[str, Any]) -> str:
    """Return under which topic a person is told of an alert."""
    alert = str(data.get("alert", ""))
    kind = TOPICS[Alert(alert)] if alert in Alert._value2member_map_ else "event"
    return f"{data.get('instance', '')} {kind}".strip()


class Tell(NamedTuple):
    """Say something."""

    alert: Alert
    instance: str
    level: str  #: "info", "warning" or "error"
    text: str
    data: dict[str, Any]


class Recover(NamedTuple):
    """Try to make it well again."""

    instance: str
    state: State | None  #: as it was found
    attempt: int
    reasons: tuple[str, ...]


class GiveUp(NamedTuple):
    """Leave it as it is, in error."""

    instance: str
    reason: str


Decision = Tell | Recover | GiveUp


@dataclass(slots=True)
class Account:
    """What is remembered of one instance."""

    failures: int = 0
    attempts: int = 0
    recovering: bool = False
    unhealthy_since: float | None = None
    well_since: float | None = None
    not_before: float = 0.0
    grace_until: float = 0.0
    given_up: bool = False
    trouble: str = ""
    levels: dict[Alert, str] = field(default_factory=dict)
    over: dict[Alert, int] = field(default_factory=dict)
    under: dict[Alert, int] = field(default_factory=dict)
    said: dict[Alert, float] = field(default_factory=dict)


class Silence:
    """Tells a machine that stands still from programs that do: whether most instances fell silent at once."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, bool]] = {}
        self._since: float | None = None

    def note(self, verdict: Verdict, now: float) -> None:
        """Take in what was seen of one."""
        self._seen[verdict.id] = now, verdict.is_up and not verdict.healthy
        recent = [silent for at, silent in self._seen.values() if now - at <= AT_ONCE_S]
        if not MANY <= sum(recent) > len(recent) / 2:
            self._since = None
        elif self._since is None:
            self._since = now

    def forget(self, instance: str) -> None:
        """Leave one out."""
        self._seen.pop(instance, None)

    def holds(self, now: float) -> bool:
        """Return whether it is to be waited for."""
        return self._since is not None and now - self._since < HELD_S


class Policy:
    """Keeps an account of each instance and decides by it. Times are seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._silence = Silence()

    def account(self, instance: str) -> Account:
        """Return the account of an instance, opened where there is none."""
        return self._accounts.setdefault(instance, Account())

    def forget(self, instance: str) -> None:
        """Close an account: it was stopped, or a person took it in hand."""
        self._accounts.pop(instance, None)
        self._silence.forget(instance)

    def judge(self, verdict: Verdict, rules: HealthRules, now: float) -> list[Decision]:
        """Decide on a verdict."""
        account = self.account(verdict.id)
        self._silence.note(verdict, now)
        if account.recovering:
            return []
        if verdict.healthy:
            return self._well(account, verdict, rules, now)
        account.well_since = None
        if verdict.is_up and now < account.grace_until:
            return []
        account.failures += 1
        if verdict.is_up and account.failures < rules.max_retries:
            return []
        decisions: list[Decision] = []
        why = ", ".join(verdict.reasons)
        if account.unhealthy_since is None:
            account.unhealthy_since = now
            decisions.append(
                Tell(Alert.UNHEALTHY, verdict.id, "warning", f"{verdict.id} is unhealthy: {why}", {"reasons": why})
            )
        if not rules.restart or account.given_up or now < account.not_before:
            return decisions
        if verdict.is_up and self._silence.holds(now):
            return decisions
        if account.attempts >= rules.max_restarts:
            account.given_up = True
            last = f"; the last one: {account.trouble}" if account.trouble else ""
            text = f"{verdict.id} could not be recovered: {why} after {account.attempts} restarts{last}"
            data = {"reasons": why, "attempts": account.attempts, "error": account.trouble}
            return [*decisions, Tell(Alert.RECOVERY_FAILED, verdict.id, "error", text, data), GiveUp(verdict.id, text)]
        account.attempts += 1
        account.recovering = True
        return [*decisions, Recover(verdict.id, verdict.state, account.attempts, verdict.reasons)]

    def _well(self, account: Account, verdict: Verdict, rules: HealthRules, now: float) -> list[Decision]:
        account.failures = 0
        account.grace_until = 0.0  # it has answered: what comes now is no slow start
        account.given_up = False
        if account.well_since is None:
            account.well_since = now
        if account.attempts and now - account.well_since >= rules.stable_s:
            account.attempts = 0
            account.not_before = 0.0
        if account.unhealthy_since is None:
            return []
        took = now - account.unhealthy_since
        account.unhealthy_since = None
        account.trouble = ""
        text = f"{verdict.id} is well again after {took:.1f} s"
        data = {"after_s": round(took, 2), "attempts": account.attempts}
        return [Tell(Alert.RECOVERED, verdict.id, "info", text, data)]

    def tried(self, instance: str, rules: HealthRules, now: float, trouble: str = "") -> float:
        """Note that a recovery has been carried out; return after how many seconds the next one would be allowed."""
        account = self.account(instance)
        account.recovering = False
        account.failures = 0 if not trouble else rules.max_retries
        account.trouble = trouble
        delay = min(rules.retry_delay_s * 2.0 ** max(account.attempts - 1, 0), LONGEST_DELAY_S)
        account.not_before = now + delay
        account.grace_until = now + max(rules.timeout_s, GRACE_S) if not trouble else 0.0
        return delay

    def postponed(self, instance: str) -> None:
        """Note that a recovery could not even be tried: the engine is away, or somebody else is at it."""
        account = self.account(instance)
        account.recovering = False
        account.attempts = max(account.attempts - 1, 0)

    def weigh(self, instance: str, sample: Sample, resources: Resources, now: float) -> list[Decision]:
        """Decide on a sample of what an instance uses."""
        cores = sample.cpu_percent / 100
        cpu = f"{instance} uses {show_cpus(cores)} of {show_cpus(resources.cpus)} CPU"
        memory = f"{instance} uses {show_memory(sample.memory_bytes)} of {show_memory(resources.memory_bytes)} memory"
        account = self.account(instance)
        return [
            *self._level(
                account, instance, Alert.HIGH_CPU, cores, (resources.cpu_warning, resources.cpu_critical), cpu, now,
            ),
            *self._level(
                account, instance, Alert.HIGH_MEM, sample.memory_bytes,
                (resources.memory_warning, resources.memory_critical), memory, now,
            ),
        ]  # fmt: skip

    def _level(
        self, account: Account, instance: str, alert: Alert, value: float, thresholds: tuple[float, float], text: str,
        now: float,
    ) -> list[Decision]:  # fmt: skip
        warning, critical = thresholds
        level = "error" if value >= critical else "warning" if value >= warning else ""
        if not level:
            account.over[alert] = 0
            account.under[alert] = account.under.get(alert, 0) + 1 if value < warning * UNDER else 0
            if account.under[alert] >= UNDER_SAMPLES and account.levels.pop(alert, ""):
                return [Tell(alert, instance, "info", f"{alert} is over: {text}", {"over": True})]
            return []
        account.under[alert] = 0
        account.over[alert] = account.over.get(alert, 0) + 1
        standing = account.levels.get(alert, "")
        if account.over[alert] < OVER_SAMPLES or standing in {level, "error"}:
            return []
        if not standing and now - account.said.get(alert, -AGAIN_S) < AGAIN_S:
            return []
        account.levels[alert] = level
        account.said[alert] = now
        data = {"value": round(value, 3), "warning": warning, "critical": critical}
        return [Tell(alert, instance, level, f"{alert}: {text}", data)]
