"""Document 2's own examples, driven as it has them: its shell functions in a real shell, its configuration, its alerts.

The verbs one by one are in `test_docker_cli.py`. Here a person follows the document: sources the short forms, sets the
defaults, starts assistants in three projects, lists, watches, restarts and stops them. The programs `claude` and
`gemini` are not in the test's image; attaching gives a shell then, as the document's own attach does.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8.containers.base import Sample
from p8.containers.docker import Docker
from p8.store.instances import installation_of
from support.document_two import EXAMPLE
from support.engine import IMAGE, client, remove_all, until
from support.terminal import Terminal

SAMPLES = 30
TREE = Path(__file__).parents[2]
FIELDS = {
    "id", "project_path", "project_name", "mode", "status", "pid", "container_id", "port", "socket_path", "resources",
    "timestamps", "config",
}  # fmt: skip
DEFAULTS = """\
defaults:
  resources:
    memory_limit: "1Gi"
    cpu_limit: "500m"
  health:
    check_interval: "30s"
    timeout: "5s"
  networking:
    port_range: [9000, 9999]

global:
  max_instances: 10
  auto_cleanup: true
  log_retention: "7d"
"""


@pytest.fixture
def home(tmp_path: Path, image: str) -> Iterator[Path]:
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    (made / "config.toml").write_text(f'container_image = "{IMAGE}"\n')
    yield made
    if (made / "states" / "installation").exists():
        remove_all(installation_of(made))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with projects a, b and c; git knows one of them."""
    for name in "abc":
        (tmp_path / "work" / f"project-{name}").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(tmp_path / "work" / "project-b")], check=True)
    return tmp_path / "work"


