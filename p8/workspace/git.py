"""The git state of the user's project, read without touching it and without running anything it brings along.

A repository's configuration can name programs that git runs on a plain `status`: fsmonitor, filters, hooks, a remote's
transport for objects that are missing, and all of these again in its submodules. So git runs with an environment made
of nothing, every such setting overridden, filters silenced by their names, submodules looked at from outside and all
transports forbidden; `tests/integration/test_hostile_repo.py` proves it against git itself. As `GIT_DIR` is given, git
does not ask whose the repository is (safe.directory): nothing of it is run, so it need not.

Measured: HEAD from files 0.1 ms, `status --porcelain=v2` 2 ms in a small repository and 40 ms with 5,000 files.
GitPython needs 75 to 790 ms for the same lists and passes on the environment it finds, so it gets no repository: it
reads the commit object of a checkpoint, which git, run as above, has handed over.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from p8.errors import WorkspaceError
from p8.model import GitState
from p8.patterns import pattern
from p8.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen
    from typing import Any

TIMEOUT_S = 20.0
MOST_PATHS = 2000  #: of each kind are kept in a state
MOST_BYTES = 64 << 20  #: of a file of git's are read
MOST_FILTERS = 200  #: are silenced by name; whoever has more of them means no good
HARDENED = (
    "core.fsmonitor=false", "core.hooksPath=/dev/null", "core.pager=cat", "core.editor=true", "core.askPass=true",
    "core.sshCommand=false", "credential.helper=", "protocol.allow=never", "submodule.recurse=false", "gc.auto=0",
    "maintenance.auto=false", "diff.external=", "status.submoduleSummary=false", "log.showSignature=false",
    "core.untrackedCache=false", "advice.statusHints=false", "core.quotePath=false",
)  # fmt: skip
STATUS = (
    "status", "--porcelain=v2", "--branch", "--show-stash", "--ahead-behind", "-z", "--untracked-files=all",
    "--ignore-submodules=dirty",
)  # fmt: skip
#: Where none of this stands in a configuration, it names no filter, reads no further file and has a work tree. Git
#: knows no way to write these words otherwise; whatever holds one is read by git itself, which knows the syntax.
SUSPECT = pattern(rb"filter|include|bare\s*=?\s*(?!\s*(?:=\s*)?(?:false|no|off|0))", re.IGNORECASE)
FILTER = pattern(r"filter\.(.*)\.(?:clean|smudge|process|required)", re.DOTALL)
#: settings of the person's own that decide what counts as changed; none of them runs anything
PERSONAL = ("core.excludesfile", "core.autocrlf", "core.eol")
OBJECT = pattern(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Repository(Record):
    """Where a repository is."""

    root: Path  #: the work tree's top
    git_dir: Path  #: of this work tree
    common_dir: Path  #: of the repository, the same for all its work trees


class Identity(Record):
    """What makes a repository the same one wherever it lies."""

    root: Path
    name: str  #: of the remote, else of the main work tree's directory
    root_commit: str  #: the first commit of HEAD's own line; "" where there is none, or only a shallow part is here
    remote: str  #: normalised address without credentials; "" where there is none but this machine's own files


# where, from files alone


def find(directory: Path) -> Repository | None:
    """Return the repository that `directory` belongs to. Reads files only; never raises."""
    for folder in (directory, *directory.parents):
        dot = folder / ".git"
        with contextlib.suppress(OSError, ValueError):
            mode = dot.stat().st_mode
            if stat.S_ISDIR(mode) and (dot / "HEAD").exists():
                return Repository(folder, dot, _common(dot))
            if stat.S_ISREG(mode):
                text = _path_in(read(dot))
                git_dir = Path(os.path.realpath(folder / text[7:].strip())) if text.startswith("gitdir:") else None
                usable = git_dir is not None and (git_dir / "HEAD").exists()
                return Repository(folder, git_dir, _common(git_dir)) if git_dir is not None and usable else None
    return None


def is_orphaned(directory: Path) -> bool:
    """Return whether `directory` lies in a work tree whose repository no longer knows it."""
    if find(directory) is not None:
        return False
    return any(folder.joinpath(".git").is_file() for folder in (directory, *directory.parents))


def _common(git_dir: Path) -> Path:
    try:
        return Path(os.path.realpath(git_dir / _path_in(read(git_dir / "commondir")).rstrip("\r\n")))
    except FileNotFoundError:
        return git_dir


def _path_in(raw: bytes) -> str:
    return raw[:4096].decode("utf-8", "surrogateescape")


def read(file: Path, limit: int = MOST_BYTES) -> bytes:
    """
    Return what a plain file begins with. A pipe or device in its place costs an error and never a wait.

    Raises:
        OSError: it is missing, may not be read, or is no plain file.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{file} is not a file")
        return handle.read(limit)


