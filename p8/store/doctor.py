"""What is wrong with a home: the database file, each session's hash chain and counters, the index, leases, journals.

Everything that was recorded is held against the hash written with it, so a wrong bit is found even where SQLite sees
none (RELIABILITY 0.4). Refuses: to change anything; what to do about a finding is decided in `p8/core/doctor.py` and
done in `mending.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p8.errors import StoreError
from p8.model import Finding, text_of, title_from
from p8.store.chain import TOMBSTONE, Parts, claims
from p8.store.chaincheck import ChainCheck, Missing, Wrong
from p8.store.indexcheck import IndexCheck
from p8.store.journalcheck import JournalCheck
from p8.store.leases import Holder, is_alive
from p8.store.pack import Codec, expand
from p8.store.plain import load
from p8.store.reading import SEQ, Unreadable, as_text, opened, readable, rows
from p8.store.replay import Replay
from p8.store.sqlite import driver

#: a stream made up for entries whose session's row could not be saved: its name is in no hash
PLACEHOLDER = re.compile(r"19700101-000000-\d{6}-0000")
NOTED = re.compile(r"^(\S{1,120}) entry (\d+): ")
ENTRIES = (
    "SELECT id, time, kind, role, data, hash, typeof(data), '{0}' FROM {0} WHERE id BETWEEN ?1 AND ?2"
)  # fmt: skip
BOTH = " UNION ALL ".join(ENTRIES.format(table) for table in ("entries", "packed")) + " ORDER BY 1"
COUNTED = ("messages", "commands", "executions", "tokens_in", "tokens_out", "cost", "bytes", "packed")
COUNTERS = {"message": "messages", "command": "commands", "execution": "executions"}
Progress = Callable[[float, str], None]


@dataclass(slots=True)
class Stream:
    """A stream's row, with its session's where it has one."""

    num: int
    id: str
    entries: int
    head: int
    session: dict[str, Any] | None


@dataclass(slots=True)
class Tally:
    """What the entries themselves say about a session's counters."""

    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    last_us: int = 0
    title: str = ""
    whole: bool = True  #: every entry could be read


