"""Looks into journal files: what dead processes left, what is torn, what is not what was written.

Files of living processes are looked at as far as they are written. Refuses: to change a file, or to hold it open.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p8.errors import StoreError
from p8.model import Finding
from p8.store.chain import claims
from p8.store.journal import Line
from p8.store.plain import load
from p8.store.reading import as_text, rows
from p8.store.segments import Damage, chained, is_orphan, payload_of, read_segment, segments

YOUNG_S = 60.0
MEND = "a single wrong bit turned back; else the bytes are kept, and everything else moved into the database"


class JournalCheck:
    """
    The check of all journal files.

    Args:
        db: a connection to the database, or None where there is none.
        folders: where journals are.
        home: what file names are told relative to.
    """

    def __init__(self, db: Any, folders: list[Path], home: Path) -> None:
        self._db = db
        self._folders = folders
        self._home = home
        self._heads: dict[str, tuple[int, int | None]] = {}
        self.files = 0

    def run(self) -> Iterator[Finding]:
        """Yield what is wrong, file by file."""
        folded = {as_text(row[0]): row[1] for row in self._rows("SELECT name, folded FROM journals")}
        for folder in self._folders:
            for path in segments(folder):
                self.files += 1
                yield from self._file(path, folded.get(path.name, 0))
            yield from self._left(folder)

    def _file(self, path: Path, start: int) -> Iterator[Finding]:
        orphan = is_orphan(path)
        try:
            size = path.stat().st_size
        except OSError:  # folded and gone meanwhile
            return
        count, last = 0, ""
        for line in read_segment(path, start, orphan, size):
            if isinstance(line, Damage):
                yield self._damaged(path, line, last, orphan)
                continue
            count += 1
            last = line.stream
            yield from self._line(path, line, orphan)
        if orphan:
            said = (
                f"{count} entries that are not in the database yet" if count else "nothing that is not in the database"
            )
            text = f"was left by a process that is gone; it holds {said}"
            yield Finding("journal", text, last, 0, self._name(path), "moved into the database", what={"op": "fold"})

    def _line(self, path: Path, line: Line, orphan: bool) -> Iterator[Finding]:
        seq, head = self.head(line.stream, line)
        if line.seq <= seq:
            return  # there already, or by another process: the fold decides
        begin = line.end - len(line.raw)
        if line.seq > seq + 1 and (seq or head is not None):
            text = f"entries {seq + 1} to {line.seq - 1} are missing before it" if line.seq > seq + 2 else (
                f"entry {seq + 1} is missing before it"
            )  # fmt: skip
            yield self._finding(path, begin, line.stream, seq + 1, text, orphan)
        elif head is not None and (line.hash < 0 or chained(line.raw, head) != line.hash):
            yield self._finding(path, begin, line.stream, line.seq, f"entry {line.seq} is not what was written", orphan)
        self._heads[line.stream] = (line.seq, line.hash if line.hash >= 0 else None)

    def _damaged(self, path: Path, damage: Damage, last: str, orphan: bool) -> Finding:
        stream, seq = claims(damage.raw)
        if last and not self.head(stream, None)[0]:
            stream, seq = last, 0
        seq = seq or self.head(stream, None)[0] + 1
        text = f"{len(damage.raw)} bytes are no entry: {damage.reason}"
        torn = damage.reason.startswith("torn")
        return self._finding(path, damage.offset, stream, seq, text, orphan, "warning" if torn else "error")

    def _finding(
        self, path: Path, offset: int, stream: str, seq: int, text: str, orphan: bool, level: str = "error"
    ) -> Finding:
        repair = MEND if orphan else ""
        if not orphan:
            text += "; the process that writes it still runs"
        what = {"op": "journal", "path": path} if orphan else None
        return Finding("journal", text, stream, seq, f"{self._name(path)}, byte {offset}", repair, level, what=what)

    def head(self, stream: str, first: Line | None) -> tuple[int, int | None]:
        """Return where a stream stands: its last number and hash; a new one begins where its first line says."""
        known = self._heads.get(stream)
        if known is not None:
            return known
        found = self._rows("SELECT entries, head FROM streams WHERE id = ?", stream)
        if found:
            known = (found[0][0], int.from_bytes(found[0][1][:8], "big"))
        elif first is not None and first.seq == 1:
            known = (0, root_of(first.kind, payload_of(first.raw)))
        elif first is None or self._db is None:
            return (0, None)
        else:
            known = (0, 0)
        self._heads[stream] = known
        return known

    def _left(self, folder: Path) -> Iterator[Finding]:
        """Name empty files that a process left when it died while it made them."""
        for path in folder.glob("*.new") if folder.is_dir() else ():
            try:
                state = path.stat()
            except OSError:
                continue
            if not state.st_size and time.time() - state.st_mtime > YOUNG_S and is_orphan(path):
                yield Finding(
                    "journal", "an empty file left behind", file=self._name(path), repair="removed",
                    what={"op": "left", "path": path},
                )  # fmt: skip

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._home) if path.is_relative_to(self._home) else str(path)

    def _rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return rows(self._db, sql, *params) if self._db is not None else []


def root_of(kind: str, payload: bytes) -> int:
    """Return the hash that a stream's first entry is chained to: nothing, or where a fork's parent stood."""
    if kind != "session":
        return 0
    try:
        root = load(payload).get("chained_to")
        return int(root, 16) if isinstance(root, str) else 0
    except (StoreError, ValueError):
        return 0