def head(directory: Path) -> tuple[str, str]:
    """Return branch ("" when detached) and commit ("" where there is none), from files alone. Never raises."""
    found = find(directory)
    if found is None:
        return "", ""
    with contextlib.suppress(OSError):
        file = found.git_dir / "HEAD"
        ref = f"ref: {file.readlink()}" if file.is_symlink() else _path_in(read(file)).strip()
        if not ref.startswith("ref:"):
            return "", ref if OBJECT.fullmatch(ref) else ""
        ref = ref[4:].strip()
        if ref == "refs/heads/.invalid":  # what a reftable repository shows to those who read files
            return _asked(found)
        return shown(ref.removeprefix("refs/heads/")), _resolve(found, ref)
    return "", ""


def _resolve(found: Repository, ref: str) -> str:
    """Return the commit that a reference stands for, through references to references."""
    for _ in range(5):
        if not ref.startswith("refs/") or ".." in ref:
            break
        value = _loose(found, ref)
        if not value.startswith("ref:"):
            return value if OBJECT.fullmatch(value) else _packed(found, ref)
        ref = value[4:].strip()
    return ""


def _loose(found: Repository, ref: str) -> str:
    for folder in (found.git_dir, found.common_dir):
        with contextlib.suppress(OSError, ValueError):
            return _path_in(read(folder / ref, 4096)).strip()
    return ""


def _packed(found: Repository, ref: str) -> str:
    with contextlib.suppress(OSError):
        wanted = b" " + ref.encode("utf-8", "surrogateescape")
        for line in read(found.common_dir / "packed-refs").splitlines():
            if line.endswith(wanted):
                value = line[: -len(wanted)].decode("ascii", "replace")
                return value if OBJECT.fullmatch(value) else ""
    return ""


def _asked(found: Repository) -> tuple[str, str]:
    """Return what git says of HEAD, where its files cannot be read without it."""
    with contextlib.suppress(WorkspaceError):
        ref = run(found, "rev-parse", "--symbolic-full-name", "HEAD").decode("utf-8", "backslashreplace").strip()
        commit = run(found, "rev-parse", "--verify", "-q", "HEAD").decode("ascii", "replace").strip()
        return "" if ref == "HEAD" else ref.removeprefix("refs/heads/"), commit if OBJECT.fullmatch(commit) else ""
    return "", ""


def shown(text: str) -> str:
    """Return `text` with bytes that are no UTF-8 in hexadecimal, as a person can read and a database keep it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# what differs, from one `git status`


def git_state(directory: Path, timeout_s: float = TIMEOUT_S) -> GitState:
    """
    Return the whole state: branch, commit, what differs, what upstream has, stashes. Empty outside a repository.

    Of a repository without a work tree only branch and commit are known. Files under a filter (LFS, git-crypt) count as
    changed where their times changed and only the filter could tell that nothing else did.

    Raises:
        WorkspaceError: git is missing, failed or took too long, or the configuration cannot be made harmless.
    """
    found = find(directory)
    if found is None:
        return GitState()
    settings = overrides(found)
    if settings is None:
        branch, commit = head(directory)
        return GitState(branch=branch, commit=commit, root=str(found.root))
    return _parse(run(found, *STATUS, settings=settings, timeout_s=timeout_s), str(found.root))


def overrides(found: Repository) -> list[str] | None:
    """Return the settings that `status` needs in this repository; None where it has no work tree."""
    text = _configuration(found)
    words = text.lower()
    mine = [f"{key}={value}" for key, value in personal(Path.home()) if key[5:].encode() not in words]
    if len(text) < MOST_BYTES and not SUSPECT.search(text):
        return mine
    settings = dict(_settings(found))
    if settings.get("core.bare") == "true" and found.git_dir == found.common_dir:
        return None
    names = {match.group(1) for key in settings if (match := FILTER.fullmatch(key))}
    if len(names) > MOST_FILTERS or any("=" in name for name in names):
        raise WorkspaceError(
            f"{found.root} configures filters that cannot be switched off", "only branch and commit are read of it"
        )
    off = [f"filter.{name}.{key}" for name in sorted(names) for key in ("clean=", "process=", "required=false")]
    return mine + off


def _configuration(found: Repository) -> bytes:
    """Return the repository's own configuration as it is written. Raises WorkspaceError where git would hang on it."""
    text = b""
    for file in (found.common_dir / "config", found.git_dir / "config.worktree"):
        try:
            text += read(file) + b"\n"
        except FileNotFoundError:
            continue
        except OSError as error:
            raise WorkspaceError(f"git's configuration cannot be read: {error.strerror or error}") from error
    return text


