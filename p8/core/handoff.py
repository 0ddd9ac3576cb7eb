"""What another assistant, or a person, goes on from: goal, state, decisions, open ends, files, git, pointers (C5).

What can be known is gathered and never left to a model: git position, failing commands, unanswered questions, files.
Where there is an assistant it writes the summary above that. Refuses: to invent, and to hold up a way out: whatever
cannot be read now is left out and said to be.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p8.assistants.base import Assistant, Cancel
from p8.core.history import fresh
from p8.core.languages import is_generated
from p8.core.reality import place_now
from p8.core.sessions import SessionManager
from p8.core.turns import collect
from p8.errors import InvalidTransition, NotFound, P8Error, StoreError
from p8.model import ID_PATTERN, Entry, GitState, Kind, from_us, text_of
from p8.session import Session
from p8.workspace.since import Commit, FileChange, quietly

NEWEST = 600  #: entries looked at
MOST = 20  #: of each list are shown
LINE = 160
DECIDED = re.compile(
    r"\b(?:decided|decision|agreed|we(?:'ll| will) (?:use|go with|keep)|let's (?:use|go with|keep))\b", re.IGNORECASE
)
TASK = re.compile(r"^\s*(?:[-*]\s*\[ \]|(?:TODO|FIXME|XXX)\b:?)\s*(.+)$", re.MULTILINE)
DONE = re.compile(r"^\s*[-*]\s*\[[xX]\]\s*(.+)$", re.MULTILINE)
SUFFIXES = (
    "py|pyi|js|ts|tsx|jsx|go|rs|java|kt|c|h|cpp|hpp|cs|rb|php|sh|sql|md|rst|toml|yaml|yml|json|ini|cfg|html|css|txt"
)
FILE = re.compile(rf"(?<![\w/.-])(?:[\w.-]+/)*[\w-]+\.(?:{SUFFIXES})\b")
ASK = (
    "Write a handoff for whoever goes on with this work. Say in at most 200 words: the goal; what is done; what was "
    "decided and why; what is open. Only what the conversation says, in plain sentences, no greeting."
)
SUMMARY_CHARACTERS = 6000


class OpenEnd(NamedTuple):
    """Something that is not finished."""

    text: str
    seq: int  #: the entry it comes from; 0 where it comes from git or the plan


class Facts(NamedTuple):
    """What a handoff is made of."""

    session: str
    title: str
    goal: str
    model: str
    directory: str
    git: GitState
    commits: list[Commit]
    files: list[FileChange]
    mentioned: list[str]  #: files the conversation speaks of
    decisions: list[tuple[str, int]]
    open_ends: list[OpenEnd]
    checkpoints: list[tuple[str, int]]
    plan: list[str]
    last: list[tuple[str, str, int]]  #: who, what, entry
    messages: int
    missing: str  #: what could not be read


class Handoff(NamedTuple):
    """A handoff as it was written."""

    session: str
    text: str  #: Markdown
    path: Path
    by: str  #: the assistant that wrote the summary, or ""
    facts: Facts


class Note(NamedTuple):
    """A handoff that was written down."""

    id: str  #: SESSION-TIME, the time in hexadecimal microseconds
    session: str
    created_us: int
    title: str
    path: Path


class Notes:
    """
    The handoffs of a home.

    Args:
        home: P8's home.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "states"

    def all(self, session: str = "") -> list[Note]:
        """Return those of one session, or all; newest first."""
        found = [note for path in self._folder.glob("handoff-*.md") if (note := _note(path)) is not None]
        return sorted((one for one in found if session in {"", one.session}), key=lambda one: -one.created_us)

    def get(self, name: str) -> Note:
        """
        Return one by its id, its session's id (the newest), or `last`.

        Raises:
            NotFound: there is none.
        """
        found = [one for one in self.all() if name in {one.id, one.session, "last"}]
        if not found:
            raise NotFound(f"no handoff {name[:80]!r}", "p8 handoff list shows them")
        return found[0]

    def text(self, note: Note) -> str:
        """Return what it says. Raises StoreError."""
        try:
            return note.path.read_text("utf-8", "backslashreplace")
        except OSError as error:
            raise StoreError(f"{note.path} cannot be read: {error.strerror}", "its session has it, too") from error

    def purge(self, entries: Sequence[Entry]) -> list[str]:
        """Remove those of purged sessions, given their events; return what could not be removed."""
        left = []
        for note in self.all():
            if note.session in {entry.stream for entry in entries if entry.data.get("what") == "handoff"}:
                try:
                    note.path.unlink(missing_ok=True)
                except OSError as error:
                    left.append(f"{note.path.name}: {error.strerror}")
        return left


