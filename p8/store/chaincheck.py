"""Walks along one stream's entries and says where its hash chain does not hold.

A wrong hash may mean a changed entry or a changed hash; what follows decides: the next entry was chained to what was
really written.
"""

from __future__ import annotations

from typing import NamedTuple

from p8.store.chain import TOMBSTONE, Parts, body_of, fits

LOOK_AHEAD = 64


class Missing(NamedTuple):
    """Entries that are not there."""

    seq: int
    last: int
    previous: int | None  #: hash of the entry before them, where that is known
    stream: str  #: under which name they were written
    offset: int  #: what to add to their numbers here for those they were written under


class Wrong(NamedTuple):
    """An entry that does not fit."""

    seq: int
    parts: Parts
    previous: int
    table: str
    error: str  #: why its data cannot be read, or ""
    right: int = 0  #: the hash it must have, where only that is wrong
    hash_only: bool = False


class ChainCheck:
    """
    The check of one stream.

    Args:
        name: the stream.
        root: hash before its first entry; None where nobody can tell.
        base: of a branch, the stream whose lines it holds.
        offset: of a branch, the number of the last entry before it in `base`.
        verify: whether the hashes can be checked at all.
    """

    def __init__(self, name: str, root: int | None, base: str = "", offset: int = 0, verify: bool = True) -> None:
        self.problems: list[Missing | Wrong] = []
        self.newest: tuple[int, int] = (0, 0)
        self._name = name
        self._base = base
        self._offset = offset
        self._verify = verify
        self._previous: tuple[int, ...] = () if root is None else (root,)
        self._doubt: Wrong | None = None

    def add(self, parts: Parts, table: str, error: str) -> None:
        """Take the next entry in, in order; `error` says why its data cannot be read."""
        seq = parts.seq
        if seq != self.newest[0] + 1:
            self._missing(self.newest[0] + 1, seq - 1)
        self.newest = (seq, parts.digest)
        known, self._previous = self._previous, (parts.digest,)
        if not self._verify or not known or parts.payload == TOMBSTONE:
            self._settle(None)
            if error:
                self.problems.append(Wrong(seq, self._as_written(parts), 0, table, error))
            return
        fitting = next((p for p in known if not error and self._fits(parts, p)), None)
        if fitting is not None:
            self._settle(fitting)
            return
        self._settle(None)
        self._doubt = Wrong(seq, self._as_written(parts), known[0], table, error)
        if not error:
            self._previous = (parts.digest, _digest(self._doubt.parts, known[0]))

    def end(self, entries: int, head: int) -> None:
        """Say what the stream's own row says of its end."""
        if self._doubt is not None and len(self._previous) == 2 and head == self._previous[1]:
            self._settle(head)
            self.newest = (self.newest[0], head)
        else:
            self._settle(None)
        if entries > self.newest[0]:
            self._missing(self.newest[0] + 1, entries)

    def _missing(self, first: int, last: int) -> None:
        if last < first:
            return
        previous = self._previous[0] if self._previous else None
        self._settle(None)
        self.problems.append(Missing(first, last, previous, self._base or self._name, self._offset))
        self._previous = ()

    def _settle(self, fitting: int | None) -> None:
        """Decide about the entry before: what comes next was chained to `fitting`."""
        doubt, self._doubt = self._doubt, None
        if doubt is None:
            return
        if fitting is not None and fitting != doubt.parts.digest:
            doubt = doubt._replace(hash_only=True, right=fitting)
        self.problems.append(doubt)

    def _fits(self, parts: Parts, previous: int) -> bool:
        if fits(parts, previous):
            return True
        if self._base:
            for skipped in range(LOOK_AHEAD):
                seq = parts.seq + self._offset + skipped
                if fits(parts._replace(stream=self._base, seq=seq), previous):
                    self._offset += skipped
                    return True
        return False

    def _as_written(self, parts: Parts) -> Parts:
        """Return an entry under the name and number it had when it was written."""
        return parts._replace(stream=self._base, seq=parts.seq + self._offset) if self._base else parts


def _digest(parts: Parts, previous: int) -> int:
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(body_of(*parts[:5]), previous)
