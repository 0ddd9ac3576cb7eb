"""Metrics as events of the one ordered stream (row C9): how the current session stands, each time it matters.

Said when a turn has ended, a checkpoint or handoff was made, a session was put down, and in between every so often
while something is recorded. Counted along in memory from what subscribers hear: no query, no process, nothing at all at
a keystroke. Refuses: to say the same twice, and to be part of a session: what is measured is not what was said.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p8.core.log import note
from p8.core.sessions import SessionManager
from p8.errors import P8Error
from p8.events import Change
from p8.model import Kind

IDLE_US = 15 * 60 * 1_000_000  #: a longer pause is no work
WHAT = "metrics"


@dataclass(slots=True)
class Counts:
    """What was done in a session, as far as it was heard of."""

    session: str
    messages: int = 0
    commands: int = 0
    executions: int = 0
    failed: int = 0  #: executions with another exit code than 0, since it was resumed
    checkpoints: int = 0  #: since it was resumed
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0  #: USD, where models said it
    worked_us: int = 0  #: since it was resumed, without pauses of more than 15 minutes
    last_us: int = 0

    def take(self, change: Change) -> None:
        """Count one entry."""
        pause = change.time_us - self.last_us if self.last_us else 0
        self.worked_us += pause if 0 < pause <= IDLE_US else 0
        self.last_us = max(self.last_us, change.time_us)
        data = change.data
        if change.kind == Kind.MESSAGE:
            self.messages += 1
            self.tokens_in += int(_number(data.get("tokens_in")))
            self.tokens_out += int(_number(data.get("tokens_out")))
            self.cost += _number(data.get("cost"))
        elif change.kind == Kind.COMMAND:
            self.commands += 1
        elif change.kind == Kind.EXECUTION:
            self.executions += 1
            self.failed += bool(data.get("exit_code"))
        elif change.kind == Kind.CHECKPOINT:
            self.checkpoints += 1

    @property
    def is_nothing(self) -> bool:
        """Return whether nothing but lines was typed."""
        return not (self.messages or self.executions or self.checkpoints)

    def plain(self) -> dict[str, Any]:
        """Return them as an event has them."""
        return {
            "messages": self.messages, "commands": self.commands, "executions": self.executions,
            "failed": self.failed, "checkpoints": self.checkpoints, "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out, "cost": round(self.cost, 6), "worked_s": round(self.worked_us / 1e6, 1),
        }  # fmt: skip


class Pulse:
    """
    Says metrics.

    Args:
        sessions: whose current session, and whose store.
        more: returns what else is known without asking anybody: tokens, plan, how full the model is.
        every_s: returns how often they are said while something is done.
    """

    def __init__(
        self, sessions: SessionManager, more: Callable[[], Mapping[str, Any]], every_s: Callable[[], float]
    ) -> None:
        self._sessions = sessions
        self._more = more
        self._every_s = every_s
        self._counts: Counts | None = None
        self._said: dict[str, Any] = {}
        self._said_us = 0
        sessions.bus.subscribe(self._hear)

    def say(self, why: str, **measured: Any) -> dict[str, Any] | None:
        """
        Say how the current session stands, unless nothing has changed since it was said last.

        Args:
            why: "turn", "checkpoint", "handoff", "completed", "interval" …
            measured: what was found out besides (see `metrics.py`).

        Returns:
            what was said. A disk that refuses costs the event and nothing else.
        """
        session = self._sessions.current
        counts = self._counts
        if session is None or counts is None or counts.session != session.session_id or counts.is_nothing:
            return None
        found: dict[str, Any] = {**counts.plain(), **self._more()}
        done = {name: value for name, value in found.items() if name != "worked_s"}  # time alone is no news
        if done == self._said and not measured:
            return None
        self._said, self._said_us = done, self._sessions.store.clock()
        said = {"about": session.session_id, "why": why, **found, **measured}
        note(self._sessions.store, WHAT, **said)
        return said

    def _hear(self, change: Change) -> None:
        session = self._sessions.current
        if session is None or change.stream != session.session_id:
            return
        if self._counts is None or self._counts.session != change.stream:
            self._begin(change)
        assert self._counts is not None
        self._counts.take(change)
        if change.kind == Kind.CHECKPOINT:
            self.say("checkpoint")
        elif change.kind == Kind.EVENT and change.data.get("what") == "handoff":
            self.say("handoff")
        elif change.kind == Kind.SESSION and change.name in {"paused", "completed"}:
            self.say(change.name)
        elif change.kind in {Kind.MESSAGE, Kind.COMMAND, Kind.EXECUTION}:
            since_us = change.time_us - self._said_us
            if not 0 <= since_us < self._every_s() * 1e6:
                self.say("interval")

    def _begin(self, change: Change) -> None:
        """Turn to another session; one that is gone on with begins at its counters, which were read just now."""
        self._counts = Counts(change.stream, last_us=change.time_us)
        self._said, self._said_us = {}, change.time_us
        if change.name == "resumed":
            with contextlib.suppress(P8Error):
                row = self._sessions.store.sessions.get(change.stream)
                self._counts.messages, self._counts.commands = row.messages, row.commands
                self._counts.executions, self._counts.cost = row.executions, row.cost
                self._counts.tokens_in, self._counts.tokens_out = row.tokens_in, row.tokens_out


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def line_of(data: Mapping[str, Any]) -> str:
    """Return metrics as a line for a person."""
    parts = [f"{data.get('messages', 0)} messages", f"{data.get('executions', 0)} run"]
    if data.get("used"):
        parts.append(f"{data['used']:,} tokens")
    for name, word in (("full", "full"), ("spent", "of the plan used"), ("completion", "done")):
        if isinstance(data.get(name), float):
            parts.append(f"{data[name]:.0%} {word}")
    return f"{data.get('why', '')}: {', '.join(parts)}"
