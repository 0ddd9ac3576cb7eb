"""Ten instances at once on a real engine, among other people's containers; what is seen from inside; limits."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p8.app import App
from p8.containers.docker import Docker
from p8.containers.watch import Target, probe
from p8.core.roster import InstanceStatus
from p8.errors import Conflict, ContainerError
from support.engine import IMAGE, client, inside, until
from support.inspection import listening, weaknesses
from support.terminal import Terminal

COUNT = 10
FORKS = """
import os, time
n = 0
try:
    while n < 100:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        n += 1
except OSError:
    print(n)
"""
DECOYS = 50
ROUNDS = 6


@pytest.fixture
def decoys(app: App) -> Iterator[list]:
    """Other people's containers, named and labelled as much like P8's as can be."""
    engine, made = client(), []
    own = app.runtime.installation
    for n in range(DECOYS):
        labels = {
            "p8.managed": "1",
            "p8.instance": f"i{n % COUNT}-shell",
            "p8.installation": own[:-1] + "x",
            "p8.port": "9001",
        }
        labels |= {"p8.session": "s"} if n % 2 else {}
        name = f"p8-{own[:6]}-i{n}-shell" if n < COUNT // 2 else f"p8-{own[:6]}-i{n % COUNT}-shell-{n}"
        one = engine.containers.create(
            IMAGE, ["sleep", "600"], name=name, labels=labels if n % 5 else {}, network_mode="none"
        )
        if n % 10 == 0:
            one.start()
        made.append(one)
    yield made
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: one.remove(force=True), made))
    engine.close()


def bare_runs(pool: ThreadPoolExecutor) -> list[float]:
    """How long it takes to start ten without P8."""

    def run(_n: int) -> tuple[float, str]:
        begun = time.monotonic()
        made = subprocess.run(["docker", "run", "-d", IMAGE], capture_output=True, text=True, check=True).stdout.strip()
        return time.monotonic() - begun, made

    done = list(pool.map(run, range(COUNT)))
    subprocess.run(["docker", "rm", "-f", *(name for _, name in done)], capture_output=True, check=True)
    return [seconds for seconds, _ in done]


def figures(seconds: list[float]) -> tuple[float, float]:
    """Return the middle and the slowest of ten begun together."""
    return statistics.median(seconds), max(seconds)


def within(ours: list[float], bare: list[float]) -> bool:
    """Return whether starts take no more than half as long again as bare ones begun just before, and 2 s."""
    return all(a <= b * 1.5 and a < b + 2.0 for a, b in zip(figures(ours), figures(bare), strict=True))


def timed_start(app: App, n: int) -> float:
    begun = time.monotonic()
    app.instances.start(f"i{n}", app.directory, "shell", wait_s=0)
    return time.monotonic() - begun


def own_memory(app: App) -> dict[str, int]:
    """
    Return what P8's own processes for ten instances use, in bytes: the watch and all below it, and a REPL beside it.

    Memory that several share is divided among them (PSS).
    """
    home = app.config.home
    watch = subprocess.Popen([sys.executable, "-m", "p8", "watch"], env={**os.environ, "P8_HOME": str(home)},
                             stdout=subprocess.DEVNULL)  # fmt: skip
    repl = Terminal(home, app.directory)
    try:
        repl.wait("›")
        repl.line("/instance list", "UPTIME")
        until(lambda: all(one.meta["memory_usage"] for one in app.instances.roster.all()), 60, "all are measured")
        return {
            name: sum(pss(process) for process in below(top))
            for name, top in (("watch", watch.pid), ("REPL", repl.process.pid))
        }
    finally:
        repl.close()
        watch.terminate()
        assert watch.wait(30) == 0


def below(pid: int) -> list[int]:
    """Return a process and all it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in below(int(child)))]


def pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def shown_memory(memory: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / 2**20:.0f}" for name, size in memory.items())


