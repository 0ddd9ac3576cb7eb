"""Sessions on their way out and in: as the very lines of the journal, with the hashes they were recorded with.

What comes in becomes a journal file, written aside, synced, and put in place by one rename: from then on it is folded
like what any process recorded, and a crash leaves all of it or nothing. Lines from elsewhere are checked first for
everything the fold relies on. Refuses: to decide what is taken in, and under which id (`core/archive.py` does).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from xxhash import xxh3_64_intdigest

from p8.errors import FormatError, NotFound, StoreError
from p8.model import ID_PATTERN, Entry, Status
from p8.store.batch import COLUMNS
from p8.store.pack import expand
from p8.store.plain import load, plain
from p8.store.segments import chained

if TYPE_CHECKING:
    from p8.store.manager import PersistenceManager

PAGE = 400
KIND = re.compile(r"[\w.:-]{1,40}", re.ASCII)
#: years 1 to 9999, in microseconds since 1970: what a datetime can hold
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
LEASE = {"owner": str, "pid": int, "started": str, "boot": str, "host": str}
STATUSES = frozenset(map(str, Status))
_SELECT = "SELECT id, time, kind, data, hash FROM {} WHERE id BETWEEN ? AND ?"


class Record(NamedTuple):
    """One entry as it is carried."""

    seq: int
    time_us: int
    kind: str
    data: dict[str, Any] | None  #: in plain JSON form, `$p8` marks included; None where it cannot be read
    digest: int


class Carrier:
    """
    Takes sessions out of a store and puts them into one.

    Args:
        store: the store.
    """

    def __init__(self, store: PersistenceManager) -> None:
        self._store = store

    # out

    def records(self, stream: str, upto: int | None = None) -> Iterator[Record]:
        """Yield a stream's entries in order, a page in memory at a time. Raises StoreError, NotFound."""
        readers = self._store.readers
        found = readers.all("SELECT num, entries FROM streams WHERE id = ?", (stream,))
        if not found:
            raise NotFound(f"no session {stream}", "p8 session list shows them")
        num, newest = found[0]
        at, high = num << 32 | 1, num << 32 | min(newest, newest if upto is None else upto)
        both = " UNION ALL ".join(_SELECT.format(table) for table in ("entries", "packed"))
        while at <= high:
            with readers.get() as db:
                rows = db.execute(f"{both} ORDER BY 1 LIMIT {PAGE}", (at, high, at, high)).fetchall()
                some = [self._record(db, row) for row in rows]
            yield from some
            if len(rows) < PAGE:
                return
            at = rows[-1][0] + 1

    def _record(self, db: Any, row: tuple[Any, ...]) -> Record:
        key, time_us, kind, stored, digest = row
        try:
            text = stored if isinstance(stored, str) else self._store.codec.unpack(stored, db)
            data = orjson.loads(text)
            if "$large" in data:
                body = db.execute("SELECT size, body FROM large WHERE id = ?", (key,)).fetchone()
                data = orjson.loads(expand(body[1], body[0])) if body is not None else data
        except (StoreError, orjson.JSONDecodeError, TypeError):
            data = None
        usable = data if isinstance(data, dict) else None
        return Record(key & 0xFFFFFFFF, time_us, kind, usable, int.from_bytes(digest, "big"))

    def entries(self, session_id: str) -> Iterator[Entry]:
        """Yield what a session shows, a fork's parents' entries first, a page in memory at a time."""
        for stream, upto in self.lineage(session_id):
            for record in self.records(stream, upto):
                data = data_of(record)
                data = {"content": "[this entry is damaged]", "damaged": True} if data is None else data
                yield Entry(stream, record.seq, record.time_us, record.kind, data)

    def lineage(self, session_id: str) -> list[tuple[str, int | None]]:
        """Return a session and its ancestors, oldest first, each with the last entry that counts; None for all."""
        parts: list[tuple[str, int | None]] = []
        at, upto = session_id, None
        while at and len(parts) < 1000 and at not in {stream for stream, _ in parts}:
            rows = self._store.read("SELECT parent, fork_seq FROM sessions WHERE id = ?", (at,))
            if not rows and parts:
                break
            parts.append((at, upto))
            at, upto = rows[0] if rows else (None, None)
        return parts[::-1]

    # in

    def stage(self, lines: Iterable[bytes]) -> Staged:
        """
        Write lines into a file beside the journal, durable, that nobody reads yet.

        Raises:
            StoreError: the disk refuses; nothing is left of it.
        """
        self._store.drain()
        return Staged(self._store.journal.folder, lines)

    def hold(self, sessions: Iterable[str]) -> None:
        """Hold sessions that are about to come in, so that nobody takes them for left by a dead process."""
        me, now = self._store.leases.me, self._store.clock()
        rows = [(name, me.owner, me.pid, me.started, me.boot, me.host, now) for name in sessions]
        self._store.keeper.write(
            lambda db: db.executemany("INSERT OR IGNORE INTO leases VALUES (?,?,?,?,?,?,?,1)", rows)
        )

    def let_go(self, sessions: Iterable[str]) -> None:
        """Stop holding sessions that did not come in."""
        rows = [(name, self._store.leases.me.owner) for name in sessions]
        with contextlib.suppress(StoreError):
            self._store.keeper.write(
                lambda db: db.executemany("DELETE FROM leases WHERE session = ? AND owner = ?", rows)
            )


