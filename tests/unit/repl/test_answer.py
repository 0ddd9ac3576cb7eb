"""What a person sees of an agent at work."""

from __future__ import annotations

import io

from p8.assistants.base import Chunk, ChunkKind
from p8.repl.answer import SHOWN_LINES, Answer, preview
from p8.repl.screen import Screen


def drawn(*chunks: Chunk) -> list[str]:
    out = io.StringIO()
    with Answer(Screen(out, width=60)) as answer:
        for chunk in chunks:
            answer.take(chunk)
    return out.getvalue().splitlines()


def tool(**data: object) -> Chunk:
    return Chunk(ChunkKind.TOOL, data={"id": "c1", **data})


def test_a_tool_call_is_one_line_once_it_is_known_what_it_is() -> None:
    lines = drawn(
        Chunk(ChunkKind.TEXT, "let me see"), tool(status="pending", title="Preparing…", input={}),
        tool(title="Write a.txt", input={"path": "a.txt"}), tool(status="in_progress"), tool(status="completed"),
        Chunk(ChunkKind.TEXT, "done"),
    )  # fmt: skip

    assert lines == ["let me see", "⚙ Write a.txt", "done"]


def test_one_that_failed_says_why() -> None:
    lines = drawn(tool(status="in_progress", title="Run"), tool(status="failed", content=[{"text": "no such\nfile"}]))

    assert lines == ["⚙ Run", "✗ Run failed no such file"]


def test_what_an_agent_says_is_made_harmless() -> None:
    plan = Chunk(ChunkKind.PLAN, data={"id": "plan", "entries": [{"content": "\x1b]0;x\x07", "status": "completed"}]})
    text = "\n".join(drawn(tool(status="in_progress", title="a\x1b[31m\nb"), plan))

    assert "\x1b" not in text
    assert "\x07" not in text
    assert "⚙ a␛[31m b" in text


def test_a_question_shows_the_command_or_the_change() -> None:
    change = {"path": "/p/a.txt", "old": "one\ntwo\n", "new": "one\nthree\n"}

    assert preview({"input": {"command": ["make", "test"]}}) == [("$ make test", "accent")]
    assert [line for line, _ in preview({"content": [change]})] == [
        "/p/a.txt",
        "@@ -1,2 +1,2 @@",
        " one",
        "-two",
        "+three",
    ]
    assert ("-two", "bad") in preview({"content": [change]})
    assert preview({}) == []


def test_a_long_change_is_cut_and_says_so() -> None:
    lines = preview({"content": [{"path": "p", "old": None, "new": "x\n" * 100}]})

    assert len(lines) == SHOWN_LINES + 1
    assert lines[-1][0].endswith("more lines")
