"""Full-text search inside conversations, commands and output, and in titles.

The index is filled behind the fold, so recording never waits for it; what it has not seen yet is scanned. Ranking
looks at the newest few hundred hits only: BM25 over every hit of a common word takes 0.7 s at a million messages,
the newest of them 0.3 ms (PERFORMANCE section 5). Refuses: to open a transcript for anything but those hits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from p8.errors import UsageError
from p8.model import Hit, SessionRow, text_of, to_us
from p8.store.batch import LARGE_BYTES
from p8.store.pack import Codec
from p8.store.plain import load
from p8.store.schema import TABLES
from p8.store.sessions import COLUMNS, SOURCE, SessionTable, _row
from p8.store.sqlite import Readers, driver

CANDIDATES = 400  #: newest hits that are read and ranked
PHRASE_SCAN = 4000  #: newest hits of its words among which a phrase is looked for
UNINDEXED_SCAN = 5000
ENOUGH = 50  #: hits of whole words with which beginnings of words are not looked for
INDEX_BATCH = 500
INDEXED_CHARACTERS = 32_768
SNIPPET_BEFORE, SNIPPET_AFTER = 50, 110
INDEXED = ("message", "command", "execution", "checkpoint")
WORD = re.compile(r"\w+")
TOKEN = re.compile(r'(\w+):("[^"]*"|\S+)|"([^"]*)"|(\S+)')
FACETS = ("project", "branch", "tag", "role", "kind", "model", "before", "after", "is", "title")


@dataclass(slots=True)
class Query:
    """What was asked for, taken apart."""

    words: list[str] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    facets: dict[str, list[str]] = field(default_factory=dict)
    open_end: bool = True  #: the last word may be the beginning of one

    @property
    def terms(self) -> list[str]:
        """Return every word that must occur, in lower case."""
        return [w.lower() for part in (*self.words, *self.phrases) for w in WORD.findall(part)]


def parse_query(text: str) -> Query:
    """
    Take a query apart: words, "phrases", and facets as `name:value`.

    Raises:
        UsageError: a date that is none, or an unknown `is:`.
    """
    query = Query()
    for match in TOKEN.finditer(text):
        name, value, phrase, word = match.groups()
        if name in FACETS:
            query.facets.setdefault(name, []).append(value.strip('"'))
        elif phrase is not None:
            query.phrases.append(phrase)
        elif name:
            query.words += WORD.findall(f"{name} {value}")
        else:
            query.words += WORD.findall(word)
    query.open_end = bool(query.words) and not text.endswith((" ", '"'))
    for name in ("before", "after"):
        for value in query.facets.get(name, ()):
            day(value)
    for value in query.facets.get("is", ()):
        if value not in STATES:
            raise UsageError(f"is:{value} is not known", f"is: takes {', '.join(STATES)}")
    return query


STATES = {
    "pinned": "s.pinned = 1", "archived": "s.archived = 1", "active": "s.status = 'active'",
    "paused": "s.status = 'paused'", "completed": "s.status = 'completed'", "abandoned": "s.status = 'abandoned'",
    "fork": "s.parent IS NOT NULL", "named": "s.title_source = 'manual'",
}  # fmt: skip


def day(text: str) -> int:
    """
    Return the first microsecond of a day written as 2026-01-31, today, yesterday or 7d.

    Raises:
        UsageError: it is none of these.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text in {"today", "yesterday"}:
        return to_us(today - timedelta(days=text == "yesterday"))
    if re.fullmatch(r"\d{1,5}d", text):
        return to_us(today - timedelta(days=int(text[:-1])))
    try:
        return to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))
    except ValueError as error:
        raise UsageError(f"not a day: {text!r}", "write 2026-01-31, today, yesterday or 7d") from error


