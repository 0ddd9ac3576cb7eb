"""Sessions leaving: as an archive, lossless or redacted, or as something to read, redacted unless asked otherwise.

Refuses: to change anything in the store, and to write half a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from p8 import __version__
from p8.core.archive import Progress, parents_first, silent
from p8.errors import NotFound
from p8.formats.bundle import Writer
from p8.formats.files import replacing
from p8.formats.native import FORMAT, VERSION, Carried, Manifest, ProjectRow, Row
from p8.formats.reading import Transcript
from p8.formats.redact import Redactor
from p8.model import Entry, SessionRow
from p8.store.carry import Carrier, Record, data_of, fits, line_of, root_of, with_data
from p8.store.manager import PersistenceManager
from p8.store.plain import plain, restore


def suffix_of(form: str) -> str:
    """Return what the names of files of a format end in."""
    return {"md": ".md", "jsonl": ".jsonl", "html": ".html", "p8": ".p8.zip"}[form]


def all_rows(store: PersistenceManager, project: str | None, trashed: bool) -> list[SessionRow]:
    """
    Return all sessions, of a project or of all, archived ones too, oldest first.

    Args:
        store: where they are.
        project: its id; None for all.
        trashed: also those in the trash.
    """
    found: list[SessionRow] = []
    for archived, gone in ((False, False), (True, False), *([(False, True)] if trashed else [])):
        found += store.sessions.page(project=project, sort="created", limit=1 << 31, archived=archived, trashed=gone)
    return sorted(found, key=lambda row: (row.created_us, row.id))


def redactor_for(
    store: PersistenceManager, rows: Iterable[SessionRow], home: Path, known: Mapping[str, str]
) -> Redactor:
    """
    Return what redacts an export of these sessions.

    Args:
        store: knows where their projects lie.
        rows: the sessions.
        home: the person's home directory, which becomes ~.
        known: secrets by value, each with its name.
    """
    places: dict[str, str] = {}
    for row in rows:
        project = store.projects.get(row.project) if row.project else None
        root = str(project["root"]) if project is not None else ""
        places |= {place: "" for place in (root, row.directory) if place and not _within(place, root)}
        parts = row.directory.split("/")
        if len(parts) > 2 and parts[1] in {"home", "Users"}:
            places["/".join(parts[:3])] = "~"
    return Redactor(known, {**places, str(home): "~"})


def _within(place: str, root: str) -> bool:
    return bool(root) and place != root and place.startswith(f"{root.rstrip('/')}/")


class _Steps:
    """Tells how far something has come, entry by entry."""

    def __init__(self, tell: Progress, rows: Iterable[SessionRow], rounds: int) -> None:
        self._tell = tell
        self._total = sum(row.entries for row in rows) * rounds + 1
        self._done = 0

    def step(self, text: str) -> None:
        """Say that another entry is done."""
        self._done += 1
        self._tell(min(self._done / self._total, 0.999), text)


# to read


class Exported(NamedTuple):
    """A file to read that was written."""

    path: Path
    sessions: int
    entries: int
    size_bytes: int


def write_readable(
    store: PersistenceManager,
    path: Path,
    rows: Sequence[SessionRow],
    form: str,
    *,
    redactor: Redactor | None = None,
    progress: Progress = silent,
) -> Exported:
    """
    Write sessions as Markdown, JSON lines or HTML, one after another, forks with what they share with their parents.

    Args:
        store: where they are.
        path: the file; replaced when all went well.
        rows: which sessions, in this order.
        form: "md", "jsonl" or "html".
        redactor: takes secrets out; None leaves all as it is.
        progress: told how far it has come.

    Raises:
        FormatError: the file cannot be written.
        StoreError: the database cannot be read.
    """
    store.drain()
    carrier, count = Carrier(store), 0
    steps = _Steps(progress, rows, 1 if redactor is None else 2)
    if redactor is not None:
        for row in rows:
            redactor.learn(_about(row))
            for entry in carrier.entries(row.id):
                redactor.learn(entry.data)
                steps.step("looking for secrets")
    shown = [row if redactor is None else _clean_row(row, redactor) for row in rows]

    def entries(row: SessionRow) -> Iterator[Entry]:
        nonlocal count
        for entry in carrier.entries(row.id):
            count += 1
            steps.step(row.title)
            yield entry if redactor is None else entry._replace(data=redactor.data(_shared(entry.data)))

    def transcripts() -> Iterator[Transcript]:
        for row in shown:
            yield Transcript(row, entries(row))

    with replacing(path) as file:
        for piece in _pieces(_module(form), form, transcripts(), shown, redactor):
            file.write(piece.encode("utf-8", "backslashreplace"))
    progress(1.0, "")
    return Exported(path, len(rows), count, path.stat().st_size)


def _pieces(
    module: ModuleType,
    form: str,
    transcripts: Iterator[Transcript],
    rows: Sequence[SessionRow],
    redactor: Redactor | None,
) -> Iterator[str]:
    if form == "jsonl":
        return iter(module.pieces(transcripts))

    def closing() -> str:
        made = f"Exported by P8 {__version__} on {datetime.now(UTC):%Y-%m-%d}."
        return f"{made} {redactions(redactor)}"

    return iter(module.pieces(transcripts, rows, closing))


def redactions(redactor: Redactor | None) -> str:
    """Return in a sentence what was taken out."""
    if redactor is None:
        return "Nothing was redacted."
    if not redactor.found:
        return "No secret was found in it."
    kinds = ", ".join(f"{found.kind} {found.secrets}" for found in redactor.found)
    total = sum(found.secrets for found in redactor.found)
    return f"{total} secret{'s' * (total != 1)} redacted: {kinds}."


def _module(form: str) -> ModuleType:
    from importlib import import_module

    return import_module(f"p8.formats.{ {'md': 'markdown', 'jsonl': 'jsonl', 'html': 'html'}[form] }")


def _shared(data: dict[str, Any]) -> dict[str, Any]:
    """Return an entry's data without the name of the machine and process that recorded it."""
    return {k: v for k, v in data.items() if k != "lease"} if isinstance(data.get("lease"), dict) else data


