"""The container under a session as a person at a REPL has it: in a pseudo-terminal, on a real engine."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8.app import App
from p8.config import Config
from p8.store.instances import installation_of
from support.engine import client, remove_all, until
from support.slow_engine import slow_engine
from support.terminal import Terminal

Start = Callable[..., Terminal]


@pytest.fixture
def home(place: Path, image: str) -> Iterator[Path]:
    made = place / "home"
    made.mkdir(mode=0o700)
    settings(made, container_image=image)
    yield made
    if (made / "states" / "installation").exists():
        remove_all(installation_of(made))


@pytest.fixture
def project(place: Path) -> Path:
    made = place / "project"
    made.mkdir()
    if os.getuid() == 0:
        os.chown(made, 1000, 1000)
    return made


@pytest.fixture
def start(home: Path, project: Path) -> Iterator[Start]:
    opened: list[Terminal] = []

    def begin(*args: str) -> Terminal:
        opened.append(Terminal(home, project, *args, columns=140, FAKE_CONTAINER="auto"))
        opened[-1].wait("›")
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def settings(home: Path, **values: str) -> None:
    (home / "config.toml").write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))


def containers(home: Path) -> list[Any]:
    """All of this home's containers, whatever their state."""
    chosen = {"label": f"p8.installation={installation_of(home)}"}
    return client().containers.list(all=True, filters=chosen, ignore_removed=True)


def states(home: Path) -> list[str]:
    return sorted(one.status for one in containers(home))


def left(one: Terminal) -> None:
    one.line("/quit", "Saved")
    one.end(40)


def kinds(home: Path, project: Path, *wanted: str) -> list[dict[str, Any]]:
    app = App(Config(home=home), project)
    try:
        row = app.store.sessions.page()[0]
        return [entry.data for entry in app.store.sessions.entries(row.id, kinds=wanted, whole=True)]
    finally:
        app.close()


def test_the_prompt_is_usable_before_the_container_is(start: Start, home: Path, place: Path, image: str) -> None:
    with slow_engine(place / "d.sock", 5.0) as engine:
        settings(home, container_image=image, engine=engine.address)
        one = start()
        begun = time.monotonic()
        one.line("hello", "You said: hello")
        one.line("more", "You said: more")
        took = time.monotonic() - begun
        one.wait("⬡ container")
        assert engine.made == 0
        assert took < 5.0
        one.line("!echo made-$((40+2)); head -c4 /proc/1/comm", "made-42")  # only a command waits for it
        one.wait("⬢ container")
        assert (engine.asked, engine.made) == (1, 1)
        left(one)
    assert states(home) == []


def test_commands_run_inside_as_the_person_and_leaving_takes_it_away(start: Start, home: Path, project: Path) -> None:
    one = start()
    one.line("!id -u; id -g; pwd; echo from inside > made; ls", "made")
    one.wait("⬢ container")
    owner = project.stat()
    assert f"{owner.st_uid}\n{owner.st_gid}\n{project}\nmade" in one.text
    assert (project / "made").read_text() == "from inside\n"
    assert (project / "made").stat().st_uid == owner.st_uid
    one.line("!echo kept > ~/note; cat /proc/1/comm", "docker-init")
    (first,) = containers(home)
    assert first.status == "running"
    one.line("/checkpoint boxed", "◆ boxed")
    one.line("/checkpoint show boxed", f"{first.name}, ")
    left(one)
    assert states(home) == []

    two = start("-c")
    assert "!" not in {line[:1] for line in two.text.splitlines()}  # a fresh container like the last is no change
    two.line("!cat ~/note; echo read-$((40+2))", "read-42")
    assert "kept\nread-42" in two.text
    (second,) = containers(home)
    assert second.id != first.id
    left(two)
    runs = kinds(home, project, "execution")
    (checkpoint,) = kinds(home, project, "checkpoint")
    assert [run["where"] for run in runs] == [first.name, first.name, second.name]
    assert checkpoint["container"]["id"] == first.id[:12]
    assert checkpoint["container"]["image_id"] == first.attrs["Image"][7:19]


