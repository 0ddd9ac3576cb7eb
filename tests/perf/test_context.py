"""Memories beside their floors, and what the status line's figures and metrics cost."""

from __future__ import annotations

import os
from pathlib import Path

from p8.core.memories import Memories
from p8.repl.status import StatusLine
from p8.testing import make_app
from support.timing import interleaved


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


def test_the_status_line_costs_a_keystroke_little(home: Path, tmp_path: Path, report) -> None:
    app = make_app(home, tmp_path)
    app.ensure_session()
    app.sessions.record_message({"role": "assistant", "content": "x", "tokens_in": 900, "tokens_out": 50})
    app.planner.after_turn()
    line = StatusLine(app)
    took = interleaved({"line": lambda: line.parts(120)}, rounds=5, calls=400)["line"] / 1000
    report("status line with its figures, a keystroke", took, "< 1 ms", "ms", took < 1)
    app.close()


def test_metrics_cost_a_turn_little(home: Path, tmp_path: Path, report) -> None:
    app = make_app(home, tmp_path)
    app.ensure_session()
    assert app.planner.tokens

    def turn() -> None:
        app.sessions.record_message({"role": "assistant", "content": "x", "tokens_in": 900, "tokens_out": 50})
        app.say_metrics("turn")

    def message() -> None:
        app.sessions.record_message({"role": "assistant", "content": "x", "tokens_in": 900, "tokens_out": 50})

    took = interleaved({"turn": turn, "message": message}, rounds=5, calls=300)
    cost = took["turn"] - took["message"]
    report(
        "metrics said after a turn", cost / 1000, "< 1 ms", "ms", cost < 1000, f"a message: {took['message']:.0f} µs"
    )
    app.close()
