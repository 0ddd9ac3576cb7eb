"""Generated histories of a project's files: edits, creations, deletions, renames, modes, links, ignored, nested."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

NAMES = (
    "a", "b.py", "c d", "é", "-dash", "new\nline", "quo'te", "e", "dir", "sub", "x.o", "build", ":(top)", "*", "deep",
    "keep.o", "[z]", "café\udcff",
)  # fmt: skip
ATTRIBUTES = "*.py text eol=crlf\n* filter=evil ident working-tree-encoding=UTF-16\n"
MODES = (0o644, 0o755, 0o600, 0o400, 0o664, 0o777)


def git(where: Path, *words: str) -> str:
    """Run git as a person without any configuration would."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-c", "protocol.file.allow=always"]
    done = subprocess.run([*who, *words], cwd=where, env=env, check=True, capture_output=True)
    return done.stdout.decode("utf-8", "replace")


def tree_of(root: Path, git_too: bool = False) -> dict[str, tuple]:
    """Return everything below `root`: path -> (type, permissions, content)."""
    found: dict[str, tuple] = {}
    for folder, folders, files in os.walk(root):
        if not git_too and ".git" in folders:
            folders.remove(".git")
        for name in folders + files:
            path = Path(folder) / name
            if name == ".git" and not git_too:
                continue
            state = path.lstat()
            rel = str(path.relative_to(root))
            if stat.S_ISLNK(state.st_mode):
                found[rel] = ("link", 0, os.readlink(path))
            elif stat.S_ISDIR(state.st_mode):
                found[rel] = ("dir", stat.S_IMODE(state.st_mode), "")
            else:
                found[rel] = ("file", stat.S_IMODE(state.st_mode), path.read_bytes())
    return found


def git_hash(root: Path) -> str:
    """Return a hash of every `.git` below `root`: names, permissions, content."""
    whole = hashlib.sha256()
    for dot in sorted(root.rglob(".git")):
        parts = tree_of(dot, True) if dot.is_dir() else {"": dot.read_bytes()}
        for path, value in sorted(parts.items()):
            whole.update(repr((str(dot), path, value)).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


class History:
    """
    One project, changed at random.

    Args:
        root: an empty directory.
        seed: what happens.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.is_repository = self.random.random() < 0.8
        if self.is_repository:
            git(root, "init", "-q", "-b", "main")
        if self.random.random() < 0.7:
            (root / ".gitignore").write_text(self.random.choice(("*.o\nbuild/\n", "build\n", "*.o\n!keep.o\n", "")))
        if self.random.random() < 0.2:
            (root / ".gitattributes").write_text(ATTRIBUTES)
        self.change(self.random.randint(3, 25))
        if self.is_repository and self.random.random() < 0.8:
            self._commit()

    def _commit(self) -> None:
        force = ["-f"] if self.random.random() < 0.2 else []
        try:
            git(self.root, "-c", "core.attributesFile=/dev/null", "-c", "filter.evil.clean=cat", "add", *force, "-A")
            git(self.root, "commit", "-q", "--allow-empty", "-m", "x")
        except subprocess.CalledProcessError:
            pass  # an encoding that git itself cannot cope with

    def _folders(self) -> list[Path]:
        return [self.root, *(p for p in self._all() if p.is_dir() and not p.is_symlink())]

    def _all(self) -> list[Path]:
        found = []
        for folder, folders, files in os.walk(self.root):
            if ".git" in folders:
                folders.remove(".git")
            found += [Path(folder) / name for name in folders + files if name != ".git"]
        return sorted(found)

    def change(self, count: int) -> None:
        """Do so many things."""
        for _ in range(count):
            self.random.choice((self.write, self.write, self.write, self.edit, self.edit, self.delete, self.rename,
                                self.mode, self.link, self.folder, self.nest, self.swap))()  # fmt: skip

    def _fresh(self) -> Path | None:
        path = self.random.choice(self._folders()) / self.random.choice(NAMES)
        return None if os.path.lexists(path) else path

    def write(self) -> None:
        path = self._fresh()
        if path is not None:
            path.write_bytes(self._content())
            path.chmod(self.random.choice(MODES))

    def _content(self) -> bytes:
        return self.random.choice(
            (b"", b"line\r\nline\n", b"$Id$\n", self.random.randbytes(self.random.randint(1, 400)))
        )

    def _file(self) -> Path | None:
        files = [p for p in self._all() if p.is_file() and not p.is_symlink()]
        return self.random.choice(files) if files else None

    def edit(self) -> None:
        path = self._file()
        if path is not None:
            path.write_bytes(self._content())

    def delete(self) -> None:
        paths = self._all()
        if paths:
            path = self.random.choice(paths)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def rename(self) -> None:
        paths, to = self._all(), self._fresh()
        if paths and to is not None:
            path = self.random.choice(paths)
            if path not in {to, *to.parents}:
                path.rename(to)

    def mode(self) -> None:
        path = self._file()
        if path is not None:
            path.chmod(self.random.choice(MODES))

    def link(self) -> None:
        path = self._fresh()
        if path is not None:
            path.symlink_to(self.random.choice(("a", "../..", "/etc", "nowhere", "dir")))

    def folder(self) -> None:
        path = self._fresh()
        if path is not None:
            path.mkdir()
            path.chmod(self.random.choice((0o755, 0o700, 0o775)))

    def nest(self) -> None:
        if self.random.random() < 0.3:
            path = self._fresh()
            if path is not None:
                path.mkdir()
                git(path, "init", "-q", "-b", "main")
                (path / "inner").write_bytes(self._content())
                if self.random.random() < 0.5:
                    git(path, "add", "-A")
                    git(path, "commit", "-q", "-m", "x")

    def swap(self) -> None:
        """Put a link, a directory or a file in the place of something else."""
        paths = self._all()
        if paths:
            path = self.random.choice(paths)
            if path.is_dir() and not path.is_symlink():
                if any(path.rglob(".git")):
                    return
                shutil.rmtree(path)
            else:
                path.unlink()
            self.random.choice(
                (path.mkdir, lambda: path.symlink_to("/etc"), lambda: path.write_bytes(self._content()))
            )()
