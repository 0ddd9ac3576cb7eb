from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager


def other(home: Path) -> SessionManager:
    return SessionManager(PersistenceManager(home, background=False))


def texts(manager: SessionManager, session_id: str) -> list[str]:
    entries = manager.store.sessions.entries(session_id, kinds=("message",), whole=True)
    return [e.data["content"] for e in entries]


def test_what_is_recorded_is_read_back_in_order(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    said = [f"message {n}" for n in range(5000)]
    for text in said:
        manager.record_message({"role": "user", "content": text})

    assert said == texts(manager, session.session_id)
    assert manager.store.sessions.get(session.session_id).messages == 5000


def test_folding_twice_adds_nothing(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "once"})
    manager.store.drain()
    manager.store.journal.give_back()
    manager.store.drain()
    manager.store.drain()

    assert texts(manager, session.session_id) == ["once"]


def test_a_dead_processes_file_is_folded_and_removed(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "kept"})
    path = manager.store.journal.own()[0]
    fd = manager.store.journal._segment.fd  # type: ignore[union-attr]
    os.close(fd)  # as when the process dies: the lock goes, nothing else happens
    reader = other(home)

    assert texts(reader, session.session_id) == ["kept"]
    assert not path.exists()
    manager.store.journal._segment = None
    reader.close()


def test_entries_of_a_living_process_are_seen_by_another(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "a"})
    reader = other(home)

    assert texts(reader, session.session_id) == ["a"]
    manager.record_message({"role": "user", "content": "b"})
    assert texts(reader, session.session_id) == ["a", "b"]
    assert texts(manager, session.session_id) == ["a", "b"]
    reader.close()


def test_large_entries_are_kept_out_of_line_and_whole(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    text = "große Zeile\n" * 20_000
    manager.record_message({"role": "assistant", "content": text, "extra": {"x": 1}})
    preview = manager.store.sessions.entries(session.session_id, kinds=("message",))[0]
    whole = manager.store.entry(session.session_id, preview.seq)

    assert preview.large
    assert len(preview.text) < 3000
    assert whole.data == {"role": "assistant", "content": text, "extra": {"x": 1}}


def test_two_writers_never_interleave(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "before"})
    thief = other(home)
    thief.resume_session(session.session_id, take_over=True)
    manager.record_message({"role": "user", "content": "from the old one"})
    thief.record_message({"role": "user", "content": "from the new one"})
    thief.store.drain()
    manager.store.drain()
    branches = thief.store.sessions.children(session.session_id)

    assert texts(thief, session.session_id) == ["before", "from the new one"]
    assert [texts(thief, row.id)[-1] for row in branches] == ["from the old one"]
    assert any("two processes" in n.text for n in [*manager.store.notices(), *thief.store.notices()])
    thief.close()


def test_a_writer_put_aside_stays_aside(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "before"})
    thief = other(home)
    thief.resume_session(session.session_id, take_over=True)
    for number in range(4):  # more than the thief has written when it folds them
        manager.record_message({"role": "user", "content": f"old {number}"})
    thief.record_message({"role": "user", "content": "new"})
    thief.store.drain()
    for number in range(4, 7):
        manager.record_message({"role": "user", "content": f"old {number}"})
    manager.store.drain()
    thief.store.drain()
    branches = thief.store.sessions.children(session.session_id)

    assert texts(thief, session.session_id) == ["before", "new"]
    assert [texts(thief, row.id) for row in branches] == [["before", *(f"old {n}" for n in range(7))]]
    assert thief.store.read("SELECT count(*) FROM damage") == [(0,)]
    thief.close()


def test_threads_record_without_holes(manager: SessionManager) -> None:
    session = manager.start_session("demo")

    def work(name: int) -> None:
        for number in range(500):
            manager.record_message({"role": "user", "content": f"{name}:{number}"})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = texts(manager, session.session_id)

    assert len(found) == len(set(found)) == 4000
    for name in range(8):
        assert [f for f in found if f.startswith(f"{name}:")] == [f"{name}:{n}" for n in range(500)]


def test_a_damaged_line_costs_only_itself_and_is_told(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    for number in range(4):
        manager.record_message({"role": "user", "content": f"text {number}"})
    path = manager.store.journal.own()[0]
    raw = path.read_bytes()
    os.close(manager.store.journal._segment.fd)  # type: ignore[union-attr]
    manager.store.journal._segment = None
    path.write_bytes(raw.replace(b'"text 2"', b'"text 2'))
    reader = other(home)

    assert texts(reader, session.session_id) == ["text 0", "text 1", "text 3"]
    assert any("damaged" in n.text for n in reader.store.notices())
    assert reader.store.read("SELECT count(*) FROM damage")[0][0] >= 1
    reader.close()


def test_counters_and_title_follow_the_entries(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "system", "content": "not a title"})
    manager.record_message({"role": "user", "content": "Fix the parser\nplease"})
    manager.record_message({"role": "assistant", "content": "ok", "tokens_in": 3, "tokens_out": 4, "cost": 0.5})
    manager.record_command("/x")
    manager.record_execution("ls", exit_code=0)
    row = manager.store.sessions.get(session.session_id)

    assert (row.messages, row.commands, row.executions) == (3, 1, 1)
    assert (row.title, row.title_source) == ("Fix the parser", "auto")
    assert (row.tokens_in, row.tokens_out, row.cost) == (3, 4, 0.5)


def test_a_title_by_hand_is_never_overwritten(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    manager.annotate(title="Mine")
    manager.record_message({"role": "user", "content": "something else"})

    assert manager.store.sessions.get(session.session_id).title == "Mine"


def test_plain_tools_can_read_the_file(manager: SessionManager, home: Path) -> None:
    import sqlite_utils

    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "hello"})
    manager.close()
    db = sqlite_utils.Database(str(home / "p8.db"))
    try:
        assert [(r["session"], r["content"]) for r in db["messages"].rows] == [(session.session_id, "hello")]
    finally:
        db.close()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_everything_is_private_whatever_the_umask(home: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        manager = other(home)
        manager.start_session("demo")
        manager.record_message({"role": "user", "content": "x"})
        manager.list_all_sessions()
        wrong = [
            (p, oct(p.stat().st_mode)) for p in [home, *home.rglob("*")]
            if p.stat().st_mode & 0o777 != (0o700 if p.is_dir() else 0o600)
        ]  # fmt: skip
        manager.close()
    finally:
        os.umask(old)

    assert wrong == []
