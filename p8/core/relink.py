"""A project found again under another name or in another place: its sessions follow it there.

For what identity cannot tell by itself: a directory copied without its attributes, a repository whose history or
remote became another. The old project goes on, now at the new directory; what has been recorded there under another
identity joins it. Everything is planned first, and one step of undo. Refuses: to go against a marker in the directory.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from p8.core.projects import ATTRIBUTE, Projects, is_a_place, marker_of, read_attribute
from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound, UsageError, WorkspaceError
from p8.model import SessionRow
from p8.workspace import git


class Moved(NamedTuple):
    """What happens to one session."""

    id: str
    title: str
    project: str  #: id it has now
    directory: str  #: as it is now
    to: str  #: the directory it will have


class Plan(NamedTuple):
    """What a relink would do."""

    project: dict[str, Any]  #: the old project's row
    root: str  #: where it is from now on
    joined: dict[str, Any] | None  #: the project that the directory counted as until now
    sessions: tuple[Moved, ...]


class Relink:
    """Relinks projects; `sessions` says which there are, and changes them."""

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions
        self._store = sessions.store

    def plan(self, old: str, new: str, here: Path) -> Plan:
        """
        Return what would happen; change nothing.

        Args:
            old: the project: id, name, or the directory where it was (which need not exist any more).
            new: the directory where it is now.
            here: what relative paths are taken from.

        Raises:
            NotFound: no such project.
            Conflict: the name fits several projects, or a marker names another one.
            UsageError: `new` is no directory, or nothing would change.
            StoreError: the database is out of reach.
        """
        directory = Path(os.path.realpath(here / Path(new).expanduser()))
        if not directory.is_dir():
            raise UsageError(f"{new} is not a directory", "name the directory where the project is now")
        project = self._project(old, here)
        found = git.find(directory)
        marker = marker_of(directory, found.root if found is not None else None)
        root = found.root if found is not None else directory
        if marker is not None and marker[0].id != project["id"]:
            raise Conflict(
                f"{marker[1]} bears a marker that names project {marker[0].id}",
                "change or remove .ai-sessions/project.json there first",
            )
        place = git.shown(str(root))
        joined = self._known(root, place)
        joined = None if joined is not None and joined["id"] == project["id"] else joined
        moved = [
            Moved(row.id, row.title, row.project, row.directory, to)
            for row in self._rows({project["id"], joined["id"] if joined else ""})
            if (to := _under(row.directory, project["root"], place)) != row.directory or row.project != project["id"]
        ]
        if not moved and joined is None and project["root"] == place:
            raise UsageError(f"project {project['name']} is at {place} already", "nothing to relink")
        return Plan(project, place, joined, tuple(moved))

    def _project(self, words: str, here: Path) -> dict[str, Any]:
        rows = self._store.projects.all()
        path = git.shown(os.path.realpath(here / Path(words).expanduser()))
        plain = git.shown(os.path.normpath(here / Path(words).expanduser()))
        placed = self._store.projects.by_place(path) or self._store.projects.by_place(plain)
        tries = (
            [row for row in rows if row["id"] == words],
            [row for row in rows if row["root"] in {path, plain}] or ([placed[0]] if placed is not None else []),
            [row for row in rows if row["name"] == words],
        )
        for fits in tries:
            if len(fits) == 1:
                return fits[0]
            if fits:
                names = ", ".join(f"{row['id']} ({row['root']})" for row in fits[:4])
                raise Conflict(f"{words!r} fits several projects", names)
        raise NotFound(f"no project {words!r}", "p8 project list shows them")

    def _known(self, root: Path, place: str) -> dict[str, Any] | None:
        """Return what a directory counts as now, without making it a project."""
        known = self._store.projects.by_place(place)
        if known is not None and known[1] == _stamp(root):
            return known[0]
        bears = read_attribute(root)
        row = self._store.projects.get(bears) if bears else None
        if row is not None:
            return row
        with contextlib.suppress(WorkspaceError):
            identity = git.identity(root) if git.find(root) is not None else None
            if identity is not None:
                return Projects(self._store).same(identity)
        return None

    def _rows(self, projects: set[str]) -> list[SessionRow]:
        table = self._store.sessions
        return [
            row
            for project in sorted(projects - {""})
            for archived, trashed in ((False, False), (True, False), (False, True))
            for row in table.page(project=project, archived=archived, trashed=trashed, limit=1_000_000)
        ]

    def apply(self, plan: Plan) -> dict[str, Any]:
        """
        Do it.

        Returns:
            what `undo` takes.

        Raises:
            StoreError: the database is out of reach; what was done by then is done.
        """
        root = Path(plan.root)
        step = {
            "projects": [plan.project, *([plan.joined] if plan.joined else [])], "root": plan.root,
            "place": self._place(plan.root), "attribute": read_attribute(root),
            "sessions": [moved._asdict() for moved in plan.sessions],
            "names": {row["id"]: row["name"] for row in (plan.project, plan.joined) if row},
        }  # fmt: skip
        identity = None
        with contextlib.suppress(WorkspaceError):
            identity = git.identity(root) if git.find(root) is not None else None
        told = {"root_commit": identity.root_commit, "remote": identity.remote} if identity is not None else {}
        self._store.projects.save({**plan.project, **told, "root": plan.root})
        if plan.joined is not None:  # it must not be found again by what is the other's now
            meta = {**plan.joined["meta"], "relinked_to": plan.project["id"]}
            self._store.projects.save({**plan.joined, "root_commit": "", "remote": "", "meta": meta})
        self._store.projects.place(plan.root, plan.project["id"], _stamp(root))
        if identity is None and not is_a_place(root):
            _bear(root, plan.project["id"])
        for moved in plan.sessions:
            name = plan.project["name"]
            self._sessions.annotate(moved.id, project=plan.project["id"], project_name=name, directory=moved.to)
        return step

    def undo(self, step: dict[str, Any]) -> None:
        """Take a relink back. Raises StoreError."""
        for row in step["projects"]:
            self._store.projects.save(row)
        if step["place"]:
            self._store.projects.place(step["root"], *step["place"])
        else:
            self._store.projects.forget_place(step["root"])
        _bear(Path(step["root"]), step["attribute"])
        for moved in step["sessions"]:
            name = step["names"].get(moved["project"], "")
            with contextlib.suppress(NotFound):  # purged meanwhile
                self._sessions.annotate(
                    moved["id"], project=moved["project"], project_name=name, directory=moved["directory"]
                )

    def _place(self, place: str) -> list[str] | None:
        known = self._store.projects.by_place(place)
        return [known[0]["id"], known[1]] if known is not None else None


def _under(directory: str, old: str, new: str) -> str:
    """Return where a directory is once what was at `old` is at `new`."""
    if old and directory == old:
        return new
    if old and directory.startswith(old.rstrip("/") + "/"):
        return new.rstrip("/") + directory[len(old.rstrip("/")) :]
    return directory


def _stamp(root: Path) -> str:
    found = git.find(root)
    return git.stamp(found.common_dir if found is not None else root)


def _bear(root: Path, project: str) -> None:
    """Write or remove the attribute by which a plain directory is known."""
    with contextlib.suppress(OSError, AttributeError):
        if project:
            os.setxattr(root, ATTRIBUTE, project.encode())
        else:
            os.removexattr(root, ATTRIBUTE)
