"""Two-way synchronisation of a project with a container on a remote engine, where nothing can be mounted (row M15).

Each round looks at both trees, decides by what both last agreed on, and brings over what changed: contents as tars
through the engine's archive calls, each file put in place only where it is still as it was seen. So a round may be
cut anywhere and done again. `watchfiles` says when the host's side changed; the container's is looked at every few
seconds. Refuses: `.git` (a repository of two writers breaks), names that lead out, and to overwrite what it can keep.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p8.containers import sync_agent
from p8.containers.base import EngineDown
from p8.containers.endpoint import library
from p8.containers.merge import Merged, Node, Want, deletions, merge
from p8.containers.sync_agent import OWN, is_ignored, is_inside
from p8.errors import ContainerError

IGNORED = (".git", "node_modules", "__pycache__", "*.pyc", ".venv", ".DS_Store")
BATCH_FILES, BATCH_BYTES = 500, 32 << 20
PACKED_NAME = "out/"
CUT_OFF = 126  #: the status of a program that could not be run, or whose connection was lost, whatever it did
ABSENT = re.compile("not found|no such file|permission denied", re.IGNORECASE)
POLL_S, BACKOFF_S = 2.0, (0.5, 1.0, 2.0, 5.0, 10.0)
VERSION = 2
IDLE = 4  #: times as long as a round took is waited before the next, so that large trees do not take a processor
Progress = Callable[[float, str], None]
Connect = Callable[[], tuple[Any, str]]


class Status(NamedTuple):
    """How far two trees are one."""

    state: str = "waiting"  #: waiting, syncing, synced, cut, failed
    files: int = 0  #: in the tree, folders and links too
    moved: int = 0  #: brought over so far, either way
    pending: int = 0  #: known to differ: still to come in this round, or left for the next
    conflicts: tuple[str, ...] = ()  #: what was kept beside and is still there, by path
    problem: str = ""
    at: float = 0.0  #: seconds since 1970 of the last whole round's end
    begun: float = 0.0  #: and of its beginning: what was so before is on both sides

    @property
    def line(self) -> str:
        """Return it for a status line."""
        said = f"sync: {self.state}"
        if self.state in {"cut", "failed"}:
            return f"{said}, {self.problem}" if self.problem else said
        more = [f"{self.files:,} files"] + ([f"{self.pending:,} to come"] if self.pending else [])
        more += [f"{len(self.conflicts)} conflicts kept"] if self.conflicts else []
        return f"{said}, {', '.join(more)}"

    @property
    def short(self) -> str:
        """Return it in two or three words."""
        if self.state == "cut":
            return "cut, retrying"
        if self.state == "failed":
            return "sync failed"
        if self.pending:
            return f"sync {self.pending:,} files"
        if self.conflicts:
            return f"conflict {len(self.conflicts)}"
        return "in sync" if self.at else "sync begins"


class Sync:
    """
    One folder here, one in a container.

    What both agreed on is remembered by a mark in the folder there, so that it holds for the same volume in another
    container, and for no other volume of the same name.

    Args:
        connect: returns a client of the engine (`docker.APIClient`) and the id of a container, which runs and has
            python3; asked again after a cut.
        workdir: the tree inside, a folder in a volume; made, as its user's, where there is none.
        root: the tree here.
        state: file that remembers what both agreed on; next to it nothing else is written.
        ignored: patterns of paths, or of parts of them, that stay where they are.
        is_private: new files are for their owner only.
    """

    def __init__(
        self,
        connect: Connect,
        workdir: str,
        root: Path,
        state: Path,
        ignored: Sequence[str] = IGNORED,
        is_private: bool = False,
    ) -> None:
        self._fresh_mode = 0o600 if is_private else 0o644
        self._far = _Far(connect, workdir, self._fresh_mode)
        self._root = root
        self._state = state
        self._ignored = list(ignored)
        self._one_at_a_time = threading.Lock()
        self._wake = threading.Event()
        self.status = Status()
        self._mark = ""  #: of the folder there; empty where nothing was agreed on with any
        self._base: dict[str, Node] = {}
        self._cache: dict[str, Any] = {}
        self._remembered()
        self.progress: Progress = lambda _fraction, _text: None  #: told how far a round has come
        self.on_change: Callable[[Status], None] = lambda _status: None

    # what both agreed on

    def _remembered(self) -> None:
        """Recall what was agreed on of this pair; nothing, which loses nothing, where it cannot be read."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            said = json.loads(self._state.read_text("ascii"))
            if said["version"] == VERSION and said["root"] == str(self._root):
                base = {path: Node(*node) for path, node in said["base"].items()}
                self._mark, self._base, self._cache = str(said["mark"]), base, dict(said["cache"])
                self.status = Status(conflicts=tuple(map(str, said["conflicts"])))

    def _remember(self) -> None:
        young = self._state.with_name(f".{self._state.name}.young")
        body = {
            "version": VERSION, "root": str(self._root), "mark": self._mark, "base": self._base, "cache": self._cache,
            "conflicts": self.status.conflicts,
        }  # fmt: skip
        self._state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        young.write_text(json.dumps(body), "ascii")
        young.replace(self._state)

    # rounds

    def cycle(self) -> Status:
        """
        Make one round; afterwards both trees are one, but for what changed meanwhile.

        Raises:
            EngineDown: the connection was cut; what was brought over stays, and the next round goes on.
            ContainerError: the container cannot do it, or a disk refuses.
        """
        with self._one_at_a_time:
            self._say(state="syncing")
            try:
                return self._round()
            except EngineDown as error:
                self._far.drop()
                self._say(state="cut", problem=error.message)
                raise
            except ContainerError as error:
                self._far.drop()
                self._say(state="failed", problem=error.message)
                raise
            except OSError as error:
                said = ContainerError(
                    f"{error.filename or self._root}: {error.strerror}", "the project must be writable"
                )
                self._say(state="failed", problem=said.message)
                raise said from error
            finally:
                self.progress(1.0, "")
                shutil.rmtree(self._root / OWN, ignore_errors=True)

    def _round(self) -> Status:
        if not self._root.is_dir():  # as if all of it were deleted
            raise ContainerError(f"{self._root} is not there", "put it back; nothing was deleted in the container")
        begun = time.time()
        seen_here = sync_agent.scan(str(self._root), self._ignored, self._cache)
        mark, listed = self._far.scan(self._ignored)
        if mark != self._mark:  # another folder than the one that was agreed with: nothing was deleted there
            self._mark, self._base = mark, {}
        seen_there = self._checked(listed)
        merged = merge(self._base, _nodes(seen_here), _nodes(seen_there))
        work = _Work(merged, seen_here, seen_there)
        work.on_moved = lambda: self._say(pending=work.to_come)
        self._say(pending=work.to_come)
        self._bring_here(work)
        self._bring_there(work)
        agreed = {p: w.node for p, w in merged.tree.items() if p not in work.left}
        gone = {path for path in self._base if path not in merged.tree and path not in work.left}
        kept = {path: node for path, node in self._base.items() if path not in gone and path not in agreed}
        self._base = kept | agreed
        doubles = dict.fromkeys([*self.status.conflicts, *sorted(merged.conflicts)])
        conflicts = tuple(path for path in doubles if path in self._base or path in work.left)
        self.status = self.status._replace(conflicts=conflicts)
        self._remember()
        self._say(
            state="synced", files=len(agreed), moved=self.status.moved + work.moved, pending=len(work.left),
            problem="", at=time.time(), begun=begun,
        )  # fmt: skip
        return self.status

    def _checked(self, seen: Any) -> dict[str, list[Any]]:
        """Refuse a listing no tree has: the container's word is not trusted."""
        if not isinstance(seen, dict):
            raise ContainerError("the container's side answers what is no list", "is its python3 a python3?")
        for path, one in seen.items():
            fits = isinstance(one, list) and len(one) == 4 and one[0] in {"file", "folder", "link"}
            if not fits or not is_inside(path) or not isinstance(one[1], str) or not isinstance(one[2], bool):
                raise ContainerError(f"the container's side names {path[:80]!r}, which cannot be", "")
        return {path: one for path, one in seen.items() if not is_ignored(path, self._ignored)}

    def _bring_here(self, work: _Work) -> None:
        """Fetch first: before anything there is replaced, what it was is here."""
        staging = self._root / OWN / "in"
        steps = work.steps("here")
        staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        asides = work.asides("here")
        work.note(asides, self._apply(asides))
        work.note(steps[0], self._apply(steps[0]))
        for batch in _batches(steps[1], work.there):
            wanted = {step[5]: work.there[step[5]][1] for step in batch if step[0] == "file" and step[6] == "there"}
            if wanted:
                self.progress(work.fraction, f"fetching {len(wanted):,} files")
                names = {path: work.names["there", path] for path in wanted}
                self._far.fetch(wanted, staging, names)
            for step in batch:
                if step[0] == "file" and step[6] == "here":
                    _copy(self._root / step[5], staging / step[3])
            work.note(batch, self._apply(batch))

    def _apply(self, steps: Sequence[list[Any]]) -> list[int]:
        return sync_agent.apply(str(self._root), steps, self._fresh_mode)

    def _bring_there(self, work: _Work) -> None:
        first, puts = work.steps("there")
        if first:
            work.note(first, self._far.apply(first, {}))
        for batch in _batches(puts, work.here):
            self.progress(work.fraction, f"sending {len(batch):,} files")
            staged = {step[3]: self._source(work, step) for step in batch if step[0] == "file"}
            whole = [step for step in batch if step[0] != "file" or staged[step[3]] is not None]
            contents = {name: path for name, path in staged.items() if path is not None}
            work.note(batch, [batch.index(whole[n]) for n in self._far.apply(whole, contents)])

    def _source(self, work: _Work, step: list[Any]) -> Path | None:
        """Return where a file's content is here; None where it changed meanwhile, or was not fetched."""
        digest = work.merged.tree[step[1]].node.content
        for path in (step[1], step[5]):
            place = self._root / str(path)
            with contextlib.suppress(OSError):
                if not place.is_symlink() and sync_agent.digest_of(str(place)) == digest:
                    return place
        return None

    def _say(self, **changes: Any) -> None:
        self.status = self.status._replace(**changes)
        self.on_change(self.status)

    def left_there(self) -> list[str]:
        """Return what lies in the container's tree and is never brought here, the topmost of each."""
        with self._one_at_a_time:
            said = self._far.ignored(self._ignored)
        return [path[:200] for path in said if isinstance(path, str)] if isinstance(said, list) else []

    def close(self) -> None:
        """Let go of the engine."""
        self._far.drop()

    # until told to stop

    def wake(self) -> None:
        """Make a round soon."""
        self._wake.set()

    def run(self, stop: threading.Event, poll_s: float = POLL_S) -> None:
        """Synchronise until `stop` and `wake`; a cut is waited out, with longer and longer pauses."""
        watcher = threading.Thread(target=self._watch, args=(stop,), name="p8-sync-watch", daemon=True)
        watcher.start()
        failures = 0
        while not stop.is_set():
            self._wake.clear()
            began = time.monotonic()
            try:
                pending = self.cycle().pending
                failures = 0
            except ContainerError:
                pending, failures = 0, failures + 1
            quiet = max(poll_s, IDLE * (time.monotonic() - began))
            pause = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else 0.2 if pending else quiet
            if failures:
                stop.wait(pause)
            elif not stop.is_set():
                self._wake.wait(pause)
        watcher.join(10.0)

    def _watch(self, stop: threading.Event) -> None:
        try:
            import watchfiles
        except ModuleNotFoundError:
            self._say(problem="changes here are seen a little later: pip install 'p8[sync]'")
            return

        def counts(_change: Any, path: str) -> bool:
            below = os.path.relpath(path, self._root)
            return not is_ignored(below, self._ignored)

        with contextlib.suppress(OSError):
            for _ in watchfiles.watch(
                self._root, watch_filter=counts, debounce=300, stop_event=stop, rust_timeout=500, raise_interrupt=False
            ):
                self._wake.set()


