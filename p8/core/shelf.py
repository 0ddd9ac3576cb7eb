"""The memories of one scope, and where they lie: hot ones in a snapshot, persistent ones as Markdown files.

Whoever writes a snapshot takes in what others wrote before it. A file is written whole or not at all.
Refuses: to follow links out of its folder, and to lose what it cannot read (it is set aside).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from p8.core import homefiles
from p8.errors import StoreError, UsageError
from p8.model import from_us, parse_time, to_us

MOST_BYTES = 262_144  #: of one memory
TOMBSTONES = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
FENCE = "---\n"


class Memory(NamedTuple):
    """One memory. Times are microseconds since 1970."""

    id: str
    scope: str
    text: str
    created_us: int
    updated_us: int
    tags: tuple[str, ...] = ()
    hot: bool = True
    recalls: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **{name: getattr(self, name) for name in ("id", "scope", "text", "hot", "recalls")},
            "tags": list(self.tags), "created": from_us(self.created_us).isoformat(),
            "updated": from_us(self.updated_us).isoformat(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Memory:
        """
        Build from `to_dict`'s shape.

        Raises:
            ValueError: it is not of that shape.
        """
        try:
            return cls(
                str(data["id"]), str(data["scope"]), str(data["text"]), to_us(parse_time(data["created"])),
                to_us(parse_time(data["updated"])), tuple(map(str, data.get("tags", ()))), bool(data.get("hot", True)),
                int(data.get("recalls", 0)),
            )  # fmt: skip
        except (KeyError, TypeError, UsageError) as error:
            raise ValueError(str(error)) from error


class Shelf:
    """
    The memories of one scope.

    Args:
        folder: holds `hot/` and `persistent/`; made when something is written.
        scope: its scope.

    Attributes:
        hot: by id.
        dirty: something is in RAM that is not in the snapshot.
    """

    def __init__(self, folder: Path, scope: str) -> None:
        self.folder = folder
        self.scope = scope
        self.hot: dict[str, Memory] = {}
        self.dirty = False
        self._gone: dict[str, int] = {}
        self._kept: dict[str, tuple[tuple[int, int], Memory]] = {}

    def put(self, memory: Memory) -> None:
        """Take a hot memory in, or a newer state of it."""
        self.hot[memory.id] = memory
        self.dirty = True

    def drop(self, memory_id: str, at_us: int) -> None:
        """Forget a hot memory, also against what others have in their snapshots."""
        self.hot.pop(memory_id, None)
        self._gone[memory_id] = at_us
        self.dirty = True

    def load(self) -> None:
        """Take in what the snapshot has. One that cannot be read is set aside, never overwritten."""
        for memory in self._read_snapshot():
            if memory.id not in self._gone and _newer(memory, self.hot.get(memory.id)):
                self.hot[memory.id] = memory
        for memory_id in self._gone:
            self.hot.pop(memory_id, None)

    def merge(self) -> None:
        """
        Write the snapshot: what is there, what is here, less what was forgotten.

        Raises:
            StoreError: the disk refuses.
        """
        place = self.folder / "hot"
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            with homefiles.locked(place / "lock"):
                self.load()
                gone = dict(sorted(self._gone.items(), key=lambda item: item[1])[-TOMBSTONES:])
                data = {"version": 1, "memories": [m.to_dict() for m in self.hot.values()], "forgotten": gone}
                _write(place / "hot.json", json.dumps(data, ensure_ascii=False, indent=1))
        except OSError as error:
            raise StoreError(f"memories cannot be written: {error.strerror}", f"in {place}") from error
        self.dirty = False

    def _read_snapshot(self) -> list[Memory]:
        file = self.folder / "hot" / "hot.json"
        try:
            data = json.loads(_read(file))
            found = [Memory.from_dict(one) for one in data["memories"]]
            for memory_id, at_us in data.get("forgotten", {}).items():
                self._gone.setdefault(str(memory_id), int(at_us))
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError):
            with contextlib.suppress(OSError):
                file.rename(file.with_name(f"hot.unreadable-{time.time_ns()}.json"))
            return []
        except OSError:
            return []
        return [m._replace(scope=self.scope, hot=True) for m in found]

    # persistent

    def path(self, memory_id: str) -> Path:
        """Return where a persistent memory is or would be."""
        return self.folder / "persistent" / f"{memory_id}.md"

    def read(self, memory_id: str) -> Memory | None:
        """Return a persistent memory as its file says now."""
        if not NAME.fullmatch(memory_id):
            return None
        try:
            fd = os.open(self.path(memory_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            raw = os.read(fd, MOST_BYTES + 65536)
            changed_us = os.fstat(fd).st_mtime_ns // 1000
        except OSError:
            return None
        finally:
            os.close(fd)
        return parse(raw.decode("utf-8", "replace"), memory_id, self.scope, changed_us)

    def write(self, memory: Memory) -> None:
        """Write a persistent memory. Raises StoreError where the disk refuses."""
        file = self.path(memory.id)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(file, render(memory))
        except OSError as error:
            raise StoreError(f"the memory cannot be written: {error.strerror}", str(file)) from error

    def trash(self, memory_id: str, trash: Path) -> None:
        """Move a persistent memory's file to the trash. Raises StoreError where that fails."""
        file = self.path(memory_id)
        try:
            trash.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(file, trash / f"memory-{self.scope}-{time.time_ns()}-{file.name}")
        except OSError as error:
            raise StoreError(f"the memory cannot be forgotten: {error.strerror}", str(file)) from error

    def everything(self) -> list[Memory]:
        """Return all, hot and persistent. A file is read again when it has changed."""
        found, kept = [*self.hot.values()], {}
        with contextlib.suppress(OSError), os.scandir(self.folder / "persistent") as entries:
            for entry in entries:
                name = entry.name.removesuffix(".md")
                if name == entry.name or not NAME.fullmatch(name) or not entry.is_file(follow_symlinks=False):
                    continue
                state = entry.stat(follow_symlinks=False)
                stamp = state.st_mtime_ns, state.st_size
                known = self._kept.get(name)
                memory = known[1] if known is not None and known[0] == stamp else self.read(name)
                if memory is not None:
                    kept[name] = (stamp, memory)
                    found.append(memory)
        self._kept = kept
        return found


