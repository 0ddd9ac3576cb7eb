"""Reading journal files: this process's own, those of other living processes, and those that dead ones left.

A living writer holds a lock on its file, so a file whose lock can be had has no writer any more. Refuses: to change
a journal file. What cannot be read is reported with its place, and costs only itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from xxhash import xxh3_64_intdigest

from p8.store.glance import journals
from p8.store.journal import DATA, STREAM_PATTERN, Line, usage_of

HEADER = 24  #: bytes of `{"h":"` + 16 digits + `",`
READ_BYTES = 4 << 20


class Damage(NamedTuple):
    """Bytes of a journal that are no entry."""

    segment: str
    offset: int
    raw: bytes
    reason: str


def segments(folder: Path) -> list[Path]:
    """Return the journal files of a folder, oldest first."""
    return [folder / entry.name for entry in journals(folder)]


def is_orphan(path: Path) -> bool:
    """Return whether the process that wrote `path` is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class Block(NamedTuple):
    """Lines of a journal file, one after another."""

    segment: str
    begin: int  #: offset of the first
    end: int  #: offset behind the last
    lines: list[bytes]  #: without their newlines

    def parsed(self, at: int = 0, upto: int | None = None) -> Iterator[Line | Damage]:
        """Yield what the lines from number `at` up to `upto` are."""
        begin = self.begin + sum(map(len, self.lines[:at])) + at
        for line in self.lines[at:upto]:
            end = min(begin + len(line) + 1, self.end)
            if line:
                yield parse(line, self.segment, begin, end)
            begin = end


def read_segment(path: Path, start: int, orphan: bool, limit: int | None = None) -> Iterator[Line | Damage]:
    """
    Yield what stands in a journal file from offset `start` on.

    Args:
        path: the file.
        start: offset of a line's first byte.
        orphan: the writer is gone, so a last line without an end is damage; else it is still being written.
        limit: offset to stop at, at the latest.
    """
    for block in read_blocks(path, start, orphan, limit):
        if isinstance(block, Damage):
            yield block
        else:
            yield from block.parsed()


def read_blocks(path: Path, start: int, orphan: bool, limit: int | None = None) -> Iterator[Block | Damage]:
    """Do as `read_segment`, many lines at a time."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        at, rest = start, b""
        while True:
            block = file.read(READ_BYTES)
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            begin, at = at, at + sum(map(len, lines)) + len(lines)
            ended = limit is not None and at >= limit
            while limit is not None and at > limit and lines:
                at -= len(lines.pop()) + 1
            if lines:
                yield Block(path.name, begin, at, lines)
            if ended:
                return
            if not block:
                break
        if rest and orphan:
            if isinstance(parse(rest, path.name, at, at + len(rest)), Line):  # whole but for its end
                yield Block(path.name, at, at + len(rest), [rest])
                return
            yield Damage(path.name, at, rest, "torn: the process died, or the disk was full, while writing it")


def parse(line: bytes, segment: str, begin: int, end: int) -> Line | Damage:
    """Read one line (without its newline)."""
    try:
        entry = orjson.loads(line)
        stream, seq, time_us, kind, data = entry["s"], entry["q"], entry["t"], entry["k"], entry["d"]
        named = isinstance(stream, str) and STREAM_PATTERN.fullmatch(stream)
        if not (named and isinstance(seq, int) and isinstance(time_us, int) and isinstance(data, dict)):
            return Damage(segment, begin, line, "not an entry")
        role = data.get("role", "") if kind == "message" else ""
        usage = usage_of(data)
        try:
            digest = int(entry["h"], 16)
        except (KeyError, TypeError, ValueError):
            digest = -1
        role = role if isinstance(role, str) else ""
        text = line[line.index(DATA, HEADER) + 5 : -1].decode()
        return Line(stream, seq, time_us, kind, role, text, digest, segment, end, usage, line + b"\n")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        zeros = not line.strip(b"\0")
        return Damage(segment, begin, line, "zeros where an entry was" if zeros else "not an entry")


@cache
def _decoder() -> Any:
    """Return what decodes lines to what the fold needs of them, at a third of the time that whole entries take."""
    import msgspec

    fields = [("role", Any, ""), ("tokens_in", Any, None), ("tokens_out", Any, None), ("cost", Any, None)]
    data = msgspec.defstruct("Data", fields, gc=False)
    row = msgspec.defstruct("Row", [("h", str), ("s", str), ("q", int), ("t", int), ("k", str), ("d", data)], gc=False)
    return msgspec.json.Decoder(row).decode_lines


def columns(lines: list[bytes]) -> tuple[list[Any], ...] | None:
    """
    Return stream, number, time, kind, role, data, hash and usage of many lines, each as a list.

    Nothing is checked here but the shape: only what has the right hash may be used. None: `parse` must look at each.
    """
    try:
        joined = b"\n".join(lines)
        rows = _decoder()(joined)
        digests = [int(row.h, 16) for row in rows]
        texts = [line[line.index(',"d":', HEADER) + 5 : -1] for line in joined.decode().split("\n")]
    except ValueError:  # and what msgspec raises is one
        return None
    if len(rows) != len(lines):
        return None
    used = [
        None if d.tokens_out is None and d.tokens_in is None and d.cost is None
        else usage_of({"tokens_in": d.tokens_in, "tokens_out": d.tokens_out, "cost": d.cost})
        for d in (row.d for row in rows)
    ]  # fmt: skip
    return (
        [row.s for row in rows], [row.q for row in rows], [row.t for row in rows], [row.k for row in rows],
        [row.d.role for row in rows], texts, digests, used,
    )  # fmt: skip


def payload_of(raw: bytes) -> bytes:
    """Return the exact JSON of an entry's data from its line."""
    return raw[raw.index(DATA, HEADER) + 5 : -2]


def chained(raw: bytes, previous: int) -> int:
    """Return the hash that a line must have when it follows an entry whose hash is `previous`."""
    return xxh3_64_intdigest(b"{" + raw.lstrip(b"\n")[HEADER:], previous)
