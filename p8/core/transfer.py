"""Brings conversations of other tools in: finds them, says what is new, and records them as sessions like any other.

What was imported before is known again by tool and the tool's id, and entry by entry by a digest of who said what:
importing twice adds nothing. One that has grown since gets its new part appended; where the session was gone on with
here, or is open, or what was said before has changed over there, the new part becomes a fork at the last common entry.
One in the trash stays there. Refuses: to write to anything of the other tools'.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from p8.config import inherited
from p8.core.projects import Projects
from p8.core.sessions import SessionManager
from p8.errors import Conflict, FormatError, Held, P8Error, StoreError, UsageError
from p8.events import Change
from p8.formats.foreign import Conversation, Format, Item, walk
from p8.model import Entry, IdMaker, Kind, SessionRow, Status, from_us, title_from
from p8.session import ExecutionHistory
from p8.workspace import git

FORMATS = ("claude", "codex", "gemini", "llm_logs", "aider", "opencode")
#: variables that say where the tools keep what they keep
HOMES = ("HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "LLM_USER_PATH", "XDG_DATA_HOME")
BRIEF = ("id", "title", "kind", "status")  #: what a message says of its tools; the whole is in their parts
SAID = (Kind.MESSAGE, Kind.COMMAND, Kind.EXECUTION)
DRAIN_ENTRIES = 20_000  #: recorded entries after which the database catches up
QUIET_S = 1.0  #: what is done sooner shows no progress
REDRAW_S = 0.1
INDEX_S = 60.0  #: at most so long is spent on making an import searchable at once
INDEX_STEP_S = 1.0
Progress = Callable[[float, str], None]


class Found(NamedTuple):
    """Something that can be imported."""

    tool: str  #: NAME of its format
    path: Path


class Outcome(NamedTuple):
    """What came, or would come, of one conversation."""

    tool: str
    id: str  #: the tool's own
    title: str
    directory: str
    model: str
    started_us: int
    ended_us: int
    entries: int
    added: int  #: of these, new here
    state: str  #: new, grown (appended), forked, known, trash or empty
    bad: int  #: records that could not be read
    session: str  #: its session here, "" where there is none (yet)
    source: str
    more: dict[str, Any]  #: what the format says of it: version, what was left out and how much


class Report(NamedTuple):
    """What came of an import, or would."""

    outcomes: list[Outcome]
    problems: list[tuple[str, str]]  #: files that could not be read, and why


class _Plan(NamedTuple):
    """What is to be done about a conversation."""

    state: str
    row: SessionRow | None = None
    known: int = 0  #: items that are here already
    at: Entry | None = None  #: the entry after which it goes on


class Transfer:
    """
    Imports.

    Args:
        sessions: where conversations become sessions.
        projects: what they belong to.
        directory: where the person stands.
    """

    def __init__(self, sessions: SessionManager, projects: Projects, directory: Callable[[], Path]) -> None:
        self._sessions = sessions
        self._store = sessions.store
        self._projects = projects
        self._directory = directory
        self._places: dict[str, tuple[str, str]] = {}
        self._known: dict[tuple[str, str], SessionRow] = {}
        self._done: dict[tuple[str, str], tuple[str, str]] = {}  #: in this run: digest and session
        self._recorded = 0

    # finding

    def scan(self) -> list[Found]:
        """Return what the tools have in their usual places, and in the directories of known projects."""
        folders = [self._directory()]
        with contextlib.suppress(StoreError):
            folders += [Path(row["root"]) for row in self._store.projects.all() if row["root"]]
        here = git.find(folders[0])
        if here is not None:
            folders.append(here.root)
        env = {"HOME": str(Path.home()), **inherited(HOMES)}
        found: dict[Found, None] = {}
        for one in formats():
            for place in one.places(env, list(dict.fromkeys(folders))):
                found |= dict.fromkeys(self._below(place.expanduser(), (one,)))
        return list(found)

    def detect(self, path: Path) -> list[Found]:
        """
        Return what can be imported of a file, or of anything below a folder.

        Raises:
            UsageError: it does not exist, or belongs to P8 itself.
            FormatError: nothing there is known.
        """
        path = self._directory() / path.expanduser()
        if not path.exists():
            raise UsageError(f"{path} does not exist")
        if self._is_ours(path):
            raise UsageError(f"{path} is P8's own")
        if path.is_dir():
            found = list(dict.fromkeys(self._below(path, formats())))
        else:
            found = [Found(one.NAME, path) for one in formats() if one.detect(path)][:1]
        if not found:
            titles = ", ".join(one.TITLE for one in formats())
            raise FormatError(f"nothing in {path} can be imported", f"P8 knows the conversations of {titles}")
        return found

    def _below(self, place: Path, among: Sequence[Format]) -> Iterator[Found]:
        if place.is_dir():
            for file in walk(place):
                one = next((one for one in among if not self._is_ours(file) and one.detect(file)), None)
                if one is not None:
                    yield Found(one.NAME, one.source_of(file))
        elif place.is_file() and not self._is_ours(place):
            yield from (Found(one.NAME, place) for one in among if one.detect(place))

    def _is_ours(self, path: Path) -> bool:
        """Return whether a path is in P8's home: opening its database by hand would drop SQLite's locks on it."""
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._store.home))

    # taking in

    def preview(self, found: Iterable[Found], progress: Progress = lambda _fraction, _text: None) -> Report:
        """
        Say what importing would do; nothing is written.

        Raises:
            StoreError: the database is out of reach.
        """
        return self._go_through(found, progress, write=False)

    def run(self, found: Iterable[Found], progress: Progress = lambda _fraction, _text: None) -> Report:
        """
        Import. When this returns, what was imported survives a power cut. Broken off, it is completed by the next one.

        Raises:
            StoreError: the disk or the database refuses.
            Conflict: another process is importing.
        """
        self._store.start()
        with self._alone():
            try:
                report = self._go_through(found, progress, write=True)
                self._store.save()
            finally:
                self._store.drain(30.0)
        self._index(progress)
        return report

    def _index(self, progress: Progress) -> None:
        """Make what was imported searchable; of very much, the rest comes in the background."""
        began, shown = time.monotonic(), False
        while (at := time.monotonic()) < began + INDEX_S:
            self._store.keeper.index_for(INDEX_STEP_S)
            if time.monotonic() < at + INDEX_STEP_S:
                break
            shown = True
            progress(0.99, "making it searchable")
        if shown:
            progress(1.0, "")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = os.open(self._store.home / "states" / "import.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Conflict("another p8 is importing", "wait until it is done") from None
        finally:
            os.close(lock)

    def _go_through(self, found: Iterable[Found], progress: Progress, *, write: bool) -> Report:
        self._store.drain()
        self._known, self._done = self._store.sessions.imported(), {}
        report = Report([], [])
        by_name = {one.NAME: one for one in formats()}
        sources = list(found)
        bar = _Bar(progress, [_size(source.path) for source in sources])
        try:
            for source in sources:
                bar.begin(source.path)
                try:
                    for conversation in by_name[source.tool].read(source.path):
                        report.outcomes.append(self._take(conversation, write=write))
                        bar.show()
                except (FormatError, OSError) as error:
                    report.problems.append((git.shown(str(source.path)), str(error)))
                bar.end()
        finally:
            bar.finish()
        return report

    def _take(self, conversation: Conversation, *, write: bool) -> Outcome:
        c, keys = conversation, [item.key for item in conversation.items]
        plan = self._plan(c, keys)
        added = 0 if plan.state in {"known", "trash", "empty"} else len(keys) - plan.known
        session = plan.row.id if plan.row is not None else self._done.get((c.tool, c.id), ("", ""))[1]
        if write and added:
            session = self._write(c, keys, plan)
        if added:
            self._done[c.tool, c.id] = _digest(keys), session
        title = c.title or title_from(next((item.content for item in c.items if item.role == "user"), ""))
        return Outcome(
            c.tool, c.id, title_from(title), c.directory, c.model, c.started_us, c.ended_us, len(keys), added,
            plan.state, c.bad, session, c.source, c.more,
        )  # fmt: skip

    # what is new

    def _plan(self, conversation: Conversation, keys: list[str]) -> _Plan:
        if not any(item.role in {"user", "assistant"} or item.kind != "message" for item in conversation.items):
            return _Plan("empty")
        name = conversation.tool, conversation.id
        if name in self._done and self._done[name][0] != _digest(keys):  # more of it in another file
            self._store.drain(30.0)
            self._known = self._store.sessions.imported()
        elif name in self._done:
            return _Plan("known", self._known.get(name))
        row = self._known.get(name)
        if row is None:
            return _Plan("new")
        if row.trashed_us is not None:
            return _Plan("trash", row)
        if row.meta["imported"].get("digest") == _digest(keys):
            return _Plan("known", row)
        entries = self._store.sessions.entries(row.id, kinds=SAID)
        here = [entry for entry in entries if isinstance(entry.data.get("foreign"), str)]
        common = next(
            (n for n, entry in enumerate(here) if n >= len(keys) or entry.data["foreign"] != keys[n]), len(here)
        )
        if common == len(keys):
            return _Plan("known", row)
        if common == 0 and here:
            return _Plan("new")
        last = here[common - 1] if common else None
        untouched = common == len(here) == len(entries) and row.status is not Status.ACTIVE
        current = self._sessions.current
        if untouched and not (current is not None and current.session_id == row.id):
            return _Plan("grown", row, common, last)
        return _Plan("forked", row, common, last)

    # writing

    def _write(self, conversation: Conversation, keys: list[str], plan: _Plan) -> str:
        """Record what is new of a conversation; return its session."""
        stream = ""
        if plan.state == "grown" and plan.row is not None:
            stream = self._go_on(plan.row)
        if not stream:
            stream = self._begin(conversation, plan)
        for number, (item, key) in enumerate(zip(conversation.items, keys, strict=True)):
            if number >= plan.known:
                turn = f"{number:x}-{key}"
                for part in parts_of(item, conversation.tool, turn):
                    self._record(stream, Kind.PART, part, item.time_us)
                kind, data = entry_of(item, conversation.tool, turn)
                self._record(stream, kind, {**data, "foreign": key}, item.time_us)
        changes: dict[str, Any] = {
            "imported": _about(conversation) | {"digest": _digest(keys), "entries": len(keys)},
            "ended": conversation.ended_us,
        }
        row = plan.row
        ours = row is not None and row.title_source == "auto" and row.title == row.meta["imported"].get("title")
        if plan.state == "grown" and ours and conversation.title:
            changes |= {"title": title_from(conversation.title), "title_source": "auto"}
        released = {"lease": "released", "owner": self._store.leases.me.owner}
        data = {"what": "imported", "set": changes, **released}
        seq, at = self._record(stream, Kind.SESSION, data)
        self._store.journal.forget(stream)
        self._store.leases.release(stream)
        self._store.bus.publish(Change(Kind.SESSION, "imported", stream, seq, at, data))
        return stream

    def _go_on(self, row: SessionRow) -> str:
        """Hold a session to append to it; return nothing where it is not to be had."""
        try:
            self._store.leases.acquire(row.id)
        except Held:
            return ""
        self._store.drain()
        self._store.journal.adopt(row.id, *self._store.sessions.head(row.id))
        return row.id

    def _begin(self, conversation: Conversation, plan: _Plan) -> str:
        """Begin the session of a conversation, or the fork that holds what is new of it."""
        c = conversation
        began = c.items[plan.known].time_us if plan.at is not None else c.started_us
        stream = self._new_id(began)
        project, name = self._project(c)
        title, source = title_from(c.title), "manual" if c.named else "auto"
        values: dict[str, Any] = {
            "project": project, "project_name": name, "directory": git.shown(c.directory), "branch": c.branch,
            "commit": c.commit, "model": c.model, "status": "completed", "ended": c.ended_us, "tags": [c.tool],
            "title": title, "title_source": source if title else "", "imported": _about(c),
        }  # fmt: skip
        if plan.at is None or plan.row is None:
            self._record(stream, Kind.SESSION, {"what": "started", "set": values}, began)
            return stream
        head = self._store.sessions.hash_at(plan.at.stream, plan.at.seq)
        self._store.journal.adopt(stream, 0, head)
        values |= {"parent": plan.at.stream, "fork_seq": plan.at.seq}
        if not c.named:
            values |= {"title": f"↳ {plan.row.title}", "title_source": "auto"}
        data = {"what": "forked", "chained_to": f"{head:016x}", "set": values}
        self._record(stream, Kind.SESSION, data, began)
        return stream

    def _new_id(self, began_us: int) -> str:
        while True:
            made = IdMaker(lambda: began_us)()
            if self._store.sessions.head(made) == (0, 0) and self._store.journal.position(made)[0] == 0:
                return made

    def _record(self, stream: str, kind: str, data: dict[str, Any], time_us: int | None = None) -> tuple[int, int]:
        seq, at = self._store.record(stream, kind, data, time_us)
        self._recorded += 1
        if self._recorded % DRAIN_ENTRIES == 0:
            self._store.drain(30.0)
        return seq, at

    def _project(self, conversation: Conversation) -> tuple[str, str]:
        """Return id and name of the project that a conversation took place in; no id where no directory is known."""
        directory = conversation.directory
        if not directory:
            title = next(one.TITLE for one in formats() if conversation.tool == one.NAME)
            return "", title
        if directory not in self._places:
            try:
                project = self._projects.of_directory(Path(directory), mark=False)
                self._places[directory] = project.id, project.name
            except (OSError, ValueError, P8Error):
                self._places[directory] = "", Path(directory).name[:200]
        return self._places[directory]


class _Bar:
    """Tells how far an import has come, once it has lasted a second."""

    def __init__(self, progress: Progress, sizes: list[int]) -> None:
        self._progress = progress
        self._sizes = sizes
        self._total = max(sum(sizes), 1)
        self._done = 0
        self._text = ""
        self._count = 0
        self._next = time.monotonic() + QUIET_S
        self._shown = False

    def begin(self, path: Path) -> None:
        """Say what is read now."""
        self._text = path.name
        self.show(0)

    def show(self, more: int = 1) -> None:
        """Count what was read, and draw if it is time to."""
        self._count += more
        if time.monotonic() >= self._next:
            self._shown = True
            self._next = time.monotonic() + REDRAW_S
            self._progress(min(self._done / self._total, 0.99), f"{self._count} conversations, {self._text}")

    def end(self) -> None:
        """Say that a source is done."""
        self._done += self._sizes.pop(0)

    def finish(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._progress(1.0, "")


def formats() -> list[Format]:
    """Return the formats of other tools."""
    return [import_module(f"p8.formats.{name}") for name in FORMATS]


def parts_of(item: Item, tool: str, turn: str) -> list[dict[str, Any]]:
    """Return the data of the parts of an answer: its tool calls, as `core/parts.py` records those of agents."""
    return [
        {"part": "tool", "turn": turn, "agent": tool, **call, "content": [{"text": call["content"]}]}
        for call in item.tools
    ]


def entry_of(item: Item, tool: str, turn: str) -> tuple[str, dict[str, Any]]:
    """Return kind and data of the entry that a foreign item becomes; its parts go before it."""
    kept: dict[str, Any] = {"foreign_id": item.id} if item.id else {}
    if item.kind == "command":
        return Kind.COMMAND, {"command": item.content, **item.more, **kept}
    if item.kind == "execution":
        output = str(item.more.get("output", ""))
        run = ExecutionHistory(item.content, from_us(item.time_us), output=output, metadata={"imported": tool})
        return Kind.EXECUTION, run.to_dict() | kept
    known: dict[str, Any] = {
        "model": item.model, "tokens_in": item.tokens_in, "tokens_out": item.tokens_out, "cost": item.cost,
        "thought": item.thought,
    }  # fmt: skip
    data: dict[str, Any] = {"role": item.role, "content": item.content}
    data |= {name: value for name, value in known.items() if value}
    if item.tools:
        data |= {"turn": turn, "tools": [{name: call[name] for name in BRIEF} for call in item.tools]}
    return Kind.MESSAGE, data | item.more | kept


def _about(conversation: Conversation) -> dict[str, Any]:
    """Return what is kept of where a session came from."""
    c = conversation
    return {
        "tool": c.tool, "id": c.id, "source": git.shown(c.source), "title": title_from(c.title),
        "started": from_us(c.started_us).isoformat(), "ended": from_us(c.ended_us).isoformat(), "bad": c.bad, **c.more,
    }  # fmt: skip


def _digest(keys: list[str]) -> str:
    return hashlib.blake2b("\n".join(keys).encode(), digest_size=16).hexdigest()


def _size(path: Path) -> int:
    try:
        return sum(file.stat().st_size for file in walk(path, 3)) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0
