"""Importing: what is new, what is known, what has grown; and that an imported session is one like any other."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from p8.core import transfer as room
from p8.core.sessions import SessionManager
from p8.core.transfer import Found
from p8.core.turns import conversation_for
from p8.errors import Conflict, FormatError, StoreError, UsageError
from p8.formats.foreign import Conversation, Item
from p8.model import Status, from_us
from p8.store.manager import PersistenceManager
from p8.testing import make_app
from support.door import run
from support.imports import ANSWER, ASKED, DATA, THEN, bring_in, calls, jsonl, records_of, said, transfer

FILE = next((DATA / "claude").rglob("*.jsonl"))
MORE = [
    ("user", "And a tag?"),
    ("assistant", "A tag is a name that stays."),
]


def grow(path: Path, *said: tuple[str, str], after: int | None = None) -> Path:
    """Write the session with more said at its end, or after so many of its records."""
    records = records_of(FILE)[:after]
    parent = next(r["uuid"] for r in reversed(records) if "uuid" in r)
    for number, (role, content) in enumerate(said):
        uuid = f"more-{number}"
        message = {"role": role, "content": content if role == "user" else [{"type": "text", "text": content}]}
        time = f"2026-11-21T08:00:0{number}.000Z"
        records.append({"type": role, "uuid": uuid, "parentUuid": parent, "message": message, "timestamp": time,
                        "sessionId": FILE.stem})  # fmt: skip
        parent = uuid
    return jsonl(path / FILE.name, records)


def contents(manager: SessionManager, session: str) -> list[str]:
    return [entry.text for entry in said(manager, session)]


OLD = [ASKED, "I will look.", ANSWER, THEN, ANSWER]
NEW = [text for _, text in MORE]


def test_a_preview_says_what_is_new_and_writes_nothing(manager: SessionManager, home: Path) -> None:
    one = transfer(manager, DATA)
    report = one.preview(one.detect(DATA))
    assert {outcome.tool for outcome in report.outcomes} == {"claude", "codex", "gemini", "llm", "aider", "opencode"}
    assert {outcome.state for outcome in report.outcomes} == {"new"}
    assert manager.store.sessions.page() == []
    assert manager.store.read("SELECT * FROM projects") == []
    assert list((home / "journal").glob("*.jsonl")) == []


def test_all_tools_together_and_twice(manager: SessionManager) -> None:
    first, second = bring_in(manager, DATA), bring_in(manager, DATA)
    assert len(first.outcomes) == len(second.outcomes) == 10
    assert {outcome.state for outcome in second.outcomes} == {"known"}
    assert [o.session for o in second.outcomes] == [o.session for o in first.outcomes]
    assert manager.store.sessions.count() == 10


def test_an_imported_session_keeps_its_times_and_is_found_and_resumed(manager: SessionManager) -> None:
    (outcome,) = bring_in(manager, FILE).outcomes
    row = manager.store.sessions.get(outcome.session)
    assert outcome.session.startswith("20261121-072830-579000-")
    assert from_us(row.created_us).isoformat() == "2026-11-21T07:28:30.579000+00:00"
    assert from_us(row.last_us).isoformat() == "2026-11-21T07:28:31.721000+00:00"
    assert (row.status, row.directory, row.project_name) == (Status.COMPLETED, "/home/ada/demo", "demo")
    assert row.tags == ("claude",)
    assert row.meta["imported"]["source"] == str(FILE)
    hits = manager.store.search("pointer commit")
    assert [hit.session.id for hit in hits] == [outcome.session]
    session = manager.resume_session(outcome.session)
    assert [m["content"] for m in session.conversation_history] == OLD
    manager.record_message({"role": "user", "content": "go on"})
    assert [m["content"] for m in conversation_for(manager)] == [*OLD, "go on"]
    manager.end_session()
    assert contents(manager, outcome.session) == [*OLD, "go on"]
    assert manager.store.read("SELECT count(*) FROM damage") == [(0,)]


def test_one_that_has_grown_gets_its_new_part_appended(manager: SessionManager, tmp_path: Path) -> None:
    (first,) = bring_in(manager, FILE).outcomes
    (second,) = bring_in(manager, grow(tmp_path, *MORE)).outcomes
    assert (second.state, second.added, second.session) == ("grown", 2, first.session)
    assert contents(manager, first.session) == OLD + NEW
    row = manager.store.sessions.get(first.session)
    assert from_us(row.last_us).isoformat() == "2026-11-21T08:00:01+00:00"
    assert row.ended_us == row.last_us
    (third,) = bring_in(manager, tmp_path / FILE.name).outcomes
    assert third.state == "known"
    assert manager.store.leases.holder(first.session) is None
    assert manager.store.read("SELECT count(*) FROM damage") == [(0,)]


def test_one_that_went_on_on_both_sides_becomes_a_fork(manager: SessionManager, tmp_path: Path) -> None:
    (first,) = bring_in(manager, FILE).outcomes
    manager.resume_session(first.session)
    manager.record_message({"role": "user", "content": "here"})
    manager.pause_session()
    (second,) = bring_in(manager, grow(tmp_path, *MORE)).outcomes
    assert (second.state, second.added) == ("forked", 2)
    assert second.session != first.session
    assert contents(manager, first.session) == [*OLD, "here"]
    assert contents(manager, second.session) == OLD + NEW
    row = manager.store.sessions.get(second.session)
    assert (row.parent, row.title) == (first.session, f"↳ {ASKED}")
    (third,) = bring_in(manager, tmp_path / FILE.name).outcomes
    assert (third.state, third.session) == ("known", second.session)
    (fourth,) = bring_in(manager, grow(tmp_path, *MORE, ("user", "still more"))).outcomes
    assert (fourth.state, fourth.session) == ("grown", second.session)
    assert contents(manager, second.session) == [*OLD, *NEW, "still more"]
    assert manager.store.read("SELECT count(*) FROM damage") == [(0,)]


def test_one_that_is_open_here_is_not_written_to(manager: SessionManager, tmp_path: Path) -> None:
    (first,) = bring_in(manager, FILE).outcomes
    manager.resume_session(first.session)
    (second,) = bring_in(manager, grow(tmp_path, *MORE)).outcomes
    assert second.state == "forked"
    manager.record_message({"role": "user", "content": "here"})
    manager.end_session()
    assert contents(manager, first.session) == [*OLD, "here"]


def test_one_whose_past_was_changed_forks_where_both_still_agree(manager: SessionManager, tmp_path: Path) -> None:
    (first,) = bring_in(manager, FILE).outcomes
    # the second question was taken back and another one asked
    last = next(n for n, r in enumerate(records_of(FILE)) if r.get("message", {}).get("content") == THEN)
    (second,) = bring_in(manager, grow(tmp_path, *MORE, after=last)).outcomes
    assert (second.state, second.added) == ("forked", 2)
    assert contents(manager, second.session) == OLD[:3] + NEW
    assert contents(manager, first.session) == OLD


def test_one_that_has_become_shorter_is_known(manager: SessionManager, tmp_path: Path) -> None:
    bring_in(manager, FILE)
    last = next(n for n, r in enumerate(records_of(FILE)) if r.get("message", {}).get("content") == THEN)
    (outcome,) = bring_in(manager, grow(tmp_path, after=last)).outcomes
    assert (outcome.state, outcome.added) == ("known", 0)


def test_what_is_in_the_trash_stays_there(manager: SessionManager, tmp_path: Path) -> None:
    (first,) = bring_in(manager, FILE).outcomes
    manager.annotate(first.session, trashed=True)
    (second,) = bring_in(manager, grow(tmp_path, *MORE)).outcomes
    assert (second.state, second.added) == ("trash", 0)
    assert manager.store.sessions.page() == []


def test_a_title_given_here_stays_when_the_other_tool_gives_one(manager: SessionManager, tmp_path: Path) -> None:
    title = {"type": "ai-title", "aiTitle": "By the model", "sessionId": FILE.stem}
    (first,) = bring_in(manager, jsonl(tmp_path / FILE.name, [*records_of(FILE), title])).outcomes
    assert manager.store.sessions.get(first.session).title == "By the model"
    other = {**title, "aiTitle": "Another"}
    grown = grow(tmp_path, *MORE)
    bring_in(manager, jsonl(grown, [*records_of(grown), other]))
    assert manager.store.sessions.get(first.session).title == "Another"
    manager.annotate(first.session, title="Mine")
    grown = grow(tmp_path, *MORE, ("user", "more"))
    bring_in(manager, jsonl(grown, [*records_of(grown), title]))
    assert manager.store.sessions.get(first.session).title == "Mine"


@pytest.mark.parametrize(("after", "messages"), [(1, 0), (2, 1), (3, 1), (4, 2), (6, 4), (7, 5)])
def test_an_import_that_was_broken_off_is_completed_by_the_next(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch, after: int, messages: int
) -> None:
    """The disk refuses in the middle; nothing is lost or doubled when it works again."""
    record, left = manager.store.record, [after]

    def failing(*args: Any, **kwargs: Any) -> tuple[int, int]:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("the disk is full")
        return record(*args, **kwargs)

    monkeypatch.setattr(manager.store, "record", failing)
    with pytest.raises(StoreError):
        bring_in(manager, FILE)
    monkeypatch.setattr(manager.store, "record", record)
    (row,) = manager.store.sessions.page()
    assert row.messages == messages
    (outcome,) = bring_in(manager, FILE).outcomes
    assert outcome.session == row.id
    assert (outcome.state, outcome.added) == (("grown", 5 - messages) if messages < 5 else ("known", 0))
    assert contents(manager, row.id) == OLD
    assert set(calls(manager, row.id)) == {("execute", "Bash: cat notes.txt", "completed", "hello")}
    assert bring_in(manager, FILE).outcomes[0].state == "known"


def done(home: Path) -> int:
    """Return how many conversations the journals hold to their ends."""
    count = 0
    for file in (home / "journal").glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # the next process has folded what a killed one left
            count += file.read_bytes().count(b'"what":"imported"')
    return count


@pytest.mark.parametrize("kills", [5])
def test_killed_in_the_middle_and_run_again_everything_is_there_once(tmp_path: Path, home: Path, kills: int) -> None:
    """kill -9 at growing delays: the last run completes it, and nothing is there twice."""
    source = tmp_path / "many"
    for number in range(160):
        name = f"{number:08d}-0000-4000-8000-000000000000"
        jsonl(source / f"{name}.jsonl", [{**r, "sessionId": name} for r in records_of(FILE)])
    command = [sys.executable, "-m", "p8", "import", str(source)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    broken_off = 0
    for number in range(kills):
        before = done(home)
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        while process.poll() is None and done(home) < before + 20 + number * 3:
            time.sleep(0.002)
        process.kill()
        broken_off += process.wait() == -9 and before < done(home) < 160
    assert broken_off > kills // 2
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    store = PersistenceManager(home, background=False)
    try:
        rows = store.sessions.page(limit=1000)
        assert len({row.meta["imported"]["id"] for row in rows}) == len(rows) == 160
        assert {row.messages for row in rows} == {5}
        assert store.read("SELECT count(*) FROM damage") == [(0,)]
    finally:
        store.close()


def test_two_at_once_are_refused(manager: SessionManager) -> None:
    one = transfer(manager, DATA)
    manager.store.start()
    with one._alone(), pytest.raises(Conflict):
        bring_in(manager, FILE)


def test_a_file_that_cannot_be_read_costs_that_file(manager: SessionManager, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    grow(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe.jsonl")
    one = transfer(manager, tmp_path)
    gone = Found("codex", tmp_path / "gone.jsonl")
    report = one.run([gone, Found("claude", tmp_path / "pipe.jsonl"), *one.detect(tmp_path)])
    assert [outcome.state for outcome in report.outcomes] == ["new"]
    assert len(report.problems) == 2


def test_a_directory_that_only_a_file_names_is_not_touched(manager: SessionManager, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    records = [{**r, "cwd": str(place)} if "cwd" in r else r for r in records_of(FILE)]
    bring_in(manager, jsonl(tmp_path / "x" / FILE.name, records))
    (row,) = manager.store.sessions.page()
    assert row.directory == str(place)
    assert os.listxattr(place) == []
    assert list(place.iterdir()) == []
    one = transfer(manager, tmp_path)
    assert one._projects.of_directory(place).id == row.project  # whoever works there later has it


@pytest.mark.parametrize("directory", ["../..", "/\0", "/" + "x" * 5000, "relative", "/proc/self/mem", "\ud800", "//"])
def test_hostile_directories_titles_and_ids(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    hostile = "../../\x1b]0;x\x07\u202e" + "i" * 5000
    found = Conversation("claude", hostile, "source", title=hostile, directory=directory, branch=hostile)
    found.add(Item("user", hostile, id=hostile, time_us=2**62))
    tool = SimpleNamespace(NAME="claude", TITLE="Hostile", read=lambda _path: iter([found.settle()]))
    monkeypatch.setattr(room, "formats", lambda: [tool])
    for state in ("new", "known"):
        (outcome,) = transfer(manager, tmp_path).run([Found("claude", tmp_path)]).outcomes
        assert outcome.state == state
    (row,) = manager.store.sessions.page()
    assert len(row.title) <= 72
    assert row.last_us < time.time_ns() // 1000 + 86_400_000_000
    assert contents(manager, row.id) == [hostile]


def test_what_is_p8s_own_is_refused_before_it_is_opened(manager: SessionManager, tmp_path: Path, home: Path) -> None:
    manager.start_session("x")
    manager.store.drain()
    (tmp_path / "link.db").symlink_to(home / "p8.db")
    one = transfer(manager, tmp_path)
    for path in (home, home / "p8.db", tmp_path / "link.db"):
        with pytest.raises(UsageError, match="own"):
            one.detect(path)
    with pytest.raises(FormatError):
        one.detect(tmp_path)
    with pytest.raises(UsageError, match="exist"):
        one.detect(tmp_path / "nowhere")


def test_a_scan_finds_what_lies_in_the_usual_places(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    user, project = tmp_path / "user", tmp_path / "project"
    shutil.copytree(DATA / "claude" / "projects", user / ".claude" / "projects")
    shutil.copytree(DATA / "gemini" / "tmp", user / ".gemini" / "tmp")
    shutil.copytree(DATA / "llm" / "threads", user / ".config" / "io.datasette.llm")
    shutil.copytree(DATA / "opencode", user / ".local" / "share" / "opencode")
    shutil.copytree(DATA / "codex", tmp_path / "elsewhere")
    shutil.copytree(DATA / "aider", project)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "elsewhere"))
    one = transfer(manager, project)
    assert sorted(found.tool for found in one.scan()) == ["aider", "claude", "codex", "gemini", "llm", "opencode"]


def test_progress_is_shown_once_it_takes_longer(manager: SessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, str]] = []
    one = transfer(manager, DATA)
    one.preview(one.detect(FILE), lambda fraction, text: seen.append((fraction, text)))
    assert seen == []
    monkeypatch.setattr(room, "QUIET_S", -1.0)
    monkeypatch.setattr(room, "REDRAW_S", 0.0)
    one.preview(one.detect(DATA), lambda fraction, text: seen.append((fraction, text)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert seen[-1] == (1.0, "")
    assert seen[-2][0] < 1


def test_the_command_previews_asks_and_imports(tmp_path: Path, home: Path) -> None:
    app = make_app(home, tmp_path)
    try:
        dry = run(app, f"import {FILE} --dry-run", "cli")
        assert (dry.data["dry_run"], dry.data["totals"]["new"]) == (True, 1)
        done = run(app, f"import {FILE}", "cli")
        assert done.data["conversations"][0]["title"] == ASKED
        assert done.data["conversations"][0]["session"]
        with pytest.raises(UsageError):
            run(app, "import --scan x", "cli")
        (tmp_path / "user" / ".claude").mkdir()
        (tmp_path / "user" / ".claude" / "projects").symlink_to(DATA / "claude" / "projects")
        asked = run(app, "import")
        assert asked.effect is None  # all of it is known
        assert asked.data["totals"]["known"] == 1
    finally:
        app.close()


def test_paths_are_completed_in_the_repl_and_in_the_shell(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from p8.cli import main
    from p8.repl.completion import ReplCompleter

    (tmp_path / "chats").mkdir()
    app = make_app(home, tmp_path)
    try:
        found = ReplCompleter(app).get_completions(Document("/import cha"), CompleteEvent())
        assert [one.text for one in found] == ["chats/"]
        found = ReplCompleter(app).get_completions(Document("/import --sc"), CompleteEvent())
        assert [one.text for one in found] == ["--scan"]
    finally:
        app.close()
    monkeypatch.chdir(tmp_path)
    assert main(["__complete", "import", "cha"]) == 0
    assert capsys.readouterr().out == "chats/\n"
