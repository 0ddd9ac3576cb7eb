"""Snapshots of a project's files, in a bare repository of P8's own; the project's own `.git` is only ever read.

A snapshot is a commit of two things: `files`, the tree, and `manifest.json`, which keeps what git does not: modes,
which repositories lay within, what was left out and why. Taking one of an unchanged tree writes nothing. One process
at a time works on a store, held by a lock that dies with it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from p8.errors import NotFound, WorkspaceError
from p8.workspace.objects import (
    LINK_MODE,
    TREE_MODE,
    Objects,
    Oid,
    PackWriter,
    Reader,
    TreeEntry,
    parse_tree,
    tree_content,
)
from p8.workspace.scan import RACY_NS, Folder, Limits, Look, Scan, Skipped, content_in, open_parent

LOCK_S = 20.0
LIMITS = Limits()
AUTHOR = "p8 <p8@localhost>"


class FileState(NamedTuple):
    """A file, link or directory of a snapshot."""

    mode: int  #: type and permissions, as in st_mode
    oid: Oid  #: of its content; nothing of a directory

    @property
    def is_folder(self) -> bool:
        """Return whether it is a directory."""
        return stat.S_ISDIR(self.mode)


class Snapshot(NamedTuple):
    """One state of a tree."""

    id: str  #: the commit
    new: bool  #: something had changed since the last one
    files: int
    written_bytes: int  #: what it added to the store
    skipped: tuple[Skipped, ...] = ()
    nested: tuple[str, ...] = ()  #: repositories within


class Change(NamedTuple):
    """What happened to one path from one snapshot to another."""

    path: str
    what: str  #: added, deleted, modified, mode or type
    old: FileState | None
    new: FileState | None


@dataclass(slots=True)
class Manifest:
    """What a snapshot keeps beside git's tree."""

    modes: dict[str, int]
    odd: dict[str, int] = field(default_factory=dict)  #: path -> permissions that are not the usual ones
    nested: dict[str, str] = field(default_factory=dict)  #: repository within -> its HEAD
    skipped: list[Skipped] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """Return JSON; bytes of names that are no UTF-8 stand in it as lone surrogates."""
        plain = {
            "version": 1, "modes": self.modes, "odd": self.odd, "nested": self.nested,
            "skipped": [list(s) for s in self.skipped],
        }  # fmt: skip
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Manifest:
        """Return what `to_bytes` was given."""
        plain = json.loads(raw)
        return cls(plain["modes"], plain["odd"], plain["nested"], [Skipped(*s) for s in plain["skipped"]])

    def permissions(self, path: str, git_mode: int) -> int:
        """Return a path's permissions."""
        usual = "dir" if git_mode == TREE_MODE else "exec" if git_mode == 0o100755 else "file"
        return self.odd.get(path, self.modes[usual])


@dataclass(slots=True)
class Known:
    """Whose doing the present files are."""

    snapshot: str = ""  #: the last one that the person asked for
    ours: dict[str, FileState | None] = field(default_factory=dict)  #: what P8 has done since