def _about(row: SessionRow) -> list[Any]:
    return [row.title, row.project_name, row.directory, row.branch, list(row.tags), row.meta]


def _clean_row(row: SessionRow, redactor: Redactor) -> SessionRow:
    names = ("title", "project_name", "directory", "branch", "model")
    clean: dict[str, Any] = {name: redactor.text(getattr(row, name)) for name in names}
    return row._replace(**clean, tags=tuple(map(redactor.text, row.tags)), meta=redactor.data(row.meta))


# archives


class Written(NamedTuple):
    """What was written."""

    path: Path
    sessions: int
    ancestors: int  #: of them parents of forks, only as far as their forks need them
    entries: int
    size_bytes: int
    damaged: int  #: entries that could not be read, or do not fit their chain


@dataclass(slots=True)
class _Outgoing:
    """One session on its way out; the counts are right when its lines have been taken."""

    row: SessionRow
    upto: int | None  #: only so far: it is a parent of what was asked for
    entries: int = 0
    last: int = 0
    head: int = 0
    broken: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)

    def lines(self, records: Iterable[Record], change: Callable[[Record], Record] | None) -> Iterator[bytes]:
        """Yield its lines: as recorded, or with what `change` makes of them and a chain of hashes of their own."""
        begun = False
        for found in records:
            record = found if change is None else change(found)
            if not begun:
                self.head, begun = root_of(record) if record.seq == 1 else 0, True
            if record.data is None:
                self.missing.append(record.seq)
                self.head = self.head if change else record.digest
                continue
            line, digest = line_of(self.row.id, record, self.head, None if change else record.digest)
            if change is None and not fits(line, record, self.head):
                self.broken.append(record.seq)
            self.entries += 1
            self.last, self.head = record.seq, digest
            yield line

    def carried(self, row: Row) -> Carried:
        """Return what the manifest says of it."""
        return Carried(
            row, self.entries, self.last, f"{self.head:016x}", self.upto is not None, self.broken, self.missing
        )


