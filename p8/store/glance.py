"""Whether a read needs a fold before it: one look at the journal's files and at how far they are folded.

Most short commands find everything folded, and then need neither journal nor fold nor a writable connection.
"""

from __future__ import annotations

import os

from p8.store import schema
from p8.store.sqlite import Readers, Users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Any


def is_current(readers: Readers, users: Users, *folders: Path) -> bool:
    """
    Return whether the database is of this P8's schema and holds all that stands in the journal files of `folders`.

    Whatever stands in the way of telling is for the fold to find and to say: False.
    """
    from p8.errors import StoreError

    try:
        if not readers.path.exists() or not users.take():
            return False
        ((version,),) = readers.all("PRAGMA user_version")
        if version != schema.VERSION:
            return False
        return not is_behind(lambda: readers.all("SELECT name, folded FROM journals"), folders)
    except (StoreError, OSError):
        return False


def is_behind(folded: Callable[[], list[tuple[Any, ...]]], folders: Iterable[Path]) -> bool:
    """Return whether a journal file of `folders` holds more than is folded: (name, bytes) of each."""
    found = [entry for folder in folders for entry in journals(folder)]
    known: dict[str, int] = dict(folded()) if found else {}
    return any(size_of(entry) > known.get(entry.name, 0) for entry in found)


def size_of(file: Path | os.DirEntry[str]) -> int:
    """Return a file's bytes; none where it is gone, as journal files go once they are folded."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def journals(folder: Path) -> list[os.DirEntry[str]]:
    """Return the journal files of a folder, oldest first; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.endswith(".jsonl")]
    except OSError:
        return []
    return sorted(found, key=lambda entry: entry.name)
