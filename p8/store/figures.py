"""Sums over sessions, projects and days, from the counters that stand beside them; no transcript is opened.

Only `active_us` looks at entries, and only at one session's times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Read = Callable[..., list[tuple[Any, ...]]]
IDLE_US = 15 * 60 * 1_000_000  #: a longer pause is no work
SUMS = "count(*), sum(messages), sum(commands), sum(executions), sum(tokens_in), sum(tokens_out), sum(cost), sum(bytes)"
NAMES = ("sessions", "messages", "commands", "executions", "tokens_in", "tokens_out", "cost", "size_bytes")


class Figures:
    """
    Reads sums. All raise StoreError where the database is out of reach.

    Args:
        read: runs one read-only query.
    """

    def __init__(self, read: Read) -> None:
        self._read = read

    def totals(self, project: str | None = None) -> dict[str, Any]:
        """Return sums over all sessions that are not in the trash, or those of one project."""
        return self.overview(project)[0]

    def overview(self, project: str | None = None) -> tuple[dict[str, Any], dict[str, int]]:
        """Return the sums, and how many sessions are in each state: one walk over the rows for both."""
        rows = self._rows("status", project, "ORDER BY 1")
        sums = {name: sum(row[name] for _, row in rows) for name in NAMES}
        return sums, {name: row["sessions"] for name, row in rows}

    def by_model(self, project: str | None = None, limit: int = 20) -> list[tuple[str, dict[str, Any]]]:
        """Return sums by the model used last, most tokens first."""
        order = f"ORDER BY sum(tokens_in) + sum(tokens_out) DESC LIMIT {int(limit)}"
        return self._rows("model", project, order)

    def by_project(self, limit: int = 20) -> list[tuple[str, dict[str, Any]]]:
        """Return sums by project name, last used first."""
        return self._rows("project_name", None, f"ORDER BY max(last) DESC LIMIT {int(limit)}")

    def by_day(self, since_us: int, project: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Return sums by the day (UTC) on which sessions were last worked in, oldest first, without empty days."""
        where, params = _where(project)
        day = "date(last / 1000000, 'unixepoch')"
        rows = self._read(f"SELECT {day}, {SUMS} FROM sessions {where} AND last >= ? GROUP BY 1 ORDER BY 1",
                          (*params, since_us))  # fmt: skip
        return [_named(row) for row in rows]

    def by_project_id(self) -> dict[str, dict[str, Any]]:
        """Return sums by project id, with `first` and `last` activity in microseconds since 1970."""
        rows = self._read(
            f"SELECT project, {SUMS}, min(created), max(last) FROM sessions WHERE trashed IS NULL GROUP BY 1"
        )
        return {row[0]: _named(row)[1] | {"first": row[-2], "last": row[-1]} for row in rows}

    def _rows(self, key: str, project: str | None, order: str) -> list[tuple[str, dict[str, Any]]]:
        where, params = _where(project)
        return [
            _named(row) for row in self._read(f"SELECT {key}, {SUMS} FROM sessions {where} GROUP BY 1 {order}", params)
        ]

    def active_us(self, session_id: str, first: int = 1) -> int:
        """Return how long was worked in a session: the pauses between its entries, those over 15 minutes left out."""
        both = " UNION ALL ".join(
            f"SELECT e.time, e.id FROM {table} e, (SELECT num FROM streams WHERE id = ?) s"
            " WHERE e.id BETWEEN (s.num << 32 | ?) AND (s.num << 32 | 4294967295)"
            for table in ("entries", "packed")
        )
        rows = self._read(
            f"SELECT sum(pause) FROM (SELECT time - lag(time) OVER (ORDER BY id) AS pause FROM ({both}))"
            " WHERE pause BETWEEN 0 AND ?",
            (session_id, first, session_id, first, IDLE_US),
        )
        return int(rows[0][0] or 0)

    def damaged(self) -> int:
        """Return how many places of the journal could not be read as entries."""
        return int(self._read("SELECT count(*) FROM damage")[0][0])

    def sizes(self, home: Path) -> dict[str, int]:
        """Return the bytes that database, journal and snapshots take on disk."""
        pages = int(self._read("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")[0][0])
        journal = sum(_size(file) for file in (home / "journal").glob("*.jsonl"))
        count = int(self._read("SELECT count(*) FROM sessions WHERE trashed IS NULL")[0][0])
        return {"database": pages, "journal": journal, "sessions": count}


def _where(project: str | None) -> tuple[str, Sequence[Any]]:
    return ("WHERE trashed IS NULL", ()) if project is None else ("WHERE trashed IS NULL AND project = ?", (project,))


def _named(row: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    return str(row[0]), {name: value or 0 for name, value in zip(NAMES, row[1:9], strict=True)}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
