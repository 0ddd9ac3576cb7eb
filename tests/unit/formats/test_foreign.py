"""How foreign files are opened and their values taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from p8.core.transfer import formats
from p8.errors import FormatError
from p8.formats import foreign
from p8.formats.foreign import Conversation, Item, Records, walk, when

NAMES = st.sampled_from([
    "type", "uuid", "parentUuid", "message", "content", "role", "id", "payload", "timestamp", "sessionId", "messages",
    "$set", "$rewindTo", "toolCalls", "tool_use_id", "text", "usage", "model", "name", "arguments", "output", "cwd",
    "projectHash", "info", "summary", "git", "call_id", "functionResponse", "functionCall", "result", "args",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20,
)  # fmt: skip
KINDS = st.sampled_from([
    "user", "assistant", "system", "message", "response_item", "event_msg", "session_meta", "reasoning", "gemini",
    "function_call", "function_call_output", "token_count", "thread_rolled_back", "text", "tool_use", "tool_result",
])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(NAMES, JSON | KINDS, max_size=8), max_size=12))
def test_no_record_however_odd_makes_a_reader_fail(
    tmp_path_factory: pytest.TempPathFactory, records: list[object]
) -> None:
    import json

    file = tmp_path_factory.getbasetemp() / "rollout-odd.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    for one in formats():
        if one.NAME in {"claude", "codex", "gemini"}:
            one.detect(file)
            for found in one.read(file):
                assert all(isinstance(item.content, str) and item.key for item in found.items)


def test_lines_that_are_too_long_or_no_json_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "LINE_BYTES", 64)
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a":1}\n' + b'{"b":"' + b"x" * 500 + b'"}\n' + b"[]\n\n" + b'{"c":3}\n{"d"')
    records = Records(file)
    assert list(records) == [{"a": 1}, {"c": 3}]
    assert records.bad == 2  # the last line is still being written


def test_half_a_character_pair_and_nesting_without_end(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a":"\\ud83d"}\n' + b'{"a":' * 100_000 + b"\n" + b'{"n":' + b"9" * 6000 + b"}\n" + b'{"b":1}\n')
    records = Records(file)
    assert [set(record) for record in records] in ([{"a"}, {"b"}], [{"a"}, {"n"}, {"b"}])
    assert records.bad >= 1


def test_a_compressed_file_that_expands_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "FILE_BYTES", 1 << 20)
    monkeypatch.setattr(foreign, "LINE_BYTES", 1 << 16)
    file = tmp_path / "rollout-bomb.jsonl.zst"
    file.write_bytes(zstandard.compress(b'{"a":1}\n' + b"x" * (64 << 20)))
    records = Records(file)
    assert list(records) == [{"a": 1}]


@pytest.mark.timeout(20)
def test_pipes_devices_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(FormatError):
            foreign.opened(path)
        assert foreign.beginning(path) == b""


def test_links_into_other_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "broken").symlink_to(tmp_path / "none")
    assert list(walk(tmp_path)) == [tmp_path / "a" / "b" / "file"]


@pytest.mark.parametrize(("value", "expected"), [
    ("1970-01-01T00:00:01Z", 1_000_000), ("1970-01-01T01:00:01+01:00", 1_000_000), ("1970-01-01 00:00:01", 1_000_000),
    (1_700_000_000, 1_700_000_000_000_000), (1_700_000_000_123, 1_700_000_000_123_000), (1.5, 1_500_000),
    (None, 0), (True, 0), ("", 0), ("never", 0), ("9" * 5000, 0), (-1, 0), (10**30, 0), (float("nan"), 0),
    (float("inf"), 0), ([], 0),
])  # fmt: skip
def test_times_of_all_kinds(value: object, expected: int) -> None:
    assert when(value) == expected


def test_a_time_that_cannot_be_is_taken_from_the_one_before(tmp_path: Path) -> None:
    good = 1_790_000_000_000_000
    found = Conversation("x", "1", str(tmp_path))
    for at in (0, good, 2**62, 5, good + 1):
        found.add(Item("user", "a", time_us=at))
    assert [item.time_us for item in found.settle().items] == [good, good, good, good, good + 1]


def test_what_is_too_much_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "TEXT_CHARACTERS", 100)
    monkeypatch.setattr(foreign, "TOTAL_CHARACTERS", 150)
    monkeypatch.setattr(foreign, "SHORT_CHARACTERS", 10)
    monkeypatch.setattr(foreign, "ITEMS", 3)
    found = Conversation("x", "1", "")
    for _ in range(5):
        found.add(Item("user", "a" * 120))
    assert [item.content[-25:] for item in found.items] == [
        "aa… [20 characters cut]"[-25:].rjust(25, "a"), "aa… [20 characters cut]".rjust(25, "a"),
        "a… [110 characters cut]".rjust(25, "a")[-25:],
    ]  # fmt: skip
    assert found.more["left_out"] == 2
