from __future__ import annotations

import time

import pytest

from p8.assistants.base import Cancel, Chunk, ChunkKind
from p8.core.sessions import SessionManager
from p8.core.turns import ask, conversation_for, run_turn
from p8.errors import AssistantError
from p8.testing import FakeAssistant


def turn(manager: SessionManager, assistant: FakeAssistant, cancel: Cancel | None = None, idle_s: float = 5.0) -> str:
    chunks = run_turn(manager, assistant, cancel or Cancel(), idle_timeout_s=idle_s)
    return "".join(c.text for c in chunks if c.kind is ChunkKind.TEXT)


@pytest.fixture
def talking(manager: SessionManager) -> SessionManager:
    manager.start_session("demo")
    return manager


def last(manager: SessionManager) -> dict:
    assert manager.current is not None
    return manager.current.conversation_history[-1]


def test_an_answer_is_streamed_and_recorded_once(talking: SessionManager) -> None:
    ask(talking, "hi")
    text = turn(talking, FakeAssistant("one two three"))

    assert text.strip() == "one two three"
    assert last(talking)["content"] == text
    assert last(talking)["tokens_out"] == 3
    assert last(talking)["model"] == "fake"
    assert "error" not in last(talking)
    assert talking.store.durability().unsynced_bytes == 0


def test_a_failure_keeps_what_came_and_a_retry_asks_the_same(talking: SessionManager) -> None:
    class Breaks(FakeAssistant):
        def stream(self, conversation, cancel):
            self.asked.append(list(conversation))
            yield Chunk(ChunkKind.TEXT, "half an ")
            raise AssistantError("the line went dead", "/retry")

    broken = Breaks()
    ask(talking, "question")
    with pytest.raises(AssistantError, match="went dead"):
        turn(talking, broken)
    assert last(talking)["content"] == "half an "
    assert last(talking)["error"] == "the line went dead"
    good = FakeAssistant("whole")
    turn(talking, good)

    assert good.asked == broken.asked == [[{"role": "user", "content": "question"}]]


def test_any_exception_becomes_one_line(talking: SessionManager) -> None:
    ask(talking, "x")
    with pytest.raises(AssistantError, match="ZeroDivisionError"):
        turn(talking, FakeAssistant(ZeroDivisionError("oops")))


def test_a_backend_that_hangs_is_given_up(talking: SessionManager) -> None:
    ask(talking, "x")
    begun = time.monotonic()
    with pytest.raises(AssistantError, match="sent nothing"):
        turn(talking, FakeAssistant("a b c d", hang_after=2), idle_s=0.3)
    assert time.monotonic() - begun < 3
    assert last(talking)["content"] == "a b "


def test_cancelling_returns_at_once_even_when_it_hangs(talking: SessionManager) -> None:
    ask(talking, "x")
    cancel = Cancel()
    chunks = run_turn(talking, FakeAssistant("a b c d", hang_after=2), cancel, idle_timeout_s=60)
    assert [next(chunks).text, next(chunks).text] == ["a ", "b "]
    begun = time.monotonic()
    cancel.set()
    assert list(chunks) == []
    assert time.monotonic() - begun < 0.5
    assert last(talking)["cancelled"] is True
    assert last(talking)["content"] == "a b "


def test_leaving_early_counts_as_cancelling(talking: SessionManager) -> None:
    ask(talking, "x")
    for _ in run_turn(talking, FakeAssistant("a b c"), Cancel(), idle_timeout_s=5):
        break
    assert last(talking)["cancelled"] is True


def test_the_assistant_sees_what_was_run_in_its_place(talking: SessionManager) -> None:
    ask(talking, "first")
    turn(talking, FakeAssistant("answer"))
    talking.record_execution("make", exit_code=2, output="no rule")
    ask(talking, "why?")
    said = conversation_for(talking)

    assert [m["role"] for m in said] == ["user", "assistant", "user", "user"]
    assert "make" in said[2]["content"]
    assert "no rule" in said[2]["content"]
    assert said[3]["content"] == "why?"


def test_a_resumed_session_sends_what_was_said_before(talking: SessionManager) -> None:
    ask(talking, "first")
    turn(talking, FakeAssistant("answer"))
    assert talking.current is not None
    session_id = talking.current.session_id
    talking.pause_session()
    talking.resume_session(session_id)
    ask(talking, "second")

    assert [m["content"].strip() for m in conversation_for(talking)] == ["first", "answer", "second"]
