"""Sessions as they are read: lists from counters, transcripts page by page. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p8.errors import Conflict, NotFound, StoreError
from p8.model import Entry, Kind, SessionId, SessionRow, Status
from p8.store.pack import Codec, expand
from p8.store.plain import load, unpacked
from p8.store.sqlite import Readers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COLUMNS = (
    "s.id, s.title, s.title_source, s.project, s.project_name, s.status, s.created, s.last, s.ended, s.directory,"
    ' s.branch, s."commit", s.model, s.messages, s.commands, s.executions, s.tokens_in, s.tokens_out, s.cost, s.bytes,'
    " s.pinned, s.archived, s.trashed, s.tags, s.parent, s.fork_seq, t.entries, s.meta, s.num"
)
SOURCE = " FROM sessions s JOIN streams t USING (num)"
ORDERS = {
    "recent": ("s.last", True),
    "created": ("s.created", True),
    "size": ("s.bytes", True),
    "title": ("s.title COLLATE NOCASE", False),
}
ENTRY = "SELECT id, time, kind, role, data FROM {table} WHERE id BETWEEN ? AND ?"


class SessionTable:
    """
    Reads sessions.

    Args:
        readers: the pool of connections.
        ready: makes sure that what was recorded so far can be read; called before each query.
        codec: expands what is packed.
    """

    def __init__(self, readers: Readers, ready: Callable[[], None], codec: Codec) -> None:
        self._readers = readers
        self._ready = ready
        self._codec = codec

    def page(
        self,
        *,
        project: str | None = None,
        sort: str = "recent",
        text: str = "",
        archived: bool = False,
        trashed: bool = False,
        tag: str = "",
        named: bool = False,
        limit: int = 50,
        after: SessionRow | None = None,
    ) -> list[SessionRow]:
        """
        Return sessions, pinned ones first, newest first unless sorted otherwise.

        Args:
            project: only of this project; None for all.
            sort: recent (last activity), created, size or title.
            text: only where title, project, branch or a tag contains it, letter case aside.
            archived: only archived ones, instead of only others.
            trashed: only those in the trash, instead of only others.
            tag: only with this tag.
            named: only with a title given by hand.
            limit: at most so many.
            after: continue behind this row (keyset paging: as fast on the last page as on the first).

        Raises:
            StoreError: the database cannot be read now.
        """
        self._ready()
        column, descending = ORDERS.get(sort, ORDERS["recent"])
        where, params = self._filters(project, archived, trashed, tag, named, text)
        order = "DESC" if descending else "ASC"
        rows: list[SessionRow] = []
        pins = (1, 0) if after is None or after.pinned else (0,)
        for pinned in pins:  # two index walks instead of one sort of everything
            clause, values = [*where, f"s.pinned = {pinned}"], [*params]
            if after is not None and int(after.pinned) == pinned:
                sign = "<" if descending else ">"
                key = {"recent": after.last_us, "created": after.created_us, "size": after.size_bytes}.get(
                    sort, after.title
                )
                clause.append(f"({column}, s.num) {sign} (?, (SELECT num FROM streams WHERE id = ?))")
                values += [key, after.id]
            found = f"SELECT {COLUMNS}{SOURCE} WHERE {' AND '.join(clause)}"
            sql = f"{found} ORDER BY {column} {order}, s.num {order} LIMIT ?"
            rows += map(_row, self._readers.all(sql, (*values, limit - len(rows))))
            if len(rows) >= limit:
                break
        return rows

    def count(self, *, project: str | None = None, archived: bool = False, trashed: bool = False) -> int:
        """Return how many sessions `page` would list in all."""
        self._ready()
        where, params = self._filters(project, archived, trashed, "", False, "")
        return int(self._readers.all(f"SELECT count(*) FROM sessions s WHERE {' AND '.join(where)}", params)[0][0])

    def _filters(
        self, project: str | None, archived: bool, trashed: bool, tag: str, named: bool, text: str
    ) -> tuple[list[str], list[Any]]:
        where = [f"s.trashed IS {'NOT ' if trashed else ''}NULL"]
        params: list[Any] = []
        if not trashed:
            where.append(f"s.archived = {int(archived)}")
        if project is not None:
            where.append("s.project = ?")
            params.append(project)
        if tag:
            where.append("EXISTS (SELECT 1 FROM json_each(s.tags) WHERE value = ?)")
            params.append(tag)
        if named:
            where.append("s.title_source = 'manual'")
        for word in text.split():
            where.append(
                "(s.title LIKE ? ESCAPE '\\' OR s.project_name LIKE ? ESCAPE '\\' OR s.branch LIKE ? ESCAPE '\\'"
                " OR s.tags LIKE ? ESCAPE '\\')"
            )
            params += [f"%{_escaped(word)}%"] * 4
        return where, params

    def get(self, session_id: str) -> SessionRow:
        """
        Return one session.

        Raises:
            NotFound: there is none of that id.
        """
        self._ready()
        rows = self._readers.all(f"SELECT {COLUMNS}{SOURCE} WHERE s.id = ?", (session_id,))
        if not rows:
            raise NotFound(f"no session {session_id}", "p8 session list shows them")
        return _row(rows[0])

    def resolve(self, words: str, project: str | None = None) -> SessionRow:
        """
        Find the session a person means: "last", an id or part of one, a title or part of one.

        Raises:
            NotFound: nothing fits.
            Conflict: several fit equally well; the hint names some.
        """
        self._ready()
        if words == "last":
            rows = self.page(project=project, limit=2)
            if not rows:
                raise NotFound("no session yet" + (" in this project" if project else ""), "p8 starts one")
            return max(rows, key=lambda row: row.last_us)
        part = f"%{_escaped(words)}%"
        tries = (
            ("s.id = ?", words),
            ("s.title = ? COLLATE NOCASE AND s.trashed IS NULL", words),
            ("s.id LIKE ? ESCAPE '\\' AND s.trashed IS NULL", part),
            ("s.title LIKE ? ESCAPE '\\' AND s.trashed IS NULL", part),
        )
        for clause, value in tries:
            rows = [
                _row(r)
                for r in self._readers.all(
                    f"SELECT {COLUMNS}{SOURCE} WHERE {clause} ORDER BY s.project = ? DESC, s.last DESC LIMIT 4",
                    (value, project or ""),
                )
            ]
            if len(rows) == 1 or (rows and project and rows[0].project == project != rows[1].project):
                return rows[0]
            if rows:
                names = ", ".join(f"{row.id} ({row.title[:30] or 'untitled'})" for row in rows[:3])
                raise Conflict(f"{words!r} fits several sessions", f"{names}{' …' if len(rows) > 3 else ''}")
        raise NotFound(f"no session is called {words!r}", "p8 session list shows them, p8 search looks inside")

    def children(self, session_id: str) -> list[SessionRow]:
        """Return the forks of a session, oldest first."""
        self._ready()
        sql = f"SELECT {COLUMNS}{SOURCE} WHERE s.parent = ? AND s.trashed IS NULL ORDER BY s.num"
        return [_row(r) for r in self._readers.all(sql, (session_id,))]

    def imported(self) -> dict[tuple[str, str], SessionRow]:
        """Return the sessions that came from other tools, by tool and the tool's own id; of several the newest."""
        self._ready()
        sql = f"SELECT {COLUMNS}{SOURCE} WHERE json_extract(s.meta, '$.imported.tool') IS NOT NULL ORDER BY s.num"
        rows = [_row(row) for row in self._readers.all(sql)]
        return {(str(r.meta["imported"]["tool"]), str(r.meta["imported"].get("id", ""))): r for r in rows}

    def head(self, session_id: str) -> tuple[int, int]:
        """Return a stream's last sequence number and hash, (0, 0) for an unknown one."""
        rows = self._readers.all("SELECT entries, head FROM streams WHERE id = ?", (session_id,))
        return (rows[0][0], int.from_bytes(rows[0][1], "big")) if rows else (0, 0)

    def hash_at(self, stream: str, seq: int) -> int:
        """Return the hash of one entry, or 0."""
        key = self._num(stream) << 32 | seq
        rows = self._readers.all(
            "SELECT hash FROM entries WHERE id = ? UNION ALL SELECT hash FROM packed WHERE id = ?", (key, key)
        )
        return int.from_bytes(rows[0][0], "big") if rows else 0

    # transcripts

    def entries(
        self,
        session_id: str,
        *,
        kinds: Sequence[str] = (),
        first: int = 1,
        last: int | None = None,
        limit: int | None = None,
        newest: bool = False,
        before: Entry | None = None,
        whole: bool = False,
    ) -> list[Entry]:
        """
        Return entries of a session, oldest first; a fork's begin with its parents' up to the fork point.

        Args:
            session_id: which session.
            kinds: only of these kinds; all where none is given.
            first: sequence number in the session's own stream to begin with; beyond 1, parents are left out.
            last: sequence number in its own stream to end with.
            limit: at most so many.
            newest: of those, the last ones instead of the first ones.
            before: only what comes before this entry, for paging backwards.
            whole: large entries in full; else they come as previews (`large` set).

        Raises:
            NotFound: no such session.
            StoreError: the database cannot be read now, or an entry is damaged.
        """
        self._ready()
        parts = self._lineage(session_id)
        name, num, high = parts[-1]
        parts[-1] = (name, num, high if last is None else min(high, last))
        if before is not None:
            parts = _cut(parts, before)
        if first > 1:
            parts = parts[-1:]
        found: list[Entry] = []
        for index, (stream, number, upto) in enumerate(reversed(parts) if newest else parts):
            low = first if (index == 0 if newest else index == len(parts) - 1) else 1
            left = None if limit is None else limit - len(found)
            if left == 0:
                break
            some = self._range(stream, number, low, upto, kinds, left, newest, whole)
            found = some + found if newest else found + some
        return found

    def entry(self, session_id: str, seq: int) -> Entry:
        """
        Return one entry in full.

        Raises:
            NotFound: no such session or entry.
        """
        self._ready()
        found = self._range(session_id, self._num(session_id), seq, seq, (), 1, False, True)
        if not found:
            raise NotFound(f"session {session_id} has no entry {seq}")
        return found[0]

    def checkpoints(self, limit: int) -> list[Entry]:
        """Return the newest checkpoints of all sessions that are not in the trash, newest first, in full."""
        self._ready()
        both = " UNION ALL ".join(
            f"SELECT id, time, kind, role, data FROM {table} WHERE kind = 'checkpoint'"
            for table in ("entries", "packed")
        )
        with self._readers.get() as db:
            rows = db.execute(
                f"SELECT s.id, e.* FROM ({both}) e JOIN sessions s ON s.num = e.id >> 32 WHERE s.trashed IS NULL"
                " ORDER BY e.time DESC, e.id DESC LIMIT ?",
                (limit,),
            ).fetchall()
            return [self._entry(db, stream, row, True) for stream, *row in rows]

    def _lineage(self, session_id: str) -> list[tuple[str, int, int]]:
        """Return (stream, number, last sequence number) from the oldest ancestor down to the session itself."""
        parts: list[tuple[str, int, int]] = []
        upto: int | None = None
        at: str | None = session_id
        while at is not None and len(parts) < 1000:
            rows = self._readers.all(
                "SELECT t.num, t.entries, s.parent, s.fork_seq FROM streams t LEFT JOIN sessions s USING (num)"
                " WHERE t.id = ?",
                (at,),
            )
            if not rows:
                if parts:  # a parent that was purged: what is left is shown
                    break
                raise NotFound(f"no session {session_id}", "p8 session list shows them")
            num, entries, parent, fork_seq = rows[0]
            parts.append((at, num, entries if upto is None else min(entries, upto)))
            at, upto = parent, fork_seq
        return parts[::-1]

    def _num(self, stream: str) -> int:
        rows = self._readers.all("SELECT num FROM streams WHERE id = ?", (stream,))
        if not rows:
            raise NotFound(f"no session {stream}", "p8 session list shows them")
        return int(rows[0][0])

    def _range(
        self,
        stream: str,
        num: int,
        first: int,
        last: int,
        kinds: Sequence[str],
        limit: int | None,
        newest: bool,
        whole: bool,
    ) -> list[Entry]:
        low, high = num << 32 | max(first, 1), num << 32 | max(last, 0)
        kind = f" AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        params = (low, high, *kinds)
        if tuple(kinds) == (Kind.CHECKPOINT,):  # there is an index of them, for a statement that names them
            kind, params = f" AND kind = '{Kind.CHECKPOINT}'", (low, high)
        both = " UNION ALL ".join(ENTRY.format(table=table) + kind for table in ("entries", "packed"))
        order = f" ORDER BY 1 {'DESC' if newest else 'ASC'}" + (f" LIMIT {int(limit)}" if limit is not None else "")
        with self._readers.get() as db:
            rows = db.execute(both + order, (*params, *params)).fetchall()
            entries = [self._entry(db, stream, row, whole) for row in rows]
        return entries[::-1] if newest else entries

    def _entry(self, db: Any, stream: str, row: tuple[Any, ...], whole: bool) -> Entry:
        key, time_us, kind, role, stored = row
        seq = key & 0xFFFFFFFF
        try:
            text = stored if isinstance(stored, str) else self._codec.unpack(stored, db)
            data = load(text)
            size = None
            if text.startswith('{"$large":'):  # unless it is somebody's own word
                body = db.execute("SELECT body FROM large WHERE id = ?", (key,)).fetchone()
                size = data.pop("$large") if body is not None else None
                if size is not None and whole:
                    data, size = load(expand(body[0], size)), None
        except (StoreError, TypeError) as error:
            data, size = {"role": role, "content": f"[this entry is damaged: {error}]", "damaged": True}, None
        return Entry(stream, seq, time_us, kind, data, size is not None)

    def load_packed(self, keys: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the data of many entries by key (previews of large ones). Unreadable ones are left out."""
        found: dict[int, dict[str, Any]] = {}
        with self._readers.get() as db:
            for at in range(0, len(keys), 500):
                some = list(keys[at : at + 500])
                marks = ",".join("?" * len(some))
                one = f"SELECT id, data FROM {{}} WHERE id IN ({marks})"
                sql = f"{one.format('entries')} UNION ALL {one.format('packed')}"
                for key, stored in db.execute(sql, (*some, *some)):
                    try:
                        found[key] = load(stored if isinstance(stored, str) else self._codec.unpack(stored, db))
                    except StoreError:
                        continue
        return found


def _cut(parts: list[tuple[str, int, int]], before: Entry) -> list[tuple[str, int, int]]:
    for index, (stream, num, _upto) in enumerate(parts):
        if stream == before.stream:
            return [*parts[:index], (stream, num, before.seq - 1)]
    return parts


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _row(row: tuple[Any, ...]) -> SessionRow:
    return SessionRow(
        SessionId(row[0]), row[1], row[2], row[3], row[4], Status(row[5]), row[6], row[7], row[8], row[9], row[10],
        row[11], row[12], row[13], row[14], row[15], row[16], row[17], row[18], row[19], bool(row[20]), bool(row[21]),
        row[22], tuple(unpacked(row[23])), SessionId(row[24]) if row[24] else None, row[25], row[26],
        unpacked(row[27]),
    )  # fmt: skip