class Examiner:
    """
    Looks at a home.

    Args:
        home: the home.
        folders: where journals are.
        wal: whether the database may be in WAL mode.
        clock: microseconds since 1970.
        progress: told how far it is.
    """

    def __init__(
        self, home: Path, folders: list[Path], wal: bool, clock: Callable[[], int], progress: Progress | None = None
    ) -> None:
        self.home = home
        self.path = home / "p8.db"
        self._folders = folders
        self._wal = wal
        self._clock = clock
        self._progress = progress or (lambda _fraction, _text: None)
        self._codec = Codec()
        self.counted = {"sessions": 0, "entries": 0, "journals": 0}

    def run(self, session: str = "") -> list[Finding]:
        """
        Return what is wrong, in the order in which it should be dealt with.

        Args:
            session: look at this one (and whom it was forked from) only.
        """
        found: list[Finding] = list(self._places()) if not session else []
        if not self.path.exists():
            return found + self._journals(None, session)
        try:
            with opened(self.path, self._wal) as db:
                if not rows(db, "SELECT 1 FROM sqlite_schema"):
                    return found + self._journals(None, session)
                found += self._file(db) if not session else []
                found += self._journals(db, session)
                try:
                    found += self._inside(db, session)
                except (TypeError, ValueError, AttributeError, KeyError) as error:  # columns of kinds that cannot be
                    _log().info("rows that make no sense", exc_info=True)
                    text = f"rows that make no sense: {error}"
                    found.append(Finding("database", text, "", 0, self.path.name, SALVAGE, "error", "", REPLACE))
                found += [*self._leases(db, session), *self._unfinished(db)]
                known = self._known(db)
        except StoreError as error:
            text = f"it cannot be read: {error.message}"
            what = REPLACE if "damaged" in error.message else None
            found.append(Finding("database", text, file=self.path.name, repair=SALVAGE, level="error", what=what))
            return found + self._journals(None, session)
        return [f._replace(level="known", repair="") if f.key and f.key in known else f for f in found]

    # the file

    def _file(self, db: Any) -> Iterator[Finding]:
        """Ask SQLite itself. What it says about the search index is a matter of the index alone."""
        self._progress(0.0, "the database file")
        try:
            said = [as_text(row[0]) for row in db.execute("PRAGMA integrity_check(50)")]
        except driver.Error as error:
            said = [str(error)]
        index = [line for line in said if "fts5" in line or "search" in line.lower()]
        keys = [line for line in said if re.search(r"missing from index|entries in index|non-unique", line)]
        other = [line for line in said if line != "ok" and line not in index and line not in keys]
        for line in other[:10]:
            yield Finding(
                "database", " ".join(line.split()), file=self.path.name, level="error", repair=SALVAGE,
                what=REPLACE,
            )  # fmt: skip
        if keys and not other:
            text = f"{len(keys)} rows and their lookup indexes do not agree: {keys[0]}"
            yield Finding("database", text, file=self.path.name, repair="build them anew", what={"op": "reindex"})
        for line in index[:1]:
            yield Finding("index", line, file=self.path.name, repair=REBUILD, what={"op": "index"})

    def _places(self) -> Iterator[Finding]:
        """Look at the folders: who may get at them, and what was put aside for want of room."""
        for folder in [self.home, *self._folders]:
            try:
                state = os.lstat(folder)
            except OSError:
                continue
            private = not state.st_mode & 0o077 and state.st_uid in {os.getuid(), 0} and stat.S_ISDIR(state.st_mode)
            if not private:
                text = "is a link, not yours, or open to others"
                yield Finding("home", text, file=str(folder), repair="", level="error")
        for folder in self._folders[1:]:
            if folder.is_dir() and any(folder.iterdir()):
                text = "holds entries written while the home could not be written to"
                yield Finding("spill", text, file=str(folder), repair="moved into the database", what={"op": "fold"})

    # sessions

    def names(self) -> list[str]:
        """Return the ids of all sessions that the database names. Raises StoreError."""
        if not self.path.exists():
            return []
        with opened(self.path, self._wal) as db:
            return [stream.id for stream in self.streams(db) if not stream.id.startswith("~")]

    def streams(self, db: Any) -> list[Stream]:
        """Return every stream with its session's row."""
        columns = [as_text(row[1]) for row in rows(db, "PRAGMA table_info(sessions)")]
        names = ", ".join(f'"{name}"' for name in columns)
        sessions = {
            row[0]: dict(zip(columns, map(as_text, row), strict=True))
            for row in readable(db, f"SELECT {names} FROM sessions WHERE num BETWEEN ? AND ? ORDER BY num", *_all(db))
            if not isinstance(row, Unreadable)
        }
        found = [
            Stream(row[0], as_text(row[1]), row[2], int.from_bytes(row[3][:8], "big"), sessions.pop(row[0], None))
            for row in readable(
                db, "SELECT num, id, entries, head FROM streams WHERE num BETWEEN ? AND ? ORDER BY num", *_all(db)
            )
            if not isinstance(row, Unreadable)
        ]
        found += [Stream(num, row["id"], 0, 0, row) for num, row in sessions.items()]
        return found

    def _inside(self, db: Any, session: str) -> Iterator[Finding]:
        streams = self.streams(db)
        wanted = _lineage(streams, session) if session else None
        replay, index = Replay(), IndexCheck(db)
        names = {stream.id: stream for stream in streams}
        found: list[Finding] = []
        for at, stream in enumerate(streams):
            if wanted is not None and stream.id not in wanted and not stream.id.startswith("~"):
                continue
            self._progress(at / max(len(streams), 1), stream.id)
            found += self._stream(db, stream, names, replay, index)
        bad = {(f.session, f.seq) for f in found}
        yield from found
        yield from self._damage(db, bad, session, names)
        if wanted is None:
            yield from self._homeless(db, streams)
        yield from replay.compare(streams, wanted)
        yield from index.compare({stream.num: stream.id for stream in streams if not wanted or stream.id in wanted})
        self._progress(1.0, "")

    def _stream(
        self, db: Any, stream: Stream, names: dict[str, Stream], replay: Replay, index: IndexCheck
    ) -> Iterator[Finding]:
        self.counted["sessions"] += stream.session is not None
        check = ChainCheck(stream.id, *self._root(db, stream, names), verify=not PLACEHOLDER.fullmatch(stream.id))
        tally = Tally()
        low = stream.num << 32
        newest = max([stream.entries, *(row[0] & SEQ for row in rows(db, NEWEST, low, low | SEQ))])
        for row in readable(db, BOTH, low, low | newest):
            if isinstance(row, Unreadable):
                tally.whole = False
                continue
            self.counted["entries"] += 1
            yield from self._entry(db, stream, row, check, tally, replay, index)
        check.end(stream.entries, stream.head)
        for problem in check.problems:
            yield _about(stream, problem)
        replay.titles[stream.id] = tally.title
        yield from self._counters(stream, tally, check)

    def _entry(
        self, db: Any, stream: Stream, row: Any, check: ChainCheck, tally: Tally, replay: Replay, index: IndexCheck
    ) -> Iterator[Finding]:
        row, garbled = _sensible(row)
        key, time_us, kind, role, _data, digest, _type, table = row
        kind = kind.decode("utf-8", "surrogateescape")
        payload, error = (b"", garbled) if garbled else self.payload(db, row)
        parts = Parts(stream.id, key & SEQ, time_us, kind, payload, int.from_bytes(digest[:8], "big"))
        check.add(parts, as_text(table), error)
        data: dict[str, Any] = {}
        if not error:
            try:
                data = load(payload)
            except (StoreError, UnicodeDecodeError, ValueError):
                error = "no JSON"
        if error:
            tally.whole = False
            return
        said = data.get("role", "") if kind == "message" else ""
        if isinstance(said, str) and as_text(role) != said.encode("utf-8", "replace").decode():
            what = {"op": "role", "key": key, "table": as_text(table), "role": said}
            yield Finding(
                "chain", f"entry {key & SEQ} says {said!r}, its row {as_text(role)!r}", stream.id, key & SEQ,
                self.path.name, "taken from the entry", what=what,
            )  # fmt: skip
        if kind == "session":
            if payload != TOMBSTONE:
                replay.add(time_us, stream, payload)
        else:
            _count(tally, kind, data, len(payload), time_us)
        tally.counts["packed"] += table == b"packed"
        index.add(key, kind, data)

    def payload(self, db: Any, row: Any) -> tuple[bytes, str]:
        """Return the exact JSON of an entry's data, and what stands in the way."""
        data = row[4]
        try:
            if row[6] == b"blob":
                data = self._codec.expand(data, db)
            if data.startswith(b'{"$large":'):
                size = load(data).get("$large")
                found = rows(db, "SELECT body, size FROM large WHERE id = ?", row[0])
                if found and isinstance(size, int):
                    return expand(found[0][0], size), ""
                return data, "its text, kept apart for its size, is gone"
        except (StoreError, driver.Error, UnicodeDecodeError, TypeError, ValueError) as error:
            return b"", str(error)
        return data, ""

    def _root(self, db: Any, stream: Stream, names: dict[str, Stream]) -> tuple[int | None, str, int]:
        """Return the hash before a stream's first entry, and for a branch whose entries it holds, from which on."""
        first = rows(db, BOTH, stream.num << 32 | 1, stream.num << 32 | 1)
        if first and first[0][2] == b"session":
            with contextlib.suppress(StoreError, ValueError, UnicodeDecodeError):
                root = load(self.payload(db, first[0])[0]).get("chained_to")
                return (int(root, 16) if isinstance(root, str) else 0), "", 0
        row, base = stream.session, names.get(stream.id.rpartition("~")[0])
        if row is None or (base is None and not row["parent"]):
            return 0, "", 0
        parent, at = base or names.get(row["parent"]), int(row["fork_seq"] or 0)
        found = rows(db, BOTH, parent.num << 32 | at, parent.num << 32 | at) if parent is not None else []
        root = int.from_bytes(found[0][5][:8], "big") if found else None
        return (root, base.id, at) if base is not None else (root, "", 0)

    def _counters(self, stream: Stream, tally: Tally, check: ChainCheck) -> Iterator[Finding]:
        """Compare what the rows of a stream and its session say with what was counted."""
        wrong: dict[str, Any] = {}
        last, head = check.newest
        if last and not any(isinstance(p, Missing | Wrong) and p.seq >= last for p in check.problems):
            wrong |= {"entries": last} if stream.entries != last else {}
            wrong |= {"head": head} if stream.head != head else {}
        row = stream.session
        if row is None:
            if not stream.id.startswith("~") and last:
                yield Finding(
                    "counts", f"{last} entries belong to a session that no list knows", stream.id, 1, self.path.name,
                    "listed again", "error", what={"op": "list", "num": stream.num},
                )  # fmt: skip
            return
        if tally.whole:
            counts = tally.counts
            wrong |= {name: counts[name] for name in COUNTED[:-1] if abs(row[name] - counts[name]) > 1e-6}
            if counts["packed"] and row["packed"] != last:
                wrong |= {"packed": last}
            if tally.last_us and max(row["created"], tally.last_us) != row["last"]:
                wrong |= {"last": max(row["created"], tally.last_us)}
        if wrong:
            said = ", ".join(f"{name} {_shown(stream, name)}, really {value}" for name, value in wrong.items())
            yield Finding(
                "counts", f"counters do not fit its entries: {said}", stream.id, 0, self.path.name, "counted again",
                what={"op": "counts", "num": stream.num, "values": wrong},
            )  # fmt: skip

    def _damage(self, db: Any, told: set[tuple[str, int]], session: str, names: dict[str, Stream]) -> Iterator[Finding]:
        """Name the bytes that were no entry when they were folded."""
        for segment, offset, raw, why in rows(db, "SELECT segment, offset, raw, reason FROM damage ORDER BY id"):
            reason = as_text(why)
            noted = NOTED.match(reason)
            where, seq = (noted.group(1), int(noted.group(2))) if noted else claims(raw)
            if noted or (session and where != session) or not raw:
                continue  # what is noted about an entry is found again by its chain, or is no more
            text = f"{len(raw)} bytes are no entry: {reason}"
            where = _nearest(where, names)
            stream = names.get(where)
            what: dict[str, Any] = {"op": "damage"}
            if (where, seq) in told:
                text += "; they may be the missing entry"
            elif stream is not None:  # perhaps the last of its session: nothing came after it that would show the gap
                last = stream.entries + 1
                what |= {"num": stream.num, "problem": Missing(last, last, stream.head, where, 0)}
            yield Finding(
                "damage", text, where, seq, f"{as_text(segment)}, byte {offset}", KEEP, "error",
                f"damage:{as_text(segment)}:{offset}", what,
            )  # fmt: skip

    def _homeless(self, db: Any, streams: list[Stream]) -> Iterator[Finding]:
        """Name entries whose stream has no row."""
        known = {stream.num for stream in streams}
        for num in sorted({*_nums(db, "entries"), *_nums(db, "packed")} - known):
            count = rows(db, "SELECT count(*) FROM (SELECT id FROM entries UNION ALL SELECT id FROM packed)"
                             " WHERE id >> 32 = ?", num)[0][0]  # fmt: skip
            yield Finding(
                "chain", f"{count} entries have lost their session's name (number {num})", "", 0, self.path.name,
                "put into a session of their own", "error", what={"op": "homeless", "num": num},
            )  # fmt: skip

    # the rest

    def _journals(self, db: Any, session: str) -> list[Finding]:
        self._progress(0.0, "journals")
        check = JournalCheck(db, self._folders, self.home)
        found = [f for f in check.run() if not session or f.session in {session, ""}]
        self.counted["journals"] = check.files
        return found

    def _leases(self, db: Any, session: str) -> Iterator[Finding]:
        for held, owner, pid, started, boot, host, beat, epoch, status in rows(
            db, "SELECT l.*, s.status FROM leases l LEFT JOIN sessions s ON s.id = l.session"
        ):
            name = as_text(held)
            holder = Holder(as_text(owner), pid, as_text(started), as_text(boot), as_text(host), beat, epoch)
            if (session and name != session) or is_alive(holder, self._clock()):
                continue
            active = as_text(status) == "active"
            text = f"is held by process {pid}, which is gone"
            yield Finding(
                "lease", text, name, 0, self.path.name,
                "marked abandoned, to be resumed like a paused one" if active else "taken off it",
                what={"op": "lease", "active": active},
            )  # fmt: skip
        for (name,) in rows(db, "SELECT id FROM sessions WHERE status = 'active' AND id NOT IN (SELECT session FROM"
                                " leases)"):  # fmt: skip
            if not session or as_text(name) == session:
                yield Finding(
                    "lease", "counts as active, but no process holds it", as_text(name), 0, self.path.name,
                    "marked abandoned, to be resumed like a paused one", what={"op": "lease", "active": True},
                )  # fmt: skip

    def _unfinished(self, db: Any) -> Iterator[Finding]:
        for (value,) in rows(db, "SELECT value FROM settings WHERE key = 'purging'"):
            if as_text(value) not in {"", "null", "[]"}:
                text = "a purge was interrupted: bytes of what it removed may be left"
                yield Finding("purge", text, file=self.path.name, repair="finished", what={"op": "purge"})

    def _known(self, db: Any) -> set[str]:
        import orjson

        found = rows(db, "SELECT value FROM settings WHERE key = 'doctor'")
        try:
            return set(orjson.loads(found[0][0]).get("known", ())) if found else set()
        except (ValueError, AttributeError):
            return set()


