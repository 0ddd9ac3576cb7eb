"""Faults on a real engine, one by one: what happens to instances is seen, told, and made good.

Many of them, and how available instances are meanwhile: `test_docker_faults.py`.
"""

from __future__ import annotations

import gc
import time
from datetime import datetime
from pathlib import Path

import pytest

from p8.app import App
from p8.core.roster import InstanceStatus
from support.engine import (
    IMAGE,
    TINY,
    OwnEngine,
    alerts,
    client,
    inside,
    supervised,
    tidy_app,
    tiny_image,
    until,
)

WITHIN_S = 20.0
#: answers on its port until it is asked for the first time
CLOSES = """
import http.server, os, time

class Once(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.socket.close()

try:
    http.server.HTTPServer(("", int(os.environ["AI_PORT"])), Once).serve_forever()
except BaseException:
    pass
time.sleep(999)
"""
QUICK = """\
health: {check_interval: 500ms, timeout: 1s, max_retries: 2, retry_delay: 200ms, stable: 1s}
resources: {memory: 160Mi, cpu: {limit: 500m, warning_threshold: 100m, critical_threshold: 480m}}
"""


@pytest.fixture
def app(app: App) -> App:
    app.store.start()
    (app.config.home / "configs" / "a-shell.yml").write_text(QUICK)
    return app


def start(app: App, more: str = "") -> str:
    if more:
        path = app.config.home / "configs" / "a-shell.yml"
        path.write_text(path.read_text() + more)
    return app.instances.start("a", app.directory, "shell").instance.container


def well(app: App) -> bool:
    one = app.instances.roster.get("a-shell")
    return bool(one.container) and app.instances.check("a-shell").healthy


def told(app: App, kind: str, count: int = 1):
    return lambda: alerts(app).count(f"{kind} a-shell") >= count


@pytest.mark.parametrize("fault", ["kill", "stop", "pause", "remove"])
def test_a_container_that_somebody_stops_comes_back(app: App, fault: str) -> None:
    container = start(app)
    with supervised(app):
        time.sleep(0.5)
        other = client().containers.get(container)
        {"kill": other.kill, "stop": lambda: other.stop(timeout=1), "pause": other.pause,
         "remove": lambda: other.remove(force=True)}[fault]()  # fmt: skip
        took = until(lambda: told(app, "RECOVERED")() and well(app), WITHIN_S, f"recovered from {fault}")

    assert alerts(app)[:2] == ["UNHEALTHY a-shell", "RECOVERED a-shell"]
    assert took < WITHIN_S
    assert app.instances.roster.get("a-shell").meta["restarts"] == 1
    assert len(app.runtime.list()) == 1


def test_one_that_was_stopped_or_paused_on_purpose_is_left_alone(app: App) -> None:
    start(app)
    with supervised(app):
        app.instances.pause("a-shell")
        time.sleep(2)
        assert app.instances.roster.get("a-shell").status is InstanceStatus.PAUSED
        app.instances.pause("a-shell", paused=False)
        app.instances.stop("a-shell")
        time.sleep(2)
    assert alerts(app) == []
    assert app.runtime.list() == []


def test_a_program_that_no_longer_answers_is_restarted(app: App) -> None:
    (app.directory / "server.py").write_text(CLOSES)
    start(app, 'command: ["python3", "/app/a/server.py"]\n')
    with supervised(app):
        until(lambda: well(app), WITHIN_S)
        port = app.instances.roster.get("a-shell").port
        ask = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}', timeout=2)"
        inside(app, "a-shell", "python3", "-c", ask)
        until(told(app, "RECOVERED"), WITHIN_S, "recovered from a closed port")

    line = next(line for line in app.instances.files.log.read() if line["metadata"].get("alert") == "UNHEALTHY")
    assert f"port {port} does not answer" in line["message"]


def test_a_failing_health_command_is_acted_on(app: App) -> None:
    path = app.config.home / "configs" / "a-shell.yml"
    path.write_text(QUICK.replace("health: {", 'health: {command: "test ! -e /app/a/sick", '))
    start(app)
    with supervised(app):
        until(lambda: well(app), WITHIN_S)
        (app.directory / "sick").touch()
        until(told(app, "UNHEALTHY"), WITHIN_S, "seen to be sick")
        (app.directory / "sick").unlink()
        until(lambda: told(app, "RECOVERED")() and well(app), WITHIN_S, "well again")