def write_archive(
    store: PersistenceManager,
    path: Path,
    rows: Sequence[SessionRow],
    *,
    scope: str = "sessions",
    redactor: Redactor | None = None,
    progress: Progress = silent,
) -> Written:
    """
    Write sessions, with the parents of forks as far as they need them, their projects and everything said of them.

    Args:
        store: where they are.
        path: the file; replaced when all went well.
        rows: which sessions.
        scope: what was asked for: "sessions", "project" or "all".
        redactor: takes secrets out of everything; their entries get hashes of their own then. None is lossless.
        progress: told how far it has come.

    Raises:
        FormatError: the file cannot be written.
        StoreError: the database cannot be read.
    """
    store.drain()
    going = _with_ancestors(store, rows)
    carrier, carried, points = Carrier(store), list[Carried](), dict[tuple[str, int], int]()
    forks = {(str(out.row.parent), out.row.fork_seq) for out in going if out.row.parent}
    steps = _Steps(progress, [out.row for out in going], 1 if redactor is None else 2)
    if redactor is not None:
        for out in going:
            redactor.learn(_about(out.row))
            for record in carrier.records(out.row.id, out.upto):
                redactor.learn(data_of(record))
                steps.step("looking for secrets")
    with replacing(path) as file:
        writer = Writer(file, Path(os.path.realpath(path)).parent)
        for out in going:
            change = None if redactor is None else _redacting(redactor, out.row, points)
            lines = out.lines(carrier.records(out.row.id, out.upto), change)
            writer.add(f"sessions/{out.row.id}.jsonl", _noting(lines, out, forks, points, steps))
            row = _row(out.row)
            carried.append(out.carried(row if redactor is None else _redacted(row, redactor)))
        projects = [_project(row, redactor) for row in _projects_of(store, going)]
        writer.finish(
            Manifest(
                FORMAT,
                VERSION,
                made_us=store.clock(),
                by=f"p8 {__version__}",
                scope=scope,
                redacted=redactor is not None,
                sessions=carried,
                projects=projects,
            )
        )
    progress(1.0, "")
    damaged = sum(len(out.broken) + len(out.missing) for out in going)
    entries = sum(out.entries for out in going)
    ancestors = sum(out.upto is not None for out in going)
    return Written(path, len(going), ancestors, entries, path.stat().st_size, damaged)


def _noting(
    lines: Iterable[bytes],
    out: _Outgoing,
    forks: set[tuple[str, int | None]],
    points: dict[tuple[str, int], int],
    steps: _Steps,
) -> Iterator[bytes]:
    """Pass lines on, remembering the hashes at which forks of the session begin."""
    for line in lines:
        if (out.row.id, out.last) in forks:
            points[out.row.id, out.last] = out.head
        steps.step(out.row.title)
        yield line


def _redacting(
    redactor: Redactor, row: SessionRow, points: Mapping[tuple[str, int], int]
) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        clean = with_data(record, lambda data: redactor.data(_shared(data)))
        root = points.get((row.parent or "", row.fork_seq or 0))
        if record.seq == 1 and root is not None and clean.data is not None and "chained_to" in clean.data:
            return clean._replace(data={**clean.data, "chained_to": f"{root:016x}"})
        return clean

    return change


def _with_ancestors(store: PersistenceManager, rows: Sequence[SessionRow]) -> list[_Outgoing]:
    """Return what must go along, parents before their forks."""
    found = {str(row.id): _Outgoing(row, None) for row in rows}
    for row in rows:
        child = row
        while child.parent and child.fork_seq is not None:
            known = found.get(child.parent)
            if known is None:
                try:
                    known = found[child.parent] = _Outgoing(store.sessions.get(child.parent), child.fork_seq)
                except NotFound:
                    break
            elif known.upto is None or known.upto >= child.fork_seq:
                break
            else:
                known.upto = child.fork_seq
            child = known.row
    return parents_first(found, lambda out: out.row.parent or "")


def _row(row: SessionRow) -> Row:
    values = {name: getattr(row, name) for name in Row.__struct_fields__}
    return Row(**values | {"tags": list(row.tags), "meta": plain(row.meta)})


def _redacted(row: Row, redactor: Redactor) -> Row:
    names = ("title", "project_name", "directory", "branch", "model")
    clean = {name: redactor.text(getattr(row, name)) for name in names}
    meta = plain(redactor.data(restore(row.meta)))
    values = {name: getattr(row, name) for name in Row.__struct_fields__}
    return Row(**values | clean | {"tags": [redactor.text(tag) for tag in row.tags], "meta": meta})


def _projects_of(store: PersistenceManager, going: Iterable[_Outgoing]) -> Iterator[dict[str, Any]]:
    for name in sorted({out.row.project for out in going if out.row.project}):
        row = store.projects.get(name)
        if row is not None:
            yield row


def _project(row: Mapping[str, Any], redactor: Redactor | None) -> ProjectRow:
    values = {name: row[name] for name in ProjectRow.__struct_fields__}
    if redactor is not None:
        values |= {name: redactor.text(values[name]) for name in ("name", "root", "remote")}
        values["meta"] = redactor.data(values["meta"])
    return ProjectRow(**values)