class SearchIndex:
    """
    Searches a store.

    Args:
        readers: the pool of connections.
        table: reads the entries that are shown.
        ready: makes sure that what was recorded so far can be read.
        catch_up: indexes what waits, for at most so many seconds.
    """

    def __init__(
        self, readers: Readers, table: SessionTable, ready: Callable[[], None], catch_up: Callable[[float], None]
    ) -> None:
        self._readers = readers
        self._table = table
        self._ready = ready
        self._catch_up = catch_up

    def __call__(
        self,
        query: str,
        *,
        project: str | None = None,
        limit: int = 50,
        kinds: Sequence[str] = (),
        session: str = "",
        archived: bool = True,
    ) -> list[Hit]:
        """
        Return the best hits, one a session unless `session` is given, best first.

        Args:
            query: words (all must occur, the last may be a beginning), "phrases", facets: `project:` `branch:` `tag:`
                `role:` `kind:` `model:` `title:` `before:` `after:` (2026-01-31, yesterday, 7d) `is:pinned` ….
            project: only of this project.
            limit: at most so many.
            kinds: only entries of these kinds.
            session: only in this session, all its hits, newest first.
            archived: include archived sessions.

        Raises:
            UsageError: a facet makes no sense.
            StoreError: the database cannot be read now.
        """
        asked = parse_query(query)
        self._ready()
        self._catch_up(0.2)
        titles = [] if session else self._titles(asked, project, archived, limit)
        if not asked.terms:
            return titles
        hits = self._inside(asked, project, kinds, session, archived)
        if session:
            return sorted(hits, key=lambda hit: -hit.seq)[:limit]
        best: dict[str, Hit] = {}
        for hit in (*titles, *hits):
            old = best.get(hit.session.id)
            if old is None or hit.score > old.score:
                best[hit.session.id] = hit
        return sorted(best.values(), key=lambda hit: (-hit.score, -hit.time_us))[:limit]

    def _titles(self, asked: Query, project: str | None, archived: bool, limit: int) -> list[Hit]:
        where, params = _conditions(asked, project, archived)
        for term in asked.terms:
            where.append("(s.title LIKE ? OR s.project_name LIKE ? OR s.branch LIKE ? OR s.tags LIKE ?)")
            params += [f"%{term}%"] * 4
        sql = f"SELECT {COLUMNS}{SOURCE} WHERE {' AND '.join(where)} ORDER BY s.pinned DESC, s.last DESC LIMIT ?"
        rows = [_row(r) for r in self._readers.all(sql, (*params, limit))]
        return [
            Hit(r, 0, r.last_us, "session", "", r.title, _marks(r.title, asked), 4.0 + _recency(r.last_us))
            for r in rows
        ]

    def _inside(
        self, asked: Query, project: str | None, kinds: Sequence[str], session: str, archived: bool
    ) -> list[Hit]:
        keys = self._keys(asked, session, PHRASE_SCAN if asked.phrases else CANDIDATES * 3)
        rows = self._rows({key >> 32 for key in keys}, asked, project, archived)
        keys = [key for key in keys if key >> 32 in rows]
        wanted = (*kinds, *asked.facets.get("kind", ()))
        roles = asked.facets.get("role", ())
        hits: list[Hit] = []
        for at in range(0, len(keys), CANDIDATES):
            some = keys[at : at + CANDIDATES]
            meta = self._meta(some)
            data = self._table.load_packed([k for k in some if _fits(meta.get(k), wanted, roles)])
            hits += [
                h for k in some if k in data and (h := _hit(rows[k >> 32], k, meta[k], data[k], asked)) is not None
            ]
            if len(hits) >= CANDIDATES // 2 or (hits and not asked.phrases):
                break
        return hits

    def _keys(self, asked: Query, session: str, limit: int) -> list[int]:
        """Return keys of the newest entries that hold every word, newest first."""
        terms = [f'"{term}"' for term in asked.terms]
        keys = self._match(" ".join(terms), session, limit)
        prefix = asked.open_end and not (asked.phrases and not asked.words)
        if prefix and len(keys) < ENOUGH:  # the beginning of a word costs a merge of all words that begin so
            keys = [*keys, *self._match(f"{' '.join(terms)}*", session, limit)]
        return sorted({*keys, *self._unindexed(asked, session)}, reverse=True)

    def _match(self, match: str, session: str, limit: int) -> list[int]:
        clause = ""
        if session:
            rows = self._readers.all("SELECT num FROM streams WHERE id = ?", (session,))
            num = rows[0][0] if rows else 0
            clause = f" AND rowid BETWEEN {num << 32} AND {((num + 1) << 32) - 1}"
        sql = f"SELECT rowid FROM search WHERE search MATCH ?{clause} ORDER BY rowid DESC LIMIT {int(limit)}"
        return [row[0] for row in self._readers.all(sql, (match,))]

    def _unindexed(self, asked: Query, session: str) -> list[int]:
        """Return keys of entries that the index has not seen yet and that hold every word."""
        done = self._readers.all("SELECT value FROM settings WHERE key = 'indexed'")
        waiting = self._readers.all(
            "SELECT num, first, last FROM changes WHERE id > ? ORDER BY id DESC LIMIT 50",
            (int(done[0][0]) if done else 0,),
        )
        keys: list[int] = []
        left = UNINDEXED_SCAN
        like = " AND ".join(["lower(data) LIKE ?"] * len(asked.terms))
        values = [f"%{term}%" for term in asked.terms]
        for num, first, last in waiting:
            if left <= 0:
                break
            low = max(first, last - left)
            left -= last - low + 1
            keys += [
                row[0]
                for row in self._readers.all(
                    f"SELECT id FROM entries WHERE id BETWEEN ? AND ? AND kind <> 'session' AND {like}",
                    (num << 32 | low, num << 32 | last, *values),
                )
            ]
        return keys if not session else [k for k in keys if k >> 32 == self._table._num(session)]

    def _rows(self, nums: set[int], asked: Query, project: str | None, archived: bool) -> dict[int, SessionRow]:
        where, params = _conditions(asked, project, archived)
        found: dict[int, SessionRow] = {}
        many = sorted(nums)
        for at in range(0, len(many), 500):
            some = many[at : at + 500]
            sql = f"SELECT {COLUMNS}{SOURCE} WHERE s.num IN ({','.join('?' * len(some))}) AND {' AND '.join(where)}"
            found.update((row[28], _row(row)) for row in self._readers.all(sql, (*some, *params)))
        return found

    def _meta(self, keys: list[int]) -> dict[int, tuple[int, str, str]]:
        marks = ",".join("?" * len(keys))
        sql = " UNION ALL ".join(
            f"SELECT id, time, kind, role FROM {table} WHERE id IN ({marks})" for table in ("entries", "packed")
        )
        return {row[0]: row[1:] for row in self._readers.all(sql, (*keys, *keys))}


