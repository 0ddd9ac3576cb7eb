"""Projects in the trash, removed for good: by hand, or by the calendar that goes for sessions there (rows J3, J5).

`trash.expire_days` after its deletion a project is due; it is listed, and goes at the first look a day later. Until
then `restore` brings all of it back. Its sessions go by the same calendar, each on its own (`trash.py`): a pinned one
stays.
Only a folder that P8 hosts is ever removed, never a directory of the person's own.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from p8.core.log import note
from p8.core.portfolio import Portfolio
from p8.core.removal import Removal
from p8.core.trash import Trash
from p8.errors import Conflict, InvalidTransition, NotFound, P8Error
from p8.model import Notice, ProjectRow
from p8.workspace import hosted

DAY_US = 86_400_000_000
TOLD = "projects_told"  #: setting: when each deletion that is due was first listed
TOPIC = "project trash"
LISTED = 5


class Leaving(NamedTuple):
    """A project in the trash, and what goes with it."""

    row: ProjectRow
    folder: str  #: its folder in the trash; "" where P8 hosts none
    size_bytes: int  #: of that folder
    goes_us: int  #: from when it is removed; 0 where it is not due

    @property
    def key(self) -> str:
        """Return what tells this deletion from another one of the same project."""
        return f"{self.row.project.id}@{self.row.deleted_us}"


class Removed(NamedTuple):
    """What a purge did."""

    size_bytes: int
    sessions: tuple[str, ...]
    kept: tuple[str, ...]  #: sessions that stay, and why


class ProjectTrash:
    """
    Purges projects.

    Args:
        portfolio: the projects.
        removal: put them there.
        trash: purges their sessions.
        expire_days: as many days in the trash make them due; 0 for never.

    All methods raise StoreError where the database is out of reach.
    """

    def __init__(self, portfolio: Portfolio, removal: Removal, trash: Trash, expire_days: int = 0) -> None:
        self._portfolio = portfolio
        self._removal = removal
        self._trash = trash
        self._days = expire_days
        self._store = removal.store

    def due(self) -> list[Leaving]:
        """Return the projects that are due, those that go first before others. Pinned ones never are."""
        if self._days <= 0:
            return []
        now, told = self._store.clock(), self._told()
        found = []
        for row in self._portfolio.listed(deleted=True):
            if row.deleted_us is None or row.deleted_us >= now - self._days * DAY_US or row.project.pinned:
                continue
            one = self.leaving(row)
            found.append(one._replace(goes_us=told.get(one.key, now) + DAY_US))
        return sorted(found, key=lambda one: (one.goes_us, one.row.project.id))

    def leaving(self, row: ProjectRow) -> Leaving:
        """
        Return what would go with a project.

        Raises:
            InvalidTransition: it is not in the trash.
        """
        gone = row.project.meta.get("deleted")
        if not isinstance(gone, dict):
            raise InvalidTransition(
                f"{row.project.name} is not in the trash", f"p8 project delete {row.project.id} puts it there"
            )
        name = str(gone.get("folder") or "")
        return Leaving(row, name, hosted.size_bytes(self._removal.trash / name) if name else 0, 0)

    def expiring(self) -> list[Leaving]:
        """Return what `expire` would remove now: the dry run."""
        now = self._store.clock()
        return [one for one in self.due() if one.goes_us <= now]

    def expire(self) -> list[str]:
        """
        Remove what was listed a day ago or earlier, and list what is due; return the ids of what was removed.

        What a crash broke off is finished first.
        """
        for row in self._portfolio.listed(deleted=True):
            if isinstance(row.project.meta.get("deleted"), dict) and row.project.meta["deleted"].get("purging"):
                with contextlib.suppress(P8Error):
                    self._remove(row)
        gone: list[str] = []
        for one in self.expiring():
            try:
                self._remove(one.row)
                gone.append(one.row.project.id)
            except P8Error as error:
                note(self._store, "project failed", project=one.row.project.id, text=error.message)
        now, told = self._store.clock(), self._told()
        left = self.due()
        kept = {one.key: told.get(one.key, now) for one in left}
        if kept != told:
            self._store.settings.put(TOLD, kept)
        self._tell([one.row.project.name for one in left])
        return gone

    def purge(self, row: ProjectRow) -> Removed:
        """
        Remove a project in the trash for good, with the sessions that went there with it.

        A session that forks share, or that is open, stays, and is named.

        Raises:
            InvalidTransition: it is not in the trash.
            WorkspaceError: its folder cannot be removed whole; what is left of it is tried again.
        """
        size = self.leaving(row).size_bytes
        purged, kept = [], []
        for name in self._removal.sessions_in_trash(row):
            try:
                self._trash.purge([name])
                purged.append(name)
            except (Conflict, InvalidTransition, NotFound) as error:
                kept.append(error.message)
        self._remove(row)
        return Removed(size, tuple(purged), tuple(kept))

    def _remove(self, row: ProjectRow) -> None:
        """Remove folder and row. The row says first that it goes, so that nobody restores half of it."""
        one = self.leaving(row)
        project = row.project.id

        def going(found: dict[str, Any]) -> dict[str, Any] | None:
            deleted = found["meta"].get("deleted")
            if not isinstance(deleted, dict) or deleted.get("at") != row.deleted_us:
                return None  # restored, or deleted again, meanwhile
            return {**found, "meta": {**found["meta"], "deleted": {**deleted, "purging": self._store.clock()}}}

        if not self._store.projects.update(project, going):
            raise Conflict(f"{row.project.name} was changed meanwhile", "p8 project list --trash")
        if one.folder:
            hosted.remove(self._removal.trash / one.folder)
        self._store.projects.remove(project)
        note(self._store, "project purged", project=project, name=row.project.name, size_bytes=one.size_bytes)

    def _told(self) -> dict[str, int]:
        said = self._store.settings.get(TOLD, {})
        return {str(k): v for k, v in said.items() if isinstance(v, int)} if isinstance(said, dict) else {}

    def _tell(self, names: list[str]) -> None:
        named = ", ".join(names[:LISTED]) + (" …" if len(names) > LISTED else "")
        text = f"in the trash for {self._days} days, removed for good a day after this: {named}"
        hint = "p8 project purge --expired --dry-run lists them; /project restore keeps one"
        self._store.notice(TOPIC, Notice("info", TOPIC, text, hint) if names else None)
