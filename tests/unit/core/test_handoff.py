from __future__ import annotations

from pathlib import Path

import pytest

from p8.assistants.base import Cancel
from p8.core.checkpoints import Checkpoints
from p8.core.handoff import Handoffs, as_message, open_ends
from p8.core.sessions import SessionManager
from p8.errors import AssistantError, InvalidTransition
from p8.model import Entry, GitState
from p8.testing import FakeAssistant
from support.repos import Repo, make_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def working(manager: SessionManager, repo: Repo) -> SessionManager:
    """A session with edits, a commit, a failing test, a decision and tasks."""
    manager.start_session("demo", commit=repo.git("rev-parse", "HEAD"), directory=str(repo.root))
    manager.record_message({"role": "user", "content": "Write a parser for dates in src/dates.py"})
    manager.record_message({"role": "assistant", "content": "We'll use a hand-written one. It is small."})
    repo.commit("src/dates.py", "def parse(): ...\n" * 5)
    manager.record_execution("pytest -q", exit_code=1, output="E  assert 1 == 2\n1 failed")
    manager.record_execution("ruff check", exit_code=1, output="bad")
    manager.record_execution("ruff check", exit_code=0, output="fine")
    Checkpoints(manager, lambda: repo.root).create("half way")
    manager.record_message({"role": "assistant", "content": "Left:\n- [ ] leap years\n- [ ] time zones\n- [x] months"})
    manager.record_message({"role": "assistant", "content": "- [x] time zones"})
    repo.write("src/dates.py", "def parse(): return 1\n" * 7)
    repo.write("tests/test_dates.py", "def test(): ...\n")
    manager.record_message({"role": "user", "content": "and what about 29 February?"})
    return manager


def test_it_names_goal_files_commits_decisions_and_open_ends(working: SessionManager, repo: Repo) -> None:
    note = Handoffs(working, lambda: repo.root, lambda: ["plan: 10 of 20", "open: phase test of the plan"]).write()
    text = note.text

    assert "## Goal\n\nWrite a parser for dates in src/dates.py" in text
    assert "add src/dates.py" in text
    assert repo.git("rev-parse", "HEAD")[:10] in text
    assert "branch `main`" in text
    assert "- `src/dates.py` (+7 -0)" in text
    assert "- `tests/test_dates.py` (+1 -0), untracked" in text
    assert "We'll use a hand-written one. [entry 3]" in text
    ends = text.split("## Open ends")[1].split("##")[0]
    assert "`pytest -q` failed (exit 1): 1 failed" in ends
    assert "ruff" not in ends
    assert "leap years" in ends
    assert "time zones" not in ends
    assert "not answered: and what about 29 February?" in ends
    assert "not committed: 1 changed, 1 untracked" in ends
    assert "open: phase test" in ends
    assert "checkpoint 'half way'" in text
    assert f"p8 -r {note.session}" in text
    assert note.path.read_text() == text
    assert note.path.stat().st_mode & 0o077 == 0


def test_it_is_an_entry_of_the_session(working: SessionManager, repo: Repo) -> None:
    note = Handoffs(working, lambda: repo.root).write("completed", to="gemini")
    entries = working.store.sessions.entries(note.session, kinds=("event",), whole=True)

    assert [e.data["what"] for e in entries] == ["handoff"]
    assert entries[0].data["text"] == note.text
    assert "For gemini." in note.text
    assert as_message(note)["content"] == note.text


def test_the_assistant_writes_the_summary_and_the_facts_stay(working: SessionManager, repo: Repo) -> None:
    assistant = FakeAssistant("Dates are parsed by hand; leap years are open.")
    before = len(working.current.conversation_history)  # type: ignore[union-attr]
    note = Handoffs(working, lambda: repo.root, assistant=lambda: assistant).write(summarise=True)

    assert "## Summary, by fake\n\nDates are parsed by hand" in note.text
    assert "`pytest -q` failed" in note.text
    assert "`pytest -q` failed" in assistant.asked[0][0]["content"]
    assert len(working.current.conversation_history) == before  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["fails", "hangs", "cancelled", "none"])
def test_without_a_summary_the_facts_are_enough(working: SessionManager, repo: Repo, how: str) -> None:
    cancel = Cancel()
    if how == "cancelled":
        cancel.set()
    assistant = {
        "fails": FakeAssistant(AssistantError("no key")), "hangs": FakeAssistant("a b c", hang_after=0),
        "cancelled": FakeAssistant("x"), "none": None,
    }[how]  # fmt: skip
    handoffs = Handoffs(working, lambda: repo.root, assistant=lambda: assistant, idle_timeout_s=0.2)
    note = handoffs.write(summarise=True, cancel=cancel)

    assert note.by == ""
    assert "## Summary" not in note.text
    assert "leap years" in note.text


def test_outside_git_and_with_nothing_said(manager: SessionManager, tmp_path: Path) -> None:
    handoffs = Handoffs(manager, lambda: tmp_path)
    with pytest.raises(InvalidTransition):
        handoffs.write()
    manager.start_session("demo")
    note = handoffs.write()
    assert "no git repository" in note.text
    assert "Not said." in note.text


def test_open_ends_of_an_answer_that_failed() -> None:
    entries = [
        Entry("s", 1, 0, "message", {"role": "user", "content": "why?"}),
        Entry("s", 2, 0, "message", {"role": "assistant", "content": "half", "error": "gone"}),
    ]
    assert [(e.text, e.seq) for e in open_ends(entries, GitState(), ())] == [("not answered: why?", 1)]
    done = [*entries, Entry("s", 3, 0, "message", {"role": "assistant", "content": "because"})]
    assert (
        open_ends(done, GitState(ahead=2, upstream="origin/main"), ())[0].text == "2 commits not pushed to origin/main"
    )
