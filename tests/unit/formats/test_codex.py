"""Codex's rollouts, as it wrote them, as older versions did, and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import zstandard

from p8.core.sessions import SessionManager
from p8.formats import codex
from p8.formats.foreign import Conversation
from p8.model import from_us
from support.imports import ANSWER, ASKED, DATA, THEN, calls, every_cut, jsonl, records_of, talk, twice_adds_nothing

FILE = next((DATA / "codex").rglob("rollout-*.jsonl"))
ID = "01a1fd01-be34-7cf3-94ee-2b2284c00f20"


def read(path: Path) -> Conversation:
    (found,) = codex.read(path)
    return found


def item(**payload: object) -> dict[str, object]:
    return {"timestamp": "2026-01-02T03:04:05.678Z", "type": "response_item", "payload": payload}


def message(role: str, said: str) -> dict[str, object]:
    return item(type="message", role=role, content=[{"type": "output_text", "text": said}])


def test_a_rollout_that_codex_wrote() -> None:
    assert codex.detect(FILE)
    found = read(FILE)
    assert (found.id, found.directory, found.model, found.bad) == (ID, "/home/ada/demo", "gpt-5", 0)
    assert found.title == ASKED  # from Codex's own database beside it
    assert talk(found) == [
        ("user", ASKED), ("assistant", ""), ("assistant", ANSWER), ("user", THEN), ("assistant", ANSWER),
    ]  # fmt: skip
    times = [one.time_us for one in found.items]
    assert times == sorted(times)
    assert from_us(found.started_us).isoformat() == "2026-11-21T07:28:32.322000+00:00"
    assert [(one.tokens_in, one.tokens_out) for one in found.items if one.role == "assistant"] == [(140, 22)] * 3
    look = found.items[1]
    assert look.thought == "**Looking** at the notes"
    (call,) = look.tools
    assert (call["title"], call["status"]) == ("exec_command: cat notes.txt", "completed")
    assert call["content"].endswith("Output:\nhello\n")


def test_importing_it_twice_adds_nothing(manager: SessionManager) -> None:
    (session,) = twice_adds_nothing(manager, FILE)
    row = manager.store.sessions.get(session)
    assert (row.tokens_in, row.tokens_out) == (420, 66)
    ((kind, title, status, output),) = calls(manager, session)
    assert (kind, title, status) == ("execute", "exec_command: cat notes.txt", "completed")
    assert output.endswith("hello\n")


def test_what_codex_says_in_the_persons_name_is_left_out(tmp_path: Path) -> None:
    records = [
        message("developer", "be good"), message("user", "<environment_context>\n</environment_context>"),
        message("user", "# AGENTS.md instructions for /x"), message("user", "do it"), message("assistant", "done"),
    ]  # fmt: skip
    assert talk(read(jsonl(tmp_path / "rollout-x.jsonl", records))) == [("user", "do it"), ("assistant", "done")]


def test_the_first_layout_without_wrappers(tmp_path: Path) -> None:
    found = read(jsonl(tmp_path / "rollout-2025-05-07T17-24-21-5973b6c0-94b8-487b-a530-2aeb6098ae0e.jsonl", [
        {"id": "5973b6c0-94b8-487b-a530-2aeb6098ae0e", "timestamp": "2025-05-07T17:24:21.597Z", "instructions": "",
         "git": {"commit_hash": "c0ffee", "branch": "main"}},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list files"}]},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls","-l"]}', "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": '{"output":"a b","metadata":{"exit_code":1}}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a and b"}]},
    ]))  # fmt: skip
    assert talk(found) == [("user", "list files"), ("assistant", ""), ("assistant", "a and b")]
    assert (found.branch, found.commit) == ("main", "c0ffee")
    (call,) = found.items[1].tools
    assert (call["title"], call["status"], call["content"]) == ("shell: ls -l", "failed", "a b")
    assert from_us(found.items[0].time_us).isoformat() == "2025-05-07T17:24:21.597000+00:00"


def test_turns_that_were_rolled_back_are_left_out_and_counted(tmp_path: Path) -> None:
    roll = {"type": "event_msg", "payload": {"type": "thread_rolled_back", "num_turns": 1}}
    found = read(jsonl(tmp_path / "rollout-x.jsonl", [
        message("user", "a"), message("assistant", "b"), message("user", "c"), message("assistant", "d"), roll,
        message("user", "e"),
    ]))  # fmt: skip
    assert [text for _, text in talk(found)] == ["a", "b", "e"]
    assert found.more["taken_back"] == 2


def test_usage_of_older_versions_is_counted_once(tmp_path: Path) -> None:
    def usage(total: int) -> dict[str, object]:
        info = {
            "total_token_usage": {"total_tokens": total},
            "last_token_usage": {"input_tokens": 9, "output_tokens": 3},
        }
        return {"type": "event_msg", "payload": {"type": "token_count", "info": info}}

    found = read(jsonl(tmp_path / "rollout-x.jsonl", [
        message("user", "a"), message("assistant", "b"), usage(12), message("user", "c"), usage(12),
        message("assistant", "d"), usage(24),
    ]))  # fmt: skip
    assert [(one.tokens_in, one.tokens_out) for one in found.items] == [(0, 0), (9, 3), (0, 0), (9, 3)]


def test_names_given_by_hand_are_in_the_index(tmp_path: Path) -> None:
    copy = tmp_path / "codex"
    shutil.copytree(DATA / "codex", copy)
    jsonl(copy / "session_index.jsonl", [{"id": ID, "thread_name": "By hand"}, {"id": 7}])
    found = read(next(copy.rglob("rollout-*.jsonl")))
    assert (found.title, found.named) == ("By hand", True)


def test_a_compressed_rollout_is_read_and_a_damaged_one_is_a_problem(tmp_path: Path, manager: SessionManager) -> None:
    packed = tmp_path / f"{FILE.name}.zst"
    packed.write_bytes(zstandard.compress(FILE.read_bytes()))
    assert codex.detect(packed)
    assert talk(read(packed)) == talk(read(FILE))
    packed.write_bytes(b"not compressed")
    from support.imports import bring_in

    report = bring_in(manager, packed)
    assert report.outcomes == []
    assert len(report.problems) == 1


def test_a_bad_record_costs_that_record(tmp_path: Path) -> None:
    records: list[object] = list(records_of(FILE))
    output = next(n for n, r in enumerate(records) if "function_call_output" in str(r))
    found = read(jsonl(tmp_path / FILE.name, [*records[:output], "{", *records[output + 1 :]]))
    assert found.bad == 1
    assert len(found.items) >= 4
    assert found.items[1].tools[0]["status"] == "pending"


def test_odd_types_everywhere_are_survived(tmp_path: Path) -> None:
    records: list[object] = [message("user", "hello")]
    for value in (None, 7, [], {}, "x", True, {"content": 7}, [[[]]], "\ud800"):
        records += [
            {"type": "response_item", "payload": value}, {"type": value, "payload": {"type": value}},
            item(type="message", role="user", content=value), item(type="function_call", name=value, arguments=value),
            item(type="function_call_output", call_id=value, output=value), item(type="reasoning", summary=value),
            {"type": "event_msg", "payload": {"type": "token_count", "info": value}},
            {"type": "event_msg", "payload": {"type": "thread_rolled_back", "num_turns": 0}},
            {"type": "session_meta", "payload": {"id": value, "git": value, "timestamp": value}},
        ]  # fmt: skip
    assert ("user", "hello") in talk(read(jsonl(tmp_path / "rollout-x.jsonl", records)))


def test_a_file_cut_off_anywhere_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert every_cut(FILE, codex.read, tmp_path / FILE.name, 211) == 5
