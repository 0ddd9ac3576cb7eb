"""Moves journal lines into the database: in batches, in order, each line once, counters in the same transaction.

How far each journal file is folded stands in the database itself, written with the rows, so a crash at any point
repeats nothing and skips nothing. One process folds at a time. A line that does not fit its stream (two processes
wrote to one session) goes to a branch of its own: nothing is dropped, and nothing interleaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from p8.store.batch import Batch, Outcome, Stream
from p8.store.glance import is_behind, size_of
from p8.store.journal import FIELDS, Journal
from p8.store.segments import Block, Damage, is_orphan, read_blocks, segments

FLOOD_ROWS = 32_000  #: of one transaction when entries come faster than they are folded
FLOOD_BYTES = 16 << 20  #: of journal files in one transaction


class FoldLock:
    """The right to fold, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for it; return whether it was had."""
        if self._fd < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        until = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(0.003)

    def release(self) -> None:
        """Let the next one fold."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Fold:
    """
    Folds journals into one database connection.

    Args:
        db: a writable connection, used by one thread at a time (the caller sees to that).
        journal: this process's journal; what it just wrote is taken from memory instead of being read back.
        folders: where journal files are looked for.
    """

    def __init__(self, db: Any, journal: Journal, folders: Iterable[Path]) -> None:
        self._db = db
        self._journal = journal
        self._folders = tuple(folders)
        self._streams: dict[str, Stream] = {}
        self._last_change = -1
        self._folded: dict[str, int] = {}

    def run(self, everything: bool, enough: Callable[[], bool] = lambda: False) -> Outcome:
        """
        Fold what this process has recorded until now, and with `everything` also the entries of all others.

        Args:
            everything: whether those of other processes too, living and dead.
            enough: asked after each transaction, whether to leave it at that.

        Raises:
            driver.Error: the database refused; nothing of the batch at hand was folded, and nothing is lost.
        """
        outcome = Outcome()
        left, gap_left = self._journal.backlog, self._journal.gap
        while True:
            lines, gap = self._journal.take(FLOOD_ROWS)
            try:
                self._sync_view()
                if (everything or gap) and not self._fold_files(everything, gap, enough, outcome) and gap:
                    self._journal.give_back()
                self._fold_own(lines, outcome)
            except BaseException:
                self._journal.give_back()
                raise
            self._release_finished()
            left, gap_left, everything = left - len(lines) // FIELDS, gap_left and not gap, False
            if not (lines or gap) or (left <= 0 and not gap_left) or enough():
                return outcome

    def pending(self) -> bool:
        """Return whether any journal file holds something that is not in the database."""
        if self._journal.unfolded:
            return True
        return is_behind(lambda: self._db.execute("SELECT name, folded FROM journals").fetchall(), self._folders)

    # which files

    def _fold_files(self, everything: bool, gap: bool, enough: Callable[[], bool], outcome: Outcome) -> bool:
        """Fold others' files (`everything`) and this process's own (`gap`); return whether all were."""
        own = {path.name for path in self._journal.own()}
        for folder in self._folders:
            for path in segments(folder):
                mine = path.name in own
                if (mine and not gap) or (not mine and not everything):
                    continue
                size = size_of(path)
                start = self._folded.get(path.name, 0)
                orphan = not mine and is_orphan(path)
                if size > start and not self._fold_blocks(read_blocks(path, start, orphan, size), enough, outcome):
                    return False
                if orphan and size_of(path) == size:
                    self._drop_orphan(path, size)
        return True

    def _drop_orphan(self, path: Path, size: int) -> None:
        """Delete a dead process's file whose every byte is in the database (entries) or in `damage`."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "INSERT INTO journals VALUES (?,?) ON CONFLICT DO UPDATE SET folded=excluded.folded", (path.name, size)
        )
        self._db.execute("COMMIT")
        path.unlink(missing_ok=True)
        self._db.execute("DELETE FROM journals WHERE name = ?", (path.name,))
        self._folded.pop(path.name, None)

    def _release_finished(self) -> None:
        for path in self._journal.finished():
            if self._folded.get(path.name, 0) >= size_of(path):
                self._journal.release(path)
                self._db.execute("DELETE FROM journals WHERE name = ?", (path.name,))
                self._folded.pop(path.name, None)

    def is_folded(self, path: Path, size: int) -> bool:
        """Return whether everything up to `size` of a journal file is in the database."""
        return self._folded.get(path.name, 0) >= size

    def forget_file(self, path: Path) -> None:
        """Drop the record of a file that is gone."""
        self._db.execute("DELETE FROM journals WHERE name = ?", (path.name,))

    # batches

    def _sync_view(self) -> None:
        """Forget what other processes may have changed since the last batch of ours."""
        newest = self._db.execute("SELECT max(id) FROM changes").fetchone()[0] or 0
        if newest != self._last_change:
            self._streams.clear()
            self._last_change = newest
        self._folded = dict(self._db.execute("SELECT name, folded FROM journals").fetchall())

    def _fold_own(self, lines: list[Any], outcome: Outcome) -> None:
        """Fold what the journal handed over from memory, less what another process has folded from the file."""
        folded = self._folded
        if lines and lines[8] <= folded.get(lines[7], 0):
            rows = zip(*[iter(lines)] * FIELDS, strict=True)
            lines = [*chain.from_iterable(row for row in rows if row[8] > folded.get(row[7], 0))]
        if lines:
            self._commit([lines], outcome)

    def _fold_blocks(self, blocks: Iterable[Block | Damage], enough: Callable[[], bool], outcome: Outcome) -> bool:
        batch: list[Block | Damage] = []
        size = 0
        for block in blocks:
            batch.append(block)
            size += len(block.raw) if isinstance(block, Damage) else block.end - block.begin
            if size > FLOOD_BYTES:
                self._commit(batch, outcome)
                batch, size = [], 0
                if enough():
                    return False
        if batch:
            self._commit(batch, outcome)
        return True

    def _commit(self, batch: Sequence[list[Any] | Block | Damage], outcome: Outcome) -> None:
        """Fold, in one transaction, fields of entries of this process, lines of files, and what is none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            work = Batch(self._db, self._streams, outcome)
            ends: dict[str, int] = {}
            for part in batch:
                if isinstance(part, Damage):
                    work.damaged(part)
                    ends[part.segment] = part.offset + len(part.raw) + 1
                elif isinstance(part, Block):
                    work.add_block(part)
                    ends[part.segment] = part.end
                else:
                    work.add(part)
                    ends.update(zip(part[7::FIELDS], part[8::FIELDS], strict=True))
            work.finish()
            self._advance(ends)
            self._db.execute("COMMIT")
        except BaseException:
            self._streams.clear()
            with contextlib.suppress(Exception):
                self._db.execute("ROLLBACK")
            self._last_change = -1
            raise
        self._last_change = work.last_change or self._last_change

    def _advance(self, ends: dict[str, int]) -> None:
        self._folded.update(ends)
        self._db.executemany(
            "INSERT INTO journals VALUES (?,?) ON CONFLICT DO UPDATE SET folded=excluded.folded", list(ends.items())
        )
