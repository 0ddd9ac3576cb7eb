"""Sets right what the doctor found, as far as it can be set right: rows, index, journals of dead processes.

Before a row or a file is changed, it is kept in a folder below `damaged/`. Everything in the database happens in
transactions, as any other write, so other processes may go on. Refuses: to touch a journal whose process lives; to
take an entry back whose hash does not say that it belongs there.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from xxhash import xxh3_64_intdigest

from p8.errors import StoreError
from p8.model import Finding
from p8.store.batch import LARGE_BYTES, put_large
from p8.store.chain import Parts, Place, body_of, claims, fits, line_of, mend_columns, mend_line, mend_payload, parts_of
from p8.store.chaincheck import Missing, Wrong
from p8.store.fold import FoldLock
from p8.store.journal import Line
from p8.store.journalcheck import JournalCheck
from p8.store.keeper import Keeper
from p8.store.pack import Codec
from p8.store.plain import load
from p8.store.reading import SEQ, Unreadable, opened, readable, rows
from p8.store.segments import Damage, read_segment
from p8.store.sources import LINE, Sources
from p8.store.unpacking import mend_dictionaries, mend_packed

NOTHING = (
    "AND NOT EXISTS (SELECT 1 FROM entries WHERE id BETWEEN ?1 << 32 AND (?1 << 32) + 4294967295)"
    " AND NOT EXISTS (SELECT 1 FROM packed WHERE id BETWEEN ?1 << 32 AND (?1 << 32) + 4294967295)"
)


class Fix(NamedTuple):
    """What one entry's row becomes."""

    num: int
    seq: int
    table: str  #: "" where the row is missing
    digest: int  #: hash in the row
    parts: Parts | None = None  #: the entry as it was written
    text: str | None = None  #: its data as far as that is text
    hash: int | None = None  #: the hash it was written with
    said: str = ""


