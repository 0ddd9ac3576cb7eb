"""Homes to examine: sessions of every kind in one, and what they hold as plain Python values, read by SQLite alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import zstandard

from p8.core.sessions import SessionManager
from p8.store import pack
from p8.store.sqlite import driver

DYING = """
import os, sys
from p8 import PersistenceManager, SessionManager
manager = SessionManager(PersistenceManager(sys.argv[1], background=False))
for number in range(2):
    session = manager.start_session("demo")
    for at in range(int(sys.argv[2])):
        manager.record_message({"role": "user", "content": f"message {at} of session {number}, naïve"})
    manager.save_session()
    if number == 0:
        manager.pause_session()
os.kill(os.getpid(), 9)
"""
LIVING = """
import sys
from p8 import PersistenceManager, SessionManager
manager = SessionManager(PersistenceManager(sys.argv[1]))
session = manager.start_session("living")
print(session.session_id, flush=True)
for line in sys.stdin:
    what, _, rest = line.strip().partition(" ")
    if what == "say":
        manager.record_message({"role": "user", "content": rest})
        manager.save_session()
    elif what == "pause":
        manager.pause_session()
    elif what == "new":
        manager.start_session("another")
    print("done", flush=True)
manager.close()
"""


def fill(manager: SessionManager, sessions: int = 4, messages: int = 40) -> list[str]:
    """Record sessions with everything in them: large output, commands, notes by hand; the third is forked."""
    chance = random.Random(5)
    words = [f"{chance.getrandbits(40):x}" for _ in range(600)]
    ids = []
    for number in range(sessions):
        session = manager.start_session("demo")
        ids.append(str(session.session_id))
        for at in range(messages):
            role = "assistant" if at % 2 else "user"
            text = f"message {at} of session {number}: {' '.join(chance.choices(words, k=15))} naïve"
            manager.record_message({"role": role, "content": text, "tokens_in": 2, "tokens_out": 1, "cost": 0.01})
        manager.record_command("/help")
        manager.record_execution(
            "make", exit_code=0, output=" ".join(chance.choices(words[:12], k=9000 if not number else 9))
        )
        manager.annotate(tags=["one", "two"], pinned=number == 1)
        if number == 2:
            fork = manager.fork_session(title="a fork")
            manager.record_message({"role": "user", "content": "only in the fork"})
            ids.append(str(fork.session_id))
    manager.end_session()
    manager.annotate(ids[0], title="Named by another process")
    manager.store.drain()
    manager.store.keeper.index_for(20)
    return ids


def packed(manager: SessionManager, monkeypatch: Any) -> int:
    """Pack every closed session, as a day of rest would; return how many entries are packed."""
    monkeypatch.setattr(pack, "TRAIN_MINIMUM_BYTES", 1000)
    keeper = manager.store.keeper

    def work(db: Any) -> None:
        while pack.pack_one(db, keeper.codec, manager.store.clock(), -1):
            pass

    keeper.alone(work)
    return int(manager.store.read("SELECT count(*) FROM packed")[0][0])


def dying(home: Path, messages: int = 12) -> Path:
    """Record in a process that kills itself; return its journal file."""
    done = subprocess.run([sys.executable, "-c", DYING, str(home), str(messages)], check=False)
    assert done.returncode == -signal.SIGKILL
    [path] = (home / "journal").glob("*.jsonl")
    return path


class Living:
    """Another process that has a session open."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LIVING, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.session = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        assert self._line() == "done"

    def end(self) -> None:
        self.process.communicate(timeout=20)


def oracle(home: Path) -> dict[tuple[str, int], tuple[int, str, bytes, bytes]]:
    """Return every entry of a home as (time, kind, JSON, hash) by stream and number, read without P8's own readers."""
    db = driver.connect(f"file:{home / 'p8.db'}?mode=rw", uri=True)
    db.text_factory = bytes
    try:
        dictionaries = [zstandard.ZstdCompressionDict(row[0]) for row in db.execute("SELECT body FROM dictionaries")]
        openers = {d.dict_id(): zstandard.ZstdDecompressor(dict_data=d) for d in dictionaries}
        names = {num: name.decode() for num, name in db.execute("SELECT num, id FROM streams")}
        large = {key: (body, size) for key, body, size in db.execute("SELECT id, body, size FROM large")}
        found = {}
        for table in ("entries", "packed"):
            for key, at, kind, data, digest in db.execute(f"SELECT id, time, kind, data, hash FROM {table}"):
                if data[:4] == b"\x28\xb5\x2f\xfd":
                    data = openers[zstandard.get_frame_parameters(data).dict_id].decompress(data)
                if key in large:
                    data = zstandard.ZstdDecompressor().decompress(large[key][0], max_output_size=large[key][1])
                found[names[key >> 32], key & 0xFFFFFFFF] = (at, kind.decode(), data, digest)
        return found
    finally:
        db.close()


def rows(home: Path) -> list[tuple[Any, ...]]:
    """Return every session's row, without when it was packed."""
    db = driver.connect(f"file:{home / 'p8.db'}?mode=rw", uri=True)
    try:
        names = [row[1] for row in db.execute("PRAGMA table_info(sessions)") if row[1] != "packed"]
        columns = ", ".join(f'"{name}"' for name in names)
        return sorted(db.execute(f"SELECT {columns} FROM sessions").fetchall())
    finally:
        db.close()


def change(home: Path, sql: str, *params: Any) -> int:
    """Change the database behind P8's back; return how many rows."""
    db = driver.connect(str(home / "p8.db"), isolation_level=None)
    try:
        count = db.execute(sql, params).rowcount
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return int(count)
    finally:
        db.close()


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Turn one bit of a file."""
    fd = os.open(path, os.O_RDWR)
    try:
        [byte] = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte ^ 1 << bit]), at)
    finally:
        os.close(fd)


def holding(home: Path, *words: str) -> list[str]:
    """Return the files below a home that hold any of these words, in any of the shapes they are written in."""
    return [
        f"{path.relative_to(home)}: {word}"
        for path in home.rglob("*") if path.is_file()
        for word in words if word.encode() in path.read_bytes()
    ]  # fmt: skip
