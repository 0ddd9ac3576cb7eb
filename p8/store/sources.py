"""Where an entry that is lost may still be: journals, kept bytes, backups, damaged copies, the raw pages of those.

Whatever is found is taken only when its hash says that it stood in that very place. Refuses: to open the live
database; to change a copy.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import pairwise
from pathlib import Path
from typing import Any

from p8.errors import StoreError
from p8.store.chain import Parts, Place, claims, fits, mend_line, parts_of
from p8.store.journalcheck import root_of
from p8.store.pack import Codec, expand
from p8.store.reading import SEQ, rows
from p8.store.segments import segments
from p8.store.sqlite import driver

#: the header of a row of `entries` or `packed` as SQLite writes it: id, time, kind, role, data, hash
RECORD = re.compile(rb"[\x07-\x0b]\x00[\x05\x06][\x0d-\x7f][\x0d-\x7f][\x80-\xff]{0,3}[\x00-\x7f]\x1c")
HEAD = 16  #: bytes that hold a row's header
MOST_BROKEN = 5000
FEW = 30  #: kept lines that are all tried for every place
COPIES = ("p8.db.*.bak", "p8.db.damaged-*", "damaged/*/p8.db*")
LINE = b'{"h":"'
Kept = tuple[str, int, bytes]  #: segment, offset, bytes


class Sources:
    """
    Everything beside the database that may hold entries.

    Args:
        home: the home.
        folders: where journals are.
        keys: of the entries that are looked for.
        kept: bytes of journals that were no entries.
        strays: entries that stand where they do not belong.

    Attributes:
        used: the kept bytes in which something was found.
    """

    def __init__(
        self,
        home: Path,
        folders: Iterable[Path],
        keys: AbstractSet[int],
        kept: Iterable[Kept] = (),
        strays: Iterable[Parts] = (),
    ) -> None:
        self.used: set[tuple[str, int]] = set()
        self._strays = list(strays)
        self._home = home
        self._keys = keys
        self._folders = [*folders, *sorted(p for p in (home / "damaged").glob("*") if p.is_dir())]
        self._kept = joined(sorted(kept))
        self._lines: dict[tuple[str, int], list[Parts]] | None = None
        self._carved: dict[int, list[Parts]] | None = None
        self._copies: list[tuple[Any, Codec]] | None = None
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """Let go of the copies."""
        self._stack.close()

    def find(self, place: Place, num: int) -> Parts | None:
        """
        Return the entry that stood at a place.

        Args:
            place: stream, number, and the hash of the entry before it; of a stream's first entry, that is its own.
            num: the stream's number.
        """
        for candidate in self._candidates(place, num):
            if (found := _placed(candidate, place)) is not None:
                return found
        for line, where in self._kept:
            if len(self._kept) > FEW and not {place.stream, place.seq} & {*claims(line)}:
                continue
            for mended in (line, mend_line(line, [place])):
                parts = parts_of(mended) if mended is not None else None
                if parts is not None and (found := _placed(parts, place)) is not None:
                    self.used.update(where)
                    return found
        return None

    def _candidates(self, place: Place, num: int) -> Iterator[Parts]:
        yield from self._written().get((place.stream, place.seq), ())
        for db, codec in self._databases():
            yield from _rows_of(db, codec, place)
        yield from self._strays
        yield from self._raw().get(num << 32 | place.seq, ())

    def _written(self) -> dict[tuple[str, int], list[Parts]]:
        """Return the lines of all journal files that can be read, by stream and number."""
        if self._lines is None:
            self._lines = {}
            files = (path for folder in self._folders for path in segments(folder))
            for found in map(parts_of, (line for path in files for line in _lines(path))):
                if found is not None:
                    self._lines.setdefault((found.stream, found.seq), []).append(found)
        return self._lines

    # copies of the database

    def copies(self) -> list[Path]:
        """Return the files that are copies of the database, newest first."""
        found = [path for pattern in COPIES for path in self._home.glob(pattern)]
        return sorted((p for p in found if not p.name.endswith(("-wal", "-shm"))), reverse=True)

    def _databases(self) -> list[tuple[Any, Codec]]:
        if self._copies is None:
            self._copies = []
            for path in self.copies():
                with contextlib.suppress(driver.Error, OSError):
                    self._copies.append((self._opened(path), Codec()))
        return self._copies

    def _opened(self, path: Path) -> Any:
        """Open a copy so that it is not changed: one with a log beside it is copied once more."""
        log = Path(f"{path}-wal")
        uri = "file:" + str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        if log.exists() and log.stat().st_size:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent, prefix=".look-")))
            for suffix in ("", "-wal"):
                (folder / f"copy{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
            uri = f"file:{folder / 'copy'}?mode=rw"
        else:
            uri += "?mode=ro&immutable=1"
        db = driver.connect(uri, uri=True, isolation_level=None)
        self._stack.callback(db.close)
        db.text_factory = bytes
        db.execute("PRAGMA trusted_schema = OFF")
        return db

    def _raw(self) -> dict[int, list[Parts]]:
        """Return what can be cut out of the pages of damaged copies, by key, whatever SQLite says of the pages."""
        if self._carved is None:
            self._carved = {}
            unpack = _Expander(self._databases())
            for raw in self._bytes():
                for key, parts in carve(raw, self._keys, unpack):
                    self._carved.setdefault(key, []).append(parts)
        return self._carved

    def names(self) -> set[str]:
        """Return everything in the copies that is shaped like a session's id."""
        return {m.decode() for raw in self._bytes() for m in re.findall(rb"\d{8}-\d{6}-\d{6}-[0-9a-f]{4}", raw)}

    def _bytes(self) -> Iterator[Any]:
        for path in self.copies():
            for file in (path, Path(f"{path}-wal")):
                with (
                    contextlib.suppress(OSError, ValueError),
                    file.open("rb") as opened,
                    mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as raw,
                ):
                    yield raw