@pytest.mark.timeout(600)
def test_ten_together_among_fifty_decoys(app: App, decoys: list, capsys) -> None:
    (app.config.home / "configs").mkdir(exist_ok=True, parents=True)
    (app.config.home / "configs" / "default.yml").write_text("defaults: {health: {check_interval: 2s}}\n")
    app.instances.start("warm", app.directory, "shell")  # connections and the network are made once
    app.instances.remove("warm-shell")
    ours, bare = [], []
    while len(ours) < ROUNDS:  # others want the processors too: a round in which both had the same of them is wanted
        if ours:
            for one in app.instances.roster.all():
                app.instances.remove(one.id)
        with ThreadPoolExecutor(COUNT) as pool:
            bare.append(sorted(bare_runs(pool)))
            ours.append(sorted(pool.map(lambda n: timed_start(app, n), range(COUNT))))
        if within(ours[-1], bare[-1]):
            break
    roster = app.instances.roster
    until(lambda: all(app.instances.check(one.id).healthy for one in roster.all()), 30, "ten healthy instances")
    found = roster.all()

    assert [one.status for one in found] == [InstanceStatus.RUNNING] * COUNT
    assert len({one.port for one in found}) == COUNT
    assert len({one.container for one in found}) == COUNT
    memory = own_memory(app)
    used = [app.runtime.samples(one.container) for one in found]
    with capsys.disabled():
        for what, rounds in (("ten starts", ours), ("bare docker run", bare)):
            print(f"\n{what}, s: " + "; ".join(" ".join(f"{one:.2f}" for one in found) for found in rounds), end="")
        print("\nmiddle and slowest start {:.2f} and {:.2f} s,".format(*figures(ours[-1]))
              + " of bare docker run {:.2f} and {:.2f} s".format(*figures(bare[-1])))  # fmt: skip
        print(f"P8's own memory: {sum(memory.values()) / 2**20:.0f} MB in all ({shown_memory(memory)});"
              f" {sum(memory.values()) / 2**20 / COUNT:.1f} MB an instance")  # fmt: skip
        for one, samples in zip(found, used, strict=True):
            print(f"  {one.id}: {next(samples).memory_bytes / 2**20:.1f} MB of {one.meta['memory_limit']}")
            samples.close()
    assert within(ours[-1], bare[-1])
    assert sum(memory.values()) < 512 << 20
    with pytest.raises(Conflict, match="max_instances"):
        app.instances.start("eleventh", app.directory, "shell", wait_s=0)

    app.instances.reconcile()
    with ThreadPoolExecutor(COUNT) as pool:
        list(pool.map(lambda one: app.instances.stop(one.id), found))
    app.instances.reconcile()
    assert app.runtime.list() == []
    assert app.store.ports.all() == {}
    for number, decoy in enumerate(decoys):
        decoy.reload()
        assert decoy.status == ("running" if number % 10 == 0 else "created")


def test_a_network_that_somebody_removed_is_made_anew(app: App) -> None:
    app.instances.start("a", app.directory, "shell", wait_s=0)
    app.instances.stop("a-shell")
    (network,) = own_networks(app)
    network.remove()
    started = app.instances.start("a", app.directory, "shell")

    assert started.verdict is not None
    assert started.verdict.healthy
    assert len(own_networks(app)) == 1


def own_networks(app: App) -> list:
    return client().networks.list(filters={"label": f"p8.installation={app.runtime.installation}"})


def test_of_a_first_start_in_many_processes_at_once_one_network_comes(app: App, home: Path) -> None:
    app.store.start()
    runtimes = [Docker(app.runtime.installation, home, Path.home()) for _ in range(4)]
    for one in runtimes:
        one.engine()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda one: one._bridge.id(one._api()), runtimes * 2))
    for one in runtimes:
        one.close()

    networks = own_networks(app)
    assert {network.id for network in networks} == {*made}
    assert len(networks) == 1


def test_the_registry_is_made_again_after_the_database_is_lost(app: App, home: Path, tmp_path: Path) -> None:
    one = app.instances.start("a", app.directory, "shell").instance
    app.store.instances.remove(one.id)

    assert app.instances.reconcile() == ["adopted a-shell, found running"]
    assert app.instances.roster.get(one.id).container == one.container
    assert app.instances.check(one.id).healthy


def test_a_port_that_somebody_takes_is_got_round(app: App, home: Path) -> None:
    (home / "configs").mkdir(parents=True, exist_ok=True)
    first = app.instances.start("a", app.directory, "shell").instance.port
    app.instances.stop("a-shell")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first))
        other.listen()
        second = app.instances.start("a", app.directory, "shell").instance.port

    assert second != first


def test_a_port_the_engine_refuses_is_given_up_for_the_next(app: App, monkeypatch) -> None:
    from p8.core import instances

    monkeypatch.setattr(instances, "is_free", lambda _port: True)  # the moment between the look and the start
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        app.instances.start("a", app.directory, "shell", wait_s=0)
        app.instances.stop("a-shell")
        app.instances.files.set(app.instances.roster.get("a-shell"), "shell", "networking.preferred_port", str(taken))
        started = app.instances.start("a", app.directory, "shell", wait_s=0).instance

    assert started.port != taken
    assert len(app.runtime.list()) == 1


def test_a_program_that_ends_at_once_is_told_with_its_last_words(app: App, home: Path) -> None:
    app.store.start()
    (home / "configs" / "a-shell.yml").write_text('command: ["sh", "-c", "echo no licence found; exit 3"]\n')
    with pytest.raises(ContainerError) as error:
        app.instances.start("a", app.directory, "shell")

    assert "status 3" in error.value.message
    assert "no licence found" in error.value.message
    assert app.instances.roster.get("a-shell").status is InstanceStatus.ERROR


# what is seen from inside


def theirs(directory: Path) -> None:
    """Make a project somebody's who is not root."""
    if os.getuid() == 0:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, 1000, 1000)


