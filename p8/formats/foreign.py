"""A conversation as another tool kept it, and how foreign files are opened: bounded, streamed, never trusted.

Each tool has a module here that is a `Format`. A record that cannot be read costs that record and is counted; a file of
which nothing can be read is a `FormatError`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

import orjson

from p8.errors import FormatError
from p8.model import to_us

LINE_BYTES = 64 << 20  #: a longer line is a bad record
FILE_BYTES = 2 << 30  #: of one file, so much is read
ITEMS = 500_000  #: of one conversation
TEXT_CHARACTERS = 16 << 20  #: of one message or result; the rest is cut
TOTAL_CHARACTERS = 256 << 20  #: of one conversation; beyond, each text is cut to `SHORT_CHARACTERS`
SHORT_CHARACTERS = 2000
SNIFF_BYTES = 256 << 10
DEPTH = 10
EARLIEST_US = 946_684_800_000_000  #: 2000-01-01; an earlier time is no time of a conversation with a machine
DAY_US = 86_400_000_000


@dataclass(slots=True)
class Item:
    """One thing in a foreign conversation, in its place."""

    role: str  #: user, assistant, system, tool or notice; "" for a command or an execution
    content: str  #: what was said; the line of a command or an execution
    kind: str = "message"  #: message, command or execution
    id: str = ""  #: the tool's own
    time_us: int = 0  #: 0 where the tool did not keep it
    model: str = ""
    tokens_in: int = 0  #: cached ones included
    tokens_out: int = 0
    cost: float = 0.0
    thought: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)  #: see `tool_call`
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """
        Return what it is known by when its conversation is read again: a digest of who said what.

        Not of the tool's id, which changes where a tool moves its conversations into a new layout.
        """
        said = f"{self.kind}\0{self.role}\0{self.content}"
        return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(slots=True)
class Conversation:
    """A conversation as another tool kept it; `items` oldest first."""

    tool: str  #: `NAME` of its module
    id: str  #: the tool's own
    source: str  #: the file it was read from
    title: str = ""
    named: bool = False  #: the title was given by hand
    directory: str = ""
    branch: str = ""
    commit: str = ""
    model: str = ""
    started_us: int = 0
    ended_us: int = 0
    items: list[Item] = field(default_factory=list)
    bad: int = 0  #: records that could not be read
    more: dict[str, Any] = field(default_factory=dict)  #: anything else worth keeping, in plain values
    _size: int = 0

    def add(self, item: Item) -> None:
        """Take an item in at the end, cut to what can be kept."""
        if len(self.items) >= ITEMS:
            self.more["left_out"] = int(self.more.get("left_out", 0)) + 1
            return
        limit = TEXT_CHARACTERS if self._size < TOTAL_CHARACTERS else SHORT_CHARACTERS
        item.content, item.thought = cut(item.content, limit), cut(item.thought, limit)
        for call in item.tools:
            call["content"] = cut(call.get("content", ""), limit)
        self._size += len(item.content) + len(item.thought) + sum(len(call["content"]) for call in item.tools)
        self.items.append(item)

    def settle(self) -> Conversation:
        """Fill in what follows from the items: unknown times, begin and end, the model; return itself."""
        newest = time.time_ns() // 1000 + DAY_US
        known = [item.time_us for item in self.items if EARLIEST_US <= item.time_us <= newest]
        if not EARLIEST_US <= self.started_us <= newest:
            self.started_us = min(known, default=0) or _modified(self.source)
        last = self.started_us
        for item in self.items:
            if not EARLIEST_US <= item.time_us <= newest:
                item.time_us = last
            last = item.time_us
        times = [self.started_us, *(item.time_us for item in self.items)]
        self.started_us = min(times)
        self.ended_us = max(times)
        self.model = next((item.model for item in reversed(self.items) if item.model), self.model)
        self.directory = self.directory if self.directory.startswith("/") and "\0" not in self.directory else ""
        self.directory = self.directory[:4000]
        return self


class Format(Protocol):
    """What a module for one foreign tool offers."""

    NAME: str
    TITLE: str

    def places(self, env: Mapping[str, str], directories: Sequence[Path]) -> list[Path]:
        """Return where the tool keeps its files; `directories` are those of the person's projects."""
        ...

    def detect(self, path: Path) -> bool:
        """Return whether a file is one of the tool's. Reads its beginning at most; never raises for odd files."""
        ...

    def source_of(self, path: Path) -> Path:
        """Return what a file has to be read with: itself, or the folder its conversation is spread over."""
        ...

    def read(self, path: Path) -> Iterator[Conversation]:
        """Yield the conversations of a file or source. Raises FormatError where nothing of it can be read."""
        ...


# values: foreign data is of whatever type it likes


def text(value: Any) -> str:
    """Return a string; nothing for anything else."""
    return value if isinstance(value, str) else ""


