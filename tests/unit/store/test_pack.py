"""Packed entries read by many threads at once, as a server does: a zstd context shared by two ends the process."""

from __future__ import annotations

import subprocess
import sys

READ = """
import sqlite3, threading
from p8.store import pack

db = sqlite3.connect(":memory:", check_same_thread=False)
db.execute("CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, created INTEGER, body BLOB)")
texts = [" ".join(f"word{i * j % 977} says {i ^ j}" for j in range(200)) for i in range(2000)]
db.execute("INSERT INTO dictionaries VALUES (1, 1, ?)", (pack._dictionary([text.encode() for text in texts]),))
codec = pack.Codec()
assert codec.load(db)
packed = [codec.pack(text) for text in texts]
assert all(isinstance(one, bytes) for one in packed)
wrong, begun = [], threading.Barrier(8)

def read(step):
    begun.wait()
    for number in range(0, 12_000 * step, step):
        at = number % len(texts)
        try:
            if codec.unpack(packed[at], db) != texts[at]:
                wrong.append(at)
        except Exception as error:
            wrong.append(repr(error))

threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 7, 11, 13, 17, 19, 23)]
for one in threads:
    one.start()
for one in threads:
    one.join()
assert not wrong, wrong[:3]
"""


def test_eight_threads_read_what_was_packed() -> None:
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:] or done.returncode
