"""Gemini CLI's chats, as it wrote them, spread over files, and damaged."""

from __future__ import annotations

import json
from pathlib import Path

from p8.core.sessions import SessionManager
from p8.formats import gemini
from p8.formats.foreign import Conversation
from p8.model import from_us
from support.imports import (
    DATA,
    TALK,
    calls,
    every_cut,
    jsonl,
    records_of,
    talk,
    twice_adds_nothing,
)

FILE = next((DATA / "gemini").rglob("session-*.jsonl"))
HEAD = {"sessionId": "s", "projectHash": "h", "startTime": "2026-11-21T07:00:00.000Z"}


def read(path: Path) -> Conversation:
    (found,) = gemini.read(path)
    return found


def message(id: str, kind: str, said: str, **more: object) -> dict[str, object]:
    return {"id": id, "type": kind, "timestamp": f"2026-11-21T07:00:{len(id):02d}Z", "content": said, **more}


def test_a_chat_that_gemini_wrote_and_resumed() -> None:
    assert gemini.detect(FILE)
    found = read(FILE)
    assert (found.directory, found.model, found.bad) == ("/home/ada/demo", "gemini-2.5-flash", 0)
    assert talk(found) == TALK
    times = [item.time_us for item in found.items]
    assert times == sorted(times)
    assert from_us(times[0]).isoformat() == "2026-11-21T07:28:37.056000+00:00"  # not when it was resumed
    look = found.items[1]
    assert (look.tokens_in, look.tokens_out, look.thought) == (150, 24, "Reading: I look at the notes.")
    (call,) = look.tools
    assert (call["title"], call["status"], call["content"]) == ("read_file: notes.txt", "completed", "hello\n")


def test_importing_it_twice_adds_nothing(manager: SessionManager) -> None:
    (session,) = twice_adds_nothing(manager, DATA / "gemini")
    assert manager.store.sessions.get(session).messages == 5
    assert calls(manager, session) == [("read", "read_file: notes.txt", "completed", "hello\n")]


def test_a_session_spread_over_two_files_is_one_conversation(tmp_path: Path) -> None:
    lines = FILE.read_text("utf-8").splitlines()
    second = next(n for n, line in enumerate(lines) if n and line.startswith('{"sessionId"'))
    chats = tmp_path / "tmp" / "demo" / "chats"
    jsonl(chats / "session-2026-11-21T07-28-cfb51218.jsonl", lines[:second])
    jsonl(chats / "session-2026-11-21T07-30-cfb51218.jsonl", lines[second:])
    assert gemini.source_of(chats / "session-2026-11-21T07-30-cfb51218.jsonl") == chats
    found = read(chats)
    assert talk(found) == talk(read(FILE))
    assert [item.time_us for item in found.items] == [item.time_us for item in read(FILE).items]
    assert found.items[1].tools[0]["status"] == "completed"


def test_the_older_layout_is_one_json(tmp_path: Path) -> None:
    data = {
        **HEAD, "summary": "A greeting", "messages": [
            message("1", "user", "hello"), message("22", "gemini", "hi", model="g", tokens={"input": 5, "output": 2}),
            message("333", "info", "Update available"), message("4444", "user", "/memory show"),
        ],
    }  # fmt: skip
    file = tmp_path / "session-1.json"
    file.write_text(json.dumps(data))
    assert gemini.detect(file)
    found = read(file)
    assert found.title == "A greeting"
    assert talk(found) == [
        ("user", "hello"), ("assistant", "hi"), ("notice", "Update available"), ("command", "/memory show"),
    ]  # fmt: skip


def test_what_was_rewound_is_left_out_and_counted(tmp_path: Path) -> None:
    found = read(jsonl(tmp_path / "session-1.jsonl", [
        HEAD, message("1", "user", "a"), message("2", "gemini", "b"), message("3", "user", "c"), {"$rewindTo": "3"},
        message("4", "user", "d"), {"$set": {"summary": "Letters"}},
    ]))  # fmt: skip
    assert [text for _, text in talk(found)] == ["a", "b", "d"]
    assert (found.more["taken_back"], found.title) == (1, "Letters")


def test_where_it_took_place_is_read_from_what_the_model_was_told(tmp_path: Path) -> None:
    copy = jsonl(tmp_path / "chats" / "session-1.jsonl", records_of(FILE))
    assert read(copy).directory == "/home/ada/demo"


def test_a_bad_record_costs_that_record(tmp_path: Path) -> None:
    found = read(jsonl(tmp_path / "session-1.jsonl", [
        HEAD, message("1", "user", "a"), "{", {"id": "2", "content": 7}, message("3", "gemini", "b"), '"text"',
    ]))  # fmt: skip
    assert talk(found) == [("user", "a"), ("assistant", "b")]
    assert found.bad == 3


def test_odd_types_everywhere_are_survived(tmp_path: Path) -> None:
    records: list[object] = [HEAD, message("1", "user", "hello")]
    for n, value in enumerate((None, 7, [], {}, "x", True, {"content": 7}, [[[]]], [None, 3], "\ud800")):
        records += [
            {"id": value}, {"id": f"x{n}", "type": value, "content": value, "timestamp": value, "toolCalls": value},
            {"id": f"y{n}", "type": "gemini", "content": [value], "tokens": value, "thoughts": value, "model": value},
            {"$set": value},
            {"$set": {"directories": value, "summary": value}}, {"sessionId": value, "messages": value},
            {"id": f"z{n}", "type": "gemini", "toolCalls": [{"name": value, "args": value, "result": value}]},
        ]  # fmt: skip
    assert ("user", "hello") in talk(read(jsonl(tmp_path / "session-1.jsonl", records)))


def test_a_file_cut_off_anywhere_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert every_cut(FILE, gemini.read, tmp_path / "session-cut.jsonl") == 5