def render(memory: Memory) -> str:
    """Return a memory as its Markdown file has it."""
    tags = f"tags: {', '.join(memory.tags)}\n" if memory.tags else ""
    return f"{FENCE}created: {from_us(memory.created_us).isoformat()}\n{tags}{FENCE}{memory.text}\n"


def parse(text: str, memory_id: str, scope: str, changed_us: int) -> Memory:
    """Read a Markdown file as a person may have left it: with or without the lines between the dashes."""
    created, body = changed_us, text
    tags: tuple[str, ...] = ()
    if text.startswith(FENCE) and f"\n{FENCE}" in text[len(FENCE) - 1 :]:
        head, _, body = text[len(FENCE) :].partition(FENCE)
        values = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in head.splitlines())}
        with contextlib.suppress(UsageError, KeyError):
            created = to_us(parse_time(values["created"]))
        tags = tuple(sorted({t.strip() for t in values.get("tags", "").strip("[]").split(",") if t.strip()}))
    return Memory(memory_id, scope, body.strip(), created, max(created, changed_us), tags, hot=False)


def _newer(memory: Memory, known: Memory | None) -> bool:
    if known is None:
        return True
    return (memory.updated_us, memory.recalls) > (known.updated_us, known.recalls)


def _read(file: Path) -> bytes:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as source:
        return source.read(256 << 20)


def _write(file: Path, text: str) -> None:
    homefiles.replace(file, text.encode("utf-8", "backslashreplace"))
