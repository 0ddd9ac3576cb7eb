"""Removes sessions for good: rows, index, packed and large payloads, what was said about them, and their bytes.

The rows go in one transaction; then the index is merged, a dictionary that learned from them is made anew, and the file
rewritten, so that no freed page keeps a word. Journals go as soon as the processes that write them have moved on.
Refuses: to change anything else, and to touch a living process's journal itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from p8.errors import Conflict, StoreError
from p8.store import pack
from p8.store.chain import TOMBSTONE, claims
from p8.store.keeper import Keeper
from p8.store.plain import load
from p8.store.search import INDEXED, _whole, index_again, index_some, searchable
from p8.store.segments import segments
from p8.store.sqlite import connect, driver

BUSY_S = 5.0
NAMED = ("states", "cache", "logs")  #: folders with files named after the session they were made from
RANGE = "BETWEEN ?1 << 32 AND (?1 << 32) + 4294967295"


class Doomed(NamedTuple):
    """What would go with one session."""

    id: str
    title: str
    entries: int
    size_bytes: int  #: of its payloads
    notes: int  #: entries of other processes that say something about it
    trashed_us: int | None
    pinned: bool


class Gone(NamedTuple):
    """What came of a purge."""

    entries: int
    repacked: bool  #: packed entries of others were packed anew, because the dictionary had learned from these
    left: tuple[str, ...]  #: what may still hold bytes of it, and until when
    copies: tuple[str, ...]  #: kept copies of a damaged database, which may hold it


class Purge:
    """
    Purges sessions of one home.

    Args:
        home: the home.
        folders: where journals are.
        keeper: the writable connection.
    """

    def __init__(self, home: Path, folders: Sequence[Path], keeper: Keeper) -> None:
        self._home = home
        self._folders = folders
        self._keeper = keeper

    def doomed(self, ids: Sequence[str]) -> list[Doomed]:
        """Return what would go, in the order of `ids`; unknown ones are left out. Raises StoreError."""
        found = []
        for name in ids:
            for title, num, entries, size, trashed, pinned in self._keeper.readers.all(
                "SELECT s.title, s.num, t.entries, s.bytes, s.trashed, s.pinned FROM sessions s JOIN streams t USING"
                " (num) WHERE s.id = ?", (name,)
            ):  # fmt: skip
                del num
                notes = self._keeper.readers.all(f"SELECT count(*) {NOTES}", (name,))[0][0]
                found.append(Doomed(name, title, entries, size, notes, trashed, bool(pinned)))
        return found

    def forks(self, ids: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return the forks and branches of these that are not among them, as (id, title, parent). Raises StoreError."""
        return [
            (row[0], row[1], name)
            for name in ids
            for row in self._keeper.readers.all("SELECT id, title FROM sessions WHERE parent = ?", (name,))
            if row[0] not in ids
        ]

    def copies(self) -> list[Path]:
        """Return the copies of a damaged database that are kept: they may hold what is purged, and cannot be edited."""
        found = [*self._home.glob("p8.db.damaged-*"), *self._home.glob("damaged/*/p8.db*")]
        return sorted(found)

    def run(self, ids: Sequence[str], now_us: int, copies: bool = False) -> Gone:
        """
        Remove sessions.

        Args:
            ids: which; nobody may hold them, and nothing else may share their entries.
            now_us: the time.
            copies: delete the kept copies of a damaged database too.

        Raises:
            StoreError: the database is busy; nothing was removed.
        """
        state: dict[str, Any] = {}
        left: list[str] = []
        wanted = [*ids, *(name for name in self.unfinished() if name not in ids)]

        def work(db: Any) -> None:
            state.update(_remove(db, self._keeper.codec, wanted, now_us, _check_free))
            left.extend(_scrub(db, state["nums"]))

        self._keeper.alone(work)
        left += self._backups(wanted, now_us)
        left += self._kept(wanted)
        for path in self.copies() if copies else ():
            path.unlink()
        left += self._journals(wanted, now_us)
        if not left:
            left += self._keeper.alone(_finish)
        return Gone(state["entries"], state["repacked"], tuple(left), tuple(path.name for path in self.copies()))

    def unfinished(self) -> list[str]:
        """Return the sessions of a purge that did not come to its end."""
        found = self._keeper.readers.all("SELECT value FROM settings WHERE key = 'purging'")
        value = orjson.loads(found[0][0]) if found else []
        return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []

    # beside the database

    def _journals(self, ids: Sequence[str], now_us: int) -> list[str]:
        """Make every process move on to a new journal file; return the files that still hold lines of these."""
        self._keeper.write(
            lambda db: db.execute("INSERT OR REPLACE INTO settings VALUES ('turn_over', ?)", (str(now_us + 1),))
        )
        until = time.monotonic() + 12.0
        while True:
            with contextlib.suppress(StoreError):
                self._keeper.turn_over_if_asked()
                self._keeper.drain(1.0)
            holding = [path for folder in self._folders for path in segments(folder) if _mentions(path, ids)]
            if not holding or time.monotonic() > until:
                break
            time.sleep(0.25)
        return [f"{path.name}, the journal of process {path.name.split('-')[1]}, until that ends" for path in holding]

    def _kept(self, ids: Sequence[str]) -> list[str]:
        """Take these out of what the doctor has kept, and remove files that bear a session's name: handoffs."""
        failed = []
        for path in [p for folder in NAMED for p in (self._home / folder).glob("*") if any(n in p.name for n in ids)]:
            try:
                path.unlink()
            except OSError as error:
                failed.append(f"{path.parent.name}/{path.name} ({error.strerror})")
        for folder in self._home.glob("damaged/*"):
            for path in [p for p in folder.iterdir() if p.suffix in {".jsonl", ".json"}]:
                try:
                    if path.stem in ids:
                        path.unlink()
                    elif _mentions(path, ids):
                        _rewrite(path, ids)
                except OSError as error:
                    failed.append(f"{folder.name}/{path.name} ({error.strerror})")
        return failed

    def _backups(self, ids: Sequence[str], now_us: int) -> list[str]:
        """Take these out of the backups that migrations made."""
        failed = []
        for path in self._home.glob("p8.db.*.bak"):
            try:
                db = connect(path, wal=False)
                try:
                    nums = _remove(db, pack.Codec(), list(ids), now_us)["nums"]
                    db.execute("DELETE FROM settings WHERE key = 'purging'")
                    failed += _scrub(db, nums)
                finally:
                    db.close()
            except (driver.Error, StoreError) as error:
                failed.append(f"{path.name}, a backup ({error})")
        return failed