class Snapshots:
    """
    The snapshots of one tree.

    Args:
        folder: the store, made at the first snapshot: one for all trees of a project.
        root: the tree's top.
        limits: what is too much to keep unasked.
        apart: directories never looked into: P8's own.
        source: the objects of the project's repository, which the store begins with.
        tell: told of progress: a fraction and what is being done.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        limits: Limits = LIMITS,
        apart: Collection[Path] = (),
        source: Path | None = None,
        tell: Callable[[float, str], None] = lambda _fraction, _text: None,
    ) -> None:
        self.folder = folder
        self.root = root
        self.limits = limits
        self.objects = Objects(folder)
        self._apart = apart
        self._source = source
        self._tell = tell
        self._memory: dict[str, Any] = {}
        self._mark = hashlib.sha1(os.fsencode(root), usedforsecurity=False).hexdigest()[:16]

    # taking

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keep other processes off the store, and clean up what a killed one left.

        Raises:
            WorkspaceError: it cannot be made, or another process works on it for too long.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(f"{self.folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise WorkspaceError(f"{self.folder} cannot be written to: {error.strerror}") from error
        try:
            until = time.monotonic() + LOCK_S
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() > until:
                    raise WorkspaceError("another p8 is busy with the checkpoints of this project", "try again")
                time.sleep(0.02)
            self.objects.create(self._source)
            self.objects.clean()
            yield
        except OSError as error:
            what = f"{error.filename or self.folder}: {error.strerror or error}"
            raise WorkspaceError(what, "free some space, or see who may write") from error
        finally:
            os.close(descriptor)

    def take(self, known: bool = True) -> Snapshot:
        """
        Keep the files as they are now; durable when this returns.

        Args:
            known: the person meant this state: a restore may go from it to another one without asking about each file.

        Raises:
            WorkspaceError: the tree is too large, cannot be read, or the disk refuses.
        """
        with self.locked():
            scan = self._scan(())
            look = scan.look()
            last = self._last()
            if look.same and last is not None and self.objects.has(bytes.fromhex(last[0])):
                taken = Snapshot(last[0], False, look.files, 0, tuple(look.skipped), tuple(look.nested))
            else:
                taken = self._keep(scan, look, ())
            if known:
                self._save_known(Known(taken.id))
            return taken

    def take_locked(self, also: Collection[str] = ()) -> tuple[Snapshot, dict[str, FileState]]:
        """
        Keep the files for who holds the lock; return them as well.

        Args:
            also: paths to keep although git ignores them or they are large.
        """
        scan = self._scan(also)
        look = scan.look()
        return self._keep(scan, look, also), files_of(look.top)

    def _scan(self, also: Collection[str]) -> Scan:
        seen = self.folder / "p8" / f"{self._mark}.seen"
        return Scan(self.root, seen, self.folder, self.limits, self._apart, also, self._memory)

    def _keep(self, scan: Scan, look: Look, also: Collection[str]) -> Snapshot:
        with self.objects.writer() as writer:
            self._read_fresh(look, writer, set(also))
            manifest = Manifest(look.usual, nested=look.nested, skipped=sorted(look.skipped))
            tree = _Trees(writer, manifest).folder(look.top, "")
            entries = [TreeEntry(TREE_MODE, b"files", tree)]
            entries.append(TreeEntry(0o100644, b"manifest.json", writer.add("blob", manifest.to_bytes())))
            top = writer.add("tree", tree_content(entries))
            last = self._last()
            if last is not None and last[1] == top and self.objects.has(bytes.fromhex(last[0])):
                commit, new = last[0], False
            else:
                commit, new = self._commit(writer, top), True
            writer.finish()
        if new:
            self.objects.point(f"refs/p8/{commit}", bytes.fromhex(commit))
        if not also:
            if new or last is None:
                self._remember(commit, top)
            scan.keep(look)
        skipped, nested = tuple(manifest.skipped), tuple(sorted(look.nested))
        return Snapshot(commit, new, look.files, writer.written_bytes, skipped, nested)

    def _read_fresh(self, look: Look, writer: PackWriter, also: set[str]) -> None:
        count, began = len(look.fresh), time.monotonic()
        where, parent = None, -1
        try:
            for number, (folder, name, path) in enumerate(look.fresh):
                try:
                    if where is not folder:
                        if parent >= 0:
                            os.close(parent)
                        where, parent = None, -1
                        parent, where = open_parent(self.root, path)[0], folder
                    limit = 1 << 40 if path in also else self.limits.file_bytes
                    content, state = content_in(parent, name, limit)
                except OSError as error:
                    folder.files.pop(name, None)
                    if error.errno != errno.ENOENT:
                        folder.left[name] = "cannot be read"
                        look.skipped.append(Skipped(path, f"cannot be read: {error.strerror}", 0))
                    continue
                racy = state.st_ctime_ns > look.began_ns - RACY_NS
                when = -1 if racy else state.st_ctime_ns
                oid = writer.add("blob", content)
                folder.files[name] = (when, state.st_ino, state.st_size, state.st_mode, oid)
                if number % 200 == 0 and time.monotonic() - began > 1:
                    self._tell(number / count, f"keeping {count:,} files")
        finally:
            if parent >= 0:
                os.close(parent)

    def _commit(self, writer: PackWriter, top: Oid) -> str:
        now = time.time_ns()
        who = f"{AUTHOR} {now // 10**9} +0000"
        text = f"tree {top.hex()}\nauthor {who}\ncommitter {who}\n\nP8 snapshot {now}\n"
        return writer.add("commit", text.encode()).hex()

    def _last(self) -> tuple[str, Oid] | None:
        with contextlib.suppress(OSError, ValueError):
            commit, top = (self.folder / "p8" / f"{self._mark}.last").read_text().split()
            return commit, bytes.fromhex(top)
        return None

    def _remember(self, commit: str, top: Oid) -> None:
        fresh = self.folder / "p8" / f"{self._mark}.last.new"
        fresh.write_text(f"{commit} {top.hex()}\n")
        fresh.replace(fresh.with_suffix(""))

    def forget(self) -> None:
        """Look at everything anew the next time."""
        self._memory.clear()

    @property
    def last(self) -> str | None:
        """Return the newest snapshot of this tree, where there is one."""
        found = self._last()
        return found[0] if found else None

    # whose doing a file's present state is

    def claim(self, old: str, new: str) -> list[Change]:
        """
        Say that what differs between two snapshots is P8's doing: of a command or an agent it ran.

        Returns:
            what differs.
        """
        found = self.diff(old, new)
        self.own({change.path: change.new for change in found})
        return found

    def own(self, states: dict[str, FileState | None]) -> None:
        """Say that these states are P8's doing: a restore may replace them without asking."""
        if states:
            known = self.known()
            known.ours.update(states)
            self._save_known(known)

    def known(self) -> Known:
        """Return what is known of whose doing the present files are."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            plain = json.loads((self.folder / "p8" / f"{self._mark}.known").read_bytes())
            ours = {p: FileState(s[0], bytes.fromhex(s[1])) if s else None for p, s in plain["ours"].items()}
            return Known(plain["snapshot"], ours)
        return Known()

    def _save_known(self, known: Known) -> None:
        ours = {p: [s.mode, s.oid.hex()] if s is not None else None for p, s in known.ours.items()}
        fresh = self.folder / "p8" / f"{self._mark}.known.new"
        with contextlib.suppress(OSError):  # then more is asked about
            fresh.write_text(json.dumps({"snapshot": known.snapshot, "ours": ours}))
            fresh.replace(fresh.with_suffix(""))

    # reading

    def manifest(self, snapshot: str, reader: Reader | None = None) -> Manifest:
        """Return what a snapshot keeps beside the files."""
        with contextlib.ExitStack() as stack:
            reader = reader or stack.enter_context(self.objects.reader())
            return Manifest.from_bytes(reader.read(self._top(snapshot, reader)[b"manifest.json"]))

    def _top(self, snapshot: str, reader: Reader) -> dict[bytes, Oid]:
        try:
            commit = reader.read(bytes.fromhex(snapshot))
        except (WorkspaceError, ValueError) as error:
            raise NotFound(f"the files of snapshot {snapshot[:12]} are not kept any more", str(error)) from error
        return {e.name: e.oid for e in parse_tree(reader.read(bytes.fromhex(commit[5:45].decode())))}

    def files(self, snapshot: str, below: Callable[[str], bool] = lambda _path: True) -> dict[str, FileState]:
        """
        Return every file, link and directory of a snapshot by path.

        Raises:
            NotFound: it is gone.
            WorkspaceError: the store is damaged.
        """
        if not self.folder.is_dir():
            raise NotFound(f"the files of snapshot {snapshot[:12]} are not kept any more")
        with self.objects.reader() as reader:
            top = self._top(snapshot, reader)
            manifest = Manifest.from_bytes(reader.read(top[b"manifest.json"]))
            found: dict[str, FileState] = {}
            _everything(reader, top[b"files"], "", manifest, found)
            return {path: state for path, state in found.items() if below(path)}

    def diff(self, old: str, new: str) -> list[Change]:
        """Return what differs between two snapshots, by path. Raises like `files`."""
        if old == new:
            return []
        with self.objects.reader() as reader:
            tops = self._top(old, reader), self._top(new, reader)
            was, now = (Manifest.from_bytes(reader.read(top[b"manifest.json"])) for top in tops)
            if was.modes == now.modes:
                sides: tuple[dict[str, FileState], dict[str, FileState]] = ({}, {})
                _differing(reader, tops[0][b"files"], tops[1][b"files"], "", (was, now), sides)
                return changes(*sides)
        return changes(self.files(old), self.files(new))

    def patch(self, old: str, new: str, paths: Sequence[str] = ()) -> str:
        """Return the difference of two snapshots as text, like `git diff` prints it."""
        words = ["diff-tree", "-p", "-r", "-M", "--no-textconv", "--no-ext-diff", "--no-color", "--full-index"]
        out = self.objects.git(*words, f"{old}:files", f"{new}:files", "--", *(f":(literal){p}" for p in paths))
        return out.decode("utf-8", "replace")

    def read(self, state: FileState) -> bytes:
        """Return a file's content. Raises WorkspaceError where it is gone or damaged."""
        with self.objects.reader() as reader:
            return reader.read(state.oid)


