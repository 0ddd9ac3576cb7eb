"""P8's figures about itself (row P8): creation latency, persistence duration, memory, serialisation errors, growth.

Each process adds one line to `<home>/states/health.jsonl` when it ends; `p8 stats --health` reads them together.
A line that cannot be written is lost: figures about keeping must never stand in its way.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_BYTES = 512 << 10
KEPT_TIMES = 1000


class Timings:
    """
    How long things took in this process.

    Attributes:
        created_s: of session creations, the newest thousand.
        saved_s: of saves, likewise.
        begun_kb: memory when this was made.
    """

    def __init__(self) -> None:
        self.created_s: deque[float] = deque(maxlen=KEPT_TIMES)
        self.saved_s: deque[float] = deque(maxlen=KEPT_TIMES)
        self.begun_kb = resident_kb()
        self.sessions = 0

    def line(self, now_us: int, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Return what is written down of this process."""
        return {
            "time": now_us, "pid": os.getpid(), "create_us": _summary(self.created_s),
            "save_us": _summary(self.saved_s), "sessions": self.sessions,
            "memory_kb": resident_kb(), "grown_kb": max(0, resident_kb() - self.begun_kb), **sizes,
        }  # fmt: skip


def _summary(times: Sequence[float]) -> list[int]:
    """Return how many, the median and the worst, in microseconds."""
    if not times:
        return [0, 0, 0]
    ordered = sorted(times)
    return [len(ordered), round(ordered[len(ordered) // 2] * 1e6), round(ordered[-1] * 1e6)]


def resident_kb() -> int:
    """Return the memory this process takes; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)
    return 0


def store_bytes(home: Path) -> dict[str, int]:
    """Return what database and journal take on disk, by their names alone."""
    found = {"database": 0, "journal": 0}
    with contextlib.suppress(OSError):
        found["database"] = sum(f.stat().st_size for f in home.glob("p8.db*"))
        found["journal"] = sum(f.stat().st_size for f in (home / "journal").glob("*.jsonl"))
    return found


def note(home: Path, timings: Timings, now_us: int) -> None:
    """Write down how long creating and saving took in this process; nothing where nothing was begun or saved."""
    if timings.created_s or timings.saved_s:
        write(home, timings.line(now_us, store_bytes(home)))
        timings.created_s.clear()
        timings.saved_s.clear()


def write(home: Path, line: Mapping[str, Any]) -> None:
    """Add a line; the older half goes when the file has grown too long."""
    file = home / "states" / "health.jsonl"
    with contextlib.suppress(OSError):
        if file.exists() and file.stat().st_size > MOST_BYTES:
            lines = file.read_bytes().splitlines(keepends=True)
            young = file.with_name(f"health.{os.getpid()}.new")
            young.write_bytes(b"".join(lines[len(lines) // 2 :]))
            young.replace(file)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            import json

            os.write(fd, (json.dumps(line) + "\n").encode())
        finally:
            os.close(fd)


def read(home: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that can be read, oldest first."""
    try:
        raw = (home / "states" / "health.jsonl").read_bytes()
    except OSError:
        return
    import json

    for line in raw.splitlines():
        with contextlib.suppress(ValueError):
            data = json.loads(line)
            if isinstance(data, dict) and isinstance(data.get("time"), int):
                yield data


def figures(lines: Sequence[Mapping[str, Any]], damaged: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    """
    Return the figures of row P8 over the processes of `lines`, oldest first.

        creation latency   = median of the processes' medians; worst of all
        persistence        = likewise, of `save_session`
        memory per session = sum of what processes grew by / sum of the sessions they began
        serialisation errors = places in the journal that were no entries, as the database counts them
        storage growth     = bytes now - bytes of the first line, per day between them; None within the first hour
    """
    first, last = (lines[0], lines[-1]) if lines else ({}, {})
    days = (last.get("time", 0) - first.get("time", 0)) / 86_400_000_000
    total = sizes.get("database", 0) + sizes.get("journal", 0)
    before = first.get("database", 0) + first.get("journal", 0)
    begun = sum(line.get("sessions", 0) for line in lines)
    return {
        "creation_ms": _over(lines, "create_us"), "persistence_ms": _over(lines, "save_us"),
        "memory_per_session_kb": round(sum(line.get("grown_kb", 0) for line in lines) / begun) if begun else None,
        "serialisation_errors": damaged, "storage_bytes": total,
        "storage_growth_bytes_per_day": round((total - before) / days) if days > 1 / 24 else None,
        "processes": len(lines),
    }  # fmt: skip


def _over(lines: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    found = [line[key] for line in lines if isinstance(line.get(key), list) and len(line[key]) == 3 and line[key][0]]
    if not found:
        return None
    medians = sorted(median for _, median, _ in found)
    return {
        "count": sum(count for count, _, _ in found), "median": medians[len(medians) // 2] / 1000,
        "worst": max(worst for _, _, worst in found) / 1000,
    }  # fmt: skip
