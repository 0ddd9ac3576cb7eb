from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8.core.checkpoints import Checkpoints
from p8.core.doctor import Doctor
from p8.core.sessions import SessionManager
from p8.core.trash import DAY_US, TOLD, Trash
from p8.errors import Conflict, InvalidTransition, NotFound
from p8.store import purge as room
from p8.store.manager import PersistenceManager
from support.homes import change, fill, holding, oracle, packed, rows

WORD = "quokkaplanted"


def plant(manager: SessionManager, word: str = WORD) -> str:
    """Record a session with a word in every place a session has, and put it into the trash from outside."""
    session = manager.start_session("demo", branch=f"{word}-branch")
    for number in range(30):
        manager.record_message({"role": "user", "content": f"{word} said {number} times, {word}{number}"})
    manager.record_message({"role": "assistant", "content": f"large {word} " * 9000})
    manager.record_command(f"/{word}")
    manager.record_execution(f"echo {word}", exit_code=0, output=f"{word} printed")
    manager.annotate(title=f"about {word}", tags=[word], whatever=f"{word} too")
    Checkpoints(manager, lambda: Path("/")).create(f"{word} checkpoint")
    manager.end_session()
    manager.annotate(session.session_id, title=f"{word} renamed from outside", note=f"{word} " * 9000)
    step = {"session": session.session_id, "what": "renamed", "before": {"title": word}, "title": word}
    manager.store.settings.put("undo", [step])
    manager.store.drain()
    manager.store.keeper.index_for(20)
    return str(session.session_id)


def trashed(manager: SessionManager, *ids: str) -> None:
    for name in ids:
        manager.annotate(name, trashed=True)