class _Trees:
    """Makes the tree objects of a look; directories in which nothing changed keep the ones they had."""

    def __init__(self, writer: PackWriter, manifest: Manifest) -> None:
        self._writer = writer
        self._manifest = manifest

    def folder(self, folder: Folder, rel: str) -> Oid:
        """Return the tree of a directory; note its odd permissions in the manifest."""
        entries = []
        for name, below in folder.folders.items():
            tree = self.folder(below, f"{rel}{name}/")
            entries.append(TreeEntry(TREE_MODE, os.fsencode(name), tree))
        if not folder.tree:
            self._permissions(folder)
            for name, (_, _, _, mode, oid) in folder.files.items():
                kept = LINK_MODE if stat.S_ISLNK(mode) else 0o100755 if mode & 0o100 else 0o100644
                entries.append(TreeEntry(kept, os.fsencode(name), oid))
            folder.tree = self._writer.add("tree", tree_content(entries))
        for name, permissions in folder.odd.items():
            self._manifest.odd[rel + name] = permissions
        return folder.tree

    def _permissions(self, folder: Folder) -> None:
        usual = self._manifest.modes
        for name, below in folder.folders.items():
            if below.mode != usual["dir"]:
                folder.odd[name] = below.mode
        for name, (_, _, _, mode, _) in folder.files.items():
            if stat.S_ISREG(mode) and stat.S_IMODE(mode) != usual["exec" if mode & 0o100 else "file"]:
                folder.odd[name] = stat.S_IMODE(mode)


