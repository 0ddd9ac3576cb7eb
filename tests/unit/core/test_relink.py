from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from p8.core.projects import ATTRIBUTE, MARKER, Projects
from p8.core.relink import Relink
from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound, UsageError
from support.repos import make_repo


def record(manager: SessionManager, directory: Path, text: str = "hello") -> str:
    """Record a session of the project of a directory."""
    project = Projects(manager.store).of_directory(directory)
    session = manager.start_session(project.name, project=project.id, directory=str(directory))
    manager.record_message({"role": "user", "content": text})
    manager.end_session()
    return str(session.session_id)


def where(manager: SessionManager, session: str) -> tuple[str, str]:
    row = manager.store.sessions.get(session)
    return row.project, row.directory


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def copied(old: Path, new: Path) -> None:
    """Move a directory as something does that loses attributes."""
    shutil.copytree(old, new)
    shutil.rmtree(old)
    for name in os.listxattr(new):
        os.removexattr(new, name)


def test_a_directory_copied_without_its_attribute_is_linked_again(manager: SessionManager, tmp_path: Path) -> None:
    old, new = folder(tmp_path / "old"), tmp_path / "new"
    deep = folder(old / "src")
    one, two = record(manager, old), record(manager, deep)
    project = manager.store.sessions.get(one).project
    copied(old, new)
    plan = Relink(manager).plan(str(old), "new", tmp_path)
    assert [(m.id, m.directory, m.to) for m in plan.sessions] == [(one, str(old), str(new))]
    Relink(manager).apply(plan)

    assert Projects(manager.store).of_directory(new).id == project
    assert where(manager, one) == (project, str(new))
    assert manager.store.sessions.get(two).project != project  # a directory of its own was a project of its own
    new.rename(tmp_path / "again")  # known by its attribute from now on
    assert Projects(manager.store).of_directory(tmp_path / "again").id == project


def test_sessions_below_the_old_directory_move_with_it(manager: SessionManager, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    below = folder(repo.root / "src" / "deep")
    beside = folder(tmp_path / "repository")
    one, two, other = record(manager, repo.root), record(manager, below), record(manager, beside)
    repo.root.rename(tmp_path / "moved")
    plan = Relink(manager).plan(str(repo.root), str(tmp_path / "moved"), tmp_path)
    Relink(manager).apply(plan)

    assert where(manager, one)[1] == str(tmp_path / "moved")
    assert where(manager, two)[1] == str(tmp_path / "moved" / "src" / "deep")
    assert where(manager, other)[1] == str(beside)


def test_what_was_recorded_at_the_new_place_joins(manager: SessionManager, tmp_path: Path) -> None:
    old, new = folder(tmp_path / "old"), tmp_path / "new"
    one = record(manager, old)
    copied(old, new)
    two = record(manager, new)
    manager.annotate(two, trashed=True)
    assert where(manager, one)[0] != where(manager, two)[0]
    relink = Relink(manager)
    before = [where(manager, one), where(manager, two)]
    projects = manager.store.projects.all()
    step = relink.apply(relink.plan("old", str(new), tmp_path))
    assert where(manager, one) == where(manager, two) == (before[0][0], str(new))
    assert Projects(manager.store).of_directory(new).id == before[0][0]
    relink.undo(json.loads(json.dumps(step)))

    assert [where(manager, one), where(manager, two)] == before
    assert manager.store.projects.all() == projects
    assert Projects(manager.store).of_directory(new).id == before[1][0]


def test_a_repository_with_another_history_and_remote_is_linked(manager: SessionManager, tmp_path: Path) -> None:
    old = make_repo(tmp_path / "old", "https://example.invalid/team/tool")
    one = record(manager, old.root)
    project = where(manager, one)[0]
    new = make_repo(tmp_path / "new", "https://example.invalid/other/tool2")
    new.git("commit", "-q", "--allow-empty", "--amend", "-m", "another beginning")
    two = record(manager, new.root)
    assert where(manager, two)[0] != project
    relink = Relink(manager)
    relink.apply(relink.plan(project, str(new.root), tmp_path))
    new.root.rename(tmp_path / "later")

    assert where(manager, two)[0] == project
    assert Projects(manager.store).of_directory(tmp_path / "later").id == project


def test_planning_changes_nothing(manager: SessionManager, tmp_path: Path) -> None:
    old, new = folder(tmp_path / "old"), folder(tmp_path / "new")
    one = record(manager, old)
    before = manager.store.read("SELECT * FROM projects"), manager.store.read("SELECT * FROM places")
    Relink(manager).plan(str(old), str(new), tmp_path)

    assert (manager.store.read("SELECT * FROM projects"), manager.store.read("SELECT * FROM places")) == before
    assert ATTRIBUTE not in os.listxattr(new)
    assert where(manager, one)[1] == str(old)


def test_bad_words_are_told_in_a_line(manager: SessionManager, tmp_path: Path) -> None:
    old, marked = folder(tmp_path / "a" / "same"), folder(tmp_path / "marked")
    record(manager, old)
    record(manager, folder(tmp_path / "b" / "same"))
    (marked / MARKER).parent.mkdir()
    (marked / MARKER).write_text(json.dumps({"id": "other-12345678"}))
    relink = Relink(manager)

    with pytest.raises(NotFound, match="no project"):
        relink.plan("nobody", str(old), tmp_path)
    with pytest.raises(Conflict, match="fits several"):
        relink.plan("same", str(marked), tmp_path)
    with pytest.raises(UsageError, match="not a directory"):
        relink.plan(str(old), str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(UsageError, match="already"):
        relink.plan(str(old), str(old), tmp_path)
    with pytest.raises(Conflict, match="marker"):
        relink.plan(str(old), str(marked), tmp_path)
