"""A session from plan to completion in a real repository, driven through a pseudo-terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.core.sessions import SessionManager
from p8.store.manager import PersistenceManager
from support.repos import Repo, make_repo
from support.terminal import Start, Terminal, opening


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "project")


@pytest.fixture
def start(home: Path, repo: Repo) -> Iterator[Start]:
    with opening(home, repo.root) as start:

        def begin(*args: str, **env: str) -> Terminal:
            one = start(*args, **env)
            one.wait("›")
            return one

        yield begin


def prompt(one: Terminal, line: str, wanted: str) -> None:
    """Type a line at the prompt, wait for what it brings, and for the prompt after it."""
    one.line(line, wanted)
    one.pump(0.4)


@pytest.mark.timeout(200)
def test_planned_worked_checkpointed_handed_off_and_completed(start, home: Path, repo: Repo) -> None:
    one = start(FAKE_SAYS="word " * 60)
    prompt(one, "/session start --scope lines=10,tests=4,docs=0 Date parser", "Planned: 160 tokens, 192")
    prompt(one, "Write a parser for dates in src/dates.py", "word word")
    for _ in range(40):  # the vocabulary is loaded meanwhile; the first turn after that counts both
        prompt(one, "We will use a table. TODO: leap years", "word")
        if "◆ auto: 35% of the estimate" in one.text:
            break
    one.wait("◆ auto: 35% of the estimate")
    repo.commit("src/dates.py", "def parse(text):\n    return text\n")
    repo.write("tests/test_dates.py", "def test_parse():\n    assert 1 == 2\n")
    prompt(one, f"!{sys.executable} -m pytest -q -p no:cacheprovider tests", "1 failed")
    prompt(one, "/session phase done", "◆ auto: implement finished")
    prompt(one, "/context", "▸ integrate")
    prompt(one, "/handoff --plain --to other", "goes on from it in a new session")
    prompt(one, "what is left?", "You said: what is left?")
    one.line("/quit", "Saved")

    store = PersistenceManager(home, background=False)
    manager = SessionManager(store)
    newest, first = sorted(store.sessions.page(limit=10), key=lambda row: row.created_us, reverse=True)[:2]
    assert (first.title, first.status) == ("Date parser", "paused")
    assert newest.meta["continues"] == first.id
    assert newest.model == "other"
    note = next(e.data["content"] for e in store.sessions.entries(newest.id, kinds=("message",), whole=True))
    assert "# Handoff: Date parser" in note
    assert "`src/dates.py` (+2 -0)" in note
    assert "`tests/test_dates.py` (+2 -0), untracked" in note
    assert "add src/dates.py" in note
    assert "failed (exit 1): 1 failed" in note
    assert "leap years" in note
    assert "We will use a table." in note
    assert "open: phase test of the plan" in note
    checkpoints = [e.data["name"] for e in store.sessions.entries(first.id, kinds=("checkpoint",))]
    assert checkpoints.count("auto: 35% of the estimate") == 1
    assert checkpoints[0] == "start of the plan"
    assert manager.list_all_sessions()
    store.close()

    two = start("-r", first.id, FAKE_SAYS="fine")
    two.wait("Date parser")
    repo.write("tests/test_dates.py", "def test_parse():\n    assert 1 == 1\n")
    prompt(two, f"!{sys.executable} -m pytest -q -p no:cacheprovider tests", "1 passed")
    prompt(two, "/session complete", "Completed.")
    one.pump(0.2)
    assert "At a glance" in two.text
    assert "done  " in two.text
    two.line("/quit", "Saved")

    store = PersistenceManager(home, background=False)
    row = store.sessions.get(first.id)
    assert row.status == "completed"
    names = [e.data["name"] for e in store.sessions.entries(first.id, kinds=("checkpoint",))]
    assert len([n for n in names if n == "auto: 35% of the estimate"]) == 1
    assert names[-1] == "completed"
    last = store.sessions.entries(first.id, kinds=("event",), whole=True)[-1].data
    assert (last["what"], last["reason"]) == ("handoff", "completed")
    assert "pytest" not in last["text"].split("## Open ends")[1].split("##")[0]
    store.close()


def test_stats_of_a_session_and_of_all_as_json_and_drawn(home: Path, repo: Repo, capsys, monkeypatch) -> None:
    from p8.cli import main

    monkeypatch.chdir(repo.root)
    monkeypatch.setenv("P8_HOME", str(home))
    manager = SessionManager(PersistenceManager(home, background=False))
    manager.start_session("demo", title="work", directory=str(repo.root), commit=repo.git("rev-parse", "HEAD"))
    manager.record_message({"role": "assistant", "content": "x", "tokens_in": 100, "tokens_out": 7, "cost": 0.01})
    manager.end_session()
    manager.store.close()
    repo.write("b.py", "x\n" * 12)

    assert main(["stats", "--json"]) == 0
    sums = json.loads(capsys.readouterr().out)
    assert (sums["totals"]["sessions"], sums["totals"]["tokens_in"], sums["totals"]["cost"]) == (1, 100, 0.01)
    assert main(["stats", "work", "--json"]) == 0
    mine = json.loads(capsys.readouterr().out)
    assert mine["whole"]["lines"]["lines"] == 12
    assert main(["stats", "--health", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["serialisation_errors"] == 0
    assert main(["stats"]) == 0
    drawn = capsys.readouterr().out
    assert "107 " not in drawn.split("Tokens by model")[0].splitlines()[0]
    assert "█" in drawn
    assert "└" in drawn
