"""The rows and counters of one transaction of the fold: what entries do to sessions, and where each belongs.

Refuses: files and locks; to drop a line. One that does not fit its stream goes to a branch or is told as damage.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import starmap
from typing import Any

import orjson
from xxhash import xxh3_64_intdigest as hashed

from p8.model import text_of, title_from
from p8.store.chain import Parts, line_of
from p8.store.journal import FIELDS, Line
from p8.store.plain import column, load, plain
from p8.store.segments import HEADER, Block, Damage, chained, columns

RUN = 250  #: entries that are looked at together
GROUPS = (4000, 250, 16, 1)  #: rows of one INSERT: each call may wait 5 ms to get the interpreter's lock back
FEW = 8  #: fewer entries than this are not worth the columns of a run
MANY = 100  #: fewer lines of a file than this are not worth what decodes many
LARGE_BYTES = 65_536  #: a larger payload is compressed and kept out of line
PREVIEW_CHARACTERS = 2000
#: what an entry may set on its session's row; anything else said about a session goes to `meta`
COLUMNS = {
    "title": str, "title_source": str, "project": str, "project_name": str, "status": str, "ended": int,
    "directory": str, "branch": str, "commit": str, "model": str, "pinned": bool, "archived": bool, "trashed": int,
    "tags": list, "parent": str, "fork_seq": int,
}  # fmt: skip
NULLABLE = {"ended", "trashed", "parent", "fork_seq"}
INSERT = "INSERT OR IGNORE INTO entries (hash, id, time, kind, role, data) VALUES "
LEASE = ("owner", "pid", "started", "boot", "host")


@dataclass(slots=True)
class Stream:
    """Where a stream stands in the database."""

    num: int
    seq: int
    head: int
    titled: bool
    exists: bool  #: has a row in `sessions`
    contested: bool = False  #: another process wrote to it too, so that even our own lines must be looked at


@dataclass(slots=True)
class Tally:
    """What a batch adds to one session's counters."""

    messages: int = 0
    commands: int = 0
    executions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    size: int = 0
    last: int = 0
    title: str = ""

    def use(self, usage: tuple[int, int, float]) -> None:
        """Add tokens in, tokens out and cost."""
        self.tokens_in += usage[0]
        self.tokens_out += usage[1]
        self.cost += usage[2]


@dataclass(slots=True)
class Outcome:
    """What one call of `Fold.run` did."""

    damaged: list[Damage] = field(default_factory=list)
    branched: list[str] = field(default_factory=list)  #: streams that had to be branched
    started: list[str] = field(default_factory=list)


