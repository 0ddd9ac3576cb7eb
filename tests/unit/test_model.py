from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.errors import InvalidTransition, UsageError
from p8.model import (
    TRANSITIONS,
    IdMaker,
    Status,
    check_id,
    check_transition,
    title_from,
)
from p8.session import ExecutionHistory, Session

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.datetimes(timezones=st.just(UTC))
EXECUTIONS = st.builds(
    ExecutionHistory, st.text(), TIMES, st.none() | st.integers(), st.none() | st.floats(0, 1e6), st.text(), st.text(),
    st.dictionaries(st.text(), JSON, max_size=2),
)  # fmt: skip
SESSIONS = st.builds(
    Session, st.text(), st.text(), TIMES, st.sampled_from(Status), st.none() | TIMES,
    st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=3), st.lists(st.text(), max_size=3),
    st.lists(EXECUTIONS, max_size=2), st.dictionaries(st.text(), JSON, max_size=3),
)  # fmt: skip


@given(SESSIONS)
def test_a_session_survives_a_round_trip(session: Session) -> None:
    assert Session.from_dict(session.to_dict()) == session


@given(SESSIONS, st.dictionaries(st.text(min_size=1).map(lambda t: f"future_{t}"), JSON, min_size=1, max_size=3))
def test_unknown_fields_survive_a_round_trip(session: Session, more: dict) -> None:
    data = {**session.to_dict(), **more}

    assert data == Session.from_dict(data).to_dict()


def test_a_record_without_its_id_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="session_id"):
        Session.from_dict({"project_name": "x", "start_time": "2026-01-01T00:00:00+00:00"})


def test_a_time_without_zone_is_taken_as_utc() -> None:
    session = Session.from_dict({"session_id": "x", "project_name": "x", "start_time": "2026-01-01T00:00:00"})

    assert datetime(2026, 1, 1, tzinfo=UTC) == session.start_time


@pytest.mark.parametrize("current", Status)
@pytest.mark.parametrize("wanted", Status)
def test_only_the_tables_transitions_are_allowed(current: Status, wanted: Status) -> None:
    if wanted in TRANSITIONS[current]:
        check_transition(current, wanted, "x")
    else:
        with pytest.raises(InvalidTransition) as error:
            check_transition(current, wanted, "x")
        assert all(legal in error.value.hint for legal in TRANSITIONS[current])


def test_ids_sort_by_time_and_never_repeat() -> None:
    make = IdMaker(lambda: 1_795_000_000_000_000)
    ids = [make() for _ in range(1000)]

    assert sorted(ids) == ids
    assert len(set(ids)) == 1000
    assert all(check_id(i) == i for i in ids)


@pytest.mark.parametrize("bad", ["", "../../etc", "x" * 5000, "20261121-093000-123456-ab12\n", "-rf", "\0", ".git"])
def test_what_is_no_id_is_refused(bad: str) -> None:
    with pytest.raises(UsageError):
        check_id(bad)


def test_a_title_is_the_first_line_that_says_something() -> None:
    assert title_from("\n\n  fix   the\tparser \n and more") == "fix the parser"
    assert len(title_from("x" * 500)) == 72
    assert "\x1b" not in title_from("\x1b[31mred")
