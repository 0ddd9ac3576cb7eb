"""The shapes of what goes in and out of the API: the OpenAPI document is made of them, requests are held to them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_ID = r"[0-9]{8}-[0-9]{6}-[0-9]{6}-[0-9a-f]{4}(~[A-Za-z0-9_-]{1,40})?"
ID = f"^{_ID}$"
HANDOFF = f"^{_ID}-[0-9a-f]{{1,16}}$"
PLACE = rf"^$|^({_ID}:)?[0-9]{{1,9}}$"
CURSOR = r"^[0-9]{1,18}\.[0-9]{1,10}$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


def _whole(value: Any) -> Any:
    """Return 3 for 3.0: to JSON Schema both are integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]


class Given(BaseModel):
    """What a client gives: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Told(BaseModel):
    """What a client is told."""

    model_config = ConfigDict(extra="allow")


class Problem(Told):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    hint: str = ""


class SessionShape(Told):
    """A session as lists show it."""

    id: str
    title: str
    title_source: Literal["", "auto", "manual"]
    project: str
    project_name: str
    status: Literal["active", "paused", "completed", "abandoned"]
    created: str
    last: str
    ended: str | None
    trashed: str | None
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
    tags: list[str]
    parent: str | None
    fork_seq: int | None
    entries: int
    meta: dict[str, Any]


class SessionDetail(SessionShape):
    """A session with its forks."""

    forks: list[str]


class SessionPage(Told):
    """Sessions, and what to give as `after` for those behind them."""

    items: list[SessionShape]
    next: str | None


class EntryShape(Told):
    """One thing that happened in a session. Beside these, an entry has the fields of its kind."""

    stream: str
    seq: int
    time: str
    kind: str


class EntryPage(Told):
    """Entries, oldest first, and what to give as `before` for those before them."""

    items: list[EntryShape]
    next: str | None


class HitShape(Told):
    """A place where words were found; `marks` are [start, end) in `snippet`."""

    session: str
    title: str
    project: str
    seq: int
    time: str
    kind: str
    role: str
    snippet: str
    marks: list[list[int]]
    score: float


class CheckpointShape(Told):
    """A place to come back to."""

    id: str
    session: str
    seq: int
    name: str
    created: str
    git: dict[str, Any]


class PlanShape(Told):
    """What a restore would do. Give `plan` back to have it done."""

    plan: str
    target: str
    safety: str
    actions: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


class RestoredShape(Told):
    """What a restore did, or the taking back of one."""

    safety: str
    changed: list[str]
    skipped: list[dict[str, Any]]


class HandoffShape(Told):
    """A handoff that was written."""

    id: str
    session: str
    title: str
    created: str


class HandoffText(HandoffShape):
    """A handoff with what it says, Markdown."""

    text: str


class ActionDone(Told):
    """What came of an action: the session it is recorded in, and each line with its exit code and output."""

    session: str
    exit_code: int
    runs: list[dict[str, Any]]


class DiffShape(Told):
    """What differs between a checkpoint and another one, or now."""

    git: list[str]
    files: list[dict[str, Any]]


class EventShape(Told):
    """One thing that happened anywhere, and the cursor behind it."""

    cursor: str
    stream: str
    seq: int
    time: str
    kind: str
    data: dict[str, Any]


class EventPage(Told):
    """Events, oldest first, and the cursor behind the last of them."""

    items: list[EventShape]
    next: str


class InstanceShape(Told):
    """An instance."""

    id: str
    status: str


class UsageShape(Told):
    """What an instance uses."""

    id: str


class HealthShape(Told):
    """How an instance was found."""

    id: str
    healthy: bool
    reasons: list[str]


class Overall(Told):
    """How all is."""

    status: Literal["ok", "trouble"]
    problem: str
    instances: list[HealthShape]


class About(Told):
    """What is served."""

    version: str
    project: str
    directory: str
    offers: list[str]


class LogShape(Told):
    """Lines that an instance printed, oldest first."""

    log: list[str]


class Anything(Told):
    """What the command of this name tells with --json."""


class SessionsQuery(Given):
    """Which sessions."""

    q: str = Field("", max_length=200, description="words in title, project, branch or tags")
    project: str = Field("", max_length=100, description="only of this project")
    tag: str = Field("", max_length=100)
    sort: Literal["recent", "created", "size", "title"] = "recent"
    archived: bool = False
    trash: bool = False
    limit: int = Field(50, ge=1, le=500)
    after: str = Field("", pattern=f"^$|{ID}", description="`next` of the page before")


class EntriesQuery(Given):
    """Which entries."""

    limit: int = Field(100, ge=1, le=500)
    before: str = Field("", pattern=PLACE, description="`next` of the page before: a number, or SESSION:NUMBER")


class SearchQuery(Given):
    """What to find."""

    q: str = Field(min_length=1, max_length=400)
    session: str = Field("", pattern=f"^$|{ID}")
    limit: int = Field(20, ge=1, le=200)


class CheckpointsQuery(Given):
    """Of which session."""

    session: str = Field("", pattern=f"^$|{ID}")


class DiffQuery(Given):
    """With what to compare."""

    to: str = Field("", pattern=f"^$|{ID}", description="a checkpoint; now where none is given")
    patch: bool = Field(False, description="with what changed in the files")


class EventsQuery(Given):
    """Which events."""

    after: str = Field("0.0", pattern=CURSOR)
    newest: bool = Field(False, description="the newest `limit` of all, instead of those after a cursor")
    session: str = Field("", pattern=f"^$|{ID}")
    limit: int = Field(100, ge=1, le=500)


class InstancesQuery(Given):
    """Which instances."""

    status: Literal["all", "up", "initializing", "running", "paused", "stopped", "error", "health"] = "all"


class LogQuery(Given):
    """How much of the log."""

    tail: int = Field(50, ge=0, le=5000)


class ForceQuery(Given):
    """How to stop."""

    force: bool = False


class MetricsQuery(Given):
    """Of what."""

    session: str = Field("", pattern=f"^$|{ID}")
    days: int = Field(14, ge=1, le=3650)


class HandoffsQuery(Given):
    """Of which session."""

    session: str = Field("", pattern=f"^$|{ID}")


class ActionsQuery(Given):
    """Of which project."""

    project: str = Field("", pattern=f"^$|{NAME}", description="that of the server's directory where none is given")


class ProjectsQuery(Given):
    """Which projects."""

    prefix: str = Field("", max_length=60)
    tag: str = Field("", max_length=100)
    trash: bool = False


class Nothing(Given):
    """An empty object."""


class SessionChange(Given):
    """What is to be different about a session."""

    title: str | None = Field(None, min_length=1, max_length=500)
    pinned: bool | None = None
    archived: bool | None = None
    add_tags: list[str] = Field([], max_length=20)
    remove_tags: list[str] = Field([], max_length=20)


class RestoreAsked(Given):
    """A restore: without `plan` it is only planned; with the plan's id it is done, if the plan is still the same."""

    plan: str = Field("", pattern=r"^$|^[0-9a-f]{64}$")
    everything: bool = False
    path: str = Field("", max_length=1000)


