from __future__ import annotations

from pathlib import Path

from p8.store import schema
from p8.store.glance import is_current
from p8.store.manager import PersistenceManager
from p8.store.sqlite import Readers, Users, connect

STREAM = "20261121-093000-123456-ab12"


def said(home: Path, *, close: bool = True) -> PersistenceManager:
    store = PersistenceManager(home, background=False)
    store.record(STREAM, "session", {"what": "started", "set": {"status": "completed"}})
    store.record(STREAM, "message", {"role": "user", "content": "x"})
    if close:
        store.close()
    return store


def current(home: Path) -> bool:
    readers, users = Readers(home / "p8.db"), Users(home / "p8.db")
    try:
        return is_current(readers, users, home / "journal", home / "spill")
    finally:
        readers.close()
        users.drop()


def test_a_home_that_is_folded_is_current(home: Path) -> None:
    assert not current(home)  # there is none
    said(home)
    assert current(home)


def test_what_another_process_has_just_written_is_seen(home: Path) -> None:
    said(home)
    other = said(home, close=False)
    assert not current(home)
    other.drain()
    assert current(home)
    other.close()


def test_a_spilled_journal_counts_too(home: Path) -> None:
    said(home)
    (home / "spill").mkdir()
    (home / "spill" / "x.jsonl").write_bytes(b"{}\n")
    assert not current(home)


def test_another_schema_is_not_current(home: Path) -> None:
    said(home)
    db = connect(home / "p8.db")
    db.execute(f"PRAGMA user_version = {schema.VERSION - 1}")
    db.close()
    assert not current(home)


def test_a_database_that_is_being_replaced_is_not_current(home: Path) -> None:
    said(home)
    repairing = Users(home / "p8.db")
    assert repairing.take(alone=True)
    assert not current(home)
    repairing.drop()
    assert current(home)


def test_a_damaged_database_is_not_current(home: Path) -> None:
    said(home)
    (home / "p8.db").write_bytes(b"no database" * 1000)
    assert not current(home)


def test_reading_finds_what_was_written_meanwhile(home: Path) -> None:
    said(home)
    reader = PersistenceManager(home, background=False)
    assert [row.messages for row in reader.sessions.page()] == [1]
    assert "keeper" not in vars(reader)
    writer = said(home, close=False)
    assert reader.read("SELECT count(*) FROM entries") in ([(2,)], [(4,)])  # a glance is good for 50 ms
    reader._glanced -= 1
    assert sum(row.messages for row in reader.sessions.page()) == 2
    writer.close()
    reader.close()
