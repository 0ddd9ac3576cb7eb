from __future__ import annotations

from pathlib import Path

import pytest

from p8.core import metrics
from p8.core.metrics import Lines, completion, count_lines, kind_of, measure, quality, quality_parts, velocity
from p8.core.plan import Scope, allocate
from p8.core.sessions import SessionManager
from p8.formats.reports import Coverage, Outcomes
from p8.model import Entry
from p8.store.figures import DAY_US, Figures
from p8.store.manager import PersistenceManager
from p8.workspace.since import FileChange
from support.repos import make_repo

MINUTE = 60_000_000


def test_kinds_of_files() -> None:
    kinds = {
        "src/parse.py": "lines", "tests/unit/test_parse.py": "tests", "test_parse.py": "tests",
        "parse_test.go": "tests",
        "src/app.spec.ts": "tests", "ParserTest.java": "tests", "README.md": "docs", "docs/conf.py": "docs",
        "package-lock.json": "", "poetry.lock": "", "src/contest.py": "lines", "Makefile": "lines",
    }  # fmt: skip
    assert {path: kind_of(path) for path in kinds} == kinds


def test_lines_by_kind() -> None:
    changes = [
        FileChange("a.py", 30, 5), FileChange("tests/test_a.py", 20, 0), FileChange("README.md", 10, 2),
        FileChange("docs/b.md", 0, 1), FileChange("x.lock", 900, 0),
    ]  # fmt: skip
    assert count_lines(changes) == Lines(30, 20, 10, 8, 2)
    assert count_lines(changes).added == 60


def test_velocity_by_hand() -> None:
    assert velocity(90, 1.5) == 60
    assert velocity(90, 0.001) is None


def test_progress_and_documentation_by_hand() -> None:
    assert metrics.coverage_progress(71.5, 80.0) == 8.5
    assert metrics.coverage_progress(None, 80.0) is None
    assert metrics.documentation(Lines(30, 20, 10)) == 0.2
    assert metrics.documentation(Lines(0, 0, 10)) is None


def test_completion_by_hand() -> None:
    # weights 700*10, 200*15, 50*12 = 7000, 3000, 600; written 350 of 700, 300 of 200, 0 of 50
    assert metrics.completion_by_lines(Scope(700, 200, 50), Lines(350, 300, 0)) == pytest.approx(6500 / 10600)
    assert metrics.completion_by_lines(Scope(100, 0, 0), Lines(100, 0, 0)) == 1
    assert completion(0.5, 0.7) == pytest.approx(0.6)
    assert completion(None, 0.7) == 0.7
    assert completion(None, None) is None
    assert completion(0.1, 0.1, completed=True) == 1


def test_time_left_by_hand() -> None:
    assert metrics.time_left_h(3.0, 0.75) == pytest.approx(1.0)
    assert metrics.time_left_h(3.0, 0.01) is None
    assert metrics.time_left_h(3.0, None) is None


def test_burndown_by_hand() -> None:
    found = metrics.burndown(allocate(Scope(100)), [200, 300], 3)  # an estimate of 1,000 over five turns

    assert found.left == (1000, 800, 500)
    assert found.ideal == (1000, 800, 600)
    assert metrics.burndown(allocate(Scope(100)), [200, 300], None).ideal == ()


def test_efficiency_by_hand() -> None:
    assert metrics.efficiency(0.5, 5000, 10000) == 100
    assert metrics.efficiency(0.25, 5000, 10000) == 50
    assert metrics.efficiency(0.9, 5000, 10000) == 100
    assert metrics.efficiency(None, 5000, 10000) is None
    assert metrics.efficiency(0.5, 0, 10000) is None
    assert metrics.context_efficiency(500, 2000) == 25
    assert metrics.context_efficiency(500, 0) is None


def test_quality_by_hand() -> None:
    # 0.4 * 0.9 + 0.3 * 0.8 + 0.15 * 0.5 + 0.15 * 1 = 0.825
    assert quality({"tests": 0.9, "coverage": 0.8, "commands": 0.5, "answers": 1.0}) == pytest.approx(82.5)
    # without tests and coverage: (0.15 * 0.5 + 0.15 * 1) / 0.3
    assert quality({"tests": None, "coverage": None, "commands": 0.5, "answers": 1.0}) == pytest.approx(75)
    assert quality({}) is None


