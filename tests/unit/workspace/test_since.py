from __future__ import annotations

from pathlib import Path

from p8.workspace.since import changes, commits, quietly
from support.repos import make_repo


def test_what_was_done_since_a_commit(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    start = repo.git("rev-parse", "HEAD")
    repo.commit("src/a.py", "one\ntwo\n")
    last = repo.commit("b.txt", "1\n2\n3\n")
    repo.write("src/a.py", "one\n2\n3\n")
    repo.write("new é.md", "text without an end")
    repo.write("blob.bin", "a\0b")
    repo.write("ignored.log", "x")
    repo.write(".gitignore", "*.log\n")

    assert commits(repo.root, start)[0] == (last, "add b.txt")
    assert len(commits(repo.root, start)) == 2
    assert [tuple(c) for c in changes(repo.root, start)] == [
        (".gitignore", 1, 0, True), ("b.txt", 3, 0, False), ("blob.bin", 0, 0, True), ("new é.md", 1, 0, True),
        ("src/a.py", 3, 0, False),
    ]  # fmt: skip


def test_without_that_commit_or_git_there_is_nothing(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    assert quietly(repo.root, "0" * 40) == ([], [])
    assert quietly(repo.root, "--output=x") == ([], [])
    assert quietly(tmp_path, "0" * 40) == ([], [])


def test_nothing_of_the_repository_is_run(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    start = repo.git("rev-parse", "HEAD")
    trap = tmp_path / "ran"
    for key in ("diff.external", "diff.evil.textconv", "filter.evil.clean", "core.fsmonitor", "core.pager"):
        repo.git("config", key, f"touch {trap}; cat")
    repo.write(".gitattributes", "*.txt diff=evil filter=evil\n")
    repo.write("a.txt", "changed\n")

    assert {c.path for c in changes(repo.root, start)} == {".gitattributes", "a.txt"}
    commits(repo.root, start)
    assert not trap.exists()
