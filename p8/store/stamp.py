"""Whether the database has changed, for those that keep what they read: one pragma on a connection of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p8.errors import StoreError
from p8.store.sqlite import connect, driver


class Stamp:
    """
    Watches a database.

    Args:
        path: its file.
        wal: returns whether it may be opened in WAL mode.
        waiting: returns whether this process has recorded something that is not in it yet.
    """

    def __init__(self, path: Path, wal: Callable[[], bool], waiting: Callable[[], bool]) -> None:
        self._path = path
        self._wal = wal
        self._waiting = waiting
        self._db: Any = None
        self._file: tuple[int, int] = (0, 0)
        self._lock = threading.Lock()

    def __call__(self) -> tuple[int, int, int] | None:
        """Return what is another value after any change, whoever made it; None where that cannot be said now."""
        if self._waiting():
            return None
        with self._lock:
            try:
                state = os.stat(self._path)
                if self._db is None or self._file != (state.st_dev, state.st_ino):
                    self.close()
                    self._db = connect(self._path, wal=self._wal(), writable=False, busy_s=0.01)
                    self._file = state.st_dev, state.st_ino
                return (*self._file, int(self._db.execute("PRAGMA data_version").fetchone()[0]))
            except (OSError, driver.Error, StoreError):
                self.close()
                return None

    def close(self) -> None:
        """Let go of the database."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(driver.Error):
                db.close()