class Mender:
    """
    Repairs one home.

    Args:
        home: the home.
        folders: where journals are.
        keeper: the writable connection.
        kept: folder for what is replaced; made when there is something to keep.
    """

    def __init__(self, home: Path, folders: list[Path], keeper: Keeper, kept: Path) -> None:
        self.kept = kept
        self._home = home
        self._folders = folders
        self._keeper = keeper

    # keeping

    def _folder(self) -> Path:
        self.kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.kept.parent.chmod(0o700)
        return self.kept

    def write(self, name: str, data: bytes, more: bool = False) -> Path:
        """Write a file into the folder for what is kept, durably; `more` adds to what is there."""
        path = self._folder() / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_APPEND if more else os.O_TRUNC)
        fd = os.open(path, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        return path

    def _keep(self, db: Any, table: str, key: int, by: str = "id") -> None:
        """Keep a row as it is, before it is changed."""
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        columns = ", ".join(f'CAST("{n}" AS BLOB), typeof("{n}")' for n in names)
        for row in db.execute(f"SELECT {columns} FROM {table} WHERE {by} = ?", (key,)).fetchall():
            values = {
                name: [row[2 * at + 1], base64.b64encode(row[2 * at] or b"").decode()] for at, name in enumerate(names)
            }
            num = key if by == "num" else key >> 32
            named = db.execute("SELECT id FROM streams WHERE num = ?", (num,)).fetchone()
            about = {"table": table, "key": key, "session": named[0] if named else "", "row": values}
            line = orjson.dumps(about, option=orjson.OPT_APPEND_NEWLINE)
            self.write("rows.jsonl", line, more=True)

    # journals

    def journals(self, paths: Iterable[Path]) -> list[str]:
        """Turn single wrong bits back in files of dead processes; the files are kept as they were first."""
        said = []
        for path in dict.fromkeys(paths):
            lock = FoldLock(path.parent / "fold.lock")
            try:
                if lock.acquire(5.0):
                    said += self._journal(path)
            except OSError as error:
                said.append(f"{path.name} could not be mended: {error.strerror}")
            finally:
                lock.close()
        return said

    def _journal(self, path: Path) -> list[str]:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return []  # its process lives
            shutil.copyfile(path, self._folder() / path.name)
            (self.kept / path.name).chmod(0o600)
            said = []
            for offset, old, new in self._better(path):
                os.pwrite(fd, new, offset)
                parts = parts_of(new)
                what = f"entry {parts.seq} of {parts.stream}" if parts is not None else f"byte {offset}"
                said.append(f"{path.name}: a wrong bit in {what} was turned back")
                del old
            os.fsync(fd)
            return said
        finally:
            os.close(fd)

    def _better(self, path: Path) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield (offset, bytes there, bytes as they were written) for what can be mended in a journal file."""
        with contextlib.ExitStack() as stack:
            db = None
            if (self._home / "p8.db").exists():
                with contextlib.suppress(StoreError):
                    db = stack.enter_context(opened(self._home / "p8.db", self._keeper.wal))
            folded = rows(db, "SELECT folded FROM journals WHERE name = ?", path.name) if db is not None else []
            check = JournalCheck(db, self._folders, self._home)
            walk = _Walk(check)
            for line in list(read_segment(path, folded[0][0] if folded else 0, True)):
                yield from walk.take(line)
            yield from walk.flush()

    # entries

    def entries(self, findings: Iterable[Finding]) -> list[str]:
        """
        Bring back entries that are missing or changed, from wherever they can be had.

        Looking for them may take minutes and holds nobody up; writing them is one short transaction.
        """
        problems = sorted(
            ((f.what["num"], f.what["problem"]) for f in findings), key=lambda item: (item[0], item[1].seq)
        )
        keys = {num << 32 | seq for num, p in problems for seq in range(p.seq, _last(p) + 1)}
        said = self._dictionaries(problems)
        with opened(self._home / "p8.db", self._keeper.wal) as db:
            kept = [(segment.decode(), offset, raw) for segment, offset, raw in rows(
                db, "SELECT segment, offset, raw FROM damage WHERE length(raw)")]  # fmt: skip
            strays = _strays(db)
            strays += [(num << 32 | p.seq, p.parts) for num, p in problems if isinstance(p, Wrong) and not p.error]
            sources = Sources(self._home, self._folders, keys, kept, [parts for _, parts in strays])
            try:
                fixes = [fix for num, problem in problems for fix in self._fixes(db, num, problem, sources)]
            finally:
                sources.close()

        def work(db: Any) -> None:
            for fix in fixes:
                self._apply(db, fix)
            self._forget(db, sources, strays, keys)
            _stir(db)

        self._keeper.write(work)
        return said + [fix.said for fix in fixes]

    def _dictionaries(self, problems: list[tuple[int, Missing | Wrong]]) -> list[str]:
        with opened(self._home / "p8.db", self._keeper.wal) as db:
            found = mend_dictionaries(db, problems)

        def work(db: Any) -> None:
            for number, body in found:
                self._keep(db, "dictionaries", number)
                # Its time is what tells other processes that it is another one.
                db.execute("UPDATE dictionaries SET body = ?, created = created + 1 WHERE id = ?", (body, number))

        if found:
            self._keeper.write(work)
        return ["a wrong bit in the dictionary of packed entries was turned back" for _ in found]

    def _fixes(self, db: Any, num: int, problem: Missing | Wrong, sources: Sources) -> Iterator[Fix]:
        if isinstance(problem, Missing):
            yield from self._missing(num, problem, sources)
            return
        name, seq = problem.parts.stream, problem.seq
        fix = Fix(num, seq, problem.table, problem.parts.digest)
        if problem.hash_only:
            yield fix._replace(hash=problem.right, said=f"{name}: the hash of entry {seq} was set right")
            return
        found = self._as_written(db, num, problem, sources)
        if found is not None:
            yield fix._replace(parts=found, said=f"{name}: entry {seq} is again as it was written")
            return
        for kind, data in rows(
            db, f"SELECT typeof(data), CAST(data AS BLOB) FROM {problem.table} WHERE id = ?", num << 32 | seq
        ):
            text = data.decode("utf-8", "replace")
            if kind == b"text" and text.encode() != data:  # no text any more: nobody could read the session over it
                yield fix._replace(
                    text=text, said=f"{name}: entry {seq} can be read again, with a mark for what is wrong"
                )

    def _missing(self, num: int, problem: Missing, sources: Sources) -> Iterator[Fix]:
        previous = problem.previous
        for seq in range(problem.seq, problem.last + 1):
            if previous is None and seq > 1:
                return
            found = sources.find(Place(problem.stream, seq + problem.offset, previous or 0), num)
            if found is None:
                return
            yield Fix(num, seq, "", 0, found, said=f"{problem.stream}: entry {seq} was found again")
            previous = found.digest

    def _as_written(self, db: Any, num: int, problem: Wrong, sources: Sources) -> Parts | None:
        parts = problem.parts
        found = sources.find(Place(parts.stream, parts.seq, problem.previous), num)
        if found is not None and parts.digest in {0, found.digest}:  # 0: not even the hash could be read
            return found
        found = mend_columns(parts, problem.previous) if not problem.error else None
        if found is None:
            found = mend_packed(db, Codec(), num << 32 | problem.seq, problem)
        if found is None and not problem.error:
            found = mend_payload(parts, problem.previous)
        return found

    def _apply(self, db: Any, fix: Fix) -> None:
        key = fix.num << 32 | fix.seq
        if not fix.table:
            here = "SELECT 1 FROM entries WHERE id = ? UNION ALL SELECT 1 FROM packed WHERE id = ?"
            if fix.parts is not None and db.execute(here, (key, key)).fetchone() is None:
                self._put(db, fix.num, fix.seq, "entries", fix.parts)
                db.execute("INSERT INTO changes (num, first, last) VALUES (?,?,?)", (fix.num, fix.seq, fix.seq))
            return
        table = fix.table
        if db.execute(f"SELECT 1 FROM {table} WHERE id = ?", (key,)).fetchone() is None:
            table = "packed" if table == "entries" else "entries"  # packed meanwhile
        self._keep(db, table, key)
        if fix.parts is not None:
            self._put(db, fix.num, fix.seq, table, fix.parts)
        elif fix.text is not None:
            db.execute(f"UPDATE {table} SET data = ? WHERE id = ?", (fix.text, key))
        elif fix.hash is not None:
            db.execute(f"UPDATE {table} SET hash = ? WHERE id = ?", (fix.hash.to_bytes(8, "big"), key))

    def _put(self, db: Any, num: int, seq: int, table: str, parts: Parts) -> None:
        key = num << 32 | seq
        data = load(parts.payload)
        role = data.get("role", "") if parts.kind == "message" else ""
        text = parts.payload.decode()
        if len(parts.payload) > LARGE_BYTES:
            db.execute("DELETE FROM large WHERE id = ?", (key,))
            text = put_large(db, key, parts.payload)
        role = role.encode("utf-8", "replace").decode() if isinstance(role, str) else ""
        row = (key, parts.time_us, parts.kind, role, text, parts.digest.to_bytes(8, "big"))
        db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?,?,?,?,?,?)", row)

    def _forget(self, db: Any, sources: Sources, strays: list[tuple[int, Parts]], keys: set[int]) -> None:
        """Drop what has found its place: bytes that were no entry, rows under a wrong name. A file keeps both."""
        for segment, offset in sources.used:
            for (number,) in db.execute(
                "SELECT id FROM damage WHERE segment = ? AND offset = ?", (segment, offset)
            ).fetchall():
                self._keep(db, "damage", number)
                db.execute("DELETE FROM damage WHERE id = ?", (number,))
        for key, parts in strays:
            digest = parts.digest.to_bytes(8, "big")
            for other in keys - {key}:
                if db.execute("SELECT 1 FROM entries WHERE id = ? AND hash = ?", (other, digest)).fetchone():
                    self._keep(db, "entries", key)
                    self._keep(db, "sessions", key >> 32, "num")
                    db.execute("DELETE FROM entries WHERE id = ?", (key,))
                    for table in ("sessions", "streams"):
                        db.execute(f"DELETE FROM {table} WHERE num = ?1 {NOTHING}", (key >> 32,))
                    break

    # rows

    def rows(self, findings: Iterable[Finding]) -> list[str]:
        """Set counters, columns and lists right."""
        said: list[str] = []

        def work(db: Any) -> None:
            for finding in findings:
                what = finding.what
                if what["op"] in {"counts", "columns"}:
                    self._columns(db, what["num"], what["values"])
                elif what["op"] == "role":
                    self._keep(db, what["table"], what["key"])
                    db.execute(f"UPDATE {what['table']} SET role = ? WHERE id = ?", (what["role"], what["key"]))
                elif what["op"] in {"list", "homeless"}:
                    self._list(db, what["num"])
                said.append(f"{finding.session or finding.file}: {finding.repair}")
            _stir(db)

        self._keeper.write(work)
        return said

    def _columns(self, db: Any, num: int, values: dict[str, Any]) -> None:
        for table, chosen in (
            ("streams", {k: v for k, v in values.items() if k in {"entries", "head"}}),
            ("sessions", {k: v for k, v in values.items() if k not in {"entries", "head"}}),
        ):
            if chosen:
                self._keep(db, table, num, "num")
                if table == "streams":
                    db.execute(
                        "INSERT OR IGNORE INTO streams (num, id) SELECT num, id FROM sessions WHERE num = ?", (num,)
                    )
                names = ", ".join(f'"{name}" = ?' for name in chosen)
                given = [v.to_bytes(8, "big") if name == "head" else v for name, v in chosen.items()]
                db.execute(f"UPDATE {table} SET {names} WHERE num = ?", (*given, num))

    def _list(self, db: Any, num: int) -> None:
        """Give entries without a stream's or a session's row one; what they are called is looked for in copies."""
        from p8.store import repair

        if not db.execute("SELECT 1 FROM streams WHERE num = ?", (num,)).fetchone():
            name = self._name(db, num)
            newest = db.execute(
                "SELECT id, hash FROM (SELECT id, hash FROM entries UNION ALL SELECT id, hash FROM packed)"
                " WHERE id >> 32 = ? ORDER BY id DESC LIMIT 1", (num,)
            ).fetchone()  # fmt: skip
            db.execute("INSERT INTO streams VALUES (?,?,?,?)", (num, name, newest[0] & SEQ, newest[1]))
        repair.list_again(db)

    def _name(self, db: Any, num: int) -> str:
        """Return the name that a stream's hashes were made with, or one that is made up."""
        found = db.execute(
            "SELECT id, time, kind, data, hash FROM entries WHERE id >> 32 = ? AND typeof(data) = 'text' ORDER BY id"
            " LIMIT 2", (num,)
        ).fetchall()  # fmt: skip
        sources = Sources(self._home, self._folders, set())
        try:
            names = sorted(sources.names()) if found else []
        finally:
            sources.close()
        for (_, _, _, _, before), (key, time_us, kind, data, digest) in zip(
            [(0, 0, "", "", bytes(8)), *found], found, strict=False
        ):
            if key & SEQ > 1 and not int.from_bytes(before, "big"):
                continue
            for name in names:
                body = body_of(name, key & SEQ, time_us, kind, data.encode())
                if xxh3_64_intdigest(body, int.from_bytes(before, "big")) == int.from_bytes(digest, "big"):
                    return name
        return f"19700101-000000-{num % 1_000_000:06d}-0000"

    # the rest

    def index(self) -> str:
        """Build the search index anew, from every entry there is."""
        from p8.store.search import index_again, index_some

        def work(db: Any) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                index_again(db)
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise
            while index_some(db, self._keeper.codec):
                pass

        self._keeper.alone(work)
        return "the search index was built anew"

    def reindex(self) -> str:
        """Build the database's lookup indexes anew."""
        self._keeper.write(lambda db: db.execute("REINDEX"))
        return "the database's lookup indexes were built anew"

    def replace(self) -> str:
        """Keep the damaged database aside and go on with what can be read of it. Raises Conflict, StoreError."""
        report = self._keeper.replace()
        self.index()
        return report.text

    def lease(self, session: str) -> str:
        """Take a lease off a session whose process is gone."""
        self._keeper.write(lambda db: db.execute("DELETE FROM leases WHERE session = ?", (session,)))
        return f"{session}: the lease of a process that is gone was taken off"

    def left(self, path: Path) -> str:
        """Remove an empty file that a dead process left."""
        with contextlib.suppress(OSError):
            if not path.stat().st_size:
                path.unlink()
        return f"{path.name} was removed: an empty file"

    def acknowledge(self, keys: set[str]) -> None:
        """Remember what has been told and cannot be set right."""

        def work(db: Any) -> None:
            found = db.execute("SELECT value FROM settings WHERE key = 'doctor'").fetchone()
            known = set(orjson.loads(found[0]).get("known", ())) if found else set()
            text = orjson.dumps({"known": sorted(known | keys)}).decode()
            db.execute("INSERT OR REPLACE INTO settings VALUES ('doctor', ?)", (text,))

        self._keeper.write(work)

    def salvage(self, sessions: Iterable[str]) -> list[Path]:
        """Write what can be read of sessions to JSON lines, as the journal had them; return the files."""
        from p8.store.doctor import BOTH, Examiner

        files = []
        with opened(self._home / "p8.db", self._keeper.wal) as db:
            examiner = Examiner(self._home, self._folders, self._keeper.wal, lambda: 0)
            for stream in examiner.streams(db):
                if stream.id not in sessions:
                    continue
                lines = []
                low = stream.num << 32
                for row in readable(db, BOTH, low, low | max(stream.entries, 1)):
                    if isinstance(row, Unreadable):
                        continue
                    payload, error = examiner.payload(db, row)
                    if not error:
                        kind, digest = row[2].decode("utf-8", "replace"), int.from_bytes(row[5][:8], "big")
                        lines.append(line_of(Parts(stream.id, row[0] & SEQ, row[1], kind, payload, digest)))
                files.append(self.write(f"{stream.id}.jsonl", b"".join(lines)))
        return files


class _Walk:
    """Goes along a journal file's lines and says which bytes should be others."""

    def __init__(self, check: JournalCheck) -> None:
        self._check = check
        self._heads: dict[str, tuple[int, int | None]] = {}
        self._waiting: Damage | None = None

    def take(self, line: Line | Damage) -> Iterator[tuple[int, bytes, bytes]]:
        if isinstance(line, Damage):
            yield from self._damage(line)
            return
        yield from self.flush()
        seq, head = self._heads.get(line.stream) or self._check.head(line.stream, line)
        if line.seq <= seq:
            return
        raw = line.raw.rstrip(b"\n")
        parts = parts_of(raw)
        if head is not None and not (parts is not None and line.seq == seq + 1 and fits(parts, head)):
            mended = mend_line(raw, self._places(raw))
            if mended is not None:
                yield line.end - len(line.raw), raw, mended
                self._learn(parts_of(mended))
                return
        self._heads[line.stream] = (line.seq, line.hash if line.hash >= 0 else None)

    def flush(self) -> Iterator[tuple[int, bytes, bytes]]:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            mended = mend_line(waiting.raw, self._places(waiting.raw))
            if mended is not None:
                yield waiting.offset, waiting.raw, mended
                self._learn(parts_of(mended))

    def _damage(self, damage: Damage) -> Iterator[tuple[int, bytes, bytes]]:
        before, self._waiting = self._waiting, None
        if before is not None:
            if before.offset + len(before.raw) + 1 == damage.offset:  # a wrong bit may have made an end of a line
                whole = before.raw + b"\n" + damage.raw
                mended = mend_line(whole, self._places(whole))
                if mended is not None:
                    yield before.offset, whole, mended
                    self._learn(parts_of(mended))
                    return
            self._waiting = before
            yield from self.flush()
        cut = damage.raw.find(LINE, 1)
        first = parts_of(damage.raw[: cut - 1]) if cut > 1 else None
        if first is not None and self._is_next(first):  # or taken one away
            self._learn(first)
            yield damage.offset + cut - 1, damage.raw[cut - 1 : cut], b"\n"
            second = parts_of(damage.raw[cut:])
            if second is not None:
                self._learn(second)
            return
        self._waiting = damage

    def _is_next(self, parts: Parts) -> bool:
        seq, head = self._heads.get(parts.stream) or self._check.head(parts.stream, None)
        return head is not None and parts.seq == seq + 1 and fits(parts, head)

    def _places(self, raw: bytes) -> list[Place]:
        """Return where a line may belong: where it says, then behind what was seen in this file."""
        name, number = claims(raw)
        seq, head = self._heads.get(name) or self._check.head(name, None)
        head = 0 if head is None and number == 1 else head
        places = [] if head is None else [Place(name, seq + 1, head)]
        return [*places, *(Place(other, at + 1, hashed) for other, (at, hashed) in self._heads.items()
                           if hashed is not None and other != name)]  # fmt: skip

    def _learn(self, parts: Parts | None) -> None:
        if parts is not None:
            self._heads[parts.stream] = (parts.seq, parts.digest)


def _last(problem: Missing | Wrong) -> int:
    return problem.last if isinstance(problem, Missing) else problem.seq


def _strays(db: Any) -> list[tuple[int, Parts]]:
    """Return the entries of streams that are no session's and no process's."""
    found = rows(
        db, "SELECT e.id, t.id, e.time, e.kind, e.data, e.hash FROM streams t JOIN entries e"
        " ON e.id BETWEEN t.num << 32 AND (t.num << 32) + 4294967295 WHERE t.id NOT LIKE '~%'"
        " AND t.num NOT IN (SELECT num FROM sessions) AND typeof(e.data) = 'text' LIMIT 10000",
    )  # fmt: skip
    return [
        (key, Parts(name.decode("utf-8", "replace"), key & SEQ, time_us, kind.decode("utf-8", "replace"), data,
                    int.from_bytes(digest, "big")))
        for key, name, time_us, kind, data, digest in found
    ]  # fmt: skip


def _stir(db: Any) -> None:
    """Make every process forget what it remembers of streams."""
    db.execute("INSERT INTO changes (num, first, last) VALUES (0, 1, 0)")
