"""What is said about a session may be any text: it must neither be lost nor keep the fold from going on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from p8.core.sessions import SessionManager
from p8.errors import NotFound
from p8.store.manager import PersistenceManager

LONE = "caf\udce9 \ud800"


@pytest.mark.parametrize("name", ["title", "project", "directory", "branch", "commit", "model", "unheard_of"])
@pytest.mark.parametrize("text", [LONE, "\0", "\x1b]0;x\a", "x" * 200_000, "\u202e"])
def test_odd_text_about_a_session_does_not_stop_the_fold(manager: SessionManager, name: str, text: str) -> None:
    session = manager.start_session(text, **{name: text})
    manager.annotate(**{name: text + "!"})
    manager.record_message({"role": "user", "content": text})
    row = manager.store.sessions.get(session.session_id)

    assert manager.store.drain()
    assert row.messages == 1
    if name == "unheard_of":
        assert row.meta[name] == text + "!"
    elif text is not LONE:
        assert getattr(row, name) == text + "!"
    else:
        assert getattr(row, name) == "caf\\udce9 \\ud800!"
    assert [r.id for r in manager.store.sessions.page()] == [session.session_id]


def test_odd_tags_do_not_stop_the_fold(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    manager.annotate(tags=["fine", LONE, "\0"])

    assert manager.store.sessions.get(session.session_id).tags == ("fine", "caf\\udce9 \\ud800", "\0")
    assert [r.id for r in manager.store.sessions.page(tag="fine")] == [session.session_id]


def test_odd_values_about_a_session_come_back(manager: SessionManager) -> None:
    session = manager.start_session("demo", big=2**70, raw=b"\xff", far=math.inf, deep={"a": [LONE]})
    meta = manager.store.sessions.get(session.session_id).meta

    assert meta == {"big": 2**70, "raw": b"\xff", "far": math.inf, "deep": {"a": [LONE]}}
    manager.annotate(big=None)
    assert "big" not in manager.store.sessions.get(session.session_id).meta


def test_an_odd_session_is_resumed_and_forked_by_another_process(manager: SessionManager, home: Path) -> None:
    session = manager.start_session(LONE, directory=LONE, branch=LONE, title=LONE)
    manager.record_message({"role": "user", "content": LONE})
    manager.close()
    other = SessionManager(PersistenceManager(home, background=False))
    again = other.resume_session(session.session_id)

    assert again.conversation_history[0]["content"] == LONE
    other.fork_session()
    assert other.store.drain()
    assert len(other.list_all_sessions()) == 2
    other.close()


def test_odd_words_are_looked_for(manager: SessionManager) -> None:
    session = manager.start_session("demo", title=LONE)
    table = manager.store.sessions

    assert table.resolve(LONE).id == session.session_id
    assert [row.id for row in table.page(text="\udce9")] == [session.session_id]
    assert manager.store.projects.get(LONE) is None
    with pytest.raises(NotFound):
        table.resolve("\udcff")
    with pytest.raises(NotFound):
        table.get("\udcff")


ODD = (
    {"what": ["list"]}, {"what": None, "set": None}, {"what": "started", "set": {"created": 2**80}}, {"about": 5},
    {"what": "started", "lease": {"owner": "x"}}, {"what": "forked", "lease": {"owner": 2**90, "pid": []}},
    {"lease": "released", "owner": {"a": 1}}, {"set": {"title": 2**80, "pinned": 2**70}}, {"set": {"trashed": 2**90}},
    {"set": {"status": 2**99, "tags": 2**80, "fork_seq": "x", "parent": 7}}, {"set": [1]},
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_what_cannot_be_said_of_a_session_stops_nothing(store: PersistenceManager, odd: dict[str, Any]) -> None:
    manager = SessionManager(store)
    session = manager.start_session("p")
    store.record(session.session_id, "session", odd)
    manager.record_message({"role": "user", "content": "after"})

    assert store.drain()
    assert [e.text for e in store.sessions.entries(session.session_id, kinds=("message",))] == ["after"]
    assert store.sessions.get(session.session_id).messages == 1


@pytest.mark.parametrize("size", [5, 10**9, "x", None])
def test_a_message_may_use_our_own_word(store: PersistenceManager, size: object) -> None:
    manager = SessionManager(store)
    session = manager.start_session("p")
    manager.record_message({"$large": size, "role": "user", "content": "kept whole"})
    store.drain()
    for whole in (True, False):
        entry = store.sessions.entries(session.session_id, kinds=("message",), whole=whole)[0]
        assert entry.data["$large"] == size
        assert entry.text == "kept whole"
