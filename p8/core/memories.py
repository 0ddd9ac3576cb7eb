"""What is remembered across sessions: hot memories in RAM with snapshots, persistent ones as Markdown files (row J4).

    <home>/memories/{user | project/<id> | session/<id>}/hot/hot.json        snapshot, merged, every 300 s and at exit
                                                     .../persistent/<name>.md  one file each, to be edited by hand

A project P8 hosts keeps its own in its `.memories/`. Whoever writes a snapshot takes in what others wrote before it, so
two processes at once keep both. A persistent memory is a file of its own and is written whole or not at all.
Refuses: to follow links out of its folders, and to lose what it cannot read (it is set aside).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p8.core import homefiles
from p8.core.recall import Index, words_of
from p8.errors import Conflict, NotFound, StoreError, UsageError
from p8.model import IdMaker, from_us, now_us, parse_time, to_us

SCOPES = ("session", "project", "user")  #: nearest first
SNAPSHOT_S = 300.0
MOST_BYTES = 262_144  #: of one memory
PROMOTE_AFTER = 3  #: recalls of a hot memory make it persistent
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


class Memories:
    """
    The memories of a person, and of the project and session at hand.

    Args:
        home: P8's home.
        project: returns the project's id and its hosted workspace, if it has one.
        session: returns the current session's id, or "".
        clock: microseconds since 1970.
        snapshot_s: how often hot memories are written down; 0 only at the end.

    A hot memory is read with one dictionary lookup, a persistent one with one read of its file.
    """

    def __init__(
        self,
        home: Path,
        project: Callable[[], tuple[str, Path | None]] = lambda: ("", None),
        session: Callable[[], str] = lambda: "",
        clock: Callable[[], int] = now_us,
        snapshot_s: float = SNAPSHOT_S,
    ) -> None:
        self._root = home / "memories"
        self._project = project
        self._session = session
        self._clock = clock
        self._snapshot_s = snapshot_s
        self._new_id = IdMaker(clock)
        self._lock = threading.RLock()
        self._shelves: dict[Path, Shelf] = {}
        self._loaded: tuple[Shelf, ...] = ()
        self._timer: threading.Timer | None = None
        self._closed = False
        #: told of each change: "remembered", "forgotten" or "promoted", and the memory
        self.on_change: Callable[[str, Memory], None] = lambda _what, _memory: None

    # one by one

    def remember(self, text: str, scope: str = "project", *, keep: bool = False, tags: Sequence[str] = ()) -> Memory:
        """
        Remember something.

        Args:
            text: what.
            scope: "session", "project" or "user".
            keep: persistent at once; else hot.
            tags: words to find it by.

        Raises:
            UsageError: the text is empty or too long, or the scope is none or has nothing at hand.
            StoreError: a persistent one cannot be written.
        """
        text = text.strip()
        if not text:
            raise UsageError("nothing to remember", "/remember TEXT")
        if len(text.encode("utf-8", "replace")) > MOST_BYTES:
            raise UsageError("that is too long for one memory", f"at most {MOST_BYTES:,} bytes")
        shelf = self.shelf(scope)
        now = self._clock()
        memory = Memory(self._new_id(), scope, text, now, now, tuple(sorted(set(tags))), not keep)
        with self._lock:
            if keep:
                shelf.write(memory)
            else:
                shelf.put(memory)
                self._schedule()
        self.on_change("remembered", memory)
        return memory

    def get(self, memory_id: str) -> Memory:
        """
        Return one memory; hot ones from RAM, persistent ones of the scopes at hand from their files.

        Raises:
            NotFound: there is none.
        """
        for shelf in self._loaded:
            found = shelf.hot.get(memory_id)
            if found is not None:
                return found
        for shelf in self._at_hand():
            found = shelf.hot.get(memory_id) or shelf.read(memory_id)
            if found is not None:
                return found
        raise NotFound(f"no memory {memory_id!r}", "/recall lists them")

    def find(self, words: str) -> Memory:
        """
        Return the memory a person means: by id or its beginning or end, or by words that only it has.

        Raises:
            NotFound, Conflict: none, or several.
        """
        known = self.all()
        for fits in (
            [m for m in known if m.id == words],
            [m for m in known if len(words) >= 4 and (m.id.startswith(words) or m.id.endswith(words))],
            [m for m in known if words and words.casefold() in m.text.casefold()],
        ):
            if len(fits) == 1:
                return fits[0]
            if fits:
                raise Conflict(f"{words!r} fits {len(fits)} memories", ", ".join(m.id for m in fits[:4]))
        raise NotFound(f"no memory {words!r}", "/recall lists them")

    def forget(self, memory_id: str) -> Memory:
        """
        Forget one. A persistent one's file goes to the home's trash.

        Raises:
            NotFound: there is none of that id.
            StoreError: it cannot be moved.
        """
        with self._lock:
            memory = self.get(memory_id)
            shelf = self.shelf(memory.scope)
            if memory.hot:
                shelf.drop(memory_id, self._clock())
                self.snapshot()
            else:
                shelf.trash(memory_id, self._root.parent / "trash")
        self.on_change("forgotten", memory)
        return memory

    def promote(self, memory_id: str) -> Memory:
        """
        Make a hot memory persistent. One that is already stays as it is.

        Raises:
            NotFound: there is none of that id.
            StoreError: it cannot be written.
        """
        with self._lock:
            memory = self.get(memory_id)
            if not memory.hot:
                return memory
            shelf = self.shelf(memory.scope)
            kept = memory._replace(hot=False)
            shelf.write(kept)
            shelf.drop(memory_id, self._clock())
            self.snapshot()
        self.on_change("promoted", kept)
        return kept

    # many

    def all(self, scope: str = "") -> list[Memory]:
        """Return the memories at hand, nearest scope first, then newest first."""
        found = [m for shelf in self._at_hand(scope) for m in shelf.everything()]
        return sorted(found, key=lambda m: (SCOPES.index(m.scope), -m.updated_us, m.id))

    def recall(self, query: str, scope: str = "", limit: int = 10) -> list[Memory]:
        """
        Return the memories that fit words best (BM25, beginnings of words count), best first; all where none is given.

        A hot memory recalled by words three times becomes persistent.
        """
        known = self.all(scope)
        if not words_of(query):
            return known[:limit]
        found = [known[at] for at, _ in Index([f"{m.text} {' '.join(m.tags)}" for m in known]).best(query, limit)]
        return [self._recalled(memory) for memory in found]

    def _recalled(self, memory: Memory) -> Memory:
        if not memory.hot:
            return memory
        with self._lock:
            counted = memory._replace(recalls=memory.recalls + 1)
            self.shelf(memory.scope).put(counted)
            self._schedule()
        return self.promote(memory.id) if counted.recalls >= PROMOTE_AFTER else counted

    def context(self, budget: int, count: Callable[[str], int], query: str = "") -> str:
        """
        Return what an assistant is told of the memories, in at most `budget` tokens; "" where there are none.

        Those that fit `query` come first, then the nearest scope's newest. One that does not fit whole is left out.
        """
        known = self.all()
        if not known or budget <= 0:
            return ""
        order = [at for at, _ in Index([m.text for m in known]).best(query, len(known))] if query else []
        order += [at for at in range(len(known)) if at not in set(order)]
        lines = ["What is remembered from before:"]
        left = budget - count(lines[0]) - 1
        for at in order:
            line = f"- {known[at].text}" + (f" ({known[at].scope})" if known[at].scope != "user" else "")
            cost = count(line) + 1
            if cost <= left:
                lines.append(line)
                left -= cost
        return "\n".join(lines) if len(lines) > 1 else ""

    # snapshots

    def snapshot(self) -> None:
        """
        Write all hot memories down, taking in what other processes wrote.

        Raises:
            StoreError: the disk refuses; they stay in RAM and are tried again.
        """
        with self._lock:
            for shelf in list(self._shelves.values()):
                if shelf.dirty:
                    shelf.merge()

    def close(self) -> None:
        """Write the last snapshot. Safe to call twice; a disk that refuses must not stop anybody from leaving."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(StoreError):
            self.snapshot()

    def _schedule(self) -> None:
        if self._timer is not None or self._closed or self._snapshot_s <= 0:
            return
        self._timer = threading.Timer(self._snapshot_s, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _tick(self) -> None:
        self._timer = None
        try:
            self.snapshot()
        except StoreError:
            with self._lock:
                self._schedule()

    # where

    def shelf(self, scope: str) -> Shelf:
        """
        Return where a scope's memories are.

        Raises:
            UsageError: there is no such scope, or no session or project at hand.
        """
        if scope not in SCOPES:
            raise UsageError(f"no scope is called {scope!r}", " ".join(SCOPES))
        folder = self._root / "user"
        if scope == "project":
            name, workspace = self._project()
            folder = workspace / ".memories" if workspace is not None else self._root / "project" / name
        elif scope == "session":
            name = self._session()
            folder = self._root / "session" / name
        if scope != "user" and not NAME.fullmatch(name):
            raise UsageError(f"no {scope} is at hand", "/remember --scope user")
        with self._lock:
            found = self._shelves.get(folder)
            if found is None:
                found = self._shelves[folder] = Shelf(folder, scope)
                found.load()
                self._loaded = (*self._loaded, found)
            return found

    def _at_hand(self, scope: str = "") -> Iterator[Shelf]:
        for name in (scope,) if scope else SCOPES:
            with contextlib.suppress(UsageError):
                yield self.shelf(name)


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
