from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.errors import Conflict, Held, InvalidTransition, NotFound, NotSaved
from p8.events import Change
from p8.model import Status
from p8.store.manager import PersistenceManager


def other(home: Path) -> SessionManager:
    return SessionManager(PersistenceManager(home, background=False))


def test_recording_without_a_session_says_what_to_do(manager: SessionManager) -> None:
    with pytest.raises(InvalidTransition, match="start or resume"):
        manager.record_message({"role": "user", "content": "x"})


def test_a_life_from_start_to_end(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "hi", "unknown": {"kept": True}})
    manager.record_command("git status")
    manager.record_execution("ls", exit_code=0, output="a", duration_s=0.1)
    manager.save_session()
    manager.end_session()
    row = manager.store.sessions.get(session.session_id)

    assert row.status is Status.COMPLETED
    assert row.ended_us is not None
    assert manager.current is None
    assert manager.list_all_sessions() == [session.session_id]


def test_a_resumed_session_has_its_history(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "one", "unknown": [1]})
    manager.record_command("git status")
    manager.record_execution("ls", exit_code=3, output="a")
    before = session.to_dict()
    manager.pause_session()
    again = manager.resume_session(session.session_id)
    manager.record_message({"role": "user", "content": "two"})

    assert [m["content"] for m in again.conversation_history] == ["one", "two"]
    assert again.conversation_history[0] == {"role": "user", "content": "one", "unknown": [1]}
    assert list(again.command_history) == ["git status"]
    assert again.execution_histories[0].exit_code == 3
    assert again.to_dict()["conversation_history"][:1] == before["conversation_history"]


def test_illegal_steps_name_the_legal_ones(manager: SessionManager) -> None:
    manager.start_session("demo")
    manager.end_session()
    with pytest.raises(InvalidTransition):
        manager.end_session()
    with pytest.raises(NotFound):
        manager.resume_session("20200101-000000-000000-0000")


@pytest.mark.parametrize(
    ("said", "title"), [([], "$ make test"), ([{"role": "user", "content": "Why does it fail?"}], "Why does it fail?")]
)
def test_a_session_without_a_word_is_called_after_its_first_command(
    manager: SessionManager, said: list[dict[str, str]], title: str
) -> None:
    session = manager.start_session("demo")
    manager.record_execution("make test", exit_code=2, output="no rule")
    manager.record_execution("make", exit_code=0, output="")
    for message in said:
        manager.record_message(message)
    manager.pause_session()

    row = manager.store.sessions.get(session.session_id)
    assert (row.title, row.title_source) == (title, "auto")
    assert session.metadata["title"] == title


def test_looking_at_a_session_does_not_move_it(manager: SessionManager) -> None:
    first = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "a"})
    second = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "b"})
    manager.pause_session()
    manager.resume_session(first.session_id)
    manager.pause_session()

    assert manager.list_all_sessions() == [second.session_id, first.session_id]


def test_a_second_opener_is_told_who_holds_it(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "a"})
    second = other(home)
    with pytest.raises(Held) as error:
        second.resume_session(session.session_id)
    assert error.value.session_id == session.session_id
    second.resume_session(session.session_id, take_over=True)
    assert not manager.custody.still_mine(session.session_id)
    assert manager.current is None
    second.close()


def test_a_session_that_was_taken_and_put_down_again_is_not_written_to(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "a"})
    second = other(home)
    second.resume_session(session.session_id, take_over=True)
    second.record_message({"role": "user", "content": "b"})
    second.close()

    assert not manager.custody.still_mine(session.session_id)
    assert manager.current is None
    again = manager.resume_session(session.session_id)
    assert [m["content"] for m in again.conversation_history] == ["a", "b"]
    assert manager.custody.still_mine(session.session_id)


