"""Git's object format, written by P8 itself: one checkpoint is one pack, synced as a whole.

Files are hashed and packed here and not by `git add`, so that nothing the project brings along (attributes, filters,
hooks, its index) has a say in what is kept, a thousand changed files cost one sync, and a checkpoint in which nothing
changed costs no process at all. What is written is what git reads: `git fsck`, `git show` and `git diff` work on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from p8.errors import WorkspaceError
from p8.workspace import git

Oid = bytes  #: 20 bytes

TYPES = {"commit": 1, "tree": 2, "blob": 3}
LEVEL = 1  #: of compression: a checkpoint is waited for, its store is not sent anywhere
BLOCK = 1 << 20
TREE_MODE = 0o040000
LINK_MODE = 0o120000
CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""


def oid_of(kind: str, content: bytes) -> Oid:
    """Return the name of an object."""
    return hashlib.sha1(b"%b %d\0" % (kind.encode(), len(content)) + content, usedforsecurity=False).digest()


class TreeEntry(NamedTuple):
    """One line of a tree."""

    mode: int  #: 0o100644, 0o100755, 0o120000 or 0o040000
    name: bytes
    oid: Oid


def tree_content(entries: list[TreeEntry]) -> bytes:
    """Return a tree as git writes it: directories sort as if their names ended in a slash."""
    entries.sort(key=lambda e: e.name + b"/" if e.mode == TREE_MODE else e.name)
    return b"".join(b"%o %b\0%b" % entry for entry in entries)


class Objects:
    """
    The objects of a bare repository of P8's own.

    Args:
        folder: the repository; made by `create`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packs = folder / "objects" / "pack"
        self._loose = f"{folder}/objects/"
        self._indices: dict[str, mmap.mmap] = {}
        self._listed = -1

    # making it

    def create(self, source: Path | None = None) -> None:
        """
        Make the repository, with the objects of another one linked in, so that only what is not in it costs space.

        It appears under its name only when it is whole and synced.

        Args:
            source: the other one's `objects`; on another file system nothing is linked.
        """
        if (self.folder / "config").exists():
            return
        building = self.folder.with_name(f"{self.folder.name}.{os.getpid()}.new")
        for name in ("objects/pack", "objects/info", "refs/p8", "info", "p8/restores"):
            (building / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        if source is not None:
            _link(source, building / "objects")
        (building / "config").write_text(CONFIG)
        (building / "HEAD").write_text("ref: refs/heads/none\n")
        (building / "info" / "attributes").write_text("* -text -eol -filter -ident -working-tree-encoding\n")
        _sync_tree(building)  # a repository of which a part is missing after a power cut would be worse than none
        try:
            building.rename(self.folder)
        except OSError as error:
            if not (self.folder / "config").exists():
                raise WorkspaceError(f"{self.folder} cannot be made: {error.strerror}") from error
        sync_folder(self.folder.parent)

    def clean(self) -> None:
        """Delete what killed processes left half-written. Only under the store's lock."""
        for pattern in ("objects/pack/tmp_*", "objects/pack/*.new", "refs/p8/*.new", "p8/*.new", "p8/restores/*.new"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    # which are there

    def has(self, oid: Oid) -> bool:
        """Return whether an object is there. Reads indices of packs and names of loose objects, runs nothing."""
        self._open_indices()
        if any(_found(index, oid) for index in self._indices.values()):
            return True
        name = oid.hex()
        return os.path.exists(f"{self._loose}{name[:2]}/{name[2:]}")  # noqa: PTH110 asked of every new object

    def _open_indices(self) -> None:
        try:
            changed = self._packs.stat().st_mtime_ns
        except OSError:
            return
        if changed == self._listed:
            return
        self._listed = changed
        there = {entry.name for entry in os.scandir(self._packs) if entry.name.endswith(".idx")}
        for name in set(self._indices) - there:
            self._indices.pop(name).close()
        for name in there - set(self._indices):
            with contextlib.suppress(OSError, ValueError), (self._packs / name).open("rb") as file:
                view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                if view[:8] == b"\377tOc\0\0\0\2":
                    self._indices[name] = view

    def close(self) -> None:
        """Let go of the indices."""
        for index in self._indices.values():
            index.close()
        self._indices.clear()
        self._listed = -1

    # writing

    def writer(self) -> PackWriter:
        """Return what collects the objects of one checkpoint."""
        return PackWriter(self)

    def point(self, ref: str, oid: Oid) -> None:
        """Make a reference, synced with its folder."""
        write_durably(self.folder / ref, f"{oid.hex()}\n".encode())

    def refs(self) -> list[tuple[str, str]]:
        """Return (name, object) of the references, by name."""
        there = (self.folder / "refs" / "p8").iterdir()
        return sorted((path.name, path.read_text().strip()) for path in there if path.suffix != ".new")

    # reading, by git, which knows all ways objects are packed

    def command(self, *words: str) -> list[str]:
        """Return the words that run git on this repository."""
        from p8.workspace.git import HARDENED, executable

        options = [part for setting in HARDENED for part in ("-c", setting)]
        return [executable(), "--no-pager", "--git-dir", str(self.folder), *options, *words]

    def git(self, *words: str, given: bytes = b"", timeout_s: float = 120.0) -> bytes:
        """
        Run git on this repository and return what it prints.

        Raises:
            WorkspaceError: git is missing, failed or took too long.
        """
        try:
            done = subprocess.run(
                self.command(*words), input=given, capture_output=True, timeout=timeout_s, check=False,
                env=environment(), cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise WorkspaceError(f"git {words[0]} took longer than {timeout_s:.0f} s in {self.folder}") from error
        except OSError as error:
            raise WorkspaceError(f"git cannot be run: {error.strerror}") from error
        if done.returncode:
            lines = (done.stdout[:10_000] + b"\n" + done.stderr).decode("utf-8", "replace").splitlines()
            said = [line for line in lines if line.strip() and not line.startswith("notice:")]
            raise WorkspaceError(f"git {words[0]} failed in {self.folder}: {'; '.join(said[:3]) or done.returncode}")
        return done.stdout

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """Lend something that reads many objects with one process."""
        try:
            process = subprocess.Popen(
                self.command("cat-file", "--batch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=environment(), cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise WorkspaceError(f"git cannot be run: {error.strerror}") from error
        try:
            yield Reader(process)
        finally:
            git.end(process)


class Reader:
    """Objects, one after another."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._ask, self._answer = process.stdin, process.stdout

    def read(self, oid: Oid) -> bytes:
        """
        Return an object's content, compared with its name.

        Raises:
            WorkspaceError: it is missing or damaged.
        """
        try:
            self._ask.write(oid.hex().encode() + b"\n")
            self._ask.flush()
            words = self._answer.readline().split()
            if len(words) != 3:
                raise WorkspaceError(f"object {oid.hex()} is missing from the checkpoints", "p8 doctor tells which")
            content = self._answer.read(int(words[2]))
            self._answer.read(1)
        except OSError as error:
            raise WorkspaceError(f"object {oid.hex()} cannot be read: {error.strerror}") from error
        if oid_of(words[1].decode(), content) != oid:
            raise WorkspaceError(f"object {oid.hex()} of the checkpoints is damaged", "p8 doctor tells which")
        return content


class PackWriter:
    """
    Collects objects and makes one pack of those that are not there yet.

    Used as a context: what was not finished leaves nothing behind.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._file: IO[bytes] | None = None
        self._entries: dict[Oid, tuple[int, int]] = {}  # crc and offset
        self._end = 12
        self._path = objects.folder / "objects" / "pack" / f"tmp_{os.getpid()}"
        self.written_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    def add(self, kind: str, content: bytes) -> Oid:
        """Take an object in; return its name."""
        oid = oid_of(kind, content)
        if oid not in self._entries and not self._objects.has(oid):
            self._put(kind, oid, content)
        return oid

    def _put(self, kind: str, oid: Oid, content: bytes) -> None:
        if self._file is None:
            self._file = self._path.open("w+b")
            self._file.write(b"PACK" + struct.pack(">II", 2, 0))
        size = len(content)
        first = TYPES[kind] << 4 | size & 15
        size >>= 4
        head = bytearray()
        while size:
            head.append(first | 0x80)
            first = size & 0x7F
            size >>= 7
        head.append(first)
        raw = bytes(head) + zlib.compress(content, LEVEL)
        self._file.write(raw)
        self._entries[oid] = (zlib.crc32(raw), self._end)
        self._end += len(raw)
        self.written_bytes += len(raw)

    def finish(self) -> None:
        """Write pack and index, synced; nothing where nothing was new."""
        if self._file is None:
            return
        file = self._file
        file.seek(4)
        file.write(struct.pack(">II", 2, len(self._entries)))
        file.flush()
        file.seek(0)
        whole = hashlib.sha1(usedforsecurity=False)
        while block := file.read(BLOCK):
            whole.update(block)
        file.write(whole.digest())
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._file = None
        folder = self._path.parent
        name = f"pack-{hashlib.sha1(b''.join(sorted(self._entries)), usedforsecurity=False).hexdigest()}"
        index = self._path.with_suffix(".idx.new")
        with index.open("wb") as out:
            out.write(_index(self._entries, whole.digest()))
            out.flush()
            os.fsync(out.fileno())
        self._path.chmod(0o444)
        index.chmod(0o444)
        self._path.rename(folder / f"{name}.pack")  # git looks for indices: the pack must be there first
        index.rename(folder / f"{name}.idx")
        sync_folder(folder)


def _index(entries: dict[Oid, tuple[int, int]], checksum: bytes) -> bytes:
    """Return the index (version 2) of a pack."""
    names = sorted(entries)
    counts = [0] * 256
    for name in names:
        counts[name[0]] += 1
    fan, total = [], 0
    for count in counts:
        total += count
        fan.append(total)
    far: list[int] = []
    offsets = []
    for name in names:
        offset = entries[name][1]
        if offset < 0x80000000:
            offsets.append(offset)
        else:
            offsets.append(0x80000000 | len(far))
            far.append(offset)
    size = len(names)
    body = b"".join(
        (
            b"\377tOc", struct.pack(">I256I", 2, *fan), b"".join(names),
            struct.pack(f">{size}I", *(entries[name][0] for name in names)), struct.pack(f">{size}I", *offsets),
            struct.pack(f">{len(far)}Q", *far), checksum,
        )
    )  # fmt: skip
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _found(index: Any, oid: Oid) -> bool:
    first = oid[0]
    (high,) = struct.unpack_from(">I", index, 8 + first * 4)
    low = struct.unpack_from(">I", index, 4 + first * 4)[0] if first else 0
    while low < high:
        middle = (low + high) // 2
        at = 1032 + middle * 20
        there = index[at : at + 20]
        if there == oid:
            return True
        if there < oid:
            low = middle + 1
        else:
            high = middle
    return False


def _link(source: Path, target: Path) -> None:
    """Link objects in. A store that borrows from elsewhere, or lacks a part of its history, is not linked."""
    if any((source / name).exists() for name in ("info/alternates", "../shallow")):
        return
    if next(source.glob("pack/*.promisor"), None) is not None:
        return
    for folder, into in [(source / "pack", target / "pack"), *((f, target / f.name) for f in source.glob("??"))]:
        if not folder.is_dir() or folder.is_symlink():
            continue
        into.mkdir(exist_ok=True, mode=0o700)
        names = sorted((e.name for e in os.scandir(folder) if e.is_file(follow_symlinks=False)), reverse=True)
        for name in names:  # a pack before its index
            if folder.name == "pack" and not name.endswith((".pack", ".idx")):
                continue
            try:
                os.link(folder / name, into / name, follow_symlinks=False)
            except FileExistsError:
                continue
            except OSError:
                return  # another file system: what is missing is written by the first checkpoint


def environment() -> dict[str, str]:
    """Return the environment git is run with on a store of P8's own: made of nothing."""
    return {
        "PATH": os.defpath, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1", "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1",
    }  # fmt: skip


def write_durably(path: Path, content: bytes) -> None:
    """Put `content` under a name, whole or not at all, synced with the folder."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)


def _sync_tree(top: Path) -> None:
    """Make a new repository durable; objects that were linked in are durable, their names here are not yet."""
    for name in ("config", "HEAD", "info/attributes"):
        with (top / name).open("rb") as file:
            os.fsync(file.fileno())
    for folder, _, _ in os.walk(top, topdown=False):
        sync_folder(Path(folder))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_tree(content: bytes) -> Sequence[TreeEntry]:
    """Return the lines of a tree."""
    entries, at = [], 0
    while at < len(content):
        space = content.index(b" ", at)
        zero = content.index(b"\0", space)
        entries.append(TreeEntry(int(content[at:space], 8), content[space + 1 : zero], content[zero + 1 : zero + 21]))
        at = zero + 21
    return entries
