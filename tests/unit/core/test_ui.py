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
    view = UiState(home, lambda: manager)
    assert view.get("picker_scope") == "project"
    view.put(picker_scope="all", status_s="0.5", gauge="off")
    manager.start_session("other")
    assert view.get("picker_scope") == "all"
    view.put(picker_scope="project")
    manager.close()

    again = SessionManager(PersistenceManager(home, background=False))
    again.resume_session(first)
    kept = UiState(home, lambda: again)
    assert (kept.get("picker_scope"), kept.get("status_s"), kept.get("gauge")) == ("all", 0.5, False)
    again.pause_session()
    assert kept.get("picker_scope") == "project"
    again.close()


def test_without_a_session_the_last_view_is_read_and_kept_without_a_database(home: Path) -> None:
    assert UiState(home, lambda: None).get("theme") == "auto"
    UiState(home, lambda: None).put(theme="dark")
    assert UiState(home, lambda: None).get("theme") == "dark"
    assert not (home / "p8.db").exists()
    (home / "states" / "view.json").write_text("{not json")
    assert UiState(home, lambda: None).get("theme") == "auto"


def test_reset_gives_one_or_all_their_defaults(home: Path) -> None:
    view = UiState(home, lambda: None)
    view.put(theme="dark", status="off", watch_s=9)
    assert view.reset("theme")["theme"] == "auto"
    assert view.get("status") == "off"
    assert view.reset() == migrate(None)
    with pytest.raises(UsageError):
        view.reset("colour")


def test_an_older_version_is_brought_along() -> None:
    old = {"version": 1, "picker": {"everywhere": True, "sort": "size"}, "refresh_ms": 500, "theme": "dark"}
    found = migrate(old)

    assert found["version"] == VERSION
    names = ("picker_scope", "picker_sort", "status_s", "theme")
    assert tuple(found[name] for name in names) == ("all", "size", 0.5, "dark")
    assert "refresh_ms" not in found
    assert old["refresh_ms"] == 500


@pytest.mark.parametrize(
    ("layout", "preview", "status"),
    [("plain", "auto", "full"), ("wide", "right", "full"), ("compact", "off", "compact")],
)
def test_one_layout_for_all_becomes_one_for_each(layout: str, preview: str, status: str) -> None:
    found = migrate({"version": 2, "layout": layout, "dashboard_s": 7.0})

    assert (found["picker_preview"], found["status"], found["watch_s"]) == (preview, status, 7.0)
    assert not {"layout", "dashboard_s"} & found.keys()


def test_a_newer_version_loses_nothing() -> None:
    newer = {"version": VERSION + 3, "theme": "light", "hologram": [1], "status": "spherical"}
    found = migrate(newer)

    assert (found["version"], found["hologram"]) == (VERSION + 3, [1])
    assert (found["theme"], found["status"]) == ("light", "full")


@pytest.mark.parametrize(
    ("name", "value"),
    [("theme", "pink"), ("status_s", 0), ("status_s", "x"), ("status_s", True), ("gauge", "perhaps"), ("gauge", 1),
     ("colour", "red"), ("watch_s", float("nan"))],
)  # fmt: skip
def test_what_cannot_be_set_is_refused_and_changes_nothing(home: Path, name: str, value: object) -> None:
    view = UiState(home, lambda: None)
    with pytest.raises(UsageError) as caught:
        view.put(picker_preview="below", **{name: value})
    assert caught.value.hint
    assert view.get("picker_preview") == "auto"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.dictionaries(st.text(), c)))
def test_anything_can_be_read(data: object) -> None:
    found = migrate(data)
    assert {name: checked(name, found[name]) for name in FIELDS} == {name: found[name] for name in FIELDS}
    assert migrate(found) == found
