from __future__ import annotations

from pathlib import Path

from p8.core import health
from p8.core.health import Timings, figures
from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager

DAY = 86_400_000_000


def line(day: float, median: int, worst: int, grown: int, sessions: int, size: int) -> dict:
    return {"time": int(day * DAY), "create_us": [10, median, worst], "save_us": [0, 0, 0], "grown_kb": grown,
            "sessions": sessions, "database": size, "journal": 0}  # fmt: skip


def test_figures_by_hand() -> None:
    lines = [line(0, 100, 900, 50, 10, 1000), line(1, 300, 500, 30, 5, 4000), line(2, 200, 400, 10, 0, 5000)]
    found = figures(lines, 2, {"database": 6000, "journal": 1000})

    assert found["creation_ms"] == {"count": 30, "median": 0.2, "worst": 0.9}
    assert found["persistence_ms"] is None
    assert found["memory_per_session_kb"] == 6  # 90 / 15
    assert found["serialisation_errors"] == 2
    assert found["storage_bytes"] == 7000
    assert found["storage_growth_bytes_per_day"] == 3000
    assert found["processes"] == 3
    assert figures([], 0, {})["storage_growth_bytes_per_day"] is None


def test_a_process_times_itself(home: Path) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    for _ in range(3):
        manager.start_session("demo")
        manager.save_session()
    written = manager.timings.line(5, health.store_bytes(home))
    manager.close()

    assert written["create_us"][0] == written["save_us"][0] == written["sessions"] == 3
    assert 0 < written["create_us"][1] <= written["create_us"][2]
    assert written["journal"] > 0
    assert written["memory_kb"] > 1000


def test_lines_are_added_and_the_file_does_not_grow_without_end(home: Path) -> None:
    (home / "states").mkdir(parents=True)
    for number in range(5):
        health.write(home, {"time": number, "filler": "x" * 200_000})
    with (home / "states" / "health.jsonl").open("a") as file:
        file.write("broken\n[1]\n")
    kept = [found["time"] for found in health.read(home)]

    assert kept == sorted(kept)
    assert kept[-1] == 4
    assert 0 not in kept
    assert (home / "states" / "health.jsonl").stat().st_size < 900_000


def test_a_home_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    health.write(tmp_path / "none", Timings().line(0, {}))
    assert list(health.read(tmp_path / "none")) == []
