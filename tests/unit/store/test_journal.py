from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.errors import NotSaved, UsageError
from p8.store.journal import Journal
from p8.store.plain import load, plain, restore
from p8.store.segments import Damage, Line, chained, is_orphan, payload_of, read_segment, segments

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=8)
    | st.text(st.characters(categories=("Cs",)), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def lines(journal: Journal, orphan: bool = False) -> list[Line | Damage]:
    return [line for path in journal.own() for line in read_segment(path, 0, orphan)]


def test_entries_are_on_disk_when_append_returns(journal: Journal) -> None:
    for number in range(5):
        journal.append("s", "message", {"role": "user", "content": f"text {number}"})
        read = [load(payload_of(line.raw))["content"] for line in lines(journal)]  # type: ignore[union-attr]

        assert [f"text {n}" for n in range(number + 1)] == read


def test_each_entry_is_chained_to_the_one_before(journal: Journal) -> None:
    for number in range(20):
        journal.append("ab"[number % 2], "message", {"role": "user", "content": str(number)})
    heads = {"a": 0, "b": 0}
    for line in lines(journal):
        assert isinstance(line, Line)
        assert chained(line.raw, heads[line.stream]) == line.hash
        heads[line.stream] = line.hash


@given(ANY)
def test_nothing_is_lost_that_json_cannot_hold(value: object) -> None:
    assert repr(restore(plain({"v": value}))) == repr({"v": value})


@pytest.mark.parametrize("bad", ["lone \udcff surrogate", float("nan"), 2**70, -(2**65), b"\xff\0", float("inf")])
def test_odd_values_are_recorded_and_come_back(journal: Journal, bad: object) -> None:
    journal.append("s", "message", {"role": "user", "content": bad, "deep": [{"x": bad}]})
    (line,) = lines(journal)

    assert isinstance(line, Line)
    assert repr({"role": "user", "content": bad, "deep": [{"x": bad}]}) == repr(load(payload_of(line.raw)))


def test_a_flipped_bit_is_seen(journal: Journal) -> None:
    journal.append("s", "message", {"role": "user", "content": "hello"})
    path = journal.own()[0]
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"hello")] ^= 1
    (line,) = list(read_segment(_copy(path, bytes(raw)), 0, True))

    assert isinstance(line, Line)
    assert chained(line.raw, 0) != line.hash


def _copy(path: Path, raw: bytes) -> Path:
    other = path.with_name("copy.jsonl")
    other.write_bytes(raw)
    return other


def test_a_torn_last_line_costs_only_itself(journal: Journal) -> None:
    for number in range(3):
        journal.append("s", "message", {"role": "user", "content": str(number)})
    raw = journal.own()[0].read_bytes()
    copy = _copy(journal.own()[0], raw[:-9])
    found = list(read_segment(copy, 0, True))

    assert [isinstance(f, Line) for f in found] == [True, True, False]
    assert [isinstance(f, Line) for f in read_segment(copy, 0, False)] == [True, True]


def test_zeros_after_a_power_cut_cost_only_themselves(journal: Journal) -> None:
    journal.append("s", "message", {"role": "user", "content": "x"})
    copy = _copy(journal.own()[0], journal.own()[0].read_bytes() + b"\0" * 300 + b"\n")
    found = list(read_segment(copy, 0, True))

    assert isinstance(found[0], Line)
    assert isinstance(found[1], Damage)
    assert "zeros" in found[1].reason


def test_a_living_writers_file_is_no_orphan(journal: Journal) -> None:
    journal.append("s", "message", {"role": "user", "content": "x"})
    path = journal.own()[0]

    assert not is_orphan(path)
    journal.close(lambda _path, _size: False)
    assert is_orphan(path)


def test_a_full_disk_keeps_entries_and_their_order(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    import p8.store.journal as room

    told: list[OSError | None] = []
    journal.on_trouble = told.append
    journal.append("s", "message", {"role": "user", "content": "0"})
    real, full = os.write, {"now": True}

    def write(fd: int, data: bytes) -> int:
        if full["now"]:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(room, "write", write)
    for number in (1, 2):
        with pytest.raises(NotSaved):
            journal.append("s", "message", {"role": "user", "content": str(number)})
    assert journal.unwritten == 2
    full["now"] = False
    assert journal.append("s", "message", {"role": "user", "content": "3"})[0] == 4

    assert ["0", "1", "2", "3"] == [load(payload_of(line.raw))["content"] for line in lines(journal)]  # type: ignore[union-attr]
    assert told[0] is not None
    assert told[-1] is None


def test_a_short_write_leaves_no_torn_line(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    import p8.store.journal as room

    journal.append("s", "message", {"role": "user", "content": "0"})
    real, short = os.write, {"now": True}

    def write(fd: int, data: bytes) -> int:
        if short["now"]:
            short["now"] = False
            return real(fd, data[:10])
        return real(fd, data)

    monkeypatch.setattr(room, "write", write)
    journal.append("s", "message", {"role": "user", "content": "1"})
    found = lines(journal)

    assert not short["now"], "the fault did not fire"
    assert ["0", "1"] == [load(payload_of(line.raw))["content"] for line in found]  # type: ignore[union-attr]


def test_files_are_private(journal: Journal) -> None:
    journal.append("s", "message", {"role": "user", "content": "x"})

    assert journal.own()[0].stat().st_mode & 0o777 == 0o600
    assert journal.folder.stat().st_mode & 0o777 == 0o700


def test_a_stream_is_never_a_path(journal: Journal) -> None:
    for bad in ("../x", "a/b", "", "a\nb", "\0"):
        with pytest.raises(UsageError):
            journal.append(bad, "message", {})
    assert segments(journal.folder) == []
