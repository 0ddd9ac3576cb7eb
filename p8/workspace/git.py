"""The git state of the user's project, read without touching it and without running anything it brings along.

A repository's configuration can name programs that git runs on a plain `status` (fsmonitor, filters, hooks). So
git is run with an environment made of nothing and such settings overridden; a repository whose own configuration
names filters is read from `.git` only (RELIABILITY 0.7). Measured: reading HEAD 0.13 ms, `status --porcelain=v2`
40 ms, GitPython's lists 75 to 790 ms; so GitPython serves for the log of a checkpoint only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p8.errors import WorkspaceError
from p8.model import GitState

TIMEOUT_S = 20.0
MOST_PATHS = 2000  #: of each kind are kept in a state
HARDENED = (
    "core.fsmonitor=false", "core.hooksPath=/dev/null", "core.pager=cat", "core.editor=true", "core.askPass=true",
    "core.sshCommand=false", "credential.helper=", "protocol.allow=never", "submodule.recurse=false", "gc.auto=0",
    "maintenance.auto=false", "diff.external=", "status.submoduleSummary=false", "log.showSignature=false",
    "core.untrackedCache=false", "advice.statusHints=false", "core.quotePath=false",
)  # fmt: skip
#: settings that make `git status` run a program and cannot be overridden by name, as their names are not known
RUNS = re.compile(rb"^\s*\[\s*(filter|diff)\s+\"|^\s*\[\s*include", re.IGNORECASE | re.MULTILINE)
OBJECT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a repository is."""

    root: Path  #: the work tree's top
    git_dir: Path  #: of this work tree
    common_dir: Path  #: of the repository, the same for all its work trees


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a repository the same one wherever it lies."""

    root: Path
    root_commit: str  #: "" in one without commits
    remote: str  #: normalised address without credentials, or ""
    stamp: str  #: changes when another repository takes this place


def find(directory: Path) -> Repository | None:
    """Return the repository that `directory` belongs to. Reads files only."""
    with contextlib.suppress(OSError):
        for folder in (directory, *directory.parents):
            dot = folder / ".git"
            if dot.is_dir() and (dot / "HEAD").exists():
                return Repository(folder, dot, dot)
            if dot.is_file():
                text = dot.read_text("utf-8", "surrogateescape")[:4096]
                if text.startswith("gitdir:"):
                    git_dir = (folder / text[7:].strip()).resolve()
                    return Repository(folder, git_dir, _common(git_dir)) if git_dir.is_dir() else None
    return None


def _common(git_dir: Path) -> Path:
    file = git_dir / "commondir"
    return (git_dir / file.read_text("utf-8").strip()).resolve() if file.exists() else git_dir


def head(directory: Path) -> tuple[str, str]:
    """Return branch ("" when detached) and commit ("" where there is none), from files alone. Never raises."""
    found = find(directory)
    if found is None:
        return "", ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (found.git_dir / "HEAD").read_text("utf-8")[:4096].strip()
        if not text.startswith("ref:"):
            return "", text if OBJECT.fullmatch(text) else ""
        ref = text[4:].strip()
        return ref.removeprefix("refs/heads/"), _resolve(found, ref)
    return "", ""


def _resolve(found: Repository, ref: str) -> str:
    if ".." in ref or ref.startswith("/"):
        return ""
    for folder in (found.git_dir, found.common_dir):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            value = (folder / ref).read_text("ascii")[:200].strip()
            if OBJECT.fullmatch(value):
                return value
    with contextlib.suppress(OSError):
        wanted = f" {ref}".encode()
        for line in (found.common_dir / "packed-refs").read_bytes().splitlines():
            if line.endswith(wanted):
                return line.split(b" ", 1)[0].decode("ascii", "replace")
    return ""


def git_state(directory: Path) -> GitState:
    """
    Return the whole state: branch, commit, what differs, what upstream has, stashes. Empty outside a repository.

    One `git status`. Where the repository's configuration could make even that run a program, or git is missing, only
    branch and commit are filled in.

    Raises:
        WorkspaceError: git failed or took too long.
    """
    found = find(directory)
    if found is None:
        return GitState()
    if _is_hostile(found) or shutil.which("git") is None:
        branch, commit = head(directory)
        return GitState(branch=branch, commit=commit, root=str(found.root))
    out = run(found, "status", "--porcelain=v2", "--branch", "--show-stash", "-z", "--untracked-files=all")
    return _parse(out, str(found.root))


def _is_hostile(found: Repository) -> bool:
    """Return whether the repository's own configuration names filters, diff drivers or further files to read."""
    for file in (found.common_dir / "config", found.git_dir / "config.worktree"):
        try:
            if RUNS.search(file.read_bytes()[:1_000_000]):
                return True
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


