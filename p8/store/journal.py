"""The writer's side of the journal: one JSON line, one `write`, per entry, in a file of this process's own.

A line is `{"h":HASH,"s":STREAM,"q":SEQ,"t":TIME_US,"k":KIND,"d":DATA}`. HASH is BLAKE2b-128 over the previous hash of the
same stream and the line without its hash: 16 bytes find any damage, at 60 % of what SHA-256 costs per entry.
Refuses: to know what entries mean, to touch the database, to lose a line because the disk is full.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from p8.errors import NotSaved, StoreError, UsageError
from p8.model import now_us

SEGMENT_BYTES = 8 << 20  #: a segment this long is closed and the next one begun
PENDING_ENTRIES = 65_536  #: more than this many unfolded entries are read back from the file instead of kept
PENDING_BYTES = 64 << 20
RESERVE_BYTES = 1 << 20  #: given up when the disk is full, so that the last entries still fit
GENESIS = b"0" * 32  #: what the first entry of a stream is chained to
STREAM_PATTERN = re.compile(r"[~a-zA-Z0-9._-]{1,120}")


class Line(NamedTuple):
    """One entry on its way into the database. `payload` is the exact JSON of the entry's data."""

    stream: str
    seq: int
    time_us: int
    kind: str
    role: str
    payload: bytes
    hash: bytes  #: 32 hexadecimal digits
    segment: str  #: name of the journal file
    end: int  #: offset behind the line in that file
    usage: tuple[int, int, float] | None  #: tokens in, tokens out, cost
    verified: bool  #: made by this process, so the chain need not be checked again


@dataclass(slots=True)
class Segment:
    """A journal file this process writes or has written."""

    path: Path
    fd: int
    size: int = 0
    synced: int = 0


@dataclass(slots=True)
class Chain:
    """Where a stream stands."""

    prefix: bytes
    seq: int = 0
    head: bytes = GENESIS


@dataclass(slots=True)
class Unwritten:
    """An entry that the disk would not take yet."""

    stream: str
    kind: str
    role: str
    payload: bytes
    time_us: int
    usage: tuple[int, int, float] | None = field(default=None)