def _placed(parts: Parts, place: Place) -> Parts | None:
    """Return an entry as that of a place, if it was written there."""
    tried = parts._replace(stream=place.stream, seq=place.seq)
    root = root_of(tried.kind, tried.payload) if place.seq == 1 and tried.kind == "session" else 0
    return tried if fits(tried, root or place.previous) else None


class _Expander:
    """Expands packed data with any dictionary of the copies."""

    def __init__(self, pairs: list[tuple[Any, Codec]]) -> None:
        self._pairs = pairs

    def __call__(self, data: bytes) -> bytes | None:
        for db, codec in self._pairs:
            with contextlib.suppress(StoreError, driver.Error):
                expanded: bytes = codec.expand(data, db)
                return expanded
        return None


def _rows_of(db: Any, codec: Codec, place: Place) -> Iterator[Parts]:
    for (num,) in rows(db, "SELECT num FROM streams WHERE id = ?", place.stream):
        key = num << 32 | place.seq
        for table in ("entries", "packed"):
            sql = f"SELECT time, kind, data, hash FROM {table} WHERE id = ?"
            for time_us, kind, data, digest in rows(db, sql, key):
                payload: bytes | None = data
                with contextlib.suppress(StoreError, driver.Error, TypeError):
                    if data[:4] == b"\x28\xb5\x2f\xfd":
                        payload = codec.expand(data, db)
                    if payload is not None and payload.startswith(b'{"$large":'):
                        body = rows(db, "SELECT body, size FROM large WHERE id = ?", key)
                        payload = expand(*body[0]) if body else None
                    if payload is not None:
                        kind_text = kind.decode("utf-8", "replace")
                        yield Parts(place.stream, place.seq, time_us, kind_text, payload, int.from_bytes(digest, "big"))