def _conditions(asked: Query, project: str | None, archived: bool) -> tuple[list[str], list[Any]]:
    where = ["s.trashed IS NULL"]
    params: list[Any] = []
    if not archived:
        where.append("s.archived = 0")
    if project is not None:
        where.append("s.project = ?")
        params.append(project)
    for name, column in (
        ("project", "s.project_name"),
        ("branch", "s.branch"),
        ("model", "s.model"),
        ("title", "s.title"),
    ):
        for value in asked.facets.get(name, ()):
            where.append(f"{column} LIKE ?")
            params.append(f"%{value}%")
    for value in asked.facets.get("tag", ()):
        where.append("EXISTS (SELECT 1 FROM json_each(s.tags) WHERE value = ?)")
        params.append(value)
    for name, sign in (("before", "<"), ("after", ">=")):
        for value in asked.facets.get(name, ()):
            where.append(f"s.last {sign} ?")
            params.append(day(value))
    where += [STATES[value] for value in asked.facets.get("is", ())]
    return where, params


def _fits(meta: tuple[int, str, str] | None, kinds: Sequence[str], roles: Sequence[str]) -> bool:
    return meta is not None and (not kinds or meta[1] in kinds) and (not roles or meta[2] in roles)


def _hit(row: SessionRow, key: int, meta: tuple[int, str, str], data: dict[str, Any], asked: Query) -> Hit | None:
    time_us, kind, role = meta
    text = searchable(kind, data)
    lower = text.lower()
    if any(phrase.lower() not in lower for phrase in asked.phrases):
        return None
    places = [lower.find(term) for term in asked.terms]
    frequency = sum(min(lower.count(term), 5) for term in asked.terms)
    near = max(places) - min(places) if min(places, default=-1) >= 0 else 1000
    score = math.log1p(frequency) + 1.0 / (1 + near / 80) + 0.3 * (role == "user") - math.log1p(len(text) / 2000) * 0.3
    start = max(0, min((p for p in places if p >= 0), default=0) - SNIPPET_BEFORE)
    piece = text[start : start + SNIPPET_BEFORE + SNIPPET_AFTER]
    snippet = ("…" if start else "") + " ".join(piece.split()) + ("…" if start + len(piece) < len(text) else "")
    return Hit(row, key & 0xFFFFFFFF, time_us, kind, role, snippet, _marks(snippet, asked), score + _recency(time_us))


