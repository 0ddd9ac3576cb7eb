"""The vocabulary: ids, states and records that every other room speaks in.

Every start imports this, so records are cheap to define; the live object a REPL works on is in `session.py`.
Nothing here reads a clock, a disk or the environment. Times in records are UTC-aware datetimes;
times in the journal and the database are integers, microseconds since 1970 (`_us`).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from p8.errors import InvalidTransition, UsageError
from p8.patterns import pattern
from p8.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NewType

    SessionId = NewType("SessionId", str)
    ProjectId = NewType("ProjectId", str)
    CheckpointId = NewType("CheckpointId", str)
else:
    SessionId = ProjectId = CheckpointId = str

#: what another process wrote to a session at the same time is a session of its own, named after it and that process
ID_PATTERN = pattern(r"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}(~[0-9a-f]{6}){0,4}", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TITLE_LENGTH = 72


class Status(StrEnum):
    """States of a session."""

    ACTIVE = "active"  # being recorded by the process that holds its lease
    PAUSED = "paused"  # put down on purpose, or saved when its terminal went away
    COMPLETED = "completed"  # ended by its owner
    ABANDONED = "abandoned"  # its process died; found at the next start


#: From each state, the states it may go to. README's diagram and the error texts are made from this.
TRANSITIONS: Mapping[Status, tuple[Status, ...]] = {
    Status.ACTIVE: (Status.PAUSED, Status.COMPLETED, Status.ABANDONED),
    Status.PAUSED: (Status.ACTIVE, Status.COMPLETED),
    Status.COMPLETED: (Status.ACTIVE,),
    Status.ABANDONED: (Status.ACTIVE, Status.COMPLETED),
}


class Kind(StrEnum):
    """Kinds of journal entries."""

    SESSION = "session"  # something about a session: start, status, title, pin, lease, fork ...
    MESSAGE = "message"  # said by the person, the assistant, the system or a tool
    COMMAND = "command"  # a line typed at the prompt
    EXECUTION = "execution"  # a command that ran, with its result
    CHECKPOINT = "checkpoint"  # a place to come back to
    PART = "part"  # of an answer: a text, a thought, a tool call, a plan or a permission, keyed by `id`
    EVENT = "event"  # anything else worth keeping: alerts, notices, instance and project changes


class Entry(Record):
    """One line of the journal: something that happened in a session, in its place in the session's hash chain."""

    stream: str  #: session id, or `~…` for what belongs to a process and not to a session
    seq: int  #: 1, 2, 3 … within the stream
    time_us: int
    kind: str
    data: dict[str, Any]  #: not to be modified
    large: bool = False  #: `data` is a preview; `PersistenceManager.entry` reads the whole

    @property
    def time(self) -> datetime:
        """Return when it was recorded, UTC."""
        return from_us(self.time_us)

    @property
    def role(self) -> str:
        """Return user, assistant, system, tool …, or nothing where the entry is no message."""
        role = self.data.get("role")
        return role if isinstance(role, str) else ""

    @property
    def text(self) -> str:
        """Return what a person would read of it: a message's text, a command line, an execution's output."""
        return text_of(self.data)


class SessionRow(Record):
    """One session as lists show it. Made from counters; no transcript is read."""

    id: SessionId
    title: str
    title_source: str  #: "", "auto" or "manual"; automatic never overwrites manual
    project: str  #: ProjectId, or "" where none is known
    project_name: str
    status: Status
    created_us: int
    last_us: int  #: last message, command or execution; looking at a session does not move it
    ended_us: int | None
    directory: str
    branch: str
    commit: str
    model: str
    messages: int
    commands: int
    executions: int
    tokens_in: int
    tokens_out: int
    cost: float
    size_bytes: int
    pinned: bool
    archived: bool
    trashed_us: int | None
    tags: tuple[str, ...]
    parent: SessionId | None
    fork_seq: int | None
    entries: int  #: highest sequence number
    meta: dict[str, Any]  #: everything else said about the session


