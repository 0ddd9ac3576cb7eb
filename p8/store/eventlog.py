"""The log of what happens to instances: JSON lines, a file a day, old days deleted (row M11).

Each line is `timestamp`, `level`, `component`, `message`, `metadata`. Several processes append to it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from p8.model import from_us

PREFIX = "session-manager-"


class EventLog:
    """
    The log in a folder.

    Args:
        folder: where; made by the store.
        retention_s: days that ended so long ago are deleted when a new one begins.
    """

    def __init__(self, folder: Path, retention_s: float = 7 * 86400.0) -> None:
        self.folder = folder
        self.retention_s = retention_s
        self._day = ""

    def write(self, time_us: int, level: str, component: str, message: str, metadata: dict[str, Any]) -> None:
        """Append a line; where the disk refuses, nothing is said: the journal has it too."""
        at = from_us(time_us)
        line = {
            "timestamp": at.isoformat(timespec="milliseconds"), "level": level.upper(), "component": component,
            "message": message, "metadata": metadata,
        }  # fmt: skip
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with contextlib.suppress(OSError):
            day = at.strftime("%Y-%m-%d")
            if day != self._day:
                self._day = day
                self._tidy(at)
            number = os.open(self.folder / f"{PREFIX}{day}.log", flags, 0o600)
            try:
                os.write(number, orjson.dumps(line, default=str) + b"\n")
            finally:
                os.close(number)

    def _tidy(self, now: datetime) -> None:
        oldest = (now - timedelta(seconds=self.retention_s)).strftime("%Y-%m-%d")
        for path in self.folder.glob(f"{PREFIX}????-??-??.log"):
            if path.stem.removeprefix(PREFIX) < oldest:
                path.unlink(missing_ok=True)

    def read(self, since: datetime | None = None) -> Iterator[dict[str, Any]]:
        """Return lines, oldest first; what is no line of this log is left out."""
        first = since.astimezone(UTC) if since is not None else None
        for path in sorted(self.folder.glob(f"{PREFIX}????-??-??.log")):
            if first is not None and path.stem.removeprefix(PREFIX) < first.strftime("%Y-%m-%d"):
                continue
            with contextlib.suppress(OSError):
                for raw in path.read_bytes().splitlines():
                    line = _parsed(raw)
                    if line is not None and (first is None or datetime.fromisoformat(line["timestamp"]) >= first):
                        yield line

    def follow(self) -> Follower:
        """Return what gives the lines written from now on, by any process."""
        return Follower(self.folder)


class Follower:
    """Gives lines as they come; see `EventLog.follow`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {path: path.stat().st_size for path in folder.glob(f"{PREFIX}*.log")}

    def new(self) -> list[dict[str, Any]]:
        """Return what was written since the last call."""
        found = []
        for path in sorted(self._folder.glob(f"{PREFIX}*.log")):
            start = self._read.get(path, 0)
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(start)
                whole = file.read()
                end = whole.rfind(b"\n") + 1
                self._read[path] = start + end
                found += [line for raw in whole[:end].splitlines() if (line := _parsed(raw)) is not None]
        return found


def _parsed(raw: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(orjson.JSONDecodeError, ValueError, KeyError, TypeError):
        line = orjson.loads(raw)
        datetime.fromisoformat(line["timestamp"])
        return line if isinstance(line, dict) else None
    return None