def test_a_crash_loop_backs_off_and_is_given_up_until_healed(app: App) -> None:
    path = app.config.home / "configs" / "a-shell.yml"
    path.write_text(QUICK.replace("retry_delay: 200ms, stable: 1s", "retry_delay: 1s, stable: 60s, max_restarts: 3"))
    path.write_text(
        path.read_text() + 'command: ["sh", "-c", "test -e /app/a/ok && exec p8-keeper; sleep 1; exit 7"]\n'
    )
    app.instances.start("a", app.directory, "shell", wait_s=0)
    with supervised(app):
        until(told(app, "RECOVERY_FAILED"), 40, "given up")
        time.sleep(1)
        one = app.instances.roster.get("a-shell")
        assert one.status is InstanceStatus.ERROR
        assert one.meta["restarts"] == 3
        assert "status 7" in one.meta["error"]
        lines = [line for line in app.instances.files.log.read() if line["metadata"].get("what") == "recovered"]
        times = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
        assert [
            later - sooner >= pause for sooner, later, pause in zip(times[:-1], times[1:], (1.0, 2.0), strict=True)
        ] == [True] * 2
        (app.directory / "ok").touch()
        app.instances.recover("a-shell", app.instances.check("a-shell").state)
        until(lambda: well(app), WITHIN_S, "healed")


def test_a_missing_image_is_reported_and_made_good(app: App) -> None:
    engine = client()
    engine.images.get(IMAGE).tag("p8-test-gone", "1")
    container = start(app, "image: p8-test-gone:1\n")
    with supervised(app):
        time.sleep(0.5)
        engine.images.remove("p8-test-gone:1", force=True)
        engine.containers.get(container).remove(force=True)
        until(lambda: "p8-test-gone" in str(app.instances.roster.get("a-shell").meta.get("error")), WITHIN_S, "told")
        engine.images.get(IMAGE).tag("p8-test-gone", "1")
        until(lambda: well(app), WITHIN_S, "made good")
    engine.images.remove("p8-test-gone:1", force=True)


# use


def test_a_burner_and_a_hog_are_told_of_and_limits_hold(app: App) -> None:
    start(app)
    heard: list[str] = []
    app.bus.subscribe(lambda change: heard.append(str(change.data.get("text"))))
    with supervised(app) as supervisor:
        until(lambda: "a-shell" in supervisor.usage, WITHIN_S, "samples")
        burner = app.instances.open("a-shell", ("sh", "-c", "while :; do :; done"))
        until(lambda: supervisor.usage["a-shell"].cpu_percent > 10, WITHIN_S, "a busy sample")
        took = until(told(app, "HIGH_CPU"), WITHIN_S, "HIGH_CPU")
        burner.end()
        hog = app.instances.open("a-shell", ("python3", "-c", "import time; x = bytearray(140 << 20); time.sleep(60)"))
        until(lambda: supervisor.usage["a-shell"].memory_percent > 85, WITHIN_S, "a full sample")
        took_memory = until(told(app, "HIGH_MEM"), WITHIN_S, "HIGH_MEM")
        hog.end()
        inside(app, "a-shell", "python3", "-c", "x = bytearray(400 << 20)")
        until(told(app, "OUT_OF_MEMORY"), WITHIN_S, "OUT_OF_MEMORY")
        time.sleep(0.5)

    assert max(took, took_memory) < 2.5  # two samples are a second apart
    assert any(text.startswith("HIGH_CPU: a-shell uses") for text in heard)
    assert any(text.startswith("HIGH_MEM: a-shell uses") for text in heard)
    assert well(app)


# the engine itself


# The SDK leaves a socket to the collector where the engine's does not answer.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_stops_and_starts(home: Path, tmp_path: Path) -> None:
    import docker

    folder = Path("/tmp") / f"p8e{tmp_path.name[-8:]}{time.monotonic_ns() % 10**6}"  # a socket's path is short
    folder.mkdir(mode=0o700)
    own = OwnEngine(folder)
    own.start()
    try:
        tiny_image(docker.DockerClient(base_url=own.address))
        with tidy_app(home, tmp_path / "project", engine=own.address, container_image=TINY) as app:
            app.store.start()
            (home / "configs" / "a-shell.yml").write_text(
                QUICK + 'command: ["sleep", "9999"]\nnetworking: {network: none}\n'
            )
            app.instances.start("a", app.directory, "shell")
            with supervised(app):
                time.sleep(1)
                own.stop()
                until(lambda: "ENGINE_DOWN " in alerts(app), WITHIN_S, "told that it is away")
                time.sleep(1)
                own.start()
                until(lambda: "ENGINE_UP " in alerts(app), WITHIN_S, "told that it is back")
                until(lambda: app.instances.check("a-shell").healthy, WITHIN_S, "well again")
            gc.collect()
            assert alerts(app).count("ENGINE_DOWN ") == 1
            assert "RECOVERY_FAILED a-shell" not in alerts(app)
    finally:
        own.stop()
