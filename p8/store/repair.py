"""When the database file is damaged: keep it, save what can still be read, go on with a sound one, and say so.

Never unlinks or renames under a living process: the caller proves that no P8 has the file open, and holds no
connection to it itself, so plain copying is allowed here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p8.errors import StoreError
from p8.store import migrations, rootpage
from p8.store.reading import Unreadable, readable, rows
from p8.store.sqlite import connect, driver, wal_allowed

TABLES = (
    "streams", "sessions", "entries", "packed", "dictionaries", "large", "changes", "journals", "damage", "leases",
    "projects", "places", "settings", "instances", "ports",
)  # fmt: skip

UNKNOWN_ENTRIES = 4096  #: so many are looked for in a session whose length cannot be read
UNKNOWN_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """What a repair found and did."""

    aside: Path  #: where the damaged file is kept
    saved: dict[str, int]  #: rows saved, by table
    text: str
    hint: str


def replace(path: Path, alone: bool, ask: bool = True) -> Report | None:
    """
    Replace a damaged database by what can be read of it.

    Args:
        path: the database.
        alone: nobody else has it open.
        ask: look first whether it is damaged at all.

    Returns:
        what was done; None where the file turns out to be sound.

    Raises:
        StoreError: others have it open; nothing was done.
    """
    if not alone:
        raise StoreError("another p8 has the database open")
    if ask and _is_sound(path):
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        source = Path(f"{path}{suffix}")
        if source.exists():
            shutil.copyfile(source, f"{aside}{suffix}")
            Path(f"{aside}{suffix}").chmod(0o600)
    young = path.with_name(f"{path.name}.new-{stamp}")
    saved = salvage(aside, young)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    os.replace(young, path)
    text = (
        f"the database was damaged: {saved['sessions']} sessions and {saved['entries'] + saved['packed']} entries"
        f" were saved from it; the damaged file is kept as {aside.name}"
    )
    return Report(aside, saved, text, "p8 doctor tells what is missing")


def salvage(damaged: Path, target: Path) -> dict[str, int]:
    """Copy every row that can be read from `damaged` into a new database; return how many, by table."""
    new = connect(target, wal=wal_allowed(target.parent))
    saved = dict.fromkeys(TABLES, 0)
    try:
        migrations.migrate(new, target)
        new.execute("PRAGMA foreign_keys = OFF")
        new.execute("BEGIN IMMEDIATE")
        with contextlib.suppress(driver.Error, OSError), _opened(damaged) as old:
            spans: dict[int, int] = {}
            for table in TABLES:
                saved[table] = _copy(old, new, table, spans)
        list_again(new)
        new.execute("DELETE FROM settings WHERE key = 'indexed'")
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        new.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
    return saved


@contextlib.contextmanager
def _opened(damaged: Path) -> Iterator[Any]:
    """Lend a connection to a copy of the damaged copy; one whose definitions cannot be read gets another first page."""
    with tempfile.TemporaryDirectory(dir=damaged.parent, prefix=".saving-") as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            if Path(f"{damaged}{suffix}").exists():
                shutil.copyfile(f"{damaged}{suffix}", f"{copy}{suffix}")
        db = None
        try:
            with contextlib.suppress(driver.Error):
                db = connect(copy, wal=False)
            if db is None or not rootpage.is_readable(db, TABLES):
                if db is not None:
                    db.close()
                rootpage.renew(copy, TABLES)
                db = connect(copy, wal=False)
            db.text_factory = bytes
            yield db
        finally:
            if db is not None:
                db.close()


def _copy(old: Any, new: Any, table: str, spans: dict[int, int]) -> int:
    """
    Copy what can be read of one table, so that one bad page costs that page and one bad row that row.

    Args:
        old: the damaged database; its text comes as bytes.
        new: where to.
        table: which.
        spans: the streams' numbers and how many entries each has; filled from the streams themselves.
    """
    try:
        columns = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
    except driver.Error:
        return 0
    names = ", ".join(f'"{name}"' for name in columns)
    kinds = ", ".join(f'typeof("{name}")' for name in columns)
    count = len(columns)
    values = [
        f"CASE CAST(?{count + at} AS TEXT) WHEN 'text' THEN CAST(?{at} AS TEXT) ELSE ?{at} END"
        for at in range(1, count + 1)
    ]
    insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join(values)})"
    sql = f"SELECT rowid, {names}, {kinds} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
    before = new.total_changes
    for low, high in _spans(old, table, spans):
        for row in readable(old, sql, low, high):
            if not isinstance(row, Unreadable):
                with contextlib.suppress(driver.Error):
                    new.execute(insert, row[1:])
                    if table in {"streams", "sessions"}:
                        num = row[1]
                        spans[num] = max(spans.get(num, 0), row[3] if table == "streams" else UNKNOWN_ENTRIES)
    return int(new.total_changes - before)


def _spans(old: Any, table: str, spans: dict[int, int]) -> list[tuple[int, int]]:
    """Return the ranges of keys in which a table's rows are; narrow ones, as each may have to be looked at singly."""
    highest = next((row[0] for row in rows(old, f"SELECT max(rowid) FROM {table}") if row[0]), None)
    if table not in {"entries", "packed", "large"}:
        return [(1, UNKNOWN_ROWS if highest is None else highest)]
    last = max([*spans, 0 if highest is None else min(highest >> 32, 1 << 24)])
    found: list[tuple[int, int]] = []
    for num in range(1, last + 1):
        newest = rows(
            old, f"SELECT max(rowid) FROM {table} WHERE rowid BETWEEN ? AND ?", num << 32, (num + 1 << 32) - 1
        )
        upto = newest[0][0] if newest else (num << 32) + spans.get(num, UNKNOWN_ENTRIES)
        if upto is not None:
            found.append((num << 32, max(upto, (num << 32) + (spans.get(num, 0) if newest else 0))))
    return found


def list_again(db: Any) -> None:
    """Give entries without a stream or session row one, so that they can be found; never invent content."""
    db.execute(
        "INSERT OR IGNORE INTO streams (num, id) SELECT num, id FROM sessions"
        " WHERE num NOT IN (SELECT num FROM streams)"
    )
    db.execute(
        "INSERT OR IGNORE INTO streams (num, id, entries)"
        " SELECT id >> 32, printf('19700101-000000-%06d-0000', (id >> 32) % 1000000), max(id & 4294967295) FROM"
        " (SELECT id FROM entries UNION ALL SELECT id FROM packed) WHERE id >> 32 NOT IN (SELECT num FROM streams)"
        " GROUP BY id >> 32"
    )
    db.execute(
        "INSERT OR IGNORE INTO sessions (num, id, title, title_source, status, created, last, messages)"
        " SELECT t.num, t.id, 'saved from a damaged database', 'auto', 'abandoned', min(e.time), max(e.time),"
        " sum(e.kind = 'message') FROM streams t JOIN"
        " (SELECT id, time, kind FROM entries UNION ALL SELECT id, time, kind FROM packed) e ON e.id >> 32 = t.num"
        " WHERE t.num NOT IN (SELECT num FROM sessions) AND t.id NOT LIKE '~%' GROUP BY t.num"
    )


def _is_sound(path: Path) -> bool:
    try:
        db = connect(path, wal=True, writable=True)
    except driver.Error:
        return False
    try:
        return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except driver.Error:
        return False
    finally:
        db.close()
