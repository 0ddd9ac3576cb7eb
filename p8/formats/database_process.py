"""Runs by itself, as a process with limits: opens somebody else's SQLite file read-only and answers queries about it.

Lines of JSON in, lines of JSON out; nothing of P8 is imported here. A file made to harm can at worst end this process:
no writing, no attaching, no functions that load, only the tables asked for, so much memory, so much time.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from typing import Any

try:
    import pysqlite3 as sqlite3  # a newer one, with fewer known faults
except ImportError:
    import sqlite3

SECONDS = 120  #: of one query
MEMORY_BYTES = 2 << 30
VALUE_BYTES = 64 << 20
ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
LIMIT_LENGTH = 0  #: SQLITE_LIMIT_LENGTH


def limit() -> None:
    """Give up what this process does not need."""
    for what, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 1 << 26)):
        resource.setrlimit(what, (most, most))


def open_read_only(path: str, tables: set[str], immutable: bool) -> Any:
    """Return a connection that can read these tables and nothing else."""
    from urllib.parse import quote

    mode = "immutable=1" if immutable else "mode=ro"
    db = sqlite3.connect(f"file:{quote(path)}?{mode}", uri=True, isolation_level=None)
    if hasattr(db, "setlimit"):  # pysqlite3 has none; there the memory limit holds
        db.setlimit(LIMIT_LENGTH, VALUE_BYTES)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for pragma in ("query_only = 1", "trusted_schema = 0", "cell_size_check = 1", "temp_store = 2", "mmap_size = 0"):
        db.execute(f"PRAGMA {pragma}")
    yes, no = int(sqlite3.SQLITE_OK), int(sqlite3.SQLITE_DENY)
    named = {name.lower() for name in tables} | {"sqlite_master", "sqlite_schema"}

    def allow(action: int, one: str | None, two: str | None, *_: Any) -> int:
        if action == sqlite3.SQLITE_READ:
            return yes if (one or "").lower() in named else no
        if action == sqlite3.SQLITE_FUNCTION:
            return no if two == "load_extension" else yes
        if action == sqlite3.SQLITE_PRAGMA:
            return yes if one == "table_info" else no
        return yes if action in ALLOWED else no

    db.set_authorizer(allow)
    return db


def serve(db: Any) -> None:
    """Answer queries until there are no more."""
    deadline = 0.0
    db.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    for line in sys.stdin:
        asked = json.loads(line)
        deadline = time.monotonic() + SECONDS
        signal.alarm(SECONDS + 30)
        try:
            for row in db.execute(asked["sql"], asked["params"]):
                values = [f"[{len(v)} bytes]" if isinstance(v, bytes) else v for v in row]
                sys.stdout.write(json.dumps({"row": values}) + "\n")
            said = {"end": True}
        except (sqlite3.Error, MemoryError, OverflowError) as error:
            said = {"end": True, "error": str(error) or type(error).__name__}  # type: ignore[dict-item]
        signal.alarm(0)
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Open what the first line names, say whether that went well, and serve."""
    asked = json.loads(sys.stdin.readline())
    signal.alarm(SECONDS)
    limit()
    try:
        db = open_read_only(asked["path"], set(asked["tables"]), asked["immutable"])
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"ready": True}), flush=True)
    signal.alarm(0)
    serve(db)


if __name__ == "__main__":
    main()
