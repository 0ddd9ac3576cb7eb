"""Both ends of a synchronisation: looks at a tree, and changes it where it is still as it was seen.

The same text runs on the host, imported, and in a container, given to its python3; so it needs nothing but the standard
library. Refuses: to follow links, to leave the tree, and to replace what somebody changed meanwhile.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Sequence
from typing import Any

OWN = ".p8-sync"  #: folder for what is under way, at the top of either tree; never synchronised
RACY_NS = 1_000_000_000  #: a file changed so shortly ago may change again within one tick of its clock

#: [kind, digest or target, executable, signature]
Seen = list[Any]


def is_ignored(path: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern fits the path, or one of its parts."""
    parts = path.split("/")
    return parts[0] == OWN or any(
        fnmatch.fnmatchcase(path, pattern) or any(fnmatch.fnmatchcase(part, pattern) for part in parts)
        for pattern in patterns
    )


def signature(path: str) -> list[Any] | None:
    """Return what tells one state of a file from another without reading it; None where there is none."""
    try:
        state = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(state.st_mode):
        return ["folder"]
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def digest_of(path: str) -> str:
    """Return a file's SHA-256; the file must be no link."""
    digest = hashlib.sha256()
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(number, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def scan(root: str, patterns: Sequence[str], cache: dict[str, Any]) -> dict[str, Seen]:
    """
    Return everything in a tree by its path.

    Args:
        root: the tree's top.
        patterns: what to leave out.
        cache: digests by path, as they were at the last look; brought up to date.
    """
    found: dict[str, Seen] = {}
    fresh: dict[str, Any] = {}

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error  # what cannot be read must not look as if it were deleted

    for place, folders, files in os.walk(root, onerror=fail):
        below = os.path.relpath(place, root)
        prefix = "" if below == "." else f"{below}/"
        folders[:] = [name for name in folders if not is_ignored(prefix + name, patterns)]
        for name in [*folders, *files]:
            path, full = prefix + name, os.path.join(place, name)
            if name in files and is_ignored(path, patterns):
                continue
            with contextlib.suppress(FileNotFoundError):
                seen = _look(full, cache.get(path))
                if seen is not None:
                    found[path] = seen
                    changed = seen[3][2] if seen[0] == "file" else time.time_ns()
                    if seen[0] == "file" and time.time_ns() - changed > RACY_NS:
                        fresh[path] = [seen[3], seen[1]]
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(place, name))]
    cache.clear()
    cache.update(fresh)
    return found


def _look(full: str, known: Any) -> Seen | None:
    state = os.lstat(full)
    sig = signature(full)
    if stat.S_ISDIR(state.st_mode):
        return ["folder", "", False, sig]
    if stat.S_ISLNK(state.st_mode):
        return ["link", os.readlink(full), False, sig]
    if not stat.S_ISREG(state.st_mode):
        return None
    executable = bool(state.st_mode & 0o100)
    if known and known[0] == sig:
        return ["file", known[1], executable, sig]
    return ["file", digest_of(full), executable, sig]


def is_inside(path: str) -> bool:
    """Return whether a path names something below a tree's top, and nothing of a synchronisation's own."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not any(p in {"", ".", ".."} for p in parts) and parts[0] != OWN


def _is_plain(root: str, path: str) -> bool:
    """Return whether all that a path leads through are folders."""
    at = root
    for part in path.split("/")[:-1]:
        at = os.path.join(at, part)
        try:
            if not stat.S_ISDIR(os.lstat(at).st_mode):
                return False
        except OSError:
            return False
    return True


def ignored(root: str, patterns: Sequence[str]) -> list[str]:
    """Return the paths in a tree that patterns fit, none of them below another, and nothing of a synchronisation's."""
    found = []
    for place, folders, files in os.walk(root):
        below = os.path.relpath(place, root)
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in [*folders, *files] if is_ignored(prefix + name, patterns)]
        folders[:] = [name for name in folders if not is_ignored(prefix + name, patterns)]
    return sorted(path for path in found if path != OWN)