def _settings(found: Repository) -> list[tuple[str, str]]:
    """Return the repository's configuration as git reads it, further files included; sections in lower case."""
    out = run(found, "config", "--list", "--includes", "-z").decode("utf-8", "surrogateescape")
    pairs = [entry.partition("\n") for entry in out.split("\0") if entry]
    return [(key, value if mark else "true") for key, mark, value in pairs]


@functools.cache
def personal(home: Path) -> list[tuple[str, str]]:
    """Return what the person's own configuration says of `PERSONAL`, asked once."""
    import subprocess

    env = {"PATH": os.defpath, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
    pairs: dict[str, str] = {}
    default = home / ".config" / "git" / "ignore"
    if default.is_file():
        pairs["core.excludesfile"] = str(default)
    if (home / ".gitconfig").is_file() or (home / ".config" / "git" / "config").is_file():
        words = [executable(), "config", "--global", "--includes", "-z", "--get-regexp"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [*words, r"^core\.(excludesfile|autocrlf|eol)$"], cwd="/", env=env, capture_output=True, timeout=5,
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            for entry in done.stdout.decode("utf-8", "surrogateescape").split("\0"):
                key, mark, value = entry.partition("\n")
                if mark and key in PERSONAL:
                    pairs[key] = str(home / value[2:]) if value.startswith("~/") else value
    return list(pairs.items())


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
    words = shown(record).split(" ")
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


def distance(directory: Path, old: str, new: str) -> tuple[int, int] | None:
    """
    Return how many commits `new` is ahead of and behind `old`; None where one of them is not there.

    Raises:
        WorkspaceError: git is missing or took longer than a person should wait for it.
    """
    found = find(directory)
    if found is None or not has_commit(directory, old) or not has_commit(directory, new):
        return None
    out = run(found, "rev-list", "--left-right", "--count", f"{new}...{old}", timeout_s=3.0).split()
    return int(out[0]), int(out[1])


def has_commit(directory: Path, commit: str) -> bool:
    """Return whether a repository's objects hold this commit. Raises WorkspaceError where git is missing."""
    found = find(directory)
    if found is None or not OBJECT.fullmatch(commit):
        return False
    executable()
    with contextlib.suppress(WorkspaceError):
        run(found, "cat-file", "-e", f"{commit}^{{commit}}", timeout_s=3.0)
        return True
    return False


def describe(directory: Path) -> dict[str, str]:
    """
    Return what a checkpoint says of HEAD's commit: subject, author, committed.

    Empty where it cannot be read, and in a repository of 64-digit names, which GitPython does not know.
    """
    found, commit = find(directory), head(directory)[1]
    if found is None or not commit:
        return {}
    with contextlib.suppress(WorkspaceError):
        _configuration(found)
        raw = run(found, "cat-file", "commit", commit, timeout_s=5.0)
        said = re.search(rb"^encoding (\S+)$", raw.partition(b"\n\n")[0], re.MULTILINE)
        if said is not None:  # which GitPython overlooks
            with contextlib.suppress(LookupError):
                raw = raw.decode(said.group(1).decode("ascii", "replace"), "replace").encode()
        return _described(commit, raw)
    return {}


def _described(commit: str, raw: bytes) -> dict[str, str]:
    import io

    with contextlib.suppress(Exception):  # GitPython raises whatever a commit's odd bytes make it raise
        import git
        from git.db import OStream

        class Given:
            """The only object GitPython may ask for."""

            @staticmethod
            def stream(binsha: bytes) -> Any:
                return OStream(binsha, b"commit", len(raw), io.BytesIO(raw))

        repo = type("Repository", (), {"odb": Given})
        read_by_it = git.Commit(repo, bytes.fromhex(commit))
        subject = read_by_it.summary
        return {
            "subject": shown(subject if isinstance(subject, str) else subject.decode("utf-8", "surrogateescape"))[:500],
            "author": shown(str(read_by_it.author.name or ""))[:200],
            "committed": read_by_it.committed_datetime.isoformat(),
        }
    return {}


# which, wherever it lies


def identity(directory: Path) -> Identity | None:
    """
    Return what identifies the repository of `directory`; None outside of one.

    The first commit is that of HEAD's first-parent line: a history merged in later, which may be older, does not make
    it another repository.

    Raises:
        WorkspaceError: git is missing, failed or took too long.
    """
    found = find(directory)
    if found is None:
        return None
    _configuration(found)
    remote = _remote(_settings(found))
    root_commit = ""
    if head(directory)[1] and not _is_shallow(found):
        out = run(found, "rev-list", "--first-parent", "--max-parents=0", "HEAD").decode("ascii", "replace").split()
        root_commit = out[-1] if out and OBJECT.fullmatch(out[-1]) else ""
    main = found.common_dir.parent if found.common_dir.name == ".git" else found.root
    return Identity(found.root, shown(remote.rpartition("/")[2] or main.name), root_commit, remote)


def _is_shallow(found: Repository) -> bool:
    with contextlib.suppress(OSError):
        return bool(read(found.common_dir / "shallow", 1))
    return False


def stamp(folder: Path) -> str:
    """Return a mark that changes when another directory takes this one's place."""
    try:
        state = folder.stat()
    except OSError:
        return ""
    return f"{state.st_dev}:{state.st_ino}"


def _remote(settings: Sequence[tuple[str, str]]) -> str:
    """Return the address of `origin`, or of the only remote, without credentials, in one form for all protocols."""
    remotes: dict[str, str] = {}
    for key, value in settings:
        if key.startswith("remote.") and key.endswith(".url"):
            remotes.setdefault(key[7:-4], value)
    address = remotes.get("origin") or (next(iter(remotes.values())) if len(remotes) == 1 else "")
    return normalise(shown(address))


def normalise(address: str) -> str:
    """
    Return a remote's address as host/path: no scheme, user, password, port, query, `.git` or last slash.

    An address on this machine is none: the clone of a local clone is the same project, and a path means nothing
    on another machine.
    """
    address = address.strip()
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://", address, re.IGNORECASE)
    if scheme:
        rest = re.sub(r"[?#].*", "", address[scheme.end() :], flags=re.DOTALL)
        authority, _, path = rest.partition("/")
        host = re.sub(r":\d*$", "", authority.rpartition("@")[2])
        if scheme.group(1).lower() == "file":
            return ""
    else:
        scp = re.fullmatch(r"(?:[^/]*@)?(\[[^\]/]*\]|[^:/@\s]+):(.+)", address, re.DOTALL)
        if scp is None:
            return ""
        host, path = scp.groups()
    path = path.strip("/").removesuffix(".git").strip("/")
    return f"{host.lower()}/{path}" if host and path else ""


# running git


def executable() -> str:
    """
    Return where git is; never a `git` that lies in the directory worked in.

    Raises:
        WorkspaceError: nowhere.
    """
    import shutil

    where = shutil.which("git", path=os.defpath) or shutil.which("git")
    if where is None or not Path(where).is_absolute():
        raise WorkspaceError("git is not installed", "only branch and commit are read of a repository without it")
    return where


def run(found: Repository, *words: str, settings: Sequence[str] = (), timeout_s: float = TIMEOUT_S) -> bytes:
    """
    Run git in a repository with nothing inherited and nothing of the repository's own run.

    Args:
        found: where.
        words: what to do and how.
        settings: `key=value`, beside those that are always set.
        timeout_s: how long it may take.

    Raises:
        WorkspaceError: git is missing, failed or took too long.
    """
    import subprocess

    options = [part for setting in (*HARDENED, *settings) for part in ("-c", setting)]
    command = [executable(), "--no-optional-locks", "--no-pager", *options, *words]
    try:
        done = subprocess.run(
            command, cwd=found.root, env=environment(found), capture_output=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise WorkspaceError(f"git {words[0]} took longer than {timeout_s:.0f} s in {found.root}") from error
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"git cannot be run in {found.root}: {getattr(error, 'strerror', error)}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise WorkspaceError(f"git {words[0]} failed in {found.root}: {said[0] if said else done.returncode}")
    return done.stdout


def end(process: Popen[bytes]) -> None:
    """End a git that is spoken with over pipes."""
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(OSError):
            stream.close()
    process.kill()
    process.wait()


def environment(found: Repository) -> dict[str, str]:
    """Return the environment git is run with: made of nothing."""
    return {
        "PATH": os.defpath, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8",
        "GIT_DIR": str(found.git_dir), "GIT_COMMON_DIR": str(found.common_dir), "GIT_WORK_TREE": str(found.root),
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1",
    }  # fmt: skip
