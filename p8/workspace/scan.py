"""Looks at a tree of files: which are there, which changed since the last look, which git would ignore.

A file whose size, times and number are those of the last look is not read again, unless it was changed so shortly
before that look that the times could not tell. Git itself is asked what is ignored, about names not seen before only;
a changed rule asks anew about all. Refuses: to follow links, to read pipes and devices, to enter `.git`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import marshal
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from p8.errors import WorkspaceError
from p8.workspace import git
from p8.workspace.ignore import Ignored, Rules
from p8.workspace.objects import Oid

RACY_NS = 100_000_000  #: a file changed so shortly before it was read is read again next time
OURS = ".p8-restore-"  #: what the names of files that a restore is just writing begin with
MARK = b"P8 look 2 " + sys.implementation.cache_tag.encode() + b"\n"


class Limits(NamedTuple):
    """What is too much to keep without being asked."""

    file_bytes: int = 50 << 20  #: a larger file is left out, and named
    files: int = 200_000
    tree_bytes: int = 4 << 30  #: of files that would have to be read


class Skipped(NamedTuple):
    """What a checkpoint leaves out."""

    path: str
    reason: str
    size_bytes: int


#: ctime in ns (-1 where it proves nothing), inode, size, mode, object. Whatever changes a file or its mode sets ctime.
Known = tuple[int, int, int, int, bytes]


@dataclass(slots=True)
class Folder:
    """One directory as it was found."""

    mode: int = 0
    files: dict[str, Known] = field(default_factory=dict)
    folders: dict[str, Folder] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  #: name -> why it is left out; "" for what git ignores
    odd: dict[str, int] = field(default_factory=dict)  #: name -> permissions that are not the usual ones
    changed: bool = True  #: something in it or below it is not as at the last look
    tree: Oid = b""

    def packed(self) -> tuple[Any, ...]:
        """Return plain values."""
        below = {n: f.packed() for n, f in self.folders.items()}
        return (self.mode, self.files, below, self.left, self.odd, self.tree)

    @classmethod
    def unpacked(cls, values: Any) -> Folder:
        """Return what `packed` was made from."""
        mode, files, folders, left, odd, tree = values
        return cls(mode, files, {n: cls.unpacked(v) for n, v in folders.items()}, left, odd, False, tree)


class Look(NamedTuple):
    """One look at a tree."""

    same: bool  #: nothing at all differs from the last look
    top: Folder
    nested: dict[str, str]  #: path of a repository within -> its HEAD
    skipped: list[Skipped]
    files: int
    fresh: list[tuple[Folder, str, str]]  #: (directory, name, path) of the files that must be read
    began_ns: int
    usual: dict[str, int]  #: permissions that most files, programs and directories have: file, exec, dir


class _RulesChanged(Exception):
    """What was known of ignored names does not hold any more: ask anew."""


class Scan:
    """
    Looks at one tree again and again.

    Args:
        root: its top.
        cache: file that keeps what was seen.
        store: P8's own repository for this tree.
        limits: what is too much.
        apart: directories to leave out whatever they hold: P8's own.
        forced: paths to look at although git ignores them or they are large.
        memory: keeps what `cache` holds for the next look of this process.
    """

    def __init__(
        self, root: Path, cache: Path, store: Path, limits: Limits, apart: Collection[Path] = (),
        forced: Collection[str] = (),
        memory: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.root = root
        self._cache = cache
        self._store = store
        self._limits = limits
        self._apart = {_number(path) for path in apart}
        self._asked = set(forced)
        self._asked_folders = {part for path in forced for part in _parents(path)}
        self._rules: Any = None
        self._memory = {} if memory is None else memory

    def look(self) -> Look:
        """
        Look at everything.

        Raises:
            WorkspaceError: it cannot be read, or is more than the limits allow.
        """
        old, rules, nested, skipped, usual = self._last()
        if old is not None:
            with contextlib.suppress(_RulesChanged):
                look = self._walk(old, rules, settled=True)
                same = not look.top.changed and look.nested == nested and [tuple(s) for s in look.skipped] == skipped
                return look._replace(same=same, usual=usual)
        return self._walk(old or Folder(), rules, settled=False)

    def keep(self, look: Look) -> None:
        """Remember what was seen, for the next look."""
        skipped = [tuple(s) for s in look.skipped]
        body = marshal.dumps((self._rules, look.nested, skipped, look.usual, look.top.packed()))
        with contextlib.suppress(OSError):  # the next look takes longer
            fresh = self._cache.with_name(f"{self._cache.name}.new")
            fresh.write_bytes(MARK + hashlib.sha1(body, usedforsecurity=False).digest() + body)
            fresh.replace(self._cache)
            self._memory["seen"] = self._stamp(), (look.top, self._rules, look.nested, skipped, look.usual)

    def _stamp(self) -> tuple[int, int, int]:
        state = self._cache.stat()
        return state.st_mtime_ns, state.st_ino, state.st_size

    def _last(self) -> tuple[Folder | None, Any, Any, Any, Any]:
        stamp, seen = self._memory.get("seen", (None, None))
        with contextlib.suppress(OSError):
            if stamp == self._stamp():
                return seen  # type: ignore[no-any-return]
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            raw = self._cache.read_bytes()
            digest, body = raw[len(MARK) : len(MARK) + 20], raw[len(MARK) + 20 :]
            if raw.startswith(MARK) and hashlib.sha1(body, usedforsecurity=False).digest() == digest:
                rules, nested, skipped, usual, top = marshal.loads(body)  # noqa: S302 ours, compared with its hash
                return Folder.unpacked(top), rules, nested, skipped, usual
        return None, None, None, None, None

    def _walk(self, old: Folder, known: Any, settled: bool) -> Look:
        rules = Rules(self.root, self._store, known)
        walk = _Walk(self.root, settled, self._limits, rules)
        walk.apart = self._apart
        walk.asked, walk.asked_folders = self._asked, self._asked_folders
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise WorkspaceError(f"{self.root} cannot be read: {error.strerror}") from error
        try:
            top = walk.folder(descriptor, "", old if old.mode else None, walk.enter(""))
        finally:
            os.close(descriptor)
            rules.close()
        self._rules = rules.state
        return Look(
            False, top, walk.nested, walk.skipped, walk.files, walk.fresh, walk.began_ns, {} if settled else _usual(top)
        )


class _Walk:
    """What one look has found so far."""

    def __init__(self, root: Path, settled: bool, limits: Limits, rules: Rules) -> None:
        self.root = root
        self.settled = settled
        self.limits = limits
        self.rules = rules
        self.apart: set[tuple[int, int]] = set()
        self.asked: set[str] = set()
        self.asked_folders: set[str] = set()
        self.forced: set[str] = set()
        self.forced_folders: set[str] = set()
        self.nested: dict[str, str] = {}
        self.skipped: list[Skipped] = []
        self.fresh: list[tuple[Folder, str, str]] = []
        self.files = 0
        self.bytes = 0
        self.began_ns = time.time_ns()

    def enter(self, path: str) -> Ignored:
        """Go into the repository at `path`, "" for the top; of one within, the `.git` is neither read nor written."""
        ignored, tracked, same = self.rules.enter(path)
        if self.settled and not same:
            raise _RulesChanged
        self.forced.update(tracked)
        self.forced_folders.update(part for p in tracked for part in _parents(p))
        if path:
            self.nested[path] = git.head(self.root / path)[1]
        return ignored

    def folder(
        self, descriptor: int, rel: str, old: Folder | None, ignored: Ignored, only_forced: bool = False
    ) -> Folder:
        """Look at one directory, open as `descriptor`; `rel` is its path with a slash at its end, or ""."""
        was = old or Folder()
        now = Folder(mode=stat.S_IMODE(os.fstat(descriptor).st_mode))
        with os.scandir(descriptor) as listing:
            entries = {entry.name: entry for entry in listing}
        if ".git" in entries:
            if rel and not only_forced and _is_repository(self.root / rel):
                ignored = self.enter(rel[:-1])
            del entries[".git"]
        if self.settled and (".gitignore" in was.files) != (".gitignore" in entries) and not only_forced:
            raise _RulesChanged
        known, kept = was.files, now.files
        changed = old is None or was.mode != now.mode
        for name in self._wanted(entries, rel, was, now, ignored, only_forced):
            entry = entries[name]
            file = known.get(name)
            try:
                if file is not None:
                    state = entry.stat(follow_symlinks=False)
                    if file[0] == state.st_ctime_ns and file[1] == state.st_ino and file[2] == state.st_size:
                        kept[name] = file
                        continue
                if entry.is_dir(follow_symlinks=False):
                    below = self._below(descriptor, name, rel, was.folders.get(name), ignored, now, only_forced)
                    if below is not None:
                        now.folders[name] = below
                        changed = changed or below.changed
                else:
                    self._file(name, entry.stat(follow_symlinks=False), rel, now)
                    changed = True
            except FileNotFoundError:
                changed = True  # gone meanwhile
        self._count(len(kept))
        now.changed = changed or kept.keys() != known.keys() or now.folders.keys() != was.folders.keys()
        if not now.changed:
            now.tree, now.odd = was.tree, was.odd
        return now

    def _count(self, files: int) -> None:
        self.files += files
        if self.files > self.limits.files:
            raise WorkspaceError(
                f"{self.root} has more than {self.limits.files:,} files",
                "their checkpoints would be large: /checkpoint create --large allows it here",
            )

    def _wanted(
        self, entries: dict[str, os.DirEntry[str]], rel: str, was: Folder, now: Folder, ignored: Ignored,
        only_forced: bool,
    ) -> Collection[str]:  # fmt: skip
        """Return the names to look at; what is left out is noted in `now`."""
        names = entries.keys()
        if only_forced:
            return [n for n in names if self._is_forced(rel + n)]
        if self.settled:
            unknown = names - was.files.keys() - was.folders.keys()
            if not unknown:
                return names
            known = {name for name in unknown if was.left.get(name) == ""}
            unknown -= known
        else:
            known, unknown = set(), set(names)
        ours = {name for name in unknown if name.startswith(OURS)}
        out = known | ignored.among(rel, unknown - ours, all_at_once=not self.settled)
        now.left.update((name, "") for name in out)
        return names - ours - {name for name in out if not self._is_forced(rel + name)}

    def _is_forced(self, path: str) -> bool:
        return (
            path in self.forced or path in self.forced_folders or path in self.asked or path in self.asked_folders
        )  # fmt: skip

    def _below(
        self, descriptor: int, name: str, rel: str, old: Folder | None, ignored: Ignored, parent: Folder,
        only_forced: bool,
    ) -> Folder | None:  # fmt: skip
        path = rel + name
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        except OSError as error:
            self._skip(parent, name, path, f"cannot be read: {error.strerror}", 0)
            return None
        try:
            if self.apart:
                state = os.fstat(inner)
                if (state.st_dev, state.st_ino) in self.apart:
                    self._skip(parent, name, path, "P8's own", 0)
                    return None
            only_forced = only_forced or name in parent.left
            return self.folder(inner, f"{path}/", old, ignored, only_forced)
        finally:
            os.close(inner)

    def _file(self, name: str, state: os.stat_result, rel: str, now: Folder) -> None:
        """Note a file or link that is new, or not as at the last look."""
        mode = state.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            self._skip(now, name, rel + name, "a pipe, socket or device", 0)
            return
        if state.st_size > self.limits.file_bytes and rel + name not in self.asked:
            self._skip(now, name, rel + name, f"larger than {self.limits.file_bytes >> 20} MiB", state.st_size)
            return
        if name == ".gitignore" and self.settled:
            raise _RulesChanged
        self.bytes += state.st_size
        if self.bytes > self.limits.tree_bytes:
            raise WorkspaceError(
                f"{self.root} holds more than {self.limits.tree_bytes >> 30} GiB",
                "their checkpoints would be large: /checkpoint create --large allows it here",
            )
        now.files[name] = (state.st_ctime_ns, state.st_ino, state.st_size, mode, b"")
        self.fresh.append((now, name, rel + name))

    def _skip(self, parent: Folder, name: str, path: str, reason: str, size: int) -> None:
        parent.left[name] = reason
        self.skipped.append(Skipped(path, reason, size))


def _usual(top: Folder) -> dict[str, int]:
    counts: dict[str, Counter[int]] = {"file": Counter(), "exec": Counter(), "dir": Counter()}
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        counts["dir"][folder.mode] += 1
        for file in folder.files.values():
            if stat.S_ISREG(file[3]):
                counts["exec" if file[3] & 0o100 else "file"][stat.S_IMODE(file[3])] += 1
        waiting += folder.folders.values()
    defaults = {"file": 0o644, "exec": 0o755, "dir": 0o755}
    return {name: count.most_common(1)[0][0] if count else defaults[name] for name, count in counts.items()}


def _number(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_dev, state.st_ino


def _is_repository(folder: Path) -> bool:
    found = git.find(folder)
    return found is not None and found.root == folder


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def content_at(root: Path, path: str, limit: int) -> tuple[bytes, os.stat_result]:
    """
    Return a file's content, or a link's target, and its state at that moment. No part of the path may be a link.

    Raises:
        OSError: it is not there, may not be read, is neither file nor link, or a part of the path is a link.
    """
    parent, name = open_parent(root, path)
    try:
        return content_in(parent, name, limit)
    finally:
        os.close(parent)


def content_in(parent: int, name: str, limit: int) -> tuple[bytes, os.stat_result]:
    """Do what `content_at` does, in a directory that is open already."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for _ in range(3):
        try:
            descriptor = os.open(name, flags, dir_fd=parent)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            state = os.stat(name, dir_fd=parent, follow_symlinks=False)
            return os.fsencode(os.readlink(name, dir_fd=parent)), state
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise OSError(0, "is neither a file nor a link")
            content = _all_of(descriptor, min(before.st_size, limit) + 1)
            state = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if before.st_mtime_ns == state.st_mtime_ns and (len(content) == state.st_size or len(content) > limit):
            break
    return content, state


def _all_of(descriptor: int, size: int) -> bytes:
    first = os.read(descriptor, size)
    if len(first) >= size or not first:
        return first
    parts, left = [first], size - len(first)
    while left > 0 and (more := os.read(descriptor, left)):
        parts.append(more)
        left -= len(more)
    return b"".join(parts) if len(parts) > 1 else first


def open_parent(root: Path, path: str) -> tuple[int, str]:
    """
    Open the directory that holds `path`, step by step, through no link; return its descriptor and the last name.

    Raises:
        OSError: a part is missing, a link, or not a directory.
    """
    *folders, name = path.split("/")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    for folder in folders:
        if folder in {"", ".", ".."}:
            os.close(descriptor)
            raise OSError(0, "is not a path inside the project")
        try:
            inner = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    if name in {"", ".", "..", ".git"}:
        os.close(descriptor)
        raise OSError(0, "is not a path inside the project")
    return descriptor, name
