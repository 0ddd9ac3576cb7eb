"""A project's tree: what is in the index, what is read again, what is written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from p8.errors import WorkspaceError
from p8.workspace.discovery import MOST_BYTES, Tree
from support.repos import Repo


@pytest.fixture
def repo(directory: Path) -> Repo:
    made = Repo(directory)
    made.git("init", "-q", "-b", "main")
    return made


def paths(tree: Tree) -> list[str]:
    return [file.path for file in tree.index().files]


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """Return all below a directory with times of change and sizes."""
    return {str(p.relative_to(root)): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(root.rglob("*"))}


def test_git_decides_what_is_in_the_index(repo: Repo, home: Path) -> None:
    repo.write(".gitignore", "*.log\nbuild/\n!keep.log\n")
    for name in ("a.py", "b.log", "keep.log", "build/out.js", "deep/down/c.go", "deep/.gitignore", "kept/d.log"):
        repo.write(name)
    repo.write("deep/.gitignore", "*.tmp\n")
    repo.write("deep/x.tmp")
    repo.git("add", "-f", "kept/d.log")

    assert paths(Tree(repo.root / "deep", home)) == [
        ".gitignore", "a.py", "deep/.gitignore", "deep/down/c.go", "keep.log", "kept/d.log",
    ]  # fmt: skip


def test_ignore_rules_count_without_a_repository_too(directory: Path, home: Path) -> None:
    files = Repo(directory)
    files.write(".gitignore", "node_modules\n")
    files.write("index.js")
    files.write("node_modules/left-pad/package.json", "{}")
    assert paths(Tree(directory, home)) == [".gitignore", "index.js"]


def test_odd_names_links_and_pipes_do_no_harm(repo: Repo, home: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("outside")
    names = [
        b"a\nb.py",
        b"\xff\xfe.py",
        b"\x1b[31mred.py",
        b"-rf",
        b" space ",
        b"\xe2\x80\xaertl.py",
        b'"quoted".py',
        b"\\x.py",
    ]
    for name in names:
        with open(os.path.join(os.fsencode(repo.root), name), "wb") as out:
            out.write(b"xy")
    (repo.root / "package.json").symlink_to(tmp_path / "secret.txt")
    (repo.root / "folder").symlink_to(tmp_path)
    os.mkfifo(repo.root / "pyproject.toml")
    tree = Tree(repo.root, home)
    index = tree.index()

    found = {os.fsencode(file.path): file for file in index.files}
    assert found.keys() == {*names, b"package.json", b"folder"}
    assert all(found[name].size_bytes == 2 for name in names)
    assert found[b"package.json"].is_link
    assert found[b"folder"].is_link
    assert index.left_out == (("pyproject.toml", "a pipe, socket or device"),)
    with pytest.raises(WorkspaceError, match="is a link"):
        tree.read("package.json")
    with pytest.raises(WorkspaceError):
        tree.read("folder/secret.txt")
    with pytest.raises(WorkspaceError):
        tree.read("pyproject.toml")
    with pytest.raises(WorkspaceError):
        tree.read("../secret.txt")


def test_what_is_too_large_is_indexed_and_not_read(repo: Repo, home: Path) -> None:
    repo.write("big.json", "x" * (MOST_BYTES + 1))
    tree = Tree(repo.root, home)
    assert [(f.path, f.size_bytes) for f in tree.index().files] == [("big.json", MOST_BYTES + 1)]
    with pytest.raises(WorkspaceError, match="larger"):
        tree.read("big.json")


def test_a_second_look_finds_only_what_changed(repo: Repo, home: Path) -> None:
    for number in range(20):
        repo.write(f"d{number % 3}/f{number}.py", "one\n")
    time.sleep(0.15)
    first = Tree(repo.root, home).index()
    assert len(first.fresh) == 20
    assert not first.same
    again = Tree(repo.root, home).index()
    assert again.same
    assert again.files == first.files
    assert not again.fresh

    repo.write("d0/f0.py", "other\n")
    repo.write("d9/new.py")
    (repo.root / "d1" / "f1.py").unlink()
    third = Tree(repo.root, home).index()
    assert third.fresh == {"d0/f0.py", "d9/new.py"}
    assert {f.path for f in third.files} == {f.path for f in first.files} - {"d1/f1.py"} | {"d9/new.py"}
    assert next(f for f in third.files if f.path == "d0/f0.py").size_bytes == 6

    repo.write(".gitignore", "d2\n")  # a new rule holds for what was seen before
    assert not [f for f in Tree(repo.root, home).index().files if f.path.startswith("d2/")]


def test_what_was_seen_may_be_damaged(repo: Repo, home: Path) -> None:
    repo.write("a.py")
    tree = Tree(repo.root, home)
    tree.index()
    tree.know({"x": 1})
    kept = [p for p in (home / "cache" / "context").iterdir() if p.is_file()]
    assert len(kept) == 2
    for file in kept:
        file.write_bytes(b"\x00damaged")
    assert paths(Tree(repo.root, home)) == ["a.py"]
    assert Tree(repo.root, home).known() == {}


def test_fifty_thousand_files_take_seconds(repo: Repo, home: Path) -> None:
    repo.write(".gitignore", "ignored/\n")
    for folder in range(500):
        at = repo.root / ("ignored" if folder % 50 == 49 else "src") / f"d{folder}"
        at.mkdir(parents=True)
        for number in range(102):
            os.close(os.open(f"{at}/f{number}.py", os.O_CREAT | os.O_WRONLY, 0o644))
    began = time.perf_counter()
    first = Tree(repo.root, home).index()
    looked = time.perf_counter()
    again = Tree(repo.root, home).index()
    ended = time.perf_counter()

    assert len(first.files) == 490 * 102 + 1
    assert again.same
    assert looked - began < 10
    assert ended - looked < 5


def test_looking_writes_nothing_into_the_project(repo: Repo, home: Path) -> None:
    repo.write("package.json", "{}")
    repo.commit()
    before = everything(repo.root)
    tree = Tree(repo.root, home)
    tree.index()
    tree.git()
    tree.know({"schema": 1})
    assert everything(repo.root) == before


def test_git_says_how_the_work_stands(repo: Repo, home: Path) -> None:
    repo.git("remote", "add", "origin", "https://ada:hush@example.invalid/team/tool.git")
    commit = repo.commit("a.txt")
    repo.write("a.txt", "changed\n")
    repo.write("b.txt")
    repo.write(".ai-sessions/context/file-index.json", "{}")
    found = Tree(repo.root, home).git()
    assert (found.state.branch, found.state.commit) == ("main", commit)
    assert (found.state.modified, found.state.untracked) == (("a.txt",), ("b.txt",))
    assert found.remote == "example.invalid/team/tool"
    assert found.commit["author"] == "Ada"
    assert found.state.root == ""


def test_writing_leaves_alone_what_is_as_it_should_be(repo: Repo, home: Path) -> None:
    tree = Tree(repo.root, home)
    assert tree.write({"context/a.json": b"1", "context/b.json": b"2"}) == [
        ".ai-sessions/context/a.json", ".ai-sessions/context/b.json",
    ]  # fmt: skip
    before = everything(repo.root / ".ai-sessions")
    assert tree.write({"context/a.json": b"1", "context/b.json": b"2"}) == []
    assert everything(repo.root / ".ai-sessions") == before
    assert tree.write({"context/a.json": b"1", "context/b.json": b"3"}) == [".ai-sessions/context/b.json"]
    assert sorted(os.listdir(repo.root / ".ai-sessions" / "context")) == ["a.json", "b.json"]
    assert paths(tree) == []  # what P8 wrote is no part of the project


@pytest.mark.parametrize("where", [".ai-sessions", ".ai-sessions/context"])
def test_writing_goes_through_no_link(repo: Repo, home: Path, tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = repo.root / where
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(WorkspaceError, match="is a link or a file"):
        Tree(repo.root, home).write({"context/a.json": b"1"})
    assert os.listdir(outside) == []


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(
    repo: Repo, home: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (repo.root / ".ai-sessions" / "context").mkdir(parents=True)
    (repo.root / ".ai-sessions" / "context" / "a.json").symlink_to(outside)
    Tree(repo.root, home).write({"context/a.json": b"1"})
    assert outside.read_text() == "mine"
    assert (repo.root / ".ai-sessions" / "context" / "a.json").read_bytes() == b"1"


def test_a_home_directory_is_not_looked_through(tmp_path: Path, home: Path) -> None:
    with pytest.raises(WorkspaceError, match="home directory"):
        Tree(tmp_path / "user", home).index()