def _recency(time_us: int) -> float:
    days = max(0.0, (datetime.now(UTC).timestamp() * 1e6 - time_us) / 86_400e6)
    return 1.0 / (1 + days / 14)


def _marks(text: str, asked: Query) -> tuple[tuple[int, int], ...]:
    lower = text.lower()
    if len(lower) != len(text):
        return ()
    spans = {(m.start(), m.end()) for term in asked.terms for m in re.finditer(re.escape(term), lower)}
    return tuple(sorted(spans))


def searchable(kind: str, data: dict[str, Any]) -> str:
    """Return the text of an entry that can be found."""
    text = f"{data.get('command', '')}\n{data.get('output', '')}" if kind == "execution" else text_of(data)
    return text[:INDEXED_CHARACTERS].encode("utf-8", "replace").decode()


def index_some(db: Any, codec: Codec) -> int:
    """
    Index the next batch of what was folded; the caller holds the fold's lock.

    Returns:
        how many entries were looked at; 0 when the index is complete.
    """
    row = db.execute("SELECT value FROM settings WHERE key = 'indexed'").fetchone()
    done = int(row[0]) if row else 0
    changes = db.execute(
        "SELECT id, num, first, last FROM changes WHERE id > ? ORDER BY id LIMIT 200", (done,)
    ).fetchall()
    if not changes:
        return 0
    looked, texts = 0, []
    upto = done
    for number, num, first, last in changes:
        if looked and looked + last - first > INDEX_BATCH * 4:
            break
        low, high = num << 32 | first, num << 32 | last
        for key, kind, stored in db.execute(
            "SELECT id, kind, data FROM entries WHERE id BETWEEN ? AND ? UNION ALL"
            " SELECT id, kind, data FROM packed WHERE id BETWEEN ? AND ?",
            (low, high, low, high),
        ):
            if kind in INDEXED:
                text = searchable(kind, _whole(db, codec, key, stored))
                if text:
                    texts.append((key, text))
        looked += last - first + 1
        upto = number
        if looked >= INDEX_BATCH:
            break
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany("INSERT INTO search (rowid, text) VALUES (?,?)", texts)
        db.execute("INSERT OR REPLACE INTO settings VALUES ('indexed', ?)", (str(upto),))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return max(looked, 1)


def index_again(db: Any) -> None:
    """Empty the index and have every entry indexed again, in a transaction of the caller's, by `index_some`."""
    try:
        db.execute("INSERT INTO search (search) VALUES ('delete-all')")
    except driver.Error:  # too damaged even for that
        db.execute("DROP TABLE search")
        db.execute(next(part for part in TABLES.split(";\n") if "CREATE VIRTUAL TABLE search" in part))
    newest = db.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()[0]
    db.execute("INSERT OR REPLACE INTO settings VALUES ('indexed', ?)", (str(newest),))
    for num, entries in db.execute("SELECT num, entries FROM streams ORDER BY num").fetchall():
        spans = [(num, at, min(at + INDEX_BATCH - 1, entries)) for at in range(1, entries + 1, INDEX_BATCH)]
        db.executemany("INSERT INTO changes (num, first, last) VALUES (?,?,?)", spans)


def _whole(db: Any, codec: Codec, key: int, stored: Any) -> dict[str, Any]:
    from p8.store.pack import expand

    try:
        data = load(stored if isinstance(stored, str) else codec.unpack(stored, db))
        size = data.get("$large")
        if isinstance(size, int) and size > LARGE_BYTES:
            body = db.execute("SELECT body FROM large WHERE id = ?", (key,)).fetchone()
            data = load(expand(body[0], size)) if body is not None else data
    except Exception:
        return {}
    return data
