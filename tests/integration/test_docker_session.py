"""The container under a session, on a real engine: nobody waits for it, commands run in it, and it goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from p8.app import App
from p8.core import leftovers
from p8.core.session_container import ContainerState
from p8.errors import ContainerError
from support.engine import IMAGE, client, tidy_app, until
from support.inspection import weaknesses

SESSION = "20261121-093000-123456-ab12"


def launched(app: App) -> None:
    app.container.start_in_background(SESSION, app.directory)
    assert app.container.wait(30) is ContainerState.RUNNING, app.container.problem


def test_a_launch_keeps_nobody_waiting(app: App) -> None:
    begun = time.monotonic()
    app.container.start_in_background(SESSION, app.directory)
    took = time.monotonic() - begun

    assert took < 0.05
    assert app.container.state is ContainerState.STARTING
    assert not app.container.covers(app.directory)
    assert app.container.wait(30) is ContainerState.RUNNING


def test_commands_run_inside_as_the_person_in_the_same_place(app: App) -> None:
    (app.directory / "sub").mkdir()
    launched(app)
    seen: list[str] = []
    done = app.container.execute("id -u; pwd; echo made > new; ls; echo oops >&2; exit 3", seen.append)

    assert done.exit_code == 3
    assert "".join(seen) == done.output
    assert done.output.split() == [str(app.directory.stat().st_uid), str(app.directory), "new", "sub", "oops"]
    assert (app.directory / "new").stat().st_uid == app.directory.stat().st_uid
    assert done.where.startswith("p8-")
    assert app.container.execute("pwd", seen.append, directory=app.directory / "sub").output == f"{app.directory}/sub\n"
    assert app.container.covers(app.directory / "sub")
    assert not app.container.covers(app.directory.parent)


def test_a_repository_is_mounted_whole_and_its_hooks_cannot_be_written_to(app: App) -> None:
    subprocess.run(["git", "init", "-q", str(app.directory)], check=True)
    (app.directory / "deep").mkdir()
    (app.directory / "top.txt").touch()
    app.container.start_in_background(SESSION, app.directory / "deep")
    app.container.wait(30)
    done = app.container.execute("pwd; ls ..; git status --short; touch ../.git/hooks/post-commit", lambda _text: None)

    assert done.output.splitlines()[:2] == [f"{app.directory}/deep", "deep"]
    assert "?? " in done.output
    assert "Read-only file system" in done.output


def test_nothing_can_get_out(app: App, home: Path) -> None:
    (app.directory / "mine.txt").write_text("x")
    if os.getuid() == 0:
        os.chown(app.directory, 1000, 1000)
    launched(app)
    state = home / "states" / SESSION
    mounts = [
        app.directory, state / "home", state / "etc" / "passwd", state / "etc" / "group", home / "sockets" / SESSION
    ]  # fmt: skip

    def run(line: str) -> str:
        return app.container.execute(line, lambda _text: None).output

    assert weaknesses(run, mounts, (1 << 30, 512, 1.5), {"lo"}) == []
    assert run("cat mine.txt; ls -A ~") == "x"


def test_stop_ends_a_command_and_all_it_started(app: App) -> None:
    launched(app)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begun = time.monotonic()
    done = app.container.execute("sleep 300 & (sleep 301; true)", lambda _text: None, stop)

    assert done.interrupted
    assert time.monotonic() - begun < 8
    left = app.container.execute("pgrep -x sleep", lambda _text: None)
    assert left.output == ""


def test_of_a_long_output_both_ends_are_kept(home: Path, tmp_path: Path, image: str) -> None:
    with tidy_app(home, tmp_path / "project", output_limit_bytes=2000) as app:
        launched(app)
        shown: list[str] = []
        done = app.container.execute("seq 1 20000", shown.append)

        assert "".join(shown).splitlines() == [str(n) for n in range(1, 20001)]
        assert done.output.startswith("1\n2\n")
        assert done.output.endswith("19999\n20000\n")
        assert f"{done.cut_bytes} bytes of output left out" in done.output


def test_what_is_said_in_pieces_stays_whole(app: App) -> None:
    launched(app)
    done = app.container.execute("printf 'gr\\303'; sleep 0.3; printf '\\274n'", lambda _text: None)

    assert done.output == "grün"


def test_a_command_has_no_input_to_wait_for(app: App) -> None:
    launched(app)

    assert app.container.execute("cat", lambda _text: None).exit_code == 0


def test_stop_removes_it_and_a_later_one_has_the_same_state(app: App) -> None:
    launched(app)
    app.container.execute("echo kept > ~/note", lambda _text: None)
    first = app.container.facts()
    app.container.stop()
    assert app.container.state is ContainerState.OFF
    assert app.runtime.list() == []
    assert app.container.facts() == {}
    launched(app)

    assert app.container.execute("cat ~/note", lambda _text: None).output == "kept\n"
    assert app.container.facts()["id"] != first["id"]


def test_one_that_is_stopped_while_it_is_launched_is_not_left(app: App) -> None:
    for delay in (0.0, 0.05, 0.2, 0.4):
        app.container.start_in_background(SESSION, app.directory)
        time.sleep(delay)
        app.container.stop()
        assert app.container.state is ContainerState.OFF
    until(lambda: app.runtime.list() == [], 20, "nothing left")


def test_paused_it_stands_still_and_then_goes_on(app: App) -> None:
    launched(app)
    first = app.container.facts()
    script = "(while :; do date +%s%N >> ticks; sleep 0.05; done) >/dev/null 2>&1 & sleep 0.3"
    app.container.execute(script, lambda _text: None)
    ticks = app.directory / "ticks"
    app.container.put_down(SESSION)
    assert app.container.state is ContainerState.PAUSED
    assert not app.container.covers(app.directory)
    until(lambda: [one.state for one in app.runtime.list()] == ["paused"], 10, "frozen")
    frozen = ticks.stat().st_size
    time.sleep(0.5)
    assert ticks.stat().st_size == frozen > 0
    launched(app)

    assert app.container.execute("echo on", lambda _text: None).output == "on\n"
    assert app.container.facts()["id"] == first["id"]
    until(lambda: ticks.stat().st_size > frozen, 10, "what was begun before goes on")


def test_paused_ones_are_removed_on_leaving(app: App) -> None:
    launched(app)
    app.container.put_down(SESSION)
    app.container.start_in_background(SESSION[:-1] + "3", app.directory)
    app.container.wait(30)
    assert sorted(one.state for one in app.runtime.list()) == ["paused", "running"]
    app.container.stop()

    assert app.runtime.list() == []


def test_one_that_somebody_removed_is_noticed(app: App) -> None:
    launched(app)
    client().containers.get(app.container.facts()["id"]).remove(force=True)
    with pytest.raises(ContainerError):
        app.container.execute("true", lambda _text: None)

    assert app.container.state is ContainerState.GONE
    assert not app.container.covers(app.directory)


def test_a_killed_command_is_told_as_such(app: App) -> None:
    launched(app)

    assert app.container.execute("kill -9 $$", lambda _text: None).exit_code == 137


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"container_image": "p8-test-none:1"}, "no image"),
        ({"engine": "unix:///nonexistent/d.sock"}, "no container engine"),
    ],
)
def test_without_engine_or_image_it_says_so_in_one_line(home: Path, tmp_path: Path, settings: dict, why: str) -> None:
    from p8.app import make_app
    from p8.config import Config

    (tmp_path / "project").mkdir()
    app = make_app(Config(home=home, **settings), tmp_path / "project", background=False)
    app.container.start_in_background(SESSION, app.directory)

    assert app.container.wait(20) is ContainerState.FAILED
    assert why in app.container.problem
    assert "\n" not in app.container.problem
    assert app.container.hint
    app.close()


def test_never_means_never(home: Path, tmp_path: Path) -> None:
    with tidy_app(home, tmp_path / "project", container="never") as app:
        app.container.start_in_background(SESSION, app.directory)
        assert app.container.state is ContainerState.OFF
        assert app.runtime.list() == []


def test_the_home_is_not_mounted(app: App) -> None:
    app.container.start_in_background(SESSION, Path.home())

    assert app.container.wait(30) is ContainerState.FAILED
    assert "home directory" in app.container.problem


LAUNCH = """
import sys, time
from pathlib import Path
from p8.app import make_app
from p8.config import Config
app = make_app(Config(home=Path(sys.argv[1]), container_image=sys.argv[2]), Path(sys.argv[3]), background=False)
app.container.start_in_background(sys.argv[4], app.directory)
print(app.container.wait(30), flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_nothing_after_the_next_start(app: App, home: Path) -> None:
    def other(session: str) -> subprocess.Popen:
        words = [sys.executable, "-c", LAUNCH, str(home), IMAGE, str(app.directory), session]
        made = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ)
        assert made.stdout is not None
        assert made.stdout.readline().strip() == "running"
        return made

    app.store.start()
    dead, alive = other("20261121-093000-000001-0001"), other("20261121-093000-000002-0002")
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    launched(app)
    names = {one.labels["p8.session"] for one in app.runtime.list()}
    alive.send_signal(signal.SIGKILL)
    alive.wait()

    assert names == {SESSION, "20261121-093000-000002-0002"}
    assert leftovers.is_any(home)
    assert leftovers.sweep(app.runtime, home) == 1
    assert not leftovers.is_any(home)
    for one in (dead, alive):
        assert one.stdout is not None
        one.stdout.close()
