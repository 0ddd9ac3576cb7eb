"""Where agents run, on a real engine: programs joined to a container, and nothing of them left; host or container."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from p8.app import App
from p8.core.agent_place import AgentPlace
from p8.core.session_container import ContainerState
from p8.errors import AssistantError, ConfigError
from support.engine import client, tidy_app, until

SESSION = "20261121-093000-123456-ab12"


def place_of(app: App, session: str = SESSION) -> AgentPlace:
    return AgentPlace(app.config, lambda: app.container, lambda: app.runtime, lambda: session, lambda: app.directory)


def joined(app: App, command: Sequence[str], *options: str, **environment: str) -> subprocess.Popen[bytes]:
    place = place_of(app).settled("sh")
    assert place is not None
    words = [*place.prefix[:-1], *options, place.prefix[-1], *command]
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", env=env)


def sleeps(app: App) -> bool:
    return app.container.execute("pgrep -x sleep", lambda _text: None).output != ""


def test_a_program_has_its_streams_its_variables_and_its_status(app: App) -> None:
    script = 'read x; echo "$x $NAMED-$OTHER"; pwd; echo oops >&2; exit 7'
    process = joined(app, ("sh", "-c", script), "-e", "NAMED", NAMED="named", OTHER="not for it")
    out, err = process.communicate(b"said\n", timeout=30)

    assert (out, err, process.returncode) == (f"said named-\n{app.directory}\n".encode(), b"oops\n", 7)


def test_what_is_large_passes_whole_both_ways(app: App) -> None:
    data = os.urandom(3 << 20)
    process = joined(app, ("sh", "-c", f"head -c {len(data)}"))
    out, _ = process.communicate(data, timeout=60)

    assert out == data


@pytest.mark.parametrize("how", ["end of input", "SIGTERM"])
def test_nothing_of_it_is_left_inside(app: App, how: str) -> None:
    process = joined(app, ("sh", "-c", "sleep 300 & echo on; sleep 301"))
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    assert sleeps(app)
    if how == "SIGTERM":
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)

    until(lambda: not sleeps(app), 10, "all of it ended")


def test_a_container_that_goes_ends_it_with_a_line(app: App) -> None:
    process = joined(app, ("sh", "-c", "echo on; sleep 300"))
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    client().containers.get(app.container.facts()["id"]).remove(force=True)
    _, err = process.communicate(timeout=15)

    assert process.returncode != 0
    assert b"Traceback" not in err


def test_it_is_launched_for_an_agent_and_a_fresh_one_is_another_place(app: App) -> None:
    places = place_of(app)
    assert places.now("sh") is None
    first = places.settled("sh")
    assert first is not None
    assert places.now("sh") == first == places.settled("sh")
    assert first.cwd == str(app.directory)
    assert first.about.endswith(
        'without a network; to reach its provider it needs container_network = "bridge" in config.toml'
    )
    app.container.stop()
    second = places.settled("sh")

    assert second is not None
    assert second.prefix != first.prefix
    assert app.container.session == SESSION


def test_another_session_has_another_container(app: App) -> None:
    place_of(app).settled("sh")
    place_of(app, "20261121-093000-123456-cd34").settled("sh")

    assert [one.labels["p8.session"] for one in app.runtime.list()] == ["20261121-093000-123456-cd34"]


def test_a_program_that_is_not_inside_runs_on_the_host_unless_that_is_ruled_out(
    home: Path, tmp_path: Path, image: str
) -> None:
    with tidy_app(home, tmp_path / "project") as app:
        assert place_of(app).settled("claude-agent-acp") is None
    with tidy_app(home, tmp_path / "project", agents_in="container") as app:
        with pytest.raises(AssistantError, match="the container has no program claude-agent-acp"):
            place_of(app).settled("claude-agent-acp")


def test_a_paused_container_goes_on_for_its_agent(app: App) -> None:
    first = place_of(app).settled("sh")
    app.container.put_down(SESSION)
    assert place_of(app).now("sh") is None

    assert place_of(app).settled("sh") == first


def test_the_host_needs_no_container(home: Path, tmp_path: Path, image: str) -> None:
    with tidy_app(home, tmp_path / "project", agents_in="host") as app:
        assert place_of(app).settled("sh") is None
        assert app.container.state is ContainerState.OFF
    with (
        tidy_app(home, tmp_path / "project", agents_in="nowhere") as app,
        pytest.raises(ConfigError, match="auto, container or host"),
    ):
        place_of(app).settled("sh")


def test_without_an_image_an_agent_that_must_be_inside_is_refused(home: Path, tmp_path: Path, image: str) -> None:
    with (
        tidy_app(home, tmp_path / "project", agents_in="container", container_image="p8-test-none:1") as app,
        pytest.raises(AssistantError, match="there is none: the engine has no image"),
    ):
        place_of(app).settled("sh")