def test_parts_of_quality_by_hand() -> None:
    def entry(kind: str, **data: object) -> Entry:
        return Entry("s", 1, 0, kind, dict(data))

    entries = [
        entry("execution", exit_code=0), entry("execution", exit_code=1), entry("execution", exit_code=None),
        entry("message", role="assistant"), entry("message", role="assistant", error="x"),
        entry("message", role="assistant", cancelled=True), entry("message", role="user"),
    ]  # fmt: skip
    found = quality_parts(Outcomes(11, 1, 1, 0, "", 0), Coverage(80, 100, "", 0), entries)
    assert found == {"tests": 0.9, "coverage": 0.8, "commands": 0.5, "answers": pytest.approx(1 / 3)}
    assert quality_parts(None, None, []) == dict.fromkeys(("tests", "coverage", "commands", "answers"))


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_000_000_000_000

    def __call__(self) -> int:
        return self.now


def test_a_session_in_a_repository_is_measured_whole_and_since_it_was_resumed(home: Path, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    clock = Clock()
    manager = SessionManager(PersistenceManager(home, background=False, clock=clock))
    begun = manager.start_session("demo", commit=repo.git("rev-parse", "HEAD"), directory=str(repo.root))
    for _ in range(6):  # half an hour of work, a pause of an hour, and ten minutes more
        clock.now += 6 * MINUTE
        manager.record_message({"role": "user", "content": "go on"})
    repo.commit("src/a.py", "x = 1\n" * 40)
    manager.pause_session()
    clock.now += 60 * MINUTE
    manager.resume_session(begun.session_id)
    manager.annotate(commit=repo.git("rev-parse", "HEAD"))
    repo.write("tests/test_a.py", "assert 1\n" * 10)
    clock.now += 10 * MINUTE
    manager.record_message({"role": "assistant", "content": "ok", "tokens_in": 100, "tokens_out": 20, "cost": 0.5})
    repo.write("coverage.xml", '<coverage line-rate="0.5" lines-valid="200" lines-covered="100"/>')
    manager.annotate(baseline={"coverage": 40.0, "tests": 3})
    row = manager.store.sessions.get(begun.session_id)
    found = measure(manager, row, repo.root, None, None)

    assert found.whole.active_h == pytest.approx(46 / 60)
    assert found.segment.active_h == pytest.approx(10 / 60)
    assert found.whole.lines == Lines(41, 10, 0, 0, 0)  # coverage.xml counts one line of its own
    assert found.segment.lines == Lines(1, 10, 0, 0, 0)
    assert found.segment.lines_per_h == pytest.approx(66)
    assert (found.whole.messages, found.segment.messages) == (7, 1)
    assert (found.segment.tokens_in, found.segment.tokens_out, found.segment.cost) == (100, 20, 0.5)
    assert found.coverage_progress == pytest.approx(10)
    assert found.commits == 1
    assert found.documentation == 0
    assert found.completion is None
    manager.store.close()


def test_outside_git_nothing_is_made_up(manager: SessionManager, tmp_path: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "hi"})
    found = measure(manager, manager.store.sessions.get(session.session_id), tmp_path, None, None)

    assert found.whole.lines is None
    assert found.whole.lines_per_h is None
    assert (found.coverage, found.tests, found.documentation, found.efficiency) == (None, None, None, None)
    assert found.to_dict()["whole"]["messages"] == 1


def test_sums_over_sessions(home: Path) -> None:
    clock = Clock()
    manager = SessionManager(PersistenceManager(home, background=False, clock=clock))
    for project, model, tokens in (("a", "m1", 10), ("b", "m2", 20), ("a", "m1", 30)):
        manager.start_session(project, project=f"{project}-12345678", model=model)
        manager.record_message(
            {"role": "assistant", "content": "x", "tokens_in": tokens, "tokens_out": 1, "cost": 0.25}
        )
        manager.end_session()
        clock.now += 86_400_000_000
    figures = Figures(manager.store.read)

    found = figures.sums(clock.now - 10 * DAY_US)

    assert (found.totals["tokens_in"], found.totals["sessions"]) == (60, 3)
    assert figures.sums(0, "a-12345678").totals["cost"] == 0.5
    assert figures.sums(0, "none-12345678").totals["sessions"] == 0
    assert {name: sums["sessions"] for name, sums in found.by_status.items()} == {"completed": 3}
    assert {name: sums["tokens_in"] for name, sums in found.by_model.items()} == {"m1": 40, "m2": 20}
    assert {name: sums["tokens_in"] for name, sums in found.by_project.items()} == {"a": 40, "b": 20}
    assert found.used_us["a"] > found.used_us["b"]
    newest = clock.now // DAY_US - 1
    assert {day: sums["messages"] for day, sums in found.by_day.items()} == {newest - 2: 1, newest - 1: 1, newest: 1}
    assert list(figures.sums(newest * DAY_US).by_day) == [newest]
    manager.store.close()