class _Work:
    """What one round has to do, and what of it was done."""

    def __init__(self, merged: Merged, here: dict[str, list[Any]], there: dict[str, list[Any]]) -> None:
        self.merged = merged
        self.here = here
        self.there = there
        self.left: set[str] = set()
        self.moved = 0
        self.on_moved: Callable[[], None] = lambda: None
        self.names: dict[tuple[str, str], str] = {}  #: staged names by where a content is: side and path
        self._token = os.urandom(4).hex()  # what was staged before a cut is not taken for what is staged now
        self._number = 0
        now = (_nodes(here), _nodes(there))
        self._total = sum(side.get(path) != want.node for side in now for path, want in merged.tree.items())
        self._total += sum(len(deletions(merged.tree, side)) for side in now)

    @property
    def fraction(self) -> float:
        """Return how much is done."""
        return min(self.moved / (self._total or 1), 0.99)

    @property
    def to_come(self) -> int:
        """Return how much is left to do."""
        return max(self._total - self.moved, 0)

    def asides(self, side: str) -> list[list[Any]]:
        """Return the steps that give files of a side other names before theirs are taken."""
        seen = self.here if side == "here" else self.there
        return [
            ["move", want.path, seen[want.path][3], path]
            for path, want in self.merged.tree.items()
            if path in self.merged.conflicts and want.side == side and want.path != path and path not in seen
            and (want.path not in self.merged.tree or self.merged.tree[want.path].side != side)
        ]  # fmt: skip

    def steps(self, side: str) -> tuple[list[list[Any]], list[list[Any]]]:
        """Return a side's steps: what goes first (deletions), and what comes, folders before what is in them."""
        seen = self.here if side == "here" else self.there
        now = _nodes(seen)
        moved = {step[1]: step[3] for step in self.asides(side)}
        first = [["delete", path, seen[path][3]] for path in deletions(self.merged.tree, now) if path not in moved]
        gone = {step[1] for step in first} | set(moved)
        puts: list[list[Any]] = []
        doubles = self.merged.conflicts  # before what they are doubles of
        for path in sorted(self.merged.tree, key=lambda one: (one.count("/"), one not in doubles, one)):
            want = self.merged.tree[path]
            if (now.get(path) == want.node and path not in gone) or path in moved.values():
                continue
            expected = seen[path][3] if path in seen and path not in gone else None
            puts.append(self._put(path, want, expected))
        return [*self._moves(side, moved, seen), *first], puts

    def _moves(self, side: str, moved: Mapping[str, str], seen: dict[str, list[Any]]) -> list[list[Any]]:
        return [] if side == "here" else [["move", old, seen[old][3], new] for old, new in moved.items()]

    def _put(self, path: str, want: Want, expected: Any) -> list[Any]:
        if want.node.kind == "folder":
            return ["folder", path, expected]
        if want.node.kind == "link":
            return ["link", path, expected, want.node.content]
        self._number += 1
        name = self.names.setdefault((want.side, want.path), f"{self._token}-{self._number}")
        return ["file", path, expected, name, want.node.executable, want.path, want.side]

    def note(self, steps: Sequence[list[Any]], done: Iterable[int]) -> None:
        """Remember what was not done: it is left as it was agreed on before, for the next round to decide."""
        finished = set(done)
        self.moved += len(finished)
        for number, step in enumerate(steps):
            if number not in finished:
                self.left |= {step[1], step[3]} if step[0] == "move" else {step[1]}
        if finished:
            self.on_moved()


