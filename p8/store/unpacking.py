"""Wrong bits in what is compressed: an entry's own bytes, or the dictionary that many entries need.

Each bit is turned in turn, until what comes out has the hash that was written with the entry.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from p8.errors import StoreError
from p8.store.chain import Parts, fits
from p8.store.chaincheck import Missing, Wrong
from p8.store.pack import MOST_BYTES, Codec, expand
from p8.store.reading import rows

UNPACK_S = 240.0  #: compressed bytes are tried for so long
SAMPLES = 5000  #: entries that a mended dictionary must open


def mend_packed(db: Any, codec: Codec, key: int, problem: Wrong) -> Parts | None:
    """Look for the wrong bit in an entry's compressed bytes; return the entry as it was written."""
    for table in ("packed", "entries"):
        for (body,) in rows(db, f"SELECT data FROM {table} WHERE id = ? AND typeof(data) = 'blob'", key):
            with contextlib.suppress(StoreError):  # the dictionary may have been mended meanwhile
                tried = problem.parts._replace(payload=codec.expand(body, db))
                if fits(tried, problem.previous):
                    return tried
            found = _mend(body, problem, lambda changed: codec.expand(changed, db))
            if found is not None:
                return found
    for body, size in rows(db, "SELECT body, size FROM large WHERE id = ?", key):
        found = _mend(body, problem, lambda changed, size=size: expand(changed, size))  # type: ignore[misc]
        if found is not None:
            return found
    return None


def _mend(body: bytes, problem: Wrong, open_up: Callable[[bytes], bytes]) -> Parts | None:
    for changed in _bits(body):
        with contextlib.suppress(StoreError):
            tried = problem.parts._replace(payload=open_up(changed))
            if fits(tried, problem.previous):
                return tried
    return None


def mend_dictionaries(db: Any, problems: Sequence[tuple[int, Missing | Wrong]]) -> list[tuple[int, bytes]]:
    """Look for the wrong bit in a dictionary with which many entries cannot be read; return number and right bytes."""
    samples: list[tuple[bytes, Wrong]] = []
    for num, problem in problems:
        if isinstance(problem, Wrong) and not problem.hash_only and len(samples) < SAMPLES:
            sql = "SELECT data FROM packed WHERE id = ? AND typeof(data) = 'blob'"
            samples += [(row[0], problem) for row in rows(db, sql, num << 32 | problem.seq)]
    most = rows(db, "SELECT count(*) FROM packed WHERE typeof(data) = 'blob'")
    if len(samples) < max(2, min(most[0][0] // 2 if most else 0, SAMPLES)):
        return []  # a wrong bit in its text harms few, and is found in each; one in its tables harms all
    found = []
    for number, body in rows(db, "SELECT id, body FROM dictionaries ORDER BY id"):
        if any(_opens(body, sample) for sample in samples):
            continue  # not the one, or sound
        best, opened = b"", 1
        for changed in _bits(body):
            if _opens(changed, samples[0]):  # a wrong table may open some, so the most count
                count = sum(_opens(changed, sample) for sample in samples)
                best, opened = (changed, count) if count > opened else (best, opened)
                if count == len(samples):
                    break
        if best:
            found.append((number, best))
    return found


def _opens(body: bytes, sample: tuple[bytes, Wrong]) -> bool:
    """Return whether a dictionary turns a packed entry into what was written."""
    import zstandard

    data, problem = sample
    try:
        dictionary = zstandard.ZstdCompressionDict(body)
        raw = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(data, max_output_size=MOST_BYTES)
    except (zstandard.ZstdError, MemoryError):
        return False
    return fits(problem.parts._replace(payload=raw), problem.previous)


def _bits(body: bytes) -> Iterator[bytes]:
    """Yield `body` with each of its bits turned, one at a time, for a few minutes."""
    until = time.monotonic() + UNPACK_S
    changed = bytearray(body)
    for at in range(len(body)):
        for bit in range(8):
            changed[at] ^= 1 << bit
            yield bytes(changed)
            changed[at] ^= 1 << bit
        if time.monotonic() > until:
            return
