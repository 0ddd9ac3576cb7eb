"""Projects, the places where they were seen, and small things to remember: plain rows, read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p8.store.plain import packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from p8.store.sqlite import Read, Write

FIELDS = ("id", "name", "root", "root_commit", "remote", "created", "last", "meta")


class ProjectTable:
    """Rows of projects as dictionaries: id, name, root, root_commit, remote, created, last (microseconds), meta."""

    def __init__(self, write: Write, read: Read, clock: Callable[[], int]) -> None:
        self._write = write
        self._read = read
        self._clock = clock

    def get(self, project_id: str) -> dict[str, Any] | None:
        """Return one project. Raises StoreError when the database is out of reach; so do all below."""
        return next(iter(self._select("WHERE id = ?", (project_id,))), None)

    def all(self) -> list[dict[str, Any]]:
        """Return all projects, last used first."""
        return self._select("ORDER BY last DESC")

    def find(self, root_commit: str) -> list[dict[str, Any]]:
        """Return the projects whose repository began with this commit."""
        return self._select("WHERE root_commit = ? ORDER BY created", (root_commit,))

    def by_place(self, path: str) -> tuple[dict[str, Any], str] | None:
        """Return the project last seen at a path, with the stamp given then."""
        rows = self._read("SELECT project, stamp FROM places WHERE path = ?", (path,))
        project = self.get(rows[0][0]) if rows else None
        return (project, rows[0][1]) if project is not None else None

    def save(self, project: dict[str, Any]) -> None:
        """Insert a project, or replace the one of the same id."""
        now = self._clock()
        values = {"root": "", "root_commit": "", "remote": "", "created": now, "last": now, "meta": {}} | project
        marks = ",".join("?" * len(FIELDS))
        self._write(lambda db: db.execute(f"INSERT OR REPLACE INTO projects VALUES ({marks})", _values(values)))

    def update(self, project_id: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
        """
        Change a project in one transaction, so that two processes at once lose nothing.

        Args:
            project_id: which.
            change: gets the row and returns the new one, or None to leave it; must not use the store.

        Returns:
            whether it was changed.
        """

        def work(db: Any) -> bool:
            found = db.execute(f"SELECT {', '.join(FIELDS)} FROM projects WHERE id = ?", (project_id,)).fetchone()
            new = change(_row(found)) if found is not None else None
            if new is not None:
                sets = ", ".join(f"{name} = ?" for name in FIELDS[1:])
                db.execute(f"UPDATE projects SET {sets} WHERE id = ?", (*_values(new)[1:], project_id))
            return new is not None

        return bool(self._write(work))

    def remove(self, project_id: str) -> None:
        """Remove a project's row, and the places where it was seen; sessions keep what they say of it."""

        def work(db: Any) -> None:
            db.execute("DELETE FROM places WHERE project = ?", (project_id,))
            db.execute("DELETE FROM projects WHERE id = ?", (project_id,))

        self._write(work)

    def statistics(self) -> dict[str, tuple[Any, ...]]:
        """
        Return the figures of each project's sessions.

        In this order: sessions, those in the trash, messages, commands, executions, tokens in, tokens out, cost, bytes,
        sum of spans, first time, last time; in microseconds.
        """
        rows = self._read(
            "SELECT project, count(*), sum(trashed IS NOT NULL), sum(messages), sum(commands), sum(executions),"
            " sum(tokens_in), sum(tokens_out), sum(cost), sum(bytes), sum(max(last - created, 0)), min(created),"
            " max(last) FROM sessions WHERE project <> '' GROUP BY project"
        )
        return {row[0]: tuple(row[1:]) for row in rows}

    def place(self, path: str, project_id: str, stamp: str = "") -> None:
        """Remember that a project was seen at a path; `stamp` is the caller's, to tell whether it still is the same."""
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO places VALUES (?,?,?)", (path, project_id, stamp)))

    def forget_place(self, path: str) -> None:
        """Forget that a project was seen at a path."""
        self._write(lambda db: db.execute("DELETE FROM places WHERE path = ?", (path,)))

    def _select(self, rest: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        rows = self._read(f"SELECT {', '.join(FIELDS)} FROM projects {rest}", params)
        return [_row(row) for row in rows]


def _row(row: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(FIELDS, (*row[:-1], unpacked(row[-1])), strict=True))


def _values(project: dict[str, Any]) -> list[Any]:
    return [packed(project[f]) if f == "meta" else project[f] for f in FIELDS]


class Settings:
    """Values by key: the last model, the picker's scope. For what a person sets, see config."""

    def __init__(self, write: Write, read: Read) -> None:
        self._write = write
        self._read = read

    def get(self, key: str, default: Any = None) -> Any:
        """Return a remembered value. Raises StoreError when the database is out of reach."""
        rows = self._read("SELECT value FROM settings WHERE key = ?", (key,))
        return unpacked(rows[0][0]) if rows else default

    def claim(self, key: str, change: Callable[[Any], Any]) -> bool:
        """
        Change a value in one transaction; of two processes at once, the second sees what the first has put.

        Args:
            key: which.
            change: gets the value (None where there is none), returns the new one, or None to leave it.

        Returns:
            whether it was changed.
        """

        def work(db: Any) -> bool:
            found = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
            new = change(unpacked(found[0]) if found else None)
            if new is not None:
                db.execute("INSERT OR REPLACE INTO settings VALUES (?,?)", (key, packed(new)))
            return new is not None

        return bool(self._write(work))

    def put(self, key: str, value: Any) -> None:
        """Remember a plain value. Raises StoreError when the database is out of reach."""
        text = packed(value)
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO settings VALUES (?,?)", (key, text)))