def test_a_hosted_project_is_left_and_come_back_to(home: Path) -> None:
    """Row J6: leaving stops the container and snapshots hot memories; coming back makes a fresh one, same files."""
    app = App(Config(home=home), home)
    made = app.portfolio.create("hosted").project
    app.close()
    if os.getuid() == 0:
        os.chown(made.root, 1000, 1000)
    one = Terminal(home, Path(made.root), columns=140, FAKE_CONTAINER="auto")
    one.wait("›")
    one.line("!echo kept > file; echo made-$((40+2))", "made-42")
    one.wait("⬢ container")
    (first,) = containers(home)
    one.line("/remember the build needs tabs", "recalled three times it becomes a file")
    left(one)
    assert states(home) == []
    hot = Path(made.workspace) / ".memories" / "hot"
    assert "the build needs tabs" in "".join(file.read_text() for file in hot.iterdir())

    two = Terminal(home, Path(made.root), "-c", columns=140, FAKE_CONTAINER="auto")
    two.wait("›")
    two.line("/recall", "the build needs tabs")
    two.line("!cat file; echo read-$((40+2))", "read-42")
    assert "kept\nread-42" in two.text
    (second,) = containers(home)
    assert second.id != first.id
    left(two)
    for terminal in (one, two):
        terminal.close()


@pytest.mark.parametrize("how", ["running", "paused"])
def test_kill_9_leaves_nothing_after_the_next_start(start: Start, home: Path, how: str) -> None:
    one = start()
    one.line("!true")
    one.wait("⬢ container")
    if how == "paused":
        one.line("/session pause", "Session paused")
        one.wait("⬡ paused")
    until(lambda: states(home) == [how], 20, how)
    one.process.kill(signal.SIGKILL)
    until(lambda: not one.process.isalive(), 10)
    assert states(home) == [how]

    two = start()  # nothing is typed
    until(lambda: states(home) == [], 20, "nothing is left")
    two.line("/quit")
    two.end(40)


def test_paused_with_its_session_and_gone_on_with(start: Start, home: Path, project: Path) -> None:
    one = start()
    one.line("first thing", "You said: first thing")
    one.line("!(while :; do date >> ticks; sleep 0.1; done) >/dev/null 2>&1 & sleep 0.3; wc -l < ticks")
    one.wait("⬢ container")
    (first,) = containers(home)
    one.line("/session pause", "Session paused")
    until(lambda: states(home) == ["paused"], 20, "frozen with its session")
    one.line("something else", "You said: something else")
    until(lambda: states(home) == ["paused", "running"], 20, "another session has another container")
    one.line("/resume first thing", "── first thing")
    until(lambda: {c.status for c in containers(home) if c.id == first.id} == {"running"}, 20, "it goes on")
    assert states(home) == ["paused", "running"]
    before = (project / "ticks").stat().st_size
    until(lambda: (project / "ticks").stat().st_size > before, 10, "what was begun in it goes on")
    one.line("!echo same-$(hostname)", f"same-{first.name[:63]}")
    left(one)

    assert states(home) == []


def other_image(name: str, image: str) -> None:
    """Build an image of that name, like another one but for its id."""
    text = f"FROM {image}\nLABEL p8.test={time.time_ns()}\n".encode()
    client().images.build(fileobj=io.BytesIO(text), tag=name, rm=True)


@pytest.mark.parametrize("what", ["built anew", "gone", "engine", "never", "network"])
def test_what_changed_about_it_is_said_before_the_first_prompt(
    start: Start, home: Path, project: Path, place: Path, image: str, what: str
) -> None:
    name = f"p8-test-reality:{place.name.lower().replace('_', '-')}"
    engine = client()
    engine.images.get(image).tag(name)
    settings(home, container_image=name)
    try:
        one = start()
        one.line("!true")
        one.wait("⬢ container")
        one.line("hello", "You said: hello")
        left(one)
        if what == "built anew":
            other_image(name, image)
            wanted = f"! the image of its container, {name}, was"
        elif what == "gone":
            engine.images.remove(name)
            wanted = f"! the image of its container, {name}, is gone"
        elif what == "engine":
            settings(home, container_image=name, engine=f"unix://{place}/none.sock")
            wanted = f"! the container engine at unix://{place}/none.sock is away: commands run on this machine"
        elif what == "network":
            settings(home, container_image=name, container_network="bridge")
            wanted = "! its container had no network, the next one has a network"
        else:
            wanted = f"! its commands ran in a container ({name}); now they run on this machine"
        two = Terminal(home, project, "-c", columns=140, FAKE_CONTAINER="never" if what == "never" else "auto")
        try:
            two.wait(wanted)
            two.line("next", "You said: next")
            assert two.text.index(wanted) < two.text.index("› next")
            left(two)
        finally:
            two.close()
        told = [message["content"] for message in kinds(home, project, "message") if message["role"] == "system"]
        assert wanted[2:] in told[-1]
    finally:
        if engine.images.list(name=name):
            engine.images.remove(name, force=True)
