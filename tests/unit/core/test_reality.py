from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from p8.core.checkpoints import Checkpoints
from p8.core.reality import differences, last_stood, note_place, place_now, reality_check, told
from p8.core.sessions import SessionManager
from p8.model import GitState, SessionRow
from p8.workspace import git
from support.repos import Repo, make_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "repo")


def left(manager: SessionManager, root: Path) -> SessionRow:
    """Return a session that was left in a directory as it is now."""
    branch, commit = git.head(root)
    session = manager.start_session("demo", directory=str(root), branch=branch, commit=commit)
    return manager.store.sessions.get(session.session_id)


def noted(manager: SessionManager, root: Path) -> tuple[SessionRow, GitState]:
    """Return a session that was left in a directory, with what was recorded of its files last."""
    row = left(manager, root)
    note_place(manager, root, place_now(root))
    state = last_stood(manager, row.id).git
    assert state is not None
    return manager.store.sessions.get(row.id), state


def test_nothing_is_said_where_nothing_changed(manager: SessionManager, repo: Repo) -> None:
    row, state = noted(manager, repo.root)

    assert reality_check(row, repo.root) == []
    assert reality_check(row, repo.root, state) == []


def test_another_branch_is_said(manager: SessionManager, repo: Repo) -> None:
    row = left(manager, repo.root)
    repo.git("checkout", "-qb", "feature")
    assert reality_check(row, repo.root) == ["branch was main, is feature"]

    repo.git("checkout", "-q", "--detach")
    assert reality_check(row, repo.root) == ["branch was main, is none (detached HEAD)"]

    detached = left(manager, repo.root)
    repo.git("checkout", "-q", "main")
    assert reality_check(detached, repo.root) == ["branch was none (detached HEAD), is main"]


def test_a_moved_head_is_counted(manager: SessionManager, repo: Repo) -> None:
    row = left(manager, repo.root)
    old = row.commit[:10]
    repo.commit("b.txt")
    new = repo.commit("c.txt")
    assert reality_check(row, repo.root) == [f"HEAD was {old}, is {new[:10]} (2 commits ahead)"]

    later = row._replace(commit=new)
    repo.git("reset", "-q", "--hard", row.commit)
    assert reality_check(later, repo.root) == [f"HEAD was {new[:10]}, is {old} (2 commits behind)"]

    other = repo.commit("d.txt")
    assert reality_check(later, repo.root) == [
        f"HEAD was {new[:10]}, is {other[:10]} (1 commit ahead, 2 commits behind)"
    ]


def test_a_commit_that_is_gone_is_said(manager: SessionManager, repo: Repo) -> None:
    row = left(manager, repo.root)._replace(commit="0" * 40)

    assert "is not there any more" in reality_check(row, repo.root)[0]


@pytest.mark.parametrize("commit", ["--output=/tmp/x", "HEAD", "x" * 5000, "\ud800", ""])
def test_odd_records_run_nothing_odd(manager: SessionManager, repo: Repo, commit: str) -> None:
    row = left(manager, repo.root)._replace(commit=commit)

    assert len(reality_check(row, repo.root)) == 1
    assert reality_check(row._replace(directory="\ud800\0"), repo.root) != []


def test_an_unborn_repository_is_compared(manager: SessionManager, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "new", commits=0)
    row = left(manager, repo.root)
    assert reality_check(row, repo.root) == []

    commit = repo.commit()
    assert reality_check(row, repo.root) == [f"HEAD was none, is {commit[:10]}"]


def test_a_missing_directory_is_said_once(manager: SessionManager, repo: Repo, tmp_path: Path) -> None:
    row, state = noted(manager, repo.root)
    shutil.rmtree(repo.root)
    elsewhere = make_repo(tmp_path / "elsewhere", commits=0)
    elsewhere.commit("unrelated.txt")

    for place in (tmp_path, elsewhere.root):
        assert reality_check(row, place, state) == [f"its directory is gone: {repo.root}"]


def test_a_moved_repository_is_recognised(manager: SessionManager, repo: Repo, tmp_path: Path) -> None:
    row = left(manager, repo.root)
    repo.root.rename(tmp_path / "moved")
    Repo(tmp_path / "moved").git("checkout", "-qb", "feature")

    assert reality_check(row, tmp_path / "moved") == [
        f"its directory is gone: {repo.root}; its repository is in {tmp_path / 'moved'}",
        "branch was main, is feature",
    ]


