"""What a project's tree holds: every file that git would not ignore, as an index; the few files worth reading; git.

The look is `scan.py`'s: what did not change since the last one is not read again, and git is asked about new names
only. Writes into the project only where told to, below `.ai-sessions/context/`, through no link. Refuses: to follow
links, to read anything large, to look through a home directory or the whole file system.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from p8.errors import WorkspaceError
from p8.model import GitState
from p8.workspace import git
from p8.workspace.objects import Objects
from p8.workspace.scan import RACY_NS, Folder, Limits, Scan, content_at
from p8.workspace.snapshots import too_much

FOLDER = ".ai-sessions"
OURS = ("context", "state")  #: what P8 itself writes there is no part of the project
MOST_BYTES = 512 << 10  #: of a file that is read
LIMITS = Limits(file_bytes=1 << 60, files=1_000_000, tree_bytes=1 << 62)
GIT_S = 10.0

#: ctime in ns (-1 where it was changed so shortly before the look that it proves nothing), inode, size
Stamp = tuple[int, int, int]


class IndexedFile(NamedTuple):
    """One file of the index."""

    path: str  #: from the tree's top, with slashes; bytes that are no UTF-8 as surrogates
    size_bytes: int
    is_link: bool
    is_program: bool
    stamp: Stamp


class Index(NamedTuple):
    """All files of a tree at one moment, by path."""

    files: list[IndexedFile]
    fresh: frozenset[str]  #: paths that are new or not as at the last look
    same: bool  #: nothing differs from the last look, nothing is gone
    left_out: tuple[tuple[str, str], ...]  #: (path, why): what cannot be read, pipes, devices
    repositories: tuple[str, ...]  #: within the tree


class GitFacts(NamedTuple):
    """What git says of a project."""

    state: GitState
    remote: str = ""  #: without credentials
    commit: Mapping[str, str] = {}  #: subject, author, committed
    problem: str = ""  #: why only branch and commit are known


class Tree:
    """
    A project's tree, looked at again and again.

    Args:
        directory: somewhere in it; the tree is the repository's, or this directory.
        home: P8's home; what was seen is kept in its `cache/context/`.
    """

    def __init__(self, directory: Path, home: Path) -> None:
        found = git.find(directory)
        self.root = found.root if found is not None else directory
        self._home = home
        self._cache = home / "cache" / "context"
        mark = hashlib.sha1(os.fsencode(self.root), usedforsecurity=False).hexdigest()[:16]
        self._seen = self._cache / f"{mark}.seen"
        self._facts = self._cache / f"{mark}.json"

    def index(self) -> Index:
        """
        Look at the tree.

        Raises:
            WorkspaceError: it is no project's, is too large, or cannot be read; or git is missing.
        """
        reason = too_much(self.root, self._home)
        if reason:
            raise WorkspaceError(f"{self.root} is not looked through: {reason}", "stand in the project's directory")
        store = self._cache / "rules.git"
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            Objects(store).create()
        except OSError as error:
            raise WorkspaceError(f"{self._cache} cannot be written: {error.strerror}", "check the disk") from error
        apart = [self._home, *(self.root / FOLDER / name for name in OURS)]
        scan = Scan(self.root, self._seen, store, LIMITS, apart)
        look = scan.look()
        if not look.same:
            scan.keep(look)
        files = sorted(_files(look.top, "", look.began_ns - RACY_NS))
        left_out = tuple((s.path, s.reason) for s in sorted(look.skipped) if s.reason != "P8's own")
        fresh = frozenset(path for _, _, path in look.fresh)
        return Index(files, fresh, look.same, left_out, tuple(sorted(look.nested)))

    def read(self, path: str) -> str:
        """
        Return a file's text; bytes that are no UTF-8 are replaced.

        Raises:
            WorkspaceError: it is gone, is a link, may not be read or is too large.
        """
        try:
            content, state = content_at(self.root, path, MOST_BYTES)
        except OSError as error:
            raise WorkspaceError(f"{git.shown(path)} cannot be read: {error.strerror or error}") from error
        if not stat.S_ISREG(state.st_mode):
            raise WorkspaceError(f"{git.shown(path)} is a link")
        if len(content) > MOST_BYTES:
            raise WorkspaceError(f"{git.shown(path)} is larger than {MOST_BYTES >> 10} KiB")
        return content.decode("utf-8-sig", "replace")

    def git(self) -> GitFacts:
        """Return what git says. Where it fails or is slow, only branch and commit, and why."""
        try:
            state = git.git_state(self.root, GIT_S)
        except WorkspaceError as error:
            branch, commit = git.head(self.root)
            return GitFacts(GitState(branch=branch, commit=commit), problem=error.message)
        staged, modified, untracked = (
            tuple(path for path in paths if not _is_ours(path))
            for paths in (state.staged, state.modified, state.untracked)
        )
        state = state._replace(staged=staged, modified=modified, untracked=untracked, root="")
        remote = ""
        with contextlib.suppress(WorkspaceError):
            identity = git.identity(self.root)
            remote = identity.remote if identity is not None else ""
        return GitFacts(state, remote, git.describe(self.root))

    # what was made of it, kept in the home

    def known(self) -> dict[str, Any]:
        """Return what `know` was given last; nothing where there is none or it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            found = orjson.loads(git.read(self._facts))
            if isinstance(found, dict):
                return found
        return {}

    def know(self, facts: Mapping[str, Any]) -> None:
        """Keep what was made of the tree. Where the disk refuses, it is made again next time."""
        young = self._facts.with_name(f"{self._facts.name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):
            young.write_bytes(orjson.dumps(facts))
            young.replace(self._facts)

    # into the project

    def write(self, files: Mapping[str, bytes]) -> list[str]:
        """
        Write files below the project's `.ai-sessions/`; one that stands there as it should is left alone.

        Args:
            files: "context/name" -> content.

        Returns:
            the paths written, from the tree's top.

        Raises:
            WorkspaceError: a folder there is a link or a file, or the disk refuses.
        """
        written = []
        for path, content in files.items():
            folder, _, name = path.rpartition("/")
            try:
                with _opened(self.root, (FOLDER, *folder.split("/"))) as at:
                    if _write(at, name, content):
                        written.append(f"{FOLDER}/{path}")
            except OSError as error:
                why = "a folder on the way is a link or a file" if error.errno in {errno.ENOTDIR, errno.ELOOP} else ""
                raise WorkspaceError(
                    f"{FOLDER}/{path} cannot be written: {why or error.strerror}", "move what stands there away"
                ) from error
        return written


def _files(folder: Folder, rel: str, settled_ns: int) -> Iterator[IndexedFile]:
    for name, (ctime, inode, size, mode, _) in folder.files.items():
        stamp = (ctime if 0 < ctime < settled_ns else -1, inode, size)
        is_link = stat.S_ISLNK(mode)
        yield IndexedFile(f"{rel}{name}", size, is_link, not is_link and bool(mode & 0o100), stamp)
    for name, below in folder.folders.items():
        yield from _files(below, f"{rel}{name}/", settled_ns)


def _is_ours(path: str) -> bool:
    return path.startswith(tuple(f"{FOLDER}/{name}/" for name in OURS))


@contextlib.contextmanager
def _opened(root: Path, folders: Collection[str]) -> Iterator[int]:
    """Open a folder below `root`, made where it is missing; each step is a directory and no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    try:
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o755, dir_fd=descriptor)
            inner = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _write(folder: int, name: str, content: bytes) -> bool:
    """Write a file whole or not at all; return whether that was needed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(descriptor, "rb") as old:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and old.read(len(content) + 1) == content:
                return False
    young = f".{name}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        os.unlink(young, dir_fd=folder)
    try:
        with open(os.open(young, flags, 0o644, dir_fd=folder), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(young, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(young, dir_fd=folder)
        raise
    return True
