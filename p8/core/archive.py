"""Archives of sessions coming in: read whole and checked before anything is taken from them, and taken in once.

A session keeps its id where that is free. One that is there already, with the same entries by hash, is left; one that
has gone on since goes on here too; one that went another way comes in as a copy under an id made of its entries, so
that taking the same archive in again adds nothing. Snapshots of files stay where they are: an archive has none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from p8.core.projects import ID as PROJECT_ID
from p8.errors import FormatError
from p8.formats.native import Carried, Manifest, ProjectRow, Reader, Row
from p8.model import ID_PATTERN, Kind, SessionId, Status, from_us
from p8.store.carry import (
    EARLIEST_US,
    LATEST_US,
    Carrier,
    Record,
    fits,
    line_of,
    record_from,
    root_of,
)
from p8.store.manager import PersistenceManager
from p8.store.plain import plain, restore

__all__ = ["Archive", "Restored", "read_archive", "restore_archive"]

Progress = Callable[[float, str], None]
ANY_ID = re.compile(ID_PATTERN.pattern + r"(?:~[0-9a-z]{1,32})?", re.ASCII)
REFUSED = "the archive is refused whole; nothing was taken"
T = TypeVar("T")
TRIES = 8  #: ids tried for a copy


def silent(_fraction: float, _text: str) -> None:
    """Tell nobody how far something has come."""


# reading


class Archive(NamedTuple):
    """An archive that was read to its end and found sound."""

    path: Path
    manifest: Manifest
    entries: int
    begun: frozenset[str]  #: sessions that begin with the entry a session begins with
    points: Mapping[tuple[str, int], int]  #: hashes of entries at which forks begin

    @property
    def sessions(self) -> Sequence[Carried]:
        """Return its sessions, parents before their forks."""
        return self.manifest.sessions


def read_archive(path: Path, progress: Progress = silent) -> Archive:
    """
    Read an archive whole and check everything: its members, their checksums, each entry, the chain of hashes.

    Args:
        path: the file.
        progress: told how far it has come.

    Raises:
        FormatError: it is no archive, it was changed, or it holds what must not be taken in. One line says what.
    """
    with Reader(path) as reader:
        manifest = reader.manifest
        _check_manifest(manifest)
        manifest.sessions = parents_first({c.row.id: c for c in manifest.sessions}, lambda c: c.row.parent or "")
        wanted = {(c.row.parent, c.row.fork_seq) for c in manifest.sessions if c.row.parent}
        points: dict[tuple[str, int], int] = {}
        begun: set[str] = set()
        for number, carried in enumerate(manifest.sessions):
            progress(number / len(manifest.sessions), f"reading {carried.row.title or carried.row.id}"[:60])
            name = carried.row.id
            for record in _checked(reader, carried):
                if (name, record.seq) in wanted:
                    points[name, record.seq] = record.digest
                if record.seq == 1 and _begins(record):
                    begun.add(name)
    progress(1.0, "")
    return Archive(path, manifest, sum(c.entries for c in manifest.sessions), frozenset(begun), points)


def _begins(record: Record) -> bool:
    return record.kind == Kind.SESSION and (record.data or {}).get("what") in {"started", "forked"}


def _checked(reader: Reader, carried: Carried) -> Iterator[Record]:
    """Yield a session's entries, each checked; at the end, that they are as many as its manifest says."""
    name, broken = carried.row.id, set(carried.broken)
    seq = count = 0
    head = 0
    for line in reader.lines(carried.member):
        record = record_from(line, name, seq)
        if count == 0:
            head = root_of(record) if record.seq == 1 else 0
        if not fits(line, record, head) and record.seq not in broken and not _after_gap(carried, seq, record.seq):
            raise _refused(reader.path, f"entry {record.seq} of {name} does not fit the chain of hashes")
        seq, head, count = record.seq, record.digest, count + 1
        yield record
    if (count, seq, f"{head:016x}") != (carried.entries, carried.last, carried.head) and (count or carried.entries):
        raise _refused(reader.path, f"{name} has {count} entries up to {seq}, its manifest says otherwise")


def _after_gap(carried: Carried, before: int, seq: int) -> bool:
    return any(before < gone < seq for gone in carried.missing)


def _refused(path: Path, text: str) -> FormatError:
    return FormatError(f"{path.name}: {text}", REFUSED)