def mapping(value: Any) -> dict[str, Any]:
    """Return a dictionary; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return a list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def count(*values: Any) -> int:
    """Return the sum of what are numbers, at most 2⁴⁰."""
    good = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < 2**40]
    return int(sum(good))


def amount(value: Any) -> float:
    """Return a number of dollars; 0 for anything else."""
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0


def when(value: Any) -> int:
    """Return a time as microseconds since 1970: from ISO 8601, or seconds or milliseconds since then; 0 for others."""
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value.strip())
            return to_us(at if at.tzinfo is not None else at.replace(tzinfo=UTC))
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e14:
            return int(value * 1000) if value > 1e11 else int(value * 1_000_000)
    except (ValueError, OverflowError):
        pass
    return 0


def cut(value: str, limit: int) -> str:
    """Return text of at most about `limit` characters; what is missing is said."""
    return value if len(value) <= limit else f"{value[:limit]}… [{len(value) - limit} characters cut]"


def shown(value: Any) -> str:
    """Return any value as text: text as it is, the rest as JSON."""
    if isinstance(value, str) or value is None:
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        return repr(value)[:SHORT_CHARACTERS]


def tool_call(name: Any, given: Any, call_id: Any = "", title: str = "") -> dict[str, Any]:
    """
    Return a tool call as P8 records it: id, title, kind, name, input, status, content (what came of it, as text).

    `status` is completed or failed once the result is known, and pending until then.
    """
    named = text(name) or "tool"
    about = mapping(given)
    hint = next((about[k] for k in HINTS if isinstance(about.get(k), str) and about[k].strip()), "")
    line = " ".join(str(hint).split())[:120]
    return {
        "id": text(call_id), "title": title or (f"{named}: {line}" if line else named), "kind": kind_of(named),
        "name": named, "input": given, "status": "pending", "content": "",
    }  # fmt: skip


def kind_of(name: str) -> str:
    """Return what sort of tool one of that name is, in the Agent Client Protocol's words."""
    low = name.lower()
    return next((kind for kind, words in SORTS.items() if any(word in low for word in words)), "other")


SORTS = {
    "execute": ("bash", "shell", "exec", "command", "terminal"), "fetch": ("fetch", "web", "url"),
    "search": ("grep", "glob", "search", "find", "list"), "read": ("read", "view"),
    "edit": ("edit", "write", "patch", "replace"), "think": ("think", "todo", "plan", "task"),
}  # fmt: skip


HINTS = ("command", "cmd", "file_path", "filePath", "path", "absolute_path", "pattern", "query", "url", "description")


# files


class Records:
    """
    The JSON objects of a file, one a line.

    Args:
        path: the file; one that ends in `.zst` is expanded.

    Attributes:
        bad: lines that are none. A last line without an end is still being written, and does not count.

    Raises:
        FormatError: while iterating: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bad = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in lines(self.path):
            if line is None:
                self.bad += 1
                continue
            if not line.strip():
                continue
            record = parse(line)
            if isinstance(record, dict):
                yield record
            elif line.endswith(b"\n"):
                self.bad += 1


def parse(raw: bytes) -> Any:
    """Return what JSON says; None where it is not JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:  # half a character pair, a number too long: other writers are less strict
        return json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def opened(path: Path) -> IO[bytes]:
    """
    Open a regular file to read.

    Raises:
        FormatError: it is none, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(f"{path} is not a file")
    if path.suffix == ".zst":
        import zstandard

        plain = os.fdopen(descriptor, "rb")
        expander = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return io.BufferedReader(expander.stream_reader(plain, closefd=True))
    return os.fdopen(descriptor, "rb")


def lines(path: Path) -> Iterator[bytes | None]:
    """Yield a file's lines, at most `FILE_BYTES` in all; None for one longer than `LINE_BYTES`."""
    done, long = 0, False
    with opened(path) as file:
        while done < FILE_BYTES:
            try:
                line = file.readline(LINE_BYTES)
            except Exception as error:  # what a damaged compressed file raises is zstandard's own
                raise FormatError(f"{path}: {error}") from error
            done += len(line)
            if not line:
                return
            whole = line.endswith(b"\n") or len(line) < LINE_BYTES
            if not long and whole:
                yield line
            elif whole:
                yield None
            long = not whole


def whole(path: Path, limit: int = LINE_BYTES * 4) -> bytes:
    """
    Return a file's bytes.

    Raises:
        FormatError: it cannot be read or is larger than `limit`.
    """
    try:
        with opened(path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from error
    if len(data) > limit:
        raise FormatError(f"{path} is larger than {limit >> 20} MB")
    return data


def beginning(path: Path, size: int = SNIFF_BYTES) -> bytes:
    """Return how a file begins; nothing where it cannot be read."""
    try:
        with opened(path) as file:
            return file.read(size)
    except Exception:
        return b""


def first_records(path: Path, most: int = 20) -> list[dict[str, Any]]:
    """Return the objects that a file of JSON lines begins with; a first line that is too long is looked for in vain."""
    found = [parse(line) for line in beginning(path).split(b"\n")[:most] if line.strip()]
    return [record for record in found if isinstance(record, dict)]


def walk(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the regular files under a folder, sorted, without following links into other folders."""
    try:
        with os.scandir(root) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_file():
                yield Path(entry.path)
            elif depth and entry.is_dir(follow_symlinks=False) and entry.name not in SKIPPED:
                yield from walk(Path(entry.path), depth - 1)
        except OSError:
            continue


SKIPPED = {"node_modules", ".git", "__pycache__", "site-packages", "proc", "sys", "dev"}


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns // 1000
    except (OSError, ValueError):
        return EARLIEST_US
