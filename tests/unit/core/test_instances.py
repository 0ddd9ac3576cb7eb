"""Instances over a real database and an engine in memory: what is recorded, claimed, refused, adopted, removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from p8.containers import base
from p8.containers.base import EngineDown, State
from p8.core.instances import InstanceManager
from p8.core.roster import InstanceStatus
from p8.core.supervisor import DaemonLock, Supervisor, daemon_pid
from p8.errors import Conflict, ContainerError, InvalidTransition, NotFound, UsageError
from p8.store.leases import this_process
from p8.store.manager import PersistenceManager
from p8.testing import FakeRuntime


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def instances(store: PersistenceManager, runtime: FakeRuntime) -> InstanceManager:
    store.start()
    return InstanceManager(store, runtime, lambda names: {name: f"secret of {name}" for name in names})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project-a"
    folder.mkdir()
    return folder


def started(instances: InstanceManager, project: Path, mode: str = "shell", **more):
    return instances.start(project.name, project, mode, wait_s=0, **more).instance


def test_a_started_instance_has_the_documents_fields(instances: InstanceManager, project: Path, home: Path) -> None:
    one = started(instances, project)
    exported = json.loads((home / "registry.json").read_text())["instances"]["project-a-shell"]

    assert exported == one.to_dict()
    assert {"id", "project_path", "project_name", "mode", "status", "pid", "container_id", "port", "socket_path",
            "resources", "timestamps", "config"} <= exported.keys()  # fmt: skip
    assert exported["resources"].keys() == {"memory_limit", "cpu_limit", "memory_usage", "cpu_usage"}
    assert exported["status"] == "running"
    assert exported["timestamps"]["created"].endswith("+00:00")
    assert (home / "registry.json").stat().st_mode & 0o077 == 0


def test_what_the_engine_is_asked_for_is_hardened(
    instances: InstanceManager, project: Path, runtime: FakeRuntime
) -> None:
    (project / ".git" / "hooks").mkdir(parents=True)
    (project / ".git" / "config").touch()
    one = started(instances, project)
    spec = runtime.specs[0]

    assert spec.ports == ((one.port, one.port),)
    assert spec.user == f"{project.stat().st_uid}:{project.stat().st_gid}"
    writable = {mount.target for mount in spec.mounts if not mount.read_only}
    assert writable == {"/home/p8", "/run/p8", "/app/project-a"}
    assert {m.target for m in spec.mounts if m.read_only} >= {"/app/project-a/.git/hooks", "/app/project-a/.git/config"}
    assert spec.environment["AI_PORT"] == str(one.port)
    assert not any("KEY" in name for name in spec.environment)


def test_keys_are_handed_in_only_when_told(
    instances: InstanceManager, project: Path, runtime: FakeRuntime, home: Path
) -> None:
    (home / "configs" / "project-a-shell.yml").write_text("pass_environment: [ANTHROPIC_API_KEY]\n")
    started(instances, project)

    assert runtime.specs[0].environment["ANTHROPIC_API_KEY"] == "secret of ANTHROPIC_API_KEY"


def test_a_second_start_is_refused_and_a_stopped_one_starts_with_its_port(
    instances: InstanceManager, project: Path
) -> None:
    port = started(instances, project).port
    with pytest.raises(Conflict, match="running already"):
        started(instances, project)
    assert instances.stop("project-a-shell").status is InstanceStatus.STOPPED
    assert instances.store.ports.all() == {}

    assert started(instances, project).port == port


def test_max_instances_holds(instances: InstanceManager, project: Path, home: Path, runtime: FakeRuntime) -> None:
    (home / "configs" / "default.yml").write_text("global:\n  max_instances: 2\n")
    started(instances, project, instance_id="a-shell")
    started(instances, project, instance_id="b-shell")
    with pytest.raises(Conflict, match="max_instances is 2"):
        started(instances, project, instance_id="c-shell")
    instances.stop("a-shell")
    started(instances, project, instance_id="c-shell")

    assert len(runtime.containers) == 2


def test_an_id_of_another_directory_is_refused(instances: InstanceManager, project: Path, tmp_path: Path) -> None:
    started(instances, project)
    instances.stop("project-a-shell")
    (tmp_path / "other").mkdir()
    with pytest.raises(Conflict, match="belongs to"):
        instances.start("project-a", tmp_path / "other", "shell", wait_s=0)


@pytest.mark.parametrize("name", ["../x", "a b", "-a", "x" * 64, "a/b", "ä"])
def test_an_id_is_never_a_path(instances: InstanceManager, project: Path, name: str) -> None:
    with pytest.raises(UsageError):
        started(instances, project, instance_id=name)


def test_a_port_taken_at_the_last_moment_is_given_up_for_the_next(
    instances: InstanceManager, project: Path, runtime: FakeRuntime
) -> None:
    first = started(instances, project).port
    instances.stop("project-a-shell")
    runtime.taken = {first, first + 1}

    assert started(instances, project).port >= first + 2


def test_a_failed_start_gives_its_port_back_and_can_be_tried_again(
    instances: InstanceManager, project: Path, runtime: FakeRuntime
) -> None:
    runtime.refuses = "no space left on device"
    with pytest.raises(ContainerError, match="no space left"):
        started(instances, project)
    assert instances.roster.get("project-a-shell").status is InstanceStatus.ERROR
    assert instances.store.ports.all() == {}
    runtime.refuses = ""

    assert started(instances, project).status is InstanceStatus.RUNNING


def test_a_missing_image_says_how_to_make_it(instances: InstanceManager, project: Path) -> None:
    with pytest.raises(ContainerError) as error:
        started(instances, project, "claude")

    assert error.value.hint == "p8 image build --variant agents"


def test_a_stop_while_the_engine_is_away_changes_nothing(
    instances: InstanceManager, project: Path, runtime: FakeRuntime
) -> None:
    started(instances, project)
    runtime.down = "away"
    with pytest.raises(EngineDown):
        instances.stop("project-a-shell")

    assert instances.roster.get("project-a-shell").status is InstanceStatus.RUNNING


def test_another_living_process_at_work_is_waited_for_and_a_dead_one_is_not(
    instances: InstanceManager, project: Path, store: PersistenceManager
) -> None:
    started(instances, project)
    living = {**this_process().to_dict(), "owner": "other", "pid": os.getpid()}
    store.instances.update("project-a-shell", owner=json.dumps(living))
    with pytest.raises(Conflict, match="another p8"):
        instances.stop("project-a-shell")
    store.instances.update("project-a-shell", owner=json.dumps({**living, "started": "1"}))

    assert instances.stop("project-a-shell").status is InstanceStatus.STOPPED


def test_pause_and_resume(instances: InstanceManager, project: Path, runtime: FakeRuntime) -> None:
    one = started(instances, project)
    with pytest.raises(InvalidTransition, match="must be paused"):
        instances.pause(one.id, paused=False)
    assert instances.pause(one.id).status is InstanceStatus.PAUSED
    assert runtime.containers[one.container].state is State.PAUSED
    with pytest.raises(InvalidTransition, match="stopped meanwhile"):
        instances.recover(one.id, State.PAUSED)

    assert instances.pause(one.id, paused=False).status is InstanceStatus.RUNNING


@pytest.mark.parametrize(
    ("state", "same"),
    [(State.EXITED, True), (State.PAUSED, True), (State.RUNNING, True), (State.DEAD, False), (None, False)],
)
def test_recovery_does_the_least_that_helps(
    instances: InstanceManager, project: Path, runtime: FakeRuntime, state: State | None, same: bool
) -> None:
    one = started(instances, project)
    if state is None:
        del runtime.containers[one.container]
    else:
        runtime.containers[one.container] = runtime.containers[one.container]._replace(state=state)
    again = instances.recover(one.id, state)

    assert (again.container == one.container) is same
    assert runtime.containers[again.container].state is State.RUNNING
    assert (again.port, again.meta["restarts"]) == (one.port, 1)
    assert len(runtime.containers) == 1


# what was left


def test_a_lost_registry_is_made_again_from_what_runs(
    instances: InstanceManager, project: Path, store: PersistenceManager
) -> None:
    one = started(instances, project)
    store.instances.remove(one.id)

    assert instances.reconcile() == ["adopted project-a-shell, found running"]
    again = instances.roster.get(one.id)
    assert (again.container, again.port, again.project_path) == (one.container, one.port, project)
    assert store.ports.all() == {one.port: one.id}
    assert instances.reconcile() == []


def test_leftovers_are_removed_and_other_peoples_containers_are_not(
    instances: InstanceManager, project: Path, runtime: FakeRuntime
) -> None:
    one = started(instances, project)
    mine = runtime.containers[one.container]
    twin = mine._replace(id="b" * 64, name="twin")
    ended = mine._replace(
        id="c" * 64, name="ended", state=State.EXITED, labels={**mine.labels, base.INSTANCE: "gone-shell"}
    )
    decoy = mine._replace(id="d" * 64, labels={**mine.labels, base.INSTALLATION: "b" * 24})
    runtime.containers |= {c.id: c for c in (twin, ended, decoy)}
    said = instances.reconcile()

    assert len(said) == 2
    assert runtime.containers.keys() == {one.container, decoy.id}
    with pytest.raises(NotFound):
        instances.roster.get("gone-shell")


def test_an_engine_that_shuts_down_is_given_no_work(
    instances: InstanceManager, project: Path, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = started(instances, project)
    runtime.containers[one.container] = runtime.containers[one.container]._replace(state=State.EXITED)

    def refuses() -> None:  # as it takes no new connections, though it still answers on old ones
        raise EngineDown("shutting down", "")

    monkeypatch.setattr(runtime, "engine", refuses)
    with pytest.raises(EngineDown):
        instances.recover(one.id, State.EXITED)

    assert runtime.acts == []
    assert instances.roster.get(one.id).meta.get("restarts", 0) == 0


def test_without_a_network_there_is_no_port(
    instances: InstanceManager, project: Path, runtime: FakeRuntime, home: Path, store: PersistenceManager
) -> None:
    (home / "configs" / "project-a-shell.yml").write_text("networking: {network: none}\n")

    assert started(instances, project).port == 0
    assert runtime.specs[0].ports == ()
    assert store.ports.all() == {}


def test_an_instance_whose_container_vanished_is_in_error(
    instances: InstanceManager, project: Path, runtime: FakeRuntime
) -> None:
    one = started(instances, project)
    del runtime.containers[one.container]
    instances.reconcile()
    found = instances.roster.get(one.id)

    assert found.status is InstanceStatus.ERROR
    assert found.meta["error"] == "its container is gone"
    assert started(instances, project).status is InstanceStatus.RUNNING


def test_what_is_left_over_can_be_kept(
    instances: InstanceManager, project: Path, runtime: FakeRuntime, home: Path
) -> None:
    one = started(instances, project)
    (home / "configs" / "default.yml").write_text("global:\n  auto_cleanup: false\n")
    twin = runtime.containers[one.container]._replace(id="b" * 64, name="twin")
    runtime.containers[twin.id] = twin

    assert instances.reconcile() == ["container twin is left over of project-a-shell"]
    assert twin.id in runtime.containers


def test_a_repl_passes_on_what_the_process_that_does_the_work_wrote(
    instances: InstanceManager, project: Path, home: Path, store: PersistenceManager
) -> None:
    started(instances, project)
    heard: list[str] = []
    store.bus.subscribe(lambda change: heard.append(str(change.data.get("text"))))
    supervisor = Supervisor(instances, lambda: {"project-a-shell"})
    daemon = DaemonLock(home)
    assert len(supervisor._targets()) == 1
    assert daemon.acquire()
    assert daemon_pid(home) == os.getpid()
    supervisor._asked_daemon = 0.0
    for name in ("project-a-shell", "other-shell"):
        data = {"alert": "HIGH_CPU", "instance": name}
        instances.files.log.write(store.clock(), "warning", "instances", f"HIGH_CPU: {name} uses much", data)

    assert supervisor._targets() == []
    assert heard == ["HIGH_CPU: project-a-shell uses much"]
    daemon.release()
    assert daemon_pid(home) == 0


def test_names_are_found_by_part_and_project(instances: InstanceManager, project: Path) -> None:
    started(instances, project)
    started(instances, project, instance_id="other-shell")

    assert instances.roster.get("project-a").id == "project-a-shell"
    with pytest.raises(Conflict, match="fits"):
        instances.roster.get("shell")
    with pytest.raises(NotFound):
        instances.roster.get("nothing")
    assert len(instances.roster.find(str(project))) == 2
    assert instances.roster.find("project", "claude") == []