REPLACE = {"op": "replace"}
SALVAGE = "kept aside, every row that can be read saved into a new one"
REBUILD = "built anew"
NEWEST = (
    "SELECT max(id) FROM entries WHERE id BETWEEN ?1 AND ?2 HAVING max(id) IS NOT NULL UNION ALL"
    " SELECT max(id) FROM packed WHERE id BETWEEN ?1 AND ?2 HAVING max(id) IS NOT NULL"
)


def _about(stream: Stream, problem: Missing | Wrong) -> Finding:
    """Make a finding of what the chain showed."""
    file = "p8.db"
    if isinstance(problem, Missing):
        many = f"entries {problem.seq} to {problem.last} are missing" if problem.last > problem.seq else (
            f"entry {problem.seq} is missing"
        )  # fmt: skip
        key = f"missing:{stream.id}:{problem.seq}:{problem.last}"
        return Finding("chain", many, stream.id, problem.seq, file, FIND, "error", key,
                       {"op": "missing", "num": stream.num, "problem": problem})  # fmt: skip
    if problem.hash_only:
        text = f"the hash of entry {problem.seq} was changed; the entry is as it was written"
        return Finding("chain", text, stream.id, problem.seq, file, "set right", "warning", "",
                       {"op": "hash", "num": stream.num, "problem": problem})  # fmt: skip
    text = f"entry {problem.seq} is not what was written" + (f": {problem.error}" if problem.error else "")
    key = f"changed:{stream.id}:{problem.seq}:{hash_of(problem.parts.payload)}"
    return Finding("chain", text, stream.id, problem.seq, file, FIND, "error", key,
                   {"op": "changed", "num": stream.num, "problem": problem})  # fmt: skip


