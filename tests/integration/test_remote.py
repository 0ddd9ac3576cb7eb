"""Instances and sessions on an engine elsewhere, for which a second one stands in: nothing is mounted, or lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.app import App
from p8.core.mirror import recorded
from p8.core.session_container import ContainerState
from p8.errors import Conflict, ContainerError
from support.engine import Line, Second, inside, remove_all, supervised, tidy_app, until
from support.terminal import Terminal

SESSION = "20261121-093000-123456-ab12"
AI_SESSION = [sys.executable, "-c", "import sys; from p8.cli import ai_session; sys.exit(ai_session())"]


@pytest.fixture
def app(home: Path, tmp_path: Path, second: Second, line: Line) -> Iterator[App]:
    settings = {"engine": line.address, "container_sync": "sync", "container_image": second.image}
    with tidy_app(home, tmp_path / "project", **settings) as made:
        yield made


def volumes(second: Second, app_or_home: App | Path) -> list[str]:
    home = app_or_home.config.home if isinstance(app_or_home, App) else app_or_home
    chosen = {"label": f"p8.installation={(home / 'states' / 'installation').read_text()}"}
    engine = second.client()
    with contextlib.closing(engine):
        return sorted(volume.name.split("-", 2)[2] for volume in engine.volumes.list(filters=chosen))


def started(app: App) -> str:
    return app.instances.start("project", app.directory, "shell").instance.id


# instances


def test_a_container_elsewhere_is_hardened_and_mounts_nothing_of_this_machine(app: App, second: Second) -> None:
    (app.directory / "a.txt").write_text("from here\n")
    (app.directory / ".git").mkdir()
    name = started(app)
    engine = second.client()
    with contextlib.closing(engine):
        made = engine.api.inspect_container(app.instances.roster.get(name).container)
    kinds = {mount["Destination"]: mount["Type"] for mount in made["Mounts"]}
    host = made["HostConfig"]

    assert kinds == {"/app/project": "volume", "/home/p8": "volume"}
    assert not host["Binds"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert made["Config"]["User"] == f"{app.directory.stat().st_uid}:{app.directory.stat().st_gid}"
    said, code = inside(app, name, "sh", "-c", "cat a.txt; ls -A; echo x > made; touch ~/noted; id -u; stat -c %u . ~")
    assert (said.split(), code) == (["from", "here", ".p8-sync", "a.txt", *[str(app.directory.stat().st_uid)] * 3], 0)
    assert app.instances.check(name).healthy
    assert app.instances.stop(name).meta["unsynced"] == ""
    assert (app.directory / "made").read_text() == "x\n"
    assert (app.config.home / "states" / name / "home" / "noted").exists()


def test_edits_of_both_sides_cross_while_it_is_looked_after_also_through_a_cut(
    app: App, line: Line, second: Second
) -> None:
    name = started(app)
    with supervised(app):
        until(lambda: recorded(app.config.home, name)[1] == os.getpid(), 20, "kept in sync")
        (app.directory / "here.txt").write_text("one")
        until(lambda: inside(app, name, "cat", "here.txt")[0] == "one", 20, "what was written here")
        inside(app, name, "sh", "-c", "mkdir deep; echo two > deep/there.txt; rm here.txt")
        until(lambda: (app.directory / "deep/there.txt").exists() and not (app.directory / "here.txt").exists(), 20)
        line.cut()
        (app.directory / "after").write_text("a cut")
        until(lambda: inside(app, name, "cat", "after")[0] == "a cut", 40, "after a cut")
        assert app.instances.remotes.sync(app.instances.roster.get(name)).short == "in sync"
        before = app.instances.roster.get(name).container
        app.runtime.act(before, "remove")
        until(lambda: app.instances.roster.get(name).container not in {before, ""}, 40, "recovered")
        until(lambda: inside(app, name, "ls")[0].split() == ["after", "deep"], 20, "with its files")
    assert recorded(app.config.home, name)[1] == 0


def test_of_what_both_sides_changed_both_are_kept_and_told(app: App) -> None:
    (app.directory / "a.txt").write_text("first")
    name = started(app)
    (app.directory / "a.txt").write_text("mine")
    inside(app, name, "sh", "-c", "printf yours > a.txt")
    status = app.instances.remotes.sync(app.instances.roster.get(name))

    (double,) = status.conflicts
    assert {(app.directory / "a.txt").read_text(), (app.directory / double).read_text()} == {"mine", "yours"}
    assert status.short == "conflict 1"
    said = [entry["message"] for entry in app.instances.files.log.read() if entry["metadata"].get("what") == "conflict"]
    assert said == [f"{name}: a.txt was changed on both sides; both are kept, one as {double}"]
    again = app.instances.remotes.describe(app.instances.roster.get(name))
    assert (again["sync"], again["conflicts"]) == ("conflict 1", [double])
    (app.directory / double).unlink()
    assert app.instances.remotes.sync(app.instances.roster.get(name)).short == "in sync"


def test_a_volume_goes_only_with_its_instance_and_when_all_of_it_is_here(app: App, second: Second) -> None:
    name = started(app)
    inside(app, name, "sh", "-c", "echo 1 > late; git init -q .; mkdir node_modules; touch node_modules/x a.pyc")
    app.instances.stop(name)
    both = [f"{name}-project", f"{name}-state"]
    assert (app.directory / "late").read_text() == "1\n"
    assert volumes(second, app) == both
    assert app.runtime.list() == []

    assert started(app) == name
    assert inside(app, name, "ls")[0].split() == ["a.pyc", "late", "node_modules"]
    with pytest.raises(Conflict, match=r"\.git, node_modules"):
        app.instances.remove(name)
    assert volumes(second, app) == both
    assert app.runtime.list() == []
    app.instances.remove(name, discard=True)
    assert volumes(second, app) == []
    assert not (app.directory / "node_modules").exists()


def test_what_was_written_while_nobody_looked_is_merged_at_the_next_start(app: App, second: Second) -> None:
    for letter in "abc":
        (app.directory / letter).write_text(letter)
    name = started(app)
    inside(app, name, "sh", "-c", "rm a; echo new > n; echo changed > b")
    engine = second.client()
    with contextlib.closing(engine):
        for one in app.runtime.list():  # as when that machine fails
            engine.containers.get(one.id).remove(force=True)
    (app.directory / "c").unlink()
    app.instances.reconcile()
    started(app)

    assert sorted(path.name for path in app.directory.iterdir()) == ["b", "n"]
    assert inside(app, name, "sh", "-c", "ls; cat b")[0].split() == ["b", "n", "changed"]


def test_volumes_that_vanished_delete_nothing_here(app: App, second: Second) -> None:
    (app.directory / "a").write_text("a")
    name = started(app)
    app.instances.stop(name)
    for volume in volumes(second, app):
        app.runtime.remove_volume(f"p8-{app.runtime.installation[:12]}-{volume}")
    started(app)

    assert (app.directory / "a").read_text() == "a"
    assert inside(app, name, "cat", "a")[0] == "a"


def test_where_the_engine_goes_away_stop_changes_nothing_and_what_is_there_comes_later(app: App, line: Line) -> None:
    name = started(app)
    inside(app, name, "sh", "-c", "echo 1 > only-there")
    line.closed = True
    with pytest.raises(ContainerError):
        app.instances.stop(name)
    assert app.instances.roster.get(name).status == "running"
    line.closed = False
    app.instances.stop(name)
    assert (app.directory / "only-there").read_text() == "1\n"


# from a shell


def test_ai_session_on_a_second_engine_that_is_declared_remote(home: Path, tmp_path: Path, second: Second) -> None:
    project = tmp_path / "my-project"
    project.mkdir()
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'container_image = "{second.image}"\ncontainer_sync = "sync"\n')
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "DOCKER_HOST": second.address}

    def run(*words: str, status: int = 0) -> str:
        done = subprocess.run(
            [*AI_SESSION, *words], cwd=project, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == status, done.stderr
        return done.stdout or done.stderr

    def attached(script: str) -> str:
        return run("attach", "my-project-shell", "--", "sh", "-c", script)

    (project / "hello.txt").write_text("from the host\n")
    watch = 0
    try:
        assert "keeps it in sync" in run("start", ".", "shell")
        (how,) = json.loads(run("sync", "--status", "--json"))
        watch = how["kept_by"] or json.loads(run("sync", "my-project-shell", "--json"))[0]["kept_by"]
        assert watch > 0
        assert attached("cat hello.txt") == "from the host\n"
        (project / "hello.txt").write_text("edited here\n")
        until(lambda: attached("cat hello.txt") == "edited here\n", 20, "an edit of the host")
        attached("echo made inside > inside.txt")
        until(lambda: (project / "inside.txt").exists(), 20, "an edit inside")
        attached("echo at the last moment > last.txt")
        (forced,) = json.loads(run("sync", "my-project-shell", "--json"))
        assert (forced["sync"], forced["kept_by"], forced["conflicts"]) == ("in sync", watch, [])
        assert (project / "last.txt").read_text() == "at the last moment\n"
        attached("echo unseen > unseen.txt")
        assert "is stopped" in run("stop", "my-project-shell")
        assert {path.name for path in project.iterdir()} == {"hello.txt", "inside.txt", "last.txt", "unseen.txt"}
        assert "is forgotten" in run("remove", "my-project-shell", "--yes")
        assert volumes(second, home) == []
    finally:
        if watch:
            os.kill(watch, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{watch}").exists() or " Z " in Path(f"/proc/{watch}/stat").read_text(), 20)
        remove_all((home / "states" / "installation").read_text(), second.address)


# sessions


def launched(app: App) -> None:
    app.container.start_in_background(SESSION, app.directory)
    app.container.wait(60)
    assert app.container.state is ContainerState.RUNNING, app.container.problem


def run(app: App, command: str) -> str:
    return app.container.execute(command, lambda _text: None).output


def test_a_commands_files_are_the_same_on_both_sides_at_once(app: App, second: Second) -> None:
    (app.directory / "a.txt").write_text("one")
    launched(app)
    assert run(app, "cat a.txt; pwd") == f"one{app.directory}\n"
    (app.directory / "a.txt").write_text("two")
    assert run(app, "cat a.txt; echo made > b.txt; echo kept > ~/note") == "two"
    assert (app.directory / "b.txt").read_text() == "made\n"
    assert app.container.sync == "in sync"
    app.container.stop()

    assert app.runtime.list() == []
    assert volumes(second, app) == []
    launched(app)
    assert run(app, "cat ~/note; ls") == "kept\na.txt\nb.txt\n"


def test_a_sessions_volume_stays_where_something_is_only_there(app: App, second: Second) -> None:
    launched(app)
    run(app, "git init -q inner")
    app.container.stop()
    assert volumes(second, app) == [f"{SESSION}-project", f"{SESSION}-state"]
    launched(app)

    assert run(app, "ls inner/.git").split()[:2] == ["HEAD", "branches"]


def test_a_session_whose_connection_is_cut_goes_on(app: App, line: Line) -> None:
    launched(app)
    line.closed = True
    line.cut()
    (app.directory / "meanwhile").write_text("x")
    until(lambda: app.container.sync == "cut, retrying", 30, "told that it is cut")
    line.closed = False
    until(lambda: app.container.sync == "in sync", 30, "in sync again")

    assert run(app, "cat meanwhile") == "x"


def test_the_home_directory_is_not_brought_over(app: App) -> None:
    app.container.start_in_background(SESSION, Path.home())

    assert app.container.wait(60) is ContainerState.FAILED
    assert "home directory" in app.container.problem
    assert app.runtime.list() == []


def test_one_that_is_put_down_while_the_project_is_brought_is_not_left(app: App) -> None:
    for number in range(3000):
        (app.directory / f"f{number}").write_text(str(number))
    app.container.start_in_background(SESSION, app.directory)
    until(lambda: app.container.bringing is not None and app.container.bringing[0] > 0, 30, "under way")
    begun = time.monotonic()
    app.container.stop()

    assert time.monotonic() - begun < 15
    assert app.container.state is ContainerState.OFF
    assert app.runtime.list() == []
    assert len(list(app.directory.iterdir())) == 3000


def test_the_repl_runs_commands_on_the_hosts_files_elsewhere(home: Path, tmp_path: Path, second: Second) -> None:
    directory = tmp_path / "project"
    directory.mkdir()
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'container_image = "{second.image}"\ncontainer_sync = "sync"\n')
    (directory / "file").write_text("on the host\n")
    for number in range(1500):
        (directory / f"n{number}").touch()
    one = Terminal(home, directory, FAKE_CONTAINER="auto", DOCKER_HOST=second.address)
    try:
        one.wait("›")
        one.line("!cat file; hostname | cut -c1-3; echo from there > made")
        one.wait("on the host", 90)
        one.wait("p8-")
        one.wait("⬢ container in sync")
        assert "━" in one.raw
        until(lambda: (directory / "made").exists(), 10)
        (directory / "file").write_text("changed on the host\n")
        one.line("!cat file", "changed on the host")
        one.line("/quit", "Saved")
        one.end(60)
        assert volumes(second, home) == []
    finally:
        one.close()
        remove_all((home / "states" / "installation").read_text(), second.address)
