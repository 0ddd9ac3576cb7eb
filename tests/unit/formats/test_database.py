"""Somebody else's database: read without being touched, and unable to do harm."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from p8.errors import FormatError
from p8.formats.database import Database
from support.imports import DATA

FILE = DATA / "opencode" / "opencode.db"


def fingerprint(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir() if file.is_file()}


def test_reading_changes_nothing(tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path / "a.db")
    before = fingerprint(tmp_path)
    with Database(tmp_path / "a.db", ("session",)) as db:
        assert len(db.all("SELECT id FROM session")) == 1
    assert fingerprint(tmp_path) == before


def test_what_another_program_has_just_written_is_seen_and_its_log_is_not_touched(tmp_path: Path) -> None:
    """opencode keeps a write-ahead log: the newest rows are in it and not in the file."""
    shutil.copy(FILE, tmp_path / "a.db")
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("PRAGMA journal_mode = wal")
    other.execute("PRAGMA wal_autocheckpoint = 0")
    other.execute("UPDATE session SET title = 'just now'")
    try:
        before = fingerprint(tmp_path)
        assert before["a.db-wal"][1]
        with Database(tmp_path / "a.db", ("session",)) as db:
            assert db.all("SELECT title FROM session") == [["just now"]]
        assert fingerprint(tmp_path) == before
    finally:
        other.close()


@pytest.mark.parametrize("sql", [
    "SELECT * FROM message", "UPDATE session SET title = 'x'", "DELETE FROM session", "DROP TABLE session",
    "ATTACH '/tmp/x.db' AS x", "PRAGMA journal_mode = wal", "PRAGMA writable_schema = 1",
    "SELECT load_extension('/tmp/x.so')", "VACUUM INTO '/tmp/x.db'", "CREATE TABLE x (a)",
])  # fmt: skip
def test_nothing_is_allowed_but_reading_the_tables_named(sql: str) -> None:
    with Database(FILE, ("session",)) as db:
        with pytest.raises(FormatError):
            db.all(sql)
        assert len(db.all("SELECT id FROM session")) == 1


def test_a_view_in_the_place_of_a_table_cannot_read_another(tmp_path: Path) -> None:
    made = sqlite3.connect(tmp_path / "a.db")
    made.executescript(
        "CREATE TABLE secret (x); INSERT INTO secret VALUES (1); CREATE VIEW session AS SELECT x FROM secret"
    )
    made.close()
    with Database(tmp_path / "a.db", ("session",)) as db, pytest.raises(FormatError):
        db.all("SELECT * FROM session")


def test_a_query_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Path("p8/formats/database_process.py").absolute()
    source = (
        (Path(__file__).parents[3] / child.relative_to(Path.cwd())).read_text().replace("SECONDS = 120", "SECONDS = 1")
    )
    impatient = tmp_path / "database_process.py"
    impatient.write_text(source)
    monkeypatch.setattr("p8.formats.database.__file__", str(tmp_path / "database.py"))
    made = sqlite3.connect(tmp_path / "a.db")
    made.executescript(
        "CREATE VIEW session AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    )
    made.close()
    with Database(tmp_path / "a.db", ("session", "n")) as db, pytest.raises(FormatError, match="interrupted"):
        db.all("SELECT count(*) FROM session")


def test_a_value_too_large_for_the_process_ends_only_the_process(tmp_path: Path) -> None:
    made = sqlite3.connect(tmp_path / "a.db")
    made.executescript("CREATE VIEW session AS SELECT hex(zeroblob(900000000)) || hex(zeroblob(90000000)) AS x")
    made.close()
    with pytest.raises(FormatError), Database(tmp_path / "a.db", ("session",)) as db:
        db.all("SELECT x FROM session")


def test_every_page_damaged_in_turn(tmp_path: Path) -> None:
    whole, file, refused = FILE.read_bytes(), tmp_path / "a.db", 0
    for at in range(0, len(whole), 4096 * 4):
        file.write_bytes(whole[: at + 100] + os.urandom(2000) + whole[at + 2100 :])
        try:
            with Database(file, ("session", "message", "part")) as db:
                for table in ("session", "message", "part"):
                    assert isinstance(db.all(f"SELECT * FROM {table}"), list)
        except FormatError:
            refused += 1
    assert 0 < refused < len(whole) // (4096 * 4)  # damage was found, and not everywhere did it matter


@pytest.mark.parametrize("content", [b"", b"text", b"SQLite format 3\0" + b"\xff" * 4080])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(FormatError), Database(tmp_path / "a.db", ("session",)) as db:
        db.all("SELECT * FROM session")