class Staged:
    """A journal file that waits to be put in its place."""

    def __init__(self, folder: Path, lines: Iterable[bytes]) -> None:
        stem = f"{time.strftime('%Y%m%d%H%M%S', time.gmtime())}-{os.getpid()}-{os.urandom(3).hex()}"
        self._young, self._path = folder / f"import-{stem}.new", folder / f"{stem}-0001.jsonl"
        self.entries = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(folder)
            self._fd = os.open(self._young, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror}", "nothing was taken in") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with open(self._fd, "wb", closefd=False) as file:
                for line in lines:
                    file.write(line)
                    self.entries += 1
            os.fsync(self._fd)
        except OSError as error:
            self.discard()
            raise StoreError(f"{folder}: {error.strerror}", "free some space; nothing was taken in") from error
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Put it in its place: from now on it is part of the journal, and survives a power cut. Raises StoreError."""
        try:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{self._path.parent}: {error.strerror}", "nothing was taken in") from error
        try:
            self._young.rename(self._path)
            with contextlib.suppress(OSError):
                os.fsync(folder)
        except OSError as error:
            raise StoreError(f"{self._path.parent}: {error.strerror}", "nothing was taken in") from error
        finally:
            os.close(folder)
            self._close()

    def discard(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self._young.unlink()
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _sweep(folder: Path) -> None:
    """Remove what an import that was killed has left: its file's lock can be had."""
    for path in folder.glob("import-*.new"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(fd)


# lines


def data_of(record: Record) -> Any:
    """Return a record's data as it was recorded; None where it cannot be read."""
    with contextlib.suppress(StoreError, ValueError):
        return None if record.data is None else load(orjson.dumps(record.data))
    return None


def with_data(record: Record, change: Callable[[Any], Any]) -> Record:
    """Return a record whose data went through `change`, which sees and gives values as they were recorded."""
    if record.data is None:
        return record
    return record._replace(data=plain(change(load(orjson.dumps(record.data)))))


def line_of(stream: str, record: Record, previous: int, digest: int | None = None) -> tuple[bytes, int]:
    """
    Return an entry's line and its hash.

    Args:
        stream: the session it belongs to.
        record: the entry; its data must be readable.
        previous: the hash of the entry before it.
        digest: the hash to write; the one that fits the chain where none is given.
    """
    body = orjson.dumps(
        {"s": stream, "q": record.seq, "t": record.time_us, "k": record.kind, "d": record.data},
        None,
        orjson.OPT_APPEND_NEWLINE,
    )
    made = xxh3_64_intdigest(body, previous) if digest is None else digest
    return b'{"h":"%016x",%b' % (made, body[1:]), made


def fits(line: bytes, record: Record, previous: int) -> bool:
    """Return whether a line's hash is the one it must have after an entry whose hash is `previous`."""
    return chained(line, previous) == record.digest


def root_of(record: Record) -> int:
    """Return what a stream that begins with this entry is chained to: for a fork, its parent's entry."""
    root = record.data.get("chained_to") if record.data is not None and record.kind == "session" else None
    if isinstance(root, str) and re.fullmatch(r"[0-9a-f]{16}", root):
        return int(root, 16)
    return 0


def record_from(line: bytes, stream: str, after: int) -> Record:
    """
    Read a line from elsewhere.

    Args:
        line: with its end.
        stream: the session it must belong to.
        after: the sequence number it must come after.

    Raises:
        FormatError: it is not such a line, to the byte, or it says what the fold must not be told.
    """
    place = f"an entry after {after} of {stream}"
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"{place} is not JSON") from error
    if not isinstance(found, dict) or list(found) != ["h", "s", "q", "t", "k", "d"] or found["s"] != stream:
        raise FormatError(f"{place} is not an entry of it")
    seq, at, kind, data = found["q"], found["t"], found["k"], found["d"]
    if type(seq) is not int or not after < seq < 1 << 32 or type(at) is not int or not isinstance(data, dict):
        raise FormatError(f"{place} is out of order")
    why = _why_not(stream, at, kind, data)
    if why:
        raise FormatError(f"entry {seq} of {stream}: {why}")
    head = found["h"]
    digest = int(head, 16) if isinstance(head, str) and re.fullmatch(r"[0-9a-f]{16}", head) else -1
    record = Record(seq, at, kind, data, digest)
    if digest < 0 or line_of(stream, record, 0, digest)[0] != line:
        raise FormatError(f"entry {seq} of {stream} is not written as P8 writes it")
    return record