def mark_of(own: str) -> str:
    """Return a tree's own mark, made at the first look: another tree at the same place has another."""
    path = os.path.join(own, "mark")
    with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
        said = file.read().strip()
        if len(said) == 32:
            return said
    made = os.urandom(16).hex()
    with open(path + ".young", "w", encoding="ascii") as file:
        file.write(made)
    os.replace(path + ".young", path)
    return made


def apply(root: str, steps: Sequence[Sequence[Any]], fresh_mode: int = 0o644) -> list[int]:
    """
    Do steps in their order, each only if its place is as it was seen; return the numbers of those done.

    Steps are [verb, path, signature, …]: delete; folder; link, target; file, staged name, executable; move, new path.
    New files get `fresh_mode`; what root makes belongs to whom the tree does.
    """
    done = []
    top = os.lstat(root)
    owner = (top.st_uid, top.st_gid) if os.getuid() == 0 else None
    for number, step in enumerate(steps):
        verb, path, expected = step[:3]
        full = os.path.join(root, path)
        try:
            if not is_inside(path) or not _is_plain(root, path) or signature(full) != expected:
                continue
            if _do(root, full, step, fresh_mode):
                done.append(number)
                if owner is not None and verb in {"file", "folder", "link"}:
                    os.lchown(full, *owner)
        except OSError as error:
            if error.errno == 28:  # the disk is full: nothing after it would go better
                raise
    return done


def _do(root: str, full: str, step: Sequence[Any], fresh_mode: int) -> bool:
    verb = step[0]
    if verb == "delete":
        os.rmdir(full) if step[2] == ["folder"] else os.unlink(full)
    elif verb == "folder":
        os.mkdir(full)
    elif verb == "link":
        young = os.path.join(root, OWN, "link")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(young)
        os.symlink(step[3], young)
        os.rename(young, full)
    elif verb == "file":
        staged = os.path.join(root, OWN, "in", step[3])
        mode = os.lstat(full).st_mode & 0o666 if step[2] is not None else fresh_mode
        os.chmod(staged, mode | 0o600 | (0o111 if step[4] else 0))
        os.rename(staged, full)
    elif verb == "move":
        target = os.path.join(root, step[3])
        if not is_inside(step[3]) or os.path.lexists(target):
            return False
        os.rename(full, target)
    else:
        return False
    return True


def pack(root: str, wanted: dict[str, str]) -> dict[str, str]:
    """Copy files, by the digests they were seen with, to where they stay as they are; return staged names by path."""
    out = os.path.join(root, OWN, "out")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    staged = {}
    for number, (path, digest) in enumerate(wanted.items()):
        copy = os.path.join(out, str(number))
        try:
            if not is_inside(path) or not _is_plain(root, path):
                continue
            source = os.open(os.path.join(root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(source, "rb") as file, open(copy, "wb") as to:
                shutil.copyfileobj(file, to, 1 << 20)
            if digest_of(copy) == digest:
                staged[path] = str(number)
            else:
                os.unlink(copy)
        except OSError:
            continue
    return staged


def main() -> None:
    """Do what `request.json` in the folder of one's own says; print the answer as JSON."""
    root = sys.argv[1]
    own = os.path.join(root, OWN)
    with open(os.path.join(own, "request.json"), encoding="ascii") as file:
        request = json.load(file)
    answer: Any = None
    if request["do"] == "scan":
        cache_file = os.path.join(own, "cache.json")
        cache: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError), open(cache_file, encoding="ascii") as file:
            cache = json.load(file)
        for name in ("in", "out"):  # of what was cut
            shutil.rmtree(os.path.join(own, name), ignore_errors=True)
        answer = {"mark": mark_of(own), "tree": scan(root, request["patterns"], cache)}
        with open(cache_file + ".young", "w", encoding="ascii") as file:
            json.dump(cache, file)
        os.replace(cache_file + ".young", cache_file)
    elif request["do"] == "apply":
        answer = apply(root, request["steps"], request["mode"])
    elif request["do"] == "pack":
        answer = pack(root, request["wanted"])
    elif request["do"] == "ignored":
        answer = ignored(root, request["patterns"])
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
