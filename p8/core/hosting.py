"""What a person does with projects: create, list, tag, pin, extend, delete, clean up (rows J1 to J3, J5).

A project either is a directory of the person's own, of which P8 writes only the marker they asked for, or a workspace
in P8's home, laid out as document 3 has it. Deleting moves P8's own things to the trash, from where they come back;
a person's directory is never touched. Which project a directory is, is found in `projects.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from p8.core import log
from p8.core.cleanup import DAY_US, Step, Terms, last_use_us, next_step
from p8.core.projects import ID, MARKER, check_prefix
from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound, StoreError, UsageError, WorkspaceError
from p8.model import Notice, SessionRow, from_us
from p8.store.figures import Figures

METADATA = ".project_metadata.json"
FOLDERS = ("repo", ".memories/hot", ".memories/persistent", ".logs", "tmp")
MOST_SESSIONS = 100_000
LONGEST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """How projects are kept (document 3)."""

    max_projects: int = 1000
    cleanup_enabled: bool = False
    cleanup_after_days: int = 30
    cleanup_warning_days: int = 3
    cleanup_every_s: float = 86400.0

    @property
    def terms(self) -> Terms:
        """Return the calendar of the cleanup."""
        return Terms(self.cleanup_after_days, min(self.cleanup_warning_days, self.cleanup_after_days))


@dataclass(frozen=True, slots=True)
class ProjectStatistics:
    """What was done in a project, over all its sessions that are not in the trash."""

    sessions: int = 0
    messages: int = 0
    commands: int = 0
    executions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as a project's history has it."""

    session_id: str
    title: str
    status: str
    started: str  #: ISO time
    last: str
    ended: str | None
    messages: int
    tokens: int

    @classmethod
    def of(cls, row: SessionRow) -> SessionRecord:
        """Return the record of a session."""
        ended = from_us(row.ended_us).isoformat() if row.ended_us is not None else None
        return cls(
            row.id, row.title, str(row.status), from_us(row.created_us).isoformat(), from_us(row.last_us).isoformat(),
            ended, row.messages, row.tokens_in + row.tokens_out,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hosted:
    """A project with everything a person said of it."""

    id: str
    name: str
    root: str
    created_us: int
    last_us: int  #: when it was used last
    description: str = ""
    tags: tuple[str, ...] = ()
    pinned: bool = False
    workspace: str = ""  #: where P8 hosts it, or ""
    kept_until_us: int | None = None
    trashed_us: int | None = None
    cleanup: dict[str, Any] = field(default_factory=dict)
    statistics: ProjectStatistics = field(default_factory=ProjectStatistics)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: ISO times."""
        data = asdict(self)
        for name in ("created", "last", "kept_until", "trashed"):
            at = data.pop(f"{name}_us")
            data[name] = from_us(at).isoformat() if at is not None else None
        return data | {"tags": list(self.tags)}


class ProjectManager:
    """
    Manages projects.

    Args:
        sessions: whose store keeps them, and whose sessions they have.
        config: how they are kept.
        token: returns eight hexadecimal digits.
    """

    def __init__(
        self, sessions: SessionManager, config: ProjectConfig | None = None,
        token: Callable[[], str] = lambda: os.urandom(4).hex(),
    ) -> None:  # fmt: skip
        self._sessions = sessions
        self._store = sessions.store
        self._token = token
        self.config = config or ProjectConfig()

    # making and finding

    def create(
        self, name: str, *, directory: Path | None = None, description: str = "", tags: Sequence[str] = ()
    ) -> Hosted:
        """
        Make a project.

        Args:
            name: its prefix: a letter, then letters, digits and hyphens, at most 32.
            directory: one of the person's own, which gets a marker; a workspace in P8's home where none is given.
            description: in a sentence.
            tags: to find it by.

        Raises:
            UsageError: the name or a tag is none.
            Conflict: there are `max_projects` already, or the directory is marked as another project.
            StoreError, WorkspaceError: it cannot be written.
        """
        prefix = check_prefix(name)
        known = self._store.projects.all()
        if len([row for row in known if not row["meta"].get("trashed")]) >= self.config.max_projects:
            raise Conflict(f"there are {self.config.max_projects} projects already", "delete one, or set max_projects")
        project_id = f"{prefix}-{self._token()}"
        while any(row["id"] == project_id for row in known):
            project_id = f"{prefix}-{self._token()}"
        meta: dict[str, Any] = {"description": description.strip()[:500], "tags": checked_tags(tags)}
        if directory is None:
            place = self._store.home / "workspaces" / project_id
            meta["workspace"] = str(place)
            root = place / "repo"
        else:
            root = directory
            if (directory / MARKER).exists():
                raise Conflict(f"{directory} is marked as a project already", f"see {directory / MARKER}")
        try:
            if directory is None:
                for folder in FOLDERS:
                    (place / folder).mkdir(mode=0o700, parents=True)
            _write_json(root / MARKER, {"id": project_id, "name": prefix})
        except OSError as error:
            raise WorkspaceError(f"{root} cannot be written: {error.strerror}") from error
        self._store.projects.save({"id": project_id, "name": prefix, "root": str(root), "meta": meta})
        made = self.get(project_id)
        self._write_metadata(made)
        log.note(self._store, "project-created", project=project_id, root=str(root))
        return made

    def get(self, project_id: str) -> Hosted:
        """Return one project. Raises NotFound."""
        row = self._store.projects.get(project_id)
        if row is None:
            raise NotFound(f"no project {project_id!r}", "p8 project list shows them")
        return self._hosted(row, Figures(self._store.read).by_project_id().get(project_id))

    def find(self, words: str) -> Hosted:
        """
        Return the project a person means: by id, name, or the beginning of either.

        Raises:
            NotFound, Conflict: none, or several.
        """
        known = self.list(trashed=None)
        for fits in (
            [p for p in known if p.id == words], [p for p in known if p.name == words and not p.trashed_us],
            [p for p in known if words and p.id.startswith(words)],
            [p for p in known if words and p.name.startswith(words)],
        ):  # fmt: skip
            if len(fits) == 1:
                return fits[0]
            if fits:
                raise Conflict(f"{words!r} fits {len(fits)} projects", ", ".join(p.id for p in fits[:4]))
        raise NotFound(f"no project is called {words!r}", "p8 project list shows them")

    def list(self, prefix: str = "", tags: Sequence[str] = (), trashed: bool | None = False) -> Sequence[Hosted]:
        """Return projects, last used first: those whose id begins so, with all these tags; None for trashed or not."""
        sums = Figures(self._store.read).by_project_id()
        found = [self._hosted(row, sums.get(row["id"])) for row in self._store.projects.all()]
        found = [
            p for p in found
            if p.id.startswith(prefix) and set(tags) <= set(p.tags) and trashed in {None, p.trashed_us is not None}
        ]  # fmt: skip
        return sorted(found, key=lambda p: (not p.pinned, -p.last_us, p.id))

    def sessions(self, project_id: str, limit: int = 50) -> Sequence[SessionRecord]:
        """Return the records of a project's sessions, newest first."""
        rows = self._store.sessions.page(project=project_id, limit=limit)
        return sorted((SessionRecord.of(row) for row in rows), key=lambda r: r.last, reverse=True)

    def _hosted(self, row: dict[str, Any], sums: dict[str, Any] | None) -> Hosted:
        meta = row["meta"]
        names = ProjectStatistics.__dataclass_fields__
        statistics = ProjectStatistics(**{n: v for n, v in sums.items() if n in names}) if sums else ProjectStatistics()
        return Hosted(
            row["id"], row["name"], row["root"], row["created"],
            last_use_us({**row, "meta": {}}, sums["last"] if sums else 0, self.config.terms),
            str(meta.get("description") or ""), tuple(meta.get("tags") or ()), bool(meta.get("pinned")),
            str(meta.get("workspace") or ""), meta.get("kept_until"), meta.get("trashed"), meta.get("cleanup") or {},
            statistics,
        )  # fmt: skip

    # changing

    def change(self, project_id: str, what: str, **values: Any) -> Hosted:
        """
        Say something about a project: tags, description, pinned, kept_until; None removes a value.

        Raises:
            NotFound: there is none of that id.
            StoreError: the database is out of reach.
        """
        self._store.projects.change(project_id, lambda meta: {**meta, **values})
        changed = self.get(project_id)
        self._write_metadata(changed)
        log.note(self._store, f"project-{what}", project=project_id, **values)
        return changed

    def tag(self, project_id: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> Hosted:
        """Add and remove tags."""
        tags = [t for t in {*self.get(project_id).tags, *checked_tags(add)} if t not in remove]
        return self.change(project_id, "tagged", tags=sorted(tags))

    def pin(self, project_id: str, pinned: bool = True) -> Hosted:
        """Keep a project from being cleaned up, or not any more."""
        return self.change(project_id, "pinned" if pinned else "unpinned", pinned=pinned or None)

    def extend(self, project_id: str, days: int) -> Hosted:
        """
        Keep a project for so many days from now, whether it is used or not.

        Raises:
            UsageError: not between 1 and 36,500.
        """
        if not 1 <= days <= LONGEST_DAYS:
            raise UsageError(f"{days} days", f"1 to {LONGEST_DAYS:,}")
        return self.change(project_id, "extended", kept_until=self._store.clock() + days * DAY_US)

    def delete(self, project_id: str, why: str = "asked") -> Hosted:
        """
        Put a project into the trash: its sessions, and its workspace where P8 hosts it.

        Raises:
            Conflict: a session of it is open somewhere; nothing was done.
            WorkspaceError: the workspace cannot be moved; nothing was done.
        """
        project = self.get(project_id)
        if project.trashed_us is not None:
            return project
        rows = self._store.sessions.page(project=project_id, limit=MOST_SESSIONS)
        rows += self._store.sessions.page(project=project_id, limit=MOST_SESSIONS, archived=True)
        current = self._sessions.current
        for row in rows:
            if (current is not None and current.session_id == row.id) or self._store.leases.holder(row.id) is not None:
                raise Conflict(f"session {row.id} of it is open", "end it first")
        now = self._store.clock()
        values: dict[str, Any] = {"trashed": now, "trashed_sessions": [row.id for row in rows]}
        if project.workspace and Path(project.workspace).is_dir():
            target = self._store.home / "trash" / f"project-{project_id}-{now:x}"
            _move(Path(project.workspace), target)
            values["trash"] = str(target)
        for row in rows:
            self._sessions.annotate(row.id, trashed=True)
        self._store.projects.change(project_id, lambda meta: {**meta, **values})
        log.note(
            self._store, "project-deleted", project=project_id, why=why, sessions=len(rows), trash=values.get("trash")
        )
        self._write_log("delete", project_id, why=why, trash=values.get("trash"))
        return self.get(project_id)

    def restore(self, project_id: str) -> Hosted:
        """
        Take a project out of the trash, with its workspace and the sessions that went with it.

        Raises:
            UsageError: it is not in the trash.
            WorkspaceError: the workspace cannot be moved back.
        """
        row = self._store.projects.get(project_id)
        if row is None or not row["meta"].get("trashed"):
            raise UsageError(f"{project_id} is not in the trash", "p8 project list --trash shows what is")
        meta = row["meta"]
        if meta.get("trash") and meta.get("workspace"):
            _move(Path(meta["trash"]), Path(meta["workspace"]))
        for session_id in meta.get("trashed_sessions") or ():
            with contextlib.suppress(NotFound):
                self._sessions.annotate(session_id, trashed=False)
        gone = dict.fromkeys(("trashed", "trash", "trashed_sessions", "cleanup"))
        kept_until = self._store.clock() + self.config.cleanup_after_days * DAY_US
        return self.change(project_id, "restored", **gone, kept_until=kept_until)

    # cleaning up

    def due(self, now_us: int | None = None) -> Sequence[Step]:
        """Return what a cleanup would do now, by project id. Changes nothing."""
        now = self._store.clock() if now_us is None else now_us
        sums = Figures(self._store.read).by_project_id()
        steps = []
        for row in sorted(self._store.projects.all(), key=lambda row: str(row["id"])):
            last = int(sums[row["id"]]["last"]) if row["id"] in sums else 0
            step = next_step(row, last, now, self.config.terms)
            if step is not None:
                steps.append(step)
        return steps

    def cleanup(self, *, dry_run: bool = False, now_us: int | None = None) -> Sequence[Step]:
        """
        Warn of, mark and delete what is due, and return what was done; only say so in a dry run.

        A project that cannot be deleted now (a session of it is open) is left out, and due again next time.
        """
        steps = self.due(now_us)
        if dry_run:
            return steps
        done = []
        for step in steps:
            try:
                self._take(step)
                done.append(step)
            except (Conflict, WorkspaceError, StoreError) as error:
                topic = f"project {step.project}"
                self._store.notice(topic, Notice("warning", topic, f"not cleaned up: {error.message}", error.hint))
        return done

    def _take(self, step: Step) -> None:
        if step.action == "delete":
            self.delete(step.project, why=f"not used for {step.day} days")
        else:
            cleanup = step.standing.to_dict() if step.action != "clear" else None
            self._store.projects.change(step.project, lambda meta: {**meta, "cleanup": cleanup})
            log.note(
                self._store, f"project-{step.action}", project=step.project, day=step.day, left_days=step.left_days
            )
            self._write_log(step.action, step.project, day=step.day, left_days=step.left_days)
        topic = f"project {step.project}"
        if step.action == "clear":
            self._store.notice(topic, None)
        else:
            level = "info" if step.action == "delete" else "warning"
            self._store.notice(topic, Notice(level, topic, said(step), f"p8 project {_way_out(step)} {step.project}"))

    def tick(self) -> Sequence[Step]:
        """Clean up where that is switched on and was not done within the interval. Cheap where it is not."""
        if not self.config.cleanup_enabled:
            return []
        now = self._store.clock()
        looked = self._store.settings.get("cleanup_looked", 0)
        if 0 <= now - looked < self.config.cleanup_every_s * 1_000_000:
            return []
        self._store.settings.put("cleanup_looked", now)
        return self.cleanup()

    def _write_log(self, action: str, project_id: str, **more: Any) -> None:
        """Log an automatic act, for people, in a plain file."""
        line = {"time": from_us(self._store.clock()).isoformat(), "action": action, "project": project_id, **more}
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._store.home / "logs" / "cleanup.jsonl", flags, 0o600)
            try:
                os.write(fd, (json.dumps(line) + "\n").encode())
            finally:
                os.close(fd)

    def _write_metadata(self, project: Hosted) -> None:
        if project.workspace and not project.trashed_us:
            with contextlib.suppress(OSError):
                _write_json(Path(project.workspace) / METADATA, project.to_dict())


def said(step: Step) -> str:
    """Return a step in words."""
    name = f"project {step.name} ({step.project})"
    unused = f"not used for {step.day} days"
    return {
        "warn": f"{name} {unused}: it goes to the trash in {step.left_days} days",
        "mark": f"{name} {unused}: marked, it goes to the trash in {step.left_days} days",
        "delete": f"{name} {unused}: it is in the trash",
        "clear": f"{name} is used again: it stays",
    }[step.action]


def _way_out(step: Step) -> str:
    return "restore" if step.action == "delete" else "pin"


def checked_tags(tags: Sequence[str]) -> list[str]:
    """
    Return tags, sorted, each once.

    Raises:
        UsageError: one is empty, too long, or holds blanks or a comma.
    """
    for tag in tags:
        if not tag or len(tag) > 64 or any(c.isspace() or c == "," or not c.isprintable() for c in tag):
            raise UsageError(f"not a tag: {tag[:60]!r}", "one word, at most 64 letters")
    return sorted(set(tags))


def is_project_id(text: str) -> bool:
    """Return whether a text is shaped like a project's id (row J1)."""
    return ID.fullmatch(text) is not None


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.exists():
            raise WorkspaceError(f"{target} is in the way", "move it aside")
        try:
            source.rename(target)
        except OSError:
            shutil.move(source, target)
    except OSError as error:
        raise WorkspaceError(f"{source} cannot be moved: {error.strerror or error}") from error


def _write_json(file: Path, data: Any) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    young = file.with_name(f".{file.name}.{os.getpid()}.new")
    young.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(young, file)
