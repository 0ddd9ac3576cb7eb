"""Projects, the places where they were seen, and small things to remember: plain rows, read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

Write = Callable[[Callable[[Any], Any]], Any]
Read = Callable[..., list[tuple[Any, ...]]]
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
        row = [orjson.dumps(values[f]).decode() if f == "meta" else values[f] for f in FIELDS]
        marks = ",".join("?" * len(FIELDS))
        self._write(lambda db: db.execute(f"INSERT OR REPLACE INTO projects VALUES ({marks})", row))

    def place(self, path: str, project_id: str, stamp: str = "") -> None:
        """Remember that a project was seen at a path; `stamp` is the caller's, to tell whether it still is the same."""
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO places VALUES (?,?,?)", (path, project_id, stamp)))

    def forget_place(self, path: str) -> None:
        """Forget that a project was seen at a path."""
        self._write(lambda db: db.execute("DELETE FROM places WHERE path = ?", (path,)))

    def _select(self, rest: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        rows = self._read(f"SELECT {', '.join(FIELDS)} FROM projects {rest}", params)
        return [dict(zip(FIELDS, (*row[:-1], orjson.loads(row[-1])), strict=True)) for row in rows]


class Settings:
    """Values by key: the last model, the picker's scope. For what a person sets, see config."""

    def __init__(self, write: Write, read: Read) -> None:
        self._write = write
        self._read = read

    def get(self, key: str, default: Any = None) -> Any:
        """Return a remembered value. Raises StoreError when the database is out of reach."""
        rows = self._read("SELECT value FROM settings WHERE key = ?", (key,))
        return orjson.loads(rows[0][0]) if rows else default

    def put(self, key: str, value: Any) -> None:
        """Remember a plain value. Raises StoreError when the database is out of reach."""
        text = orjson.dumps(value).decode()
        self._write(lambda db: db.execute("INSERT OR REPLACE INTO settings VALUES (?,?)", (key, text)))