class Hit(Record):
    """A search result: the entry, its session, and the text around the match."""

    session: SessionRow
    seq: int  #: 0 where the title, project, branch or a tag matched
    time_us: int
    kind: str
    role: str
    snippet: str
    marks: tuple[tuple[int, int], ...]  #: matched spans in `snippet`, as [start, end) character offsets
    score: float


class GitState(Record):
    """What a repository looked like at one moment. All empty outside a repository."""

    branch: str = ""  #: "" when detached
    commit: str = ""
    upstream: str = ""
    ahead: int = 0
    behind: int = 0
    staged: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    conflicted: tuple[str, ...] = ()
    stashes: int = 0
    root: str = ""

    @property
    def dirty(self) -> bool:
        """Return whether anything differs from the commit."""
        return bool(self.staged or self.modified or self.untracked or self.conflicted)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the journal."""
        return {name: _plain(getattr(self, name)) for name in self._fields}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GitState:
        """Build from `to_dict`'s shape; fields it does not know are dropped."""
        known = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in cls._fields}
        return cls(**known)  # type: ignore[arg-type]


class Project(Record):
    """What sessions belong to: a repository, wherever it lies, or a directory."""

    id: ProjectId  #: `<prefix>-<8 hex>`; the same on every machine for a repository
    name: str
    root: str  #: where it was last seen
    root_commit: str = ""
    remote: str = ""
    meta: dict[str, Any] = {}  # noqa: RUF012 #: not to be modified

    @property
    def prefix(self) -> str:
        """Return what its id begins with."""
        return self.id.rpartition("-")[0]

    @property
    def description(self) -> str:
        """Return what a person said it is."""
        return str(self.meta.get("description", ""))

    @property
    def tags(self) -> tuple[str, ...]:
        """Return its tags, sorted."""
        tags = self.meta.get("tags")
        return tuple(sorted(str(tag) for tag in tags)) if isinstance(tags, list) else ()

    @property
    def pinned(self) -> bool:
        """Return whether it is never cleaned up."""
        return bool(self.meta.get("pinned"))

    @property
    def workspace(self) -> str:
        """Return the folder that P8 hosts it in, or "" where it lies in a directory of the person's own."""
        return str(self.meta.get("workspace", ""))

    @property
    def config(self) -> ProjectConfig:
        """Return its own settings."""
        said = self.meta.get("config")
        said = said if isinstance(said, dict) else {}
        known = {k: v for k, v in said.items() if k in ProjectConfig._fields and type(v) is int}
        return ProjectConfig(**known)


class ProjectConfig(Record):
    """Settings of one project (row J1); 0 means as `config.toml` has it for all."""

    cleanup_after_days: int = 0
    cleanup_warning_days: int = 0


class ProjectStatistics(Record):
    """What was done in a project's sessions, those in the trash included (row J1)."""

    sessions: int = 0
    in_trash: int = 0
    messages: int = 0
    commands: int = 0
    executions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    size_bytes: int = 0
    span_us: int = 0  #: sum over the sessions from their beginning to their last entry
    first_us: int = 0  #: 0 where there is no session
    last_us: int = 0


class SessionRecord(Record):
    """One session as its project remembers it (row J1)."""

    id: str
    title: str
    status: str
    created_us: int
    last_us: int
    ended_us: int | None
    model: str
    messages: int
    commands: int
    executions: int
    tokens: int


class ProjectRow(Record):
    """One project as lists show it."""

    project: Project
    created_us: int
    used_us: int  #: last time anything was done in it
    statistics: ProjectStatistics
    deleted_us: int | None = None  #: since when it is in the trash


class Checkpoint(Record):
    """A place to come back to: a position in a conversation and the state of the work at that moment."""

    id: CheckpointId
    session_id: SessionId
    seq: int  #: of its own entry; a fork from here keeps what stands up to it
    name: str
    created_us: int
    git: GitState
    data: dict[str, Any]  #: everything else recorded with it


