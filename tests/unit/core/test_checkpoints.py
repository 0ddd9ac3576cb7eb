from __future__ import annotations

import os
from pathlib import Path

import pytest

from p8.core.checkpoints import Checkpoints
from p8.core.sessions import SessionManager
from p8.errors import Conflict, InvalidTransition, NotFound, WorkspaceError
from p8.model import GitState
from support.repos import Repo, make_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def checkpoints(manager: SessionManager, repo: Repo) -> Checkpoints:
    return Checkpoints(manager, lambda: repo.root)


def say(manager: SessionManager, *texts: str) -> None:
    for text in texts:
        manager.record_message({"role": "user", "content": text})


def said(manager: SessionManager) -> list[str]:
    assert manager.current is not None
    return [message["content"] for message in manager.current.conversation_history]


def test_a_checkpoint_binds_conversation_and_git(manager: SessionManager, checkpoints: Checkpoints, repo: Repo) -> None:
    session = manager.start_session("demo")
    say(manager, "one")
    repo.write("new.txt")
    made = checkpoints.create("before the leap")
    found = checkpoints.list(session.session_id)

    assert [(c.id, c.name, c.seq, c.git) for c in found] == [(made.id, "before the leap", made.seq, made.git)]
    assert found[0].git.untracked == ("new.txt",)
    assert found[0].git.commit == repo.git("rev-parse", "HEAD")
    assert found[0].data["head"]["subject"] == "add a.txt"
    assert found[0].data["directory"] == str(repo.root)


def test_it_tells_the_session_where_the_work_stands(
    manager: SessionManager, checkpoints: Checkpoints, repo: Repo
) -> None:
    session = manager.start_session("demo", branch="other", directory="/elsewhere")
    checkpoints.create()
    row = manager.store.sessions.get(session.session_id)

    assert (row.branch, row.commit, row.directory) == ("main", repo.git("rev-parse", "HEAD"), str(repo.root))


def test_names_are_counted_where_none_are_given(manager: SessionManager, checkpoints: Checkpoints) -> None:
    manager.start_session("demo")

    assert [checkpoints.create(name).name for name in ("", "  ", " mine ", "")] == [
        "checkpoint 1", "checkpoint 2", "mine", "checkpoint 4"
    ]  # fmt: skip


def test_without_a_session_there_is_nothing_to_mark(checkpoints: Checkpoints) -> None:
    with pytest.raises(InvalidTransition):
        checkpoints.create("x")
    assert checkpoints.list() == []


def test_going_back_is_a_fork_at_that_point(manager: SessionManager, checkpoints: Checkpoints, repo: Repo) -> None:
    original = manager.start_session("demo")
    say(manager, "one")
    made = checkpoints.create("here")
    say(manager, "two")
    commit = repo.git("rev-parse", "HEAD")
    repo.commit("b.txt")
    checkpoints.create("later")
    fork = checkpoints.go_back(made)
    say(manager, "three")
    row = manager.store.sessions.get(fork.session_id)
    say_before = [e.text for e in manager.store.sessions.entries(original.session_id, kinds=("message",))]

    assert said(manager) == ["one", "three"]
    assert say_before == ["one", "two"]
    assert (row.parent, row.fork_seq, row.title) == (original.session_id, made.seq, "↳ here")
    assert row.commit == commit  # what the conversation knows of, not what is there now
    assert [c.name for c in checkpoints.list(fork.session_id)] == ["here"]
    assert repo.git("rev-parse", "HEAD") != commit


def test_going_back_works_from_a_fork_to_its_parents_checkpoint(
    manager: SessionManager, checkpoints: Checkpoints
) -> None:
    manager.start_session("demo")
    say(manager, "one")
    first = checkpoints.create("first")
    say(manager, "two")
    checkpoints.go_back(checkpoints.create("second"))
    say(manager, "three")
    checkpoints.go_back(checkpoints.get("first"))

    assert said(manager) == ["one"]
    assert checkpoints.get("first").id == first.id


def test_checkpoints_are_found_by_name_id_and_beginning(manager: SessionManager, checkpoints: Checkpoints) -> None:
    manager.start_session("demo")
    alpha, beta, again = checkpoints.create("Alpha"), checkpoints.create("beta one"), checkpoints.create("beta two")

    assert checkpoints.get("last").id == checkpoints.get("").id == again.id
    assert checkpoints.get("alpha").id == checkpoints.get(alpha.id).id == checkpoints.get("al").id == alpha.id
    assert checkpoints.get("beta one").id == beta.id
    assert checkpoints.get(alpha.id[:-1]).id == alpha.id
    with pytest.raises(Conflict, match="beta one"):
        checkpoints.get("beta")
    with pytest.raises(NotFound, match="gamma"):
        checkpoints.get("gamma")


def test_the_current_session_goes_before_all_others(manager: SessionManager, checkpoints: Checkpoints) -> None:
    first = manager.start_session("demo")
    mine = checkpoints.create("start")
    only = checkpoints.create("only here")
    manager.start_session("demo")
    other = checkpoints.create("start")
    manager.resume_session(first.session_id)

    assert checkpoints.get("start").id == mine.id
    assert checkpoints.get("last").id == only.id
    manager.resume_session(other.session_id)
    assert checkpoints.get("only here").id == only.id
    assert checkpoints.get("last").id == other.id