def test_a_removed_work_tree_is_said(manager: SessionManager, repo: Repo, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    repo.git("worktree", "add", "-q", "-b", "feature", str(tree))
    row, state = noted(manager, tree)
    shutil.rmtree(repo.root / ".git" / "worktrees")
    assert reality_check(row, tree, state) == ["its work tree was removed"]

    (tree / ".git").unlink()
    assert reality_check(row, tree, state) == ["the repository is gone"]


def test_standing_elsewhere_is_said(manager: SessionManager, repo: Repo, tmp_path: Path) -> None:
    row = left(manager, repo.root)
    tree = tmp_path / "tree"
    repo.git("worktree", "add", "-q", "-b", "feature", str(tree))
    other = make_repo(tmp_path / "other")
    other.git("checkout", "-qb", "unrelated")

    assert reality_check(row, other.root) == [f"it was recorded in {repo.root}, you are in {other.root}"]
    assert reality_check(row, tree) == [
        f"it was recorded in {repo.root}, you are in {tree}",
        "branch was main, is feature",
    ]


def test_a_link_to_its_directory_is_its_directory(manager: SessionManager, repo: Repo, tmp_path: Path) -> None:
    row = left(manager, repo.root)
    (tmp_path / "link").symlink_to(repo.root)

    assert reality_check(row, tmp_path / "link") == []


def test_files_and_stashes_are_compared(manager: SessionManager, repo: Repo) -> None:
    repo.commit("b.txt")
    repo.write("a.txt", "changed\n")
    repo.write("old.txt")
    row, state = noted(manager, repo.root)
    repo.git("stash", "-q")
    repo.write("b.txt", "changed\n")
    for number in range(5):
        repo.write(f"new{number}.txt")
    (repo.root / "old.txt").unlink()

    assert reality_check(row, repo.root, state) == [
        "stashes were 0, are 1",
        "1 file changed: b.txt",
        "1 file no longer changed: a.txt",
        "5 files untracked: new0.txt, new1.txt, new2.txt …",
        "1 file no longer untracked: old.txt",
    ]


def test_what_was_not_recorded_is_not_guessed_at(manager: SessionManager, repo: Repo) -> None:
    row, state = noted(manager, repo.root)
    repo.write("a.txt", "changed\n")

    assert reality_check(row, repo.root, GitState(state.branch, state.commit)) == []
    assert reality_check(row._replace(branch="", commit="", directory=""), repo.root) == []


def test_it_goes_on_where_git_does_not(manager: SessionManager, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    row, state = noted(manager, repo.root)
    new = repo.commit("b.txt")
    repo.git("checkout", "-qb", "feature")
    monkeypatch.setattr(shutil, "which", lambda *_words, **_more: None)

    assert reality_check(row, repo.root, state) == [
        "branch was main, is feature",
        f"HEAD was {row.commit[:10]}, is {new[:10]}",
    ]


def test_it_changes_nothing(manager: SessionManager, repo: Repo) -> None:
    row, state = noted(manager, repo.root)
    os.utime(repo.root / "a.txt", (1, 1))
    before = {p: p.stat().st_mtime_ns for p in (repo.root / ".git").rglob("*")}
    reality_check(row, repo.root, state)

    assert {p: p.stat().st_mtime_ns for p in (repo.root / ".git").rglob("*")} == before


def test_conflicts_count_as_differences() -> None:
    old, new = GitState("main", "a"), GitState("main", "a", conflicted=("x", "y"))

    assert differences(old, new) == ["2 files in conflict: x, y"]
    assert differences(new, old) == ["2 files no longer in conflict: x, y"]


def test_the_assistant_is_told_the_same() -> None:
    assert told([]) == ""
    assert told(["a", "b"]) == "Since this conversation was left:\n- a\n- b"


def test_the_state_recorded_last_counts(manager: SessionManager, repo: Repo) -> None:
    row, _ = noted(manager, repo.root)
    repo.write("one.txt")
    Checkpoints(manager, lambda: repo.root).create("here")
    assert last_stood(manager, row.id).git.untracked == ("one.txt",)  # type: ignore[union-attr]

    repo.write("two.txt")
    note_place(manager, repo.root, place_now(repo.root))
    assert last_stood(manager, row.id).git.untracked == ("one.txt", "two.txt")  # type: ignore[union-attr]


def test_a_fork_stands_where_its_checkpoint_stood(manager: SessionManager, repo: Repo) -> None:
    left(manager, repo.root)
    checkpoints = Checkpoints(manager, lambda: repo.root)
    made = checkpoints.create("here")
    repo.git("checkout", "-qb", "feature")
    repo.write("new.txt")
    note_place(manager, repo.root, place_now(repo.root))
    fork = checkpoints.go_back(made)
    row = manager.store.sessions.get(fork.session_id)

    assert reality_check(row, repo.root, last_stood(manager, row.id).git) == [
        "branch was main, is feature",
        "1 file untracked: new.txt",
    ]


def test_noting_moves_no_session_in_a_list(manager: SessionManager, repo: Repo) -> None:
    row = left(manager, repo.root)
    manager.record_message({"role": "user", "content": "x"})
    before = manager.store.sessions.get(row.id)
    repo.git("checkout", "-qb", "feature")
    note_place(manager, repo.root, place_now(repo.root))
    after = manager.store.sessions.get(row.id)

    assert (after.last_us, after.messages, after.size_bytes) == (before.last_us, before.messages, before.size_bytes)
    assert after.branch == "feature"


def test_outside_a_repository_nothing_is_noted(manager: SessionManager, tmp_path: Path) -> None:
    row = left(manager, tmp_path)
    note_place(manager, tmp_path, place_now(tmp_path))

    assert last_stood(manager, row.id).git is None
    assert manager.store.sessions.get(row.id).entries == row.entries
    assert last_stood(manager, "20000101-000000-000000-0000").git is None