NOTES = (
    "FROM streams t JOIN entries e ON e.id BETWEEN t.num << 32 AND (t.num << 32) + 4294967295"
    " WHERE t.id LIKE '~%' AND CASE e.kind"
    " WHEN 'session' THEN CASE WHEN json_valid(e.data) THEN json_extract(e.data, '$.about') END = ?1"
    " WHEN 'event' THEN instr(e.data, ?1) END"  # an error or notice that names it
)


def _check_free(db: Any, ids: Sequence[str]) -> None:
    """Refuse what was taken out of the trash, opened or forked since it was planned. Raises Conflict."""
    for name in ids:
        row = db.execute("SELECT trashed FROM sessions WHERE id = ?", (name,)).fetchone()
        held = db.execute("SELECT 1 FROM leases WHERE session = ?", (name,)).fetchone()
        forks = db.execute("SELECT id FROM sessions WHERE parent = ?", (name,)).fetchall()
        if row is not None and (row[0] is None or held or any(fork not in ids for (fork,) in forks)):
            raise Conflict(f"session {name} was taken out of the trash, opened or forked meanwhile", "look again")


def _remove(
    db: Any, codec: pack.Codec, ids: list[str], now_us: int, check: Callable[[Any, Sequence[str]], None] | None = None
) -> dict[str, Any]:
    """Delete everything of these sessions in one transaction, and their words from index and dictionary."""
    while index_some(db, codec):
        pass
    db.execute("PRAGMA secure_delete = ON")
    db.execute("BEGIN IMMEDIATE")
    try:
        nums = [
            row[0] for name in ids for row in db.execute("SELECT num FROM streams WHERE id = ?", (name,)).fetchall()
        ]
        if check is not None:
            check(db, ids)
        texts, whole = _unindex(db, codec, nums)
        count = 0
        for num in nums:
            for table in ("entries", "packed", "large"):
                gone = db.execute(f"DELETE FROM {table} WHERE id {RANGE}", (num,)).rowcount
                count += gone if table != "large" else 0
            db.execute("UPDATE changes SET num = 0, first = 1, last = 0 WHERE num = ?", (num,))
            db.execute("DELETE FROM sessions WHERE num = ?", (num,))
            db.execute("DELETE FROM streams WHERE num = ?", (num,))
        for name in ids:
            notes = [row[0] for row in db.execute(f"SELECT e.id {NOTES}", (name,)).fetchall()]
            stone = TOMBSTONE.decode()
            db.executemany("UPDATE entries SET data = ? WHERE id = ?", [(stone, key) for key in notes])
            db.executemany("DELETE FROM large WHERE id = ?", [(key,) for key in notes])
            db.execute("DELETE FROM leases WHERE session = ?", (name,))
            db.execute(
                "DELETE FROM damage WHERE instr(raw, CAST(?1 AS BLOB)) OR substr(reason, 1, length(?1)) = ?1", (name,)
            )
        _settings(db, ids)
        repacked = pack.forget(db, codec, texts, now_us)
        if not whole:
            index_again(db)
        db.execute("INSERT INTO changes (num, first, last) VALUES (0, 1, 0)")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return {"entries": count, "repacked": repacked, "nums": nums}