class InstanceAsked(Given):
    """An instance to start."""

    project: str = Field(".", max_length=1000, description="a project's name or directory")
    mode: str = Field("shell", pattern=NAME)
    id: str = Field("", pattern=f"^$|{NAME}")
    template: str = Field("", pattern=f"^$|{NAME}")


class InstanceChange(Given):
    """A setting of an instance, by its dotted name."""

    key: str = Field(pattern=r"^[a-z_]+(\.[a-z_]+)*$", max_length=100)
    value: str = Field(max_length=1000)


class ProjectAsked(Given):
    """A project to make."""

    prefix: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")
    name: str = Field("", max_length=100)
    description: str = Field("", max_length=1000)


class ExtendAsked(Given):
    """For how long."""

    days: Whole = Field(0, ge=0, le=3650)


class ActionAsked(Given):
    """An action's parameters."""

    values: dict[str, str] = {}
    project: str = Field("", pattern=f"^$|{NAME}", description="that of the server's directory where none is given")


class ActionToDo(ActionAsked):
    """An action to do: in a session that is not open, or in one of its own."""

    session: str = Field("", pattern=f"^$|{ID}", description="recorded there, in its directory")
    trust: bool = Field(False, description="agree to the project's own actions as they are now")


class CheckpointAsked(Given):
    """A checkpoint to make."""

    name: str = Field("", max_length=200)


class ForkAsked(Given):
    """From where to fork."""

    at: Whole = Field(0, ge=0, le=1_000_000_000, description="the last entry to keep; 0 for all")


class HandoffAsked(Given):
    """A handoff to write, of a session that is not open."""

    session: str = Field(pattern=ID)
    summary: bool = Field(False, description="with a summary by the session's assistant")


class SessionAsked(Given):
    """A session to begin."""

    title: str = Field("", max_length=500)


class Say(Given):
    """Over the stream of a session: a message to be recorded there, and answered."""

    say: str = Field(min_length=1, max_length=60_000)
    id: str = Field("", max_length=100, description="chosen by the client: what comes again with it is not said twice")
    take_over: bool = Field(False, description="take the session from another p8 that has it open")


class Stop(Given):
    """Over the stream of a session: end the answer that is coming."""

    stop: Literal[True]


class Answered(Given):
    """Over the stream of a session: the answer to what an agent asks."""

    answer: Literal["once", "always", "no", "never", "cancel"]
    question: str = Field(max_length=200)


class Login(Given):
    """A login link's code."""

    code: str = Field(min_length=1, max_length=100)
