"""State folders: read into a backup, hashed, made again from one.

A program in a container writes in them, so that nothing in them is trusted: no link is followed, neither in reading nor
in making. Refuses: sockets, devices and pipes, which are left out and named.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from p8.core.archive import Progress, silent
from p8.errors import FormatError, StoreError
from p8.formats.backup import MOST_FILES, Node, Reader, decoded, encoded, hash_of
from p8.formats.bundle import Writer

BLOCK = 1 << 20
TELL_EVERY = 50


class Scanned(NamedTuple):
    """What a state folder holds."""

    nodes: list[Node]  #: folders before what is in them
    changed: list[str]  #: files that changed while they were read
    left_out: list[str]  #: sockets, devices, pipes


#: takes a file's pieces; returns its size, its SHA-256 and its member
Take = Callable[[Iterator[bytes]], tuple[int, str, str]]


def _hashed(pieces: Iterator[bytes]) -> tuple[int, str, str]:
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest(), ""


def state_hash(folder: Path) -> str:
    """Return the hash of a state folder as a backup has it; "" where there is none. Raises StoreError."""
    return hash_of(scan(folder).nodes) if folder.is_dir() else ""


def into(writer: Writer, progress: Progress = silent) -> Take:
    """Return what adds each file to a backup."""
    count = 0

    def take(pieces: Iterator[bytes]) -> tuple[int, str, str]:
        nonlocal count
        count += 1
        if count > MOST_FILES:
            raise FormatError(f"more than {MOST_FILES:,} files are in the state folder", "remove its caches first")
        if count % TELL_EVERY == 0:
            progress(min(0.9, count / (count + 2000)), f"{count:,} files of its state")
        member = writer.add(f"state/{count:06}", pieces)
        return member.size, member.sha256, member.name

    return take


def scan(folder: Path, take: Take = _hashed) -> Scanned:
    """
    Read a state folder whole.

    Args:
        folder: which.
        take: what becomes of each file's bytes.

    Raises:
        StoreError: something in it cannot be read.
    """
    found = Scanned([], [], [])
    root = os.fsencode(folder)

    def fail(error: OSError) -> None:
        raise error

    try:
        if stat.S_ISLNK(os.lstat(root).st_mode):
            raise StoreError(f"{folder} is a link", "a state folder must be one")
        for place, folders, files, at in os.fwalk(root, follow_symlinks=False, onerror=fail):
            below = place[len(root) :].lstrip(b"/")
            folders.sort()
            for name in sorted([*folders, *files]):
                path = below + b"/" + name if below else name
                _look(found, path, name, at, take)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}", "P8 must be able to read it") from error
    found.nodes.sort(key=lambda node: node.path.split("/"))
    return found


def _look(found: Scanned, path: bytes, name: bytes, at: int, take: Take) -> None:
    shown = encoded(path)
    state = os.stat(name, dir_fd=at, follow_symlinks=False)
    mode, modified = stat.S_IMODE(state.st_mode) & 0o777, max(state.st_mtime_ns // 1000, 0)
    if stat.S_ISDIR(state.st_mode):
        found.nodes.append(Node(shown, "folder", mode, modified_us=modified))
    elif stat.S_ISLNK(state.st_mode):
        found.nodes.append(Node(shown, "link", target=encoded(os.fsencode(os.readlink(name, dir_fd=at)))))
    elif stat.S_ISREG(state.st_mode):
        number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        try:
            before = os.fstat(number)
            if not stat.S_ISREG(before.st_mode):
                found.left_out.append(shown)
                return
            size, digest, member = take(_pieces(number))
            after = os.fstat(number)
        finally:
            os.close(number)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
            found.changed.append(shown)
        found.nodes.append(Node(shown, "file", mode, size, digest, modified_us=modified, member=member))
    else:
        found.left_out.append(shown)


def _pieces(number: int) -> Iterator[bytes]:
    while piece := os.read(number, BLOCK):
        yield piece


def unpack(reader: Reader, folder: Path, owner: tuple[int, int] | None) -> None:
    """
    Make a backup's state folder anew.

    Args:
        reader: the backup.
        folder: does not exist yet; its parent does.
        owner: uid and gid of everything in it; None for whoever runs this.

    Raises:
        FormatError: the backup is refused; StoreError: the disk refuses. Both leave a part of the folder behind.
    """
    nodes = reader.manifest.nodes
    try:
        folder.mkdir(mode=0o700)
        for node in nodes:
            path = folder / decoded(node.path)
            if node.kind == "folder":
                path.mkdir(mode=0o700)
            elif node.kind == "file":
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                    for piece in reader.pieces(node.member):
                        file.write(piece)
                os.utime(path, ns=(node.modified_us * 1000, node.modified_us * 1000))
        for node in nodes:  # no link exists before every file is made
            if node.kind == "link":
                (folder / decoded(node.path)).symlink_to(decoded(node.target))
        for node in reversed(nodes):
            path = folder / decoded(node.path)
            if owner is not None:
                os.lchown(path, *owner)
            if node.kind != "link":
                path.chmod(node.mode)
        if owner is not None:
            os.chown(folder, *owner)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}", "P8's home must be writable") from error
    if state_hash(folder) != reader.manifest.state:
        raise StoreError(f"{folder} does not have the hash its backup has", "the disk may be failing")


def discard(folder: Path) -> None:
    """Remove a folder that was only begun."""
    import shutil

    with contextlib.suppress(OSError):
        for place, _, _ in os.walk(folder):
            Path(place).chmod(0o700)
        shutil.rmtree(folder)
