from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p8.store.chain import Parts, Place, claims, fits, line_of, mend_columns, mend_line, mend_payload, parts_of
from p8.store.chaincheck import ChainCheck, Missing, Wrong
from p8.store.journal import Journal
from p8.store.reading import Unreadable, readable
from p8.store.sources import carve, joined

NAME = "20261121-093000-123456-ab12"


def written(tmp_path: Path, *texts: str) -> list[bytes]:
    """Return the lines that the journal itself writes."""
    journal = Journal(tmp_path / "journal")
    for text in texts:
        journal.append(NAME, "message", {"role": "user", "content": text})
    [path] = journal.own()
    lines = path.read_bytes().splitlines()
    journal.close(lambda _path, _size: False)
    return lines


def parts(tmp_path: Path, *texts: str) -> list[Parts]:
    return [p for p in map(parts_of, written(tmp_path, *texts)) if p is not None]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_a_line_taken_apart_is_the_same_line_and_fits(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    lines = written(tmp_path_factory.mktemp("journal"), *texts)
    previous = 0
    for line in lines:
        found = parts_of(line)
        assert found is not None
        assert line_of(found) == line + b"\n"
        assert fits(found, previous)
        assert not fits(found, previous + 1)
        assert not fits(found._replace(seq=found.seq + 1), previous)
        previous = found.digest


def test_every_single_bit_of_a_line_is_turned_back(tmp_path: Path) -> None:
    first, line = written(tmp_path, "one", "naïve two")
    one, two = parts_of(first), parts_of(line)
    assert one is not None
    assert two is not None
    places = [Place("20260101-000000-000000-0000", 5, 77), Place(NAME, 2, one.digest)]
    for at in range(len(line)):
        for bit in range(8):
            harmed = bytearray(line)
            harmed[at] ^= 1 << bit
            mended = mend_line(bytes(harmed), places)
            assert mended is not None, (at, bit)
            assert parts_of(mended) == two


def test_two_wrong_bits_and_other_places_are_not_taken(tmp_path: Path) -> None:
    first, line = written(tmp_path, "one", "two")
    one = parts_of(first)
    assert one is not None
    harmed = bytearray(line)
    harmed[-6] ^= 1
    harmed[-8] ^= 1

    assert mend_line(bytes(harmed), [Place(NAME, 2, one.digest)]) is None
    assert mend_line(line[:-5], [Place(NAME, 2, one.digest)]) is None
    assert mend_line(line[:-3] + b"x" + line[-2:], [Place(NAME, 2, one.digest + 1)]) is None


def test_a_wrong_bit_of_a_row_is_found(tmp_path: Path) -> None:
    one, two = parts(tmp_path, "one", "two")
    harmed = bytearray(two.payload)
    harmed[20] ^= 16

    assert mend_payload(two._replace(payload=bytes(harmed)), one.digest) == two
    assert mend_columns(two._replace(time_us=two.time_us ^ 1 << 40), one.digest) == two
    assert mend_columns(two._replace(kind="mesrage"), one.digest) == two
    assert mend_columns(two._replace(kind="command"), one.digest) is None


def test_damaged_bytes_say_whose_they_are_as_far_as_they_can(tmp_path: Path) -> None:
    [line] = written(tmp_path, "one")

    assert claims(line[:-9]) == (NAME, 1)
    assert claims(line.replace(b'"s":"', b'"s:":')) == (NAME, 1)
    assert claims(b"\0" * 40) == ("", 0)


def test_the_check_tells_what_is_wrong_from_what_is_only_mislabelled(tmp_path: Path) -> None:
    good = parts(tmp_path, *"abcdefgh")
    harmed = list(good)
    harmed[1] = harmed[1]._replace(payload=b'{"role":"user","content":"x"}')
    harmed[3] = harmed[3]._replace(digest=harmed[3].digest ^ 1)
    del harmed[5]
    check = ChainCheck(NAME, 0)
    for one in harmed:
        check.add(one, "entries", "")
    check.end(10, harmed[-1].digest)
    found = [(type(p), p.seq, getattr(p, "hash_only", getattr(p, "last", 0))) for p in check.problems]

    assert found == [(Wrong, 2, False), (Wrong, 4, True), (Missing, 6, 6), (Missing, 9, 10)]
    assert isinstance(check.problems[1], Wrong)
    assert check.problems[1].right == good[3].digest


def test_a_changed_last_entry_is_told_from_a_changed_last_hash(tmp_path: Path) -> None:
    good = parts(tmp_path, "a", "b")
    for harm, hash_only in ((good[1]._replace(digest=5), True), (good[1]._replace(time_us=5), False)):
        check = ChainCheck(NAME, 0)
        check.add(good[0], "entries", "")
        check.add(harm, "entries", "")
        check.end(2, good[1].digest)
        [problem] = check.problems
        assert isinstance(problem, Wrong)
        assert (problem.seq, problem.hash_only) == (2, hash_only)


def test_lines_whose_end_was_lost_or_made_are_put_right() -> None:
    a, b = b'{"h":"1",a}', b'{"h":"2",b}'

    assert (a, (("s", 0),)) in joined([("s", 0, a + b"*" + b)])
    assert (b, (("s", 0),)) in joined([("s", 0, a + b"*" + b)])
    assert (a + b"\n" + b, (("s", 0), ("s", len(a) + 1))) in joined([("s", 0, a), ("s", len(a) + 1, b)])
    assert joined([("s", 0, b"\0\0\0")]) == []


# reading what is damaged


def database(tmp_path: Path, count: int = 400) -> Path:
    from p8.store.schema import TABLES

    path = tmp_path / "copy.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA page_size = 4096")
    db.execute(next(part for part in TABLES.split(";\n") if "CREATE TABLE entries" in part).strip())
    chance = random.Random(3)
    for seq in range(1, count + 1):
        text = '{"content":"' + "x" * chance.choice((5, 60, 900, 9000)) + f'{seq}"}}'
        row = (3 << 32 | seq, 1_800_000_000_000_000 + seq, "message", "user", text, seq.to_bytes(8, "big"))
        db.execute("INSERT INTO entries VALUES (?,?,?,?,?,?)", row)
    db.commit()
    db.close()
    return path


