"""Reading a database that may be damaged: row by row, past what cannot be read, without a decoder in the way.

Text comes as bytes here, because a flipped bit can make it no text any more. Refuses: to write, and to open the live
file by any other way than through SQLite.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from p8.errors import StoreError
from p8.store.sqlite import connect, driver, translate

MOST_PROBES = 50_000
SEQ = 0xFFFFFFFF


class Unreadable(NamedTuple):
    """A key whose row, if there is one, cannot be read."""

    key: int


@contextlib.contextmanager
def opened(path: Path, wal: bool) -> Iterator[Any]:
    """
    Lend a connection that sees one moment of the database and changes nothing; text comes as bytes.

    It says that the file is in use, so that nobody replaces it meanwhile.

    Raises:
        StoreError: the file is no database, or is being replaced.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    users = os.open(path.with_name(f"{path.name}.users"), flags, 0o600)
    db = None
    try:
        try:
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError("the database is being repaired by another p8", "try again") from error
        try:
            db = connect(path, wal=wal)
            db.text_factory = bytes
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except driver.Error as error:
            raise translate(error) from error
        yield db
    finally:
        if db is not None:
            with contextlib.suppress(driver.Error):
                db.execute("ROLLBACK")
            db.close()
        os.close(users)


def readable(db: Any, sql: str, low: int, high: int) -> Iterator[tuple[Any, ...] | Unreadable]:
    """
    Yield the rows of a query that can be read, and the keys of those that cannot, in the order of their keys.

    Args:
        db: a connection.
        sql: with two question marks for the bounds; the key comes first, ascending.
        low: first key.
        high: last key. Keep it near: what is between is looked at key by key where a page cannot be read.
    """
    todo, probes = [(low, high)], 0
    while todo:
        first, last = todo.pop()
        at = first - 1
        try:
            for row in db.execute(sql, (first, last)):
                at = row[0]
                yield row
            continue
        except (driver.Error, UnicodeDecodeError):
            probes += 1
        first = max(first, at + 1)
        if first >= last or probes > MOST_PROBES:
            if first == last:
                yield Unreadable(first)
            continue
        middle = (first + last) // 2
        todo += [(middle + 1, last), (first, middle)]


def rows(db: Any, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query as far as they can be read."""
    found: list[tuple[Any, ...]] = []
    with contextlib.suppress(driver.Error, UnicodeDecodeError):
        found.extend(iter(db.execute(sql, params)))
    return found


def as_text(value: Any) -> Any:
    """Return a column as text where it is some."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
