from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p8.config import Config
from p8.containers.glance import Glance
from p8.core.checkpoints import Checkpoints
from p8.core.container_reality import container_check, line
from p8.core.reality import last_stood, note_container, note_place, place_now
from p8.core.sessions import SessionManager
from p8.model import GitState

WHERE = "unix:///run/d.sock"
OLD, NEW = "sha256:0123456789abcdef", "sha256:fedcba9876543210"
HAD = {
    "name": "p8-aaaaaa-s-x", "id": "c0ffee", "image": "p8-session:base", "image_id": "0123456789ab", "engine": WHERE,
    "network": "none", "state": "running",
}  # fmt: skip
UP = Glance(WHERE, True, True, {"p8-session:base": OLD})


@pytest.fixture
def config(home: Path) -> Config:
    return Config(home=home)


def check(config: Config, seen: Glance = UP, /, **changes: Any) -> list[str]:
    return container_check({**HAD, **changes}, config, seen)


def test_a_fresh_container_like_the_last_one_is_no_change(config: Config) -> None:
    assert check(config) == []
    assert check(config, id="other", name="other", state="paused") == []


def test_an_image_that_was_built_anew_is_said(config: Config) -> None:
    seen = UP._replace(images={"p8-session:base": NEW})

    assert check(config, seen) == ["the image of its container, p8-session:base, was 0123456789ab, is fedcba987654"]


def test_an_image_that_is_gone_is_said(config: Config) -> None:
    seen = UP._replace(images={})

    assert check(config, seen) == ["the image of its container, p8-session:base, is gone: p8 image build makes one"]


def test_another_image_is_said(config: Config) -> None:
    seen = UP._replace(images={"p8-session:base": OLD, "p8-session:agents": NEW})
    assert check(config, seen) == [
        "its container was made of p8-session:base, the next one is made of p8-session:agents"
    ]
    mine = config._replace(container_image="mine:1")
    assert check(mine, UP._replace(images={"mine:1": OLD})) == [
        "its container was made of p8-session:base, the next one is made of mine:1, the same image"
    ]


def test_an_engine_that_is_away_is_said(config: Config) -> None:
    seen = Glance(WHERE, True, False, {})
    away = f"the container engine at {WHERE} is away"

    assert check(config, seen) == [f"{away}: commands run on this machine until it is back"]
    assert check(config._replace(container="always"), seen) == [f"{away}: none can run until it is back"]


def test_another_engine_and_another_network_are_said(config: Config) -> None:
    seen = UP._replace(endpoint="unix:///elsewhere.sock")

    assert check(config._replace(container_network="bridge"), seen) == [
        f"its container was on the engine at {WHERE}, the next one is on unix:///elsewhere.sock",
        "its container had no network, the next one has a network",
    ]


def test_a_container_that_is_wanted_no_more_is_said(config: Config) -> None:
    never = config._replace(container="never")

    assert check(never) == ["its commands ran in a container (p8-session:base); now they run on this machine"]
    assert container_check({"state": "failed", "problem": "x"}, never, UP) == []


def test_a_container_that_is_there_now_is_said(config: Config) -> None:
    failed = {"state": "failed", "problem": "no container engine"}

    assert container_check(failed, config, UP) == [
        "its commands ran on this machine; now there is a container for them"
    ]
    assert container_check(failed, config, UP._replace(images={})) == []
    assert container_check(failed, config, Glance(WHERE, True, False, {})) == []


def test_what_is_not_known_is_not_guessed_at(config: Config) -> None:
    assert container_check({}, config, UP._replace(images={})) == []
    assert check(config, Glance("tcp://far:2376", False, False, {})) == []


def test_what_was_recorded_last_counts(manager: SessionManager, tmp_path: Path) -> None:
    session = manager.start_session("demo", directory=str(tmp_path)).session_id
    assert last_stood(manager, session).container == {}
    Checkpoints(manager, lambda: tmp_path, container=lambda: dict(HAD)).create("here")
    assert last_stood(manager, session).container == HAD
    note_container(manager, {**HAD, "id": "second"})
    assert last_stood(manager, session).container["id"] == "second"
    note_place(manager, tmp_path, place_now(tmp_path), {**HAD, "id": "third"})
    note_place(manager, tmp_path, GitState("main", "a" * 40))

    assert last_stood(manager, session).container["id"] == "third"
    assert last_stood(manager, session).git == GitState("main", "a" * 40)
    assert last_stood(manager, "20000101-000000-000000-0000").container == {}


def test_noting_a_container_changes_nothing_else_of_a_session(manager: SessionManager, tmp_path: Path) -> None:
    session = manager.start_session("demo", directory=str(tmp_path), branch="main", title="it").session_id
    before = manager.store.sessions.get(session)
    note_container(manager, HAD)
    after = manager.store.sessions.get(session)

    assert after._replace(entries=before.entries, size_bytes=before.size_bytes) == before


def test_a_checkpoint_without_a_container_notes_none(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")

    assert "container" not in Checkpoints(manager, lambda: tmp_path).create("here").data


def test_one_line_says_what_it_was() -> None:
    assert line(HAD) == "p8-aaaaaa-s-x, p8-session:base 0123456789ab, no network, running"
    assert line({"state": "failed", "problem": "no engine"}) == "no engine"
    assert line({}) == ""