def _note(path: Path) -> Note | None:
    session, _, at = path.stem.removeprefix("handoff-").rpartition("-")
    if not ID_PATTERN.fullmatch(session) or not re.fullmatch("[0-9a-f]{1,16}", at):
        return None
    try:
        with path.open("rb") as file:
            first = file.readline(1000).decode("utf-8", "replace")
    except OSError:
        return None
    return Note(f"{session}-{at}", session, int(at, 16), first.removeprefix("# Handoff: ").strip(), path)


class Handoffs:
    """
    Writes handoffs of the current session.

    Args:
        sessions: whose current session.
        directory: returns where the work stands.
        plan: returns lines about the plan, where there is one.
        assistant: returns who could write the summary, or None.
        idle_timeout_s: how long it may say nothing.
    """

    def __init__(
        self,
        sessions: SessionManager,
        directory: Callable[[], Path],
        plan: Callable[[], list[str]] = list,
        assistant: Callable[[], Assistant | None] = lambda: None,
        idle_timeout_s: float = 60.0,
    ) -> None:
        self._sessions = sessions
        self._directory = directory
        self._plan = plan
        self._assistant = assistant
        self._idle_timeout_s = idle_timeout_s

    def write(
        self, reason: str = "asked", *, summarise: bool = False, to: str = "", cancel: Cancel | None = None
    ) -> Handoff:
        """
        Write a handoff of the current session: into the home, and as an entry of the session.

        Args:
            reason: why: "asked", "compaction", "emergency" or "completed".
            summarise: let the assistant write the summary; one that fails costs the summary and nothing else.
            to: for whom it is meant.
            cancel: set it to do without the summary.

        Raises:
            InvalidTransition: no session is current.
            StoreError: the disk refuses.
        """
        session = self._sessions.current
        if session is None:
            raise InvalidTransition("no session is active", "resume the one to hand over")
        facts = self.gather(session)
        summary, by = self._summary(facts, cancel or Cancel()) if summarise else ("", "")
        at = self._sessions.store.clock()
        text = render(facts, summary, by, at, to)
        path = self._sessions.store.home / "states" / f"handoff-{session.session_id}-{at:x}.md"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"the handoff cannot be written: {error.strerror}", str(path)) from error
        data = {"what": "handoff", "reason": reason, "text": text, "file": path.name, "by": by, "to": to}
        self._sessions.record(Kind.EVENT, data)
        self._sessions.save_session()
        return Handoff(session.session_id, text, path, by, facts)

    def _summary(self, facts: Facts, cancel: Cancel) -> tuple[str, str]:
        try:
            assistant = self._assistant()
            if assistant is None:
                return "", ""
            told = render(facts, "", "", self._sessions.store.clock(), "")
            talk = "\n".join(f"{who}: {what}" for who, what, _ in facts.last)
            asked = f"{ASK}\n\nThe facts:\n{told[:SUMMARY_CHARACTERS]}\n\nThe last of the conversation:\n{talk}"
            said = collect(
                self._sessions, assistant, [{"role": "user", "content": asked}], cancel, self._idle_timeout_s
            )
        except P8Error:
            return "", ""
        return said.strip()[:SUMMARY_CHARACTERS], assistant.name if said.strip() else ""

    # what is known

    def gather(self, session: Session) -> Facts:
        """Return what is known of a session. Never raises: what cannot be read is named in `missing`."""
        entries, missing = self._entries(session)
        directory = self._directory()
        about = session.metadata
        start = self._begun(session, entries)
        commits, files = quietly(directory, start) if start else ([], [])
        state = place_now(directory)
        if state.dirty and not files:
            files = [FileChange(path, 0, 0) for path in (*state.staged, *state.modified)]
            files += [FileChange(path, 0, 0, True) for path in state.untracked]
        files = [change for change in files if not is_generated(change.path)]
        state = state._replace(untracked=tuple(name for name in state.untracked if not is_generated(name)))
        messages = [e for e in entries if e.kind == Kind.MESSAGE]
        asked = [e for e in messages if e.role == "user"]
        goal = self._first(session) or (asked[0].text if asked else "")
        plan = self._plan()
        return Facts(
            session.session_id, str(about.get("title") or ""), goal, str(about.get("model") or ""), str(directory),
            state, commits, files, _mentioned(messages, files), _decisions(messages), open_ends(entries, state, plan),
            [(str(e.data.get("name", "")), e.seq) for e in entries if e.kind == Kind.CHECKPOINT][-MOST:], plan,
            [(e.role or "?", _line(e.text), e.seq) for e in messages if e.role in {"user", "assistant"}][-6:],
            len(messages), missing,
        )  # fmt: skip

    def _entries(self, session: Session) -> tuple[list[Entry], str]:
        kinds = (Kind.MESSAGE, Kind.EXECUTION, Kind.CHECKPOINT, Kind.SESSION)
        try:
            self._sessions.store.drain()
            return self._sessions.store.sessions.entries(session.session_id, kinds=kinds, limit=NEWEST, newest=True), ""
        except (StoreError, NotFound):
            now = self._sessions.store.clock()
            new = [Entry(session.session_id, 0, now, Kind.MESSAGE, m) for m in fresh(session.conversation_history)]
            runs = [Entry(session.session_id, 0, now, Kind.EXECUTION, data) for _, data in self._sessions.runs]
            return [*new, *runs], "the database was out of reach: only what this process recorded is here"

    def _first(self, session: Session) -> str:
        with contextlib.suppress(P8Error):
            found = self._sessions.store.sessions.entries(session.session_id, kinds=(Kind.MESSAGE,), limit=5)
            return next((e.text for e in found if e.role == "user"), "")
        return ""

    def _begun(self, session: Session, entries: Sequence[Entry]) -> str:
        """Return the commit at which the session began."""
        with contextlib.suppress(P8Error):
            first = self._sessions.store.sessions.entries(session.session_id, kinds=(Kind.SESSION,), limit=20)
            entries = [*first, *entries]
        for entry in entries:
            values = entry.data.get("set")
            if isinstance(values, dict) and isinstance(values.get("commit"), str) and values["commit"]:
                return str(values["commit"])
        return str(session.metadata.get("commit") or "")


