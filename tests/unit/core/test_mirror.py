"""Volumes on an engine elsewhere: who brings them over, as what, and how that is written down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p8.containers import base
from p8.containers.base import ContainerSpec, EngineDown, Limits
from p8.containers.settings import Bind, HealthRules, Settings
from p8.containers.sync import Status
from p8.core import blueprint
from p8.core.blueprint import Places
from p8.core.instances import InstanceManager
from p8.core.mirror import About, Mirror, folder_of, recorded, together
from p8.core.remotes import Keeper
from p8.errors import ContainerError, UsageError
from p8.store.manager import PersistenceManager
from p8.testing import FakeRuntime
from support.engine import until


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project-a"
    folder.mkdir()
    return folder


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def mirror(runtime: FakeRuntime, home: Path, project: Path) -> Mirror:
    about = About("a-shell", project, "p8-session:base", (1234, 1235), {base.PATH: str(project)})
    return Mirror(runtime, home, about)


def test_the_helper_has_the_volumes_and_no_network(mirror: Mirror, runtime: FakeRuntime, project: Path) -> None:
    with pytest.raises(EngineDown):
        mirror.settle(1)
    (spec,) = runtime.specs

    assert (spec.user, spec.network, spec.mounts, spec.ports) == ("1234:1235", "none", (), ())
    assert spec.labels[base.SYNC] == "a-shell"
    assert base.INSTANCE not in spec.labels
    assert spec.volumes[0].copy_of == project
    names = [volume.name for volume in mirror.volumes("/app/project-a")]
    assert names == [volume.name for volume in spec.volumes]
    assert [volume.target for volume in mirror.volumes("/app/project-a")] == ["/app/project-a", "/home/p8"]
    assert mirror.status.short == "cut, retrying"


def test_one_at_a_time_brings_files_over(mirror: Mirror, runtime: FakeRuntime, home: Path) -> None:
    other = Mirror(runtime, home, mirror.about)
    assert mirror.take()
    assert mirror.take()
    assert not other.take()
    assert recorded(home, "a-shell")[1] == os.getpid()
    mirror.release()

    assert recorded(home, "a-shell")[1] == 0
    assert other.take(1.0)
    other.release()


def test_nothing_is_removed_while_the_engine_cannot_be_asked(mirror: Mirror, runtime: FakeRuntime) -> None:
    assert mirror.take()
    with pytest.raises(EngineDown):
        mirror.discard()
    assert "what is missing is kept in volume p8-" in mirror.finish()
    assert not [verb for verb, _ in runtime.acts if verb == "remove volume"]
    mirror.take()
    mirror.discard(force=True)
    assert len([verb for verb, _ in runtime.acts if verb == "remove volume"]) == 2
    mirror.release()


def test_how_it_stands_is_written_down_for_others(mirror: Mirror, home: Path) -> None:
    with pytest.raises(EngineDown):
        mirror.settle(1)
    status, holder = recorded(home, "a-shell")
    assert (status.short, holder) == ("cut, retrying", 0)
    (folder_of(home, "a-shell") / "status.json").write_text('{"project": 1}')
    assert recorded(home, "a-shell")[0] == Status()


def test_of_two_trees_the_worse_counts() -> None:
    one = Status("synced", 10, 1, 0, ("a.conflict-1",), "", 5.0, 4.0)
    two = Status("cut", 3, 2, 2, (), "gone", 9.0, 8.0)

    assert together([one, two]) == Status("cut", 13, 3, 2, ("a.conflict-1",), "gone", 5.0, 4.0)
    assert together([one, Status("synced", at=9.0)]).short == "conflict 1"


def test_a_keeper_takes_what_it_is_told_and_lets_go(mirror: Mirror, runtime: FakeRuntime, home: Path) -> None:
    keeper = Keeper(lambda _name: mirror)
    keeper.keep({"a-shell"})
    until(lambda: recorded(home, "a-shell")[1] == os.getpid(), 10)
    other = Mirror(runtime, home, mirror.about)
    assert not other.take()
    keeper.keep(())

    assert other.take(10)
    other.release()
    keeper.close()


# the container itself


def specified(home: Path, project: Path, mirror: Mirror, settings: Settings) -> ContainerSpec:
    about = {"name": "p8-x", "image": "i", "port": 9001, "user": (1, 2), "labels": {}, "workspace": "/app/project-a"}
    about["volumes"] = mirror.volumes("/app/project-a")
    return blueprint.specification(settings, Places.of(home, "a-shell"), project, about, {})


def test_it_has_volumes_in_place_of_mounts_and_its_engine_knocks(home: Path, project: Path, mirror: Mirror) -> None:
    spec = specified(home, project, mirror, Settings(id="a-shell", mode="shell"))

    assert spec.mounts == ()
    assert not spec.writable_root
    assert spec.limits == Limits()
    assert "AI_SOCKET_PATH" not in spec.environment
    assert spec.health is not None
    assert spec.health.command[-1] == "9001"
    quiet = Settings(id="a-shell", mode="shell", health=HealthRules(port=False))
    assert specified(home, project, mirror, quiet).health is None


@pytest.mark.parametrize(
    ("bind", "fits"),
    [
        (Bind("bind", "/srv/data", "/data"), False), (Bind("project", "sub", "/sub"), False),
        (Bind("project", ".", "/elsewhere"), False), (Bind("cache", "~/.cache/pip", "/var/cache"), False),
        (Bind("cache", "~/.npm", "/root/.npm"), True), (Bind("project", ".", "/app/project-a"), True),
    ],
)  # fmt: skip
def test_what_can_only_be_mounted_is_refused(home: Path, project: Path, mirror: Mirror, bind: Bind, fits: bool) -> None:
    settings = Settings(id="a-shell", mode="shell", workspace="/app/project-a", mounts=(bind,))
    if fits:
        assert specified(home, project, mirror, settings).mounts == ()
        return
    with pytest.raises(ContainerError, match="on another machine"):
        specified(home, project, mirror, settings)


# what is left


def test_a_helper_that_is_left_over_is_removed_and_one_that_is_needed_stays(
    store: PersistenceManager, runtime: FakeRuntime, project: Path, home: Path
) -> None:
    store.start()
    instances = InstanceManager(store, runtime, lambda _names: {})
    name = instances.start("project-a", project, "shell", wait_s=0).instance.id
    for whose in (name, "gone-shell"):
        labels = {base.SYNC: whose}
        runtime.start(ContainerSpec(f"helper-{whose}", "p8-session:base", labels, "1:1"))
    assert instances.reconcile() == ["removed container helper-gone-shell, left over of gone-shell"]
    instances.stop(name)

    assert instances.reconcile() == [f"removed container helper-{name}, left over of {name}"]


def test_an_instance_that_is_mounted_is_not_synchronised(
    store: PersistenceManager, runtime: FakeRuntime, project: Path
) -> None:
    store.start()
    instances = InstanceManager(store, runtime, lambda _names: {})
    one = instances.start("project-a", project, "shell", wait_s=0).instance

    assert instances.remotes.describe(one) == {"id": one.id, "sync": "mounted"}
    with pytest.raises(UsageError, match="is mounted"):
        instances.remotes.sync(one)
