"""Instances and their ports: plain rows. What a row may become is `core/instances.py`'s business."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from p8.errors import StoreError
from p8.store.leases import Holder, is_alive, this_process
from p8.store.plain import packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from p8.store.sqlite import Read, Write

FIELDS = (
    "id", "project_name", "project_path", "mode", "status", "container", "port", "created", "started", "checked",
    "owner", "meta",
)  # fmt: skip
LEFT_US = 600_000_000  #: a port leased to nothing that exists for so long is free again

TABLES = """
CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    project_name TEXT NOT NULL,
    project_path TEXT NOT NULL,
    mode TEXT NOT NULL,
    status TEXT NOT NULL,
    container TEXT NOT NULL DEFAULT '',
    port INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    started INTEGER NOT NULL DEFAULT 0,
    checked INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    meta TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE ports (port INTEGER PRIMARY KEY, holder TEXT NOT NULL UNIQUE, taken INTEGER NOT NULL) STRICT;
"""


def installation_of(home: Path) -> str:
    """
    Return the random name of this installation, made at the first call; what P8 makes elsewhere bears it.

    Raises:
        StoreError: the home cannot be written to.
    """
    import re

    path = home / "states" / "installation"
    try:
        with contextlib.suppress(FileNotFoundError):
            name = path.read_text("ascii").strip()
            if re.fullmatch("[0-9a-f]{24}", name):
                return name
        fresh = path.with_name(f"installation.{os.getpid()}")
        fresh.write_text(os.urandom(12).hex(), "ascii")
        try:
            os.link(fresh, path)  # whoever is first decides
        except FileExistsError:
            if not re.fullmatch("[0-9a-f]{24}", path.read_text("ascii").strip()):
                fresh.replace(path)
        fresh.unlink(missing_ok=True)
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: {error}", "P8's home must be writable") from error


class InstanceTable:
    """
    Rows of instances as dictionaries of FIELDS; times in microseconds, `meta` plain values.

    `owner` says which process is starting or stopping it now; empty where none is.
    """

    def __init__(self, write: Write, read: Read, clock: Callable[[], int]) -> None:
        self._write = write
        self._read = read
        self._clock = clock
        self._me = packed(this_process().to_dict())

    def get(self, instance_id: str) -> dict[str, Any] | None:
        """Return one. Raises StoreError when the database is out of reach; so do all below."""
        return next(iter(self._select("WHERE id = ?", (instance_id,))), None)

    def all(self) -> list[dict[str, Any]]:
        """Return all, by id."""
        return self._select("ORDER BY id")

    def claim(
        self, row: dict[str, Any], allowed: Callable[[dict[str, Any] | None, int], None], status: str = ""
    ) -> dict[str, Any]:
        """
        Say that this process is about to start, stop or remove an instance, and return its row as it was (or as made).

        Args:
            row: what to insert where there is none of its id.
            allowed: given the standing row and how many others are up; raises where it may not be. Runs in the
                transaction, so that of two processes one is refused.
            status: what it is from now on; as it was where empty.
        """

        def work(db: Any) -> dict[str, Any]:
            found = _rows(db.execute(f"{_SELECT} WHERE id = ?", (row["id"],)).fetchall())
            others = db.execute(
                "SELECT count(*) FROM instances WHERE id <> ? AND status IN ('initializing','running','paused')",
                (row["id"],),
            ).fetchone()[0]
            allowed(found[0] if found else None, others)
            before = found[0] if found else _blank(row, self._clock())
            if not found:
                _insert(db, before)
            now = (self._me, status or before["status"], row["id"])
            db.execute("UPDATE instances SET owner = ?, status = ? WHERE id = ?", now)
            return before

        return self._write(work)  # type: ignore[no-any-return]

    def busy(self, row: dict[str, Any]) -> bool:
        """Return whether another living process is at work on an instance."""
        if not row["owner"] or row["owner"] == self._me:
            return False
        said = unpacked(row["owner"])
        holder = Holder(said["owner"], said["pid"], said["started"], said["boot"], said["host"], self._clock(), 0)
        return is_alive(holder, self._clock())

    def update(self, instance_id: str, meta: dict[str, Any] | None = None, **values: Any) -> None:
        """Change fields of one; `meta` is merged into what is there."""

        def work(db: Any) -> None:
            sets = dict(values)
            if meta is not None:
                old = db.execute("SELECT meta FROM instances WHERE id = ?", (instance_id,)).fetchone()
                sets["meta"] = packed({**unpacked(old[0] if old else "{}"), **meta})
            names = ", ".join(f"{name} = ?" for name in sets)
            db.execute(f"UPDATE instances SET {names} WHERE id = ?", (*sets.values(), instance_id))

        if values or meta is not None:
            self._write(work)

    def insert(self, row: dict[str, Any]) -> None:
        """Add one that was found; an existing one stays as it is."""
        self._write(lambda db: _insert(db, _blank(row, self._clock())))

    def remove(self, instance_id: str) -> None:
        """Forget one, and its port."""

        def work(db: Any) -> None:
            db.execute("DELETE FROM ports WHERE holder = ?", (instance_id,))
            db.execute("DELETE FROM instances WHERE id = ?", (instance_id,))

        self._write(work)

    def _select(self, rest: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return _rows(self._read(f"{_SELECT} {rest}", params))


class PortTable:
    """Leases of ports. The lock of the transaction is what keeps two processes from one port."""

    def __init__(self, write: Write, read: Read, clock: Callable[[], int]) -> None:
        self._write = write
        self._read = read
        self._clock = clock

    def take(
        self, holder: str, candidates: range, preferred: int, free: Callable[[int], bool], avoid: Collection[int] = ()
    ) -> int:
        """Lease the first port that nobody holds and that is free, `preferred` first; return 0 where there is none."""

        def work(db: Any) -> int:
            now = self._clock()
            db.execute(
                "DELETE FROM ports WHERE taken < ? AND holder NOT IN (SELECT id FROM instances)", (now - LEFT_US,)
            )
            leased = dict(db.execute("SELECT port, holder FROM ports").fetchall())
            mine = next((port for port, held in leased.items() if held == holder), 0)
            for port in dict.fromkeys([*([preferred] if preferred else []), *([mine] if mine else []), *candidates]):
                if port in avoid or leased.get(port, holder) != holder or not free(port):
                    continue
                db.execute("DELETE FROM ports WHERE holder = ?", (holder,))
                db.execute("INSERT INTO ports VALUES (?,?,?)", (port, holder, now))
                return int(port)
            return 0

        return self._write(work)  # type: ignore[no-any-return]

    def hold(self, holder: str, port: int) -> bool:
        """Lease the port of an instance found running; return whether nobody else had it."""

        def work(db: Any) -> bool:
            found = db.execute("SELECT holder FROM ports WHERE port = ?", (port,)).fetchone()
            if found is not None:
                return bool(found[0] == holder)
            db.execute("DELETE FROM ports WHERE holder = ?", (holder,))
            db.execute("INSERT INTO ports VALUES (?,?,?)", (port, holder, self._clock()))
            return True

        return self._write(work)  # type: ignore[no-any-return]

    def release(self, holder: str) -> None:
        """Give a holder's port back."""
        self._write(lambda db: db.execute("DELETE FROM ports WHERE holder = ?", (holder,)))

    def all(self) -> dict[int, str]:
        """Return holders by port."""
        return dict(self._read("SELECT port, holder FROM ports ORDER BY port"))


_SELECT = f"SELECT {', '.join(FIELDS)} FROM instances"


def _rows(rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(FIELDS, (*row[:-1], unpacked(row[-1])), strict=True)) for row in rows]


def _blank(row: dict[str, Any], now: int) -> dict[str, Any]:
    blank = {"status": "stopped", "container": "", "port": 0, "created": now, "started": 0, "checked": 0, "owner": ""}
    return {**blank, "meta": {}, **row}


def _insert(db: Any, row: dict[str, Any]) -> None:
    values = [packed(row[f]) if f == "meta" else row[f] for f in FIELDS]
    db.execute(f"INSERT OR IGNORE INTO instances VALUES ({','.join('?' * len(FIELDS))})", values)
