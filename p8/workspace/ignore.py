"""What git would ignore, as git itself says: one process that answers name by name, started at the first question.

In a project without a repository the rules of `.gitignore` files count all the same. Files that git tracks although a
rule names them are not ignored.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Collection
from pathlib import Path

from p8.errors import WorkspaceError
from p8.workspace import git

ASKED_AT_ONCE = 16_000  #: bytes: the answers, up to four times as long, must fit into a pipe that nobody reads yet
TIMEOUT_S = 20.0

Signature = tuple[tuple[int, ...], ...]
#: of one repository: its rules' files, its index, and the paths it tracks although they are ignored
RepositoryRules = tuple[Signature, Signature, tuple[str, ...]]


class Rules:
    """
    The ignore rules of a tree and of the repositories in it.

    Args:
        root: the tree's top.
        store: a repository of P8's own, for a tree without one.
        known: what `state` held at the last look.
    """

    def __init__(self, root: Path, store: Path, known: dict[str, RepositoryRules] | None = None) -> None:
        self._root = root
        self._store = store
        self._known = known or {}
        self._open: list[Ignored] = []
        self.state: dict[str, RepositoryRules] = {}

    def enter(self, path: str) -> tuple[Ignored, Collection[str], bool]:
        """
        Go into the repository at `path`, "" for the top.

        Returns:
            its rules, the paths it tracks though they are ignored (from the tree's top), and whether both are as known.
        """
        place = self._root / path
        found = git.find(place)
        own = found is not None and found.root == place
        excludes = _excludes(found) if found is not None and own else _signature(_personal_file())
        index = _signature([found.git_dir / "index"]) if found is not None and own else ()
        known = self._known.get(path)
        if known is not None and known[1] == index:
            tracked = known[2]
        else:
            tracked = _tracked(found) if found is not None and own and index else ()
        self.state[path] = excludes, index, tracked
        ignored = Ignored(place, self._store, f"{path}/" if path else "")
        self._open.append(ignored)
        same = known is not None and known[0] == excludes and known[2] == tracked
        return ignored, [f"{path}/{p}" if path else p for p in tracked], same

    def close(self) -> None:
        """End the processes."""
        for ignored in self._open:
            ignored.close()
        self._open.clear()


class Ignored:
    """
    The ignore rules of one repository, or of a plain directory.

    Args:
        root: its top.
        store: a repository of P8's own, where `root` has none.
        prefix: its path within the tree that is looked at, with a slash at its end, or "".
    """

    def __init__(self, root: Path, store: Path, prefix: str = "") -> None:
        self._root = root
        self._store = store
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._index = True
        self._listed: set[str] | None = None
        self._unsure: set[str] = set()

    def among(self, rel: str, names: Collection[str], all_at_once: bool = False) -> set[str]:
        """
        Return which of the names in a directory are ignored.

        Args:
            rel: the directory's path with a slash at its end, from the tree's top, or "".
            names: what lies in it.
            all_at_once: the whole tree will be asked about, so one list of all is cheaper.

        Raises:
            WorkspaceError: git is missing or failed.
        """
        inside = rel[len(self._prefix) :]
        if all_at_once:
            listed = self._list()
            if not any(inside.startswith(folder) for folder in self._unsure):
                folders = {n for n in names if f"{inside}{n}/" in listed}
                sure = self._each(inside, folders)
                # Git lists a directory as ignored too where merely all in it is.
                self._unsure.update(f"{inside}{n}/" for n in folders - sure)
                return sure | {n for n in names if f"{inside}{n}" in listed}
        return self._each(inside, names)

    def _list(self) -> set[str]:
        """Return all that is ignored, directories with a slash at their end and without what is in them."""
        if self._listed is None:
            words, env = self._setting("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
            try:
                done = subprocess.run(
                    words, cwd=self._root, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                    check=True, start_new_session=True,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                raise WorkspaceError(f"git ls-files failed in {self._root}") from error
            self._listed = {os.fsdecode(path) for path in done.stdout.split(b"\0") if path}
        return self._listed

    def _each(self, inside: str, names: Collection[str]) -> set[str]:
        out: set[str] = set()
        batch: list[str] = []
        size = 0
        for name in names:
            batch.append(name)
            size += len(inside) + len(name) * 3 + 4
            if size > ASKED_AT_ONCE:
                out |= self._answered(inside, batch)
                batch, size = [], 0
        return out | self._answered(inside, batch) if batch else out

    def _answered(self, inside: str, names: list[str]) -> set[str]:
        try:
            return self._ask(inside, names)
        except (OSError, EOFError):
            self.close()
        # It ends on a path inside a submodule that it knows only from its index: rules alone can answer that.
        self._index = False
        try:
            return self._ask(inside, names)
        except (OSError, EOFError) as error:
            self.close()
            raise WorkspaceError(f"git check-ignore failed in {self._root}") from error

    def _ask(self, inside: str, names: list[str]) -> set[str]:
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(b"".join(os.fsencode(f"./{inside}{name}") + b"\0" for name in names))
        process.stdin.flush()
        fields = self._fields(process, 4 * len(names))
        patterns = fields[2::4]
        return {n for n, pattern in zip(names, patterns, strict=True) if pattern and not pattern.startswith(b"!")}

    def _fields(self, process: subprocess.Popen[bytes], count: int) -> list[bytes]:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        raw, seen = [], 0
        while seen < count:
            if not select.select([descriptor], [], [], TIMEOUT_S)[0]:
                raise OSError("no answer")
            block = os.read(descriptor, 65536)
            if not block:
                raise EOFError
            seen += block.count(b"\0")
            raw.append(block)
        return b"".join(raw).split(b"\0")[:count]

    def _start(self) -> subprocess.Popen[bytes]:
        words, env = self._setting("check-ignore", "-z", "-v", "-n", "--stdin")
        if not self._index:
            words.append("--no-index")
        self._process = subprocess.Popen(
            words, cwd=self._root, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        return self._process

    def _setting(self, *words: str) -> tuple[list[str], dict[str, str]]:
        """Return the command that runs git here, and its environment."""
        found = git.find(self._root)
        settings = git.overrides(found) if found is not None and found.root == self._root else None
        if found is not None and settings is not None:
            env = git.environment(found)
        else:
            settings = [f"core.excludesFile={file}" for file in _personal_file()]
            settings.append("core.bare=false")
            env = git.environment(git.Repository(self._root, self._store, self._store))
            self._index = False
        options = [part for setting in (*git.HARDENED, *settings) for part in ("-c", setting)]
        return [git.executable(), "--no-optional-locks", "--no-pager", *options, *words], env

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            git.end(process)


def _tracked(found: git.Repository) -> tuple[str, ...]:
    """Return the paths that a repository tracks although its rules name them."""
    words = ("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")
    out = git.run(found, *words, settings=git.overrides(found) or ())
    return tuple(sorted({os.fsdecode(path) for path in out.split(b"\0") if path}))


def _personal_file() -> list[Path]:
    return [Path(value) for key, value in git.personal(Path.home()) if key == "core.excludesfile"]


def _excludes(found: git.Repository) -> Signature:
    files = [found.common_dir / "info" / "exclude", found.common_dir / "config", found.git_dir / "config.worktree"]
    return _signature([*files, *_personal_file()])


def _signature(files: Collection[Path]) -> Signature:
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            state = file.stat()
        except OSError:
            found.append((0,))
            continue
        found.append((state.st_mtime_ns, state.st_size, state.st_ino))
    return tuple(found)
