"""How the work goes, in numbers (row C6). Each formula stands in the docstring of its function, and nowhere else.

Where something cannot be known (no git, no plan, no report of tests), it is None and left out, never 0.
Refuses: to run anybody's tests. Reports that the project's own tools left are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from p8.core.gauge import Gauge
from p8.core.plan import DOC_OVERHEAD, TEST_OVERHEAD, TOKENS_PER_LINE, Plan, Scope
from p8.core.sessions import SessionManager
from p8.formats.reports import Coverage, Outcomes, newest_coverage, newest_tests
from p8.model import Entry, Kind, SessionRow
from p8.store.figures import Figures
from p8.workspace import git
from p8.workspace.since import FileChange, quietly

DOC_SUFFIXES = {".md", ".rst", ".txt", ".adoc", ".org", ".tex"}
OTHER_SUFFIXES = {".lock", ".svg", ".json", ".csv", ".map", ".min.js", ".png", ".jpg"}
QUALITY = (("tests", 0.4), ("coverage", 0.3), ("commands", 0.15), ("answers", 0.15))
NEWEST = 2000  #: executions and answers that quality looks at
SHORTEST_H = 1 / 60  #: less work than a minute has no velocity


class Lines(NamedTuple):
    """Lines added, by what they are."""

    lines: int = 0
    tests: int = 0
    docs: int = 0
    removed: int = 0
    doc_files: int = 0

    @property
    def added(self) -> int:
        """Return all lines added."""
        return self.lines + self.tests + self.docs


def kind_of(path: str) -> str:
    """
    Return "docs", "tests", "lines" or "" (data, lock files) for a path in a repository.

    Docs by suffix or a folder `docs`; tests by a folder `test`, `tests`, `spec` or `__tests__`, or a name that begins
    with `test_` or ends in `_test`, `.test`, `.spec` or `Test`.
    """
    parts = path.lower().split("/")
    name, suffix = PurePosixPath(path).stem, PurePosixPath(path).suffix
    if suffix.lower() in DOC_SUFFIXES or "docs" in parts[:-1] or "doc" in parts[:-1]:
        return "docs"
    if suffix.lower() in OTHER_SUFFIXES:
        return ""
    low = name.lower()
    if {"test", "tests", "spec", "__tests__"} & set(parts[:-1]) or low.startswith("test_"):
        return "tests"
    if low.endswith(("_test", ".test", ".spec", "_spec")) or name.endswith(("Test", "Tests")):
        return "tests"
    return "lines"


def count_lines(changes: Iterable[FileChange]) -> Lines:
    """Return the lines that changes add, by kind; docs files count once each however little changed in them."""
    sums = {"lines": 0, "tests": 0, "docs": 0, "": 0}
    removed = doc_files = 0
    for change in changes:
        kind = kind_of(change.path)
        sums[kind] += change.added
        removed += change.removed
        doc_files += kind == "docs" and bool(change.added or change.removed)
    return Lines(sums["lines"], sums["tests"], sums["docs"], removed, doc_files)


def velocity(lines: int, active_h: float) -> float | None:
    """
    Return lines an hour (row C6, velocity).

        velocity = lines added since the beginning / hours worked

    Hours worked leave out pauses of more than 15 minutes. None below one minute of work.
    """
    return lines / active_h if active_h >= SHORTEST_H else None


def coverage_progress(before: float | None, now: float | None) -> float | None:
    """
    Return how the coverage of tests has moved, in percentage points (row C6, test coverage progress).

        progress = covered lines now, in percent - covered lines at the beginning, in percent
    """
    return None if before is None or now is None else now - before


def documentation(lines: Lines) -> float | None:
    """
    Return lines of documentation for each line of code or test (row C6, documentation updates).

        documentation = docs lines added / (code lines added + test lines added)

    None where no code was added.
    """
    code = lines.lines + lines.tests
    return lines.docs / code if code else None


def completion_by_lines(scope: Scope, lines: Lines) -> float | None:
    """
    Return how much of the planned scope is written, 0 to 1, each kind weighed by what it was planned to cost.

        weight(lines) = lines * 10, weight(tests) = tests * 15, weight(docs) = docs * 12
        completion    = sum(weight * min(1, written / planned)) / sum(weight)
    """
    weights = (
        scope.lines * TOKENS_PER_LINE,
        scope.tests * TOKENS_PER_LINE * TEST_OVERHEAD[0] / TEST_OVERHEAD[1],
        scope.docs * TOKENS_PER_LINE * DOC_OVERHEAD[0] / DOC_OVERHEAD[1],
    )
    written = (lines.lines, lines.tests, lines.docs)
    whole = sum(weights)
    if not whole:
        return None
    done = sum(w * min(1.0, has / planned) for w, has, planned in zip(weights, written, scope, strict=True) if planned)
    return done / whole


def completion(by_phases: float | None, by_lines: float | None, completed: bool = False) -> float | None:
    """
    Return how much is done, 0 to 1 (row C6, completion).

        completion = mean of what the phases say and what the lines say; the one that is known where only one is;
                     1 once the session is completed
    """
    if completed:
        return 1.0
    known = [value for value in (by_phases, by_lines) if value is not None]
    return sum(known) / len(known) if known else None


def time_left_h(active_h: float, done: float | None) -> float | None:
    """
    Return the hours of work that are left (row C6, time estimates).

        left = hours worked * (1 - completion) / completion

    None below a twentieth done: too little to tell from.
    """
    return active_h * (1 - done) / done if done is not None and done >= 0.05 else None


class Burndown(NamedTuple):
    """Tokens left of the estimate, turn by turn: as it was, and as it would be on a straight line."""

    left: tuple[int, ...]
    ideal: tuple[float, ...]


def burndown(plan: Plan, turns: Sequence[int], turns_ahead: int | None) -> Burndown:
    """
    Return what was left after each turn (row C6, burndown). The first point is the estimate.

        left(i)  = estimate - tokens of the first i turns
        ideal(i) = estimate * (1 - i / n), n = turns so far + turns ahead

    Without an ideal where nobody can say how many turns there are to come.
    """
    left = [plan.estimate]
    for tokens in turns:
        left.append(left[-1] - tokens)
    whole = max(len(turns) + (turns_ahead or 0), 1)
    ideal = [plan.estimate * (1 - at / whole) for at in range(len(left))] if turns_ahead is not None else []
    return Burndown(tuple(left), tuple(ideal))


def efficiency(done: float | None, used: int, budget: int) -> float | None:
    """
    Return how well the budget was used, 0 to 100 (row C6, efficiency).

        efficiency = 100 * min(1, completion / (tokens used / total budget))

    100: at least as much is done as was used up. None without a plan, or before anything was used.
    """
    return 100 * min(1.0, done * budget / used) if done is not None and budget and used else None


def context_efficiency(used: int, tokens_in: int) -> float | None:
    """
    Return which part of what was sent was new, 0 to 100 (row C6, context usage).

        context efficiency = 100 * min(1, tokens of the conversation / tokens sent in all requests)

    A long conversation that is sent again with every question scores low.
    """
    return 100 * min(1.0, used / tokens_in) if tokens_in else None


def quality(parts: Mapping[str, float | None]) -> float | None:
    """
    Return how sound the work is, 0 to 100 (row C6, quality).

        tests    = passed / (total - skipped), weight 0.4
        coverage = covered lines / lines,      weight 0.3
        commands = exit code 0 / all with one, weight 0.15
        answers  = whole / all answers,        weight 0.15
        quality  = 100 * sum(weight * part) / sum(weight), over the parts that are known
    """
    known = [(weight, value) for name, weight in QUALITY if (value := parts.get(name)) is not None]
    whole = sum(weight for weight, _ in known)
    return 100 * sum(weight * value for weight, value in known) / whole if whole else None


def quality_parts(
    tests: Outcomes | None, covered: Coverage | None, entries: Iterable[Entry]
) -> dict[str, float | None]:
    """Return the parts of `quality`, 0 to 1, from the reports and from what was recorded."""
    codes = [e.data.get("exit_code") for e in entries_of(entries, Kind.EXECUTION)]
    codes = [code for code in codes if isinstance(code, int)]
    answers = [e.data for e in entries_of(entries, Kind.MESSAGE) if e.role == "assistant"]
    ran = tests.total - tests.skipped if tests is not None else 0
    return {
        "tests": tests.passed / ran if tests is not None and ran else None,
        "coverage": covered.percent / 100 if covered is not None and covered.lines else None,
        "commands": sum(code == 0 for code in codes) / len(codes) if codes else None,
        "answers": sum("error" not in a and not a.get("cancelled") for a in answers) / len(answers)
        if answers
        else None,
    }


def entries_of(entries: Iterable[Entry], kind: str) -> list[Entry]:
    """Return the entries of one kind."""
    return [entry for entry in entries if entry.kind == kind]


class Segment(NamedTuple):
    """A stretch of a session: the whole of it, or since it was resumed last."""

    active_h: float
    messages: int
    executions: int
    tokens_in: int
    tokens_out: int
    cost: float  #: USD, where models said it
    lines: Lines | None
    lines_per_h: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return self._asdict() | {"lines": self.lines._asdict() if self.lines is not None else None}


class SessionMetrics(NamedTuple):
    """All of row C6 for one session."""

    session: str
    whole: Segment
    segment: Segment
    coverage: Coverage | None
    coverage_progress: float | None
    tests: Outcomes | None
    documentation: float | None
    completion: float | None
    time_left_h: float | None
    burndown: Burndown | None
    efficiency: float | None
    context_efficiency: float | None
    quality: float | None
    quality_parts: dict[str, float | None]
    commits: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain: dict[str, Any] = {}
        for name in self._fields:
            value = getattr(self, name)
            plain[name] = value._asdict() if hasattr(value, "_asdict") else value
        return plain | {"whole": self.whole.to_dict(), "segment": self.segment.to_dict()}


def measure(sessions: SessionManager, row: SessionRow, place: Path, gauge: Gauge | None, plan: Plan | None,
            turns: Sequence[int] = (), completed: bool = False) -> SessionMetrics:  # fmt: skip
    """
    Return a session's metrics.

    Args:
        sessions: reads it.
        row: which.
        place: the directory whose git and reports are read.
        gauge: of `ContextPlanner`, where it is the current session.
        plan: likewise.
        turns: tokens of each turn, likewise.
        completed: it is about to be completed.

    Raises:
        StoreError: the database is out of reach.
    """
    figures = Figures(sessions.store.read)
    table = sessions.store.sessions
    entries = table.entries(row.id, kinds=(Kind.MESSAGE, Kind.EXECUTION), limit=NEWEST, newest=True)
    said = table.entries(row.id, kinds=(Kind.SESSION,), limit=NEWEST, newest=True)
    begun, resumed = _commit(said, 0), _last_begin(said)
    done_commits, whole_changes = quietly(place, begun) if begun else ([], [])
    since = _commit(said, resumed)
    later_changes = whole_changes if since == begun else quietly(place, since)[1] if since else []
    known = git.find(place) is not None and bool(begun)
    whole_lines = count_lines(whole_changes) if known else None
    whole = _segment(figures, row, 1, None, whole_lines)
    part = _segment(figures, row, resumed, [e for e in entries if e.stream == row.id and e.seq >= resumed],
                    count_lines(later_changes) if known else None)  # fmt: skip
    covered, tests = newest_coverage(place), newest_tests(place)
    before = row.meta.get("baseline")
    start = before.get("coverage") if isinstance(before, dict) else None
    by_lines = completion_by_lines(plan.scope, whole_lines) if plan is not None and whole_lines is not None else None
    done = completion(gauge.completion if gauge is not None else None, by_lines, completed or row.status == "completed")
    parts = quality_parts(tests, covered, entries)
    used = gauge.used if gauge is not None else 0
    return SessionMetrics(
        row.id, whole, part, covered,
        coverage_progress(start if isinstance(start, int | float) else None, covered.percent if covered else None),
        tests, documentation(whole_lines) if whole_lines is not None else None, done,
        time_left_h(whole.active_h, done) if plan is not None else None,
        burndown(plan, turns, gauge.turns_left_budget if gauge is not None else None) if plan is not None else None,
        efficiency(done, used, plan.total_budget if plan is not None else 0), context_efficiency(used, row.tokens_in),
        quality(parts), parts, len(done_commits),
    )  # fmt: skip


def baseline(place: Path) -> dict[str, Any]:
    """Return what later progress is measured against: the coverage and the tests as they are now."""
    covered, tests = newest_coverage(place), newest_tests(place)
    return {"coverage": covered.percent if covered else None, "tests": tests.total if tests else None}


def _segment(
    figures: Figures, row: SessionRow, first: int, entries: Sequence[Entry] | None, lines: Lines | None
) -> Segment:
    """Return one segment; its sums from the session's counters, or from entries where it is a part."""
    active_h = figures.active_us(row.id, first) / 3_600_000_000
    added = velocity(lines.added, active_h) if lines is not None else None
    if entries is None:
        return Segment(active_h, row.messages, row.executions, row.tokens_in, row.tokens_out, row.cost, lines, added)
    messages = entries_of(entries, Kind.MESSAGE)
    sums = [sum(_number(e.data.get(name)) for e in messages) for name in ("tokens_in", "tokens_out", "cost")]
    ran = len(entries_of(entries, Kind.EXECUTION))
    return Segment(active_h, len(messages), ran, int(sums[0]), int(sums[1]), sums[2], lines, added)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _last_begin(said: Sequence[Entry]) -> int:
    """Return the sequence number at which the session was started, forked or resumed last."""
    return next((e.seq for e in reversed(said) if e.data.get("what") in {"started", "forked", "resumed"}), 1)


def _commit(said: Sequence[Entry], first: int) -> str:
    """Return the commit the work stood at, as said first at or after an entry, else last before it."""
    earlier = ""
    for entry in said:
        values = entry.data.get("set")
        commit = values.get("commit") if isinstance(values, dict) else None
        if isinstance(commit, str) and commit:
            if entry.seq >= first:
                return commit
            earlier = commit
    return earlier
