"""Which project a directory belongs to: identity that survives moving, renaming and cloning.

A marker (`.ai-sessions/project.json`, where a person put one) goes before everything. A repository is known by its
remote and first commit, so its clones and work trees are one project; a plain directory by an extended attribute on
it, which moves with it. Nothing else is written to a directory, and nothing at all to a home, the root or a temporary
folder, which are places where things lie and not projects: those go by their path, as does what bears no attribute.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from p8.errors import P8Error, StoreError, UsageError, WorkspaceError
from p8.model import Project, ProjectId
from p8.patterns import pattern
from p8.store.manager import PersistenceManager
from p8.workspace import git, hosted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

ATTRIBUTE = "user.p8.project"
MARKER = Path(".ai-sessions") / "project.json"
PREFIX = pattern(r"[a-z][a-z0-9-]{0,31}")
ID = pattern(r"[a-z][a-z0-9-]{0,31}-[0-9a-f]{8}")


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
        self._workspaces = Path(os.path.realpath(store.home / hosted.FOLDER))
        self._unsaved: list[tuple[Project, str, str]] = []
        self._away = False

    def of_directory(self, directory: Path, *, mark: bool = True) -> Project:
        """
        Return the project of a directory; a new one where it has none yet. Never raises for odd directories.

        Where the directory is known, this is one look into the store and runs nothing. Without `mark` no attribute is
        put on a plain directory: nobody works in it now, it was only heard of.
        """
        self._away = False
        directory = Path(os.path.realpath(directory))
        mine = self._of_workspace(directory)
        if mine is not None:
            return mine
        found = git.find(directory)
        if found is not None and found.root != directory and is_a_place(found.root):
            found = None  # dotfiles kept in a repository do not make one project of everything in the home
        marked = marker_of(directory, found.root if found is not None else None)
        root = marked[1] if marked is not None else found.root if found is not None else directory
        place = git.shown(str(root))
        stamp = git.stamp(found.common_dir if found is not None else root)
        known = self._at(place, stamp)
        if known is not None and (known.id == marked[0].id if marked else _is_settled(known, root)):
            return known._replace(root=place)
        if marked is not None:
            project = self._stored(marked[0].id) or marked[0]
        else:
            project = (self._of_repository(root, found) if found is not None else None) or self._of_plain(
                root, found, mark
            )
        project = project._replace(root=place)
        self._unsaved.append((project, place, stamp))
        self.flush()
        return project

    def flush(self) -> None:
        """Remember what could not be remembered before."""
        with contextlib.suppress(P8Error):
            while self._unsaved and not self._away:
                self._save(*self._unsaved[0])
                self._unsaved.pop(0)

    def _save(self, project: Project, place: str, stamp: str) -> None:
        """Write a project down, keeping what has been said of it meanwhile: its name, when it was made, the rest."""
        new: dict[str, Any] = project._asdict()
        now = self._store.clock()

        def keeping(old: dict[str, Any]) -> dict[str, Any]:
            said = {key: old[key] for key in ("name", "created", "meta")}
            return {**new, **said, **{key: new[key] or old[key] for key in ("root_commit", "remote")}, "last": now}

        if not self._store.projects.update(project.id, keeping):
            self._store.projects.save(new)
        self._store.projects.place(place, project.id, stamp)

    # those that P8 hosts

    def _of_workspace(self, directory: Path) -> Project | None:
        """Return the project whose workspace a directory lies in; told by its path, so it costs nothing elsewhere."""
        try:
            name = directory.relative_to(self._workspaces).parts[0]
        except (ValueError, IndexError):
            return None
        folder = self._workspaces / name
        if not ID.fullmatch(name):
            return None
        known = self._stored(name)
        project = known or _from_metadata(name, hosted.read_metadata(folder))
        root = git.shown(str(folder / hosted.REPO))
        project = project._replace(root=root, meta={**project.meta, "workspace": git.shown(str(folder))})
        if known is None:
            self._unsaved.append((project, root, git.stamp(folder)))
            self.flush()
        return project

    # repositories

    def _of_repository(self, root: Path, found: git.Repository) -> Project | None:
        """Return the project of a repository; None of one that has neither a commit nor a remote yet."""
        try:
            identity = git.identity(root)
        except WorkspaceError:
            return None
        if identity is None or not (identity.root_commit or identity.remote):
            return None
        row = self.same(identity)
        if row is not None:
            project = project_of(row)
        else:
            new_id = f"{prefix_from(identity.name)}-{_digest((identity.remote or identity.root_commit).encode())}"
            project = self._earlier(root, found) or Project(ProjectId(new_id), identity.name, "")
        return project._replace(
            root_commit=project.root_commit or identity.root_commit, remote=project.remote or identity.remote
        )

    def same(self, identity: git.Identity) -> dict[str, Any] | None:
        """
        Return the known project that a repository is.

        The same remote decides, even where the first commit differs: a shallow clone does not have it, and a branch
        with a history of its own has another. Next the same first commit, where one side has no remote to differ by.
        """
        rows: list[dict[str, Any]] = self._ask(self._store.projects.all, [])
        rows.sort(key=lambda row: int(row["created"]))
        remote, root_commit = identity.remote, identity.root_commit
        begun = [row for row in rows if root_commit and row["root_commit"] == root_commit]
        tries = (
            [row for row in rows if remote and row["remote"] == remote],
            [row for row in begun if not row["remote"]],
            [] if remote else begun,
        )
        return next((row for fits in tries for row in fits), None)

    # plain directories

    def _of_plain(self, root: Path, found: git.Repository | None, mark: bool) -> Project:
        name = git.shown(root.name) or "root"
        by_path = Project(ProjectId(f"{prefix_from(name)}-{_digest(os.fsencode(root))}"), name, "")
        if is_a_place(root):
            return self._stored(by_path.id) or by_path
        earlier = self._earlier(root, found)
        if earlier is not None:
            return earlier
        if not mark:
            return self._stored(by_path.id) or by_path
        wanted = f"{prefix_from(name)}-{os.urandom(4).hex()}"
        with contextlib.suppress(OSError, AttributeError):
            try:
                os.setxattr(root, ATTRIBUTE, wanted.encode(), os.XATTR_CREATE)
            except FileExistsError:  # another p8 was faster
                wanted = read_attribute(root) or wanted
            return self._stored(wanted) or Project(ProjectId(wanted), name, "")
        return self._stored(by_path.id) or by_path

    def _earlier(self, root: Path, found: git.Repository | None) -> Project | None:
        """Return what a directory was known as while it was no repository, or one without a commit."""
        bears = "" if is_a_place(root) else read_attribute(root)
        if bears:
            return self._stored(bears) or Project(ProjectId(bears), git.shown(root.name) or "root", "")
        for stamp in {git.stamp(root), git.stamp(found.common_dir) if found is not None else ""}:
            known = self._at(git.shown(str(root)), stamp)
            if known is not None and not known.root_commit and not known.remote:
                return known
        return None

    # the store, which may be out of reach

    def _ask(self, question: Callable[[], T], otherwise: T) -> T:
        """Ask the store, unless it has just failed to answer: a prompt waits for it once and not five times."""
        if not self._away:
            try:
                return question()
            except StoreError:
                self._away = True
        return otherwise

    def _at(self, place: str, stamp: str) -> Project | None:
        """Return the project last seen at a place, if the same directory or repository still stands there."""
        found = self._ask(lambda: self._store.projects.by_place(place), None)
        return project_of(found[0]) if found is not None and stamp and found[1] == stamp else None

    def _stored(self, project_id: str) -> Project | None:
        row = self._ask(lambda: self._store.projects.get(project_id), None)
        return project_of(row) if row is not None else None


def _from_metadata(project_id: str, data: Mapping[str, Any]) -> Project:
    """Return a hosted project as its own folder describes it: where the store does not know it any more."""
    meta: dict[str, Any] = {"created_by": "person"}
    for key, kind in (("description", str), ("tags", list), ("pinned", bool), ("config", dict)):
        if isinstance(data.get(key), kind):
            meta[key] = data[key]
    name = data.get("name")
    return Project(ProjectId(project_id), name if isinstance(name, str) and name else project_id[:-9], "", meta=meta)


def is_a_place(root: Path) -> bool:
    """Return whether a directory is one where things lie, and no project: a home, the root, a temporary folder."""
    with contextlib.suppress(RuntimeError):
        if root == Path(os.path.realpath(Path.home())):
            return True
    return root in {Path("/"), Path("/tmp"), Path("/var/tmp"), Path("/home"), Path("/root")}  # noqa: S108


def project_of(row: Mapping[str, Any]) -> Project:
    """Return a project from its row."""
    return Project(ProjectId(row["id"]), row["name"], row["root"], row["root_commit"], row["remote"], row["meta"])


def _is_settled(known: Project, root: Path) -> bool:
    """Return whether nothing has come that tells more of a project: a first commit."""
    return bool(known.root_commit or known.remote) or not git.head(root)[1]


def marker_of(directory: Path, top: Path | None) -> tuple[Project, Path] | None:
    """Return the project that the nearest marker names, and where it lies; within a repository none above its top."""
    for folder in _upwards(directory, top):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            said = git.read(folder / MARKER, 65536)
            import json  # few directories have one

            data = json.loads(said)
            if isinstance(data, dict) and isinstance(data.get("id"), str) and ID.fullmatch(data["id"]):
                name = data.get("name")
                name = name if isinstance(name, str) and name.strip() else folder.name
                name = name.encode("utf-8", "replace").decode()[:200]
                return Project(ProjectId(data["id"]), name, ""), folder
    return None


def _upwards(directory: Path, top: Path | None) -> Iterator[Path]:
    for folder in (directory, *directory.parents):
        if top is None and folder != directory and is_a_place(folder):
            return
        yield folder
        if folder == top:
            return


def read_attribute(root: Path) -> str:
    """Return the project that a plain directory bears, or nothing."""
    with contextlib.suppress(OSError, AttributeError):
        text = os.getxattr(root, ATTRIBUTE).decode("ascii", "replace")
        return text if ID.fullmatch(text) else ""
    return ""


def _digest(text: bytes) -> str:
    import hashlib

    return hashlib.sha256(text).hexdigest()[:8]
