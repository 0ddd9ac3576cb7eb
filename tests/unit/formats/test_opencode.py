"""opencode's database, as it wrote it, its older folder of records, and both damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import sqlite_utils

from p8.core.sessions import SessionManager
from p8.formats import opencode
from p8.formats.foreign import Conversation
from p8.model import from_us
from support.imports import ANSWER, ASKED, DATA, TALK, calls, talk, twice_adds_nothing

FILE = DATA / "opencode" / "opencode.db"
ID = "ses_e02fe0c6effegPpg2aUYHFWiYK"


def read(path: Path) -> Conversation:
    (found,) = opencode.read(path)
    return found


def storage(folder: Path) -> Path:
    """Write the database's records in the older layout, one JSON file each."""
    db = sqlite_utils.Database(FILE)

    def put(path: str, data: dict[str, Any]) -> None:
        file = folder / "storage" / f"{path}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(data))

    for s in db["session"].rows:
        time = {"created": s["time_created"], "updated": s["time_updated"]}
        about = {name: s[name] for name in ("id", "title", "directory")}
        put(f"session/{s['project_id']}/{s['id']}", {**about, "time": time})
    for m in db["message"].rows:
        put(f"message/{m['session_id']}/{m['id']}", {**json.loads(m["data"]), "id": m["id"]})
    for p in db["part"].rows:
        put(f"part/{p['message_id']}/{p['id']}", {**json.loads(p["data"]), "id": p["id"]})
    db.close()
    return folder / "storage"


def test_a_database_that_opencode_wrote() -> None:
    assert opencode.detect(FILE)
    found = read(FILE)
    assert (found.id, found.title, found.directory) == (ID, "Reading notes with a tool", "/home/ada/demo")
    assert talk(found) == TALK
    times = [item.time_us for item in found.items]
    assert times == sorted(times)
    assert from_us(times[0]).isoformat() == "2026-11-21T07:28:46.244000+00:00"
    look = found.items[1]
    assert (look.model, look.tokens_in, look.tokens_out) == ("loop/loop-1", 130, 21)
    (call,) = look.tools
    assert (call["title"], call["status"], call["content"]) == ("bash: cat notes.txt", "completed", "hello\n")


def test_importing_it_twice_adds_nothing(manager: SessionManager) -> None:
    (session,) = twice_adds_nothing(manager, FILE)
    row = manager.store.sessions.get(session)
    assert (row.title, row.title_source, row.messages) == ("Reading notes with a tool", "auto", 5)
    assert calls(manager, session) == [("execute", "bash: cat notes.txt", "completed", "hello\n")]


def test_the_older_folder_of_records_gives_the_same(tmp_path: Path) -> None:
    root = storage(tmp_path)
    record = next(root.glob("session/*/*.json"))
    assert opencode.detect(record)
    assert opencode.source_of(record) == root
    old, new = read(root), read(FILE)
    assert talk(old) == talk(new)
    assert [(i.time_us, i.tokens_in, i.tools) for i in old.items] == [
        (i.time_us, i.tokens_in, i.tools) for i in new.items
    ]
    assert [i.key for i in old.items] == [i.key for i in new.items]


def test_both_layouts_together_are_one_session(tmp_path: Path, manager: SessionManager) -> None:
    from support.imports import bring_in

    storage(tmp_path)
    shutil.copy(FILE, tmp_path)
    assert sorted(one.state for one in bring_in(manager, tmp_path).outcomes) == ["known", "new"]


def test_what_was_reverted_is_left_out_and_counted(tmp_path: Path) -> None:
    db = sqlite_utils.Database(shutil.copy(FILE, tmp_path / "opencode.db"))
    fourth = [row["id"] for row in db.query("select id from message order by time_created")][3]
    db.execute(
        "update session set revert = ?, title = ?", [json.dumps({"messageID": fourth}), "New session - 2026-11-21T07"]
    )
    db.conn.commit()
    db.close()
    found = read(tmp_path / "opencode.db")
    assert [role for role, _ in talk(found)] == ["user", "assistant", "assistant"]
    assert (found.more["taken_back"], found.title) == (2, "")


def test_a_bad_record_costs_that_record(tmp_path: Path) -> None:
    db = sqlite_utils.Database(shutil.copy(FILE, tmp_path / "opencode.db"))
    ids = [row["id"] for row in db.query("select id from message order by time_created")]
    db.execute("update message set data = '{' where id = ?", [ids[2]])
    db.execute("update part set data = '[1]' where message_id = ? and data like '%step-start%'", [ids[1]])
    db.conn.commit()
    db.close()
    found = read(tmp_path / "opencode.db")
    assert found.bad == 2
    assert [role for role, _ in talk(found)] == ["user", "assistant", "user", "assistant"]

    root = storage(tmp_path)
    next(root.glob(f"part/{ids[0]}/*.json")).write_bytes(b"\xff\xfe")
    assert read(root).bad == 1


def test_what_is_put_in_unasked_is_not_taken_for_speech(tmp_path: Path) -> None:
    root = storage(tmp_path)
    part = next(p for p in root.glob("part/*/*.json") if ASKED in p.read_text())
    (part.parent / "prt_zz.json").write_text(json.dumps({"type": "text", "text": "reminder", "synthetic": True}))
    (part.parent / "prt_zzz.json").write_text(json.dumps({"type": "file", "filename": "a.png"}))
    assert talk(read(root))[0] == ("user", f'{ASKED}"\n[file a.png]')


def test_odd_types_everywhere_are_survived(tmp_path: Path) -> None:
    root = storage(tmp_path)
    folder = next(root.glob("message/*"))
    for n, value in enumerate((None, 7, [], {}, "x", True, [[]], "\ud800")):
        data = {"role": value, "time": value, "tokens": value, "error": value, "modelID": value, "cost": value}
        (folder / f"msg_zz{n}.json").write_text(json.dumps(data))
        parts = root / "part" / f"msg_zz{n}"
        parts.mkdir()
        part = {"type": "tool", "state": value, "tool": value, "callID": value}
        (parts / "prt_1.json").write_text(json.dumps(part))
        (parts / "prt_2.json").write_text(json.dumps({"type": "text", "text": value}))
        (parts / "prt_3.json").write_text(json.dumps({"type": value}))
    found = read(root)
    assert [text for _, text in talk(found)].count(ANSWER) == 2
