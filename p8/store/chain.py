"""The hash chain of a stream, taken from rows again: what a line was, whether it still is, and which bit is wrong.

A row and a journal line hold the same bytes in two shapes, so either can be checked against the hash that was written
with it. A single wrong bit can be found by trying each: with 64 bits of hash, what fits is what was written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import orjson
from xxhash import xxh3_64_intdigest

from p8.store.segments import HEADER

MOST_S = 6.0  #: an entry is tried for so long
MOST_BYTES = 131_072  #: a longer one would take longer than that
TOMBSTONE = b'{"what":"purged"}'  #: stands where something was said about a session that was purged
NAMED = re.compile(rb"(\d{8}-\d{6}-\d{6}-[0-9a-f]{4}(?:~[0-9a-f]{6}){0,4})")
LINE_START = re.compile(rb'^\n*\{"h":"([0-9a-f]{16})","s":"([^"]{1,120})","q":(\d{1,10}),"t":(-?\d{1,19}),"k":')


class Place(NamedTuple):
    """Where the next entry of a stream belongs."""

    stream: str
    seq: int
    previous: int  #: hash of the entry before it


class Parts(NamedTuple):
    """An entry as its line has it."""

    stream: str
    seq: int
    time_us: int
    kind: str
    payload: bytes
    digest: int


def body_of(stream: str, seq: int, time_us: int, kind: str, payload: bytes) -> bytes:
    """Return the bytes an entry's hash is made of."""
    head = orjson.dumps({"s": stream, "q": seq, "t": time_us, "k": kind})
    return b'%b,"d":%b}\n' % (head[:-1], payload)


def line_of(parts: Parts) -> bytes:
    """Return an entry's journal line."""
    body = body_of(*parts[:5])
    return b'{"h":"%016x",%b' % (parts.digest, body[1:])


def fits(parts: Parts, previous: int) -> bool:
    """Return whether an entry is what was written after the entry with hash `previous`."""
    return xxh3_64_intdigest(body_of(*parts[:5]), previous) == parts.digest


def parts_of(line: bytes) -> Parts | None:
    """Take a journal line (with or without its newline) apart; None where it is none."""
    start = LINE_START.match(line)
    if start is None:
        return None
    try:
        entry = orjson.loads(line)
        at = line.index(b',"d":', start.end()) + 5
        payload = line.rstrip(b"\n")[at:-1]
        if not isinstance(entry["d"], dict):
            return None
        return Parts(entry["s"], entry["q"], entry["t"], entry["k"], payload, int(entry["h"], 16))
    except (ValueError, KeyError, TypeError):
        return None


def claims(line: bytes) -> tuple[str, int]:
    """Return the session and entry number that damaged bytes say they are, ("", 0) where that cannot be read."""
    found = re.search(rb'"s":"([^"\n]{1,120})"', line[:400]) or NAMED.search(line[:120])
    number = re.search(rb'"q":(\d{1,10})', line[:400])
    stream = found.group(1).decode("ascii", "replace") if found else ""
    return stream, int(number.group(1)) if number else 0


def mend_line(line: bytes, places: Iterable[Place]) -> bytes | None:
    """
    Find the one bit that is wrong in a journal line.

    Args:
        line: the line, without its newline.
        places: where it may belong.

    Returns:
        the line as it was written, of the same length; None where it is not one bit, or there is not time enough.
    """
    line = line.lstrip(b"\n")
    for place in places:
        for found in _one_bit_off(line, place):
            parts = parts_of(found)
            if parts is not None and (parts.stream, parts.seq) == place[:2] and fits(parts, place.previous):
                return found
    return None


def _one_bit_off(line: bytes, place: Place) -> Iterator[bytes]:
    """Yield lines one bit off whose body has the hash that the line says."""
    body = bytearray(b"{" + line[HEADER:] + b"\n")
    head = b'{"h":"%016x",' % xxh3_64_intdigest(body, place.previous)
    if sum((a ^ b).bit_count() for a, b in zip(head, line[:HEADER], strict=False)) == 1:
        yield head + line[HEADER:]
    try:
        want = int(line[6:22], 16)
    except ValueError:
        return
    for _ in flips(body, range(1, len(body) - 1), want, place.previous):
        yield line[:HEADER] + bytes(body[1:-1])


def flips(body: bytearray, where: Iterable[int], want: int, previous: int) -> Iterator[int]:
    """Flip each bit of `body` at `where` in turn; yield the offset, with it flipped, where the hash is `want`."""
    if len(body) > MOST_BYTES:
        return
    until = time.monotonic() + MOST_S
    digest = xxh3_64_intdigest
    for at in where:
        byte = body[at]
        for bit in (1, 2, 4, 8, 16, 32, 64, 128):
            body[at] = byte ^ bit
            if digest(body, previous) == want:
                yield at
        body[at] = byte
        if at & 1023 == 0 and time.monotonic() > until:
            return


def mend_payload(parts: Parts, previous: int) -> Parts | None:
    """Find the one bit that is wrong in the data of an entry whose hash is right."""
    body = bytearray(body_of(*parts[:5]))
    first = len(body) - len(parts.payload) - 2
    for _ in flips(body, range(first, len(body) - 2), parts.digest, previous):
        return parts._replace(payload=bytes(body[first:-2]))
    return None


def mend_columns(parts: Parts, previous: int) -> Parts | None:
    """Find the one bit that is wrong in an entry's time or kind."""
    for bit in range(63):
        tried = parts._replace(time_us=parts.time_us ^ (1 << bit))
        if fits(tried, previous):
            return tried
    kind = parts.kind.encode("utf-8", "surrogateescape")
    for at in range(len(kind)):
        for bit in range(8):
            changed = bytes((*kind[:at], kind[at] ^ (1 << bit), *kind[at + 1 :]))
            if changed.isascii() and fits(tried := parts._replace(kind=changed.decode()), previous):
                return tried
    return None
