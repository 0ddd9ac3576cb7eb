"""What an agent does on the way to an answer, in the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from p8.assistants.base import Cancel, Chunk, ChunkKind, Decision
from p8.core.permissions import Permissions
from p8.core.sessions import SessionManager
from p8.core.turns import ask, conversation_for, run_turn
from p8.errors import AssistantError
from p8.testing import FakeAssistant

MARK = {"agent": "fake", "session": "s-1", "cwd": "/x"}


def text(words: str) -> Chunk:
    return Chunk(ChunkKind.TEXT, words)


def tool(status: str, **more: Any) -> Chunk:
    return Chunk(ChunkKind.TOOL, data={"id": "c1", "status": status, **more})


def question(scope: str = "edit") -> Chunk:
    data = {"request": "q1", "id": "c1", "title": "Edit a", "kind": "edit", "scope": scope, "input": {"a": 1}}
    return Chunk(ChunkKind.PERMISSION, "Edit a", data)


class Asking(FakeAssistant):
    """A fake that notes what its questions were answered."""

    def __init__(self, *script: Any, **more: Any) -> None:
        super().__init__(*script, **more)
        self.answers: list[tuple[str, Decision]] = []

    def permit(self, request: str, decision: Decision) -> None:
        self.answers.append((request, decision))


@pytest.fixture
def talking(manager: SessionManager) -> SessionManager:
    manager.start_session("demo")
    ask(manager, "do it")
    return manager


def run(manager: SessionManager, assistant: FakeAssistant, **more: Any) -> list[Chunk]:
    return list(run_turn(manager, assistant, Cancel(), **{"idle_timeout_s": 5.0, **more}))


def parts(manager: SessionManager) -> list[dict[str, Any]]:
    assert manager.current is not None
    return [e.data for e in manager.store.sessions.entries(manager.current.session_id, kinds=("part",), whole=True)]


def last(manager: SessionManager) -> dict[str, Any]:
    assert manager.current is not None
    return manager.current.conversation_history[-1]


def test_parts_stand_in_the_order_in_which_they_came(talking: SessionManager) -> None:
    plan = Chunk(ChunkKind.PLAN, data={"id": "plan", "entries": [{"content": "look"}]})
    run(talking, FakeAssistant([
        Chunk(ChunkKind.THOUGHT, "hm "), Chunk(ChunkKind.THOUGHT, "well"), text("let me "), text("see"), plan,
        tool("pending", title="Edit a"), tool("in_progress"), tool("completed", output="ok"), text("done"),
    ]))  # fmt: skip
    found = parts(talking)

    assert [(p["part"], p.get("text") or p.get("status") or p["id"]) for p in found] == [
        ("thought", "hm well"), ("text", "let me see"), ("plan", "plan"), ("tool", "pending"), ("tool", "completed"),
        ("text", "done"),
    ]  # fmt: skip
    assert len({p["turn"] for p in found}) == 1
    assert found[4] == {**found[3], "status": "completed", "output": "ok"}
    assert last(talking)["content"] == "let me seedone"
    assert last(talking)["turn"] == found[0]["turn"]
    assert last(talking)["tools"] == [{"id": "c1", "title": "Edit a", "status": "completed"}]


def test_an_answer_of_text_alone_has_no_parts(talking: SessionManager) -> None:
    run(talking, FakeAssistant("one two three"))

    assert parts(talking) == []
    assert "turn" not in last(talking)


def test_a_part_is_recorded_before_the_next_comes(talking: SessionManager) -> None:
    seen = []
    chunks = run_turn(talking, FakeAssistant([text("see "), tool("pending"), text("x")]), Cancel(), idle_timeout_s=5)
    for chunk in chunks:
        if chunk.kind is ChunkKind.TOOL:
            seen = [p["part"] for p in parts(talking)]

    assert seen == ["text", "tool"]


def test_a_tool_that_never_ended_is_left_as_it_was(talking: SessionManager) -> None:
    class Breaks(FakeAssistant):
        def stream(self, conversation: Sequence[dict[str, Any]], cancel: Cancel) -> Iterator[Chunk]:
            yield tool("pending", title="Edit a")
            yield tool("in_progress", output="half")
            raise AssistantError("it died")

    with pytest.raises(AssistantError):
        run(talking, Breaks())

    assert [(p["status"], p.get("output")) for p in parts(talking)] == [("pending", None), ("in_progress", "half")]
    assert last(talking)["error"] == "it died"


def test_a_question_is_answered_and_recorded_with_who_decided(talking: SessionManager) -> None:
    asked: list[dict[str, Any]] = []

    def person(data: dict[str, Any]) -> Decision:
        asked.append(data)
        return Decision.ALWAYS

    assistant, rules = Asking([question()]), Permissions()
    run(talking, assistant, permissions=rules, ask=person)
    run(talking, assistant, permissions=rules, ask=person)

    assert len(asked) == 1
    assert assistant.answers == [("q1", Decision.ALWAYS)] * 2
    assert [(p["scope"], p["answer"], p["by"]) for p in parts(talking)] == [
        ("edit", "always", "person"), ("edit", "always", "session"),
    ]  # fmt: skip
    assert "input" not in parts(talking)[0]


def test_without_anybody_to_ask_it_is_refused(talking: SessionManager) -> None:
    assistant = Asking([question(), text("then not")])
    chunks = run(talking, assistant)

    assert assistant.answers == [("q1", Decision.NO)]
    assert chunks[0].data["by"] == "nobody"
    assert last(talking)["content"] == "then not"


def test_stopping_at_a_question_stops_the_turn(talking: SessionManager) -> None:
    assistant = Asking([text("a "), question(), text("b")])
    run(talking, assistant, ask=lambda _: Decision.CANCEL)

    assert assistant.answers == [("q1", Decision.CANCEL)]
    assert last(talking)["cancelled"] is True
    assert last(talking)["content"] == "a "


def test_the_time_a_person_takes_is_not_the_agents(talking: SessionManager) -> None:
    class Slow(Asking):
        def stream(self, conversation: Sequence[dict[str, Any]], cancel: Cancel) -> Iterator[Chunk]:
            yield question()
            while not self.answers:
                time.sleep(0.01)
            time.sleep(0.2)
            yield text("done")

    def person(_: dict[str, Any]) -> Decision:
        time.sleep(0.8)
        return Decision.ONCE

    run(talking, Slow(), ask=person, idle_timeout_s=0.5)

    assert last(talking)["content"] == "done"


def test_a_tool_at_work_may_be_silent_for_longer(talking: SessionManager) -> None:
    class Works(FakeAssistant):
        def stream(self, conversation: Sequence[dict[str, Any]], cancel: Cancel) -> Iterator[Chunk]:
            yield tool("in_progress")
            time.sleep(0.8)
            yield tool("completed")
            time.sleep(0.8)
            yield text("too late")

    with pytest.raises(AssistantError, match="sent nothing for 0 s"):
        run(talking, Works(), idle_timeout_s=0.3)

    assert [p["status"] for p in parts(talking)] == ["in_progress", "completed"]


def test_an_agents_own_session_comes_back_in_this_session_and_not_in_a_fork(talking: SessionManager) -> None:
    run(talking, FakeAssistant([Chunk(ChunkKind.SESSION, data=MARK), text("yes")]))
    here = conversation_for(talking)
    assert talking.current is not None
    mine = talking.current.session_id
    talking.pause_session()
    talking.resume_session(mine)
    resumed = conversation_for(talking)
    talking.fork_session()
    forked = conversation_for(talking)

    assert here[-1] == {"role": "assistant", "content": "yes", "agent_session": {**MARK, "of": mine}}
    assert resumed == here
    assert forked[-1] == {"role": "assistant", "content": "yes"}