def test_of_several_with_one_name_the_newest_is_meant(manager: SessionManager, checkpoints: Checkpoints) -> None:
    manager.start_session("demo")
    checkpoints.create("green")
    newest = checkpoints.create("green")

    assert checkpoints.get("green").id == newest.id


def test_those_in_the_trash_are_not_listed(manager: SessionManager, checkpoints: Checkpoints) -> None:
    gone = manager.start_session("demo")
    checkpoints.create("gone")
    manager.start_session("demo")
    kept = checkpoints.create("kept")
    manager.annotate(gone.session_id, trashed=True)

    assert [c.id for c in checkpoints.list()] == [kept.id]


def test_those_of_packed_sessions_are_listed(manager: SessionManager, checkpoints: Checkpoints) -> None:
    session = manager.start_session("demo")
    made = checkpoints.create("long ago")
    manager.end_session()
    assert manager.store.drain()
    manager.store.keeper.write(
        lambda db: (
            db.execute("INSERT INTO packed SELECT * FROM entries"),
            db.execute("DELETE FROM entries"),
        )
    )

    assert [c.id for c in checkpoints.list()] == [made.id]
    assert [c.id for c in checkpoints.list(session.session_id)] == [made.id]


def test_a_large_one_comes_back_whole(manager: SessionManager, checkpoints: Checkpoints, repo: Repo) -> None:
    names = [f"{'n' * 90}/{number:05d}" for number in range(1000)]
    for name in names:
        repo.write(name)
    session = manager.start_session("demo")
    checkpoints.create("large")

    for found in (checkpoints.list()[0], checkpoints.list(session.session_id)[0], checkpoints.get("large")):
        assert list(found.git.untracked) == names


def test_git_out_of_order_costs_a_line_and_not_the_checkpoint(manager: SessionManager, repo: Repo) -> None:
    (repo.root / ".git" / "index").write_bytes(b"nonsense")
    manager.start_session("demo")
    made = Checkpoints(manager, lambda: repo.root).create("x")

    assert made.git == GitState("main", repo.git("rev-parse", "HEAD"))
    assert "git status failed" in made.data["git_problem"]


def test_outside_a_repository_the_conversation_is_marked(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    checkpoints = Checkpoints(manager, lambda: tmp_path)
    made = checkpoints.create("x")

    assert made.git == GitState()
    assert checkpoints.go_back(made).metadata["branch"] == ""


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "\ud800", "x" * 100_000, "\u202edrow", "--flag", "%s"])
def test_odd_names_are_kept(manager: SessionManager, checkpoints: Checkpoints, name: str) -> None:
    manager.start_session("demo")
    made = checkpoints.create(name)

    assert checkpoints.get("last").name == name == made.name


def test_odd_paths_are_kept(manager: SessionManager, tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    repo = make_repo(root)
    repo.write(os.fsdecode(b"\xff.txt"))
    manager.start_session("demo", directory=str(root))
    made = Checkpoints(manager, lambda: root).create("x")
    found = Checkpoints(manager, lambda: root).get("last")

    assert found.git == made.git
    assert found.git.untracked == (os.fsdecode(b"\xff.txt"),)


def test_a_database_out_of_reach_does_not_prevent_one(manager: SessionManager, checkpoints: Checkpoints) -> None:
    manager.start_session("demo")
    (manager.store.home / "p8.db").mkdir()

    assert checkpoints.create().name == "checkpoint"
    (manager.store.home / "p8.db").rmdir()
    assert [c.name for c in checkpoints.list()] == ["checkpoint"]


def test_files_are_kept_where_somebody_keeps_them(manager: SessionManager, repo: Repo) -> None:
    manager.start_session("demo")
    asked: list[Path] = []

    def keep(directory: Path) -> dict[str, object]:
        asked.append(directory)
        if len(asked) > 1:
            raise WorkspaceError("too large")
        return {"snapshot": "abc"}

    checkpoints = Checkpoints(manager, lambda: repo.root, snapshots=keep)
    one, two = checkpoints.create(), checkpoints.create()

    assert asked == [repo.root, repo.root]
    assert one.data["files"] == {"snapshot": "abc"}
    assert "files" not in two.data
    assert two.data["files_problem"] == "too large"


def test_two_checkpoints_are_compared(manager: SessionManager, checkpoints: Checkpoints, repo: Repo) -> None:
    manager.start_session("demo")
    one = checkpoints.create("one")
    first = one.git.commit[:10]
    repo.commit("b.txt")
    repo.git("checkout", "-qb", "feature")
    second = repo.commit("c.txt")[:10]
    repo.write("a.txt", "changed\n")
    two = checkpoints.create("two")

    assert checkpoints.diff(one, one) == []
    assert checkpoints.diff(one, two) == [
        "branch was main, is feature",
        f"HEAD was {first}, is {second} (2 commits ahead)",
        "1 file changed: a.txt",
    ]
    repo.write("a.txt", "one\n")
    assert checkpoints.diff(two) == ["1 file no longer changed: a.txt"]