def _lines(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(OSError), path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def joined(kept: list[Kept]) -> list[tuple[bytes, tuple[tuple[str, int], ...]]]:
    """
    Return kept bytes as the lines they may have been, each with where it was found.

    A wrong bit can make a line's end no end, or put an end into a line; both are undone here.
    """
    found: list[tuple[bytes, tuple[tuple[str, int], ...]]] = []
    for index, (segment, offset, raw) in enumerate(kept):
        where = (segment, offset)
        cuts = [0, *(at for at in _places(raw, LINE) if at), len(raw) + 1]
        if len(cuts) > 2:
            found += [(raw[a : b - 1], (where,)) for a, b in pairwise(cuts)]
        found.append((raw, (where,)))
        if index + 1 < len(kept):
            other, next_offset, more = kept[index + 1]
            if other == segment and next_offset == offset + len(raw) + 1:
                found.append((raw + b"\n" + more, (where, (other, next_offset))))
    return [(line, where) for line, where in found if line.strip(b"\0")]


def _places(raw: bytes, wanted: bytes) -> Iterator[int]:
    at = raw.find(wanted)
    while at >= 0:
        yield at
        at = raw.find(wanted, at + 1)


# cutting rows out of pages


def carve(raw: Any, keys: AbstractSet[int], unpack: Callable[[bytes], bytes | None]) -> Iterator[tuple[int, Parts]]:
    """Yield (key, entry) for everything in a file's bytes that is shaped like a row of entries with one of `keys`."""
    whole = raw[:16] == b"SQLite format 3\0"
    page = int.from_bytes(raw[16:18], "big") if whole else 4096
    page = 65536 if page == 1 else page if 512 <= page <= 32768 else 4096
    for at, head, key, size in _cells(raw, keys):
        record = _record(raw, at, size, page, whole)
        fields = _fields(head + record[len(head) :]) if record is not None else None
        if fields is None:
            continue
        time_us, kind, data, digest, is_text = fields
        payload = data if is_text else unpack(data)
        if payload is not None and not payload.startswith(b'{"$large":'):
            yield key, Parts("", key & SEQ, time_us, kind, payload, digest)


def _cells(raw: Any, keys: AbstractSet[int]) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield (offset of the record, its first bytes, key, size) of rows with one of `keys`, also one wrong bit off."""
    broken: list[int] = []
    missing = set(keys)
    for match in RECORD.finditer(raw):
        at = match.start()
        cell = _cell(raw, at)
        if cell is None:
            broken += [at] if len(broken) < MOST_BROKEN else []
        elif cell[0] in keys:
            missing.discard(cell[0])
            yield at, raw[at : at + HEAD], *cell
        else:
            for key in {cell[0] ^ 1 << bit for bit in range(56)} & keys:
                yield at, raw[at : at + HEAD], key, cell[1]
    for key in list(missing)[:MOST_BROKEN]:
        number = _as_varint(key)
        broken += [at + len(number) for at in _places(raw, number)][:8]
    for at in broken:
        window = bytearray(raw[max(at - HEAD, 0) : at + HEAD])
        middle = min(at, HEAD)
        for bit in range((middle - 12) * 8 if middle > 12 else 0, len(window) * 8):
            window[bit >> 3] ^= 1 << (bit & 7)
            cell = _cell(window, middle)
            if cell is not None and cell[0] in keys:
                yield at, bytes(window[middle:]), *cell
            window[bit >> 3] ^= 1 << (bit & 7)


def _as_varint(value: int) -> bytes:
    """Return a number as SQLite writes it (below 2**56)."""
    found = [value & 0x7F]
    while value := value >> 7:
        found.insert(0, value & 0x7F | 0x80)
    return bytes(found)


def _cell(raw: Any, at: int) -> tuple[int, int] | None:
    """Return key and size of the row whose record begins at `at`, from the two numbers that stand before it."""
    for back in range(3, 13):
        start = at - back
        if start < 0:
            return None
        size, after = _varint(raw, start)
        key, end = _varint(raw, after)
        if end == at and size > 16 and key >> 32:
            lengths = _lengths(raw[at : at + 16])
            if lengths is not None and sum(lengths[1]) + lengths[0] == size:
                return key, size
    return None


def _varint(raw: Any, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = raw[at + index] if at + index < len(raw) else 0
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    return value << 8 | (raw[at + 8] if at + 8 < len(raw) else 0), at + 9


def _lengths(record: bytes) -> tuple[int, list[int], list[int]] | None:
    """Return a record's header size, and the lengths and types of its six fields."""
    size, at = record[0], 1
    types: list[int] = []
    while at < size and len(types) < 6:
        kind, at = _varint(record, at)
        types.append(kind)
    if len(types) != 6 or at != size:
        return None
    fixed = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
    return size, [fixed.get(kind, (kind - 12) // 2 if kind >= 12 else 0) for kind in types], types


def _record(raw: Any, at: int, size: int, page: int, whole: bool) -> bytes | None:
    """Return a row's bytes, following its overflow pages."""
    most = page - 35
    if size <= most:
        return bytes(raw[at : at + size])
    if not whole:
        return None
    least = (page - 12) * 32 // 255 - 23
    local = least + (size - least) % (page - 4)
    local = local if local <= most else least
    found = bytearray(raw[at : at + local])
    following = int.from_bytes(raw[at + local : at + local + 4], "big")
    while len(found) < size and 0 < following <= len(raw) // page:
        start = (following - 1) * page
        found += raw[start + 4 : start + page][: size - len(found)]
        following = int.from_bytes(raw[start : start + 4], "big")
    return bytes(found) if len(found) == size else None


def _fields(record: bytes) -> tuple[int, str, bytes, int, bool] | None:
    lengths = _lengths(record[:16])
    if lengths is None:
        return None
    at, values = lengths[0], []
    for length in lengths[1]:
        values.append(record[at : at + length])
        at += length
    try:
        kind = values[2].decode("ascii")
    except UnicodeDecodeError:
        return None
    time_us = int.from_bytes(values[1], "big", signed=True)
    return time_us, kind, values[4], int.from_bytes(values[5], "big"), bool(lengths[2][4] & 1)
