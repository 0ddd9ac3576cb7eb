"""Memories beside their floors, sums over many sessions, and what the status line's figures cost a keystroke."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from p8.core.memories import Memories
from p8.model import IdMaker
from p8.repl.status import StatusLine
from p8.store.manager import PersistenceManager
from p8.testing import make_app
from support.timing import interleaved

SESSIONS = int(os.environ.get("P8_SCALE", "1000"))


def test_memories_are_read_at_the_cost_of_a_lookup_and_of_a_file(home: Path, report) -> None:
    memories = Memories(home, lambda: ("demo-12345678", None), lambda: "s1")
    for number in range(200):
        memories.remember(f"hot {number}", "session")
    hot = memories.remember("The build needs Python 3.11", "session").id
    kept = memories.remember("The build needs Python 3.11", "session", keep=True).id
    shelf = memories.shelf("session")
    plain = dict(shelf.hot)
    path = shelf.path(kept)

    def read_file() -> bytes:
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)

    took = interleaved(
        {"lookup": lambda: plain[hot], "hot": lambda: shelf.hot[hot], "get": lambda: memories.get(hot),
         "read": read_file, "file": lambda: shelf.read(kept)}, rounds=7, calls=2000,
    )  # fmt: skip
    floor = f"a dictionary lookup: {took['lookup']:.2f} µs"
    report("hot memory, read", took["hot"], "<= 1 µs", "µs", took["hot"] <= 1, floor)
    report("hot memory, by id through all scopes", took["get"], "-", "µs", True, floor)
    floor = f"open, read, close: {took['read']:.1f} µs"
    report("persistent memory, read", took["file"], "<= 36 µs", "µs", took["file"] <= 36, floor)
    assert took["hot"] < 10 * max(took["lookup"], 0.1)
    assert took["file"] < 20 * took["read"]


def test_stats_over_many_sessions(home: Path, tmp_path: Path, report) -> None:
    store = PersistenceManager(home, background=False)
    now = store.clock()
    make = IdMaker(store.clock)
    for number in range(SESSIONS):
        stream = make()
        at = now - number * 600_000_000
        about = {"project": f"p-{number % 7:08x}", "project_name": f"project {number % 7}", "status": "paused",
                 "model": f"model {number % 3}"}  # fmt: skip
        store.record(stream, "session", {"what": "started", "set": about}, at)
        for _ in range(3):
            said = {"role": "assistant", "content": "x", "tokens_in": 10, "tokens_out": 5, "cost": 0.001}
            store.record(stream, "message", said, at)
    store.close()
    command = [sys.executable, "-m", "p8", "stats", "--all", "--json"]
    environment = {**os.environ, "P8_HOME": str(home)}
    times, bare = [], []
    for _ in range(5):
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=True)
        times.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append((time.perf_counter() - begun) * 1000)
    assert json.loads(done.stdout)["totals"]["sessions"] == SESSIONS
    took, floor = statistics.median(times), f"an empty Python: {statistics.median(bare):.0f} ms"
    report(f"p8 stats, {SESSIONS:,} sessions", took, "< 300 ms", "ms", took < 300, floor)


def test_the_status_line_costs_a_keystroke_little(home: Path, tmp_path: Path, report) -> None:
    app = make_app(home, tmp_path)
    app.ensure_session()
    app.sessions.record_message({"role": "assistant", "content": "x", "tokens_in": 900, "tokens_out": 50})
    app.planner.after_turn()
    line = StatusLine(app)
    took = interleaved({"line": lambda: line.parts(120)}, rounds=5, calls=400)["line"] / 1000
    report("status line with its figures, a keystroke", took, "< 1 ms", "ms", took < 1)
    app.close()
