from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.core.habits import SAID, Habits, Lines, Step, shape

FITS = {"test": ["dirty", "failing"], "commit": ["dirty", "passing"], "push": ["ahead", "clean"]}


def taught(*sessions: str, half_life: int = 400) -> Habits:
    habits = Habits(FITS, half_life)
    for session in sessions:
        before: list[Step] = []
        for word in session.split():
            name, _, failed = word.partition("=")
            step = Step("say" if name == "say" else f"do {name}" if name in FITS else f"!{name}", None)
            habits.learn(before, step)
            before.append(step._replace(failed=failed == "bad" if failed else None))
    return habits


def names(habits: Habits, *before: Step, signals: tuple[str, ...] = (), count: int = 3) -> list[str]:
    return [s.line for s in habits.suggest(before, frozenset(signals), count=count)]


def test_without_a_history_the_signals_decide() -> None:
    habits = Habits(FITS)
    assert names(habits, signals=("dirty", "failing"))[0] == "/do test"
    assert names(habits, signals=("dirty", "passing"))[0] == "/do commit"
    assert names(habits, signals=("clean", "ahead"))[0] == "/do push"


def test_how_it_ended_changes_what_comes_next() -> None:
    habits = taught(*["test=good commit push", "test=bad fix test=good commit push"] * 6)
    assert names(habits, Step("do test", False))[0] == "/do commit"
    assert names(habits, Step("do test", True))[0] == "!fix"


def test_to_commit_where_nothing_has_changed_is_not_suggested_first() -> None:
    habits = taught(*["test commit push"] * 10)
    assert names(habits, Step("do test"), signals=("dirty",))[0] == "/do commit"
    found = {s.action: s.confidence for s in habits.suggest([Step("do test")], frozenset({"clean"}))}
    assert found["commit"] < 0.75 * habits.suggest([Step("do test")], frozenset({"dirty"}))[0].confidence


def test_what_was_done_lately_counts_more() -> None:
    habits = taught(*["say old"] * 30, *["say new"] * 10, half_life=8)
    assert names(habits, Step(SAID))[0] == "!new"
    assert names(taught(*["say old"] * 30, *["say new"] * 10, half_life=10**6), Step(SAID))[0] == "!old"


def test_one_sight_is_not_a_certainty() -> None:
    habits = taught("say make")
    assert names(habits, Step(SAID)) != ["!make"]  # a line done once is not suggested at all
    habits = taught("say make", "say make", "say make")
    first = habits.suggest([Step(SAID)])[0]
    assert first.line == "!make"
    assert 0.5 < first.confidence < 0.9


@given(
    st.lists(st.lists(st.sampled_from(["test", "commit", "push", "a", "b", "say"]), max_size=8), max_size=12),
    st.lists(st.sampled_from(["do test", "!a", SAID, "!never"]), max_size=3),
    st.sets(st.sampled_from(["dirty", "clean", "failing", "passing", "ahead"])),
)
def test_confidences_are_parts_of_one(sessions: list, before: list, signals: set) -> None:
    habits = taught(*(" ".join(session) for session in sessions))
    found = habits.suggest([Step(name) for name in before], frozenset(signals), count=50)
    assert all(0 <= s.confidence <= 1 for s in found)
    assert sum(s.confidence for s in found) <= 1.01
    assert [s.confidence for s in found] == sorted((s.confidence for s in found), reverse=True)
    assert SAID not in [s.line for s in found]
    assert {s.action for s in found if s.action} == set(FITS)


def test_a_long_history_does_not_overflow() -> None:
    habits = Habits(FITS, half_life=1)
    for _ in range(5000):
        habits.learn([], Step("!x"))
    assert habits.suggest([])[0].line == "!x"
    assert habits.uses("!x") == (5000, 0)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('!git commit -m "fix the parser"', "!git commit -m "), ("!git commit -m fix", "!git commit -m "),
        ("!git push origin main", "!git push origin "), ("!cat notes-3.txt", "!cat "), ("!ls", "!ls"),
        ("!pytest -q tests/unit", "!pytest -q "), ("!make build", "!make build"), ("!echo 'unclosed", "!echo "),
        ("!FOO=1 make", "!FOO=1 make"),
    ],
)  # fmt: skip
def test_what_differs_each_time_is_left_out(line: str, wanted: str) -> None:
    assert shape(line) == wanted


def test_a_line_that_comes_again_is_known_whole() -> None:
    lines = Lines({"!git push": "push"}.get)
    lines.count(["!cat a.txt", "!cat a.txt", "!cat b.txt"])
    assert lines.name("!cat a.txt") == "!cat a.txt"
    assert lines.name("!cat b.txt") == "!cat "
    assert lines.name("!git push") == "do push"
    assert lines.name("/do test path=x") == "do test"
    assert [lines.name(line) for line in ("", "!", "hello", "/do", "/do --yes", "!" + "x" * 5000)] == [""] * 6
