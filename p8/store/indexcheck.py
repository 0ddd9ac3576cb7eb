"""Holds the search index against the entries: every word of every entry, and nothing else.

The index keeps no text and no list of its rows, so both sides are turned into the same shape: for each entry the sum
of its words' hashes. What the index has not seen yet is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from p8.model import Finding
from p8.store.reading import SEQ, rows
from p8.store.schema import TABLES
from p8.store.search import INDEXED, searchable
from p8.store.sqlite import driver

BATCH = 2000
MASK = (1 << 64) - 1
MOST_TERMS = 20_000  #: words that are searched for
NAMED = 12  #: entries named in one finding
REBUILD = "built anew"


class IndexCheck:
    """
    The check of one database.

    Args:
        db: a connection to it, on which a temporary table may be made.
    """

    def __init__(self, db: Any) -> None:
        self._db = db
        self._wanted: dict[int, int] = {}
        self._batch: list[tuple[int, str]] = []
        self._scratch = driver.connect(":memory:", isolation_level=None)
        self._scratch.text_factory = bytes
        self._scratch.execute(next(part for part in TABLES.split(";\n") if "CREATE VIRTUAL TABLE search" in part))
        self._scratch.execute("CREATE VIRTUAL TABLE words USING fts5vocab(search, instance)")

    def add(self, key: int, kind: str, data: dict[str, Any]) -> None:
        """Take in an entry that ought to be found."""
        if kind in INDEXED and (text := searchable(kind, data)):
            self._batch.append((key, text))
            if len(self._batch) >= BATCH:
                self._flush()

    def _flush(self) -> None:
        self._scratch.executemany("INSERT INTO search (rowid, text) VALUES (?,?)", self._batch)
        _sums(self._scratch, "words", self._wanted)
        self._scratch.execute("INSERT INTO search (search) VALUES ('delete-all')")
        self._batch = []

    def compare(self, names: Mapping[int, str]) -> Iterator[Finding]:
        """Yield what differs, a finding a session; `names` are those looked at, by number."""
        self._flush()
        self._scratch.close()
        there: dict[int, int] = {}
        try:
            self._db.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, search, instance)")
            terms = _sums(self._db, "temp.words", there)
            lost = self._unfindable(terms)
        except driver.Error as error:
            yield Finding("index", f"the search index is damaged: {error}", file="p8.db", repair=REBUILD,
                          what={"op": "index"})  # fmt: skip
            return
        if lost:
            text = f"words are in the search index and yet not found: {lost.decode('utf-8', 'replace')!r}"
            yield Finding("index", text, file="p8.db", repair=REBUILD, what={"op": "index"})
            return
        waiting = self._waiting()
        bad: dict[int, list[int]] = {}
        for key in {**self._wanted, **there}:
            if key >> 32 not in names and key in self._wanted:
                continue
            if self._wanted.get(key) != there.get(key) and not any(key in span for span in waiting.get(key >> 32, ())):
                bad.setdefault(key >> 32 if key in self._wanted else -1, []).append(key)
        strangers = [key for key in bad.pop(-1, []) if len(names) > 1]
        for num, keys in sorted(bad.items()):
            seqs = sorted(key & SEQ for key in keys)
            listed = ", ".join(map(str, seqs[:NAMED])) + (" …" if len(seqs) > NAMED else "")
            text = f"the search index does not have entries {listed} as they are"
            yield Finding("index", text, names[num], seqs[0], "p8.db", REBUILD, what={"op": "index"})
        if strangers:
            text = f"the search index has {len(strangers)} entries that do not exist or hold no words"
            yield Finding("index", text, file="p8.db", repair=REBUILD, what={"op": "index"})

    def _unfindable(self, terms: list[bytes]) -> bytes:
        """Return a word of the index that a search does not find, if there is one."""
        for term in terms[:: len(terms) // MOST_TERMS + 1]:
            quoted = '"' + term.decode("utf-8", "replace").replace('"', '""') + '"'
            if not self._db.execute("SELECT 1 FROM search WHERE search MATCH ? LIMIT 1", (quoted,)).fetchone():
                return term
        return b""

    def _waiting(self) -> dict[int, list[range]]:
        """Return the keys that the index has not come to yet, by stream number."""
        done = rows(self._db, "SELECT value FROM settings WHERE key = 'indexed'")
        found: dict[int, list[range]] = {}
        for num, first, last in rows(
            self._db, "SELECT num, first, last FROM changes WHERE id > ?", int(done[0][0]) if done else 0
        ):
            found.setdefault(num, []).append(range(num << 32 | first, (num << 32 | last) + 1))
        return found


def _sums(db: Any, table: str, into: dict[int, int]) -> list[bytes]:
    """Add the words of an index to the sums of the entries they occur in; return the words."""
    last, value = b"", 0
    terms: list[bytes] = []
    for term, doc in db.execute(f"SELECT term, doc FROM {table}"):
        if term != last:
            last, value = term, hash(term)
            terms.append(term)
        into[doc] = into.get(doc, 0) + value & MASK
    return terms
