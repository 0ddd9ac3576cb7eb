"""Projects into the trash and out of it again (row J3).

Deleting puts a project's sessions and, where P8 hosts it, its folder into the trash; a directory of the person's own
is never touched. Each step can be done again, so that a crash in the middle is finished later.
"""

from __future__ import annotations

from typing import Any

from p8.core.portfolio import ALL, Portfolio
from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound
from p8.model import ProjectRow, from_us
from p8.workspace import hosted

TRASHED_WITH = "trashed_with"  #: what a session says that went into the trash with its project


class Removal:
    """
    Deletes and restores.

    Args:
        portfolio: the projects.
        sessions: annotates sessions.

    All methods raise StoreError where the database is out of reach.
    """

    def __init__(self, portfolio: Portfolio, sessions: SessionManager) -> None:
        self._portfolio = portfolio
        self._sessions = sessions
        self.store = sessions.store
        self.trash = self.store.home / "trash" / "projects"

    def delete(self, row: ProjectRow, why: str = "by hand") -> ProjectRow:
        """
        Put a project into the trash.

        Raises:
            Conflict: one of its sessions is open.
            WorkspaceError: the folder cannot be moved.
        """
        self.check_closed(row)
        gone = self.gone(row, why)
        self._portfolio.change(row.project.id, deleted=row.project.meta.get("deleted") or gone)
        return self.finish(row.project.id)

    def gone(self, row: ProjectRow, why: str) -> dict[str, Any]:
        """Return what the row of a project in the trash says of it; `finish` does the rest."""
        now = self.store.clock()
        folder = f"{row.project.id}-{from_us(now):%Y%m%d-%H%M%S}" if row.project.workspace else ""
        return {"at": now, "why": why, "folder": folder}

    def check_closed(self, row: ProjectRow) -> None:
        """Raise Conflict where a session of a project is open in a living process."""
        for session in self._portfolio.sessions_of(row.project.id):
            if str(session.status) == "active" and self.store.leases.holder(session.id) is not None:
                raise Conflict(f"session {session.id} of {row.project.name} is open", "end it first")

    def finish(self, project_id: str) -> ProjectRow:
        """Do what is left of a deletion: also one that a crash broke off."""
        for session in self._portfolio.sessions_of(project_id):
            if session.trashed_us is None:
                self._sessions.annotate(session.id, **{"trashed": True, TRASHED_WITH: project_id})
        self._portfolio.settle(project_id)
        row = self._portfolio.get(project_id)
        name = str(row.project.meta["deleted"].get("folder") or "")
        if name:
            hosted.move(self._portfolio.workspaces / project_id, self.trash / name)
        return row

    def is_unfinished(self, row: ProjectRow) -> bool:
        """Return whether a deletion broke off before its end; not where the project was used after it."""
        left = row.statistics.sessions - row.statistics.in_trash
        there = (self._portfolio.workspaces / row.project.id).is_dir()
        return row.deleted_us is not None and row.used_us <= row.deleted_us and (bool(left) or there)

    def sessions_in_trash(self, row: ProjectRow) -> list[str]:
        """Return the ids of the sessions that went into the trash with a project."""
        found = self.store.sessions.page(project=row.project.id, trashed=True, limit=ALL)
        return [session.id for session in found if session.meta.get(TRASHED_WITH) == row.project.id]

    def restore(self, row: ProjectRow) -> ProjectRow:
        """
        Take a project out of the trash, with the sessions that went there with it.

        Raises:
            NotFound: it is not in the trash.
            Conflict: something stands where its folder was, or it is being removed for good.
            WorkspaceError: the folder cannot be moved.
        """
        gone = row.project.meta.get("deleted")
        if not isinstance(gone, dict):
            raise NotFound(f"{row.project.name} is not in the trash", "p8 project list --trash shows what is")
        if gone.get("purging"):
            raise Conflict(f"{row.project.name} is being removed for good", "it cannot be restored any more")
        if gone.get("folder"):
            hosted.move(self.trash / str(gone["folder"]), self._portfolio.workspaces / row.project.id)
        for name in self.sessions_in_trash(row):
            self._sessions.annotate(name, **{"trashed": False, TRASHED_WITH: None})
        self._portfolio.touch(row.project.id)
        return self._portfolio.change(row.project.id, deleted=None, cleanup=None)