def test_a_purge_leaves_no_byte_and_touches_nothing_else(
    manager: SessionManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_ids = fill(manager)
    name = plant(manager)
    after = plant(manager, "innocentword")
    assert packed(manager, monkeypatch) > 200
    trashed(manager, name)
    manager.store.drain()
    before, listed = oracle(home), rows(home)
    assert holding(home, WORD)

    gone = Trash(manager).purge([name])

    # Entries about it in the streams of processes are tombstones; everything else is as it was, to the byte.
    kept = oracle(home)
    assert gone.left == ()
    assert holding(home, WORD, WORD[:9], WORD[4:]) == []
    assert {key for key in before if key not in kept} == {key for key in before if key[0] == name}
    changed = {key for key in kept if key in before and kept[key] != before[key]}
    assert {key[0][0] for key in changed} == {"~"}
    assert {kept[key][2] for key in changed} == {b'{"what":"purged"}'}
    assert rows(home) == [row for row in listed if row[0] != 0 and name not in row]
    assert [row for row in rows(home) if after in row]
    assert manager.store.search(WORD) == []
    assert manager.store.search("innocentword")
    assert manager.store.settings.get("undo", []) == [
        step for step in manager.store.settings.get("undo", []) if step["session"] != name
    ]
    assert Doctor(manager.store, manager.custody).examine().findings == ()
    manager.resume_session(before_ids[0])
    assert len(manager.current.conversation_history) == 40  # type: ignore[union-attr]


def test_without_rewriting_the_file_words_stay_in_it(
    manager: SessionManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(manager, 2)
    name = plant(manager)
    packed(manager, monkeypatch)
    trashed(manager, name)
    monkeypatch.setattr(room, "_scrub", lambda _db, _nums: [])
    monkeypatch.setattr(room.pack, "forget", lambda *_: False)
    Trash(manager).purge([name])

    assert holding(home, WORD)


def test_the_dictionary_that_learned_from_it_is_made_anew(
    manager: SessionManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(manager)
    name = plant(manager)
    packed(manager, monkeypatch)
    bodies = [row[0] for row in manager.store.read("SELECT body FROM dictionaries")]
    assert any(WORD.encode() in body for body in bodies)
    trashed(manager, name)
    before = {key: value for key, value in oracle(home).items() if key[0] != name and key[0][0] != "~"}
    gone = Trash(manager).purge([name])
    other = PersistenceManager(home, background=False)
    kept = oracle(home)

    assert gone.repacked
    assert {key: kept[key] for key in before} == before
    assert manager.store.read("SELECT count(*) FROM packed WHERE typeof(data) = 'blob'")[0][0] > 50
    texts = [e.text for row in other.sessions.page() for e in other.sessions.entries(row.id, kinds=("message",))]
    assert texts
    assert not any("damaged" in text for text in texts)
    other.close()


def test_what_is_not_in_the_trash_is_not_purged(manager: SessionManager) -> None:
    name = plant(manager)
    with pytest.raises(InvalidTransition, match="not in the trash"):
        Trash(manager).purge([name])
    with pytest.raises(NotFound):
        Trash(manager).purge(["20200101-000000-000000-abcd"])
    assert manager.store.sessions.get(name).messages == 31


def test_forks_are_named_and_refused_unless_they_go_too(manager: SessionManager, home: Path) -> None:
    name = plant(manager)
    fork = manager.fork_session(name)
    manager.record_message({"role": "user", "content": "mine"})
    manager.end_session()
    trashed(manager, name)
    with pytest.raises(Conflict, match=fork.session_id):
        Trash(manager).purge([name])
    assert len(manager.store.sessions.entries(fork.session_id, kinds=("message",))) == 32
    with pytest.raises(InvalidTransition, match="not in the trash"):
        Trash(manager).purge([name, fork.session_id])
    trashed(manager, fork.session_id)
    gone = Trash(manager).purge([name, fork.session_id])

    assert gone.left == ()
    assert manager.store.sessions.page(trashed=True) == []
    assert holding(home, WORD) == []


def test_a_fork_of_something_else_goes_alone(manager: SessionManager) -> None:
    name = plant(manager)
    fork = manager.fork_session(name)
    manager.end_session()
    trashed(manager, fork.session_id)
    Trash(manager).purge([fork.session_id])

    assert len(manager.store.sessions.entries(name, kinds=("message",))) == 31


def test_a_session_taken_out_of_the_trash_meanwhile_stays(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant(manager)
    trashed(manager, name)
    trash = Trash(manager)
    planned = trash.plan([name])
    manager.annotate(name, trashed=False)
    manager.store.drain()
    monkeypatch.setattr(trash, "plan", lambda _ids: planned)
    with pytest.raises(Conflict, match="meanwhile"):
        trash.purge([name])
    assert manager.store.sessions.get(name).messages == 31


def test_numbers_given_again_find_no_old_words(manager: SessionManager) -> None:
    name = plant(manager)
    trashed(manager, name)
    Trash(manager).purge([name])
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "something new"})
    hits = manager.store.search("new")

    assert [hit.session.id for hit in hits] == [session.session_id]
    assert manager.store.search(WORD) == []
    assert Doctor(manager.store, manager.custody).examine().findings == ()


def test_an_interrupted_purge_is_found_and_finished(
    manager: SessionManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant(manager)
    trashed(manager, name)
    with monkeypatch.context() as broken:
        broken.setattr(room, "_scrub", lambda _db, _nums: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            Trash(manager).purge([name])
    trash = Trash(manager)
    doctor = Doctor(manager.store, manager.custody, finish_purge=trash.finish)
    assert [f.area for f in doctor.examine().findings] == ["purge"]
    assert holding(home, WORD)
    report = doctor.repair()

    assert report.clean
    assert holding(home, WORD) == []


def test_what_the_doctor_kept_of_it_goes_too(manager: SessionManager, home: Path) -> None:
    ids = fill(manager, 2)
    name = plant(manager)
    manager.store.drain()
    for one in (name, ids[0]):
        change(home, "UPDATE entries SET role = 'x' WHERE id >> 32 = (SELECT num FROM streams WHERE id = ?)", one)
    assert Doctor(manager.store, manager.custody).repair().clean
    [kept] = home.glob("damaged/*/rows.jsonl")
    lines = kept.read_bytes().count(b"\n")
    assert name.encode() in kept.read_bytes()
    trashed(manager, name)
    Trash(manager).purge([name])

    assert holding(home, WORD, name) == []
    assert 0 < kept.read_bytes().count(b"\n") < lines


def test_backups_and_files_named_after_it_go_too(manager: SessionManager, home: Path) -> None:
    fill(manager, 2)
    name = plant(manager)
    backup = home / "p8.db.v1-20260101-000000.bak"
    manager.store.keeper.alone(lambda db: db.execute("VACUUM INTO ?", (str(backup),)))
    (home / "states" / f"handoff-{name}-1.md").write_text(f"# {WORD}")
    (home / "states" / "handoff-20200101-000000-000000-aaaa-1.md").write_text("# another")
    before = manager.store.read("SELECT count(*) FROM entries")[0][0]
    trashed(manager, name)
    assert Trash(manager).purge([name]).left == ()

    assert holding(home, WORD) == []
    assert [p.name for p in (home / "states").iterdir()] == ["handoff-20200101-000000-000000-aaaa-1.md"]
    backup.rename(home / "other.db")
    kept = rows_in(home / "other.db")
    assert 0 < kept < before


def rows_in(path: Path) -> int:
    from p8.store.sqlite import driver

    db = driver.connect(str(path))
    try:
        return int(db.execute("SELECT count(*) FROM entries").fetchone()[0])
    finally:
        db.close()


def test_checkpoints_are_handed_to_who_keeps_their_files(manager: SessionManager) -> None:
    name = plant(manager)
    trashed(manager, name)
    told: list[Any] = []

    def remove(entries: Any) -> list[str]:
        told.extend(entries)
        return ["a snapshot that could not be removed"]

    gone = Trash(manager, also=[remove]).purge([name])

    assert [entry.data["name"] for entry in told] == [f"{WORD} checkpoint"]
    assert gone.left == ("a snapshot that could not be removed",)


# expiry


@pytest.fixture
def now() -> list[int]:
    """The time it is, to be moved on."""
    return [1_800_000_000_000_000]


@pytest.fixture
def dated(home: Path, now: list[int]) -> Iterator[SessionManager]:
    manager = SessionManager(PersistenceManager(home, background=False, clock=lambda: now[0]))
    yield manager
    manager.close()


def test_nothing_expires_unless_it_is_set(dated: SessionManager, now: list[int]) -> None:
    name = plant(dated)
    trashed(dated, name)
    now[0] += 400 * DAY_US

    assert Trash(dated).due() == []
    assert Trash(dated).expire() == []
    assert dated.store.sessions.get(name)


def test_what_is_due_is_listed_a_day_before_it_goes(dated: SessionManager, now: list[int], home: Path) -> None:
    name, pinned = plant(dated), plant(dated, "pinnedword")
    dated.annotate(pinned, pinned=True)
    trashed(dated, name, pinned)
    trash = Trash(dated, expire_days=30)
    now[0] += 29 * DAY_US
    assert trash.due() == []
    now[0] += 2 * DAY_US
    assert [row.id for row in trash.due()] == [name]
    assert trash.expire() == []
    assert [n.text for n in dated.store.notices()] == [
        "1 session(s) have been in the trash for 30 days and go a day after this"
    ]
    now[0] += DAY_US // 2
    assert trash.expire() == []
    now[0] += DAY_US
    assert trash.expire() == [name]

    assert dated.store.notices() == []
    assert dated.store.settings.get(TOLD) == {}
    assert holding(home, WORD) == []
    assert dated.store.sessions.get(pinned).title


def test_what_cannot_be_purged_does_not_stop_the_rest(dated: SessionManager, now: list[int]) -> None:
    shared, alone = plant(dated), plant(dated, "anotherword")
    dated.fork_session(shared)
    dated.end_session()
    trashed(dated, shared, alone)
    trash = Trash(dated, expire_days=1)
    now[0] += 2 * DAY_US
    trash.expire()
    now[0] += 2 * DAY_US

    assert trash.expire() == [alone]
    assert dated.store.sessions.get(shared).messages == 31