class Journal:
    """
    Appends entries and makes them durable.

    Args:
        folder: where segments go; made on first use, mode 0700.
        spill: where they go when `folder` cannot be written (a read-only home), or None.
        clock: microseconds since 1970.

    Thread-safe. A forked child must not use it.
    """

    def __init__(self, folder: Path, spill: Path | None = None, clock: Callable[[], int] = now_us) -> None:
        self.folder = folder
        self.spill = spill
        self._clock = clock
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._chains: dict[str, Chain] = {}
        self._segment: Segment | None = None
        self._closed_segments: list[Segment] = []
        self._pending: list[Line] = []
        self._pending_bytes = 0
        self._gap = False
        self._unwritten: list[Unwritten] = []
        self._stem = f"{time.strftime('%Y%m%d%H%M%S', time.gmtime())}-{os.getpid()}-{secrets.token_hex(3)}"
        self._number = 0
        self._new_names = False
        self._torn = False
        self.recorded = 0
        self.deleted: list[Path] = []  #: files that `close` removed
        self.on_trouble: Callable[[OSError | None], None] = lambda _error: None

    def append(self, stream: str, kind: str, data: dict[str, Any], time_us: int | None = None) -> tuple[int, int]:
        """
        Write one entry; when this returns, it survives the death of the process.

        Returns:
            the entry's sequence number and its time, microseconds since 1970.

        Raises:
            NotSaved: the disk would not take it. It is kept in memory, in order, and written before the next one.
        """
        try:
            payload = orjson.dumps(data)
            if b"null" in payload and _has_nan(data):
                payload = orjson.dumps(plain(data))
        except (TypeError, RecursionError):
            payload = orjson.dumps(plain(data))
        role = data.get("role", "") if kind == "message" else ""
        usage = _usage(data) if "tokens_out" in data or "cost" in data else None
        with self._lock:
            at = time_us if time_us is not None else self._clock()
            if self._unwritten:
                self._retry_locked()
            if not self._unwritten:
                try:
                    return self._write(stream, kind, role if type(role) is str else "", payload, at, usage), at
                except OSError as error:
                    if self._trouble(error):
                        with contextlib.suppress(OSError):
                            return self._write(stream, kind, role, payload, at, usage), at
            self._unwritten.append(Unwritten(stream, kind, role, payload, at, usage))
            waiting = sum(1 for entry in self._unwritten if entry.stream == stream)
            seq = self._chain(stream).seq + waiting
        raise NotSaved(
            f"entry {seq} of {stream} is not on disk yet", "free some space; it is kept in memory and retried"
        )

    def _write(
        self, stream: str, kind: str, role: str, payload: bytes, at: int, usage: tuple[int, int, float] | None
    ) -> int:
        chain = self._chains.get(stream) or self._chain(stream)
        segment = self._segment
        if segment is None or segment.size >= SEGMENT_BYTES:
            segment = self._open_segment()
        seq = chain.seq + 1
        body = b'%b%d,"t":%d,"k":"%b","d":%b}\n' % (chain.prefix, seq, at, kind.encode(), payload)
        digest = blake2b(chain.head + body, digest_size=16).hexdigest().encode()
        line = b'{"h":"%b",%b' % (digest, body)
        if self._torn:  # a torn line may stand before: keep ours apart from it
            line = b"\n" + line
        written = os.write(segment.fd, line)
        if written != len(line):
            self._finish(segment, line, written)
        self._torn = False
        segment.size += len(line)
        chain.seq = seq
        chain.head = digest
        self.recorded += 1
        self._pending_bytes += len(payload)
        if self._gap or len(self._pending) >= PENDING_ENTRIES or self._pending_bytes > PENDING_BYTES:
            self._pending.clear()
            self._pending_bytes = 0
            self._gap = True
        else:
            self._pending.append(
                Line(stream, seq, at, kind, role, payload, digest, segment.path.name, segment.size, usage, True)
            )
        return seq

    def _finish(self, segment: Segment, line: bytes, written: int) -> None:
        """Write what a short write left over; else take the torn part back."""
        try:
            while written < len(line):
                more = os.write(segment.fd, line[written:])
                if more <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += more
        except OSError:
            try:
                os.ftruncate(segment.fd, segment.size)
            except OSError:
                self._torn = True
                segment.size += written
            raise

    def _trouble(self, error: OSError) -> bool:
        """Tell of a failed write; return whether the reserve made room for another try."""
        self.on_trouble(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            with contextlib.suppress(OSError):
                (self.folder / "reserve").unlink()
                return True
        return False

    def retry(self) -> bool:
        """Try to write what the disk refused; return whether nothing is waiting any more."""
        with self._lock:
            if self._unwritten:
                self._retry_locked()
            return not self._unwritten

    def _retry_locked(self) -> None:
        try:
            while self._unwritten:
                entry = self._unwritten[0]
                self._write(entry.stream, entry.kind, entry.role, entry.payload, entry.time_us, entry.usage)
                self._unwritten.pop(0)
        except OSError as error:
            self._trouble(error)
        else:
            self.on_trouble(None)

    def _chain(self, stream: str) -> Chain:
        chain = self._chains.get(stream)
        if chain is None:
            if not STREAM_PATTERN.fullmatch(stream):
                raise UsageError(f"not a stream name: {stream[:60]!r}")
            chain = self._chains[stream] = Chain(b'"s":"%b","q":' % stream.encode())
        return chain

    def adopt(self, stream: str, seq: int, head: bytes) -> None:
        """Continue a stream after its entry `seq`, whose hash is `head` (32 hexadecimal digits)."""
        with self._lock:
            chain = self._chain(stream)
            chain.seq = seq
            chain.head = head or GENESIS

    def position(self, stream: str) -> tuple[int, bytes]:
        """Return the last sequence number written to a stream and its hash."""
        with self._lock:
            chain = self._chain(stream)
            return chain.seq, chain.head

    def forget(self, stream: str) -> None:
        """Drop what is remembered about a stream that this process will not write to again."""
        with self._lock:
            self._chains.pop(stream, None)

    # files

    def _open_segment(self) -> Segment:
        name = f"{self._stem}-{self._number:04d}.jsonl"
        try:
            path, fd = self._create(self.folder, name)
        except OSError:
            if self.spill is None:
                raise
            path, fd = self._create(self.spill, name)
        if self._segment is not None:
            self._closed_segments.append(self._segment)
        self._number += 1
        self._new_names = True
        self._segment = Segment(path, fd)
        return self._segment

    def _create(self, folder: Path, name: str) -> tuple[Path, int]:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        young = path.with_suffix(".new")  # it has its lock before others can take it for a dead process's file
        fd = os.open(young, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            young.rename(path)
        except OSError:
            os.close(fd)
            raise
        self._keep_reserve(folder)
        return path, fd

    def _keep_reserve(self, folder: Path) -> None:
        reserve = folder / "reserve"
        with contextlib.suppress(OSError):
            space = os.statvfs(folder)
            if space.f_bavail * space.f_frsize < 64 * RESERVE_BYTES or reserve.exists():
                return
            fd = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)

    def sync(self) -> None:
        """
        Return when everything appended before the call survives a power cut.

        Callers that arrive while another syncs share the next sync between them.

        Raises:
            StoreError: the disk refused, or entries are still only in memory.
        """
        if self._unwritten and not self.retry():
            raise NotSaved(f"{len(self._unwritten)} entries are not on disk yet", "free some space; they are retried")
        target = self.recorded
        with self._sync_lock:
            if target and not self._new_names and self._clean():
                return
            with self._lock:
                segments = [s for s in (*self._closed_segments, self._segment) if s is not None and s.synced < s.size]
                sizes = [s.size for s in segments]
                named, self._new_names = self._new_names, False
            try:
                for segment, size in zip(segments, sizes, strict=True):
                    os.fdatasync(segment.fd)
                    segment.synced = size
                if named:
                    for folder in {s.path.parent for s in segments}:
                        _sync_folder(folder)
            except OSError as error:
                self._new_names = self._new_names or named
                raise StoreError(f"the journal could not be synced: {error.strerror}", "check the disk") from error

    def _clean(self) -> bool:
        segment = self._segment
        return not self._closed_segments and segment is not None and segment.synced >= segment.size

    @property
    def unsynced(self) -> int:
        """Return how many bytes would be lost by a power cut now."""
        segments = [*self._closed_segments, self._segment]
        return sum(s.size - s.synced for s in segments if s is not None)

    @property
    def unwritten(self) -> int:
        """Return how many entries exist only in memory."""
        return len(self._unwritten)

    @property
    def unfolded(self) -> bool:
        """Return whether entries of this process wait for the fold."""
        return bool(self._pending) or self._gap

    # the fold's side

    def take(self) -> tuple[list[Line], bool]:
        """
        Hand over the entries appended since the last call.

        Returns:
            the entries in order, and whether some before them must be read from the files instead.
        """
        with self._lock:
            lines, self._pending, self._pending_bytes = self._pending, [], 0
            gap, self._gap = self._gap, False
        return lines, gap

    def give_back(self) -> None:
        """Say that entries taken were not folded: they will be read from the files."""
        with self._lock:
            self._pending.clear()
            self._pending_bytes = 0
            self._gap = True

    def own(self) -> list[Path]:
        """Return this process's segments, oldest first."""
        with self._lock:
            return [s.path for s in (*self._closed_segments, self._segment) if s is not None]

    def release(self, path: Path) -> None:
        """Close and delete a finished segment whose entries are all in the database, synced."""
        with self._lock:
            for segment in self._closed_segments:
                if segment.path == path:
                    self._closed_segments.remove(segment)
                    os.unlink(path)  # before the lock goes with the descriptor
                    os.close(segment.fd)
                    return

    def close(self, folded: Callable[[Path, int], bool]) -> None:
        """Close all segments; delete those of which `folded(path, size)` says that all is in the database."""
        with self._lock:
            for segment in (*self._closed_segments, self._segment):
                if segment is None:
                    continue
                with contextlib.suppress(OSError):
                    if folded(segment.path, segment.size):
                        os.unlink(segment.path)
                        self.deleted.append(segment.path)
                with contextlib.suppress(OSError):
                    os.close(segment.fd)
            self._closed_segments, self._segment = [], None


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _usage(data: dict[str, Any]) -> tuple[int, int, float]:
    def number(name: str) -> Any:
        value = data.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

    return min(int(number("tokens_in")), 2**40), min(int(number("tokens_out")), 2**40), float(number("cost"))


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_nan, value))