def _unindex(db: Any, codec: pack.Codec, nums: list[int]) -> tuple[list[bytes], bool]:
    """Take these out of the index; return their texts, and whether every one of them could be read."""
    texts: list[bytes] = []
    whole = True
    for num in nums:
        for key, kind, data in db.execute(
            f"SELECT id, kind, data FROM entries WHERE id {RANGE} UNION ALL SELECT id, kind, data FROM packed WHERE id"
            f" {RANGE}", (num,)
        ).fetchall():  # fmt: skip
            try:
                raw = data.encode() if isinstance(data, str) else codec.expand(data, db)
                load(raw)
            except StoreError:
                whole = False
                continue
            texts.append(raw)
            text = searchable(kind, _whole(db, codec, key, data)) if kind in INDEXED else ""
            if text:
                db.execute("INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)", (key, text))
    return texts, whole


def _settings(db: Any, ids: list[str]) -> None:
    """Take these out of what is remembered: steps to undo, what the doctor has told."""
    row = db.execute("SELECT value FROM settings WHERE key = 'undo'").fetchone()
    if row is not None:
        steps = [step for step in orjson.loads(row[0]) if step.get("session") not in ids]
        db.execute("UPDATE settings SET value = ? WHERE key = 'undo'", (orjson.dumps(steps).decode(),))
    row = db.execute("SELECT value FROM settings WHERE key = 'doctor'").fetchone()
    if row is not None:
        known = [key for key in orjson.loads(row[0]).get("known", ()) if not any(name in key for name in ids)]
        db.execute("UPDATE settings SET value = ? WHERE key = 'doctor'", (orjson.dumps({"known": known}).decode(),))
    db.execute("INSERT OR REPLACE INTO settings VALUES ('purging', ?)", (orjson.dumps(ids).decode(),))


def _scrub(db: Any, nums: Sequence[int]) -> list[str]:
    """Rewrite index and file, so that nothing deleted is left in them; say what could not be done."""
    try:
        db.execute("INSERT INTO search (search) VALUES ('optimize')")
        db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS temp.words USING fts5vocab(main, search, instance)")
        spans = " OR ".join(f"doc BETWEEN {num << 32} AND {(num << 32) + 0xFFFFFFFF}" for num in nums)
        if nums and db.execute(f"SELECT 1 FROM temp.words WHERE {spans} LIMIT 1").fetchone():
            db.execute("BEGIN IMMEDIATE")
            index_again(db)
            db.execute("COMMIT")
        db.execute("DROP TABLE temp.words")
        while index_some(db, pack.Codec()):
            pass
        db.execute("VACUUM")
    except (driver.Error, StoreError) as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        return [f"free pages of the database, which could not be rewritten ({error})"]
    finally:
        db.execute("PRAGMA secure_delete = OFF")
    return _truncate(db)


def _finish(db: Any) -> list[str]:
    """Forget that there was a purge, and which sessions it removed."""
    db.execute("PRAGMA secure_delete = ON")
    db.execute("DELETE FROM settings WHERE key = 'purging'")
    db.execute("PRAGMA secure_delete = OFF")
    return _truncate(db)


def _truncate(db: Any) -> list[str]:
    until = time.monotonic() + BUSY_S
    while True:
        busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if not busy:
            return []
        if time.monotonic() > until:
            return ["the database's log, which another p8 is reading"]
        time.sleep(0.1)


def _mentions(path: Path, ids: Sequence[str]) -> bool:
    try:
        raw = path.read_bytes()
    except OSError:
        return False
    return any(name.encode() in raw for name in ids)


def _rewrite(path: Path, ids: Sequence[str]) -> None:
    """Write a file of JSON lines, or the doctor's report, again without these."""
    if path.suffix == ".json":
        data = orjson.loads(path.read_bytes())
        kept = {
            key: [v for v in values if not any(name in orjson.dumps(v).decode() for name in ids)]
            for key, values in data.items()
        }
        new = orjson.dumps(kept, option=orjson.OPT_INDENT_2)
    else:
        lines = path.read_bytes().split(b"\n")
        new = b"\n".join(line for line in lines if not _is_about(line, ids))
    young = path.with_suffix(".new")
    fd = os.open(young, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(new)
        file.flush()
        os.fsync(file.fileno())
    young.replace(path)


def _is_about(line: bytes, ids: Sequence[str]) -> bool:
    return claims(line)[0] in ids or any(b'"%b"' % name.encode() in line for name in ids)
