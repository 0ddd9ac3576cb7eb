"""An answer is kept for as long as it is true, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.server import kept
from p8.server.kept import Kept
from p8.server.keys import Keys
from p8.server.web import Web
from p8.store.manager import PersistenceManager
from p8.testing import make_app
from support.serving import TOKEN, ask


def test_an_answer_is_given_until_the_stamp_changes_or_it_is_old() -> None:
    stamp, now = [(1, 1, 1)], [0.0]
    answers = Kept(lambda: stamp[0], lambda: now[0])
    answers.put("q", answers.stamp(), b"a")
    assert answers.get("q") == b"a"
    assert answers.get("other") is None
    stamp[0] = (1, 1, 2)
    assert answers.get("q") is None
    stamp[0] = (1, 1, 1)
    assert answers.get("q") is None  # dropped for good
    answers.put("q", answers.stamp(), b"a")
    now[0] = kept.FOR_S + 0.1
    assert answers.get("q") is None
    answers.put("q", None, b"a")
    assert answers.get("q") is None


def test_what_is_kept_is_bounded() -> None:
    answers = Kept(lambda: (1, 1, 1))
    for number in range(100):
        answers.put(str(number), answers.stamp(), bytes(kept.BYTES // 10))
    assert sum(answers.get(str(number)) is not None for number in range(100)) == 10
    answers.put("large", answers.stamp(), bytes(kept.BYTES))
    assert answers.get("large") is None


def test_the_stamp_changes_with_every_change_whoever_makes_it(home: Path) -> None:
    store = PersistenceManager(home, background=False)
    assert store.stamp() is None  # no database yet
    manager = SessionManager(store)
    manager.start_session("p")
    assert store.stamp() is None  # not folded yet
    store.drain()
    first = store.stamp()
    assert first is not None
    assert store.stamp() == first
    other = SessionManager(PersistenceManager(home, background=False))
    other.start_session("q")
    other.close()
    second = store.stamp()
    assert second not in {None, first}
    manager.annotate(title="t")
    store.drain()
    assert store.stamp() not in {None, first, second}
    manager.close()


@pytest.mark.parametrize("mine", [True, False])
def test_a_page_shows_what_was_recorded_before_it_was_asked_for(home: Path, tmp_path: Path, mine: bool) -> None:
    app = make_app(home, tmp_path)
    web = Web(app, Keys(TOKEN))
    writer = app.sessions if mine else SessionManager(PersistenceManager(home, background=False))
    writer.start_session("p")
    for number in range(20):
        writer.record_message({"role": "user", "content": f"m{number}"})
        writer.store.drain()
        for _ in range(2):
            page = ask(web.asgi, "GET", f"/api/v1/sessions/{writer.current.session_id}/entries?limit=500").json
            assert page["items"][-1]["content"] == f"m{number}"
    if not mine:
        writer.close()
    web.close()
    app.close()
