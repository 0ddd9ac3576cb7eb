"""Somebody else's SQLite file, read through a process of its own (`database_process.py`), never opened in this one.

A file with a journal or write-ahead log beside it is in use: it is copied with them, and the copy is read. The original
and its folder are not written to, not even to lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from p8.errors import FormatError

HEADER = b"SQLite format 3\0"
SIDES = ("-wal", "-journal")
COPY_BYTES = 8 << 30
TRIES = 3
ROW_BYTES = 1 << 28


class Database:
    """
    A foreign database, open for reading; use it in a `with`.

    Args:
        path: the file.
        tables: the only ones that can be read.

    Raises:
        FormatError: it is no database, or cannot be opened.
    """

    def __init__(self, path: Path, tables: Sequence[str]) -> None:
        self.path = path
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._columns: dict[str, list[str]] = {}
        if not path.is_file():
            raise FormatError(f"{path} is not a file")
        in_use = any(_size(Path(f"{path}{side}")) for side in SIDES)
        place = self._copy() if in_use else path
        program = [sys.executable, "-I", str(Path(__file__).with_name("database_process.py"))]
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=True,
            cwd="/", env={},
        )  # fmt: skip
        self._ask({"path": str(place.absolute()), "tables": [*tables], "immutable": not in_use})
        said = self._answer()
        if "error" in said:
            self.close()
            raise FormatError(f"{path}: {said['error']}", "it may be damaged, or no database")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _copy(self) -> Path:
        """Return a copy that nobody writes to, whole as of one moment as far as can be seen."""
        sizes = [_size(self.path), *(_size(Path(f"{self.path}{side}")) for side in SIDES)]
        if sum(sizes) > COPY_BYTES:
            raise FormatError(f"{self.path} is in use and too large to be copied", "close the program that uses it")
        self._folder = tempfile.TemporaryDirectory(prefix="p8-import-")
        copy = Path(self._folder.name) / "copy.db"
        try:
            for _ in range(TRIES):
                before = self._state()
                for side in ("", *SIDES):
                    Path(f"{copy}{side}").unlink(missing_ok=True)
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copyfile(f"{self.path}{side}", f"{copy}{side}")
                if self._state() == before:
                    return copy
        except OSError as error:
            self._folder.cleanup()
            raise FormatError(f"{self.path} is in use and cannot be copied: {error.strerror}") from error
        return copy

    def _state(self) -> list[tuple[int, int]]:
        found = []
        for side in ("", *SIDES):
            with contextlib.suppress(OSError):
                state = os.stat(f"{self.path}{side}")
                found.append((state.st_mtime_ns, state.st_size))
        return found

    def rows(self, sql: str, params: Sequence[Any] = ()) -> Iterator[list[Any]]:
        """
        Yield the rows of a query; the last must be taken before the next query. A BLOB comes as its size in words.

        Raises:
            FormatError: the query failed, or the file is damaged where it was read.
        """
        self._ask({"sql": sql, "params": [*params]})
        while True:
            said = self._answer()
            if "error" in said:
                raise FormatError(f"{self.path}: {said['error']}", "it may be damaged")
            if "row" not in said:
                return
            yield said["row"]

    def all(self, sql: str, params: Sequence[Any] = ()) -> list[list[Any]]:
        """Return all rows of a query; raises as `rows` does."""
        return list(self.rows(sql, params))

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns; none where there is no such table."""
        if table not in self._columns:
            quoted = table.replace('"', '""')
            self._columns[table] = [str(row[1]) for row in self.rows(f'PRAGMA table_info("{quoted}")')]
        return self._columns[table]

    def among(self, table: str, *names: str) -> list[str]:
        """Return those of the names that are columns of a table, quoted, in their order."""
        there = set(self.columns(table))
        return [f'"{name}"' for name in names if name in there]

    def _ask(self, question: dict[str, Any]) -> None:
        pipe = self._process.stdin
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(json.dumps(question).encode() + b"\n")
                pipe.flush()

    def _answer(self) -> dict[str, Any]:
        pipe = self._process.stdout
        line = pipe.readline(ROW_BYTES) if pipe is not None else b""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            self.close()
            raise FormatError(f"{self.path}: reading it took too much memory or time", "it may be damaged")
        return said

    def close(self) -> None:
        """End the process and remove the copy. Safe to call twice."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.kill()
        process.wait()
        if self._folder is not None:
            self._folder.cleanup()


def is_database(start: bytes) -> bool:
    """Return whether a file that begins so is a SQLite database."""
    return start.startswith(HEADER)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
