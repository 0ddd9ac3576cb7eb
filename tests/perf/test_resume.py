"""Resuming a session of 100 MB: how long until one can type, and what it costs in memory."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

import pexpect

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
from support.timing import BARE

P8 = [sys.executable, "-m", "p8"]
ROUNDS = 9
WITHIN_MS = 300
BARE_MS = 156  #: a bare prompt of prompt_toolkit, on the machine for which WITHIN_MS was set


def grown(home: Path, directory: Path, command: list[str]) -> tuple[float, float]:
    """Start a program in a terminal; return milliseconds to the prompt and resident megabytes then."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "P8_HOME": str(home)}
    begun = time.perf_counter()
    process = pexpect.spawn(
        command[0], command[1:], env=env, cwd=str(directory), dimensions=(40, 100), encoding="utf-8"
    )
    process.expect("\x1b\\[\\?2004h", timeout=60)  # the prompt takes pasted text: it is there
    taken = (time.perf_counter() - begun) * 1000
    time.sleep(0.5)
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    process.close(force=True)
    return taken, pages * os.sysconf("SC_PAGESIZE") / 1e6


def test_a_session_of_100_megabytes(home: Path, tmp_path: Path, report) -> None:
    manager = SessionManager(PersistenceManager(home))
    session = manager.start_session("big", directory=str(tmp_path))
    text = "All work and no play makes a long conversation. " * 42
    for number in range(44_000):
        manager.record_message({"role": "assistant" if number % 2 else "user", "content": f"{number} {text}"})
    for number in range(2):
        manager.record_execution(f"cat log{number}", exit_code=0, output=os.urandom(3_000_000).hex())
    manager.record_message({"role": "user", "content": "the end"})
    assert manager.store.drain(120)
    size = manager.store.sessions.get(session.session_id).size_bytes / 1e6
    manager.close()
    assert size > 100
    (home / "config.toml").write_text('model = "local"\n')
    commands = {"bare": BARE, "empty": P8, "full": [*P8, "-r", session.session_id]}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            found[name].append(grown(home, tmp_path, command))
    took = {name: statistics.median(ms for ms, _ in some) for name, some in found.items()}
    more = statistics.median(m for _, m in found["full"]) - statistics.median(m for _, m in found["empty"])
    ratio, allowed = took["full"] / took["bare"], WITHIN_MS / BARE_MS
    note = f"an empty start {took['empty']:.0f}, a bare prompt {took['bare']:.0f}"
    report(f"exec to prompt, resuming {size:.0f} MB", took["full"], "< 300", "ms", took["full"] < WITHIN_MS, note)
    report("… / bare prompt_toolkit", ratio, f"< {allowed:.2f} (300 / 156 ms)", "×", ratio < allowed)
    report("… memory beside an empty one", more, "< 100", "MB", more < 100)
