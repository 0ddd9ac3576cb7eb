"""Files that others will read: written whole or not at all, private from their first byte."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from p8.errors import FormatError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """
    Lend a new file that takes the place of `path` when all went well, durable then; a link is followed.

    Raises:
        FormatError: it cannot be written there; what was there is as it was.
    """
    target = Path(os.path.realpath(path))
    young = target.with_name(f".{target.name[:80]}.{os.urandom(4).hex()}.part")
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise FormatError(f"{path} is not a file", "name a file with -o")
        fd = os.open(young, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(young, target)
        except BaseException:
            with contextlib.suppress(OSError):
                young.unlink()
            raise
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}", "name another place with -o") from error