def open_ends(entries: Sequence[Entry], state: GitState, plan: Sequence[str]) -> list[OpenEnd]:
    """
    Return what is not finished.

    Commands whose last run failed, a question without an answer, tasks nobody ticked off, work that is not committed or
    pushed, phases of the plan.
    """
    found: list[OpenEnd] = []
    last_runs: dict[str, Entry] = {}
    for entry in entries:
        if entry.kind == Kind.EXECUTION:
            last_runs[" ".join(str(entry.data.get("command", "")).split())] = entry
    for command, entry in last_runs.items():
        code = entry.data.get("exit_code")
        if isinstance(code, int) and code != 0:
            tail = _line(str(entry.data.get("output", "")).strip().rpartition("\n")[2])
            found.append(OpenEnd(f"`{_line(command)}` failed (exit {code}){f': {tail}' if tail else ''}", entry.seq))
    messages = [e for e in entries if e.kind == Kind.MESSAGE]
    spoken = [e for e in messages if e.role in {"user", "assistant"}]
    if spoken and (spoken[-1].role == "user" or "error" in spoken[-1].data or spoken[-1].data.get("cancelled")):
        asked = next((e for e in reversed(spoken) if e.role == "user"), spoken[-1])
        found.append(OpenEnd(f"not answered: {_line(asked.text)}", asked.seq))
    ticked = {_line(m).casefold() for e in messages for m in DONE.findall(e.text)}
    tasks = {_line(m): e.seq for e in messages for m in TASK.findall(e.text) if _line(m).casefold() not in ticked}
    found += [OpenEnd(task, seq) for task, seq in [*tasks.items()][-MOST:]]
    dirty = len(state.staged) + len(state.modified) + len(state.conflicted)
    if dirty or state.untracked:
        found.append(OpenEnd(f"not committed: {dirty} changed, {len(state.untracked)} untracked", 0))
    if state.ahead:
        found.append(OpenEnd(f"{state.ahead} commits not pushed to {state.upstream}", 0))
    found += [OpenEnd(line, 0) for line in plan if line.startswith("open: ")]
    return found