def _check_manifest(manifest: Manifest) -> None:
    """Refuse what would do harm in a list: ids that are none, times that no calendar has."""
    where = "its manifest"
    for carried in manifest.sessions:
        row = carried.row
        times = [t for t in (row.created_us, row.last_us, row.ended_us, row.trashed_us) if t is not None]
        if not ANY_ID.fullmatch(row.id) or (row.parent and not ANY_ID.fullmatch(row.parent)):
            raise FormatError(f"{where} names a session {row.id[:60]!r}, a fork of {str(row.parent)[:60]!r}", REFUSED)
        if not all(EARLIEST_US <= t <= LATEST_US for t in times) or not 0 <= (row.fork_seq or 0) < 1 << 32:
            raise FormatError(f"{where} has a time for {row.id} that is none", REFUSED)
        try:
            restore(row.meta)
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{where} says of {row.id} what cannot be read", REFUSED) from error
    for project in manifest.projects:
        if not PROJECT_ID.fullmatch(project.id) or not all(
            0 <= t <= LATEST_US for t in (project.created, project.last)
        ):
            raise FormatError(f"{where} names a project {project.id[:60]!r}", REFUSED)


def parents_first(found: Mapping[str, T], parent: Callable[[T], str]) -> list[T]:
    """Return the values in an order in which each comes after its parent. Raises FormatError for a circle."""
    order: dict[str, T] = {}
    for name in found:
        trail: list[str] = []
        at = name
        while at in found and at not in order:
            if at in trail:
                raise FormatError(f"session {at} is a fork of itself", REFUSED)
            trail.append(at)
            at = parent(found[at])
        for step in reversed(trail):
            order[step] = found[step]
    return list(order.values())


# taking in


class Restored(NamedTuple):
    """What became of an archive's sessions."""

    added: tuple[SessionId, ...]  #: under their own ids
    continued: tuple[SessionId, ...]  #: were there, and went on
    copied: Mapping[str, SessionId]  #: were there and went another way: their ids, and those of the copies
    known: tuple[SessionId, ...]  #: were there already, whole
    held: tuple[SessionId, ...]  #: went on, but are open here or in another process: left as they are
    entries: int  #: taken in
    folded: bool  #: False: they are safe in the journal, and seen as soon as the database can be reached


class _Plan(NamedTuple):
    carried: Carried
    how: str  #: added, continued, copied, known or held
    target: str
    after: int = 0  #: take entries in after this one
    shift: int = 0  #: what is added to their numbers


def restore_archive(store: PersistenceManager, archive: Archive, progress: Progress = silent) -> Restored:
    """
    Take the sessions of an archive in. All of it survives a crash at any moment, or nothing of it is there.

    Args:
        store: where to.
        archive: from `read_archive`; its file is read, and checked, once more.
        progress: told how far it has come.

    Raises:
        FormatError: the file is another one now.
        StoreError: the disk or the database refuses; nothing was taken in.
    """
    store.drain()
    carrier = Carrier(store)
    with Reader(archive.path) as reader:
        if _parts_of(reader.manifest) != _parts_of(archive.manifest):
            raise _refused(archive.path, "it was changed while it was read")
        taking = _Taking(store, archive, reader, progress)
        taking.plan()
        active = [p for p in taking.plans if p.how in {"added", "continued", "copied"}]
        staged = carrier.stage(taking.lines(active)) if active else None
    if staged is not None:
        held: list[str] = []
        try:
            taking.save_projects()
            for plan in active:
                if plan.how == "continued":
                    store.leases.acquire(plan.target)
                    held.append(plan.target)
            carrier.hold(plan.target for plan in active)
            staged.commit()
        except BaseException:
            staged.discard()
            carrier.let_go(plan.target for plan in active)
            raise
        finally:
            for name in held:
                store.leases.release(name)
    folded = store.drain(30.0)
    progress(1.0, "")

    def of(how: str) -> tuple[SessionId, ...]:
        return tuple(SessionId(plan.target) for plan in taking.plans if plan.how == how)

    copied = {plan.carried.row.id: SessionId(plan.target) for plan in taking.plans if plan.how == "copied"}
    return Restored(of("added"), of("continued"), copied, of("known"), of("held"), taking.entries, folded)


def _parts_of(manifest: Manifest) -> dict[str, str]:
    return {member.name: member.sha256 for member in manifest.members}


