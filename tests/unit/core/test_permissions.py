from __future__ import annotations

from typing import Any

import pytest

from p8.assistants.base import Decision
from p8.core.permissions import Permissions
from p8.errors import ConfigError

EDIT = {"scope": "edit", "title": "Edit x"}


class Person:
    """Answers in turn; counts how often it was asked."""

    def __init__(self, *answers: Decision) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __call__(self, question: dict[str, Any]) -> Decision:
        self.asked.append(question)
        return self.answers.pop(0)


def test_once_is_asked_again() -> None:
    rules, person = Permissions(), Person(Decision.ONCE, Decision.NO)

    assert rules.decide("s", "codex", EDIT, person) == (Decision.ONCE, "person")
    assert rules.decide("s", "codex", EDIT, person) == (Decision.NO, "person")


@pytest.mark.parametrize("said", [Decision.ALWAYS, Decision.NEVER])
def test_always_and_never_hold_for_one_session_one_agent_and_one_scope(said: Decision) -> None:
    rules, person = Permissions(), Person(said, Decision.NO, Decision.NO, Decision.NO)
    rules.decide("s", "codex", EDIT, person)

    assert rules.decide("s", "codex", EDIT, person) == (said, "session")
    assert rules.decide("s", "codex", EDIT, None) == (said, "session")
    assert rules.standing("s") == [("codex", "edit", said)]
    assert rules.decide("t", "codex", EDIT, person).by == "person"
    assert rules.decide("s", "claude", EDIT, person).by == "person"
    assert rules.decide("s", "codex", {"scope": "execute rm"}, person).by == "person"


def test_what_is_not_settled_is_refused_where_nobody_is_there() -> None:
    assert Permissions().decide("s", "codex", EDIT, None) == (Decision.NO, "nobody")


def test_a_policy_answers_for_the_person() -> None:
    person = Person()

    assert Permissions("allow").decide("s", "codex", EDIT, person) == (Decision.ONCE, "setting")
    assert Permissions("refuse").decide("s", "codex", EDIT, person) == (Decision.NO, "setting")
    assert person.asked == []
    with pytest.raises(ConfigError, match="permissions cannot be 'yes'"):
        Permissions("yes")
