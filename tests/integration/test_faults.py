"""What must hold when things break: killed at any moment, full disk, locked, damaged or read-only store."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
from support.recorded import recorded
from support.terminal import Start, opening

KILLS = int(os.environ.get("P8_KILLS", "40"))  # a release runs 1000
HOLD_S = float(os.environ.get("P8_HOLD_S", "6"))  # a release holds for 60

RECORDER = """
import sys
from p8 import PersistenceManager, SessionManager
manager = SessionManager(PersistenceManager(sys.argv[1]))
session = manager.start_session("demo")
out = open(1, "w", buffering=1)
out.write(session.session_id + "\\n")
WEAK = len(sys.argv) > 2
if WEAK:  # a recorder that keeps lines in a buffer: the control that must lose
    import p8.store.journal as room
    held = []
    def write(fd, data, real=room.write):
        held.append(data)
        if len(held) >= 50:
            real(fd, b"".join(held)); held.clear()
        return len(data)
    room.write = write
number = 0
while True:
    manager.record_message({"role": "user", "content": f"message {number}"})
    out.write(f"{number}\\n")
    number += 1
"""


def killed_run(home: Path, after_s: float, *more: str) -> tuple[str, int]:
    """Record until killed; return the session and how many entries were acknowledged."""
    process = subprocess.Popen([sys.executable, "-c", RECORDER, str(home), *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    session_id = process.stdout.readline().strip()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    lines = process.stdout.read().split("\n")
    process.wait()
    process.stdout.close()
    return session_id, sum(1 for line in lines if line.isdigit() and int(line) >= 0 and line != lines[-1])


def found(home: Path, session_id: str) -> list[str]:
    store = PersistenceManager(home, background=False)
    try:
        assert store.drain(30)
        assert session_id in [row.id for row in store.sessions.page(limit=1000)]
        return [e.data["content"] for e in store.sessions.entries(session_id, kinds=("message",))]
    finally:
        store.close()


def said(manager: SessionManager, session_id: str) -> list[str]:
    return [e.data["content"] for e in manager.store.sessions.entries(session_id, kinds=("message",))]


@pytest.mark.timeout(1200)
def test_killed_at_any_moment_nothing_acknowledged_is_lost(home: Path) -> None:
    chance = random.Random(7)
    acknowledged = 0
    for _ in range(KILLS):
        session_id, acked = killed_run(home, chance.uniform(0, 0.08))
        texts = found(home, session_id)
        acknowledged += acked

        assert texts == [f"message {n}" for n in range(len(texts))]
        assert len(texts) >= acked
    assert acknowledged > 100 * KILLS
    store = PersistenceManager(home, background=False)
    assert store.read("PRAGMA quick_check")[0][0] == "ok"
    assert SessionManager(store).custody.recover()
    store.close()


def test_a_recorder_that_buffers_fails_the_same_trial(home: Path) -> None:
    lost = 0
    for _ in range(6):
        session_id, acked = killed_run(home, 0.05, "weak")
        try:
            lost += max(0, acked - len(found(home, session_id)))
        except AssertionError:
            lost += acked
    assert lost > 0


HOLDER = """
import sys
from p8.store.sqlite import driver
db = driver.connect(sys.argv[1], isolation_level=None, timeout=20)
if sys.argv[2] == "alone":
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
db.execute("BEGIN IMMEDIATE")
db.execute("CREATE TABLE IF NOT EXISTS held (x)")
print("held", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
db.close()
"""


@pytest.mark.parametrize("how", ["writer", "alone"])
def test_a_database_held_by_another_process_only_delays(home: Path, how: str) -> None:
    first = PersistenceManager(home, background=False)
    first.drain()
    first.close()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home / "p8.db"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    manager = SessionManager(PersistenceManager(home))
    session = manager.start_session("demo")
    slowest, number = 0.0, 0
    until = time.monotonic() + HOLD_S
    while time.monotonic() < until:
        begun = time.perf_counter()
        manager.record_message({"role": "user", "content": f"message {number}"})
        manager.save_session()
        slowest = max(slowest, time.perf_counter() - begun)
        number += 1
        time.sleep(0.005)
    notices = [n.text for n in manager.store.notices()]
    holder.communicate("\n")

    assert notices == ["the database is in use by another process; recording goes on in the journal"]
    assert slowest < 1.0
    assert manager.store.drain(30)
    texts = [e.data["content"] for e in manager.store.sessions.entries(session.session_id, kinds=("message",))]
    assert texts == [f"message {n}" for n in range(number)]
    deadline = time.monotonic() + 10
    while manager.store.notices() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert manager.store.notices() == []
    manager.close()


@pytest.fixture
def tiny(tmp_path: Path):
    """A file system of 1 MB."""
    place = tmp_path / "tiny"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def test_a_full_disk_costs_a_notice_and_nothing_said(tiny: Path) -> None:
    from p8.errors import NotSaved, StoreError

    manager = SessionManager(PersistenceManager(tiny / "home"))
    session = manager.start_session("demo")
    acknowledged, refused, number = 0, 0, 0
    while refused < 20:
        try:
            manager.record_message({"role": "user", "content": f"message {number} " + "x" * 2000})
            acknowledged += 1
        except NotSaved:
            refused += 1
        number += 1
    assert any("NOT SAVED" in n.text for n in manager.store.notices())
    with pytest.raises(StoreError):
        manager.save_session()
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny)], check=True)
    manager.save_session()
    manager.record_message({"role": "user", "content": "after"})
    assert manager.store.drain(20)
    texts = [e.data["content"] for e in manager.store.sessions.entries(session.session_id, kinds=("message",))]

    assert acknowledged > 50
    assert [t.split()[1] for t in texts[:-1]] == [str(n) for n in range(number)]
    assert texts[-1] == "after"
    manager.close()


def test_a_damaged_database_is_kept_aside_and_its_content_saved(home: Path) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    session = manager.start_session("demo")
    for number in range(3000):
        manager.record_message({"role": "user", "content": f"message {number} {random.random()}"})
    manager.close()
    file = home / "p8.db"
    raw = bytearray(file.read_bytes())
    middle = len(raw) // 2 // 4096 * 4096
    raw[middle : middle + 4096] = b"\xff" * 4096
    raw[100:140] = b"\0" * 40
    damaged = bytes(raw)
    file.write_bytes(damaged)
    again = SessionManager(PersistenceManager(home))
    again.start_session("demo")
    again.record_message({"role": "user", "content": "goes on"})
    again.save_session()
    deadline = time.monotonic() + 20
    while not any("damaged" in n.text for n in again.store.notices()) and time.monotonic() < deadline:
        time.sleep(0.1)
    notices = [n.text for n in again.store.notices()]
    kept = [p for p in home.glob("p8.db.damaged-*") if not p.name.endswith(("-wal", "-shm"))]

    assert any("damaged" in text for text in notices), notices
    assert [p.read_bytes() for p in kept] == [damaged]
    assert again.store.drain(20)
    current = again.current
    assert current is not None
    assert [e.data["content"] for e in again.store.sessions.entries(current.session_id, kinds=("message",))] == [
        "goes on"
    ]
    assert session.session_id
    again.close()


def test_bytes_that_are_no_database_are_kept_aside(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "p8.db").write_bytes(b"this is not a database" * 1000)
    manager = SessionManager(PersistenceManager(home))
    session = manager.start_session("demo")
    manager.record_message({"role": "user", "content": "goes on"})
    deadline = time.monotonic() + 20
    while not list(home.glob("p8.db.damaged-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert manager.store.drain(20)

    assert [e.data["content"] for e in manager.store.sessions.entries(session.session_id, kinds=("message",))] == [
        "goes on"
    ]
    assert any("damaged" in n.text for n in manager.store.notices())
    manager.close()


def test_a_home_that_cannot_be_written_costs_a_notice(tmp_path: Path) -> None:
    home = tmp_path / "ro"
    home.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(home)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        manager = SessionManager(PersistenceManager(home / "home"))
        session = manager.start_session("demo")
        manager.record_message({"role": "user", "content": "kept"})
        manager.save_session()
        assert any("until it can be written" in n.text for n in manager.store.notices())
        manager.close()
        subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)
        again = PersistenceManager(home / "home", background=False)
        assert [e.data["content"] for e in again.sessions.entries(session.session_id, kinds=("message",))] == ["kept"]
        again.close()
    finally:
        subprocess.run(["umount", "-l", str(home)], check=False)


def test_plain_sqlite_reads_what_p8_wrote(home: Path) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    manager.start_session("demo")
    manager.record_message({"role": "user", "content": "hello"})
    manager.close()
    script = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT content FROM messages').fetchall())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home / "p8.db")], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[('hello',)]"


# the same as a person meets it


@pytest.fixture
def opened() -> Iterator[Start]:
    with contextlib.ExitStack() as stack:
        yield lambda home, directory, *args: stack.enter_context(opening(home, directory))(*args)


def contents(home: Path) -> list[str]:
    return [data["content"] for session in recorded(home, "message") for data in session]


def test_the_repl_goes_on_while_another_process_holds_the_database(opened, home: Path, tmp_path: Path) -> None:
    one = opened(home, tmp_path)
    one.wait("›")
    one.line("before", "You said: before")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home / "p8.db"), "writer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    until = time.monotonic() + HOLD_S
    count = 0
    while time.monotonic() < until:
        begun = time.monotonic()
        one.line(f"while held {count}", f"You said: while held {count}")
        assert time.monotonic() - begun < 5
        count += 1
        one.pump(0.5)
    assert one.raw.count("the database is in use by another process") <= 2  # the notice, and the status line's own
    assert "the database is in use by another process" in one.raw
    holder.communicate("\n")
    one.line("/quit", "Saved")
    assert one.end() == 0

    said = contents(home)
    assert [t for t in said if t.startswith("while held")] == [f"while held {n}" for n in range(count)]


def test_the_repl_goes_on_with_a_full_disk(opened, tiny: Path, tmp_path: Path) -> None:
    home = tiny / "home"
    one = opened(home, tmp_path)
    one.wait("›")
    one.line("before", "You said: before")
    filler = tiny / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 4096)
    os.close(descriptor)
    for number in range(40):
        one.line(f"full {number} " + "y" * 500, f"You said: full {number}")
    assert "NOT SAVED" in one.raw
    filler.unlink()
    one.line("after", "You said: after")
    one.line("/quit", "Saved")
    assert one.end() == 0

    said = [text.split(" y")[0] for text in contents(home) if not text.startswith("You said")]
    assert said == ["before", *(f"full {n}" for n in range(40)), "after"]


def test_the_repl_goes_on_over_bytes_that_are_no_database(opened, home: Path, tmp_path: Path) -> None:
    one = opened(home, tmp_path)
    one.wait("›")
    one.line("kept in the old one", "You said: kept")
    one.line("/quit", "Saved")
    one.end()
    (home / "p8.db").write_bytes(os.urandom(20_000))
    two = opened(home, tmp_path)
    two.wait("›")
    two.line("said after", "You said: said after")
    two.wait("p8.db.damaged-")
    two.line("/quit", "Saved")
    assert two.end() == 0

    assert "said after" in contents(home)
    assert [p for p in home.rglob("*") if p.is_file() and p.stat().st_size == 20_000], "the damaged file is gone"


def test_the_repl_goes_on_in_a_home_that_cannot_be_written(opened, tmp_path: Path) -> None:
    home = tmp_path / "ro"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(home)], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        one = opened(home / "home", tmp_path)
        one.wait("›")
        one.line("said anyway", "You said: said anyway")
        assert "until it can be written to" in one.raw
        one.line("/quit", "Saved")
        assert one.end() == 0
        subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)
        assert "said anyway" in contents(home / "home")
    finally:
        subprocess.run(["umount", "-l", str(home)], check=False)