class _Taking:
    """Decides what becomes of each session, and makes the lines that say so."""

    def __init__(self, store: PersistenceManager, archive: Archive, reader: Reader, progress: Progress) -> None:
        self._store = store
        self._archive = archive
        self._reader = reader
        self._progress = progress
        self._points = dict(archive.points)
        self._targets: dict[str, _Plan] = {}
        self._projects = self._map_projects()
        self.entries = 0

    @property
    def plans(self) -> list[_Plan]:
        """Return what was decided, parents first."""
        return list(self._targets.values())

    def plan(self) -> None:
        """Decide for each session."""
        for number, carried in enumerate(self._archive.sessions):
            self._progress(number / len(self._archive.sessions) / 2, "comparing")
            self._targets[carried.row.id] = self._decide(carried)

    def _decide(self, carried: Carried) -> _Plan:
        name = carried.row.id
        exact = name in self._archive.begun and ID_PATTERN.fullmatch(name) is not None
        if exact and not self._parent_moved(carried):
            last, _ = self._store.sessions.head(name)
            if not last:
                return _Plan(carried, "added", name)
            shared = min(last, carried.last)
            if self._hash_at(carried, shared) == self._store.sessions.hash_at(name, shared) != 0:
                if carried.last <= last:
                    return _Plan(carried, "known", name)
                open_here = self._store.leases.held(name) or self._store.leases.holder(name) is not None
                return _Plan(carried, "held" if open_here else "continued", name, shared)
        return self._copy(carried)

    def _copy(self, carried: Carried) -> _Plan:
        """Find an id for a session whose own is taken, or is none; the same one each time."""
        name = carried.row.id
        shift = 0 if name in self._archive.begun else 1
        digest = hashlib.sha256(f"{name} {carried.head}".encode()).hexdigest()
        tails = [digest[at : at + 4] for at in range(0, 4 * TRIES, 4)]
        own = [name] if ID_PATTERN.fullmatch(name) else []
        for target in (*own, *(f"{name[:22]}-{tail}" for tail in tails)):
            plan = _Plan(carried, "added" if target == name else "copied", target, 0, shift)
            last, head = self._store.sessions.head(target)
            made = [digest for _, digest in self._rewritten(plan)][-1:]
            if not last:
                return plan
            if made == [head]:
                return _Plan(carried, "known", target, 0, shift)
        raise _refused(self._archive.path, f"no id is free for a copy of {name}")

    def _parent_moved(self, carried: Carried) -> bool:
        """Return whether a session's parent is here under another id, or without the entry it was forked at."""
        plan = self._targets.get(carried.row.parent or "")
        if plan is None or (plan.target == carried.row.parent and not plan.shift):
            return False
        at = carried.row.fork_seq or 0
        here = self._store.sessions.head(carried.row.parent or "")[0]
        shared = here >= at and self._store.sessions.hash_at(carried.row.parent or "", at)
        return not shared or shared != self._archive.points.get((carried.row.parent or "", at))

    def _hash_at(self, carried: Carried, seq: int) -> int:
        if seq == carried.last:
            return int(carried.head, 16)
        for record in _checked(self._reader, carried):
            if record.seq >= seq:
                return record.digest if record.seq == seq else 0
        return 0

    # lines

    def lines(self, plans: Sequence[_Plan]) -> Iterator[bytes]:
        """Yield every line to take in, then one a session with what was said of it."""
        for number, plan in enumerate(plans):
            self._progress(0.5 + number / len(plans) / 2, plan.carried.row.title[:40] or plan.target)
            if plan.how != "copied" and not plan.shift and not self._parent_moved(plan.carried):
                for record in _checked(self._reader, plan.carried):
                    if record.seq > plan.after:
                        self.entries += 1
                        yield line_of(plan.target, record, 0, record.digest)[0]
            else:
                for line, _ in self._rewritten(plan):
                    self.entries += 1
                    yield line
        stream, head = f"~import-{os.urandom(6).hex()}", 0
        for number, plan in enumerate(plans, 1):
            data = {
                "what": "restored", "about": plan.target, "set": self._said(plan), "from": self._archive.path.name,
                "lease": "released", "owner": self._store.leases.me.owner,
            }  # fmt: skip
            record = Record(number, self._store.clock(), Kind.SESSION, plain(data), 0)
            line, head = line_of(stream, record, head)
            yield line

    def _rewritten(self, plan: _Plan) -> Iterator[tuple[bytes, int]]:
        """Yield a session's lines under another id, or after a first entry it had lost, each with its hash."""
        row, head, first = plan.carried.row, 0, True
        for record in _checked(self._reader, plan.carried):
            if first:
                first, head = False, self._root(plan, record)
                if plan.shift:
                    begin = Record(1, record.time_us, Kind.SESSION, self._beginning(row, head), 0)
                    line, head = line_of(plan.target, begin, head)
                    yield line, head
            moved = record._replace(seq=record.seq + plan.shift, data=self._moved(plan, record))
            line, head = line_of(plan.target, moved, head)
            if (row.id, record.seq) in self._archive.points:
                self._points[row.id, record.seq] = head
            yield line, head

    def _root(self, plan: _Plan, record: Record) -> int:
        row = plan.carried.row
        return self._points.get((row.parent or "", row.fork_seq or 0), 0 if plan.shift else root_of(record))

    def _beginning(self, row: Row, root: int) -> dict[str, Any]:
        said = {"project_name": row.project_name, "status": str(Status.PAUSED)}
        if not row.parent:
            return {"what": "started", "set": said}
        return {"what": "forked", "chained_to": f"{root:016x}", "set": said}

    def _moved(self, plan: _Plan, record: Record) -> dict[str, Any]:
        """Return an entry's data with the ids it has here."""
        data = dict(record.data or {})
        if record.kind != Kind.SESSION:
            return data
        if "about" in data:
            data["about"] = plan.target
        if record.seq == 1 and "chained_to" in data:
            data["chained_to"] = f"{self._root(plan, record):016x}"
        values = data.get("set")
        if isinstance(values, dict) and isinstance(values.get("parent"), str) and values["parent"] in self._targets:
            parent, at = self._parent(plan.carried.row)
            data["set"] = {**values, "parent": parent, "fork_seq": at}
        return data

    def _parent(self, row: Row) -> tuple[str | None, int | None]:
        """Return a session's parent and fork point as they are here."""
        plan = self._targets.get(row.parent or "")
        if plan is None or row.fork_seq is None:
            return row.parent, row.fork_seq
        return plan.target, row.fork_seq + plan.shift

    def _said(self, plan: _Plan) -> dict[str, Any]:
        """Return what is said of a session in its row, beyond its entries. Nobody has it open here."""
        row = plan.carried.row
        status = Status.PAUSED if row.status is Status.ACTIVE else row.status
        if plan.how == "continued":
            return {"status": str(status), "ended": row.ended_us}
        parent, at = (row.parent, row.fork_seq)
        if plan.how == "copied" or plan.shift or self._parent_moved(plan.carried):
            parent, at = self._parent(row)
        said = {
            "title": row.title, "title_source": row.title_source, "project_name": row.project_name,
            "project": self._projects.get(row.project, row.project), "status": str(status), "ended": row.ended_us,
            "directory": row.directory, "branch": row.branch, "commit": row.commit, "model": row.model,
            "pinned": row.pinned, "archived": row.archived, "trashed": row.trashed_us, "tags": row.tags,
            "parent": parent, "fork_seq": at,
        }  # fmt: skip
        return {**restore(row.meta), **said}

    # projects

    def _map_projects(self) -> dict[str, str]:
        """Return the projects that are here under another id: the same remote, or the same first commit without one."""
        here = self._store.projects.all()
        known = {row["id"] for row in here}
        found: dict[str, str] = {}
        for project in self._archive.manifest.projects:
            if project.id in known:
                continue
            same = [row["id"] for row in here if project.remote and row["remote"] == project.remote]
            same += [
                row["id"] for row in here
                if not project.remote and not row["remote"] and project.root_commit
                and row["root_commit"] == project.root_commit
            ]  # fmt: skip
            if same:
                found[project.id] = same[0]
        return found

    def save_projects(self) -> None:
        """Add the projects that are not here."""
        known = {row["id"] for row in self._store.projects.all()}
        for project in self._archive.manifest.projects:
            if project.id not in known and project.id not in self._projects:
                values = {name: getattr(project, name) for name in ProjectRow.__struct_fields__}
                self._store.projects.save(values)


def made_on(archive: Archive) -> str:
    """Return the day an archive was made, or "" where it does not say."""
    with contextlib.suppress(OverflowError, ValueError):
        return f"{from_us(archive.manifest.made_us):%Y-%m-%d %H:%M} UTC" if archive.manifest.made_us else ""
    return ""
