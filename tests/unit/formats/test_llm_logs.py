"""llm's log, in both layouts that `llm` wrote, and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlite_utils

from p8.core.sessions import SessionManager
from p8.errors import FormatError
from p8.formats import llm_logs
from p8.model import from_us
from support.imports import ANSWER, ASKED, DATA, TALK, THEN, calls, talk, twice_adds_nothing

THREADS, RESPONSES = DATA / "llm" / "threads" / "logs.db", DATA / "llm" / "responses" / "logs.db"


@pytest.mark.parametrize("file", [THREADS, RESPONSES], ids=["0.36", "0.27"])
def test_a_log_that_llm_wrote(file: Path) -> None:
    assert llm_logs.detect(file)
    first, second = llm_logs.read(file)
    assert first.title == ASKED
    assert talk(first) == TALK
    assert talk(second) == [("system", "Be brief."), ("user", "An independent question"), ("assistant", ANSWER)]
    times = [item.time_us for item in first.items]
    assert times == sorted(times)
    assert from_us(times[0]).strftime("%Y-%m-%d %H") == "2026-11-21 07"
    assert [(i.model, i.tokens_in, i.tokens_out) for i in first.items if i.role == "assistant"] == [
        ("loop", 130, 21)
    ] * 3
    (call,) = first.items[1].tools
    assert (call["title"], call["status"], call["content"]) == ("bash: cat notes.txt", "completed", "hello")


@pytest.mark.parametrize("file", [THREADS, RESPONSES], ids=["0.36", "0.27"])
def test_importing_it_twice_adds_nothing(file: Path, manager: SessionManager) -> None:
    sessions = twice_adds_nothing(manager, file)
    assert len(sessions) == 2
    assert manager.store.sessions.get(sessions[0]).tokens_in == 390
    assert calls(manager, sessions[0]) == [("execute", "bash: cat notes.txt", "completed", "hello")]


def test_a_prompt_with_fragments_is_whole_in_both_layouts(tmp_path: Path) -> None:
    old = sqlite_utils.Database(shutil.copy(RESPONSES, tmp_path / "old.db"))
    response = next(old.query("select id from responses where prompt = ?", [THEN]))["id"]
    fragment = old["fragments"].insert({"hash": "h", "content": "A whole book."}).last_pk
    old["prompt_fragments"].insert({"response_id": response, "fragment_id": fragment, "order": 0})
    old.conn.commit()
    old.close()
    assert talk(next(llm_logs.read(tmp_path / "old.db")))[3] == ("user", f"A whole book.\n{THEN}")

    new = sqlite_utils.Database(shutil.copy(THREADS, tmp_path / "new.db"))
    fragment = new["fragments"].insert({"hash": "h", "content": "A whole book."}).last_pk
    part = next(new.query("select id from parts where text = ?", [THEN]))["id"]
    payload = f'{{"text_ref": [{{"fragment": {fragment}}}, {{"literal": " {THEN}"}}]}}'
    new["parts"].update(part, {"text": None, "payload": payload})
    new.conn.commit()
    new.close()
    assert talk(next(llm_logs.read(tmp_path / "new.db")))[3] == ("user", f"A whole book. {THEN}")


def test_a_conversation_that_moved_into_the_new_layout_is_known_again(tmp_path: Path, manager: SessionManager) -> None:
    """`llm` keeps the id when a newer version goes on with a conversation of an older one."""
    from support.imports import bring_in

    file = Path(shutil.copy(RESPONSES, tmp_path / "logs.db"))
    bring_in(manager, file)
    old = next(llm_logs.read(RESPONSES)).id
    shutil.copy(THREADS, file)
    db = sqlite_utils.Database(file)
    db.execute("pragma foreign_keys = off")
    thread = next(iter(db.query("select id from threads order by datetime_utc")))["id"]
    db.execute("update turns set thread_id = ? where thread_id = ?", [old, thread])
    db.execute("update threads set id = ? where id = ?", [old, thread])
    db.conn.commit()
    db.close()
    states = {one.id: one.state for one in bring_in(manager, file).outcomes}
    assert states[old] == "known"


def test_a_damaged_log_is_a_problem_and_nothing_more(tmp_path: Path, manager: SessionManager) -> None:
    from support.imports import bring_in

    whole = THREADS.read_bytes()
    file = tmp_path / "logs.db"
    for at in range(4096, len(whole), 16384):
        file.write_bytes(whole[:at] + b"\xa5" * 4096 + whole[at + 4096 :])
        report = bring_in(manager, file) if llm_logs.detect(file) else None
        assert report is None or len(report.outcomes) + len(report.problems) > 0
    file.write_bytes(whole[:5000])
    with pytest.raises(FormatError):
        list(llm_logs.read(file))


def test_a_chain_that_goes_in_a_circle_ends(tmp_path: Path) -> None:
    db = sqlite_utils.Database(shutil.copy(THREADS, tmp_path / "logs.db"))
    hashes = [row["hash"] for row in db.query("select hash from messages order by rowid")]
    db.execute("update messages set parent_hash = ? where hash = ?", [hashes[5], hashes[0]])
    db.conn.commit()
    db.close()
    assert len(next(llm_logs.read(tmp_path / "logs.db")).items) == 5


def test_a_thread_with_parts_of_odd_types_is_survived(tmp_path: Path) -> None:
    db = sqlite_utils.Database(shutil.copy(THREADS, tmp_path / "logs.db"))
    db.execute("update parts set payload = '{' where type = 'tool_call'")
    db.execute("update parts set payload = '[1]' where type = 'tool_result'")
    db.execute("update turns set datetime_utc = 'never', input_tokens = 'many', duration_ms = -5")
    db.execute("update messages set provider_metadata = x'ff00'")
    db.conn.commit()
    db.close()
    first = next(llm_logs.read(tmp_path / "logs.db"))
    assert first.bad == 2
    assert [text for _, text in talk(first)] == [ASKED, "I will look.", ANSWER, THEN, ANSWER]
