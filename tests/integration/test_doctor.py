"""The doctor and the purge as a person meets them: the command, other processes at work, bytes on the disk."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
from support.homes import Living, change, dying, fill, flip, holding, oracle, packed, rows

FLIPS = int(os.environ.get("P8_FLIPS", "10"))  # a release turns 1000
SECRET = "platypusword"


def p8(home: Path, *words: str, status: int | None = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "p8", *words], capture_output=True, text=True, check=False, cwd=home.parent,
        stdin=subprocess.DEVNULL, env={**os.environ, "P8_HOME": str(home)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert status is None or done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout if done.returncode in {0, 1} else done.stderr


def fresh(home: Path) -> SessionManager:
    return SessionManager(PersistenceManager(home, background=False))


@pytest.fixture
def full(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A home at rest, half of it packed."""
    manager = fresh(home)
    ids = fill(manager, 2)
    packed(manager, monkeypatch)
    manager.close()
    manager = fresh(home)
    ids += fill(manager, 3)
    manager.close()
    return ids


@pytest.fixture
def living(home: Path) -> Iterator[Living]:
    process = Living(home)
    yield process
    process.end()


def places(home: Path, wanted: bytes) -> list[int]:
    raw = (home / "p8.db").read_bytes()
    found, at = [], raw.find(wanted)
    while at >= 0:
        found.append(at)
        at = raw.find(wanted, at + 1)
    return found


# the command


def test_the_status_tells_whether_something_is_wrong(home: Path, full: list[str]) -> None:
    assert "nothing is wrong" in p8(home, "doctor")
    change(home, "UPDATE sessions SET messages = 1 WHERE id = ?", full[0])
    said = p8(home, "doctor", status=1)
    data = json.loads(p8(home, "doctor", "--json", status=1))
    assert full[0] in said.replace("\n", "")
    assert [(f["area"], f["session"], f["file"]) for f in data["findings"]] == [("counts", full[0], "p8.db")]
    assert "--yes" in p8(home, "doctor", "--repair", status=2)
    assert "messages 1" in p8(home, "doctor", status=1)  # asked, and did nothing
    assert json.loads(p8(home, "doctor", "--repair", "--yes", "--json"))["clean"]
    assert "nothing is wrong" in p8(home, "doctor")


def test_a_home_that_is_none_is_fine(tmp_path: Path) -> None:
    p8(tmp_path / "none", "doctor")
    assert not (tmp_path / "none").exists()


def test_a_wrong_bit_in_an_entrys_page_is_named_and_nothing_is_lost(home: Path, full: list[str]) -> None:
    """Must show: a wrong bit in the database; session and entry are named, what is repaired equals the oracle."""
    before, listed = oracle(home), rows(home)
    at = places(home, b"message 20 of session 1")[-1]
    [(session, seq)] = [key for key, entry in before.items() if b"message 20 of session 1" in entry[2]
                        and key[0] in full[2:]]  # fmt: skip
    flip(home / "p8.db", at + 9, 0)
    assert subprocess.run(
        [sys.executable, "-c", ("import sys; from p8.store.sqlite import driver;"
         "print(driver.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchall())"), str(home / "p8.db")],
        capture_output=True, text=True, check=True,
    ).stdout == "[('ok',)]\n"  # fmt: skip  # SQLite alone does not see it
    data = json.loads(p8(home, "doctor", "--json", status=1))
    found = [(f["session"], f["seq"], f["file"]) for f in data["findings"] if f["area"] == "chain"]
    assert found == [(session, seq, "p8.db")]
    done = json.loads(p8(home, "doctor", "--repair", "--yes", "--json"))

    assert done["clean"]
    assert done["known"] == []
    assert oracle(home) == before
    assert rows(home) == listed
    p8(home, "doctor")