def files_of(top: Folder) -> dict[str, FileState]:
    """Return every file, link and directory of a look by path."""
    found: dict[str, FileState] = {}
    waiting = [("", top)]
    while waiting:
        rel, folder = waiting.pop()
        for name, below in folder.folders.items():
            found[rel + name] = FileState(stat.S_IFDIR | below.mode, b"")
            waiting.append((f"{rel}{name}/", below))
        for name, (_, _, _, mode, oid) in folder.files.items():
            found[rel + name] = FileState(stat.S_IFLNK | 0o777 if stat.S_ISLNK(mode) else mode, oid)
    return found


def _state(path: str, entry: TreeEntry, manifest: Manifest) -> FileState:
    if entry.mode == TREE_MODE:
        return FileState(stat.S_IFDIR | manifest.permissions(path, entry.mode), b"")
    if entry.mode == LINK_MODE:
        return FileState(stat.S_IFLNK | 0o777, entry.oid)
    return FileState(stat.S_IFREG | manifest.permissions(path, entry.mode), entry.oid)


def _everything(reader: Reader, tree: Oid, rel: str, manifest: Manifest, into: dict[str, FileState]) -> None:
    waiting = [(rel, tree)]
    while waiting:
        rel, tree = waiting.pop()
        for entry in parse_tree(reader.read(tree)):
            path = rel + os.fsdecode(entry.name)
            into[path] = _state(path, entry, manifest)
            if entry.mode == TREE_MODE:
                waiting.append((f"{path}/", entry.oid))


def _differing(
    reader: Reader, old: Oid, new: Oid, rel: str, manifests: tuple[Manifest, Manifest],
    sides: tuple[dict[str, FileState], dict[str, FileState]],
) -> None:  # fmt: skip
    """Find what differs in two trees; equal ones are opened only where a permission below them differs."""
    trees = [{e.name: e for e in parse_tree(reader.read(tree))} for tree in (old, new)]
    for name in trees[0].keys() | trees[1].keys():
        path = rel + os.fsdecode(name)
        pair = trees[0].get(name), trees[1].get(name)
        for entry, manifest, side in zip(pair, manifests, sides, strict=True):
            if entry is not None and (pair[0] != pair[1] or _odd_below(path, manifests)):
                side[path] = _state(path, entry, manifest)
        was, now = pair
        if was is not None and now is not None and was.mode == now.mode == TREE_MODE:
            if was.oid != now.oid or _odd_below(path, manifests):
                _differing(reader, was.oid, now.oid, f"{path}/", manifests, sides)
            continue
        for entry, manifest, side in zip(pair, manifests, sides, strict=True):
            if entry is not None and entry.mode == TREE_MODE:
                _everything(reader, entry.oid, f"{path}/", manifest, side)


def _odd_below(path: str, manifests: tuple[Manifest, Manifest]) -> bool:
    was, now = manifests
    if was.odd == now.odd:
        return False
    differing = was.odd.items() ^ now.odd.items()
    return any(p == path or p.startswith(f"{path}/") for p, _ in differing)


def changes(old: dict[str, FileState], new: dict[str, FileState]) -> list[Change]:
    """Return what differs, by path; directories count only where they are empty or their permissions changed."""
    found = []
    for path in old.keys() | new.keys():
        was, now = old.get(path), new.get(path)
        if was == now:
            continue
        if was is None or now is None:
            what = "added" if was is None else "deleted"
        elif stat.S_IFMT(was.mode) != stat.S_IFMT(now.mode):
            what = "type"
        else:
            what = "mode" if was.oid == now.oid else "modified"
        found.append(Change(path, what, was, now))
    return sorted(found)


def too_much(root: Path, home: Path) -> str:
    """Return why a tree is not kept without consent, or ""."""
    real = Path(os.path.realpath(root))
    if real == Path(real.anchor):
        return "this is the whole file system"
    person = Path(os.path.realpath(Path.home()))
    if real == person or real in person.parents:
        return "this is a home directory, or holds one"
    place = Path(os.path.realpath(home))
    hosts = place / "workspaces"
    if real in {place, hosts} or (place in real.parents and hosts not in real.parents):
        return "this is P8's own home"
    return ""
