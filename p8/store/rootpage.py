"""A copy of the database whose first page is of no use: given another, so that the rest can be read.

The first page holds the header and the definitions of all tables; one wrong bit there hides everything. What it must
say is known: P8's own tables, and where each begins, which stands in the file besides, or follows from how P8 lays a
new file out. Refuses: anything but a copy that nobody else has open.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from p8.store import migrations
from p8.store.sqlite import connect, driver

PAGE = 4096
LEAF, INTERIOR = 0x0D, 0x05
MAGIC = b"SQLite format 3\0"


def is_readable(db: Any, tables: tuple[str, ...]) -> bool:
    """Return whether every table's definition can be read."""
    try:
        for table in tables:
            db.execute(f"SELECT 1 FROM {table} LIMIT 0").fetchall()
        shared = "SELECT 1 FROM sqlite_schema WHERE rootpage > 0 GROUP BY rootpage HAVING count(*) > 1"
        if db.execute(shared).fetchone():
            return False
    except (driver.Error, UnicodeDecodeError):
        return False
    return True


def renew(copy: Path, tables: tuple[str, ...]) -> None:
    """
    Give a copy of the database a first page that makes its tables readable.

    Args:
        copy: the copy, with its log beside it where there is one; both are changed.
        tables: which tables must be readable.

    Raises:
        OSError, driver.Error: it cannot be done.
    """
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".page-") as folder:
        short, fresh = Path(folder) / "short.db", Path(folder) / "fresh.db"
        columns, laid_out = _layouts(fresh, tables)
        raw = copy.read_bytes()
        if raw[:16] != MAGIC or int.from_bytes(raw[16:18], "big") != PAGE:
            copy.write_bytes(_header(fresh.read_bytes()[:100], raw) + raw[100:])
        _take_log_in(copy)
        raw = copy.read_bytes()
        page = bytearray(_short(short, columns, _roots(raw, tables, laid_out)))
        page[:100] = _header(bytes(page[:100]), raw)
        copy.write_bytes(bytes(page) + raw[PAGE:])


def _layouts(fresh: Path, tables: tuple[str, ...]) -> tuple[dict[str, list[str]], list[dict[str, int]]]:
    """Return the columns of the tables, and where they begin in a new file and in one that was rewritten."""
    db = connect(fresh, wal=False)
    try:
        migrations.migrate(db, fresh)
        columns = {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in tables}
        sql = "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
        layouts = [dict(db.execute(sql).fetchall())]
        db.execute("VACUUM")
        layouts.append(dict(db.execute(sql).fetchall()))
    finally:
        db.close()
    return columns, layouts


def _header(good: bytes, raw: bytes) -> bytes:
    """Return a file header: sizes of this file, everything else as it ought to be, without a free list and a log."""
    header = bytearray(good)
    header[18:20] = b"\1\1"
    header[28:32] = max(len(raw) // PAGE, 1).to_bytes(4, "big")
    header[32:40] = bytes(8)
    header[92:96] = header[24:28]
    return bytes(header)


def _take_log_in(copy: Path) -> None:
    """Move what stands in the log into the file, where SQLite still can."""
    log = Path(f"{copy}-wal")
    if log.exists() and log.stat().st_size:
        with copy.open("r+b") as file:
            file.seek(18)
            file.write(b"\2\2")
        with contextlib.suppress(driver.Error, UnicodeDecodeError):
            db = driver.connect(str(copy), isolation_level=None)
            try:
                db.execute("PRAGMA writable_schema = ON")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                db.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)


def _roots(raw: bytes, tables: tuple[str, ...], layouts: list[dict[str, int]]) -> dict[str, int]:
    """Return the page on which each table begins: as the file says somewhere, else as P8 lays files out."""
    votes: dict[str, Counter[int]] = {table: Counter() for table in tables}
    for match in re.finditer(rb"table([a-z]{3,20})\1(.{1,4}?)CREATE TABLE \1", raw, re.DOTALL):
        table, page = match.group(1).decode(), int.from_bytes(match.group(2), "big")
        if table in votes and _is_root(raw, page):
            votes[table][page] += 1
    known = {table: count.most_common(1)[0][0] for table, count in votes.items() if count}
    layout = max(layouts, key=lambda one: sum(one.get(table) == page for table, page in known.items()))
    agree = [table for table in tables if layout.get(table) in votes[table]]
    if len(agree) > len(tables) * 3 // 4:  # as P8 laid it out: what says otherwise is what is wrong
        return {table: layout[table] for table in tables if _is_root(raw, layout[table])}
    for table in tables:
        page = layout.get(table, 0)
        if table not in known and _is_root(raw, page) and page not in known.values():
            known[table] = page
    return known


def _is_root(raw: bytes, page: int) -> bool:
    at = (page - 1) * PAGE
    return page > 1 and at + PAGE <= len(raw) and (raw[at] in {LEAF, INTERIOR})


def _short(path: Path, columns: dict[str, list[str]], roots: dict[str, int]) -> bytes:
    """Return a first page that defines the tables in as few words as will do, so that they all fit."""
    db = driver.connect(str(path), isolation_level=None)
    try:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for table, page in roots.items():
            first, *rest = (f'"{name}"' for name in columns[table])
            key = " INTEGER PRIMARY KEY" if columns[table][0] in {"id", "num"} and table != "projects" else ""
            db.execute(f"CREATE TABLE {table} ({', '.join([first + key, *rest])})")
            del page
        db.execute("PRAGMA writable_schema = ON")
        for table, page in roots.items():
            db.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (page, table))
    finally:
        db.close()
    raw = path.read_bytes()
    if raw[100] != LEAF:
        raise OSError(f"the definitions do not fit on one page of {path.name}")
    return raw[:PAGE]