def cut(raw: bytes, keys: set[int]) -> dict[int, Parts]:
    found: dict[int, Parts] = {}
    for key, one in carve(raw, keys, lambda _: None):
        found.setdefault(key, one)
    return found


def test_rows_are_cut_out_of_pages_whatever_their_headers_say(tmp_path: Path) -> None:
    raw = bytearray(database(tmp_path).read_bytes())
    keys = {3 << 32 | seq for seq in range(1, 401)}
    whole = cut(bytes(raw), keys)
    assert set(whole) == keys
    for page in range(4096, len(raw), 4096):
        raw[page : page + 8] = b"\xff" * 8
    found = cut(bytes(raw), keys)

    short = {key: one for key, one in whole.items() if len(one.payload) < 4000}  # others go on in pages of their own
    assert len(short) > 250
    assert {key: found.get(key) for key in short} == short
    assert whole[3 << 32 | 7].digest == 7
    assert whole[3 << 32 | 7].payload.endswith(b'7"}')
    assert cut(bytes(raw), {99}) == {}


def test_one_wrong_bit_in_a_rows_header_does_not_hide_it(tmp_path: Path) -> None:
    raw = bytearray(database(tmp_path, 40).read_bytes())
    key = 3 << 32 | 11
    at = raw.find(bytes([0xB0, 0x80, 0x80, 0x80, 0x0B]))
    assert at > 0
    for offset in range(-1, 12):
        for bit in range(8):
            raw[at + offset] ^= 1 << bit
            found = [one for number, one in carve(bytes(raw), {key}, lambda _: None) if number == key]
            assert any(one.digest == 11 for one in found), (offset, bit)
            raw[at + offset] ^= 1 << bit


def test_what_cannot_be_read_costs_its_page_only(tmp_path: Path) -> None:
    path = database(tmp_path)
    raw = bytearray(path.read_bytes())
    page = raw.index(b'{"content":"' + b"x" * 60) // 4096 * 4096
    raw[page] = 0xFF
    path.write_bytes(bytes(raw))
    from p8.store.sqlite import driver

    db = driver.connect(str(path))
    sql = "SELECT id, data FROM entries WHERE id BETWEEN ? AND ? ORDER BY id"
    with pytest.raises(driver.Error):
        db.execute(sql, (0, 1 << 60)).fetchall()
    found = list(readable(db, sql, 3 << 32 | 1, 3 << 32 | 400))
    lost = [one.key & 0xFFFFFFFF for one in found if isinstance(one, Unreadable)]
    db.close()

    assert 0 < len(lost) < 60
    assert len(found) == 400
    assert [one[0] & 0xFFFFFFFF for one in found] == list(range(1, 401))
