"""Recording: the targets of row P7 and of the plan, beside the floors they stand on."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path

import orjson
import pytest

from p8.core.sessions import SessionManager
from p8.formats.codec import decode, encode
from p8.session import Session
from p8.store.manager import PersistenceManager
from p8.store.sqlite import driver
from support.timing import interleaved

MESSAGE = {"role": "user", "content": "x" * 200}
SUSTAINED = 300_000  #: entries in a row: some seconds, so that the start and the last fold weigh little


@pytest.fixture
def recorder(home: Path):
    manager = SessionManager(PersistenceManager(home))
    manager.start_session("perf")
    manager.record_message(MESSAGE)
    manager.store.drain()
    yield manager
    manager.close()


@pytest.fixture
def raw(tmp_path: Path):
    fd = os.open(tmp_path / "floor", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield fd
    os.close(fd)


def line() -> bytes:
    entry = {"s": "20261121-051359-215286-8118", "q": 1, "t": time.time_ns() // 1000, "k": "message", "d": MESSAGE}
    return orjson.dumps(entry, None, orjson.OPT_APPEND_NEWLINE)


def test_one_message_beside_its_floors(recorder, raw: int, tmp_path: Path, report, benchmark) -> None:
    database = driver.connect(str(tmp_path / "floor.db"), isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE m (id INTEGER PRIMARY KEY, role TEXT, content TEXT)")
    found = interleaved(
        {
            "record": lambda: recorder.record_message(MESSAGE),
            "command": lambda: recorder.record_command("git status"),
            "write": lambda: os.write(raw, line()),
            "sqlite": lambda: database.execute("INSERT INTO m (role, content) VALUES ('user', ?)", ("x" * 200,)),
        },
        rounds=20, calls=1000,
    )  # fmt: skip
    database.close()
    benchmark.pedantic(recorder.record_message, (MESSAGE,), rounds=50, iterations=20)
    ratio = found["record"] / found["write"]
    report("record_message, p50", found["record"], "< 100", "µs", found["record"] < 100)
    report("record_command, p50", found["command"], "< 100", "µs", found["command"] < 100)
    report("record_message / write of a JSON line", ratio, "≤ 3", "×", ratio <= 3, f"floor {found['write']:.2f} µs")
    report("record_message / SQLite commit (NORMAL)", found["record"] / found["sqlite"], "watch", "×", True)


def test_sustained_with_the_fold_drained(recorder, report) -> None:
    for what, call in (
        ("messages", lambda: recorder.record_message(MESSAGE)),
        ("commands", lambda: recorder.record_command("ls")),
    ):
        rates = []
        for _ in range(3):
            begun = time.perf_counter()
            for _ in range(SUSTAINED):
                call()
            assert recorder.store.drain(60)
            rates.append(SUSTAINED / (time.perf_counter() - begun))
        rate = statistics.median(rates)
        report(f"{what} a second, fold drained", rate, "≥ 100,000 (> 50,000)", "/s", rate >= 100_000)
        assert rate > 20_000


TEN = """
import sys, time
from p8 import PersistenceManager, SessionManager
m = SessionManager(PersistenceManager(sys.argv[1])); m.start_session("p")
message = {"role": "user", "content": "x" * 200}
print("ready", flush=True); sys.stdin.readline()
for _ in range(20000): m.record_message(message)
print("done", flush=True); sys.stdin.readline(); m.close()
"""


def test_ten_processes_at_once(home: Path, report) -> None:
    words = [sys.executable, "-c", TEN, str(home)]
    processes = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(10)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    begun = time.perf_counter()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout.readline() == "done\n"
    rate = 200_000 / (time.perf_counter() - begun)
    for process in processes:
        process.communicate("\n")
        assert process.returncode == 0
    store = PersistenceManager(home, background=False)
    assert store.drain(120)
    assert store.read("SELECT sum(messages) FROM sessions")[0][0] == 200_000
    store.close()
    report("ten processes together", rate, "≥ 150,000", "/s", rate >= 150_000)


def test_the_barrier_beside_a_bare_fdatasync(recorder, raw: int, report) -> None:
    def save() -> None:
        recorder.record_message(MESSAGE)
        recorder.save_session()

    def bare() -> None:
        os.write(raw, line())
        os.fdatasync(raw)

    found = interleaved({"save": save, "bare": bare}, rounds=10, calls=30)
    ratio = found["save"] / found["bare"]
    report("save_session / fdatasync", ratio, "≤ 1.5", "×", ratio <= 1.5, f"floor {found['bare']:.0f} µs")


def test_session_creation_and_lifecycles(home: Path, report) -> None:
    manager = SessionManager(PersistenceManager(home))
    manager.start_session("warm")
    taken = []
    for _ in range(300):
        manager.end_session()
        begun = time.perf_counter()
        manager.start_session("perf", directory="/x", branch="main")
        taken.append(time.perf_counter() - begun)
    creation = statistics.median(taken) * 1000
    begun = time.perf_counter()
    for _ in range(500):
        manager.start_session("perf")
        manager.record_message(MESSAGE)
        manager.end_session()
    rate = 500 / (time.perf_counter() - begun)
    manager.close()
    report("session creation, p50", creation, "< 2 (10)", "ms", creation < 2)
    report("lifecycles (start, message, end; durable)", rate, "> 1,000 (500)", "/s", rate > 1000)


def test_serialising_a_small_session(report) -> None:
    from datetime import UTC, datetime

    session = Session("20261121-051359-215286-8118", "demo", datetime.now(UTC))
    data = session.to_dict()
    packed = encode(session)
    cases = {
        "out": session.to_dict, "back": lambda: Session.from_dict(data), "encode": partial(encode, session),
        "decode": partial(decode, packed), "orjson": lambda: orjson.loads(orjson.dumps(data)),
    }  # fmt: skip
    found = interleaved(cases, rounds=15, calls=3000)
    report("session to bytes", found["encode"], "< 1", "µs", found["encode"] < 1)
    report("session from bytes", found["decode"], "< 1", "µs", found["decode"] < 1, "bound: making the objects")
    report("to_dict, small session", found["out"], "watch", "µs", True, f"orjson both ways: {found['orjson']:.2f}")
    report("from_dict, small session", found["back"], "watch", "µs", True)


def test_500_concurrent_operations(home: Path, report) -> None:
    manager = SessionManager(PersistenceManager(home))
    manager.start_session("perf")

    async def one() -> None:
        manager.record_message(MESSAGE)
        await manager.save_session_async()

    async def many() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(500)))
        return (time.perf_counter() - begun) * 1000

    taken = statistics.median(asyncio.run(many()) for _ in range(9))
    manager.close()
    report("500 concurrent records, each durable", taken, "< 50", "ms", taken < 50)


def test_100_sessions_do_not_grow(home: Path, report) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))

    def life() -> None:
        manager.start_session("perf")
        for _ in range(20):
            manager.record_message(MESSAGE)
        manager.end_session()
        manager.store.drain()

    for _ in range(20):
        life()
    tracemalloc.start()
    first = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        life()
    grown = (tracemalloc.get_traced_memory()[0] - first) / 1024
    tracemalloc.stop()
    manager.close()
    report("memory grown over 100 sessions", grown, "no growth (< 256)", "KiB", grown < 256)
    assert grown < 1024
