"""Suggestions, learnt from recorded sessions, against the actions that really came next and the most frequent ones."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from p8.core.actions import Book
from p8.core.habits import Lines, Suggestion
from p8.core.sessions import SessionManager
from p8.core.suggest import Suggestions, is_dialogue
from p8.store.manager import PersistenceManager
from support.working_days import Days, Typed

SESSIONS, HELD_OUT = 70, 14
LATE = 100  #: a harder baseline: the most frequent of so many last steps


class Outcome:
    """Cases counted: the model's and the baseline's first and first three."""

    def __init__(self) -> None:
        self.cases = 0
        self.first, self.three, self.usual_first, self.usual_three, self.late_three = 0, 0, 0, 0, 0
        self.sure = 0.0

    def take(self, actual: str, found: list[Suggestion], usual: list[str], late: list[str]) -> None:
        names = [f"do {s.action}" if s.action else s.line for s in found]
        self.cases += 1
        self.first += names[:1] == [actual]
        self.three += actual in names[:3]
        self.usual_first += usual[:1] == [actual]
        self.usual_three += actual in usual[:3]
        self.late_three += actual in late[:3]
        self.sure += found[0].confidence if found else 0.0


def record(manager: SessionManager, typed: Typed) -> None:
    if typed.line[0] not in "!/":
        manager.record_message({"role": "user", "content": typed.line})
        manager.record_message({"role": "assistant", "content": "done"})
        return
    manager.record_command(typed.line)
    if typed.exit_code is not None:
        manager.record_execution(typed.line.lstrip("!"), exit_code=typed.exit_code)


def live(home: Path, days: list[tuple[str, list[Typed]]], directory: Path) -> Outcome:
    """Record the first sessions, then live through the others: suggest, look at what came, record it."""
    store = PersistenceManager(home, background=False)
    manager = SessionManager(store)
    learnt = days[:-HELD_OUT]
    for project, typed in learnt:
        manager.start_session("demo", project=project)
        for one in typed:
            record(manager, one)
        manager.end_session()
    book = Book(home, directory)
    at_hand = {"project": ""}
    suggestions = Suggestions(manager, lambda: book, lambda: directory, lambda: at_hand["project"])
    lines = Lines(book.named)
    lines.count(one.line for _, typed in learnt for one in typed)
    done: list[str] = []

    def name_of(one: Typed) -> str:
        return "" if is_dialogue(one.line) else lines.name(one.line)

    done += [name for _, typed in learnt for one in typed if (name := name_of(one))]
    outcome = Outcome()
    for project, typed in days[-HELD_OUT:]:
        at_hand["project"] = project
        manager.start_session("demo", project=project)
        for one in typed:
            lines.count([one.line] if one.line[0] in "!/" else ())
            actual = name_of(one)
            if actual:
                usual, late = (Counter(part).most_common(3) for part in (done, done[-LATE:]))
                outcome.take(actual, suggestions.now(3), [n for n, _ in usual], [n for n, _ in late])
                done.append(actual)
            record(manager, one)
        manager.end_session()
    store.close()
    return outcome


def test_the_next_action_is_among_the_first_three(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole = Outcome()
    report = [
        "",
        "seed  cases   suggested: 1st   first 3   most frequent: 1st   first 3   lately: first 3   confidence",
    ]
    for seed in range(3):
        days = list(Days(seed).sessions(SESSIONS))
        one = live(tmp_path / f"home{seed}", days, tmp_path)
        for name in vars(one):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        report.append(line_of(str(seed), one))
    report.append(line_of("all", whole))
    with capsys.disabled():
        print("\n".join(report))

    assert whole.cases > 300
    assert whole.three / whole.cases >= 0.70
    assert whole.three / whole.cases >= whole.usual_three / whole.cases + 0.15
    assert whole.three / whole.cases >= whole.late_three / whole.cases + 0.15
    assert whole.first > whole.usual_first
    assert abs(whole.sure / whole.cases - whole.first / whole.cases) < 0.15  # a confidence means what it says


def test_where_there_is_no_order_there_is_nothing_to_learn(tmp_path: Path) -> None:
    """The control: the same lines in any order; a measure that still found them would measure nothing."""
    days = list(Days(0).sessions(SESSIONS))
    everything = [one for _, typed in days for one in typed]
    random.Random(1).shuffle(everything)
    shuffled = []
    for project, typed in days:
        shuffled.append((project, [everything.pop() for _ in typed]))
    outcome = live(tmp_path / "home", shuffled, tmp_path)
    assert outcome.three / outcome.cases < 0.60
    assert outcome.three / outcome.cases < outcome.late_three / outcome.cases + 0.12


def line_of(name: str, one: Outcome) -> str:
    def part(count: float) -> str:
        return f"{count / one.cases:.0%}"

    return (
        f"{name:>4} {one.cases:>6} {part(one.first):>16} {part(one.three):>9} {part(one.usual_first):>20}"
        f" {part(one.usual_three):>9} {part(one.late_three):>17} {part(one.sure):>12}"
    )