class Batch:
    """The rows and counters of one transaction."""

    def __init__(self, db: Any, streams: dict[str, Stream], outcome: Outcome) -> None:
        self._db = db
        self._streams = streams
        self._outcome = outcome
        self._keys: list[int] = []  # and the other columns of the rows
        self._times: list[int] = []
        self._kinds: list[str] = []
        self._roles: list[str] = []
        self._texts: list[str] = []
        self._hashes: list[int] = []
        self._kept: dict[int, int] = {}  # hashes by key, of as many rows as were needed
        self._known = 0
        self._tallies: dict[int, Tally] = {}
        self._touched: dict[str, Stream] = {}
        self._runs: list[list[int]] = []
        self.last_change = 0

    def add(self, fields: list[Any]) -> None:
        """Take in entries of this process, given as their fields one after another."""
        step = RUN * FIELDS
        for at in range(0, len(fields), step):
            part = fields[at : at + step]
            found = [part[i::FIELDS] for i in (0, 1, 2, 3, 4, 5, 6, 9)]
            if len(part) < FEW * FIELDS or not self._run(found):
                self._each(starmap(Line, zip(*[iter(part)] * FIELDS, strict=True)))

    def add_block(self, block: Block) -> None:
        """Take in lines of a journal file."""
        for at in range(0, len(block.lines), RUN):
            lines = block.lines[at : at + RUN]
            found = columns(lines) if len(lines) >= MANY else None
            if found is None or not self._run(found, lines):
                parsed = [*block.parsed(at, at + RUN)]
                for damage in parsed:
                    if isinstance(damage, Damage):
                        self.damaged(damage)
                self._each(line for line in parsed if isinstance(line, Line))

    def _run(self, found: Sequence[list[Any]], lines: list[bytes] | None = None) -> bool:
        """
        Take in, a column at a time, entries that simply go on with one stream.

        Args:
            found: streams, numbers, times, kinds, roles, data, hashes and usages.
            lines: the journal's lines, where their chain is to be checked.

        Returns:
            whether they were; else each must be looked at.
        """
        streams, seqs, times, kinds, roles, texts, digests, usages = found
        count, name = len(seqs), streams[0]
        stream = self._streams.get(name)
        if (
            stream is None
            or seqs != [*range(stream.seq + 1, stream.seq + 1 + count)]
            or streams.count(name) < count
            or "session" in kinds
            or (not stream.titled and "user" in roles)
            or max(map(len, texts)) > LARGE_BYTES // 4  # characters
        ):
            return False
        if lines is not None:
            heads = [stream.head, *digests[:-1]]
            if digests != [hashed(b"{%b\n" % line[HEADER:], head) for line, head in zip(lines, heads, strict=True)]:
                return False
        elif stream.contested:
            return False
        key = stream.num << 32 | seqs[0]
        self._keys += range(key, key + count)
        self._times += times
        self._kinds += kinds
        self._roles += [r if k == "message" and r.__class__ is str else "" for k, r in zip(kinds, roles, strict=True)]
        self._texts += texts
        self._hashes += digests
        stream.seq, stream.head = seqs[-1], digests[-1]
        self._note_run(name, stream, seqs[0], seqs[-1])
        tally = self._tally(stream)
        if tally is not None:
            tally.messages += kinds.count("message")
            tally.commands += kinds.count("command")
            tally.executions += kinds.count("execution")
            tally.size += sum(map(len if all(map(str.isascii, texts)) else _size, texts))
            tally.last = max(tally.last, *times)
            for usage in filter(None, usages):
                tally.use(usage)
        return True

    def _note_run(self, name: str, stream: Stream, first: int, last: int) -> None:
        """Remember which entries of a stream are new."""
        runs = self._runs
        if runs and runs[-1][0] == stream.num and runs[-1][2] + 1 == first:
            runs[-1][2] = last
        else:
            runs.append([stream.num, first, last])
            self._touched[name] = stream

    def _each(self, lines: Iterable[Line]) -> None:
        """Take in entries one by one. The loop is the fold's own cost per entry: what is rare has its own method."""
        name, stream, tally = "", None, None
        for line in lines:
            where, seq, time_us, kind, role, data, digest, _segment, _end, usage, raw = line
            if where != name or stream is None:
                name, stream = where, self._streams.get(where) or self._open(where, line)
                tally = self._tally(stream)
            trusted = not raw and not stream.contested
            if seq != stream.seq + 1 or not (trusted or chained(_raw(line), stream.head) == digest):
                settled = self._settle(line, stream)
                if settled is None:
                    continue
                digest, name, stream, seq = settled
                tally = self._tally(stream)
            key = stream.num << 32 | seq
            size = _size(data)
            message = kind == "message"
            role = role if message and role.__class__ is str else ""
            self._keys.append(key)
            self._times.append(time_us)
            self._kinds.append(kind)
            self._roles.append(role)
            self._texts.append(data if size <= LARGE_BYTES else put_large(self._db, key, data.encode()))
            self._hashes.append(digest)
            if seq > stream.seq:
                stream.seq, stream.head = seq, digest
            self._note_run(name, stream, seq, seq)
            if kind == "session":
                self.about(time_us, data, name)
                tally = self._tally(stream)
            elif tally is not None:
                if message:
                    tally.messages += 1
                    if not stream.titled and role == "user":
                        stream.titled = True
                        tally.title = title_from(text_of(load(data)))
                elif kind == "command":
                    tally.commands += 1
                elif kind == "execution":
                    tally.executions += 1
                tally.size += size
                tally.last = max(tally.last, time_us)
                if usage is not None:
                    tally.use(usage)

    def _tally(self, stream: Stream) -> Tally | None:
        """Return what the batch adds to a session; None for a stream that is none."""
        if not stream.exists:
            return None
        return self._tallies.setdefault(stream.num, Tally())

    def _open(self, name: str, line: Any) -> Stream:
        found = self._db.execute(
            "SELECT t.num, t.entries, t.head, s.title <> '', s.num IS NOT NULL"
            " FROM streams t LEFT JOIN sessions s USING (num) WHERE t.id = ?",
            (name,),
        ).fetchone()
        if found is None:
            num = self._db.execute("INSERT INTO streams (id) VALUES (?)", (name,)).lastrowid
            stream = Stream(num, 0, 0, False, False)
        else:
            stream = Stream(found[0], found[1], int.from_bytes(found[2], "big"), bool(found[3]), bool(found[4]))
            sql = "SELECT 1 FROM streams WHERE id > ? AND id < ? LIMIT 1"
            stream.contested = self._db.execute(sql, (f"{name}~", f"{name}~~")).fetchone() is not None
        if stream.seq == 0 and line[1] == 1 and line[3] == "session":  # a fork begins where its parent stood
            root = load(line[5]).get("chained_to")
            stream.head = int(root, 16) if isinstance(root, str) and len(root) == 16 else 0
        self._streams[name] = stream
        return stream

    def _settle(self, line: Line, stream: Stream) -> tuple[int, str, Stream, int] | None:
        """Decide about a line that is not simply the next one of its stream. None: it is there already."""
        raw = _raw(line)
        there = self._stored(stream, line.seq)
        if there is not None and there == line.hash:
            return None
        name = f"{line.stream}~{line.segment.rsplit('-', 1)[0].rsplit('-', 1)[-1]}"
        branch = self._streams.get(name)
        if there is None:
            if branch is None and self._db.execute("SELECT 1 FROM streams WHERE id = ?", (name,)).fetchone():
                branch = self._open(name, line)
            if branch is not None and branch.seq and chained(raw, branch.head) == line.hash:
                return line.hash, name, branch, branch.seq + 1  # goes on where that process was put aside
            if line.seq == stream.seq + 1:  # the bytes were changed after they were written
                self._note_damage(line, "does not fit the hash chain")
            elif line.seq > stream.seq:
                self._note_damage(line, f"entries {stream.seq + 1} to {line.seq - 1} before it are missing")
            found = line.hash if line.hash >= 0 else chained(raw, stream.head)
            return found, line.stream, stream, line.seq
        stream.contested = True
        branch = branch or self._open(name, line)
        if not branch.exists:
            self._branch(name, branch, line)
        held = self._db.execute(
            "SELECT 1 FROM entries WHERE id BETWEEN ? AND ? AND hash = ?",
            (branch.num << 32, (branch.num + 1) << 32, max(line.hash, 0).to_bytes(8, "big")),
        ).fetchone()
        return None if held is not None else (max(line.hash, 0), name, branch, branch.seq + 1)

    def _stored(self, stream: Stream, seq: int) -> int | None:
        key = stream.num << 32 | seq
        for at in range(self._known, len(self._hashes)):
            self._kept.setdefault(self._keys[at], self._hashes[at])
        self._known = len(self._hashes)
        if key in self._kept:
            return self._kept[key]
        row = self._db.execute(
            "SELECT hash FROM entries WHERE id = ? UNION ALL SELECT hash FROM packed WHERE id = ?", (key, key)
        ).fetchone()
        return int.from_bytes(row[0], "big") if row else None

    def _branch(self, name: str, branch: Stream, line: Line) -> None:
        """Make a session row for entries that another process wrote to the same session."""
        self._db.execute(
            "INSERT INTO sessions (num, id, title, title_source, project, project_name, status, created, last,"
            " directory, branch, model, parent, fork_seq)"
            " SELECT ?, ?, title || ' (written at the same time)', 'auto', project, project_name, 'abandoned', ?, ?,"
            " directory, branch, model, id, ? FROM sessions WHERE id = ?",
            (branch.num, name, line.time_us, line.time_us, line.seq - 1, line.stream),
        )
        branch.exists = branch.titled = True
        self._outcome.branched.append(line.stream)

    def about(self, time_us: int, payload: bytes | str, name: str) -> None:
        """Apply what an entry says about a session: its own, or the one it names."""
        data = load(payload)
        about, what, values = data.get("about"), data.get("what"), data.get("set")
        target = about if isinstance(about, str) and about else name
        if isinstance(what, str) and what in {"started", "forked"} and target == name:
            self._start(time_us, data, name)
        known: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for key, value in values.items() if isinstance(values, dict) else ():
            kind = COLUMNS.get(key)
            large = isinstance(value, int) and abs(value) >> 63
            if kind is not None and not large and (value is None or isinstance(value, kind)):
                known[key] = column(value)
            else:
                rest[key] = value
        if "title" in known and target in self._streams:
            self._streams[target].titled = bool(known["title"])
        self._set(target, known, rest)
        owner = data.get("owner")
        if data.get("lease") == "released" and isinstance(owner, str):
            self._db.execute("DELETE FROM leases WHERE session = ? AND owner = ?", (target, owner))

    def _start(self, time_us: int, data: dict[str, Any], name: str) -> None:
        stream = self._streams[name]
        self._db.execute(
            "INSERT OR IGNORE INTO sessions (num, id, created, last) VALUES (?,?,?,?)",
            (stream.num, name, time_us, time_us),
        )
        stream.exists = True
        lease = data.get("lease")
        if isinstance(lease, dict) and all(_fits(lease.get(part)) for part in LEASE):
            self._db.execute(
                "INSERT OR IGNORE INTO leases VALUES (:session,:owner,:pid,:started,:boot,:host,:heartbeat,1)",
                {**lease, "session": name, "heartbeat": time_us},
            )
        self._outcome.started.append(name)

    def _set(self, session: str, known: dict[str, Any], rest: dict[str, Any]) -> None:
        if known:
            names = ", ".join(f'"{name}" = ?' for name in known)
            values = [None if v is None and n in NULLABLE else "" if v is None else v for n, v in known.items()]
            self._db.execute(f"UPDATE sessions SET {names} WHERE id = ?", (*values, session))
        if rest:
            row = self._db.execute("SELECT meta FROM sessions WHERE id = ?", (session,)).fetchone()
            if row is not None:
                meta = load(row[0]) | rest
                meta = {key: value for key, value in meta.items() if value is not None}
                text = orjson.dumps(plain(meta)).decode()
                self._db.execute("UPDATE sessions SET meta = ? WHERE id = ?", (text, session))

    def damaged(self, damage: Damage) -> None:
        """Keep bytes that are no entry, for the doctor, and say so."""
        raw = damage.raw if damage.raw.strip(b"\0") else damage.raw[:4096]
        self._db.execute(
            "INSERT OR IGNORE INTO damage (found, segment, offset, raw, reason) VALUES (?,?,?,?,?)",
            (time.time_ns() // 1000, damage.segment, damage.offset, raw, damage.reason),
        )
        self._outcome.damaged.append(damage)

    def _note_damage(self, line: Line, reason: str) -> None:
        self.damaged(Damage(line.segment, line.end, b"", f"{line.stream} entry {line.seq}: {reason}"))

    def finish(self) -> None:
        """Write rows, counters and the list of changes."""
        db = self._db
        at = 0
        for group in GROUPS:
            while len(self._keys) - at >= group:
                self._insert(at, group)
                at += group
        for num, tally in self._tallies.items():
            db.execute(
                "UPDATE sessions SET messages = messages + ?, commands = commands + ?, executions = executions + ?,"
                " tokens_in = tokens_in + ?, tokens_out = tokens_out + ?, cost = cost + ?, bytes = bytes + ?,"
                " last = max(last, ?), title = CASE WHEN title = '' THEN ? ELSE title END,"
                " title_source = CASE WHEN title = '' AND ? <> '' THEN 'auto' ELSE title_source END WHERE num = ?",
                (
                    tally.messages, tally.commands, tally.executions, tally.tokens_in, tally.tokens_out, tally.cost,
                    tally.size, tally.last, tally.title, tally.title, num,
                ),
            )  # fmt: skip
        db.executemany(
            "UPDATE streams SET entries = ?, head = ? WHERE num = ?",
            [(s.seq, s.head.to_bytes(8, "big"), s.num) for s in self._touched.values()],
        )
        for num, first, last in self._runs:
            self.last_change = db.execute(
                "INSERT INTO changes (num, first, last) VALUES (?,?,?)", (num, first, last)
            ).lastrowid

    def _insert(self, at: int, count: int) -> None:
        """
        Write `count` rows from number `at` on.

        Nothing that is bound may be bytes: SQLite's driver would offer each to every adapter, at the price of a row.
        """
        part = slice(at, at + count)
        kinds, roles = self._kinds[part], self._roles[part]
        alike = count > 1 and kinds.count(kinds[0]) == roles.count(roles[0]) == count
        shown: list[list[Any]] = [self._keys[part], self._times[part], self._texts[part]]
        shown[2:2] = [] if alike else [kinds, roles]
        values: list[Any] = [bytearray(struct.pack(f">{count}Q", *self._hashes[part]))]
        values += kinds[:1] + roles[:1] if alike else []
        first, width = len(values), len(shown)
        values += [None] * (width * count)
        for index, each in enumerate(shown, first):
            values[index::width] = each
        self._db.execute(_sql(count, alike), values)


@cache
def _sql(rows: int, alike: bool) -> str:
    """Return how to insert rows: all hashes together, with `alike` one kind and one role, and then the rest of each."""
    first = "?4,?5,?2,?3,?6" if alike else "?2,?3,?4,?5,?6"
    other = "?,?,?2,?3,?" if alike else "?,?,?,?,?"
    return INSERT + ",".join(f"(substr(?1,{8 * row + 1},8),{other if row else first})" for row in range(rows))


def _size(text: str) -> int:
    """Return how many bytes a text is."""
    return len(text) if text.isascii() else len(text.encode())


def put_large(db: Any, key: int, payload: bytes) -> str:
    """Keep a large payload compressed and out of line; return what stands for it in the row."""
    from p8.store.pack import compress

    preview: dict[str, Any] = {"$large": len(payload)}
    for name, value in load(payload).items():
        if isinstance(value, str):
            preview[name] = value[:PREVIEW_CHARACTERS].encode("utf-8", "replace").decode()
        elif isinstance(value, int | float | None) and (not isinstance(value, int) or abs(value) < 2**63):
            preview[name] = value
    db.execute("INSERT OR IGNORE INTO large VALUES (?,?,?)", (key, len(payload), compress(payload)))
    return orjson.dumps(preview).decode()


def _raw(line: Line) -> bytes:
    return line.raw or line_of(Parts(line.stream, line.seq, line.time_us, line.kind, line.data.encode(), line.hash))


def _fits(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not abs(value) >> 63)