class Notice(Record):
    """Something the person should know that is not an error of theirs."""

    level: str  #: "info", "warning" or "error"
    topic: str  #: one notice per topic is shown at a time: "database", "disk", "lease" …
    text: str
    hint: str = ""


class Finding(Record):
    """Something wrong with what P8 keeps, as the doctor names it."""

    area: str  #: "database", "chain", "counts", "index", "lease", "journal", "damage", "purge", "snapshot" …
    text: str  #: what is wrong, one line
    session: str = ""  #: whose; "" where it belongs to none, or nobody can tell
    seq: int = 0  #: number of the entry; 0 where it is not about one
    file: str = ""  #: path below the home, or an absolute one
    repair: str = ""  #: what `--repair` does about it; "" where nothing can be done
    level: str = (
        "warning"  #: "error": something recorded is changed or missing; "known": told before; else nothing is lost
    )
    key: str = ""  #: the same as long as it is the same thing
    what: Any = None  #: the repairer's own; printed nowhere


def text_of(data: Mapping[str, Any]) -> str:
    """Return the readable text of an entry's data."""
    for key in ("content", "command", "output", "text", "name"):
        value = data.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            parts = [p.get("text", "") if isinstance(p, Mapping) else str(p) for p in value]
            return "\n".join(p for p in parts if isinstance(p, str) and p)
        if isinstance(value, Mapping) and isinstance(value.get("text"), str):
            return str(value["text"])
    return ""


def title_from(text: str) -> str:
    """Return a title made of a message: its first line that says something, at most 72 characters."""
    line = next((part for part in text.splitlines() if part.strip()), "")
    title = " ".join("".join(c if c.isprintable() else " " for c in line[:400]).split())
    return title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 1].rstrip() + "…"


def parse_time(text: str | datetime) -> datetime:
    """
    Read an ISO 8601 time; one without a zone is taken as UTC.

    Raises:
        UsageError: not a time.
    """
    try:
        value = datetime.fromisoformat(text) if isinstance(text, str) else text
    except ValueError as error:
        raise UsageError(f"not an ISO 8601 time: {text!r}") from error
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def from_us(time_us: int) -> datetime:
    """Return a UTC datetime from microseconds since 1970."""
    return EPOCH + timedelta(microseconds=time_us)


def to_us(value: datetime) -> int:
    """Return microseconds since 1970 from an aware datetime."""
    delta = value - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def now_us() -> int:
    """Return the clock P8 runs on where no other is given."""
    return time.time_ns() // 1000


class IdMaker:
    """
    Makes session and checkpoint ids: `YYYYMMDD-HHMMSS-ffffff-xxxx`, UTC, sortable, never the same twice in a process.

    Args:
        clock: microseconds since 1970; a fixed one in tests.
        tail: returns four hexadecimal digits.
    """

    def __init__(
        self, clock: Callable[[], int] = now_us, tail: Callable[[], str] = lambda: os.urandom(2).hex()
    ) -> None:
        self._clock = clock
        self._tail = tail
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """Return the next id."""
        with self._lock:
            self._last = max(self._clock(), self._last + 1)
            moment = self._last
        seconds, micro = divmod(moment, 1_000_000)
        return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{micro:06d}-{self._tail()}"


def check_id(text: str) -> str:
    """
    Return `text` if it is shaped like an id of P8's, else refuse it.

    Raises:
        UsageError: anything else; ids become parts of file names, so nothing unchecked may pass.
    """
    if not isinstance(text, str) or not ID_PATTERN.fullmatch(text):
        raise UsageError(f"not a session id: {str(text)[:60]!r}", "ids look like 20261121-093000-123456-ab12")
    return text


def check_transition(current: Status, wanted: Status, session_id: str) -> None:
    """
    Allow a step of the transition table.

    Raises:
        InvalidTransition: any other step; the error names the legal ones.
    """
    if wanted not in TRANSITIONS[current]:
        legal = " or ".join(TRANSITIONS[current])
        raise InvalidTransition(
            f"session {session_id} is {current}: it cannot become {wanted}", f"from {current} it can become {legal}"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
