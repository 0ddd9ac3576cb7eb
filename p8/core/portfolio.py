"""All projects: made, listed, described, tagged, kept for longer (rows J1 to J3).

What is said of a project stands in its row and, where P8 hosts it, in `.project_metadata.json` of its folder. Of a
directory of the person's own, nothing is written but the mark they asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p8.core.log import note
from p8.core.projects import MARKER, check_prefix, is_a_place, project_of
from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound, StoreError, UsageError, WorkspaceError
from p8.model import Project, ProjectId, ProjectRow, ProjectStatistics, SessionRecord, SessionRow, from_us
from p8.workspace import git, hosted

DAY_US = 86_400_000_000
METADATA_VERSION = 1
RECORDS = 1000  #: newest sessions that a project's metadata file lists
TOUCH_US = 3_600_000_000  #: a use is noted so often at most
MOST_DAYS = 36_500
ALL = 1 << 30


class Portfolio:
    """
    The projects of a home.

    Args:
        sessions: annotates sessions; its store keeps the projects.
        max_projects: so many can be made by hand.
        after_days: what `extend` and the metadata go by where a project says nothing else.

    All methods raise StoreError where the database is out of reach.
    """

    def __init__(self, sessions: SessionManager, max_projects: int = 1000, after_days: int = 30) -> None:
        self._sessions = sessions
        self._store = sessions.store
        self._max = max_projects
        self._after_days = after_days
        self.workspaces = self._store.home / hosted.FOLDER

    # making

    def create(
        self,
        prefix: str,
        directory: Path | None = None,
        *,
        name: str = "",
        description: str = "",
        tags: Sequence[str] = (),
        keep_days: int = 0,
    ) -> ProjectRow:
        """
        Make a project: of a directory of the person's own, or hosted by P8 where none is given.

        Args:
            prefix: what its id begins with: a letter, then letters, digits and hyphens, at most 32, lower case.
            directory: it gets a mark (`.ai-sessions/project.json`) and is otherwise left alone.
            name: what lists call it; the prefix where none is given.
            description: a sentence about it.
            tags: words to find it by.
            keep_days: unused for so many days it is cleaned up, where cleanup is on; 0 as for all.

        Raises:
            UsageError: the prefix, a tag or the number of days is none, or the directory is no place for a project.
            Conflict: there are too many, or the directory is marked already.
            WorkspaceError: the disk refuses.
        """
        check_prefix(prefix)
        meta: dict[str, Any] = {"created_by": "person", "description": description, "tags": checked_tags(tags)}
        if keep_days:
            meta["config"] = {"cleanup_after_days": checked_days(keep_days)}
        made = [row for row in self._store.projects.all() if _by_hand(row)]
        if len(made) >= self._max:
            raise Conflict(f"there are {len(made)} projects already", "p8 project delete, or the setting max_projects")
        project_id = self._free_id(prefix)
        folder = self.workspaces / project_id
        if directory is None:
            hosted.make(folder)
            root = folder / hosted.REPO
            meta["workspace"] = git.shown(str(folder))
        else:
            root = _markable(directory)
            _mark(root, {"id": project_id, "name": name or prefix})
        now = self._store.clock()
        row = {"id": project_id, "name": name or prefix, "root": git.shown(str(root)), "meta": meta}
        self._store.projects.save({**row, "created": now, "last": now})
        found = self.get(project_id)
        self._write_metadata(found)
        note(self._store, "project created", project=project_id, name=found.project.name)
        return found

    def _free_id(self, prefix: str) -> ProjectId:
        while True:
            made = ProjectId(f"{prefix}-{os.urandom(4).hex()}")
            if self._store.projects.get(made) is None and not (self.workspaces / made).exists():
                return made

    def adopt(self, row: ProjectRow, old: Project) -> int:
        """Let the sessions of another project belong to this one from now on; return how many."""
        found = self.sessions_of(old.id)
        for session in found:
            self._sessions.annotate(session.id, project=row.project.id, project_name=row.project.name)
        return len(found)

    # finding

    def get(self, project_id: str) -> ProjectRow:
        """
        Return one project.

        Raises:
            NotFound: there is none of that id.
        """
        row = self._store.projects.get(project_id)
        if row is None:
            raise NotFound(f"no project {project_id}", "p8 project list shows them")
        return self._with_figures(row, self._store.projects.statistics())

    def listed(self, prefix: str = "", tags: Sequence[str] = (), deleted: bool = False) -> list[ProjectRow]:
        """
        Return projects, pinned ones first, last used first.

        Args:
            prefix: only whose id begins with it.
            tags: only with all of these.
            deleted: only those in the trash, instead of only others.
        """
        figures = self._store.projects.statistics()
        rows = [self._with_figures(row, figures) for row in self._store.projects.all() if row["id"].startswith(prefix)]
        fit = [r for r in rows if (r.deleted_us is not None) == deleted and set(tags) <= set(r.project.tags)]
        return sorted(fit, key=lambda row: (not row.project.pinned, -row.used_us, row.project.id))

    def resolve(self, words: str, deleted: bool = False) -> ProjectRow:
        """
        Find the project a person means: by id, name, or part of one.

        Raises:
            NotFound: nothing fits.
            Conflict: several fit equally well; the hint names some.
        """
        low = words.lower()
        rows = self.listed(deleted=deleted)
        tries: tuple[Callable[[Project], bool], ...] = (
            lambda p: p.id == words, lambda p: p.name == words, lambda p: p.id.startswith(low),
            lambda p: low in p.name.lower() or low in p.id,
        )  # fmt: skip
        for fits in tries:
            found = [row for row in rows if fits(row.project)]
            if len(found) == 1:
                return found[0]
            if found:
                named = ", ".join(f"{row.project.id} ({row.project.name})" for row in found[:3])
                raise Conflict(f"{words!r} fits several projects", f"{named}{' …' if len(found) > 3 else ''}")
        where = " in the trash" if deleted else ""
        raise NotFound(f"no project{where} is called {words!r}", f"p8 project list{' --trash' * deleted} shows them")

    def records(self, project_id: str, limit: int = RECORDS) -> list[SessionRecord]:
        """Return a project's newest sessions, newest first, those in the trash included."""
        rows = sorted(self.sessions_of(project_id, limit), key=lambda row: -row.last_us)[:limit]
        return [
            SessionRecord(
                r.id, r.title, str(r.status), r.created_us, r.last_us, r.ended_us, r.model, r.messages, r.commands,
                r.executions, r.tokens_in + r.tokens_out,
            )
            for r in rows
        ]  # fmt: skip

    def sessions_of(self, project_id: str, limit: int = ALL) -> list[SessionRow]:
        """Return a project's sessions, archived ones and those in the trash too."""
        page = self._store.sessions.page
        kinds = ((False, False), (True, False), (False, True))
        return [r for a, t in kinds for r in page(project=project_id, archived=a, trashed=t, limit=limit)]

    def _with_figures(self, row: dict[str, Any], figures: dict[str, tuple[Any, ...]]) -> ProjectRow:
        statistics = ProjectStatistics(*figures.get(row["id"], ()))
        gone = row["meta"].get("deleted")
        deleted = int(gone["at"]) if isinstance(gone, dict) and isinstance(gone.get("at"), int) else None
        used = max(int(row["last"]), statistics.last_us)
        return ProjectRow(project_of(row), int(row["created"]), used, statistics, deleted)

    # changing

    def change(self, project_id: str, **said: Any) -> ProjectRow:
        """
        Say something of a project; None takes a value back. Two processes at once lose nothing.

        Raises:
            NotFound: there is none of that id.
        """

        def changed(row: dict[str, Any]) -> dict[str, Any]:
            meta = {key: value for key, value in {**row["meta"], **said}.items() if value is not None}
            return {**row, "meta": meta}

        if not self._store.projects.update(project_id, changed):
            raise NotFound(f"no project {project_id}", "p8 project list shows them")
        return self._changed(project_id, said)

    def _changed(self, project_id: str, said: dict[str, Any]) -> ProjectRow:
        """Bring the metadata file up to a change, and tell of it."""
        row = self.get(project_id)
        self._write_metadata(row)
        note(self._store, "project changed", project=project_id, name=row.project.name, set=said)
        return row

    def tag(self, project_id: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> ProjectRow:
        """Add and remove tags. Raises as `change` does, and UsageError for what is no tag."""
        new = checked_tags(add)

        def changed(row: dict[str, Any]) -> dict[str, Any]:
            tags = sorted({*map(str, row["meta"].get("tags") or ()), *new} - set(remove))
            return {**row, "meta": {**row["meta"], "tags": tags}}

        if not self._store.projects.update(project_id, changed):
            raise NotFound(f"no project {project_id}", "p8 project list shows them")
        return self._changed(project_id, {"added_tags": new, "removed_tags": [*remove]})

    def extend(self, project_id: str, days: int = 0) -> ProjectRow:
        """
        Keep a project for `days` longer than it would be kept otherwise, counted from its due day or from now.

        Raises:
            UsageError: not a number of days.
        """
        row = self.get(project_id)
        more = checked_days(days or row.project.config.cleanup_after_days or self._after_days)
        until = max(self.due_us(row), self._store.clock()) + more * DAY_US
        return self.change(project_id, extended_until=min(until, 1 << 62))

    def due_us(self, row: ProjectRow) -> int:
        """Return when a project is marked for deletion if nothing is done in it, microseconds since 1970."""
        after = row.project.config.cleanup_after_days or self._after_days
        extended = row.project.meta.get("extended_until")
        return max(row.used_us + after * DAY_US, extended if isinstance(extended, int) else 0)

    def touch(self, project_id: str) -> None:
        """Note that a project is in use; one that was deleted is there again."""
        now = self._store.clock()

        def used(row: dict[str, Any]) -> dict[str, Any] | None:
            if abs(now - row["last"]) < TOUCH_US and "deleted" not in row["meta"]:
                return None
            meta = {key: value for key, value in row["meta"].items() if key != "deleted"}
            return {**row, "last": now, "meta": meta}

        self._store.projects.update(project_id, used)

    # the file in a hosted project's folder

    def metadata(self, row: ProjectRow) -> dict[str, Any]:
        """Return what a project is, as its metadata file and `--json` have it."""
        project = row.project
        extended = project.meta.get("extended_until")
        return {
            "version": METADATA_VERSION, "project_id": project.id, "prefix": project.prefix, "name": project.name,
            "description": project.description, "tags": [*project.tags], "pinned": project.pinned,
            "created_at": _iso(row.created_us), "last_accessed": _iso(row.used_us),
            "extended_until": _iso(extended) if isinstance(extended, int) else None,
            "deleted_at": _iso(row.deleted_us) if row.deleted_us is not None else None,
            "config": project.config._asdict(), "statistics": figures(row.statistics),
            "paths": {"repo": hosted.REPO, "memories": ".memories", "logs": ".logs", "tmp": "tmp"},
            "sessions": [record(r) for r in self.records(project.id)],
        }  # fmt: skip

    def _write_metadata(self, row: ProjectRow) -> None:
        """Bring the metadata file of a hosted project up to date; a disk that refuses costs nothing else."""
        folder = self.workspaces / row.project.id
        if folder.is_dir() and not folder.is_symlink():
            with contextlib.suppress(WorkspaceError, OSError):
                hosted.mend(folder)
                hosted.write_metadata(folder, self.metadata(row))

    def settle(self, project_id: str) -> None:
        """Bring a project's file up to date after work in it. Never raises."""
        with contextlib.suppress(StoreError, NotFound):
            if (self.workspaces / project_id).is_dir():
                self._write_metadata(self.get(project_id))


def record(session: SessionRecord) -> dict[str, Any]:
    """Return a session record as plain data: times in ISO 8601."""
    data = session._asdict()
    for name in ("created", "last", "ended"):
        at = data.pop(f"{name}_us")
        data[f"{name}_at"] = _iso(at) if at is not None else None
    return data


def figures(statistics: ProjectStatistics) -> dict[str, Any]:
    """Return a project's statistics as plain data: times in ISO 8601, spans in seconds."""
    data = statistics._asdict()
    span, first, last = (data.pop(name) for name in ("span_us", "first_us", "last_us"))
    times = {"first_at": _iso(first) if first else None, "last_at": _iso(last) if last else None}
    return {**data, "span_s": round(span / 1e6, 3), **times}


def checked_tags(tags: Sequence[str]) -> list[str]:
    """
    Return tags, sorted, each once.

    Raises:
        UsageError: one is empty, too long, or more than a word.
    """
    for tag in tags:
        if not tag or len(tag) > 64 or any(c.isspace() or not c.isprintable() for c in tag):
            raise UsageError(f"not a tag: {tag[:60]!r}", "one word of at most 64 letters")
    return sorted(set(tags))


def checked_days(days: int) -> int:
    """Return a number of days. Raises UsageError for what is none."""
    if not 0 < days <= MOST_DAYS:
        raise UsageError(f"not a number of days: {days}", f"1 to {MOST_DAYS}")
    return days


def _by_hand(row: dict[str, Any]) -> bool:
    return row["meta"].get("created_by") == "person" and "deleted" not in row["meta"]


def _markable(directory: Path) -> Path:
    found = git.find(directory)
    root = Path(os.path.realpath(found.root if found is not None else directory))
    if is_a_place(root):
        raise UsageError(f"{root} is where things lie, and no project", "make a directory for it, or use --workspace")
    if os.path.lexists(root / MARKER):
        raise Conflict(f"{root} is marked as a project already", f"p8 project show; its mark is {root / MARKER}")
    return root


def _mark(root: Path, data: dict[str, str]) -> None:
    file = root / MARKER
    try:
        file.parent.mkdir(mode=0o755, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as out:
            out.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise WorkspaceError(f"{file} cannot be written: {error.strerror}", "p8 project create --workspace") from error


def _iso(time_us: int) -> str | None:
    with contextlib.suppress(OverflowError, ValueError):
        return from_us(time_us).isoformat()
    return None
