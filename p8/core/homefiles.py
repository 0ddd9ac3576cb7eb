"""Small files in P8's own home: replaced whole, private from their first byte, changed by one process at a time.

Refuses: to know what is in them, and to follow a link.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path


def replace(file: Path, body: bytes) -> None:
    """Replace a file whole, synced, so that a crash leaves the old one or the new one. Raises OSError."""
    young = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.new")
    fd = os.open(young, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        os.replace(young, file)
    except OSError:
        with contextlib.suppress(OSError):
            young.unlink()
        raise


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock file while the block lasts; wait for whoever else has it. Raises OSError."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
