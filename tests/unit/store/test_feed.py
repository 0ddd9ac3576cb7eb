from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from p8.core.log import concerns, follow, note, note_notice, now
from p8.core.sessions import SessionManager
from p8.errors import UsageError
from p8.model import Notice
from p8.store.feed import START, Event
from p8.store.manager import PersistenceManager


def everything(store: PersistenceManager, cursor: str = START, step: int = 500) -> list[Event]:
    found: list[Event] = []
    while batch := store.feed.after(cursor, step):
        found += batch
        cursor = batch[-1].cursor
    return found


def names(events: list[Event]) -> list[tuple[str, int]]:
    return [(e.entry.stream, e.entry.seq) for e in events]


@pytest.mark.parametrize("step", [1, 7, 500])
def test_each_entry_comes_once_and_in_order_whatever_the_page(store: PersistenceManager, step: int) -> None:
    written = []
    for number in range(300):
        stream = f"~s{number % 3 if number % 10 else 7}"
        seq, _ = store.record(stream, "event", {"number": number})
        written.append((stream, seq))
        if number % 50 == 0:
            store.drain()

    found = everything(store, step=step)

    assert names(found) == written
    assert [e.entry.data["number"] for e in found] == list(range(300))
    assert len({e.cursor for e in found}) == 300
    for at in (0, 1, 17, 299):
        assert names(everything(store, found[at].cursor)) == written[at + 1 :]


def test_what_another_process_recorded_comes_too(store: PersistenceManager, home: Path) -> None:
    other = PersistenceManager(home, background=False)
    store.record("~mine", "event", {"n": 1})
    other.record("~theirs", "event", {"n": 2})  # never folded by itself

    assert sorted(names(everything(store))) == [("~mine", 1), ("~theirs", 1)]
    assert sorted(names(everything(other))) == [("~mine", 1), ("~theirs", 1)]
    other.close()


def test_now_and_the_newest(store: PersistenceManager) -> None:
    assert now(store) == START
    for number in range(20):
        store.record(f"~{number % 2}", "event", {"n": number})
    assert store.feed.after(store.feed.now()) == []
    newest = everything(store, store.feed.before_last(5))
    assert [e.entry.data["n"] for e in newest] == list(range(15, 20))
    assert store.feed.before_last(100) == START


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.x", "-1.2", "1.2.3", "9" * 60 + ".1", "99.1", "¹.1"])
def test_what_is_no_cursor_is_refused(store: PersistenceManager, cursor: str) -> None:
    store.record("~a", "event", {})
    with pytest.raises(UsageError):
        store.feed.after(cursor)


def test_a_damaged_entry_costs_only_itself(store: PersistenceManager) -> None:
    for number in range(3):
        store.record("~a", "event", {"n": number})
    store.drain()
    store.keeper.write(lambda db: db.execute("UPDATE entries SET data = '{broken' WHERE id & 4294967295 = 2"))

    found = list(zip(range(3), follow(store, START, lambda _event: True), strict=False))

    assert [e.entry.data.get("n") for _, e in found] == [0, None, 2]
    assert found[1][1].entry.data["damaged"] is True


def test_large_entries_come_as_previews(store: PersistenceManager) -> None:
    store.record("~a", "event", {"text": "x" * 100_000})
    (event,) = everything(store)
    assert event.entry.large
    assert len(event.entry.data["text"]) == 2000


def test_an_event_about_a_session_concerns_it(store: PersistenceManager) -> None:
    manager = SessionManager(store)
    first = manager.start_session("demo")
    manager.end_session()
    manager.start_session("demo")
    manager.annotate(first.session_id, pinned=True)

    mine = [e for e in everything(store) if concerns(e, first.session_id)]
    assert [e.entry.data["what"] for e in mine] == ["started", "completed", "annotated"]


def test_warnings_are_events_and_trouble_with_the_disk_is_not(store: PersistenceManager) -> None:
    store.bus.subscribe(partial(note_notice, store))
    store.notice("branch", Notice("warning", "branch", "two wrote"))
    store.notice("branch", Notice("warning", "branch", "two wrote"))
    store.notice("upgrade", Notice("info", "upgrade", "fine"))
    store.notice("disk", Notice("error", "disk", "NOT SAVED"))
    store.notice("branch", None)
    note(store, "swept", count=1)

    said = [(e.entry.data["what"], e.entry.data.get("topic")) for e in everything(store)]
    assert said == [("notice", "branch"), ("swept", None)]
