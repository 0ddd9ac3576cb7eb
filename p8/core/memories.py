"""What is remembered across sessions: hot memories in RAM with snapshots, persistent ones as Markdown files (row J4).

    <home>/memories/{user | project/<id> | session/<id>}/hot/hot.json        snapshot, merged, every 300 s and at exit
                                                     .../persistent/<name>.md  one file each, to be edited by hand

A project P8 hosts keeps its own in its `.memories/`. Two processes at once keep both what they remember.
Refuses: to know how a scope's files are written (`shelf.py` does).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from p8.core.recall import Index, words_of
from p8.core.shelf import MOST_BYTES, NAME, Memory, Shelf
from p8.errors import Conflict, NotFound, StoreError, UsageError
from p8.model import IdMaker, now_us

SCOPES = ("session", "project", "user")  #: nearest first
SNAPSHOT_S = 300.0
PROMOTE_AFTER = 3  #: recalls of a hot memory make it persistent


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