@pytest.mark.parametrize("harm", ["header", "pointers", "page"])
def test_a_page_that_sqlite_cannot_read_costs_at_most_what_is_overwritten(
    home: Path, full: list[str], harm: str
) -> None:
    before, listed = oracle(home), rows(home)
    [at] = list(places(home, b"message 20 of session 1 ") or places(home, b"message 20 of session 1"))[-1:]
    page = at // 4096 * 4096
    raw = bytearray((home / "p8.db").read_bytes())
    if harm == "header":
        raw[page] ^= 1
    elif harm == "pointers":
        raw[page + 8 : page + 20] = b"\xff" * 12
    else:
        raw[page : page + 4096] = b"\xff" * 4096
    (home / "p8.db").write_bytes(bytes(raw))
    assert json.loads(p8(home, "doctor", "--json", status=1))["findings"][0]["area"] == "database"
    done = json.loads(p8(home, "doctor", "--repair", "--yes", "--json"))
    after = oracle(home)

    assert done["clean"], done
    assert next(path.read_bytes() for path in home.glob("p8.db.damaged-*") if path.suffix != ".bak") == bytes(raw)
    if harm == "page":
        lost = {key for key in before if key not in after}
        assert 0 < len(lost) < 30
        assert {key: after[key] for key in after if key[0][0] != "~"} == {
            key: value for key, value in before.items() if key not in lost and key[0][0] != "~"
        }
        named = {(f["session"], f["seq"]) for f in done["known"] if "missing" in f["text"]}
        assert min(lost) in named
        assert done["salvaged"]
    else:
        assert after == before
        assert rows(home) == listed
    p8(home, "doctor")


def test_any_wrong_bit_is_found_or_harmless_and_nothing_readable_is_lost(home: Path, full: list[str]) -> None:
    """Turn bits anywhere in the file: what the doctor does not find must have changed nothing."""
    from p8.core.doctor import Doctor

    before, listed = oracle(home), rows(home)
    clean = (home / "p8.db").read_bytes()
    chance = random.Random(int(os.environ.get("P8_SEED", "11")))
    found = 0
    for _ in range(FLIPS):
        at, bit = chance.randrange(len(clean)), chance.randrange(8)
        for path in home.glob("p8.db*"):
            path.unlink()
        (home / "p8.db").write_bytes(clean)
        flip(home / "p8.db", at, bit)
        manager = fresh(home)
        doctor = Doctor(manager.store, manager.custody)
        if doctor.examine().clean:
            now = oracle(home)
            assert [key for key in {**before, **now} if before.get(key) != now.get(key)] == [], (at, bit)
            assert rows(home) == listed, (at, bit)
        else:
            found += 1
            report = doctor.repair()
            after = oracle(home)
            assert report.clean, (at, bit, report)
            lost = [key for key in before if after.get(key) != before[key]]
            assert not lost or report.known, (at, bit, lost)
            assert len(lost) <= 1, (at, bit, lost)
            assert lost or rows(home) == listed, (at, bit)
        manager.close()
    assert found > FLIPS // 8


