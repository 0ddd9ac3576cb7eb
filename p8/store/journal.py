"""The writer's side of the journal: one JSON line, one `write`, per entry, in a file of this process's own.

A line is `{"h":HASH,"s":STREAM,"q":SEQ,"t":TIME_US,"k":KIND,"d":DATA}`. HASH is XXH3-64 of the line without it,
seeded with the previous hash of the same stream: it finds damage, holes and mixed-up writers at a tenth of BLAKE2b's
cost. It does not hold off an attacker, and no unkeyed hash would: who may write the journal may write its hashes.
Refuses: to know what entries mean, to touch the database, to lose a line because the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import write
from pathlib import Path
from typing import Any, NamedTuple

from orjson import dumps
from xxhash import xxh3_64_intdigest

from p8.errors import NotSaved, StoreError, UsageError
from p8.store.plain import has_nan, plain

SEGMENT_BYTES = 8 << 20  #: a segment this long is closed and the next one begun
PENDING_ENTRIES = 262_144  #: more unfolded entries than this are read back from the files instead of kept
PENDING_BYTES = 128 << 20
RESERVE_BYTES = 1 << 20  #: given up when the disk is full, so that the last entries still fit
DATA = b',"d":'  #: what stands before an entry's data in its line
GENESIS = 0  #: what the first entry of a stream is chained to
_FINE: tuple[OSError | None, ...] = ()
STREAM_PATTERN = re.compile(r"[~a-zA-Z0-9._-]{1,120}")


class Line(NamedTuple):
    """One entry on its way into the database."""

    stream: str
    seq: int
    time_us: int
    kind: str
    role: str
    data: str  #: its exact JSON
    hash: int  #: 64 bits; -1 where the line has none that can be read
    segment: str  #: name of the journal file
    end: int  #: offset behind the line in that file
    usage: tuple[int, int, float] | None  #: tokens in, tokens out, cost
    raw: bytes = b""  #: the whole line; empty where this process made it, so that it need not be checked


FIELDS = 10  #: the journal hands over the fields before the last, of one entry after another, in one list


@dataclass(slots=True)
class Segment:
    """A journal file this process writes or has written."""

    path: Path
    fd: int
    name: str
    size: int = 0
    synced: int = 0
    taken: int = 0  #: what the fold has been handed


@dataclass(slots=True)
class Chain:
    """Where a stream stands."""

    begin: bytes  #: of all its lines, behind their hash
    seq: int = 0
    head: int = GENESIS


class Turn:
    """Mutual exclusion that costs next to nothing where nobody else waits."""

    __slots__ = ("hungry", "token")

    def __init__(self) -> None:
        self.token: list[None] = [None]
        self.hungry = False  #: somebody has waited long: whoever records makes a pause

    def wait(self) -> None:
        """Take the turn, when it is free."""
        tries = 0
        while True:
            try:
                self.token.pop()
                self.hungry = False
                return
            except IndexError:
                tries += 1
                self.hungry = tries > 20
                time.sleep(0.00002)

    __enter__ = wait

    def __exit__(self, *_: object) -> None:
        self.token.append(None)


class _ShortWrite(OSError):
    """Only part of a line was written; what it means is found out by the next write."""

    def __init__(self, segment: Segment, line: bytes, written: int) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.segment, self.line, self.written = segment, line, written


class Journal:
    """
    Appends entries and makes them durable.

    Args:
        folder: where segments go; made on first use, mode 0700.
        spill: where they go when `folder` cannot be written (a read-only home), or None.
        clock_ns: nanoseconds since 1970.

    Thread-safe. A forked child must not use it.
    """

    def __init__(self, folder: Path, spill: Path | None = None, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.folder = folder
        self.spill = spill
        self._clock = clock_ns
        self._turn = Turn()
        self._sync_lock = threading.Lock()
        self._chains: dict[str, Chain] = {}
        self._segment: Segment | None = None
        self._closed_segments: list[Segment] = []
        self._pending: list[Any] = []  #: fields of entries: a tuple for each would be work for the garbage collector
        self._note: Callable[[tuple[Any, ...]], None] = (
            self._pending.extend
        )  #: one step of the interpreter, so that it needs no lock
        self._gap = False  #: what was written after the pending entries must be read from the files
        self._unwritten: list[tuple[str, str, dict[str, Any], int]] = []
        self._stem = f"{time.strftime('%Y%m%d%H%M%S', time.gmtime())}-{os.getpid()}-{os.urandom(3).hex()}"
        self._number = 0
        self._new_names = False
        self._torn = False
        self._odd = False  #: the short way is closed: entries wait to be written
        self.deleted: list[Path] = []  #: files that `close` removed
        self.on_first: Callable[[], None] = lambda: None  #: called once, before the first file is made
        self.on_trouble: Callable[[OSError | None], None] = lambda _error: None

    def append(self, stream: str, kind: str, data: dict[str, Any], time_us: int | None = None) -> tuple[int, int]:
        """
        Write one entry; when this returns, it survives the death of the process.

        Args:
            stream: session id, or `~…` for what belongs to no session.
            kind: a `Kind` value.
            data: plain values; what JSON cannot hold is kept as `plain` has it. Not modified.
            time_us: when it happened, for imported entries; now where none is given.

        Returns:
            the entry's sequence number and its time, microseconds since 1970.

        Raises:
            NotSaved: the disk would not take it. It is kept in memory, in order, and written before the next one.
            UsageError: `stream` is not a stream name.
        """
        # Every statement here is paid for each entry; what is rare is in `_carefully`. The lock is a list: popping and
        # appending are single steps of the interpreter, at a sixth of what a `threading.Lock` costs.
        turn = self._turn
        try:
            turn.token.pop()
        except IndexError:
            turn.wait()
        try:
            chain = self._chains.get(stream)
            segment = self._segment
            if chain is None or segment is None or self._odd or segment.size >= SEGMENT_BYTES:
                seq, at, trouble = self._carefully(stream, kind, data, time_us)
            else:
                at = self._clock() // 1000 if time_us is None else time_us
                seq = chain.seq + 1
                try:
                    payload = dumps(data)
                    for value in data.values():
                        if value.__class__ is not str:
                            if b"null" in payload and has_nan(data):
                                payload = dumps(plain(data))
                            usage = usage_of(data)
                            break
                    else:
                        usage = None
                except (TypeError, RecursionError):
                    payload, usage = dumps(plain(data)), usage_of(data)
                body = b'%b%d,"t":%d%b%b}\n' % (chain.begin, seq, at, _KINDS[kind], payload)
                digest = xxh3_64_intdigest(b"{" + body, chain.head)
                line = b'{"h":"%016x",%b' % (digest, body)
                written = write(segment.fd, line)
                if written != len(line):
                    raise _ShortWrite(segment, line, written)
                end = segment.size = segment.size + written
                chain.seq = seq
                chain.head = digest
                role, text = data.get("role"), payload.decode()
                self._note((stream, seq, at, kind, role, text, digest, segment.name, end, usage))
                if not turn.hungry:
                    return seq, at
                trouble = _FINE
        except OSError as error:
            seq, at, trouble = self._refused(error, stream, kind, data, time_us)
        finally:
            turn.token.append(None)
        self._settle(stream, seq, trouble)
        return seq, at

    def _carefully(
        self, stream: str, kind: str, data: dict[str, Any], time_us: int | None
    ) -> tuple[int, int, Sequence[OSError | None]]:
        """Append where the short way is not open: first entry, new segment, a disk that refused before."""
        at = self._clock() // 1000 if time_us is None else time_us
        trouble: list[OSError | None] = []
        if self._unwritten:
            self._retry_held(trouble)
        if not self._unwritten:
            return self._write(stream, kind, data, at), at, trouble
        return self._keep(stream, kind, data, at), at, trouble

    def _refused(
        self, error: OSError, stream: str, kind: str, data: dict[str, Any], time_us: int | None
    ) -> tuple[int, int, Sequence[OSError | None]]:
        """Cope with a write that failed: finish it, give up the reserve and try again, or keep it in memory."""
        at = self._clock() // 1000 if time_us is None else time_us
        if isinstance(error, _ShortWrite):
            try:
                self._take_back(error)
            except OSError:
                self._torn = True
        self._odd = True
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            with contextlib.suppress(OSError):
                (self.folder / "reserve").unlink()
                return self._write(stream, kind, data, at), at, [error]
        return self._keep(stream, kind, data, at), at, [error]

    def _keep(self, stream: str, kind: str, data: dict[str, Any], at: int) -> int:
        self._unwritten.append((stream, kind, plain(data), at))
        self._odd = True
        return -(self._chain(stream).seq + sum(1 for entry in self._unwritten if entry[0] == stream))

    def _settle(self, stream: str, seq: int, trouble: Sequence[OSError | None]) -> None:
        """Tell of trouble, outside the lock, and of an entry that is not on disk (its number is negative)."""
        if self._turn.hungry:
            time.sleep(0.0001)
        for what in trouble:
            self.on_trouble(what)
        if seq < 0:
            raise NotSaved(
                f"entry {-seq} of {stream} is not on disk yet", "free some space; it is kept in memory and retried"
            )

    def _write(self, stream: str, kind: str, data: dict[str, Any], at: int) -> int:
        """Write one entry; raises OSError and leaves the file as it was."""
        chain = self._chain(stream)
        segment = self._segment
        if segment is None or segment.size >= SEGMENT_BYTES:
            segment = self._open_segment()
        seq = chain.seq + 1
        payload = dumps(plain(data))
        body = b'%b%d,"t":%d%b%b}\n' % (chain.begin, seq, at, _KINDS[kind], payload)
        digest = xxh3_64_intdigest(b"{" + body, chain.head)
        # A torn line may stand before this one: keep them apart.
        line = (b"\n" if self._torn else b"") + b'{"h":"%016x",%b' % (digest, body)
        written = write(segment.fd, line)
        if written != len(line):
            self._take_back(_ShortWrite(segment, line, written))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False
        end = segment.size = segment.size + written
        chain.seq, chain.head = seq, digest
        role, text, usage = data.get("role"), payload.decode(), usage_of(data)
        self._note((stream, seq, at, kind, role, text, digest, segment.name, end, usage))
        self._odd = bool(self._unwritten)
        return seq

    def _take_back(self, short: _ShortWrite) -> None:
        """Cut a half-written line off again."""
        try:
            os.ftruncate(short.segment.fd, short.segment.size)
        except OSError:
            self._torn = True
            short.segment.size += short.written

    def retry(self) -> bool:
        """Try to write what the disk refused; return whether nothing is waiting any more."""
        trouble: list[OSError | None] = []
        with self._turn:
            if self._unwritten:
                self._retry_held(trouble)
            done = not self._unwritten
        for what in trouble:
            self.on_trouble(what)
        return done

    def _retry_held(self, trouble: list[OSError | None]) -> None:
        try:
            while self._unwritten:
                waiting = self._unwritten[0]
                self._unwritten.pop(0)
                try:
                    self._write(*waiting)
                except OSError:
                    self._unwritten.insert(0, waiting)
                    self._odd = True
                    raise
        except OSError as error:
            trouble.append(error)
        else:
            trouble.append(None)

    def _chain(self, stream: str) -> Chain:
        chain = self._chains.get(stream)
        if chain is None:
            if not STREAM_PATTERN.fullmatch(stream):
                raise UsageError(f"not a stream name: {stream[:60]!r}")
            chain = self._chains[stream] = Chain(b'"s":"%b","q":' % stream.encode())
        return chain

    def adopt(self, stream: str, seq: int, head: int) -> None:
        """Continue a stream after its entry `seq`, whose hash is `head`."""
        with self._turn:
            chain = self._chain(stream)
            chain.seq = seq
            chain.head = head

    def position(self, stream: str) -> tuple[int, int]:
        """Return the last sequence number written to a stream and its hash."""
        with self._turn:
            chain = self._chain(stream)
            return chain.seq, chain.head

    def forget(self, stream: str) -> None:
        """Drop what is remembered about a stream that this process will not write to again."""
        with self._turn:
            self._chains.pop(stream, None)

    # files

    def _open_segment(self) -> Segment:
        if self._number == 0:
            self.on_first()
        name = f"{self._stem}-{self._number:04d}.jsonl"
        try:
            path, fd = self._create(self.folder, name)
        except OSError:
            if self.spill is None:
                raise
            path, fd = self._create(self.spill, name)
        if self._segment is not None:
            self._closed_segments.append(self._segment)
            # Bounds are looked at here only: a segment is small enough to overshoot by.
            waiting = self._segment.size - self._segment.taken + sum(s.size for s in self._closed_segments[:-1])
            if self.backlog > PENDING_ENTRIES or waiting > PENDING_BYTES:
                self._gap, self._note = True, _nowhere
        self._number += 1
        self._new_names = True
        self._segment = Segment(path, fd, name)
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
        with self._sync_lock:
            if not self._new_names and self._clean():
                return
            with self._turn:
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

    @property
    def backlog(self) -> int:
        """Return how many entries wait in memory for the fold."""
        return len(self._pending) // FIELDS

    # the fold's side

    @property
    def gap(self) -> bool:
        """Return whether entries wait for the fold in the files only."""
        return self._gap

    def take(self, most: int) -> tuple[list[Any], bool]:
        """
        Hand over the oldest entries not handed over yet.

        Args:
            most: how many, at most.

        Returns:
            the fields of the entries, in order, and whether those that follow must be read from the files instead.
        """
        # Not under the lock: a flood of entries would keep it from us. Copying and cutting are one step each.
        pending = self._pending
        lines = pending[: most * FIELDS]
        del pending[: len(lines)]
        gap = self._gap and not lines
        if gap:
            with self._turn:
                self._gap, self._note = False, pending.extend
                if self._segment is not None:
                    self._segment.taken = self._segment.size
        elif lines and self._segment is not None and self._segment.name == lines[-3]:
            self._segment.taken = lines[-2]
        return lines, gap

    def give_back(self) -> None:
        """Say that entries taken were not folded: they will be read from the files."""
        with self._turn:
            self._pending.clear()
            self._gap, self._note = True, _nowhere

    def own(self) -> list[Path]:
        """Return this process's segments, oldest first."""
        return [s.path for s in (*self._closed_segments, self._segment) if s is not None]

    def finished(self) -> list[Path]:
        """Return this process's segments that nothing is written to any more, oldest first."""
        return [s.path for s in self._closed_segments]

    def turn_over(self) -> None:
        """Begin a new segment with the next entry, so that the one at hand can be deleted once it is folded."""
        with self._turn:
            if self._segment is not None:
                self._closed_segments.append(self._segment)
                self._segment = None

    def release(self, path: Path) -> None:
        """Close and delete a finished segment whose entries are all in the database, synced."""
        with self._turn:
            for segment in self._closed_segments:
                if segment.path == path:
                    self._closed_segments.remove(segment)
                    os.unlink(path)  # before the lock goes with the descriptor
                    os.close(segment.fd)
                    return

    def close(self, folded: Callable[[Path, int], bool]) -> None:
        """Close all segments; delete those of which `folded(path, size)` says that all is in the database."""
        with self._turn:
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


def _nowhere(_fields: tuple[Any, ...]) -> None:
    """Take the place of the list of pending entries where they are to be read from the files."""


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Kinds(dict[str, bytes]):
    """What stands between an entry's time and its data, by its kind."""

    def __missing__(self, kind: str) -> bytes:
        text = b',"k":%b,"d":' % dumps(kind)
        return self.setdefault(str(kind), text) if len(self) < 64 else text


_KINDS = _Kinds()


def usage_of(data: dict[str, Any]) -> tuple[int, int, float] | None:
    """Return tokens in, tokens out and cost, as far as an entry's data says them; None where it does not."""
    if "tokens_out" not in data and "tokens_in" not in data and "cost" not in data:
        return None

    def number(name: str) -> Any:
        value = data.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

    return min(int(number("tokens_in")), 2**40), min(int(number("tokens_out")), 2**40), float(number("cost"))
