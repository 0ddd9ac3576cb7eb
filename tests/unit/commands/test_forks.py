"""Forks are compared and carried back as one entry."""

from __future__ import annotations

import pytest

from p8.errors import UsageError
from support.door import run


def say(app, *texts: str) -> None:
    for text in texts:
        app.sessions.record_message({"role": "user", "content": text})
        app.sessions.record_message({"role": "assistant", "content": f"re {text}", "tokens_out": 3, "duration_s": 1.5})


def test_two_forks_show_what_only_one_of_them_holds(app) -> None:
    first = app.sessions.start_session("p").session_id
    say(app, "shared")
    fork = app.sessions.fork_session(first).session_id
    say(app, "in the fork", "and more")
    app.sessions.record_execution("make", exit_code=0, output="")
    app.sessions.resume_session(first)
    say(app, "in the first")
    data = run(app, f"session diff {first} {fork}").data

    assert data["shared"] == 2
    assert [e["content"] for e in data["old"]["entries"]] == ["in the first", "re in the first"]
    assert [e.get("content", e.get("command")) for e in data["new"]["entries"]] == [
        "in the fork", "re in the fork", "and more", "re and more", "make",
    ]  # fmt: skip
    assert data["new"]["figures"] == {
        "messages": 4, "commands": 1, "tokens_in": 0, "tokens_out": 6, "cost": 0, "seconds": 3.0,
    }  # fmt: skip


def test_strangers_have_nothing_in_common(app) -> None:
    first = app.sessions.start_session("p").session_id
    say(app, "a")
    second = app.sessions.start_session("p").session_id
    say(app, "b")
    result = run(app, f"session diff {first} {second}")
    assert result.data["shared"] == 0
    assert result.views[0].text == "They have nothing in common."


def test_a_conclusion_is_carried_as_one_entry(app) -> None:
    first = app.sessions.start_session("p").session_id
    say(app, "begin")
    fork = app.sessions.fork_session(first).session_id
    say(app, "try the cache")
    app.sessions.resume_session(first)
    run(app, f"session carry {fork}")
    last = app.store.sessions.entries(first, kinds=("message",), limit=1, newest=True)[0]

    assert last.role == "system"
    assert last.text.endswith("re try the cache")
    assert last.data["carried_from"] == fork


def test_of_a_session_without_an_answer_the_words_are_asked(app) -> None:
    empty = app.sessions.start_session("p").session_id
    app.sessions.record_message({"role": "user", "content": "only asked"})
    app.sessions.start_session("p")
    with pytest.raises(UsageError, match="nothing was concluded"):
        run(app, f"session carry {empty}")
    assert run(app, f"session carry {empty} it was the cache").data["text"] == "it was the cache"
