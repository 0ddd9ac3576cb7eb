"""`Session` and `ExecutionHistory`: the live objects a REPL works on, and their plain form (row P1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from p8.errors import UsageError
from p8.model import SessionId, Status, parse_time


@dataclass(slots=True)
class ExecutionHistory:
    """
    One command that ran (row P1).

    `output` is text as captured, both streams in the order they came; `duration_s` in seconds;
    `exit_code` is None while running and negative for a signal; `where` is "host" or a container name.
    """

    command: str
    started_at: datetime
    exit_code: int | None = None
    duration_s: float | None = None
    output: str = ""
    where: str = "host"
    metadata: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)  #: fields of a newer version, kept as they are

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: ISO times with zone, unknown fields beside the known ones."""
        return {
            **self.extra,
            "command": self.command,
            "started_at": self.started_at.isoformat(),
            "exit_code": self.exit_code,
            "duration_s": self.duration_s,
            "output": self.output,
            "where": self.where,
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExecutionHistory:
        """
        Build from `to_dict`'s shape; fields it does not know go to `extra`.

        Raises:
            UsageError: a required field is missing or a time is not ISO 8601.
        """
        rest = dict(data)
        try:
            return cls(
                command=rest.pop("command"),
                started_at=parse_time(rest.pop("started_at")),
                exit_code=rest.pop("exit_code", None),
                duration_s=rest.pop("duration_s", None),
                output=rest.pop("output", ""),
                where=rest.pop("where", "host"),
                metadata=dict(rest.pop("metadata", None) or {}),
                extra=rest,
            )
        except KeyError as error:
            raise UsageError(f"execution record without {error}", "it must have command and started_at") from error


@dataclass(slots=True)
class Session:
    """
    A conversation with everything typed and run in it (row P1).

    The three histories are sequences, oldest first. On a session taken from the store they are lazy: their length
    is known, their items are read from the database when touched.
    """

    session_id: SessionId
    project_name: str
    start_time: datetime
    status: Status = Status.ACTIVE
    end_time: datetime | None = None
    conversation_history: Sequence[dict[str, Any]] = field(default_factory=list)
    command_history: Sequence[str] = field(default_factory=list)
    execution_histories: Sequence[ExecutionHistory] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)  #: fields of a newer version, kept as they are

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, lossless: ISO times with zone, nested executions, unknown fields."""
        end = self.end_time
        executions = self.execution_histories
        data = {
            "session_id": self.session_id,
            "project_name": self.project_name,
            "start_time": self.start_time.isoformat(),
            "status": self.status._value_,
            "end_time": end.isoformat() if end is not None else None,
            "conversation_history": [*self.conversation_history],
            "command_history": [*self.command_history],
            "execution_histories": [e.to_dict() for e in executions] if executions else [],
            "metadata": {**self.metadata},
        }
        return {**self.extra, **data} if self.extra else data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Session:
        """
        Build from `to_dict`'s shape; fields it does not know go to `extra`.

        Raises:
            UsageError: a required field is missing, a time is not ISO 8601 or the status is unknown.
        """
        try:
            end = data.get("end_time")
            session = cls(
                data["session_id"],
                data["project_name"],
                parse_time(data["start_time"]),
                _STATUS[data.get("status", "active")],
                parse_time(end) if end is not None else None,
                [*data.get("conversation_history", ())],
                [*data.get("command_history", ())],
                [ExecutionHistory.from_dict(e) for e in data.get("execution_histories", ())],
                {**data.get("metadata", {})},
            )
        except KeyError as error:
            raise UsageError(f"session record: {error} is missing or unknown", "see Session.to_dict") from error
        if len(data) > len(_SESSION_FIELDS) or not data.keys() <= _SESSION_FIELDS:
            session.extra = {key: value for key, value in data.items() if key not in _SESSION_FIELDS}
        return session


_STATUS = {str(status): status for status in Status}
_SESSION_FIELDS = frozenset(Session.__dataclass_fields__) - {"extra"}
