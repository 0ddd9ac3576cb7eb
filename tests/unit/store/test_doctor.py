"""What the doctor finds in a home, and what it makes of it. The oracle reads the database without P8."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p8.core.doctor import Doctor, Report
from p8.core.sessions import SessionManager
from p8.errors import P8Error, StoreError
from p8.model import Finding
from p8.store import chaincheck, indexcheck
from p8.store import doctor as room
from p8.store.manager import PersistenceManager
from support.homes import change, dying, fill, flip, oracle, packed, rows


def doctor_of(manager: SessionManager, *checks: Callable[[], list[Finding]]) -> Doctor:
    return Doctor(manager.store, manager.custody, checks)


def fresh(home: Path) -> SessionManager:
    return SessionManager(PersistenceManager(home, background=False))


def named(report: Report, area: str) -> list[tuple[str, int]]:
    return [(f.session, f.seq) for f in report.findings if f.area == area]


@pytest.fixture
def ids(home: Path) -> list[str]:
    """A home at rest: no process has a journal, so what is damaged in the database is nowhere else."""
    other = fresh(home)
    found = fill(other)
    other.close()
    return found


def test_a_home_that_is_well_is_clean(
    manager: SessionManager, ids: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = doctor_of(manager).examine()
    assert report.findings == ()
    assert report.looked_at["sessions"] == len(ids) == 5
    assert report.looked_at["entries"] == len(oracle(home))
    assert packed(manager, monkeypatch) > 150
    assert doctor_of(manager).examine().findings == ()
    assert not (home / "damaged").exists()


def test_there_is_nothing_to_say_of_a_home_that_is_none(tmp_path: Path) -> None:
    manager = fresh(tmp_path / "none")

    assert doctor_of(manager).examine() == Report(())
    assert doctor_of(manager).repair() == Report(())
    assert not (tmp_path / "none").exists()


def test_looking_changes_nothing(ids: list[str], home: Path) -> None:
    path = dying(home)
    change(home, "UPDATE sessions SET messages = 1")
    before, listed, journal = oracle(home), rows(home), path.read_bytes()
    assert doctor_of(fresh(home)).examine().findings

    assert (oracle(home), rows(home), path.read_bytes()) == (before, listed, journal)
    assert not (home / "damaged").exists()


# entries

CHANGES = {
    "text": "UPDATE entries SET data = replace(data, 'message 7 of', 'message 6 of') WHERE id = ?",
    "time": "UPDATE entries SET time = CASE time & 1 WHEN 1 THEN time - 1 ELSE time + 1 END WHERE id = ?",
    "kind": "UPDATE entries SET kind = 'messagd' WHERE id = ?",
    "hash": "UPDATE entries SET hash = x'0102030405060708' WHERE id = ?",
    "no text": "UPDATE entries SET data = CAST(substr(CAST(data AS BLOB), 1, 40) || x'ff' || "
    "substr(CAST(data AS BLOB), 42) AS TEXT) WHERE id = ?",
}


@pytest.mark.parametrize("how", [*CHANGES])
def test_a_changed_entry_is_named_and_nothing_readable_is_lost(
    manager: SessionManager, ids: list[str], home: Path, how: str
) -> None:
    before = oracle(home)
    seq = next(seq for (name, seq), entry in before.items() if name == ids[1] and b"message 7 of" in entry[2])
    find = "SELECT id FROM entries WHERE id = (SELECT num FROM streams WHERE id = ?) << 32 | ?"
    [(key,)] = manager.store.read(find, (ids[1], seq))
    assert change(home, CHANGES[how], key) == 1
    damaged = oracle(home)
    assert [k for k in before if damaged[k] != before[k]] == [(ids[1], seq)]

    report = doctor_of(manager).examine()
    assert (ids[1], seq) in named(report, "chain")
    done = doctor_of(manager).repair()
    after = oracle(home)

    assert done.clean
    assert {k: after[k] for k in before if k != (ids[1], seq)} == {k: before[k] for k in before if k != (ids[1], seq)}
    if how != "no text":  # one bit, or the hash of what is there
        assert after == before
    assert Path(done.kept, "rows.jsonl").exists()
    assert len(manager.store.sessions.entries(ids[1], kinds=("message",))) >= 39
    assert doctor_of(manager).examine().clean


def test_what_cannot_be_set_right_is_kept_told_once_and_known(
    manager: SessionManager, ids: list[str], home: Path
) -> None:
    before = oracle(home)
    change(home, "UPDATE entries SET data = replace(data, 'message', 'MASSAGE') WHERE id & 4294967295 = 5"
                 " AND id >> 32 = (SELECT num FROM streams WHERE id = ?)", ids[1])  # fmt: skip
    done = doctor_of(manager).repair()
    again = doctor_of(manager).examine()
    lines = [json.loads(line) for path in done.salvaged for line in Path(path).read_bytes().splitlines()]

    assert done.clean
    assert [(f.session, f.seq) for f in done.known] == [(ids[1], 5)] == [(f.session, f.seq) for f in again.known]
    assert again.clean
    assert [line["q"] for line in lines] == [seq for name, seq in sorted(before) if name == ids[1]]
    assert "MASSAGE" in json.dumps(lines)
    assert oracle(home)[ids[1], 6] == before[ids[1], 6]
    assert Path(done.kept).stat().st_mode & 0o777 == 0o700

    change(home, "UPDATE entries SET data = replace(data, 'MASSAGE', 'MESSAGE') WHERE id & 4294967295 = 5"
                 " AND id >> 32 = (SELECT num FROM streams WHERE id = ?)", ids[1])  # fmt: skip
    assert named(doctor_of(manager).examine(), "chain") == [(ids[1], 5)]  # another change is told again


def test_a_doctor_that_does_not_check_hashes_misses_it(
    manager: SessionManager, ids: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(home, "UPDATE entries SET time = time + 1 WHERE id & 4294967295 = 5")
    assert len(named(doctor_of(manager).examine(), "chain")) == 4
    monkeypatch.setattr(chaincheck, "fits", lambda *_: True)

    assert doctor_of(manager).examine().clean


def test_missing_entries_are_named_and_found_again_in_a_copy(
    manager: SessionManager, ids: list[str], home: Path
) -> None:
    before = oracle(home)
    manager.store.keeper.alone(lambda db: db.execute("VACUUM INTO ?", (str(home / "p8.db.v1-20260101-000000.bak"),)))
    where = "id >> 32 = (SELECT num FROM streams WHERE id = ?) AND id & 4294967295"
    change(home, f"DELETE FROM entries WHERE {where} BETWEEN 5 AND 8", ids[1])
    change(home, f"DELETE FROM entries WHERE {where} = 1", ids[2])
    report = doctor_of(manager).examine()
    assert named(report, "chain") == [(ids[1], 5), (ids[2], 1)]
    done = doctor_of(manager).repair()

    assert done.clean
    assert done.known == ()
    assert oracle(home) == before


def test_missing_entries_without_a_copy_are_told_and_the_rest_stays(
    manager: SessionManager, ids: list[str], home: Path
) -> None:
    before = oracle(home)
    change(home, "DELETE FROM entries WHERE id >> 32 = (SELECT num FROM streams WHERE id = ?)"
                 " AND id & 4294967295 = 5", ids[1])  # fmt: skip
    done = doctor_of(manager).repair()

    assert done.clean
    assert [(f.session, f.seq, f.text) for f in done.known] == [(ids[1], 5, "entry 5 is missing")]
    assert oracle(home) == {key: value for key, value in before.items() if key != (ids[1], 5)}
    assert manager.store.sessions.get(ids[1]).messages == 39


def test_packed_and_large_entries_are_checked_and_mended(
    manager: SessionManager, ids: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(manager, monkeypatch)
    before = oracle(home)
    [key] = manager.store.read("SELECT id FROM packed WHERE typeof(data) = 'blob' ORDER BY id LIMIT 1 OFFSET 9")[0]
    [large] = manager.store.read("SELECT id FROM large")[0]
    for table, column, at, row in (("packed", "data", 30, key), ("large", "body", 60, large)):
        body = bytearray(manager.store.read(f"SELECT {column} FROM {table} WHERE id = ?", (row,))[0][0])
        body[at] ^= 4
        change(home, f"UPDATE {table} SET {column} = ? WHERE id = ?", bytes(body), row)
    report = doctor_of(manager).examine()
    assert {seq for _, seq in named(report, "chain")} == {key & 0xFFFFFFFF, large & 0xFFFFFFFF}
    done = doctor_of(manager).repair()

    assert done.clean
    assert done.known == ()
    assert oracle(home) == before


def test_a_packed_first_entry_is_checked_too(
    manager: SessionManager, ids: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(manager, monkeypatch)
    before = oracle(home)
    for fork in (False, True):
        sql = "SELECT p.id, p.data FROM packed p JOIN sessions s ON s.num = p.id >> 32 WHERE p.id & 4294967295 = 1"
        [(key, data), *_] = manager.store.read(f"{sql} AND typeof(p.data) = 'blob' AND s.parent IS {'NOT ' * fork}NULL")
        body = bytearray(data)
        body[0] ^= 64
        change(home, "UPDATE packed SET data = ? WHERE id = ?", bytes(body), key)
    found = named(doctor_of(manager).examine(), "chain")
    assert [seq for _, seq in found] == [1, 1]
    assert doctor_of(manager).repair().clean

    assert oracle(home) == before


# rows


def test_counters_and_columns_are_made_again_from_the_entries(
    manager: SessionManager, ids: list[str], home: Path
) -> None:
    listed = rows(home)
    change(home, "UPDATE sessions SET messages = 3, tokens_in = 0, cost = 9, bytes = 1, last = 1, title = 'other',"
                 " tags = '[]', pinned = 1 - pinned, status = 'paused', meta = ? WHERE id = ?",
                 '{"x":1}', ids[1])  # fmt: skip
    change(home, "UPDATE streams SET entries = 3, head = x'00' WHERE id = ?", ids[2])
    report = doctor_of(manager).examine()
    assert set(named(report, "counts")) == {(ids[1], 0), (ids[2], 0)}
    assert "messages 3, really 40" in next(f.text for f in report.findings if f.session == ids[1])
    done = doctor_of(manager).repair()

    assert done.clean
    assert rows(home) == listed


def test_sessions_that_no_list_knows_are_listed_again(manager: SessionManager, ids: list[str], home: Path) -> None:
    before, listed = oracle(home), rows(home)
    change(home, "DELETE FROM sessions WHERE id = ?", ids[1])
    assert (ids[1], 1) in named(doctor_of(manager).examine(), "counts")
    assert doctor_of(manager).repair().clean
    assert rows(home) == listed
    change(home, "DELETE FROM streams WHERE id = ?", ids[3])
    assert doctor_of(manager).repair().clean

    assert rows(home) == listed
    assert oracle(home) == before


def test_a_session_whose_name_is_lost_gets_it_back_from_a_copy(
    manager: SessionManager, ids: list[str], home: Path
) -> None:
    before, listed = oracle(home), rows(home)
    manager.store.keeper.alone(lambda db: db.execute("VACUUM INTO ?", (str(home / "p8.db.v1-20260101-000000.bak"),)))
    change(home, "DELETE FROM sessions WHERE id = ?", ids[1])
    change(home, "DELETE FROM streams WHERE id = ?", ids[1])
    done = doctor_of(manager).repair()

    assert done.clean
    assert oracle(home) == before
    assert rows(home) == listed


# index


def test_words_missing_from_the_index_are_named_and_found_again(
    manager: SessionManager, ids: list[str], home: Path
) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "zymurgy of ale"})
    manager.end_session()
    manager.store.drain()
    manager.store.keeper.index_for(10)
    [(key,)] = manager.store.read("SELECT id FROM entries WHERE data LIKE '%zymurgy%'")
    manager.store.keeper.write(lambda db: db.execute(
        "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, 'zymurgy')", (key,)))  # fmt: skip
    assert manager.store.search("zymurgy", session=session.session_id) == []
    report = doctor_of(manager).examine()
    assert [seq for _, seq in named(report, "index")] == [key & 0xFFFFFFFF]
    assert doctor_of(manager).repair().clean

    assert [hit.seq for hit in manager.store.search("zymurgy", session=session.session_id)] == [key & 0xFFFFFFFF]


@pytest.mark.parametrize("harm", ["DELETE FROM search_data WHERE id > 10", "DELETE FROM search_idx"])
def test_an_index_that_is_damaged_or_empty_is_built_anew(
    manager: SessionManager, ids: list[str], home: Path, harm: str
) -> None:
    before = oracle(home)
    change(home, harm)
    assert "index" in {f.area for f in doctor_of(manager).examine().findings}
    done = doctor_of(manager).repair()

    assert done.clean, done
    assert oracle(home) == before
    assert manager.store.search("session")


def test_a_doctor_that_only_asks_sqlite_misses_words(
    manager: SessionManager, ids: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(key,)] = manager.store.read("SELECT max(id) FROM entries WHERE kind = 'message'")
    sql = "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, 'only in the fork naïve message')"
    manager.store.keeper.write(lambda db: db.execute(sql, (key,)))
    assert not doctor_of(manager).examine().clean
    monkeypatch.setattr(indexcheck.IndexCheck, "compare", lambda *_: ())

    assert doctor_of(manager).examine().clean


# journals


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("bit", range(0, 8, 3))
def test_a_wrong_bit_in_a_dead_processes_journal_is_named_and_turned_back(
    manager: SessionManager, home: Path, bit: int, folded: bool
) -> None:
    path = dying(home)
    raw = path.read_bytes()
    lines = raw.splitlines(keepends=True)
    at = sum(map(len, lines[:6])) + lines[6].index(b"message 5") + 3
    line = json.loads(lines[6])
    flip(path, at, bit)
    kept = path.read_bytes()
    if folded:
        other = fresh(home)
        other.store.drain()
        other.close()
    report = doctor_of(manager).examine()
    places = [(f.session, f.seq) for f in report.findings if f.level == "error"]
    assert (line["s"], line["q"]) in places
    assert folded or path.name in next(f.file for f in report.findings if f.level == "error")
    done = doctor_of(manager).repair()
    found = oracle(home)

    assert done.clean, done
    assert done.known == ()
    for text in lines:
        entry = json.loads(text)
        assert found[entry["s"], entry["q"]][2] == text[text.index(b',"d":') + 5 : -2], entry
    if not folded:
        assert Path(done.kept, path.name).read_bytes() == kept


def test_a_torn_journal_keeps_everything_before_and_its_bytes(manager: SessionManager, home: Path) -> None:
    path = dying(home)
    raw = path.read_bytes()
    path.write_bytes(raw[:-30])
    report = doctor_of(manager).examine()
    assert [f.level for f in report.findings if "torn" in f.text] == ["warning"]
    done = doctor_of(manager).repair()

    assert done.clean
    assert len([key for key in oracle(home) if key[0][0] != "~"]) >= raw.count(b"\n") - 1
    assert Path(done.kept, path.name).read_bytes() == raw[:-30]


def test_a_last_line_that_only_lacks_its_end_is_an_entry(manager: SessionManager, home: Path) -> None:
    path = dying(home)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    assert doctor_of(manager).repair().known == ()
    last = json.loads(raw.splitlines()[-1])

    assert (last["s"], last["q"]) in oracle(home)


def test_two_bad_bytes_in_a_journal_cost_that_line_only(manager: SessionManager, home: Path) -> None:
    path = dying(home)
    lines = path.read_bytes().splitlines(keepends=True)
    entry = json.loads(lines[6])
    lines[6] = lines[6].replace(b'"message 5', b"'massage 5")
    path.write_bytes(b"".join(lines))
    done = doctor_of(manager).repair()
    found = oracle(home)

    assert (entry["s"], entry["q"]) in {(f.session, f.seq) for f in done.known}
    assert {(e["s"], e["q"]) for e in map(json.loads, lines[:6] + lines[7:])} <= set(found)
    assert manager.store.read("SELECT raw FROM damage")[0][0] == lines[6].rstrip(b"\n")
    assert doctor_of(manager).examine().clean


def test_a_damaged_line_of_many_megabytes_is_kept_whole(manager: SessionManager, home: Path) -> None:
    path = dying(home, 2)
    line = b'{"h":"0000000000000000","s":"x","q":1,' + b"x" * (3 << 20) + b"\n"
    path.write_bytes(path.read_bytes() + line)
    doctor_of(manager).repair()

    assert manager.store.read("SELECT length(raw) FROM damage")[0][0] == len(line) - 1


def test_an_empty_file_that_a_dead_process_left_is_removed(manager: SessionManager, ids: list[str], home: Path) -> None:
    left = home / "journal" / "20260101000000-1-abcdef-0000.new"
    left.touch()
    assert doctor_of(manager).examine().clean  # it may be at work just now
    os.utime(left, (time.time() - 600, time.time() - 600))
    assert [f.file for f in doctor_of(manager).examine().findings] == ["journal/20260101000000-1-abcdef-0000.new"]
    assert doctor_of(manager).repair().clean
    assert not left.exists()


# leases


def test_leases_of_dead_processes_are_named_and_taken_off(manager: SessionManager, home: Path) -> None:
    dying(home)
    other = fresh(home)
    other.store.drain()
    other.close()
    report = doctor_of(manager).examine()
    assert [f.area for f in report.findings] == ["lease"]
    done = doctor_of(manager).repair()

    assert done.clean
    assert [row.status for row in manager.store.sessions.page()].count("abandoned") == 1
    assert manager.store.read("SELECT count(*) FROM leases") == [(0,)]


def test_a_living_processes_session_is_no_finding(manager: SessionManager, home: Path) -> None:
    manager.start_session("demo")
    manager.record_message({"role": "user", "content": "at work"})
    other = fresh(home)

    assert doctor_of(other).examine().findings == ()
    other.store.drain()
    assert doctor_of(other).examine().findings == ()
    other.close()


# the database file


def test_lookup_indexes_that_disagree_are_built_anew(manager: SessionManager, ids: list[str], home: Path) -> None:
    change(home, "PRAGMA writable_schema = ON")
    db_rows = rows(home)
    from p8.store.sqlite import driver

    db = driver.connect(str(home / "p8.db"), isolation_level=None)
    db.execute("PRAGMA writable_schema = ON")
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sessions_last'").fetchone()[0]
    db.execute("CREATE TABLE spare (a, b)")
    spare = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'spare'").fetchone()[0]
    db.execute("CREATE INDEX spare_index ON spare (a)")
    empty = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'spare_index'").fetchone()[0]
    db.execute("UPDATE sqlite_schema SET rootpage = CASE rootpage WHEN ? THEN ? ELSE ? END WHERE rootpage IN (?, ?)",
               (root, empty, root, root, empty))  # fmt: skip
    db.close()
    del spare
    report = doctor_of(manager).examine()
    assert [f.repair for f in report.findings if f.area == "database"] == ["build them anew"]
    done = doctor_of(fresh(home)).repair()

    assert done.clean, done
    assert rows(home) == db_rows


def test_a_database_that_others_have_open_is_not_replaced(manager: SessionManager, ids: list[str], home: Path) -> None:
    manager.store.drain()
    change(home, "DELETE FROM places")
    (home / "p8.db").write_bytes(b"no database at all" * 999)
    other = fresh(home)
    done = doctor_of(other).repair()

    assert not done.clean
    assert any("open" in line for line in done.failed)
    assert (home / "p8.db").read_bytes() == b"no database at all" * 999
    other.close()


# seams


def test_other_checks_are_made_too_and_may_fail(manager: SessionManager, ids: list[str]) -> None:
    def broken() -> list[Finding]:
        raise StoreError("git is missing")

    found = [Finding("snapshot", "object 12 is damaged", ids[0], 5, "snapshots/demo-1.git", "fetched again")]
    report = doctor_of(manager, lambda: found, broken).examine()

    assert report.findings[0] == found[0]
    assert report.findings[1].text == "could not be made: git is missing"
    assert not report.clean


def test_one_session_can_be_looked_at_alone(manager: SessionManager, ids: list[str], home: Path) -> None:
    doctor = doctor_of(manager)
    change(home, "UPDATE entries SET time = time + 1 WHERE id & 4294967295 = 5 AND kind = 'message'")
    fork = ids[3]

    assert {name for name, _ in named(doctor.examine(ids[0]), "chain")} == {ids[0]}
    assert {name for name, _ in named(doctor.examine(fork), "chain")} == {ids[2]}  # whom it was forked from
    assert doctor.named(fork[16:]) == fork
    with pytest.raises(P8Error):
        doctor.named("2")
    with pytest.raises(P8Error):
        doctor.named("nobody")


def test_the_home_being_open_to_others_is_told(manager: SessionManager, ids: list[str], home: Path) -> None:
    home.chmod(0o755)
    assert [(f.area, f.file) for f in doctor_of(manager).examine().findings] == [("home", str(home))]
    home.chmod(0o700)


def test_a_branch_of_two_writers_is_verified(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "before"})
    thief = fresh(home)
    thief.resume_session(session.session_id, take_over=True)
    for number in range(4):
        manager.record_message({"role": "user", "content": f"from the old one {number}"})
    thief.record_message({"role": "user", "content": "from the new one"})
    thief.store.drain()
    thief.end_session()
    thief.store.drain()
    thief.store.keeper.index_for(5)
    [branch] = thief.store.sessions.children(session.session_id)
    assert doctor_of(thief).examine().findings == ()
    change(home, "UPDATE entries SET time = time + 1 WHERE id >> 32 = (SELECT num FROM streams WHERE id = ?)"
                 " AND id & 4294967295 = 3", branch.id)  # fmt: skip

    assert named(doctor_of(thief).examine(), "chain") == [(branch.id, 3)]
    assert doctor_of(thief).repair().clean
    thief.annotate(branch.id, title="a branch can be named")
    assert thief.store.sessions.get(branch.id).title == "a branch can be named"
    thief.close()


def test_every_finding_says_where_it_is(manager: SessionManager, ids: list[str], home: Path) -> None:
    change(home, "UPDATE entries SET time = time + 1 WHERE id & 4294967295 = 5")
    for finding in doctor_of(manager).examine().findings:
        assert finding.file == "p8.db"
        assert finding.session in ids
        assert room.FIND == finding.repair or finding.area != "chain"
