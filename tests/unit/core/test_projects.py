from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from p8.core.projects import ATTRIBUTE, ID, MARKER, Projects, check_prefix, prefix_from
from p8.errors import StoreError, UsageError
from p8.store.manager import PersistenceManager
from p8.workspace import git
from support.repos import Repo, make_repo


@pytest.fixture
def projects(store: PersistenceManager) -> Projects:
    return Projects(store)


def clone(repo: Repo, to: Path, *options: str) -> Repo:
    to.parent.mkdir(parents=True, exist_ok=True)
    repo.git("clone", "-q", *options, f"file://{repo.root}", str(to))
    return Repo(to)


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


# repositories


def test_a_subdirectory_belongs_to_its_repository(projects: Projects, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    below = folder(repo.root / "src" / "deep")

    assert projects.of_directory(below) == projects.of_directory(repo.root)
    assert projects.of_directory(below).root == str(repo.root)


def test_a_moved_repository_stays_the_same_project(projects: Projects, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "before")
    project = projects.of_directory(repo.root)
    repo.root.rename(tmp_path / "after")
    again = projects.of_directory(tmp_path / "after")

    assert again.id == project.id
    assert again.name == "before"
    assert again.root == str(tmp_path / "after")


def test_a_clone_on_another_machine_is_the_same_project(projects: Projects, tmp_path: Path) -> None:
    remote = "https://example.invalid/team/tool.git"
    here = make_repo(tmp_path / "here", remote)
    there = clone(here, tmp_path / "somewhere" / "else")
    there.git("remote", "set-url", "origin", "git@example.invalid:team/tool")
    elsewhere = Projects(PersistenceManager(tmp_path / "another home", background=False))

    assert projects.of_directory(here.root).id == elsewhere.of_directory(there.root).id
    assert projects.of_directory(here.root).name == "tool"


def test_a_clone_of_a_local_repository_is_the_same_project(projects: Projects, tmp_path: Path) -> None:
    for remote in ("", "https://example.invalid/team/tool.git"):
        here = make_repo(tmp_path / f"here{len(remote)}", remote)
        there = clone(here, tmp_path / f"there{len(remote)}")
        assert projects.of_directory(here.root).id == projects.of_directory(there.root).id


def test_work_trees_are_one_project(projects: Projects, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    repo.git("worktree", "add", "-q", "-b", "feature", str(tmp_path / "feature"))
    first = projects.of_directory(tmp_path / "feature")

    assert first.id == projects.of_directory(repo.root).id
    assert first.name == "repo"
    assert first.root == str(tmp_path / "feature")


def test_forks_with_remotes_of_their_own_are_projects_of_their_own(projects: Projects, tmp_path: Path) -> None:
    upstream = make_repo(tmp_path / "upstream", "https://example.invalid/team/tool")
    fork = clone(upstream, tmp_path / "fork")
    fork.git("remote", "set-url", "origin", "https://example.invalid/me/tool")

    assert projects.of_directory(upstream.root).id != projects.of_directory(fork.root).id


def test_a_missing_remote_on_either_side_does_not_part_them(projects: Projects, tmp_path: Path) -> None:
    bare = make_repo(tmp_path / "without")
    named = clone(bare, tmp_path / "with")
    named.git("remote", "set-url", "origin", "https://example.invalid/team/tool")
    without = projects.of_directory(bare.root)
    with_one = projects.of_directory(named.root)
    third = clone(bare, tmp_path / "third")
    third.git("remote", "remove", "origin")

    assert with_one.id == without.id
    assert with_one.remote == "example.invalid/team/tool"
    assert projects.of_directory(third.root).id == without.id


def test_the_remote_decides_between_several_with_one_beginning(projects: Projects, tmp_path: Path) -> None:
    first = make_repo(tmp_path / "first")
    known = projects.of_directory(first.root)
    second = clone(first, tmp_path / "second")
    second.git("remote", "set-url", "origin", "https://example.invalid/a/tool")
    third = clone(first, tmp_path / "third")
    third.git("remote", "set-url", "origin", "https://example.invalid/b/tool")
    two, three = projects.of_directory(second.root), projects.of_directory(third.root)
    fourth = clone(first, tmp_path / "fourth")
    fourth.git("remote", "set-url", "origin", "https://example.invalid/b/tool")

    assert two.id == known.id
    assert three.id != known.id
    assert projects.of_directory(fourth.root).id == three.id


def test_a_shallow_clone_is_the_same_project(projects: Projects, tmp_path: Path) -> None:
    remote = "https://example.invalid/team/tool"
    whole = make_repo(tmp_path / "whole", remote, commits=3)
    shallow = clone(whole, tmp_path / "shallow", "--depth", "1")
    shallow.git("remote", "set-url", "origin", remote)

    assert git.identity(shallow.root).root_commit == ""  # type: ignore[union-attr]
    assert projects.of_directory(shallow.root).id == projects.of_directory(whole.root).id


def test_merging_an_older_history_does_not_make_it_another_project(projects: Projects, tmp_path: Path) -> None:
    library = Repo(folder(tmp_path / "library"))
    library.git("init", "-q", "-b", "main", ".")
    library.commit("lib.txt", at=1_000_000_000)
    repo = make_repo(tmp_path / "repo")
    before = git.identity(repo.root)
    repo.git("fetch", "-q", f"file://{library.root}", "main")
    repo.git("merge", "-q", "--allow-unrelated-histories", "-m", "take in", "FETCH_HEAD")

    assert git.identity(repo.root) == before


def test_another_repository_in_its_place_is_another_project(projects: Projects, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    before = projects.of_directory(repo.root)
    repo.root.rename(tmp_path / "away")
    other = Repo(folder(tmp_path / "repo"))
    other.git("init", "-q", "-b", "main", ".")
    other.commit("b.txt", at=1_700_000_000)

    assert projects.of_directory(other.root).id != before.id
    assert projects.of_directory(tmp_path / "away").id == before.id


def test_a_directory_that_becomes_a_repository_keeps_its_project(projects: Projects, tmp_path: Path) -> None:
    root = folder(tmp_path / "idea")
    plain = projects.of_directory(root)
    repo = Repo(root)
    repo.git("init", "-q", "-b", "main", ".")
    unborn = projects.of_directory(root)
    commit = repo.commit()
    born = projects.of_directory(root)

    assert plain.id == unborn.id == born.id
    assert born.root_commit == commit
    assert projects.of_directory(root) == born


def test_it_keeps_it_where_attributes_cannot_be_set(
    projects: Projects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_attributes(monkeypatch)
    root = folder(tmp_path / "idea")
    plain = projects.of_directory(root)
    repo = Repo(root)
    repo.git("init", "-q", "-b", "main", ".")
    repo.commit()

    assert projects.of_directory(root).id == plain.id


def test_a_new_remote_does_not_make_it_another_project(projects: Projects, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", "https://old.invalid/tool")
    before = projects.of_directory(repo.root)
    repo.git("remote", "set-url", "origin", "https://new.invalid/tool")

    assert projects.of_directory(repo.root).id == before.id


def test_a_known_place_runs_no_git(projects: Projects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = make_repo(tmp_path / "repo")
    known = projects.of_directory(repo.root)

    import subprocess

    def never(*_words: object, **_more: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(subprocess, "run", never)
    assert projects.of_directory(repo.root / ".") == known


def test_without_git_a_repository_is_known_all_the_same(
    projects: Projects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo(tmp_path / "repo")
    with monkeypatch.context() as without:
        without.setattr(shutil, "which", lambda *_words, **_more: None)
        before = projects.of_directory(repo.root)
    after = projects.of_directory(repo.root)

    assert before.root_commit == ""
    assert after.id == before.id
    assert after.root_commit != ""


def test_dotfiles_in_the_home_do_not_swallow_it(projects: Projects, tmp_path: Path) -> None:
    home = make_repo(Path.home())
    notes = folder(Path.home() / "notes")

    assert projects.of_directory(notes).id != projects.of_directory(home.root).id
    assert projects.of_directory(home.root).root_commit != ""


# plain directories


def refuse_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object, **_more: object) -> bytes:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)


def need_attributes(path: Path) -> None:
    try:
        os.setxattr(path, "user.p8.try", b"1")
    except OSError:
        pytest.skip("this file system has no attributes")


def test_a_moved_directory_stays_the_same_project(projects: Projects, tmp_path: Path) -> None:
    need_attributes(tmp_path)
    project = projects.of_directory(folder(tmp_path / "notes"))
    (tmp_path / "notes").rename(tmp_path / "papers")
    new = projects.of_directory(folder(tmp_path / "notes"))

    assert projects.of_directory(tmp_path / "papers").id == project.id
    assert projects.of_directory(tmp_path / "papers").name == "notes"
    assert new.id != project.id


def test_nothing_but_an_attribute_is_left_in_it(projects: Projects, tmp_path: Path) -> None:
    need_attributes(tmp_path)
    root = folder(tmp_path / "notes")
    project = projects.of_directory(root)

    assert list(root.iterdir()) == []
    assert os.getxattr(root, ATTRIBUTE).decode() == project.id


def test_a_directory_without_attributes_goes_by_its_path(
    projects: Projects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_attributes(monkeypatch)
    root = folder(tmp_path / "notes")
    project = projects.of_directory(root)
    elsewhere = Projects(PersistenceManager(tmp_path / "another home", background=False))

    assert projects.of_directory(root).id == project.id
    assert elsewhere.of_directory(root).id == project.id


def test_places_are_not_marked(projects: Projects) -> None:
    home = projects.of_directory(Path.home())

    assert projects.of_directory(Path.home()).id == home.id
    assert projects.of_directory(Path("/tmp")).id.startswith("tmp-")
    assert projects.of_directory(Path("/")).name == "root"
    for place in (Path.home(), Path("/tmp"), Path("/")):
        assert ATTRIBUTE not in os.listxattr(place)


def test_a_link_leads_to_the_same_project(projects: Projects, tmp_path: Path) -> None:
    root = folder(tmp_path / "notes")
    (tmp_path / "link").symlink_to(root)

    assert projects.of_directory(tmp_path / "link").id == projects.of_directory(root).id


@pytest.mark.parametrize("name", [b"\xff\xfe", "söß".encode(), b"--flag", b"a\nb", b"1984", b"x" * 200])
def test_odd_names_make_valid_ids(projects: Projects, tmp_path: Path, name: bytes) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    project = projects.of_directory(folder(root))

    assert ID.fullmatch(project.id)
    assert projects.of_directory(root) == project
    project.name.encode()


def test_a_directory_that_is_gone_costs_nothing(projects: Projects, tmp_path: Path) -> None:
    assert ID.fullmatch(projects.of_directory(tmp_path / "gone").id)


# markers


def mark(root: Path, data: object) -> None:
    (root / MARKER).parent.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_text(data if isinstance(data, str) else json.dumps(data))


def test_a_marker_goes_before_everything(projects: Projects, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    before = projects.of_directory(repo.root)
    mark(repo.root, {"id": "chosen-0123abcd", "name": "Chosen"})
    marked = projects.of_directory(repo.root / ".")

    assert before.id != marked.id
    assert (marked.id, marked.name) == ("chosen-0123abcd", "Chosen")
    assert projects.of_directory(repo.root) == marked


def test_the_nearest_marker_counts(projects: Projects, tmp_path: Path) -> None:
    root = folder(tmp_path / "work")
    mark(root, {"id": "outer-00000001"})
    inner = folder(root / "a" / "b")
    mark(root / "a", {"id": "inner-00000002"})
    repo = make_repo(root / "repo")

    assert projects.of_directory(inner).id == "inner-00000002"
    assert projects.of_directory(root).id == "outer-00000001"
    assert projects.of_directory(repo.root).id not in {"outer-00000001", "inner-00000002"}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"id": 7}', '{"id": "../../etc"}', '{"id": "UPPER-00000000"}', "[" * 100_000, "\x00"]
)
def test_a_marker_that_makes_no_sense_is_left_alone(projects: Projects, tmp_path: Path, text: str) -> None:
    root = folder(tmp_path / "notes")
    plain = projects.of_directory(root)
    mark(root, text)

    assert projects.of_directory(root) == plain


def test_a_pipe_in_place_of_a_marker_does_not_hang(projects: Projects, tmp_path: Path) -> None:
    root = folder(tmp_path / "notes")
    (root / MARKER).parent.mkdir()
    os.mkfifo(root / MARKER)

    assert ID.fullmatch(projects.of_directory(root).id)


# the store


def test_what_a_person_said_of_a_project_is_kept(projects: Projects, store: PersistenceManager, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    project = projects.of_directory(repo.root)
    row = store.projects.get(project.id)
    assert row is not None
    store.projects.save({**row, "name": "Mine", "meta": {"tags": ["x"]}})
    repo.root.rename(tmp_path / "moved")
    again = projects.of_directory(tmp_path / "moved")
    now = store.projects.get(project.id)

    assert (again.name, again.meta) == ("Mine", {"tags": ["x"]})
    assert now is not None
    assert (now["name"], now["meta"], now["created"]) == ("Mine", {"tags": ["x"]}, row["created"])
    assert now["root"] == str(tmp_path / "moved")


def test_a_store_out_of_reach_delays_remembering_only(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "p8.db").mkdir()  # no database can be opened or made there
    store = PersistenceManager(home, background=False)
    projects = Projects(store)
    repo, notes = make_repo(tmp_path / "repo"), folder(tmp_path / "notes")
    here, there = projects.of_directory(repo.root), projects.of_directory(notes)
    with pytest.raises(StoreError):
        store.projects.get(here.id)
    (home / "p8.db").rmdir()
    again = projects.of_directory(repo.root)

    assert again.id == here.id
    assert store.projects.get(here.id) is not None
    assert projects.of_directory(notes).id == there.id
    store.close()


# ids


def test_prefixes_follow_the_rules() -> None:
    assert check_prefix("a-1") == "a-1"
    for bad in ("", "1a", "-a", "A", "a_b", "a" * 33, "a\n"):
        with pytest.raises(UsageError):
            check_prefix(bad)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("My Project!", "my-project"), ("123", "project"), ("9to5", "to5"), ("é", "project"), ("a" * 40, "a" * 32)],
)
def test_a_prefix_is_made_of_any_name(name: str, prefix: str) -> None:
    assert prefix_from(name) == prefix
    assert check_prefix(prefix_from(name))