KEEP = "a single wrong bit turned back; else kept as it is"
FIND = "looked for in journals and copies, a single wrong bit turned back; else kept as it is"


def hash_of(payload: bytes) -> str:
    """Return a short name of bytes."""
    from xxhash import xxh3_64_hexdigest

    return xxh3_64_hexdigest(payload)


def _sensible(row: Any) -> tuple[Any, str]:
    """Return a row of entries with values of the right kinds in it, and what was wrong with it."""
    key, time_us, kind, role, data, digest, type_, table = row
    wanted = (int, bytes, bytes, bytes, bytes)
    fits = all(isinstance(v, t) for v, t in zip((time_us, kind, role, data, digest), wanted, strict=True))
    if fits and len(digest) == 8:
        return row, ""
    return (key, 0, b"", b"", b"", bytes(8), type_, table), "its row is garbled"


def _count(tally: Tally, kind: str, data: dict[str, Any], size: int, time_us: int) -> None:
    from p8.store.journal import usage_of

    counts = tally.counts
    if kind in COUNTERS:
        counts[COUNTERS[kind]] += 1
    counts["bytes"] += size
    tally.last_us = max(tally.last_us, time_us)
    usage = usage_of(data)
    if usage is not None:
        counts["tokens_in"] += usage[0]
        counts["tokens_out"] += usage[1]
        counts["cost"] += usage[2]
    if not tally.title and kind == "message" and data.get("role") == "user":
        tally.title = title_from(text_of(data))