def test_a_session_whose_process_died_is_abandoned_and_resumable(home: Path) -> None:
    import subprocess
    import sys

    code = (
        "import os, sys; from p8 import SessionManager, PersistenceManager\n"
        "m = SessionManager(PersistenceManager(sys.argv[1])); s = m.start_session('demo')\n"
        "m.record_message({'role': 'user', 'content': 'last words'}); print(s.session_id, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=False)
    session_id = done.stdout.strip()
    manager = other(home)
    manager.store.drain()

    assert manager.custody.recover() == [session_id]
    assert manager.store.sessions.get(session_id).status is Status.ABANDONED
    assert manager.store.leases.holder(session_id) is None
    session = manager.resume_session(session_id)
    assert [m["content"] for m in session.conversation_history] == ["last words"]
    manager.close()


def test_a_fork_shares_what_came_before_and_copies_nothing(manager: SessionManager) -> None:
    parent = manager.start_session("demo")
    for number in range(4):
        manager.record_message({"role": "user", "content": str(number)})
    fork = manager.fork_session(parent.session_id, 3)
    manager.record_message({"role": "user", "content": "other"})
    rows = manager.store.read("SELECT count(*) FROM entries")[0][0]
    grandchild = manager.fork_session()
    manager.record_message({"role": "user", "content": "deeper"})

    assert [m["content"] for m in fork.conversation_history] == ["0", "1", "other"]
    assert [m["content"] for m in grandchild.conversation_history] == ["0", "1", "other", "deeper"]
    assert [m["content"] for m in manager.resume_session(parent.session_id).conversation_history] == list("0123")
    assert rows <= 9
    assert manager.store.sessions.get(fork.session_id).parent == parent.session_id


def test_a_trashed_session_is_not_listed_and_comes_back(manager: SessionManager) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "x"})
    manager.end_session()
    manager.annotate(session.session_id, trashed=True)
    assert manager.list_all_sessions() == []
    with pytest.raises(InvalidTransition, match="trash"):
        manager.resume_session(session.session_id)
    manager.annotate(session.session_id, trashed=False)
    assert manager.list_all_sessions() == [session.session_id]


def test_another_processes_session_cannot_be_trashed_under_it(manager: SessionManager, home: Path) -> None:
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "x"})
    second = other(home)
    second.annotate(session.session_id, pinned=True, tags=["a"])
    with pytest.raises(Conflict):
        second.annotate(session.session_id, trashed=True)
    second.store.drain()
    row = second.store.sessions.get(session.session_id)
    assert row.pinned
    assert row.tags == ("a",)
    second.close()


def test_observers_see_every_change_in_order(manager: SessionManager) -> None:
    seen: list[Change] = []
    manager.bus.subscribe(seen.append)
    manager.bus.subscribe(lambda change: 1 / 0)
    manager.start_session("demo")
    manager.record_message({"role": "user", "content": "x"})
    manager.record_command("y")
    manager.annotate(pinned=True)
    manager.pause_session()

    mine = [c for c in seen if c.stream]
    assert [c.name for c in mine] == ["started", "message", "command", "annotated", "paused"]
    assert [c.seq for c in mine] == [1, 2, 3, 4, 5]


def test_a_disk_that_refuses_keeps_the_message(manager: SessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    import p8.store.journal as room

    session = manager.start_session("demo")
    real = room.write
    monkeypatch.setattr(room, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(NotSaved):
        manager.record_message({"role": "user", "content": "kept"})
    assert [m["content"] for m in session.conversation_history] == ["kept"]
    assert any("NOT SAVED" in n.text for n in manager.store.notices())
    monkeypatch.setattr(room, "write", real)
    manager.save_session()
    found = manager.store.sessions.entries(session.session_id, kinds=("message",))
    assert [e.data["content"] for e in found] == ["kept"]
    assert manager.store.notices() == []


def test_the_async_twins_do_the_same(manager: SessionManager) -> None:
    session = manager.start_session("demo")

    async def work() -> list[str]:
        async def one(number: int) -> None:
            manager.record_message({"role": "user", "content": str(number)})
            await manager.save_session_async()

        await asyncio.gather(*(one(n) for n in range(200)))
        return [*await manager.list_all_sessions_async()]

    assert asyncio.run(work()) == [session.session_id]
    assert manager.store.durability().unsynced_bytes == 0


def test_closing_pauses_and_leaves_one_plain_file(home: Path) -> None:
    manager = other(home)
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "x"})
    manager.close()
    manager.close()
    again = other(home)

    assert sorted(p.name for p in home.glob("p8.db*")) == ["p8.db", "p8.db.users"]
    assert list((home / "journal").glob("*.jsonl")) == []
    assert again.store.sessions.get(session.session_id).status is Status.PAUSED
    again.close()
