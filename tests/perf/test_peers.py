"""One append beside the peers' own session stores, in the same run. Each peer has an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
from support.peers import NEEDS
from support.timing import interleaved

ENVIRONMENTS = Path(os.environ.get("P8_PEERS", Path.home() / ".cache" / "p8-peers"))


def python_of(name: str) -> Path:
    """Return the interpreter of a peer's environment; make it where it is missing."""
    place = ENVIRONMENTS / name
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *NEEDS[name]], check=True, capture_output=True)
        (place / "ready").touch()
    return python


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NEEDS)
def test_one_append_beside_a_peer(name: str, home: Path, tmp_path: Path, report) -> None:
    python = python_of(name)
    manager = SessionManager(PersistenceManager(home))
    manager.start_session("perf")
    message = {"role": "user", "content": "x" * 200}
    before = interleaved({"record": lambda: manager.record_message(message)}, 10, 500)["record"]
    folder = tmp_path / "peer"
    folder.mkdir()
    script = str(Path(__file__).parents[1] / "support" / "peers.py")
    done = subprocess.run([str(python), script, name, str(folder)], capture_output=True, text=True, check=True)
    peer = json.loads(done.stdout.splitlines()[-1])
    after = interleaved({"record": lambda: manager.record_message(message)}, 10, 500)["record"]
    manager.close()
    ours = (before + after) / 2
    ratio = peer["append"] / ours
    tier = "their append is synced, ours survives kill -9" if name != "llm" else "prompt and reply, synced"
    report(f"{name}, one append / ours", ratio, "≥ 50", "×", ratio >= 50, f"{peer['append']:.0f} µs; {tier}")