def _why_not(stream: str, at: int, kind: Any, data: dict[str, Any]) -> str:
    """Return what is wrong with an entry from elsewhere."""
    if not EARLIEST_US <= at <= LATEST_US:
        return "its time is none"
    if not isinstance(kind, str) or KIND.fullmatch(kind) is None:
        return "its kind is none"
    try:
        said = load(orjson.dumps(data))
    except (StoreError, ValueError, TypeError, KeyError, RecursionError):
        return "its data cannot be read"
    for name, most in (("tokens_in", 2**40), ("tokens_out", 2**40), ("cost", 1e12)):
        value = data.get(name)
        if isinstance(value, int | float) and not -most <= value <= most:
            return f"{name} is out of bounds"
    if kind == "session" and isinstance(data.get("chained_to", ""), str):
        return _why_not_about(stream, said)
    return "it is chained to nothing" if kind == "session" else ""


def _why_not_about(stream: str, data: dict[str, Any]) -> str:
    """Return what is wrong with what an entry says about a session: the fold acts on it."""
    about = data.get("about")
    if about is not None and about != stream:
        return "it speaks of another session"
    if not isinstance(data.get("what", ""), str) or not isinstance(data.get("owner") or "", str):
        return "it says nothing that is known"
    lease = data.get("lease")
    if isinstance(lease, dict):
        fits = lease.keys() == LEASE.keys() and all(type(lease[name]) is sort for name, sort in LEASE.items())
        if not fits or not 0 <= lease["pid"] < 2**31:
            return "its lease is none"
    values = data.get("set")
    if not isinstance(values, dict):
        return ""
    for name, value in values.items():
        sort = COLUMNS.get(name)
        if sort is not None and isinstance(value, sort) and not _fits(name, value):
            return f"{name} cannot be {str(value)[:40]!r}"
    return ""


def _fits(name: str, value: Any) -> bool:
    if name in {"ended", "trashed"}:
        return EARLIEST_US <= int(value) <= LATEST_US
    if name == "fork_seq":
        return 0 <= int(value) < 1 << 32
    if name == "status":
        return value in STATUSES
    if name == "parent":
        return ID_PATTERN.fullmatch(value.split("~")[0]) is not None
    return all(isinstance(tag, str) for tag in value) if name == "tags" else True