def test_inside_there_is_nothing_but_the_project(app: App, home: Path) -> None:
    hooks = app.directory / ".git" / "hooks"
    hooks.mkdir(parents=True)
    (app.directory / ".git" / "config").write_text("[core]\n")
    (app.directory / "mine.txt").write_text("x")
    theirs(app.directory)
    one = app.instances.start("project", app.directory, "shell").instance
    owner, state = app.directory.stat(), home / "states" / one.id
    mounts = [
        app.directory, hooks, app.directory / ".git" / "config", state / "home", state / "etc" / "passwd",
        state / "etc" / "group", home / "sockets" / one.id,
    ]  # fmt: skip

    def run(line: str) -> str:
        return inside(app, one.id, "sh", "-c", line)[0]

    assert weaknesses(run, mounts, (512 << 20, 256, 0.5), {"lo", "eth0"}) == []
    assert run("id -u; id -g; pwd").split() == [str(owner.st_uid), str(owner.st_gid), "/app/project"]
    for path in ("/app/project/.git/hooks/pre-commit", "/app/project/.git/config"):
        said, code = inside(app, one.id, "sh", "-c", f"echo x >> {path}")
        assert code != 0, (path, said)
    assert run("echo y > /app/project/new && cat /app/project/mine.txt") == "x"
    assert (app.directory / "new").read_text() == "y\n"
    assert (app.directory / "new").stat().st_uid == owner.st_uid
    mounted = run("cat /proc/mounts")
    assert str(Path.home()) not in {line.split()[1] for line in mounted.splitlines()}
    assert "noexec" in next(line for line in mounted.splitlines() if " /tmp " in line)


def test_the_inspection_finds_what_a_careless_container_has(image: str, tmp_path: Path) -> None:
    engine = client()
    binds = ["/var/run/docker.sock:/var/run/docker.sock", f"{tmp_path}:/host"]
    careless = engine.containers.run(
        image, ["sleep", "600"], detach=True, user="root", volumes=binds, security_opt=["seccomp=unconfined"],
        devices=["/dev/zero:/dev/theirs"],
    )  # fmt: skip

    def run(line: str) -> str:
        return careless.exec_run(["sh", "-c", line]).output.decode()

    try:
        kinds = {said.split(":")[0] for said in weaknesses(run, [], (512 << 20, 256, 0.5), {"lo"})}
    finally:
        careless.remove(force=True)
        engine.close()
    assert kinds == {"capabilities", "new privileges", "system calls", "user", "root", "mount", "socket", "device",
                     "network", "limit"}  # fmt: skip


def test_the_port_is_published_on_loopback_only(app: App) -> None:
    one = app.instances.start("project", app.directory, "shell").instance
    bound = client().api.inspect_container(one.container)["NetworkSettings"]["Ports"]

    assert [b["HostIp"] for bindings in bound.values() for b in bindings] == ["127.0.0.1"]
    assert listening(one.port) == {"0100007F"}
    with socket.create_connection(("127.0.0.1", one.port), 5) as talk:
        talk.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while block := talk.recv(4096):
            answer += block
    assert b'"instance": "project-shell"' in answer


def test_two_instances_cannot_reach_each_other(app: App) -> None:
    one = app.instances.start("a", app.directory, "shell").instance
    two = app.instances.start("b", app.directory, "shell").instance
    address = app.runtime.inspect(two.container).address
    script = f"import socket; socket.create_connection(('{address}', {two.port}), 3)"
    said, code = inside(app, one.id, "python3", "-c", script)

    assert code != 0, said
    assert address


def test_limits_hold(app: App, home: Path) -> None:
    app.store.start()
    (home / "configs" / "a-shell.yml").write_text("resources: {memory: 128Mi, cpu: 250m, pids: 40}\n")
    one = app.instances.start("a", app.directory, "shell").instance
    said, code = inside(app, one.id, "python3", "-c", "x = bytearray(400 << 20); print(len(x))")
    assert code == 137, said
    channel = app.instances.open(one.id, ("sh", "-c", "while :; do :; done"))
    samples = app.runtime.samples(one.container)
    used = [next(samples).cpu_percent for _ in range(4)][1:]
    samples.close()
    channel.end()

    assert statistics.mean(used) == pytest.approx(25, abs=8)
    said, _ = inside(app, one.id, "python3", "-c", FORKS)
    assert 20 < int(said) < 40
    assert app.instances.check(one.id).is_up


def test_the_home_and_the_engine_are_never_mounted(app: App, tmp_path: Path) -> None:
    for number, directory in enumerate((Path.home(), Path("/"), Path("/run"), app.config.home)):
        with pytest.raises(ContainerError, match="is not mounted"):
            app.instances.start("a", directory, "shell", instance_id=f"x{number}-shell")
    assert app.runtime.list() == []


def test_a_container_that_is_not_p8s_is_never_touched(app: App) -> None:
    other = client().containers.run(IMAGE, ["sleep", "600"], detach=True, network_mode="none")
    try:
        for verb in ("stop", "kill", "remove"):
            app.runtime.act(other.id, verb)  # to P8 it does not exist
        for verb in ("pause", "restart", "start"):
            with pytest.raises(ContainerError):
                app.runtime.act(other.id, verb)
        with pytest.raises(ContainerError):
            app.runtime.open(other.id, ["true"])
        assert app.runtime.inspect(other.id) is None
        assert probe(app.runtime, Target("x", other.id)).reasons == ("its container is gone",)
        other.reload()
        assert other.status == "running"
    finally:
        other.remove(force=True)
