"""How a database becomes the present schema: step by step, in one transaction, after a verified backup.

The caller holds the fold's lock, so one process migrates and the others wait. Refuses: to write to a database of a
newer P8, and to start empty in silence.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from p8.errors import StoreError
from p8.store import instances, schema
from p8.store.sqlite import connect, driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Step = Callable[[Any], None]


def create(db: Any) -> None:
    """Lay out version 1."""
    for statement in _statements(schema.TABLES):
        db.execute(statement)


def add_instances(db: Any) -> None:
    """Instances and their ports."""
    for statement in _statements(instances.TABLES):
        db.execute(statement)


#: version reached -> how, oldest first. Never edit one that was released; add the next.
STEPS: tuple[tuple[int, Step], ...] = ((1, create), (schema.VERSION, add_instances))


def version_of(db: Any) -> int:
    """Return the schema version a database is at; 0 for an empty one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: Any, path: Path, steps: tuple[tuple[int, Step], ...] = STEPS) -> Path | None:
    """
    Bring a database to the newest of `steps`.

    Returns:
        the backup that was made, or None where there was nothing to back up.

    Raises:
        StoreError: it is of a newer P8, or the backup could not be verified; the database is as it was.
        driver.Error: a step failed; the database is as it was.
    """
    current, newest = version_of(db), steps[-1][0]
    if current > newest:
        raise StoreError(
            f"{path.name} was written by a newer P8 (schema {current}, this one knows {newest})",
            "upgrade P8; until then it is only read, and recording goes on in the journal",
        )
    if current == newest:
        return None
    backup = _back_up(db, path, current) if current else None
    before = _counts(db) if current else {}
    db.execute("BEGIN IMMEDIATE")
    try:
        for version, step in steps:
            if version > current:
                step(db)
        _compare(before, _counts(db) if current else {}, path)
        db.execute(f"PRAGMA user_version = {newest}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return backup


def _back_up(db: Any, path: Path, version: int) -> Path:
    """Copy the database beside itself and check the copy by opening it."""
    target = path.with_name(f"{path.name}.v{version}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.bak")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db.execute("VACUUM INTO ?", (str(target),))
    copy = connect(target, wal=False, writable=False)
    try:
        verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok" or _counts(copy) != _counts(db):
            raise StoreError(f"the backup {target.name} is not good ({verdict})", "the database was left as it is")
    finally:
        copy.close()
    return target


def _counts(db: Any) -> dict[str, int]:
    counts = {}
    for table in ("streams", "sessions", "entries", "packed"):
        try:
            counts[table] = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        except driver.OperationalError:
            counts[table] = 0
    # Packing moves rows from one table to the other.
    counts["entries"] += counts.pop("packed")
    return counts


def _statements(script: str) -> list[str]:
    """Split a script at the semicolons that end its lines; `executescript` would commit."""
    return [part.strip() for part in script.split(";\n") if part.strip()]


def _compare(before: dict[str, int], after: dict[str, int], path: Path) -> None:
    if any(after.get(table, 0) < count for table, count in before.items()):
        raise StoreError(f"migration of {path.name} would lose rows: {before} became {after}", "it was not done")
