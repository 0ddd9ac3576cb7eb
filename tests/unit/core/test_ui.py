from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.core.sessions import SessionManager
from p8.core.ui import FIELDS, VERSION, UiState, checked, migrate
from p8.errors import UsageError
from p8.store.manager import PersistenceManager


def test_a_session_keeps_its_view_and_a_new_one_begins_with_the_last(home: Path) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    first = manager.start_session("demo").session_id
    view = UiState(manager)
    assert view.get("picker_scope") == "project"
    view.put(picker_scope="all", status_s="0.5", gauge="off")
    manager.start_session("other")
    assert view.get("picker_scope") == "all"
    view.put(picker_scope="project")
    manager.close()

    again = SessionManager(PersistenceManager(home, background=False))
    again.resume_session(first)
    kept = UiState(again)
    assert (kept.get("picker_scope"), kept.get("status_s"), kept.get("gauge")) == ("all", 0.5, False)
    again.pause_session()
    assert kept.get("picker_scope") == "project"
    again.close()


def test_an_older_version_is_brought_along() -> None:
    old = {"version": 1, "picker": {"everywhere": True, "sort": "size"}, "refresh_ms": 500, "theme": "dark"}
    found = migrate(old)

    assert found["version"] == VERSION
    assert (found["picker_scope"], found["picker_sort"], found["status_s"], found["theme"]) == (
        "all",
        "size",
        0.5,
        "dark",
    )
    assert "refresh_ms" not in found
    assert old["refresh_ms"] == 500


def test_a_newer_version_loses_nothing() -> None:
    newer = {"version": VERSION + 3, "theme": "light", "hologram": [1], "layout": "spherical"}
    found = migrate(newer)

    assert (found["version"], found["hologram"], found["theme"], found["layout"]) == (
        VERSION + 3,
        [1],
        "light",
        "plain",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("theme", "pink"), ("status_s", 0), ("status_s", "x"), ("status_s", True), ("gauge", "perhaps"), ("gauge", 1),
     ("colour", "red"), ("dashboard_s", float("nan"))],
)  # fmt: skip
def test_what_cannot_be_set_is_refused_and_changes_nothing(manager: SessionManager, name: str, value: object) -> None:
    manager.start_session("demo")
    view = UiState(manager)
    with pytest.raises(UsageError) as caught:
        view.put(layout="wide", **{name: value})
    assert caught.value.hint
    assert view.get("layout") == "plain"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.dictionaries(st.text(), c)))
def test_anything_can_be_read(data: object) -> None:
    found = migrate(data)
    assert {name: checked(name, found[name]) for name in FIELDS} == {name: found[name] for name in FIELDS}
    assert migrate(found) == found
