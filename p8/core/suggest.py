"""Suggestions for the session at hand: what was recorded, read once, kept up with, and how things stand now (row C8).

Reading and asking git take time, so they are done by `refresh`, away from the prompt; `latest` costs nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p8.core.actions import MISSING, Book, signals_of
from p8.core.habits import SAID, Habits, Lines, Step, Suggestion
from p8.core.reality import place_now
from p8.core.sessions import SessionManager
from p8.errors import P8Error
from p8.events import Change
from p8.model import Entry, Kind, SessionRow

SESSIONS = 80  #: newest sessions are learnt from
ENTRIES = 150  #: newest entries of each
ALL_ENTRIES = 4000
KINDS = (Kind.MESSAGE, Kind.COMMAND, Kind.EXECUTION)
SHOWN = 3
DIALOGUES = ("/session", "/sess", "/resume", "/quit", "/exit", "/q", "/help", "/do", "/action", "/rewind", "/project")


class Suggestions:
    """
    Knows what may come next.

    Args:
        sessions: whose current session; changes are heard on its bus.
        book: returns the actions at hand.
        directory: where the person stands.
        project: returns the id of the project, or "" where it is not known yet.
        budget: returns which part of the context is used, 0 to 1, or None where it is not known.
        checkpoint_us: returns when the newest checkpoint of the session was made, or None.
    """

    def __init__(
        self,
        sessions: SessionManager,
        book: Callable[[], Book],
        directory: Callable[[], Path],
        project: Callable[[], str],
        budget: Callable[[], float | None] = lambda: None,
        checkpoint_us: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._sessions = sessions
        self._book = book
        self._directory = directory
        self._project = project
        self._budget = budget
        self._checkpoint_us = checkpoint_us
        self._lock = threading.Lock()
        self._learnt: tuple[Book, Habits, Lines] | None = None
        self._trail: dict[str, list[Step]] = {}  #: by session, what was done in it, oldest first
        self._upto: dict[str, int] = {}  #: by session, the last entry taken in
        self._heard: deque[Change] = deque(maxlen=ALL_ENTRIES)
        self.latest: tuple[Suggestion, ...] = ()
        sessions.bus.subscribe(self._hear)

    def _hear(self, change: Change) -> None:
        if change.kind in KINDS and change.seq:
            self._heard.append(change)

    # learning

    def habits(self) -> Habits:
        """Return what was learnt, brought up to now. Raises StoreError where the database is out of reach."""
        with self._lock:
            return self._ready()[1]

    def _ready(self) -> tuple[Book, Habits, Lines]:
        book = self._book()
        if self._learnt is None or self._learnt[0] is not book:
            self._learnt = self._learn(book)
        _, habits, lines = self._learnt
        while self._heard:
            change = self._heard.popleft()
            entry = Entry(change.stream, change.seq, change.time_us, change.kind, change.data)
            lines.count([entry.text] if change.kind == Kind.COMMAND else ())
            self._take(habits, lines, entry, self._project())
        return self._learnt

    def _learn(self, book: Book) -> tuple[Book, Habits, Lines]:
        habits, lines = Habits({a.name: a.when for a in book.all()}), Lines(book.named)
        self._trail.clear()
        self._upto.clear()
        table = self._sessions.store.sessions
        read: list[tuple[SessionRow, list[Entry]]] = []
        left = ALL_ENTRIES
        for row in table.page(limit=SESSIONS):
            found = table.entries(row.id, kinds=KINDS, limit=min(ENTRIES, left), newest=True) if left else []
            own = [entry for entry in found if entry.stream == row.id]
            left -= len(own)
            read.append((row, own))
        lines.count(entry.text for _, own in read for entry in own if entry.kind == Kind.COMMAND)
        for row, own in sorted(read, key=lambda item: item[0].last_us):
            for entry in own:
                self._take(habits, lines, entry, row.project)
        return book, habits, lines

    def _take(self, habits: Habits, lines: Lines, entry: Entry, project: str) -> None:
        """Learn from an entry; an execution tells how the step before it ended."""
        if entry.seq <= self._upto.get(entry.stream, 0):
            return
        self._upto[entry.stream] = entry.seq
        trail = self._trail.setdefault(entry.stream, [])
        if entry.kind == Kind.EXECUTION:
            if trail and trail[-1].name != SAID:
                code = entry.data.get("exit_code")
                failed = bool(code) or bool(trail[-1].failed)  # of an action's lines, one that failed is enough
                if failed and not trail[-1].failed:
                    habits.failed(trail[-1].name)
                trail[-1] = trail[-1]._replace(failed=failed if isinstance(code, int) else None)
            return
        if entry.kind == Kind.MESSAGE:
            name = SAID if entry.role == "user" and (not trail or trail[-1].name != SAID) else ""
        else:
            name = "" if is_dialogue(entry.text) else lines.name(entry.text)
        if name:
            step = Step(name, None, project)
            habits.learn(trail, step)
            trail.append(step)
            del trail[:-4]

    # suggesting

    def refresh(self) -> tuple[Suggestion, ...]:
        """Work out what may come next now; keep it as `latest`. Takes as long as git and the database do."""
        try:
            self.latest = tuple(self.now(SHOWN))
        except P8Error:
            self.latest = ()
        return self.latest

    def now(self, count: int = SHOWN) -> list[Suggestion]:
        """
        Return what may come next, likeliest first.

        Raises:
            StoreError: the database is out of reach.
        """
        signals = self.signals()
        with self._lock:
            book, habits, _ = self._ready()
            found = habits.suggest(self._before(), signals, self._project(), count)
        needing = {a.name for a in book.all() if any(p.default is MISSING for p in a.parameters)}
        return [s._replace(line=f"{s.line} ") if s.action in needing else s for s in found]

    def _before(self) -> Sequence[Step]:
        current = self._sessions.current
        return self._trail.get(current.session_id, ()) if current is not None else ()

    def signals(self) -> frozenset[str]:
        """Return how things stand: git, the last command, the last checkpoint, the context."""
        directory = self._directory()
        state = place_now(directory)
        facts: dict[str, Any] = {"ahead": state.ahead, "behind": state.behind}
        if state.root:
            facts["changed"] = len({*state.staged, *state.modified, *state.untracked, *state.conflicted})
        current = self._sessions.current
        if current is not None:
            runs = self._sessions.runs
            facts["last_exit"] = runs[-1][1].get("exit_code") if runs else None
            with contextlib.suppress(P8Error):
                made = self._checkpoint_us()
                began = int(current.start_time.timestamp() * 1e6)
                facts["checkpoint_s"] = (self._sessions.store.clock() - (made or began)) / 1e6
        facts["budget"] = self._budget()
        try:
            names = os.listdir(directory)
        except OSError:
            names = []
        return signals_of(facts, names)


def is_dialogue(line: str) -> bool:
    """Return whether a line is about P8 itself, and says nothing of what comes next in the work."""
    words = line.split(None, 2)
    return bool(words) and words[0] in DIALOGUES and not (words[0] == "/do" and len(words) > 1)