# What JSON cannot hold is kept as {"$p8": kind, ...} and comes back as it was.


def plain(value: Any, depth: int = 0) -> Any:
    """
    Return `value` as JSON can hold it, losing nothing: lone surrogates, NaN, integers beyond 64 bits, bytes.

    Keys that are not text become text. Anything else, and what is nested deeper than 100 levels, becomes its `repr`.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(str(value))
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else {"$p8": "int", "text": str(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$p8": "float", "text": repr(float(value))}
    if isinstance(value, bytes | bytearray):
        return {"$p8": "bytes", "base64": base64.b64encode(value).decode()}
    if depth > 100:
        return _plain_text(repr(value)[:65536])
    if isinstance(value, dict):
        return {_plain_key(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v, depth + 1) for v in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return _plain_text(repr(value))


def _plain_text(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogatepass")
        readable = text.encode("utf-8", "replace").decode()
        return {"$p8": "text", "base64": base64.b64encode(raw).decode(), "text": readable}
    return text


def _plain_key(key: Any) -> str:
    return str(key).encode("utf-8", "backslashreplace").decode()


def restore(value: Any) -> Any:
    """Undo `plain`."""
    if isinstance(value, dict):
        mark = value.get("$p8")
        if mark == "text" and "base64" in value:
            return base64.b64decode(value["base64"]).decode("utf-8", "surrogatepass")
        if mark == "bytes":
            return base64.b64decode(value["base64"])
        if mark == "int":
            return int(value["text"])
        if mark == "float":
            return float(value["text"])
        return {k: restore(v) for k, v in value.items()}
    if isinstance(value, list):
        return [restore(v) for v in value]
    return value


def load(payload: bytes | str) -> dict[str, Any]:
    """
    Read an entry's data back from its JSON.

    Raises:
        StoreError: it is not a JSON object.
    """
    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise StoreError(f"damaged entry: {error}", "p8 doctor finds and reports damage") from error
    if not isinstance(data, dict):
        raise StoreError("damaged entry: not an object", "p8 doctor finds and reports damage")
    marked = b'"$p8"' in payload if isinstance(payload, bytes) else '"$p8"' in payload
    return restore(data) if marked else data  # type: ignore[no-any-return]