def test_a_doctor_that_asks_only_sqlite_would_miss_most(
    home: Path, full: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the chain, counters and words, a changed entry goes unseen."""
    from p8.core.doctor import Doctor
    from p8.store.doctor import Examiner

    flip(home / "p8.db", places(home, b"message 20 of session 1")[-1] + 9)
    manager = fresh(home)
    assert not Doctor(manager.store, manager.custody).examine().clean
    monkeypatch.setattr(Examiner, "_inside", lambda *_: ())

    assert Doctor(manager.store, manager.custody).examine().clean
    manager.close()


def test_a_wrong_bit_in_a_journal_is_named_with_its_file(home: Path) -> None:
    """Must show: a wrong bit in a journal segment."""
    path = dying(home)
    lines = path.read_bytes().splitlines(keepends=True)
    entry = json.loads(lines[8])
    flip(path, sum(map(len, lines[:8])) + lines[8].index(b"message"), 2)
    data = json.loads(p8(home, "doctor", "--json", status=1))
    wrong = [f for f in data["findings"] if f["level"] == "error"]
    assert [(f["session"], f["seq"]) for f in wrong] == [(entry["s"], entry["q"])]
    assert wrong[0]["file"].startswith(f"journal/{path.name}, byte ")
    assert json.loads(p8(home, "doctor", "--repair", "--yes", "--json"))["known"] == []
    found = oracle(home)

    for line in lines:
        one = json.loads(line)
        assert found[one["s"], one["q"]][2] == line[line.index(b',"d":') + 5 : -2]


def test_words_taken_out_of_the_index_are_named(home: Path, full: list[str]) -> None:
    """Must show: rows of the index removed."""
    before = oracle(home)
    change(home, "DELETE FROM search_data WHERE id > 10")
    data = json.loads(p8(home, "doctor", "--json", status=1))
    assert {f["area"] for f in data["findings"]} <= {"index", "database"}
    p8(home, "doctor", "--repair", "--yes")
    assert oracle(home) == before
    assert json.loads(p8(home, "search", "only in the fork", "--json"))


# while others are at work


def test_a_living_processes_journal_is_never_touched(home: Path, full: list[str], living: Living) -> None:
    living.tell("say something to keep")
    [path] = list((home / "journal").glob("*.jsonl"))
    state, raw = path.stat(), path.read_bytes()
    change(home, "UPDATE entries SET time = time + 1 WHERE id & 4294967295 = 7 AND kind = 'message'")
    change(home, "UPDATE sessions SET messages = 1 WHERE id = ?", full[0])
    done = json.loads(p8(home, "doctor", "--repair", "--yes", "--json"))
    now = path.stat()

    assert done["done"]
    assert (now.st_ino, path.read_bytes(), now.st_mtime_ns) == (state.st_ino, raw, state.st_mtime_ns)
    assert {f["area"] for f in done["known"]} <= {"chain"}
    living.tell("say and something after")
    assert path.read_bytes().startswith(raw)
    manager = fresh(home)
    texts = [e.text for e in manager.store.sessions.entries(living.session, kinds=("message",))]
    assert texts == ["something to keep", "and something after"]
    assert manager.store.leases.holder(living.session) is not None
    manager.close()
    p8(home, "doctor")


def test_a_database_in_use_is_not_replaced_under_its_users(home: Path, full: list[str], living: Living) -> None:
    living.tell("say something to keep")
    manager = fresh(home)
    manager.store.drain()
    manager.close()
    change(home, "DELETE FROM places")
    at = places(home, b"message 20 of session 1")[-1] // 4096 * 4096
    flip(home / "p8.db", at, 3)
    inode = (home / "p8.db").stat().st_ino
    done = json.loads(p8(home, "doctor", "--repair", "--yes", "--json", status=1))

    assert any("another p8" in line for line in done["failed"])
    assert (home / "p8.db").stat().st_ino == inode
    assert not list(home.glob("p8.db.damaged-*"))


# purge


def talk(home: Path, word: str) -> str:
    manager = fresh(home)
    session = manager.start_session("demo")
    for number in range(12):
        manager.record_message({"role": "user", "content": f"the {word} number {number}"})
    manager.record_execution("cat", exit_code=0, output=f"{word} " * 12_000)
    manager.end_session()
    manager.close()
    return str(session.session_id)


def test_a_purge_by_command_leaves_no_byte_and_nothing_else_is_changed(home: Path, full: list[str]) -> None:
    name = talk(home, SECRET)
    before = oracle(home)
    said = p8(home, "session", "purge", name, status=4)
    assert "not in the trash" in said
    p8(home, "session", "delete", name, "--yes")
    said = p8(home, "session", "purge", name[16:], "--dry-run")
    assert name in said.replace("\n", "")
    assert holding(home, SECRET)
    assert "--yes" in p8(home, "session", "purge", name, status=2)
    data = json.loads(p8(home, "session", "purge", name, "--yes", "--json"))
    after = oracle(home)

    assert (data["purged"], data["left"]) == ([name], [])
    assert holding(home, SECRET, SECRET[:9], name) == []
    assert {key: after[key] for key in before if key[0] != name and key[0][0] != "~"} == {
        key: value for key, value in before.items() if key[0] != name and key[0][0] != "~"
    }
    assert p8(home, "session", "purge", name, "--yes", status=3)
    p8(home, "doctor")


def test_a_living_process_moves_on_to_another_journal(home: Path, living: Living) -> None:
    living.tell(f"say the {SECRET} of the matter")
    living.tell("pause")
    living.tell("new")
    living.tell("say something else")
    manager = fresh(home)
    manager.annotate(living.session, trashed=True)
    manager.close()
    assert any(name.startswith("journal/") for name in holding(home, SECRET))
    data = json.loads(p8(home, "session", "purge", living.session, "--yes", "--json"))
    living.tell("say and more")

    assert data["left"] == []
    assert holding(home, SECRET) == []
    manager = fresh(home)
    [row] = manager.store.sessions.page()
    assert [e.text for e in manager.store.sessions.entries(row.id, kinds=("message",))] == [
        "something else",
        "and more",
    ]
    manager.close()
    p8(home, "doctor")


def test_a_session_open_elsewhere_is_not_purged(home: Path, living: Living) -> None:
    living.tell("say something")
    manager = fresh(home)
    manager.store.drain()
    change(home, "UPDATE sessions SET trashed = 1 WHERE id = ?", living.session)
    manager.close()
    assert "is open" in p8(home, "session", "purge", living.session, "--yes", status=5)


def test_copies_of_a_damaged_database_are_named_and_go_when_told(home: Path, full: list[str]) -> None:
    name = talk(home, SECRET)
    (home / "p8.db.damaged-20260101-000000").write_bytes((home / "p8.db").read_bytes())
    p8(home, "session", "delete", name, "--yes")
    data = json.loads(p8(home, "session", "purge", name, "--yes", "--json"))
    assert data["copies"] == ["p8.db.damaged-20260101-000000"]
    assert {line.split(":")[0] for line in holding(home, SECRET)} == {"p8.db.damaged-20260101-000000"}
    again = talk(home, SECRET)
    p8(home, "session", "delete", again, "--yes")
    data = json.loads(p8(home, "session", "purge", again, "--yes", "--copies", "--json"))

    assert data["copies"] == []
    assert holding(home, SECRET) == []


def test_expiry_is_off_and_its_setting_is_read(home: Path, full: list[str]) -> None:
    assert "not set" in p8(home, "session", "purge", "--expired")
    p8(home, "session", "delete", full[0], "--yes")
    (home / "config.toml").write_text("[trash]\nexpire_days = 30\n")
    assert "Nothing has been" in p8(home, "session", "purge", "--expired")
    (home / "config.toml").write_text("trash.expire_days = 30\n")
    change(home, "UPDATE sessions SET trashed = trashed - 40 * 86400000000 WHERE id = ?", full[0])
    data = json.loads(p8(home, "session", "purge", "--expired", "--dry-run", "--json"))

    assert [one["id"] for one in data["sessions"]] == [full[0]]


# relink


def test_a_project_is_relinked_and_that_is_undone(home: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    manager = fresh(home)
    from p8.core.projects import Projects

    project = Projects(manager.store).of_directory(old)
    session = manager.start_session("old", project=project.id, directory=str(old))
    manager.record_message({"role": "user", "content": "x"})
    manager.close()
    old.rename(new)
    for attribute in os.listxattr(new):
        os.removexattr(new, attribute)
    plan = json.loads(p8(home, "project", "relink", str(old), str(new), "--dry-run", "--json"))
    assert [s["to"] for s in plan["sessions"]] == [str(new)]
    assert "--yes" in p8(home, "project", "relink", str(old), str(new), status=2)
    done = json.loads(p8(home, "project", "relink", "old", "new", "--yes", "--json"))
    assert done["done"]
    assert [p["root"] for p in json.loads(p8(home, "project", "list", "--json")) if p["name"] == "old"] == [str(new)]
    p8(home, "session", "undo")
    row = json.loads(p8(home, "session", "info", session.session_id, "--json"))

    assert row["directory"] == str(old)
    assert "nothing to take back" in p8(home, "session", "undo", status=3)
