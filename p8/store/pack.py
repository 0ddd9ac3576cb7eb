"""Compression: what is large, and what is closed.

A closed session's entries move from `entries` to `packed`, each compressed on its own with a dictionary trained on
this store's own text: as small as blocks of 64 would be, and still one row an entry (PERFORMANCE section 5).
Refuses: to touch a session that is active, was used lately, or whose entries do not come back byte for byte.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator

from p8.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEVEL = 9
DICTIONARY_BYTES = 112_640
TRAIN_ROWS = 12_000
TRAIN_MINIMUM_BYTES = 2 << 20  #: with less text than this there is nothing worth training on
MOST_BYTES = 1 << 20  #: no packed payload is larger: what is large is out of line
PIECE = 6  #: bytes of a dictionary that say nothing of anybody, when shorter
SMALL_BYTES = 48  #: shorter payloads stay as they are
QUIET_US = 86_400_000_000  #: a session is left alone for a day after its last entry


def compress(payload: bytes) -> bytes:
    """Return `payload` as a zstd frame without a dictionary."""
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL if len(payload) < 1 << 22 else 3).compress(payload)


def expand(body: bytes, size: int) -> bytes:
    """
    Undo `compress`.

    Raises:
        StoreError: the bytes are damaged.
    """
    import zstandard

    try:
        if zstandard.get_frame_parameters(body).content_size != size:
            raise StoreError("damaged entry: its size is another", "p8 doctor finds and reports damage")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    except (zstandard.ZstdError, MemoryError) as error:
        raise StoreError(f"damaged entry: {error}", "p8 doctor finds and reports damage") from error


class Own(threading.local):
    """A thread's decompressors, by dictionary."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}


class Codec:
    """
    Compresses and expands single entries with the store's dictionaries; knows all that were ever used.

    Any thread may expand: each has decompressors of its own, as one that two threads use at once ends the process.
    To compress is for whoever holds the fold's lock.
    """

    def __init__(self) -> None:
        self._dictionaries: dict[int, Any] = {}
        self._own = Own()
        self._making = threading.Lock()
        self._compressor: Any = None
        self._known: list[tuple[int, int]] = []

    def load(self, db: Any) -> bool:
        """Read the dictionaries, if they are others than before; return whether there is one to compress with."""
        import zstandard

        known = db.execute("SELECT id, created FROM dictionaries ORDER BY id").fetchall()
        if known != self._known:
            self._compressor = None
            for (body,) in db.execute("SELECT body FROM dictionaries ORDER BY id"):
                dictionary = zstandard.ZstdCompressionDict(body)
                self._dictionaries.setdefault(dictionary.dict_id(), dictionary)
                self._compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary)
            self._known = known
        return self._compressor is not None

    def pack(self, text: str) -> bytes | str:
        """Return what to keep for an entry's data: compressed, or the text itself where that is shorter."""
        raw = text.encode()
        if len(raw) < SMALL_BYTES:
            return text
        body = self._compressor.compress(raw)
        return body if len(body) < len(raw) else text

    def unpack(self, data: bytes | str, db: Any) -> str:
        """
        Return an entry's data as it was.

        Raises:
            StoreError: damaged, or its dictionary is gone.
        """
        if isinstance(data, str):
            return data
        try:
            return self.expand(data, db).decode()
        except UnicodeDecodeError as error:
            raise StoreError(f"damaged packed entry: {error!r}", "p8 doctor finds and reports damage") from error

    def _decompressor(self, dictionary: int, db: Any) -> Any:
        """Make this thread's. Raises KeyError: the dictionary is gone."""
        import zstandard

        if dictionary not in self._dictionaries:
            self.load(db)
        with self._making:  # the first one digests the dictionary, which all share
            made = zstandard.ZstdDecompressor(dict_data=self._dictionaries[dictionary])
        self._own.made[dictionary] = made
        return made

    def expand(self, data: bytes, db: Any) -> bytes:
        """Return the bytes that `pack` compressed. Raises StoreError as `unpack` does."""
        import zstandard

        try:
            frame = zstandard.get_frame_parameters(data)
            if frame.content_size > MOST_BYTES:
                raise StoreError("damaged packed entry: its size makes no sense", "p8 doctor finds and reports damage")
            made = self._own.made.get(frame.dict_id) or self._decompressor(frame.dict_id, db)
            return made.decompress(data)  # type: ignore[no-any-return]
        except (zstandard.ZstdError, KeyError, MemoryError) as error:
            raise StoreError(f"damaged packed entry: {error!r}", "p8 doctor finds and reports damage") from error


def train(db: Any, now_us: int) -> bool:
    """Make the store's first dictionary, once there is enough text; return whether there is one now."""
    if db.execute("SELECT 1 FROM dictionaries LIMIT 1").fetchone():
        return True
    if (db.execute("SELECT sum(bytes) FROM sessions").fetchone()[0] or 0) < TRAIN_MINIMUM_BYTES:
        return False
    body = _dictionary(_samples(db, Codec()))
    if body is not None:
        db.execute("INSERT INTO dictionaries (created, body) VALUES (?,?)", (now_us, body))
    return body is not None


