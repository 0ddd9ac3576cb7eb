"""Compression: what is large, and what is closed.

A closed session's entries move from `entries` to `packed`, each compressed on its own with a dictionary trained on
this store's own text: as small as blocks of 64 would be, and still one row an entry (PERFORMANCE section 5).
Refuses: to touch a session that is active, was used lately, or whose entries do not come back byte for byte.
"""

from __future__ import annotations

from typing import Any

from p8.errors import StoreError

LEVEL = 9
DICTIONARY_BYTES = 112_640
TRAIN_ROWS = 12_000
TRAIN_MINIMUM_BYTES = 2 << 20  #: with less text than this there is nothing worth training on
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
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    except zstandard.ZstdError as error:
        raise StoreError(f"damaged entry: {error}", "p8 doctor finds and reports damage") from error


class Codec:
    """Compresses and expands single entries with the store's dictionaries; knows all that were ever used."""

    def __init__(self) -> None:
        self._decompressors: dict[int, Any] = {}
        self._compressor: Any = None
        self._newest = 0

    def load(self, db: Any) -> bool:
        """Read dictionaries that are not known yet; return whether there is one to compress with."""
        import zstandard

        for number, body in db.execute("SELECT id, body FROM dictionaries WHERE id > ? ORDER BY id", (self._newest,)):
            dictionary = zstandard.ZstdCompressionDict(body)
            self._decompressors[dictionary.dict_id()] = zstandard.ZstdDecompressor(dict_data=dictionary)
            self._compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary)
            self._newest = number
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
        import zstandard

        try:
            number = zstandard.get_frame_parameters(data).dict_id
            if number not in self._decompressors:
                self.load(db)
            return self._decompressors[number].decompress(data).decode()  # type: ignore[no-any-return]
        except (zstandard.ZstdError, KeyError, UnicodeDecodeError) as error:
            raise StoreError(f"damaged packed entry: {error!r}", "p8 doctor finds and reports damage") from error


def train(db: Any, now_us: int) -> bool:
    """Make the store's first dictionary, once there is enough text; return whether there is one now."""
    import zstandard

    if db.execute("SELECT 1 FROM dictionaries LIMIT 1").fetchone():
        return True
    if (db.execute("SELECT sum(bytes) FROM sessions").fetchone()[0] or 0) < TRAIN_MINIMUM_BYTES:
        return False
    keys = [row[0] for row in db.execute("SELECT id FROM entries WHERE kind <> 'session' LIMIT 400000")]
    import random

    chosen = random.Random(len(keys)).sample(keys, min(TRAIN_ROWS, len(keys)))
    samples: list[Any] = [
        row[0].encode()
        for key in chosen
        if isinstance((row := db.execute("SELECT data FROM entries WHERE id = ?", (key,)).fetchone())[0], str)
    ]
    try:
        body = zstandard.train_dictionary(DICTIONARY_BYTES, samples).as_bytes()
    except zstandard.ZstdError:
        return False
    db.execute("INSERT INTO dictionaries (created, body) VALUES (?,?)", (now_us, body))
    return True


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
