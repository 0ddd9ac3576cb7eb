"""What a process has recorded it reads, also while another of its threads is folding it."""

from __future__ import annotations

import random
import time
from pathlib import Path

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager


def test_a_read_never_misses_what_is_being_folded(home: Path) -> None:
    store = PersistenceManager(home)
    manager = SessionManager(store)
    session = manager.start_session("demo")
    store.drain()
    time.sleep(0.3)
    chance = random.Random(1)
    recorded, stale = 0, []
    until = time.monotonic() + 6
    while time.monotonic() < until:
        for _ in range(300):
            manager.record_message({"role": "user", "content": "x"})
        recorded += 300
        time.sleep(chance.random() * 0.06)  # now and then in the middle of a fold
        found = store.sessions.get(session.session_id).messages
        if found != recorded:
            stale.append((recorded, found))
    manager.close()

    assert recorded > 3000
    assert stale == []
