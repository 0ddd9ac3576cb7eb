"""`ai-session` as document 2 has it, on a real engine and a real terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.core.supervisor import daemon
from support.engine import IMAGE, client, remove_all, until
from support.serving import Served
from support.terminal import Terminal

AI_SESSION = [sys.executable, "-c", "import sys; from p8.cli import ai_session; sys.exit(ai_session())"]
P8 = [sys.executable, "-m", "p8"]


@pytest.fixture
def project(home: Path, tmp_path: Path, image: str) -> Iterator[Path]:
    folder = tmp_path / "my-project"
    folder.mkdir()
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'container_image = "{IMAGE}"\n')
    yield folder
    name = home / "states" / "installation"
    if name.exists():
        remove_all(name.read_text())


def run(project: Path, *words: str, program: list[str] = AI_SESSION, given: str = "") -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [*program, *words], cwd=project, env=env, input=given, capture_output=True, text=True, timeout=120, check=False
    )


def good(project: Path, *words: str, **more) -> str:
    done = run(project, *words, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_documents_verbs_one_after_another(project: Path, home: Path) -> None:
    assert "No instances" in good(project, "list")
    said = good(project, "start", "my-project", "shell")
    assert "my-project-shell is up" in said
    assert "127.0.0.1:90" in said
    again = run(project, "start", "my-project", "shell")
    assert (again.returncode, "running already" in again.stderr) == (5, True)

    head, row = good(project, "list", "--status", "running").splitlines()
    assert head.split()[:5] == ["ID", "PROJECT", "MODE", "PORT", "STATUS"]
    assert row.split()[:3] == ["my-project-shell", "my-project", "shell"]
    assert len(good(project, "list", "--status", "stopped").splitlines()) == 1
    shown = json.loads(good(project, "show", "my-project-shell", "--json"))
    assert shown == json.loads((home / "registry.json").read_text())["instances"]["my-project-shell"]
    assert json.loads(good(project, "find", "my-project", "shell", "--json"))[0]["id"] == "my-project-shell"
    assert json.loads(good(project, "find", "my-project", "claude", "--json")) == []

    usage = json.loads(good(project, "stats", "--json"))[0]
    assert 0 < usage["memory_bytes"] < 64 << 20
    assert "my-project-shell" in good(project, "top", "--once")
    assert good(project, "logs", "my-project-shell", "--tail", "1") == "my-project-shell is ready\n"
    assert "healthy" in good(project, "health", "check", "my-project-shell")
    assert "is well" in good(project, "heal", "my-project-shell")
    assert good(project, "attach", "my-project-shell", given="pwd; exit\n") == "/app/my-project\n"
    assert "is up again" in good(project, "restart", "my-project-shell")
    assert "is stopped" in good(project, "stop", "my-project-shell", "--force")
    assert "my-project-shell" in good(project, "list", "--status", "stopped")
    assert "No instance is up" in good(project, "stop", "--all")
    log = good(project, "instance", "events", "--since", "1h", program=P8)
    assert log.count("instance my-project-shell started") == 2


def test_configuration_is_read_set_and_refused_with_its_line(project: Path, home: Path) -> None:
    good(project, "start", "my-project", "shell", "--no-wait")
    assert good(project, "config", "get", "my-project-shell", "resources.memory.limit") == "512Mi\n"
    assert "256Mi" in good(project, "config", "set", "my-project-shell", "resources.memory.limit", "256Mi")
    file = home / "configs" / "my-project-shell.yml"
    before = file.read_text()
    wrong = run(project, "config", "set", "my-project-shell", "resources.memory.limit", "lots")
    assert (wrong.returncode, "line 4: resources.memory.limit" in wrong.stderr) == (6, True), wrong.stderr
    assert file.read_text() == before
    good(project, "restart", "my-project-shell")
    container = json.loads(good(project, "show", "my-project-shell", "--json"))["container_id"]

    assert client().api.inspect_container(container)["HostConfig"]["Memory"] == 256 << 20


def test_edit_keeps_a_wrong_draft_and_changes_nothing(project: Path, home: Path, monkeypatch) -> None:
    good(project, "start", "my-project", "shell", "--no-wait")
    file = home / "configs" / "my-project-shell.yml"
    before = file.read_text()
    monkeypatch.setenv("EDITOR", f"{sys.executable} -c \"import sys; open(sys.argv[1], 'a').write('nonsense: 1\\n')\"")
    wrong = run(project, "config", "my-project-shell", "--edit")

    assert wrong.returncode == 6
    assert "nonsense: there is no such setting" in wrong.stderr
    assert file.read_text() == before
    draft = home / "configs" / "my-project-shell.edited.yml"
    draft.write_text(before + "resources: {pids: 99}\n")
    monkeypatch.setenv("EDITOR", "true")
    assert "saved" in good(project, "config", "my-project-shell", "--edit")
    assert good(project, "config", "get", "my-project-shell", "resources.pids") == "99\n"
    assert not draft.exists()


def test_health_tells_by_its_status(project: Path) -> None:
    good(project, "start", "my-project", "shell")
    container = json.loads(good(project, "show", "my-project-shell", "--json"))["container_id"]
    client().containers.get(container).kill()
    checked = run(project, "health", "check", "--json")

    assert checked.returncode == 9
    assert json.loads(checked.stdout)[0]["healthy"] is False
    assert "is well again" in good(project, "heal", "my-project-shell")
    assert run(project, "health", "check").returncode == 0


def test_words_that_fit_nothing_get_one_line(project: Path) -> None:
    for words, status in (
        (("show", "nothing"), 3), (("stop",), 2), (("start", "./missing"), 3), (("config", "get", "x"), 2),
        (("logs", "nothing"), 3), (("list", "--status", "odd"), 2), (("start", ".", "nope"), 3),
    ):  # fmt: skip
        done = run(project, *words)
        assert done.returncode == status, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 2


def test_the_short_forms_are_shell(project: Path) -> None:
    for shell in ("bash", "zsh"):
        text = good(project, "shell-init", shell, program=P8)
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
        for name in (
            "ai-list",
            "ai-stop",
            "ai-stop-all",
            "ai-restart",
            "ai-logs",
            "ai-stats",
            "ai-start",
            "claude",
            "gemini",
        ):
            assert f"{name}() {{" in text


# a terminal


def terminal(home: Path, project: Path, *words: str, program: list[str] = AI_SESSION) -> Terminal:
    return Terminal(home, project, *words, program=program, PYTHONPATH=str(Path(__file__).parents[2]))


def test_attach_is_a_terminal_of_its_own(project: Path, home: Path) -> None:
    good(project, "start", "my-project", "shell")
    one = terminal(home, project, "attach", "my-project-shell")
    one.wait("attached to my-project-shell")
    one.line("stty size; tty", "30 100")
    one.wait("/dev/pts/")
    one.process.setwinsize(24, 90)
    one.pump(1.0)
    one.line("stty size", "24 90")
    one.send("sleep 100\r")
    one.pump(0.7)
    one.send("\x03")  # reaches the program, and not P8
    one.line("echo still-$((40+2))", "still-42")
    one.line("printf '\\033]52;c;aGVsbG8=\\007clip'", "clip")
    assert "]52;" not in one.raw.split("still-42")[-1].replace("\\033]52;", "")
    one.send("exit 5\r")

    assert one.end() == 5
    one.close()


def test_detach_leaves_the_instance_running(project: Path, home: Path) -> None:
    good(project, "start", "my-project", "shell")
    one = terminal(home, project, "attach", "my-project-shell")
    one.line("echo here-$((1+1))", "here-2")
    one.send("\x10\x11")

    assert one.end() == 0
    assert "it goes on" in one.raw
    assert json.loads(good(project, "list", "--status", "running", "--json"))[0]["id"] == "my-project-shell"
    one.close()


def test_start_attach_attaches_also_to_one_that_runs(project: Path, home: Path) -> None:
    for _ in range(2):
        one = terminal(home, project, "start", ".", "shell", "--attach")
        one.wait("attached to my-project-shell")
        one.line("hostname | cut -c1-3", "p8-")
        one.send("\x10\x11")
        assert one.end() == 0
        one.close()


def test_stats_are_drawn_anew(project: Path, home: Path) -> None:
    good(project, "start", "my-project", "shell")
    one = terminal(home, project, "stats", "--watch")
    one.wait("my-project-shell")
    one.wait("Ctrl-C leaves")
    one.pump(1.5)
    one.send("\x03")

    assert one.end() == 0
    one.close()


def test_a_log_is_followed(project: Path, home: Path) -> None:
    good(project, "start", "my-project", "shell")
    path = home / "configs" / "my-project-shell.yml"
    counting = '["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.3; done"]'
    path.write_text(f"{path.read_text()}command: {counting}\nhealth: {{port: false}}\n")
    good(project, "restart", "my-project-shell")
    one = terminal(home, project, "logs", "my-project-shell", "--follow", "--tail", "1")
    one.wait("line 9")
    one.send("\x03")

    assert one.end() == 0
    one.close()


# the watch


def test_the_watch_in_the_background_recovers_and_ends(project: Path, home: Path) -> None:
    good(project, "start", "my-project", "shell")
    pid = json.loads(good(project, "watch", "--daemon", "--json", program=P8))["pid"]
    try:
        refused = run(project, "watch", "--daemon", program=P8)
        assert (refused.returncode, str(pid) in refused.stderr) == (5, True)
        time.sleep(1)
        container = json.loads(good(project, "show", "my-project-shell", "--json"))["container_id"]
        client().containers.get(container).kill()
        until(
            lambda: "RECOVERED" in good(project, "instance", "events", "--alerts", "--json", program=P8),
            20,
            "recovered",
        )
        assert "was told to end" in good(project, "watch", "--stop", program=P8)
        until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2], 15)
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)
    assert "No watch is running" in good(project, "watch", "--stop", program=P8)
    assert "my-project-shell is well again" in (home / "logs" / "watch.log").read_text()


def test_the_watch_in_the_foreground_says_what_happens(project: Path, home: Path) -> None:
    good(project, "start", "my-project", "shell")
    one = terminal(home, project, "watch", program=P8)
    one.wait("looking after 1 instances")
    one.pump(1.0)
    container = json.loads(good(project, "show", "my-project-shell", "--json"))["container_id"]
    client().containers.get(container).kill()
    one.wait("is unhealthy")
    one.wait("is well again")
    one.send("\x03")

    assert one.end() == 0
    one.close()


def test_what_serves_looks_after_instances_too_and_both_end_well(project: Path, home: Path) -> None:
    served = Served(home, project, DOCKER_HOST="")
    try:
        time.sleep(1)
        assert daemon(home) == (0, "")  # nothing to look after yet
        good(project, "start", "my-project", "shell")
        until(lambda: daemon(home) == (served.children()[0], "serve"), 20, "it begins")
        for words in (("watch",), ("watch", "--stop")):
            refused = run(project, *words, program=P8)
            assert (refused.returncode, "serve" in refused.stderr) == (5, True)
        os.kill(served.children()[0], signal.SIGKILL)
        until(lambda: daemon(home)[0] in served.children(), 20, "the next one begins")
        time.sleep(1)
        container = json.loads(good(project, "show", "my-project-shell", "--json"))["container_id"]
        client().containers.get(container).kill()

        def recovered() -> bool:
            return "RECOVERED" in good(project, "instance", "events", "--alerts", "--json", program=P8)

        until(recovered, 20, "recovered")
        assert served.get("/api/v1/health").json["status"] == "ok"
    finally:
        assert served.stop() == 0
    assert daemon(home) == (0, "")
    assert "Traceback" not in Path(served.log.name).read_text()


def test_build_shows_how_far_it_is_and_fails_with_the_last_words(project: Path, home: Path) -> None:
    done = run(project, "image", "build", "--base", "p8-test-nothing-of-that-name:1", program=P8)

    assert done.returncode == 9
    assert "p8-session:base" in done.stderr
    shown = json.loads(good(project, "image", "--json", program=P8))
    assert shown["images"][IMAGE].startswith("sha256:")


def test_the_repl_tells_what_happens_to_its_instances(project: Path, home: Path) -> None:
    one = Terminal(home, project, PYTHONPATH=f"{Path(__file__).parents[2]}:{Path(__file__).parents[1]}")
    one.wait("›")
    one.line("/instance start my-project shell", "my-project-shell is up")
    container = json.loads(good(project, "show", "my-project-shell", "--json"))["container_id"]
    one.pump(1.0)
    client().containers.get(container).kill()
    one.wait("my-project-shell is unhealthy")
    one.wait("my-project-shell is well again")
    one.line("/instance attach my-project-shell", "attached to my-project-shell")
    one.line("echo in-$((40+2))", "in-42")
    one.send("exit\r")
    one.line("back again", "You said: back again")
    one.line("/quit")
    assert one.end() == 0
    one.close()

    two = Terminal(home, project, PYTHONPATH=f"{Path(__file__).parents[2]}:{Path(__file__).parents[1]}")
    two.wait("›")
    two.pump(2.0)
    container = json.loads(good(project, "show", "my-project-shell", "--json"))["container_id"]
    client().containers.get(container).kill()
    two.wait("my-project-shell is well again")
    two.close()
