"""Sessions' rows, made once more from the entries that said something about them, and held against what is there.

Only the fold decides what an entry does to a row; this uses it on a database in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from p8.errors import StoreError
from p8.model import Finding
from p8.store import migrations
from p8.store.batch import COLUMNS, Batch, Outcome
from p8.store.batch import Stream as Folded
from p8.store.plain import load
from p8.store.sqlite import driver

TITLE = ("title", "title_source")


class Replay:
    """What was said about sessions, in the order of time."""

    def __init__(self) -> None:
        self._said: list[tuple[int, int, int, str, bytes]] = []
        self.titles: dict[str, str] = {}  #: what the first thing said in a session makes its title

    def add(self, time_us: int, stream: Any, payload: bytes) -> None:
        """Take in an entry about a session; `stream` is where it stands."""
        self._said.append((time_us, len(self._said), stream.num, stream.id, payload))

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the sessions that an entry began, by id."""
        db = driver.connect(":memory:", isolation_level=None)
        try:
            migrations.create(db)
            db.execute("PRAGMA foreign_keys = OFF")
            db.execute("BEGIN")
            streams: dict[str, Folded] = {}
            batch = Batch(db, streams, Outcome())
            for time_us, _, num, name, payload in sorted(self._said):
                streams.setdefault(name, Folded(num, 0, 0, False, False))
                with contextlib.suppress(StoreError, UnicodeDecodeError, ValueError):
                    batch.about(time_us, payload, name)
            names = [row[1] for row in db.execute("PRAGMA table_info(sessions)")]
            return {row[names.index("id")]: dict(zip(names, row, strict=True))
                    for row in db.execute("SELECT * FROM sessions")}  # fmt: skip
        finally:
            db.close()

    def compare(self, streams: Iterable[Any], wanted: set[str] | None) -> Iterator[Finding]:
        """Yield the sessions whose rows say something else than their entries do."""
        right = self.rows()
        for stream in streams:
            there, want = stream.session, right.get(stream.id)
            if there is None or want is None or (wanted is not None and stream.id not in wanted):
                continue
            wrong = {name: want[name] for name in COLUMNS if name not in TITLE and there[name] != want[name]}
            if not want["title"] and not want["title_source"] and self.titles.get(stream.id):
                want |= {"title": self.titles[stream.id], "title_source": "auto"}
            if want["title"] and any(there[name] != want[name] for name in TITLE):
                wrong |= {name: want[name] for name in TITLE}
            if not _same(there["meta"], want["meta"]):
                wrong["meta"] = want["meta"]
            if wrong:
                text = "its row does not say what was recorded: " + ", ".join(
                    f"{name} {_short(there[name])}, recorded {_short(value)}" for name, value in wrong.items()
                )
                what = {"op": "columns", "num": stream.num, "values": wrong}
                yield Finding("counts", text, stream.id, 0, "p8.db", "set as recorded", what=what)


def _same(one: str, other: str) -> bool:
    try:
        return load(one) == load(other)
    except (StoreError, ValueError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
