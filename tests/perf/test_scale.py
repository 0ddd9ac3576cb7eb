"""Many sessions: the picker, search, listing and the size on disk. `P8_SCALE=10000` for the full size."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p8.repl.picker_state import PickerState
from p8.store import pack
from p8.store.manager import PersistenceManager
from p8.testing import make_app
from support.seed import COMMON, RARE, seed
from support.timing import processes

SESSIONS = int(os.environ.get("P8_SCALE", "1000"))
MESSAGES = SESSIONS * 100


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("scale") / "home"
    sizes = seed(home, SESSIONS, MESSAGES)
    return home, sizes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("small") / "home"
    seed(home, 100, 10_000)
    return home


def spread(call, times: int = 60) -> tuple[float, float]:
    """Return median and 95th percentile in milliseconds."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begun) * 1000)
    taken.sort()
    return statistics.median(taken), taken[int(len(taken) * 0.95)]


def painted(home: Path, directory: Path) -> float:
    """Return how long the picker takes from nothing to its first screen, in milliseconds."""
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    from p8.repl.picker import Picker

    app = make_app(home, directory)
    app.store.sessions.count()
    begun = time.perf_counter()
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        application = Picker(app, everywhere=True).application()
        done: list[float] = []
        application.after_render += lambda _: (
            (done.append(time.perf_counter()), application.exit()) if not done else None
        )
        application.run()
    app.close()
    return (done[0] - begun) * 1000


def test_first_paint_does_not_depend_on_the_number(filled, small: Path, tmp_path: Path, report) -> None:
    painted(small, tmp_path)
    many = statistics.median(painted(filled[0], tmp_path) for _ in range(9))
    few = statistics.median(painted(small, tmp_path) for _ in range(9))
    report(f"picker, first paint at {SESSIONS:,} sessions", many, "< 100", "ms", many < 100)
    report("… beside 100 sessions", many / few, "≤ 1.2", "×", many / few <= 1.2, f"{few:.1f} ms at 100")


def test_a_keystroke_filters_at_once(filled, tmp_path: Path, report) -> None:
    app = make_app(filled[0], tmp_path)
    state = PickerState(app, everywhere=True)
    state.load()

    def keystroke() -> None:
        state.query = "imp" if state.query != "imp" else "impo"
        state.load()

    median, worst = spread(keystroke)
    report("keystroke to filtered list, p95", worst, "< 50", "ms", worst < 50, f"p50 {median:.1f} ms")
    app.close()


@pytest.mark.parametrize("word", [RARE, COMMON, "the", "return value", '"return value"'])
def test_search(filled, word: str, report) -> None:
    store = PersistenceManager(filled[0], background=False)
    assert store.search(word)
    median, worst = spread(lambda: store.search(word))
    report(f"search {word!r} in {MESSAGES:,} messages, p95", worst, "< 100", "ms", worst < 100, f"p50 {median:.1f} ms")
    store.close()


def test_size_beside_jsonl(filled, report) -> None:
    home, sizes = filled
    store = PersistenceManager(home, background=False)
    store.drain()
    began = time.perf_counter()
    with store.keeper._working(10, 10) as db:
        packed = 0
        while done := pack.pack_one(db, store.keeper.codec, time.time_ns() // 1000, 0):
            packed += done
        db.execute("PRAGMA incremental_vacuum").fetchall()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    seconds = time.perf_counter() - began
    row = store.sessions.page(limit=1)[0]
    assert store.sessions.entries(row.id, kinds=("message",))[0].data["content"]
    store.close()
    ratio = (home / "p8.db").stat().st_size / sizes["jsonl"]
    rate = packed / seconds
    report("store and index / the same as JSONL", ratio, "≤ 0.7", "×", ratio <= 0.7, f"packed at {rate:,.0f} entries/s")


def test_stats(filled, tmp_path: Path, report) -> None:
    """The whole process, cold imports and all: wall time, and its own processor time, beside `p8 --version`."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"P8_HOME": str(filled[0])}
    cases = {"version": ["--version"], "stats": ["stats", "--all", "--json"], "drawn": ["stats", "--all"]}
    times = processes({name: [sys.executable, "-m", "p8", *words] for name, words in cases.items()}, 9, env, tmp_path)
    (wall, cpu), (bare_wall, bare_cpu) = times["stats"], times["version"]
    note = f"drawn {times['drawn'][0]:.0f} ms; cpu {cpu:.0f} ms; p8 --version {bare_wall:.0f} ms, cpu {bare_cpu:.0f} ms"
    report(f"p8 stats, {SESSIONS:,} sessions", wall, "< 300 ms", "ms", wall < 300, note)
    done = subprocess.run([sys.executable, "-m", "p8", *cases["stats"]], capture_output=True, env=env, check=True)
    assert json.loads(done.stdout)["totals"]["messages"] == filled[1]["messages"]
    assert cpu < 10 * bare_cpu
