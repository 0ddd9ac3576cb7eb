from __future__ import annotations

from pathlib import Path

import pytest

from p8.core.log import note_error
from p8.core.pulse import Pulse, line_of
from p8.core.sessions import SessionManager
from p8.errors import StoreError
from p8.events import Change
from p8.store.manager import PersistenceManager
from p8.testing import make_app

SECOND = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_000_000_000_000

    def __call__(self) -> int:
        return self.now


class Heard:
    """What an observer in the process was told, and a session that says metrics."""

    def __init__(self, home: Path) -> None:
        self.clock = Clock()
        self.store = PersistenceManager(home, background=False, clock=self.clock)
        self.manager = SessionManager(self.store)
        self.more: dict[str, object] = {}
        self.pulse = Pulse(self.manager, lambda: self.more, lambda: 60.0)
        self.changes: list[Change] = []
        self.store.bus.subscribe(self.changes.append)

    @property
    def said(self) -> list[dict]:
        return [dict(c.data) for c in self.changes if c.data.get("what") == "metrics"]

    def answer(self, seconds: float = 1.0, **more: object) -> None:
        self.clock.now += int(seconds * SECOND)
        self.manager.record_message({"role": "assistant", "content": "x", **more})


@pytest.fixture
def heard(home: Path):
    found = Heard(home)
    yield found
    found.store.close()


def test_what_is_said_is_what_was_done(heard: Heard) -> None:
    session = heard.manager.start_session("demo")
    heard.manager.record_command("!make")
    heard.manager.record_execution("make", exit_code=2)
    heard.answer(10, tokens_in=100, tokens_out=20, cost=0.25)
    heard.answer(20 * 60, tokens_in=1)  # after a pause that is no work
    heard.more = {"used": 121, "full": 0.5}
    told = heard.pulse.say("turn")

    assert told is not None
    assert (told["about"], told["why"]) == (session.session_id, "turn")
    assert {name: told[name] for name in ("messages", "commands", "executions", "failed")} == {
        "messages": 2, "commands": 1, "executions": 1, "failed": 1,
    }  # fmt: skip
    assert (told["tokens_in"], told["tokens_out"], told["cost"], told["worked_s"]) == (101, 20, 0.25, 10.0)
    assert (told["used"], told["full"]) == (121, 0.5)
    assert heard.pulse.say("turn") is None  # nothing has changed
    assert line_of(told) == "turn: 2 messages, 1 run, 121 tokens, 50% full"


def test_checkpoint_handoff_pause_and_an_interval_say_it_and_a_keystroke_does_not(heard: Heard) -> None:
    heard.manager.start_session("demo")
    for _ in range(50):
        heard.answer(0.1)
    assert heard.said == []
    heard.manager.record("checkpoint", {"id": "x", "name": "half way"})
    heard.answer(1)
    heard.manager.record("event", {"what": "handoff", "text": "…"})
    heard.answer(61)
    heard.answer(1)
    heard.manager.pause_session()

    assert [(one["why"], one["messages"]) for one in heard.said] == [
        ("checkpoint", 50), ("handoff", 51), ("interval", 52), ("paused", 53),
    ]  # fmt: skip


def test_a_session_that_is_gone_on_with_counts_on(heard: Heard) -> None:
    session = heard.manager.start_session("demo")
    heard.answer(1, tokens_in=7)
    heard.manager.pause_session()
    heard.manager.start_session("other")
    heard.answer()
    heard.manager.resume_session(session.session_id)
    heard.answer(1, tokens_in=5)
    told = heard.pulse.say("turn")

    assert told is not None
    assert (told["about"], told["messages"], told["tokens_in"]) == (session.session_id, 2, 12)


def test_another_process_reads_metrics_and_errors_in_their_place_in_the_one_order(heard: Heard) -> None:
    heard.manager.start_session("demo")
    heard.answer()
    heard.pulse.say("turn")
    note_error(heard.store, StoreError("the disk is full", "free some"), "x")
    heard.answer()
    other = PersistenceManager(heard.store.home, background=False)
    events = other.feed.after("0.0")
    other.close()
    of_house = [e.entry.data["what"] for e in events if e.entry.stream.startswith("~")]

    assert of_house == ["metrics", "error"]
    seen = [c.data["what"] for c in heard.changes if c.data.get("what") in {"metrics", "error"}]
    assert seen == of_house
    assert all(e.entry.kind == "event" for e in events if e.entry.stream.startswith("~"))
    row = heard.store.sessions.get(str(heard.manager.current.session_id))  # what is measured is not what was said
    assert row.messages == 2


def test_an_app_says_metrics_after_a_turn_and_every_error_it_shows(home: Path, tmp_path: Path) -> None:
    app = make_app(home, tmp_path)
    told: list[Change] = []
    app.bus.subscribe(told.append)
    app.note_error(StoreError("too early"))  # there is no home to record it in
    assert not home.exists()
    app.ensure_session()
    app.sessions.record_message({"role": "user", "content": "hello"})
    assert app.planner.tokens
    app.after_turn()
    app.note_error(StoreError("the disk is full"))
    app.portfolio.change(app.project.id, pinned=True)
    memory = app.memories.remember("use a table", "session")
    app.memories.forget(memory.id)
    app.close()
    said = [c.data.get("what") for c in told if c.kind == "event"]

    assert said == ["metrics", "error", "project changed", "memory remembered", "memory forgotten"]
    first = next(c.data for c in told if c.data.get("what") == "metrics")
    assert (first["why"], first["messages"]) == ("turn", 1)
    assert first["used"] > 0
    assert "use a table" not in str([c.data for c in told if "memory" in str(c.data.get("what"))])