def run(found: Repository, *words: str) -> bytes:
    """
    Run git in a repository with nothing inherited and nothing of the repository's own run.

    Raises:
        WorkspaceError: git failed or took too long.
    """
    import subprocess

    options = [part for setting in HARDENED for part in ("-c", setting)]
    command = ["git", "--no-optional-locks", "--no-pager", *options, *words]
    try:
        done = subprocess.run(
            command, cwd=found.root, env=environment(found), capture_output=True, timeout=TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise WorkspaceError(f"git {words[0]} took longer than {TIMEOUT_S:.0f} s in {found.root}") from error
    except OSError as error:
        raise WorkspaceError(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        hint = (
            "it belongs to another user: git config --global --add safe.directory" if b"dubious" in done.stderr else ""
        )
        raise WorkspaceError(f"git {words[0]} failed in {found.root}: {said[0] if said else done.returncode}", hint)
    return done.stdout


def environment(found: Repository) -> dict[str, str]:
    """Return the environment git is run with: made of nothing."""
    return {
        "PATH": os.defpath if shutil.which("git", path=os.defpath) else str(Path(shutil.which("git") or "git").parent),
        "GIT_DIR": str(found.git_dir), "GIT_WORK_TREE": str(found.root), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8",
    }  # fmt: skip


def _parse(out: bytes, root: str) -> GitState:
    values: dict[str, Any] = {"root": root}
    lists: dict[str, list[str]] = {"staged": [], "modified": [], "untracked": [], "conflicted": []}
    records = iter(out.decode("utf-8", "surrogateescape").split("\0"))
    for record in records:
        kind = record[:1]
        if kind == "#":
            _header(record, values)
        elif kind == "?":
            lists["untracked"].append(record[2:])
        elif kind == "u":
            lists["conflicted"].append(record.split(" ", 10)[10])
        elif kind in {"1", "2"}:
            fields = record.split(" ", 8 if kind == "1" else 9)
            for mark, name in zip(fields[1], ("staged", "modified"), strict=False):
                if mark != ".":
                    lists[name].append(fields[-1])
            if kind == "2":
                next(records, None)
    values.update((name, tuple(paths[:MOST_PATHS])) for name, paths in lists.items())
    return GitState(**values)


def _header(record: str, values: dict[str, Any]) -> None:
    words = record.split(" ")
    if words[1] == "branch.oid":
        values["commit"] = "" if words[2] == "(initial)" else words[2]
    elif words[1] == "branch.head":
        values["branch"] = "" if words[2] == "(detached)" else words[2]
    elif words[1] == "branch.upstream":
        values["upstream"] = words[2]
    elif words[1] == "branch.ab":
        values["ahead"], values["behind"] = int(words[2]), -int(words[3])
    elif words[1] == "stash":
        values["stashes"] = int(words[2])


def identity(directory: Path) -> Identity | None:
    """
    Return what identifies the repository of `directory`: its oldest root commit and its remote. None outside of one.

    Raises:
        WorkspaceError: git failed.
    """
    found = find(directory)
    if found is None:
        return None
    roots: list[str] = []
    if head(directory)[1] and shutil.which("git"):
        out = run(found, "log", "--max-parents=0", "--format=%ct %H", "HEAD").decode().split("\n")
        roots = [line.split(" ")[1] for line in sorted(filter(None, out))]
    return Identity(found.root, roots[0] if roots else "", _remote(found), stamp(found.common_dir))


def stamp(folder: Path) -> str:
    """Return a mark that changes when another directory takes this one's place."""
    try:
        state = folder.stat()
    except OSError:
        return ""
    return f"{state.st_dev}:{state.st_ino}"


def _remote(found: Repository) -> str:
    """Return the address of `origin`, or of the only remote, without credentials, in one form for all protocols."""
    try:
        text = (found.common_dir / "config").read_text("utf-8", "replace")
    except OSError:
        return ""
    remotes: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        section = re.match(r'\s*\[remote "(.+)"\]', line)
        if line.lstrip().startswith("["):
            name = section.group(1) if section else ""
        value = re.match(r"\s*url\s*=\s*(.+)", line)
        if name and value:
            remotes.setdefault(name, value.group(1).strip())
    address = remotes.get("origin") or (next(iter(remotes.values())) if len(remotes) == 1 else "")
    return normalise(address)


def normalise(address: str) -> str:
    """Return a remote's address as host/path: no scheme, user, password, port of the scheme, `.git` or last slash."""
    scp = re.fullmatch(r"(?:[^@/\s]+@)?([^:/\s]+):(?!//)(.+)", address)
    if scp:
        address = f"{scp.group(1)}/{scp.group(2)}"
    else:
        address = re.sub(r"^[a-z0-9+.-]+://", "", address, flags=re.IGNORECASE)
        address = re.sub(r"^[^@/]*@", "", address)
        address = re.sub(r"^([^/:]+):\d+/", r"\1/", address)
    host, _, path = address.partition("/")
    return f"{host.lower()}/{path}".rstrip("/").removesuffix(".git").rstrip("/") if address else ""


def describe(directory: Path) -> Iterator[tuple[str, str]]:
    """
    Yield what a checkpoint says of HEAD's commit: subject, author, date. Through GitPython, imported here only.

    Nothing is yielded where there is no commit or it cannot be read.
    """
    found = find(directory)
    if found is None or _is_hostile(found):
        return
    import git

    with contextlib.suppress(Exception), git.Repo(found.root) as repo:
        repo.git.update_environment(**environment(found))
        commit = repo.head.commit
        yield "subject", str(commit.summary)
        yield "author", str(commit.author.name)
        yield "committed", commit.committed_datetime.isoformat()
