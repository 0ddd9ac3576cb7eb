from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import p8.store.batch
import p8.store.fold
import p8.store.journal
from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager

LONE = "lone \udcff surrogate"


def some(chance: random.Random, large: bool) -> dict[str, Any]:
    """A message of any shape that is recorded, most of them as they usually are."""
    text = chance.choice(["plain words", "größer \u2028 🦜", 'quote " and \\ and \n', LONE, "x" * 300])
    message: dict[str, Any] = {"role": chance.choice(["user", "assistant", "tool"]), "content": text}
    if chance.random() < 0.3:
        message |= {"tokens_in": chance.randrange(9), "tokens_out": chance.randrange(9), "cost": 0.25}
    if chance.random() < 0.05:
        message["role"] = chance.choice([None, 3, ["user"], True])
    if large and chance.random() < 0.05:
        message["content"] = "large ä" * 12_000
    if chance.random() < 0.05:
        message |= {"odd": chance.choice([float("nan"), 2**70, b"\xff", {"role": "user", "cost": 7}])}
    return message


def recorded(home: Path, number: int = 4000) -> SessionManager:
    """Two sessions of anything: floods of each, both in turn, and what is said about them between."""
    chance = random.Random(7)
    manager = SessionManager(PersistenceManager(home, background=False))
    first = manager.start_session("one").session_id
    other = "20200101-000000-000000-abcd"
    manager.store.record(other, "session", {"what": "started", "set": {"project_name": "two", "status": "active"}})
    for index in range(number):
        stream = first if index % 2000 < 1400 or chance.random() < 0.5 else other
        kind = chance.choice(["message"] * 6 + ["command", "execution", "part", "event"])
        manager.store.record(stream, kind, {"command": "ls"} if kind == "command" else some(chance, index % 2000 < 300))
        if index in {1100, 3300}:
            manager.annotate(title=f"named {index}", colour=index)
    return manager


def tables(store: PersistenceManager) -> dict[str, list[tuple[Any, ...]]]:
    asked = {
        "entries": "SELECT * FROM entries ORDER BY id", "streams": "SELECT * FROM streams ORDER BY num",
        "sessions": "SELECT * FROM sessions ORDER BY num", "large": "SELECT * FROM large ORDER BY id",
        "damage": "SELECT * FROM damage",
    }  # fmt: skip
    return {name: store.read(sql) for name, sql in asked.items()}


def folded_elsewhere(home: Path, journal: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What the fold of another process makes of the files."""
    home.mkdir(0o700)
    shutil.copytree(journal, home / "journal", ignore=shutil.ignore_patterns("*.lock", "reserve"))
    store = PersistenceManager(home, background=False)
    try:
        return tables(store)
    finally:
        store.close()


def test_many_at_once_come_to_the_same_as_one_by_one(home: Path, tmp_path: Path, monkeypatch) -> None:
    manager = recorded(home)
    journal = tmp_path / "files"
    shutil.copytree(home / "journal", journal)
    calls: list[bool] = []
    run = p8.store.batch.Batch._run

    def watched(*given: Any) -> bool:
        calls.append(run(*given))
        return calls[-1]

    monkeypatch.setattr(p8.store.batch.Batch, "_run", watched)
    from_memory = tables(manager.store)
    memory_calls, calls[:] = calls[:], []
    from_files = folded_elsewhere(tmp_path / "other", journal)
    assert {True, False} == set(memory_calls) == set(calls), "both ways were to be taken"
    monkeypatch.setattr(p8.store.batch, "FEW", 10**9)
    monkeypatch.setattr(p8.store.batch, "MANY", 10**9)
    one_by_one = folded_elsewhere(tmp_path / "third", journal)
    manager.close()

    assert len(one_by_one["entries"]) == 4004
    assert one_by_one["damage"] == []
    for name, rows in one_by_one.items():
        assert from_files[name] == rows, name
        assert from_memory[name] == rows, name


@pytest.mark.parametrize("bad", [b"\xff", b"#", b"\n"])
def test_a_wrong_byte_in_a_long_file_costs_only_its_line(home: Path, tmp_path: Path, bad: bytes) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    session = manager.start_session("demo").session_id
    for number in range(3000):
        manager.record_message({"role": "user", "content": f"message <{number}>"})
    (path,) = manager.store.journal.own()
    raw = path.read_bytes().replace(b"<1700>", b"<17" + bad + b"0>")
    journal = tmp_path / "files"
    journal.mkdir()
    (journal / path.name).write_bytes(raw)
    found = folded_elsewhere(tmp_path / "other", journal)
    manager.close()
    kept = {row[0] & 0xFFFFFFFF for row in found["entries"]}

    assert session == found["sessions"][0][1]
    assert len(found["entries"]) == (3001 if bad == b"#" else 3000)
    assert set(range(1, 3002)) - kept <= {1702}
    assert 1 <= len(found["damage"]) <= 4


def test_more_than_is_kept_in_memory_is_read_back_in_order(home: Path, monkeypatch) -> None:
    monkeypatch.setattr(p8.store.journal, "PENDING_ENTRIES", 500)
    monkeypatch.setattr(p8.store.journal, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(p8.store.fold, "FLOOD_ROWS", 300)
    monkeypatch.setattr(p8.store.fold, "FLOOD_BYTES", 30_000)
    manager = SessionManager(PersistenceManager(home))
    session = manager.start_session("demo")
    for number in range(20_000):
        manager.record_message({"role": "user", "content": f"{number}"})
        if number % 3000 == 0:
            assert manager.store.journal.backlog < 1500
    found = manager.store.sessions.entries(session.session_id, kinds=("message",))
    manager.store.drain()
    own = manager.store.journal.own()
    manager.close()

    assert [entry.data["content"] for entry in found] == [str(number) for number in range(20_000)]
    assert len(own) <= 2, "files that are folded go"


def test_a_fold_that_is_stopped_goes_on_where_it_was(home: Path, monkeypatch) -> None:
    monkeypatch.setattr(p8.store.fold, "FLOOD_ROWS", 100)
    monkeypatch.setattr(p8.store.fold, "FLOOD_BYTES", 5_000)
    manager = SessionManager(PersistenceManager(home, background=False))
    manager.start_session("demo")
    manager.store.drain()
    fold = manager.store.keeper._fold
    assert fold is not None
    for number in range(1000):
        manager.record_message({"role": "user", "content": f"{number}"})
    count = "SELECT count(*) FROM entries WHERE kind = 'message'"

    fold.run(False, lambda: True)
    assert manager.store.readers.all(count) == [(100,)]
    manager.store.journal.give_back()  # from here on they are read from the file
    for _ in range(3):
        fold.run(False, lambda: True)
        manager.record_message({"role": "user", "content": "more"})
    assert 100 < manager.store.readers.all(count)[0][0] < 1003
    fold.run(False)
    rows = manager.store.readers.all("SELECT id & 4294967295 FROM entries ORDER BY id")

    assert [row[0] for row in rows] == [*range(1, 1005)]
    assert os.path.getsize(manager.store.journal.own()[0])
    manager.close()
