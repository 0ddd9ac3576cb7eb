"""What a dead process left is found by a small file and removed by its label; what may be somebody's is not touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p8.containers import base
from p8.containers.base import ContainerSpec, EngineDown
from p8.core import leftovers
from p8.store.leases import this_process
from p8.testing import FakeRuntime


@pytest.fixture
def runtime() -> FakeRuntime:
    me = this_process().to_dict()
    owners = {"mine": me, "dead": {**me, "started": "1"}, "elsewhere": {**me, "host": "another"}, "odd": None}
    made = FakeRuntime()
    for name, owner in owners.items():
        said = json.dumps(owner) if owner else "?"
        made.start(ContainerSpec(name, "p8-session:base", {base.SESSION: name, base.OWNER: said}, "1:1"))
    return made


def names(runtime: FakeRuntime) -> set[str]:
    return {one.name for one in runtime.containers.values()}


def owner(**more: str) -> str:
    return json.dumps({**this_process().to_dict(), **more})


def test_session_containers_of_dead_processes_are_removed(runtime: FakeRuntime, home: Path) -> None:
    assert leftovers.sweep(runtime, home) == 1
    assert names(runtime) == {"mine", "elsewhere", "odd"}


def test_of_a_session_held_here_all_are_removed(runtime: FakeRuntime, home: Path) -> None:
    assert leftovers.sweep(runtime, home, "odd") == 2
    assert names(runtime) == {"mine", "elsewhere"}


def test_an_instance_is_no_leftover(runtime: FakeRuntime, home: Path) -> None:
    labels = {base.SESSION: "x", base.INSTANCE: "x", base.OWNER: owner(started="1")}
    runtime.start(ContainerSpec("instance", "p8-session:base", labels, "1:1"))
    leftovers.sweep(runtime, home, "x")

    assert "instance" in names(runtime)


def test_a_mark_tells_only_of_the_dead(runtime: FakeRuntime, home: Path) -> None:
    assert not leftovers.is_any(home)
    leftovers.mark(home, "alive", owner())
    leftovers.mark(home, "far", owner(host="another"))
    leftovers.mark(home, "odd", "?")
    assert not leftovers.is_any(home)
    leftovers.mark(home, "dead", owner(started="1"))
    assert leftovers.is_any(home)
    leftovers.sweep(runtime, home)
    assert not leftovers.is_any(home)
    leftovers.unmark(home, "alive")

    assert sorted(path.name.split(".")[0] for path in (home / "states" / leftovers.FOLDER).iterdir()) == ["far", "odd"]


def test_with_the_engine_away_the_mark_stays(runtime: FakeRuntime, home: Path) -> None:
    leftovers.mark(home, "dead", owner(started="1"))
    runtime.down = "away"
    with pytest.raises(EngineDown):
        leftovers.sweep(runtime, home)

    assert leftovers.is_any(home)
