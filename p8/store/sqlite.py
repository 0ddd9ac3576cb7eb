"""Connections to the database: which SQLite, which settings, and what its errors mean.

One SQLite library per process, and no other: two in one process cancel each other's locks. Releases between 3.7.0 and
3.51.2 can corrupt a WAL database (3.50.7 and 3.44.6 carry the fix), so on those, and on network file systems, the
rollback journal with synchronous=EXTRA is used instead (RELIABILITY 0.1, 0.2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from p8.errors import StoreError
from p8.patterns import pattern
from p8.store.plain import column

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: runs a function with the writable connection inside a transaction, and returns what it returns
    Write = Callable[[Callable[[Any], Any]], Any]
    #: one query's rows
    Read = Callable[..., list[tuple[Any, ...]]]

try:
    from pysqlite3 import dbapi2 as driver
except ImportError:  # a platform without a wheel: the interpreter's own, on the careful settings
    import sqlite3 as driver

__all__ = ["Readers", "connect", "driver", "is_corrupt", "is_local", "is_safe_for_wal", "translate", "wal_allowed"]

LOCAL_FILESYSTEMS = {
    "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay", "zfs", "apfs", "hfs", "ramfs", "bcachefs", "jfs",
}  # fmt: skip
BUSY = pattern("locked|busy", re.IGNORECASE)
CORRUPT = pattern("malformed|not a database|corrupt|unsupported file format|disk image", re.IGNORECASE)


def is_safe_for_wal(version: tuple[int, ...]) -> bool:
    """Return whether a SQLite release is free of the WAL-reset bug."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def is_local(path: Path) -> bool:
    """Return whether `path` lies on a file system known to keep locks and shared memory as SQLite needs them."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        device = os.stat(path).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
            parts = line.split(" ")
            if parts[2] == wanted:
                return parts[parts.index("-") + 1] in LOCAL_FILESYSTEMS
    except (OSError, ValueError, IndexError):
        return os.name == "posix" and not Path("/proc/self/mountinfo").exists()
    return True


def wal_allowed(path: Path, version: tuple[int, ...] | None = None) -> bool:
    """Return whether a database in folder `path` may use WAL with the SQLite at hand (or the one given)."""
    return is_safe_for_wal(version or tuple(driver.sqlite_version_info)) and is_local(path)


def connect(path: Path, *, wal: bool = False, writable: bool = True, busy_s: float = 5.0) -> Any:
    """
    Open the database with P8's settings.

    Args:
        path: the file; made if missing (mode 0600 with the process's umask) when `writable`.
        wal: whether WAL may be used. The journal mode is set only when the file is new.
        writable: False gives a connection that cannot change anything.
        busy_s: how long a statement waits for another process's lock.

    Raises:
        driver.Error: as SQLite says it; `translate` makes a StoreError of it.
    """
    new = writable and not path.exists()
    if new:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    mode = "rw" if writable else "ro"
    uri = "file:" + str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23") + f"?mode={mode}"
    db = driver.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=busy_s)
    try:
        if new:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        if writable:
            db.execute(f"PRAGMA synchronous = {'FULL' if wal else 'EXTRA'}")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA journal_size_limit = 67108864")
            db.execute("PRAGMA wal_autocheckpoint = 4000")  # pages; each checkpoint costs two syncs
        else:
            db.execute("PRAGMA query_only = ON")
    except UnicodeDecodeError as error:  # what it says of the schema is no text
        db.close()
        raise driver.DatabaseError("database disk image is malformed (its schema is no text)") from error
    except BaseException:
        db.close()
        raise
    return db


def translate(error: Exception) -> StoreError:
    """Make a StoreError of what SQLite said."""
    text = str(error)
    if BUSY.search(text):
        return StoreError("the database is in use by another process", "it is retried; nothing recorded is lost")
    if CORRUPT.search(text):
        return StoreError(f"the database is damaged: {text}", "p8 doctor --repair saves what it still holds")
    return StoreError(f"the database cannot be used: {text}", "check the disk and the home's permissions")


def is_corrupt(error: Exception) -> bool:
    """Return whether an error says that the file itself is damaged."""
    return isinstance(error, driver.DatabaseError) and CORRUPT.search(str(error)) is not None


class Users:
    """
    Says that the database is open in this process, so that no other puts another file in its place.

    Args:
        path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.users")
        self._fd = -1

    def take(self, alone: bool = False) -> bool:
        """Say so; with `alone`, only where no other process has it open. Return whether that could be had."""
        if self._fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def drop(self) -> None:
        """Take it back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Readers:
    """A pool of read-only connections; each is used by one thread at a time."""

    def __init__(self, path: Path, busy_s: float = 2.0) -> None:
        self.path = path
        self._busy_s = busy_s
        self._idle: list[Any] = []
        self._closed = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def get(self) -> Iterator[Any]:
        """
        Lend a connection.

        Raises:
            StoreError: the database is locked, damaged or not there.
        """
        with self._lock:
            self._closed = False
            db = self._idle.pop() if self._idle else None
        try:
            if db is None:
                db = connect(self.path, writable=False, busy_s=self._busy_s)
            yield db
        except driver.Error as error:
            if db is not None:
                db.close()
            db = None
            raise translate(error) from error
        finally:
            if db is not None and not self._keep(db):
                db.close()

    def _keep(self, db: Any) -> bool:
        with self._lock:
            if not self._closed:
                self._idle.append(db)
            return not self._closed

    def all(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query. Raises StoreError as `get` does."""
        with self.get() as db:
            try:
                return db.execute(sql, params).fetchall()  # type: ignore[no-any-return]
            except UnicodeEncodeError:  # bytes that are no text, from a command line or a file's name
                return db.execute(sql, [column(value) for value in params]).fetchall()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the idle connections; those in use close when they come back, until one is asked for again."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
