"""One process at a time: a lock on a small file that says whose it is; the kernel lets go of it when that one ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class ProcessLock:
    """
    Held by one process, and in it by one holder.

    Args:
        path: its file; the folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = -1

    @property
    def is_held(self) -> bool:
        """Return whether it is held here."""
        return self._number >= 0

    def acquire(self, name: str = "") -> bool:
        """Return whether it is held here now; `name` is what this process is called."""
        self._number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        for _ in range(5):
            try:
                fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._number, 0)
                os.write(self._number, f"{os.getpid()} {name}".encode())
                return True
            except BlockingIOError:
                time.sleep(0.02)  # somebody may only be asking
        self.release()
        return False

    def release(self) -> None:
        """Let go of it. Safe to call twice."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


def holder_of(path: Path) -> int:
    """Return the process that holds a lock, or 0."""
    return held_by(path)[0]


def held_by(path: Path) -> tuple[int, str]:
    """Return the process that holds a lock and what it is called; 0 where none does."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0, ""
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return 0, ""
    except BlockingIOError:
        pid, _, name = os.read(number, 40).decode("ascii", "replace").partition(" ")
        return (int(pid), name) if pid.isdigit() else (0, "")
    finally:
        os.close(number)