def _decisions(messages: Sequence[Entry]) -> list[tuple[str, int]]:
    """Return sentences in which something was settled."""
    found: dict[str, int] = {}
    for entry in messages:
        if entry.role in {"user", "assistant"} and DECIDED.search(entry.text):
            for sentence in re.split(r"(?<=[.!?])\s+|\n", entry.text):
                if DECIDED.search(sentence):
                    found[_line(sentence)] = entry.seq
    return [*found.items()][-MOST:]


def _mentioned(messages: Sequence[Entry], files: Sequence[FileChange]) -> list[str]:
    changed = {change.path for change in files}
    names = {name for entry in messages for name in FILE.findall(entry.text[:20_000])}
    return sorted(names - changed)[:MOST]


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LINE else f"{text[: LINE - 1]}…"


def render(facts: Facts, summary: str, by: str, at_us: int, to: str) -> str:
    """Return the document, Markdown."""
    out = [f"# Handoff: {facts.title or 'untitled'}", ""]
    model = f", {facts.model}" if facts.model else ""
    when = f"{from_us(at_us):%Y-%m-%d %H:%M} UTC"
    out.append(f"Written {when} by P8 from session {facts.session} ({facts.messages} messages{model}).")
    if to:
        out.append(f"For {to}.")
    if facts.missing:
        out.append(f"Incomplete: {facts.missing}.")
    if summary:
        out += ["", f"## Summary, by {by}", "", summary]
    out += ["", "## Goal", "", facts.goal.strip()[:2000] or "Not said."]
    out += _section(
        "State",
        [*_git_lines(facts), *facts.plan, *(f"{who} said: {what} [entry {seq}]" for who, what, seq in facts.last[-2:])],
    )
    out += _section(
        "Decisions", [f"{text} [entry {seq}]" for text, seq in facts.decisions], "None were found in the words."
    )
    ends = [end.text + (f" [entry {end.seq}]" if end.seq else "") for end in facts.open_ends]
    out += _section("Open ends", ends, "None known.")
    touched = [_file_line(change) for change in facts.files[:MOST]]
    more = len(facts.files) - MOST
    out += _section("Files touched", [*touched, *([f"and {more} more"] if more > 0 else [])], "None.")
    if facts.mentioned:
        out += _section("Files spoken of", [_code(name) for name in facts.mentioned])
    out += _section("Pointers", [
        f"the whole conversation: `p8 session show {facts.session}`, go on with `p8 -r {facts.session}`",
        f"search in it: `p8 search --session {facts.session} WORDS`",
        *(f"checkpoint {name!r} [entry {seq}]" for name, seq in facts.checkpoints),
    ])  # fmt: skip
    return "\n".join(out).replace("\n\n\n", "\n\n") + "\n"


def _section(name: str, lines: Sequence[str], empty: str = "") -> list[str]:
    return ["", f"## {name}", "", *([f"- {line}" for line in lines] or [empty])]


def _git_lines(facts: Facts) -> list[str]:
    state = facts.git
    lines = [f"directory {_code(facts.directory)}"]
    if not (state.branch or state.commit):
        return [*lines, "no git repository"]
    ahead = f", {state.ahead} ahead and {state.behind} behind {state.upstream}" if state.upstream else ""
    lines.append(
        f"branch {_code(state.branch) if state.branch else '(detached)'} at {state.commit[:10] or 'no commit'}{ahead}"
    )
    lines += [f"commit {commit.id[:10]} {_line(commit.subject)}" for commit in facts.commits[:MOST]]
    if state.stashes:
        lines.append(f"{state.stashes} stashes")
    return lines


def _file_line(change: FileChange) -> str:
    counted = f" (+{change.added} -{change.removed})" if change.added or change.removed else ""
    return f"{_code(change.path)}{counted}{', untracked' if change.untracked else ''}"


def _code(name: str) -> str:
    """Return a name as Markdown leaves it alone, underscores and all."""
    return f"`` {name} ``" if "`" in name else f"`{name}`"


def as_message(note: Handoff) -> dict[str, Any]:
    """Return the message with which the next session begins."""
    return {"role": "system", "content": note.text, "source": "files", "handoff_from": note.session}


def latest(entries: Sequence[Entry]) -> str:
    """Return the text of the newest handoff among entries, or ""."""
    return next((text_of(e.data) for e in reversed(entries) if e.data.get("what") == "handoff"), "")
