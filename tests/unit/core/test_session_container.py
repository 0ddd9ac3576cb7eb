"""The container under a session over an engine in memory: it follows its session, and keeps nobody waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.app import App
from p8.containers import base
from p8.containers.base import Container, ContainerSpec, State
from p8.core import leftovers
from p8.core.session_container import MOST_PAUSED, ContainerState
from p8.testing import FakeRuntime, make_app
from support.door import run


class SlowRuntime(FakeRuntime):
    """An engine that takes its time over everything it does."""

    slow_s = 0.0

    def act(self, container_id: str, verb: str, grace_s: float = 10.0) -> None:
        time.sleep(self.slow_s)
        super().act(container_id, verb, grace_s)


@pytest.fixture
def runtime() -> SlowRuntime:
    return SlowRuntime()


@pytest.fixture
def app(home: Path, tmp_path: Path, runtime: SlowRuntime) -> Iterator[App]:
    (tmp_path / "project").mkdir()
    made = make_app(home, tmp_path / "project")
    made.__dict__["runtime"] = runtime
    yield made
    made.close()


def launched(app: App) -> Container:
    """Launch a container for the current session, or let its own go on; return it."""
    app.container.start_in_background(app.ensure_session().session_id, app.directory)
    assert app.container.wait(5) is ContainerState.RUNNING, app.container.problem
    name = app.container.facts()["name"]
    return next(one for one in app.runtime.list() if one.name == name)


def settled(app: App) -> list[State]:
    """Return the states of all containers once nothing is being done to them."""
    thread = app.container._thread
    if thread is not None:
        thread.join(5)
    return [one.state for one in app.runtime.list()]


def test_paused_with_its_session_it_goes_on_with_it(app: App, runtime: SlowRuntime) -> None:
    first = launched(app)
    session = app.ensure_session().session_id
    run(app, "session pause")
    assert app.container.state is ContainerState.PAUSED
    assert not app.container.covers(app.directory)
    assert settled(app) == [State.PAUSED]
    app.sessions.resume_session(session)
    again = launched(app)

    assert again.id == first.id
    assert again.state is State.RUNNING
    assert [verb for verb, _ in runtime.acts] == ["pause", "unpause"]
    assert app.container.goes_on
    assert app.container.covers(app.directory)


@pytest.mark.parametrize("how", ["session new", "session fork"])
def test_a_session_left_for_another_is_paused_too(app: App, how: str) -> None:
    first = launched(app)
    old = app.ensure_session().session_id
    run(app, how)
    second = launched(app)
    assert sorted(settled(app)) == [State.PAUSED, State.RUNNING]
    app.sessions.resume_session(old)

    assert launched(app).id == first.id != second.id
    assert app.runtime.inspect(second.id).state is State.PAUSED  # type: ignore[union-attr]


def test_so_many_are_kept_and_the_one_paused_first_goes(app: App) -> None:
    ids = []
    for _ in range(MOST_PAUSED + 2):
        ids.append(launched(app).id)
        run(app, "session pause")
    settled(app)

    assert [one.id for one in app.runtime.list()] == ids[-MOST_PAUSED:]


@pytest.mark.parametrize("how", ["session end", "session delete --yes"])
def test_it_goes_with_its_session(app: App, how: str) -> None:
    launched(app)
    run(app, how)

    assert settled(app) == []
    assert app.container.state is ContainerState.OFF


def test_a_session_that_another_process_takes_loses_its_container_here(app: App) -> None:
    launched(app)
    session = app.ensure_session().session_id
    other = make_app(app.config.home, app.directory)
    other.sessions.resume_session(session, take_over=True)
    app.sessions.custody.still_mine(session)

    assert settled(app) == []
    other.close()


def test_who_resumes_a_session_removes_what_another_process_has_paused(app: App, runtime: SlowRuntime) -> None:
    session = app.ensure_session().session_id
    foreign = runtime.start(ContainerSpec("other", "p8-session:base", {base.SESSION: session, base.OWNER: "?"}, "1:1"))
    runtime.act(foreign.id, "pause")
    mine = launched(app)

    assert [one.id for one in runtime.list()] == [mine.id]


def test_a_paused_one_that_somebody_removed_is_made_anew(app: App, runtime: SlowRuntime) -> None:
    first = launched(app)
    session = app.ensure_session().session_id
    run(app, "session pause")
    settled(app)
    del runtime.containers[first.id]
    app.sessions.resume_session(session)

    assert launched(app).id != first.id


def test_a_paused_one_that_does_not_hold_the_directory_is_made_anew(app: App, tmp_path: Path) -> None:
    first = launched(app)
    session = app.ensure_session().session_id
    run(app, "session pause")
    (tmp_path / "elsewhere").mkdir()
    app.move(tmp_path / "elsewhere")
    app.sessions.resume_session(session)
    second = launched(app)

    assert second.id != first.id
    assert settled(app) == [State.RUNNING]
    assert app.container.covers(tmp_path / "elsewhere")


def test_nobody_waits_for_an_engine_that_is_slow(app: App, runtime: SlowRuntime) -> None:
    launched(app)
    session = app.ensure_session().session_id
    runtime.slow_s = 0.5
    begun = time.monotonic()
    run(app, "session pause")
    app.sessions.resume_session(session)
    app.container.start_in_background(session, app.directory)

    assert time.monotonic() - begun < 0.3
    assert app.container.wait(5) is ContainerState.RUNNING
    assert settled(app) == [State.RUNNING]  # it was not frozen behind the back of who goes on


def test_leaving_removes_all_also_what_is_paused(app: App) -> None:
    for _ in range(3):
        launched(app)
        run(app, "session pause")
    launched(app)
    app.close()

    assert app.runtime.list() == []
    assert not leftovers.is_any(app.config.home)
    assert list((app.config.home / "states" / leftovers.FOLDER).iterdir()) == []


def test_what_failed_is_told_with_its_reason(app: App, runtime: SlowRuntime) -> None:
    runtime.images.clear()
    app.container.start_in_background(app.ensure_session().session_id, app.directory)

    assert app.container.wait(5) is ContainerState.FAILED
    assert app.container.facts() == {"state": "failed", "problem": "the engine has no image p8-session:base"}


def test_once_p8_is_left_nothing_is_launched(app: App) -> None:
    app.ensure_session()
    app.box.close()
    app.box.settle()

    assert "container" not in vars(app)