class _Far:
    """The tree in the container."""

    def __init__(self, connect: Connect, workdir: str, fresh_mode: int) -> None:
        self._connect = connect
        self._fresh_mode = fresh_mode
        self.container = ""
        self.workdir = workdir.rstrip("/")
        self._client: Any = None
        self._user = (0, 0)
        self._code = Path(sync_agent.__file__).read_text("utf-8")

    def drop(self) -> None:
        """Forget the connection."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            if self._client is None:
                client, self.container = self._connect()
                said = str(client.inspect_container(self.container)["Config"].get("User") or "0")
                uid, _, gid = said.partition(":")
                self._user = (int(uid), int(gid or uid)) if uid.isdigit() else (0, 0)
                self._client = client
            yield self._client
        except ContainerError:
            raise
        except (tarfile.TarError, ValueError) as error:
            raise EngineDown(f"the connection broke off ({type(error).__name__})", "it is tried again") from error
        except Exception as error:
            if isinstance(error, library().errors.APIError):
                said = str(error.explanation or error)
                raise ContainerError(f"the container cannot be synchronised: {said}", "is it running?") from error
            if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.filename:
                raise
            raise EngineDown(f"the connection broke off ({type(error).__name__})", "it is tried again") from error

    def _send(self, request: dict[str, Any], contents: Mapping[str, Path]) -> None:
        """Put a request, and files by their staged names, into the folder of one's own."""
        above, _, top = self.workdir.rpartition("/")
        with tempfile.TemporaryFile() as spool:
            with tarfile.open(fileobj=spool, mode="w") as tar:
                for name in (top, f"{top}/{OWN}", f"{top}/{OWN}/in"):  # the first, as a fresh volume belongs to root
                    tar.addfile(self._info(name, 0, folder=True))
                for name, path in contents.items():
                    with path.open("rb") as file:
                        size = os.fstat(file.fileno()).st_size
                        tar.addfile(self._info(f"{top}/{OWN}/in/{name}", size), file)
                body = json.dumps(request).encode()
                tar.addfile(self._info(f"{top}/{OWN}/request.json", len(body)), io.BytesIO(body))
            spool.seek(0)
            with self._asking() as client:
                client.put_archive(self.container, above or "/", spool)

    def _info(self, name: str, size: int, folder: bool = False) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.uid, info.gid = self._user
        info.size, info.mtime = size, int(time.time())
        info.type, info.mode = (tarfile.DIRTYPE, 0o755) if folder else (tarfile.REGTYPE, 0o600)
        return info

    def _ask(self, request: dict[str, Any], contents: Mapping[str, Path] | None = None) -> Any:
        with self._asking():
            pass
        self._send(request, contents or {})
        with self._asking() as client:
            words = ["python3", "-I", "-c", self._code, self.workdir]
            made = client.exec_create(self.container, words, stdin=False)["Id"]
            said, complaint = client.exec_start(made, demux=True)
            code = client.exec_inspect(made)["ExitCode"]
            if code:
                heard = str(complaint or said or b"", "utf-8", "replace").strip()
                if code == CUT_OFF and (heard[:1] in "{[" or not ABSENT.search(heard)):
                    raise EngineDown("the connection broke off while the container's side ran", "it is tried again")
                last = (heard.splitlines() or [f"status {code}"])[-1][-200:]
                raise ContainerError(f"the container's side failed: {last}", "it needs python3 and its volume")
            return json.loads(said or b"")

    def scan(self, ignored: Sequence[str]) -> tuple[str, Any]:
        """Return the folder's mark, and what is there."""
        said = self._ask({"do": "scan", "patterns": list(ignored)})
        return (str(said.get("mark", ""))[:64], said.get("tree")) if isinstance(said, dict) else ("", None)

    def ignored(self, ignored: Sequence[str]) -> Any:
        """Return what is there and fits the patterns."""
        return self._ask({"do": "ignored", "patterns": list(ignored)})

    def apply(self, steps: Sequence[list[Any]], contents: Mapping[str, Path]) -> list[int]:
        """Do steps there; return the numbers of those done."""
        done = self._ask({"do": "apply", "steps": list(steps), "mode": self._fresh_mode}, contents)
        return [n for n in done if isinstance(n, int) and 0 <= n < len(steps)] if isinstance(done, list) else []

    def fetch(self, wanted: Mapping[str, str], staging: Path, names: Mapping[str, str]) -> None:
        """Bring files here, each under its staged name; those that changed meanwhile, or are not whole, stay there."""
        packed = self._ask({"do": "pack", "wanted": dict(wanted)})
        by_name = {f"{PACKED_NAME}{name}": path for path, name in packed.items() if path in wanted}
        with self._asking() as client:
            stream, _ = client.get_archive(self.container, f"{self.workdir}/{OWN}/out")
            with tarfile.open(fileobj=_Stream(stream), mode="r|") as tar:
                for member in tar:
                    path = by_name.get(member.name, "")
                    content = tar.extractfile(member) if path and member.isreg() else None
                    if content is None:
                        continue
                    place = staging / names[path]
                    with place.open("wb") as out:
                        shutil.copyfileobj(content, out, 1 << 20)
                    if sync_agent.digest_of(str(place)) != wanted[path]:
                        place.unlink()


class _Stream(io.RawIOBase):
    """A stream of pieces, to be read like a file."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._left) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._left += piece
        size = len(self._left) if size < 0 else size
        out = bytes(self._left[:size])
        del self._left[:size]  # from the front of a bytearray, which costs nothing
        return out


def _nodes(seen: Mapping[str, Sequence[Any]]) -> dict[str, Node]:
    return {path: Node(one[0], one[1], one[2]) for path, one in seen.items()}


def _batches(steps: Sequence[list[Any]], sizes: Mapping[str, Sequence[Any]]) -> Iterator[list[list[Any]]]:
    """Cut steps into pieces that are brought over at once."""
    batch: list[list[Any]] = []
    weight = 0
    for step in steps:
        seen = sizes.get(step[5]) if step[0] == "file" else None
        weight += int(seen[3][0]) if seen and isinstance(seen[3][0], int) else 0
        batch.append(step)
        if len(batch) >= BATCH_FILES or weight >= BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _copy(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        shutil.copyfile(source, target, follow_symlinks=False)