def _dictionary(samples: list[Any]) -> bytes | None:
    import zstandard

    try:
        trained: bytes = zstandard.train_dictionary(DICTIONARY_BYTES, samples).as_bytes()
    except (zstandard.ZstdError, ValueError):
        return None
    return trained


def _samples(db: Any, codec: Codec) -> list[Any]:
    """Return texts of entries, chosen by chance."""
    import random

    keys = [
        (table, row[0])
        for table in ("entries", "packed")
        for row in db.execute(f"SELECT id FROM {table} WHERE kind <> 'session' LIMIT 400000")
    ]
    found = []
    for table, key in random.Random(len(keys)).sample(keys, min(TRAIN_ROWS, len(keys))):
        data = db.execute(f"SELECT data FROM {table} WHERE id = ?", (key,)).fetchone()[0]
        with contextlib.suppress(StoreError):
            found.append(data.encode() if isinstance(data, str) else codec.expand(data, db))
    return found


def forget(db: Any, codec: Codec, texts: Iterable[bytes], now_us: int) -> bool:
    """
    See to it that no dictionary holds a piece of `texts` that nothing else holds; they were trained on what was said.

    Args:
        db: a connection in a transaction; the texts are in it no more.
        codec: of this process.
        texts: what was removed.
        now_us: the time.

    Returns:
        whether the packed entries had to be packed anew.
    """
    old = db.execute("SELECT id, body FROM dictionaries ORDER BY id").fetchall()
    pieces = {body[at : at + PIECE] for _, body in old for at in range(len(body) - PIECE + 1)}
    found = {text[at : at + PIECE] for text in texts for at in range(len(text) - PIECE + 1)} if pieces else set()
    found &= pieces
    for chunk in _chunks(db, codec) if found else ():
        found = {piece for piece in found if piece not in chunk}
    if not found:
        return False
    codec.load(db)
    body = _dictionary(_samples(db, codec))
    fresh = Codec()
    if body is not None:
        db.execute("INSERT INTO dictionaries VALUES (?,?,?)", (old[-1][0] + 1, now_us, body))
        fresh.load(db)
    for key, data in _blobs(db):
        text = codec.unpack(data, db)
        db.execute("UPDATE packed SET data = ? WHERE id = ?", (fresh.pack(text) if body is not None else text, key))
    db.execute("DELETE FROM dictionaries WHERE id <= ?", (old[-1][0],))
    return True


def _blobs(db: Any) -> Iterator[tuple[int, bytes]]:
    """Yield what is compressed; it may be changed meanwhile."""
    at = -1
    while some := db.execute(
        "SELECT id, data FROM packed WHERE id > ? AND typeof(data) = 'blob' ORDER BY id LIMIT 2000", (at,)
    ).fetchall():
        yield from some
        at = some[-1][0]


def _chunks(db: Any, codec: Codec) -> Iterator[bytes]:
    """Yield everything that is stored, a megabyte at a time."""
    held: list[bytes] = []
    size = 0
    for (data,) in db.execute("SELECT data FROM entries UNION ALL SELECT data FROM packed"):
        with contextlib.suppress(StoreError):
            held.append(data.encode() if isinstance(data, str) else codec.expand(data, db))
            size += len(held[-1])
        if size > 1 << 20:
            yield b"\n".join(held)
            held, size = [], 0
    yield b"\n".join(held)


def pack_one(db: Any, codec: Codec, now_us: int, quiet_us: int = QUIET_US) -> int:
    """
    Pack the oldest closed session that is not packed yet. The caller holds the fold's lock.

    Returns:
        how many entries were packed; 0 when there is nothing to do.
    """
    found = db.execute(
        "SELECT s.num, t.entries FROM sessions s JOIN streams t USING (num) LEFT JOIN leases l ON l.session = s.id"
        " WHERE s.packed < t.entries AND s.status <> 'active' AND s.last < ? AND l.session IS NULL LIMIT 1",
        (now_us - quiet_us,),
    ).fetchone()
    if found is None or not (train(db, now_us) and codec.load(db)):
        return 0
    num, newest = found
    low, high = num << 32, (num + 1 << 32) - 1
    db.execute("BEGIN IMMEDIATE")
    try:
        rows = db.execute(
            "SELECT id, time, kind, role, data, hash FROM entries WHERE id BETWEEN ? AND ? ORDER BY id", (low, high)
        ).fetchall()
        small = [(*row[:4], codec.pack(row[4]), row[5]) for row in rows]
        _compare(rows, small, codec, db)
        db.executemany("INSERT INTO packed VALUES (?,?,?,?,?,?)", small)
        db.execute("DELETE FROM entries WHERE id BETWEEN ? AND ?", (low, high))
        db.execute("UPDATE sessions SET packed = ? WHERE num = ?", (newest, num))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return len(rows)


def _compare(rows: list[Any], small: list[Any], codec: Codec, db: Any) -> None:
    if any(codec.unpack(kept[4], db) != row[4] for kept, row in zip(small, rows, strict=True)):
        raise StoreError("packing would change an entry", "the session was left as it is")
