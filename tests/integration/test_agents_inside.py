"""Claude Code and Codex in the session's hardened container, without a network; their model is behind a socket."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8.store.instances import installation_of
from support.agents import agents_at, agents_image
from support.engine import client, remove_all, until
from support.model_server import ModelServer, model_server
from support.recorded import entries, parts
from support.terminal import P8, Start, Terminal, opening

pytest.importorskip("acp")
KEY = "sk-test-0123456789"
KEYS = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": f"{KEY}-o"}
PORT = 8080
#: inside: a port on loopback that leads to the mounted socket
RELAY = f"""
import socket, socketserver, threading
class Relay(socketserver.BaseRequestHandler):
    def handle(self):
        out = socket.socket(socket.AF_UNIX); out.connect("/run/p8/model.sock")
        back = threading.Thread(target=pump, args=(out, self.request)); back.start()
        pump(self.request, out); back.join()
def pump(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError: pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", {PORT}), Relay).serve_forever()
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return agents_image(tmp_path_factory.mktemp("agents"))


@pytest.fixture
def home(place: Path, image: str) -> Iterator[Path]:
    home = place / "home"
    home.mkdir(mode=0o700)
    lines = ['model = "claude"', 'agents_in = "container"', f'container_image = "{image}"']
    (home / "config.toml").write_text("\n".join([*lines, *agents_at(f"http://127.0.0.1:{PORT}")]))
    (home / "states").mkdir(mode=0o700)
    yield home
    remove_all(installation_of(home))


@pytest.fixture
def project(place: Path) -> Path:
    folder = place / "project"
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, 1000, 1000)
    return folder


@pytest.fixture
def start(home: Path, project: Path) -> Iterator[Start]:
    with opening(home, project, program=P8, rows=45, columns=120, **KEYS) as start:
        yield start


@pytest.fixture
def model(home: Path) -> Iterator[Callable[[], ModelServer]]:
    """Puts the model behind the socket of the session that there is; once."""
    with contextlib.ExitStack() as stack:
        servers: list[ModelServer] = []

        def serve() -> ModelServer:
            if not servers:
                (folder,) = (one for one in (home / "sockets").iterdir() if one.is_dir())
                servers.append(stack.enter_context(model_server(folder / "model.sock")))
            return servers[0]

        yield serve


def running(home: Path) -> list[Any]:
    return client().containers.list(filters={"label": f"p8.installation={installation_of(home)}"})


def boxed(terminal: Terminal, home: Path, agent: str) -> Any:
    """Switch to an agent, wait for the container it will run in, and give that its relay; return the container."""
    terminal.line(f"/agent {agent}", f"{agent} answers from now on")
    until(lambda: running(home), 30, "a container")
    (box,) = running(home)
    box.exec_run(["python3", "-c", RELAY], detach=True)
    until(lambda: box.exec_run(["bash", "-c", f"true </dev/tcp/127.0.0.1/{PORT}"]).exit_code == 0, 10, "the relay")
    return box


def answers(home: Path) -> list[dict[str, Any]]:
    return [m for m in entries(home, "message") if m["role"] == "assistant"]


def hardened(box: Any) -> None:
    host = box.attrs["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert "docker.sock" not in json.dumps(box.attrs["Mounts"])
    assert KEY not in json.dumps(box.attrs["Config"])


def test_real_agents_edit_inside_with_permission_and_a_fresh_container_goes_on(
    start: Start, model: Callable[[], ModelServer], home: Path, project: Path
) -> None:
    one = start()
    one.wait("›")
    box = boxed(one, home, "claude")
    server = model()
    hardened(box)
    one.line("create notes.txt: by claude")
    screen = one.wait("May it? Write notes.txt", 90)
    assert "+by claude" in screen
    assert f"claude works in container {box.name}, without a network" in screen.replace("\n", " ")
    assert not (project / "notes.txt").exists()
    assert "claude-agent-acp" in str(box.top()["Processes"])
    one.send("\r")
    one.wait("It was done.", 60)
    assert (project / "notes.txt").read_text() == "by claude"
    assert (project / "notes.txt").stat().st_uid == project.stat().st_uid

    one.line("/agent codex", "codex answers from now on; it was claude")
    one.line("recall")
    screen = one.wait("I was told:", 90).replace("\n", " ")
    assert "User: create notes.txt: by claude" in screen
    one.line("create other.txt: by codex")
    one.wait("May it? Edit files", 60)
    assert not (project / "other.txt").exists()
    one.send("\r")
    one.wait("Success. Updated", 60)
    assert (project / "other.txt").read_text() == "by codex\n"
    assert "claude-agent-acp" not in str(box.top()["Processes"])
    one.line("run touch made; cat /proc/net/dev | wc -l")
    one.wait("May it? touch made", 60)
    assert not (project / "made").exists()
    one.send("\r")
    until((project / "made").exists, 60, "what the command makes")
    one.wait("Process exited with code 0", 60)
    one.line("/quit", "Saved")
    one.end()
    assert running(home) == []

    two = start("-c")
    two.wait("by codex")
    fresh = boxed(two, home, "claude")
    assert fresh.id != box.id
    two.line("recall")
    two.wait("I was told: create notes.txt: by claude | This was said since your last answer", 90)
    two.line("/quit", "Saved")
    two.end()

    asked = parts(home, "permission")
    assert [(p["agent"], p["answer"], p["by"]) for p in asked] == [
        ("claude", "once", "person"), ("codex", "once", "person"), ("codex", "once", "person"),
    ]  # fmt: skip
    tools = [t for t in parts(home, "tool") if t["status"] == "completed"]
    assert {(t["agent"], t["content"][0].get("path")) for t in tools} == {
        ("claude", f"{project}/notes.txt"), ("codex", f"{project}/other.txt"), ("codex", None)
    }  # fmt: skip
    said = answers(home)
    assert [m["model"] for m in said] == ["claude", "codex", "codex", "codex", "claude"]
    assert all(m["agent_session"]["inside"] for m in said)
    assert said[0]["agent_session"]["session"] == said[-1]["agent_session"]["session"]
    assert {key for key in server.keys if key} == {KEY, f"Bearer {KEY}-o"}
    assert KEY not in json.dumps(entries(home))
    assert not (Path(os.environ["HOME"]) / ".claude").exists()
