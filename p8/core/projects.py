"""Which project a directory belongs to: identity that survives moving, renaming and cloning.

A repository is known by its first commit and its remote; a plain directory by an extended attribute on it, which moves
with it (`.ai-sessions/project.json`, where a person put one, goes before both). Nothing else is written to a directory,
and nothing at all to a home, the root or a temporary folder, which are places and not projects.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from p8.errors import P8Error, StoreError, UsageError, WorkspaceError
from p8.model import Project, ProjectId
from p8.store.manager import PersistenceManager
from p8.workspace import git

ATTRIBUTE = "user.p8.project"
MARKER = Path(".ai-sessions") / "project.json"
PREFIX = re.compile(r"[a-z][a-z0-9-]{0,31}")
ID = re.compile(r"[a-z][a-z0-9-]{0,31}-[0-9a-f]{8}")


def check_prefix(prefix: str) -> str:
    """
    Return `prefix` if it may begin a project id (row J1).

    Raises:
        UsageError: it may not.
    """
    if not PREFIX.fullmatch(prefix):
        raise UsageError(
            f"not a project prefix: {prefix[:60]!r}",
            "a letter, then letters, digits and hyphens, at most 32, lower case",
        )
    return prefix


def prefix_from(name: str) -> str:
    """Return a valid prefix made of any name."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("0123456789-")
    return slug[:32].rstrip("-") or "project"


class Projects:
    """
    Finds projects.

    Args:
        store: where they are remembered. When it cannot be reached, identity is worked out and remembered later.
    """

    def __init__(self, store: PersistenceManager) -> None:
        self._store = store
        self._unsaved: list[tuple[Project, str, str]] = []

    def of_directory(self, directory: Path) -> Project:
        """Return the project of a directory; a new one where it has none yet. Never raises for odd directories."""
        found = git.find(directory)
        root = found.root if found is not None else directory
        stamp = git.stamp(found.common_dir if found is not None else root)
        known = self._remembered(str(root), stamp)
        if known is not None:
            return known
        project = self._marked(root)
        if project is None and found is not None:
            project = self._of_repository(root)
        if project is None:
            project = self._of_plain(root)
        self._remember(replace(project, root=str(root)), str(root), stamp)
        return replace(project, root=str(root))

    def _remembered(self, place: str, stamp: str) -> Project | None:
        """Return what was found at this place before, while the same repository or directory stands there."""
        try:
            found = self._store.projects.by_place(place)
        except StoreError:
            return None
        if found is None or found[1] != stamp or not stamp:
            return None
        project = _project(found[0])
        if not project.root_commit and git.head(Path(place))[1]:
            return None  # its first commit has come since
        return project

    def _marked(self, root: Path) -> Project | None:
        """Return the project that a marker file names."""
        import json

        with contextlib.suppress(OSError, ValueError, TypeError):
            data = json.loads((root / MARKER).read_text("utf-8")[:65536])
            if isinstance(data.get("id"), str) and ID.fullmatch(data["id"]):
                return self._stored(data["id"]) or Project(
                    ProjectId(data["id"]), str(data.get("name") or root.name), str(root)
                )
        return None

    def _of_repository(self, root: Path) -> Project | None:
        try:
            identity = git.identity(root)
        except WorkspaceError:
            return None
        if identity is None or not identity.root_commit:
            return None
        for row in self._find(identity.root_commit):
            if row["remote"] == identity.remote or not row["remote"] or not identity.remote:
                project = _project(row)
                return replace(project, remote=project.remote or identity.remote)
        earlier = self._at_place(str(root))  # known from before its first commit
        digest = _digest(f"{identity.root_commit} {identity.remote}".encode())
        new = earlier or Project(ProjectId(f"{prefix_from(root.name)}-{digest}"), root.name, str(root))
        return replace(new, root_commit=identity.root_commit, remote=identity.remote)

    def _of_plain(self, root: Path) -> Project:
        name = root.name or "root"
        if _is_a_place(root):
            digest = _digest(os.fsencode(root))
            return Project(ProjectId(f"{prefix_from(name)}-{digest}"), name, str(root))
        with contextlib.suppress(OSError, AttributeError):
            text = os.getxattr(root, ATTRIBUTE).decode("ascii", "replace")
            if ID.fullmatch(text):
                return self._stored(text) or Project(ProjectId(text), name, str(root))
        project = self._at_place(str(root)) or Project(
            ProjectId(f"{prefix_from(name)}-{os.urandom(4).hex()}"), name, str(root)
        )
        try:
            os.setxattr(root, ATTRIBUTE, project.id.encode())
        except (OSError, AttributeError):  # known by its path, then
            digest = _digest(os.fsencode(root))
            return self._at_place(str(root)) or replace(project, id=ProjectId(f"{prefix_from(name)}-{digest}"))
        return project

    # the store, which may be out of reach

    def _stored(self, project_id: str) -> Project | None:
        with contextlib.suppress(StoreError):
            row = self._store.projects.get(project_id)
            return _project(row) if row else None
        return None

    def _find(self, root_commit: str) -> list[dict[str, Any]]:
        with contextlib.suppress(StoreError):
            return self._store.projects.find(root_commit)
        return []

    def _at_place(self, place: str) -> Project | None:
        """Return a project without a repository's identity that was known at this place."""
        with contextlib.suppress(StoreError):
            found = self._store.projects.by_place(place)
            if found is not None and not found[0]["root_commit"] and not git.find(Path(place)):
                return None
            if found is not None and not found[0]["root_commit"]:
                return _project(found[0])
        return None

    def _remember(self, project: Project, place: str, stamp: str) -> None:
        self._unsaved.append((project, place, stamp))
        self.flush()

    def flush(self) -> None:
        """Remember what could not be remembered before."""
        with contextlib.suppress(P8Error):
            while self._unsaved:
                project, place, stamp = self._unsaved[0]
                old = self._store.projects.get(project.id)
                row = {**asdict(project), **({"created": old["created"]} if old else {})}
                self._store.projects.save(row)
                self._store.projects.place(place, project.id, stamp)
                self._unsaved.pop(0)


def _digest(text: bytes) -> str:
    import hashlib

    return hashlib.sha256(text).hexdigest()[:8]


def _is_a_place(root: Path) -> bool:
    with contextlib.suppress(RuntimeError):
        if root == Path.home():
            return True
    return root in {Path("/"), Path("/tmp"), Path("/var/tmp")}  # noqa: S108


def _project(row: dict[str, Any]) -> Project:
    return Project(ProjectId(row["id"]), row["name"], row["root"], row["root_commit"], row["remote"], row["meta"])
