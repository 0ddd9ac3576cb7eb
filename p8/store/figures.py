"""Sums over sessions, projects and days, from the counters that stand beside them; no transcript is opened.

Only `active_us` looks at entries, and only at one session's times.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Read = Callable[..., list[tuple[Any, ...]]]
DAY_US = 86_400_000_000
IDLE_US = 15 * 60 * 1_000_000  #: a longer pause is no work
SUMS = "count(*), sum(messages), sum(commands), sum(executions), sum(tokens_in), sum(tokens_out), sum(cost), sum(bytes)"
NAMES = ("sessions", "messages", "commands", "executions", "tokens_in", "tokens_out", "cost", "size_bytes")


class Sums(NamedTuple):
    """Sums over sessions: of all, and by what they have in common. Each group has the names of `NAMES`."""

    totals: dict[str, Any]
    by_status: dict[str, dict[str, Any]]
    by_project: dict[str, dict[str, Any]]  #: by the project's name
    by_model: dict[str, dict[str, Any]]  #: by the model used last
    by_day: dict[int, dict[str, Any]]  #: by the day (UTC, counted from 1970) a session was last worked in
    used_us: dict[str, int]  #: when each of `by_project` was last worked in


class Figures:
    """
    Reads sums. All raise StoreError where the database is out of reach.

    Args:
        read: runs one read-only query.
    """

    def __init__(self, read: Read) -> None:
        self._read = read

    def sums(self, since_us: int, project: str | None = None) -> Sums:
        """
        Return the sums over all sessions that are not in the trash, or those of one project, in one walk over them.

        Args:
            since_us: days before this are not told apart.
            project: id.
        """
        where, params = ("", ()) if project is None else (" AND project = ?", (project,))
        rows = self._read(
            f"SELECT status, project_name, model, max(last / {DAY_US}, ?), max(last), {SUMS} FROM sessions"
            f" WHERE trashed IS NULL{where} GROUP BY 1, 2, 3, 4",
            (since_us // DAY_US - 1, *params),
        )
        found = Sums(dict.fromkeys(NAMES, 0), {}, {}, {}, {}, {})
        for status, name, model, day, last, *values in rows:
            groups = [found.by_status.setdefault(str(status), dict.fromkeys(NAMES, 0)),
                      found.by_project.setdefault(str(name), dict.fromkeys(NAMES, 0)),
                      found.by_model.setdefault(str(model), dict.fromkeys(NAMES, 0)), found.totals]  # fmt: skip
            if day >= since_us // DAY_US:
                groups.append(found.by_day.setdefault(int(day), dict.fromkeys(NAMES, 0)))
            found.used_us[str(name)] = max(found.used_us.get(str(name), 0), last)
            for key, value in zip(NAMES, values, strict=True):
                for group in groups:
                    group[key] += value
        return found

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


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