def _shown(stream: Stream, name: str) -> Any:
    if name in {"entries", "head"}:
        return getattr(stream, name)
    return stream.session[name] if stream.session else ""


def _lineage(streams: list[Stream], session: str) -> set[str]:
    by_name = {stream.id: stream for stream in streams}
    wanted: set[str] = set()
    at: str | None = session
    while at and at in by_name and at not in wanted:
        wanted.add(at)
        row = by_name[at].session
        at = row["parent"] if row else None
    return wanted


def _all(db: Any) -> tuple[int, int]:
    """Return bounds that hold every stream's number."""
    highest = 0
    for sql in ("SELECT max(num) FROM streams", "SELECT max(num) FROM sessions", "SELECT max(id) >> 32 FROM entries"):
        for (value,) in rows(db, sql):
            highest = max(highest, min(value or 0, 1 << 31))
    return 1, max(highest, 1)


def _nearest(name: str, names: Mapping[str, Stream]) -> str:
    """Return the stream that a name means in which a letter may be wrong."""
    if not name or name in names:
        return name
    near = (n for n in names if len(n) == len(name) and sum(a != b for a, b in zip(n, name, strict=True)) == 1)
    return next(near, name)


def _nums(db: Any, table: str) -> Iterator[int]:
    """Yield the numbers of streams that have entries in a table, jumping from one to the next."""
    at = -1 << 63
    while found := rows(db, f"SELECT id FROM {table} WHERE id >= ? ORDER BY id LIMIT 1", at):
        yield found[0][0] >> 32
        at = (found[0][0] >> 32) + 1 << 32


def _log() -> Any:
    import logging

    return logging.getLogger("p8.store")