@pytest.fixture
def rc(tmp_path: Path) -> Path:
    """What a person's shell reads when it starts: the two programs, and P8's short forms."""
    program = "import sys; from p8.cli import {}; sys.exit({}())"
    lines = [
        f'{name}() {{ {sys.executable} -c {shlex.quote(program.format(entry, entry))} "$@"; }}'
        for name, entry in (("p8", "main"), ("ai-session", "ai_session"))
    ]
    file = tmp_path / "rc"
    file.write_text("\n".join([*lines, 'eval "$(p8 shell-init bash)"', "PS1='$ '\n"]))
    return file


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals, and closes them before the home is tidied up: a REPL would make good what is removed."""
    opened: list[Terminal] = []

    def begin(*words: Any, **more: Any) -> Terminal:
        opened.append(Terminal(home, *words, **more))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def said(rc: Path, folder: Path, line: str, status: int = 0) -> str:
    """Run a line in a shell with the short forms; return what it prints."""
    env = {**os.environ, "PYTHONPATH": str(TREE)}
    done = subprocess.run(
        ["bash", "-c", f". {rc}; {line}"], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, (line, done.stdout, done.stderr)
    return done.stdout + done.stderr


def registry(home: Path) -> dict[str, Any]:
    return dict(json.loads((home / "registry.json").read_text())["instances"])


def test_three_projects_as_step_3_has_them(rc: Path, work: Path, home: Path, terminal: Callable[..., Terminal]) -> None:
    shell = terminal(work, program=["bash", "--noprofile", "--rcfile", str(rc), "-i"], PYTHONPATH=str(TREE))
    shell.wait("$")
    for name, mode in (("a", "gemini"), ("b", "gemini"), ("c", "claude")):
        shell.line(f"cd {work}/project-{name} && clear; {mode}", f"attached to project-{name}-{mode}")
        shell.line("clear; pwd; echo $AI_MODE on $AI_PORT", f"{mode} on 90")
        assert f"/app/project-{name}" in shell.text
        shell.send("\x10\x11" if name == "a" else "exit\r")  # left running, or its shell is left: it goes on either way
        shell.pump(1.5)
    shell.line("clear; ai-list", "project-c-claude")
    rows = [line.split() for line in shell.text.splitlines() if line.startswith("project-")]
    assert [row[:3] + row[4:5] for row in rows] == [
        ["project-a-gemini", "project-a", "gemini", "running"], ["project-b-gemini", "project-b", "gemini", "running"],
        ["project-c-claude", "project-c", "claude", "running"],
    ]  # fmt: skip
    assert len({row[3] for row in rows}) == 3
    before = registry(home)["project-a-gemini"]["container_id"]
    shell.line(f"cd {work}/project-a; clear; gemini", "attached to project-a-gemini")  # it runs already
    shell.send("exit\r")
    shell.pump(1.0)
    assert registry(home)["project-a-gemini"]["container_id"] == before
    shell.line("clear; ai-stats --watch", "Ctrl-C leaves")
    shell.wait("project-c-claude")
    shell.send("\x03")
    shell.pump(1.0)
    shell.line("clear; ai-top", "Ctrl-C leaves")
    shell.send("\x03")
    shell.pump(1.0)
    shell.line("clear; ai-health watch", "healthy")
    shell.wait("Ctrl-C leaves")
    shell.send("\x03")
    shell.pump(1.0)
    shell.line("clear; ai-stop-all", "project-c-claude is stopped")
    shell.line("exit")
    shell.end()

    assert {one["status"] for one in registry(home).values()} == {"stopped"}
    assert client().containers.list(all=True, filters={"label": f"p8.installation={installation_of(home)}"}) == []


def test_the_documents_folders_and_configuration(rc: Path, work: Path, home: Path) -> None:
    said(rc, work, "ai-session list")
    assert {"configs", "states", "logs", "sockets"} <= {path.name for path in home.iterdir()}
    (home / "configs" / "default.yml").write_text(DEFAULTS)
    project = work / "project-a"
    (home / "configs" / "project-a-claude.yml").write_text(EXAMPLE.replace("/Users/dev/project-a", str(project)))
    assert "project-a-claude is up" in said(rc, project, "ai-session start project-a claude")
    assert "project-a-other is up" in said(rc, project, "ai-session start project-a gemini project-a-other")

    one, other = registry(home)["project-a-claude"], registry(home)["project-a-other"]
    assert one.keys() >= FIELDS
    assert (one["port"], one["mode"], one["status"], one["project_path"]) == (9001, "claude", "running", str(project))
    assert one["resources"]["memory_limit"] == other["resources"]["memory_limit"] == "1Gi"
    assert one["config"] == {"model": "claude-3-5-sonnet-20241022", "max_tokens": 4096, "temperature": 0.7}
    about = client().api.inspect_container(one["container_id"])
    assert about["HostConfig"]["Memory"] == 1 << 30
    assert about["HostConfig"]["NanoCpus"] == 500_000_000
    labels, env = about["Config"]["Labels"], about["Config"]["Env"]
    assert {labels["ai.instance"], labels["ai.mode"], labels["ai.project"]} == {
        "project-a-claude", "claude", "project-a"
    }  # fmt: skip
    assert {"AI_MODE=claude", "AI_INSTANCE_ID=project-a-claude", "AI_PORT=9001"} <= set(env)
    shown = said(rc, project, "ai-session config project-a-claude")
    assert "preferred_port: 9001" in shown
    assert "warning_threshold: 800Mi" in shown
    for key, value in (
        ("resources.memory.limit", "1Gi"),
        ("health.max_retries", "3"),
        ("networking.network", "bridge"),
    ):
        assert said(rc, project, f"ai-session config get project-a-claude {key}") == f"{value}\n"
    listed = json.loads(said(rc, project, "ai-session find project-a --json"))
    assert {row["id"] for row in listed} == {"project-a-claude", "project-a-other"}
    assert len(said(rc, project, "ai-session list --status all").splitlines()) == 3


def test_the_short_forms_do_what_the_document_says(rc: Path, work: Path, home: Path) -> None:
    project = work / "project-a"
    (home / "configs" / "templates").mkdir(parents=True)
    (home / "configs" / "templates" / "small.yml").write_text(
        "resources: {memory: 128Mi}\nenvironment: {WHICH: small}\n"
    )
    assert "No instances" in said(rc, project, "ai-list")
    assert "No instance is up" in said(rc, project, "ai-stop-all")
    assert "project-a-shell is up" in said(rc, project, "ai-start . shell --template small")
    assert "128Mi" in said(rc, project, "ai-show project-a-shell")
    assert "WHICH=small" in said(rc, project, "echo env | ai-attach project-a-shell")
    assert "which instance?" in said(rc, project, "ai-stop", status=2)
    assert "is running already" in said(rc, project, "ai-start . shell", status=5)
    detailed = said(rc, project, "ai-status --detailed")
    assert IMAGE in detailed
    assert str(project) in detailed
    assert "project-a-shell is ready" in said(rc, project, "ai-logs project-a-shell --tail 5")
    follow = said(rc, project, "timeout -s INT 3 bash -c '. $0; ai-logs project-a-shell --follow' " + str(rc), 124)
    assert "project-a-shell is ready" in follow
    assert "MEM%" in said(rc, project, "ai-stats")
    assert "healthy" in said(rc, project, "ai-health check")
    assert "is well" in said(rc, project, "ai-heal project-a-shell")
    before = registry(home)["project-a-shell"]["container_id"]
    assert "is up again" in said(rc, project, "ai-restart project-a-shell")
    assert registry(home)["project-a-shell"]["container_id"] != before
    assert "project-a-shell" in said(rc, project, "ai-backup project-a-shell -o kept.zip")
    assert "is stopped" in said(rc, project, "ai-stop project-a-shell")
    assert registry(home)["project-a-shell"]["status"] == "stopped"
    assert "project-a-shell" in said(rc, project, "ai-restore --from-backup kept.zip --yes")
    assert "is up" in said(rc, project, "ai-start . shell")


# alerts


def overloaded(home: Path, container: str, over: Any) -> Iterator[Sample]:
    """Yield samples of an instance until two in a row were over a threshold: what an alert wants to see."""
    runtime = Docker(installation_of(home), home, Path.home())
    samples, count = runtime.samples(container), 0
    try:
        for sample in itertools.islice(samples, SAMPLES):
            yield sample
            count = count + 1 if over(sample) else 0
            if count == 2:
                return
        pytest.fail(f"not two in a row of {SAMPLES} samples are over the threshold")
    finally:
        samples.close()
        runtime.close()


def test_a_burner_and_a_hog_are_told_of_in_the_repl_and_the_log(
    rc: Path, work: Path, home: Path, terminal: Callable[..., Terminal]
) -> None:
    (home / "configs").mkdir()
    # Of processors that others want too it may get little: a tenth of one is much here.
    low = "resources: {cpu: {limit: 500m, warning_threshold: 100m, critical_threshold: 480m}}\n"
    (home / "configs" / "project-a-shell.yml").write_text(low)
    one = terminal(work / "project-a", columns=120)
    one.wait("›")
    one.line("/instance start . shell", "project-a-shell is up")
    container = client().containers.get(registry(home)["project-a-shell"]["container_id"])
    one.pump(1.5)
    container.exec_run(["timeout", "60", "sh", "-c", "while :; do :; done"], detach=True)
    used = [s.cpu_percent for s in overloaded(home, container.id, lambda s: s.cpu_percent >= 10)]
    one.wait("HIGH_CPU: project-a-shell uses", 3.0)  # its samples are its own, up to a second after these
    assert max(used) < 65, used  # the limit is half a processor
    container.exec_run(["pkill", "-f", "while"])

    hog = "import time; x = bytearray(460 << 20); time.sleep(60)"
    container.exec_run(["timeout", "60", "python3", "-c", hog], detach=True)
    for _sample in overloaded(home, container.id, lambda s: s.memory_bytes >= 435 << 20):
        pass
    one.wait("HIGH_MEM: project-a-shell uses", 3.0)
    container.exec_run(["pkill", "python3", "-f", "bytearray"])
    code, _ = container.exec_run(["python3", "-c", "x = bytearray(800 << 20)"])
    assert code == 137
    one.wait("OUT_OF_MEMORY: a program of project-a-shell was ended at its limit of 512Mi", 5.0)
    one.line("still here", "You said: still here")
    one.line("/quit", "Saved")
    one.end()

    events = json.loads(said(rc, work, "ai-session events --alerts --json"))
    told = [(event["level"], event["metadata"]["alert"]) for event in events if not event["metadata"].get("over")]
    assert {alert for _, alert in told} >= {"HIGH_CPU", "HIGH_MEM", "OUT_OF_MEMORY"}
    everything = json.loads(said(rc, work, "p8 log --kind event --limit 200 --json"))
    assert {"HIGH_CPU", "HIGH_MEM"} <= {event["data"].get("alert") for event in everything}
    until(lambda: container.reload() or container.status == "running", 20, "the instance lives on")
