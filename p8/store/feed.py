"""Everything that happened, in one order, by cursor: what any process recorded, each entry once (row C9).

The order is that in which entries were folded: within a session that in which they were recorded. A cursor is valid
as long as the database is; whoever asks again with it gets what came after, also after a crash on either side.
"""

from __future__ import annotations

from collections.abc import Callable

from p8.errors import StoreError, UsageError
from p8.model import Entry
from p8.records import Record
from p8.store.pack import Codec
from p8.store.plain import load
from p8.store.sqlite import Readers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

START = "0.0"


class Event(Record):
    """One thing that happened, and the cursor behind it."""

    cursor: str
    entry: Entry


class Feed:
    """
    Reads events.

    Args:
        readers: the pool of connections.
        ready: makes sure that what any process recorded so far is folded.
        codec: expands what is packed.

    All methods raise StoreError where the database is out of reach.
    """

    def __init__(self, readers: Readers, ready: Callable[[], object], codec: Codec) -> None:
        self._readers = readers
        self._ready = ready
        self._codec = codec

    def now(self) -> str:
        """Return the cursor behind everything that has happened."""
        self._ready()
        rows = self._readers.all("SELECT id, last FROM changes ORDER BY id DESC LIMIT 1")
        return f"{rows[0][0]}.{rows[0][1]}" if rows else START

    def before_last(self, count: int) -> str:
        """Return a cursor with at most about `count` events behind it."""
        self._ready()
        rows = self._readers.all("SELECT id, first, last FROM changes ORDER BY id DESC LIMIT ?", (count,))
        for number, first, last in rows:
            count -= last - first + 1
            if count <= 0:
                return f"{number}.{first - 1 - count}"
        return START

    def after(self, cursor: str, limit: int = 500) -> list[Event]:
        """
        Return what came after a cursor, oldest first.

        Args:
            cursor: of the last event that was seen; "0.0" for the beginning.
            limit: at most so many.

        Raises:
            UsageError: it is no cursor, or one of another database.
        """
        number, done = _parsed(cursor)
        self._ready()
        newest = self._readers.all("SELECT coalesce(max(id), 0) FROM changes")[0][0]
        if number > newest:
            raise UsageError(f"the cursor {cursor} is of another database", "p8 log --after start")
        found: list[Event] = []
        while len(found) < limit:
            rows = self._readers.all(
                "SELECT c.id, t.id, c.num, c.first, c.last FROM changes c JOIN streams t USING (num)"
                " WHERE c.id >= ? ORDER BY c.id LIMIT 200",
                (number,),
            )
            for change, stream, num, first, last in rows:
                low = max(first, done + 1) if change == number else first
                if low <= last:
                    found += self._range(change, stream, num, low, last, limit - len(found))
                if len(found) >= limit:
                    return found
            if len(rows) < 200:
                break
            number, done = rows[-1][0], rows[-1][4]
        return found

    def _range(self, change: int, stream: str, num: int, first: int, last: int, limit: int) -> list[Event]:
        low, high = num << 32 | first, num << 32 | last
        both = " UNION ALL ".join(
            f"SELECT id, time, kind, data FROM {table} WHERE id BETWEEN ? AND ?" for table in ("entries", "packed")
        )
        found = []
        with self._readers.get() as db:
            for key, time_us, kind, stored in db.execute(f"{both} ORDER BY 1 LIMIT ?", (low, high, low, high, limit)):
                seq = key & 0xFFFFFFFF
                data, large = self._data(stored, db)
                found.append(Event(f"{change}.{seq}", Entry(stream, seq, time_us, kind, data, large)))
        return found

    def _data(self, stored: Any, db: Any) -> tuple[dict[str, Any], bool]:
        """Return an entry's data and whether it is a preview; a damaged one costs only itself."""
        try:
            data = load(stored if isinstance(stored, str) else self._codec.unpack(stored, db))
        except (StoreError, TypeError) as error:
            return {"what": "damaged", "text": str(error), "damaged": True}, False
        return data, data.pop("$large", None) is not None


def _parsed(cursor: str) -> tuple[int, int]:
    change, _, seq = cursor.partition(".")
    if not (change.isdecimal() and seq.isdecimal() and len(cursor) < 40):
        raise UsageError(f"not a cursor: {cursor[:40]!r}", "as p8 log --json prints them; or start, or now")
    return int(change), int(seq)
