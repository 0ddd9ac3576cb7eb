from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from p8.errors import WorkspaceError
from p8.model import GitState
from p8.workspace import git
from support.repos import ENVIRONMENT, Repo, make_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "repo")


def upstream_of(repo: Repo, to: Path) -> Repo:
    repo.git("clone", "-q", "--bare", str(repo.root), str(to))
    repo.git("remote", "add", "origin", str(to))
    repo.git("fetch", "-q", "origin")
    repo.git("branch", "-q", "--set-upstream-to", "origin/main")
    return Repo(to)


# HEAD from files


def test_head_says_what_git_says(repo: Repo) -> None:
    for branch in ("main", "feature/deep/er", "ünïcode", "-dash", "a.b"):
        if branch != "main":
            repo.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
            repo.git("commit", "-qm", branch, "--allow-empty")
        assert git.head(repo.root) == (branch, repo.git("rev-parse", "HEAD"))


def test_head_is_found_from_below(repo: Repo) -> None:
    repo.write("a/b/c.txt")

    assert git.head(repo.root / "a" / "b") == git.head(repo.root) != ("", "")


def test_head_reads_packed_references(repo: Repo) -> None:
    repo.git("branch", "domain")  # ends with the name of another
    repo.git("commit", "-qm", "two", "--allow-empty")
    repo.git("tag", "-a", "-m", "x", "v1")
    repo.git("pack-refs", "--all")
    assert not (repo.root / ".git" / "refs" / "heads" / "main").exists()

    assert git.head(repo.root) == ("main", repo.git("rev-parse", "HEAD"))
    repo.git("commit", "-qm", "three", "--allow-empty")  # a loose one goes before the packed one
    assert git.head(repo.root) == ("main", repo.git("rev-parse", "HEAD"))


def test_head_of_a_detached_and_of_an_unborn_one(repo: Repo, tmp_path: Path) -> None:
    commit = repo.git("rev-parse", "HEAD")
    repo.git("checkout", "-q", "--detach")
    repo.git("init", "-q", "-b", "trunk", str(tmp_path / "new"))

    assert git.head(repo.root) == ("", commit)
    assert git.head(tmp_path / "new") == ("trunk", "")


def test_head_follows_references_to_references(repo: Repo) -> None:
    commit = repo.git("rev-parse", "HEAD")
    repo.git("symbolic-ref", "refs/heads/master", "refs/heads/main")
    repo.git("symbolic-ref", "HEAD", "refs/heads/master")
    assert git.head(repo.root) == ("master", commit)

    repo.git("symbolic-ref", "refs/heads/main", "refs/heads/master")  # round and round
    assert git.head(repo.root) == ("master", "")


def test_head_of_a_link(repo: Repo) -> None:
    (repo.root / ".git" / "HEAD").unlink()
    (repo.root / ".git" / "HEAD").symlink_to("refs/heads/main")

    assert git.head(repo.root) == ("main", repo.git("rev-parse", "HEAD"))


def test_head_of_work_trees_and_submodules(repo: Repo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "feature", str(tmp_path / "tree"))
    Repo(tmp_path / "tree").commit("b.txt")
    outer = make_repo(tmp_path / "outer")
    outer.git("submodule", "add", "-q", str(repo.root), "inner")

    for root in (tmp_path / "tree", outer.root / "inner", repo.root, outer.root):
        there = Repo(root)
        assert git.head(root) == (there.git("branch", "--show-current"), there.git("rev-parse", "HEAD"))
    assert git.head(tmp_path / "tree")[0] == "feature"
    assert git.find(tmp_path / "tree").common_dir == repo.root / ".git"  # type: ignore[union-attr]


def test_head_of_long_object_names(tmp_path: Path) -> None:
    root = tmp_path / "sha256"
    root.mkdir()
    repo = Repo(root)
    repo.git("init", "-q", "--object-format=sha256", "-b", "main", ".")
    commit = repo.commit()

    assert git.head(root) == ("main", commit)
    assert len(commit) == 64
    assert git.git_state(root).commit == commit
    assert git.describe(root) == {}  # beyond GitPython


def test_head_names_bytes_that_are_no_text(repo: Repo) -> None:
    file = repo.root / ".git" / "refs" / "heads" / os.fsdecode(b"caf\xe9")
    file.write_text(repo.git("rev-parse", "HEAD"))
    (repo.root / ".git" / "HEAD").write_bytes(b"ref: refs/heads/caf\xe9\n")

    assert git.head(repo.root) == ("caf\\xe9", repo.git("rev-parse", "HEAD"))
    assert git.git_state(repo.root).branch == "caf\\xe9"


def test_head_asks_git_where_references_are_no_files(repo: Repo) -> None:
    (repo.root / ".git" / "HEAD").write_text("ref: refs/heads/.invalid\n")

    assert git.head(repo.root) == ("", "")  # this is no reftable, so git has no answer; no error, no `.invalid`


ODD = {
    "empty": b"",
    "words": b"hello\n",
    "outside": b"ref: ../../../etc/passwd\n",
    "absolute": b"ref: /etc/passwd\n",
    "up": b"ref: refs/heads/../../config\n",
    "nul": b"ref: refs/heads/a\0b\n",
    "long": b"ref: refs/heads/" + b"x" * 10_000,
    "option": b"--upload-pack=x\n",
    "zeros": b"\0" * 4096,
    "folder": b"ref: refs/heads\n",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_head_of_odd_files_is_none(repo: Repo, text: bytes) -> None:
    (repo.root / ".git" / "HEAD").write_bytes(text)

    assert git.head(repo.root)[1] == ""


def test_head_takes_no_options_from_references(repo: Repo) -> None:
    (repo.root / ".git" / "refs" / "heads" / "main").unlink()
    (repo.root / ".git" / "packed-refs").write_text("--output=/tmp/x refs/heads/main\n")

    assert git.head(repo.root) == ("main", "")


@pytest.mark.parametrize("name", ["HEAD", "commondir", "config", "packed-refs", "refs/heads/main", "shallow"])
def test_pipes_in_place_of_files_do_not_hang(repo: Repo, name: str) -> None:
    (repo.root / ".git" / name).unlink(missing_ok=True)
    os.mkfifo(repo.root / ".git" / name)

    git.head(repo.root)
    if name == "commondir":
        assert git.find(repo.root) is None
    if name == "config":
        for read in (git.git_state, git.identity):
            with pytest.raises(WorkspaceError, match="cannot be read"):
                read(repo.root)
        assert git.describe(repo.root) == {}


def test_a_pipe_called_git_is_no_repository(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".git")

    assert git.head(tmp_path) == ("", "")
    assert git.find(tmp_path) is None


def test_nothing_is_found_outside(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()  # an empty one is none

    assert git.find(tmp_path) is None
    assert git.head(tmp_path) == ("", "")
    assert git.git_state(tmp_path) == GitState()
    assert git.identity(tmp_path) is None
    assert git.describe(tmp_path) == {}
    assert git.find(tmp_path / "gone") is None


def test_a_removed_work_tree_is_told_from_no_repository(repo: Repo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "feature", str(tmp_path / "tree"))
    shutil.rmtree(repo.root / ".git" / "worktrees")

    assert git.find(tmp_path / "tree") is None
    assert git.is_orphaned(tmp_path / "tree")
    assert not git.is_orphaned(repo.root)
    assert not git.is_orphaned(tmp_path)


# the whole state


def test_a_clean_state_is_clean(repo: Repo) -> None:
    state = git.git_state(repo.root)

    assert state == GitState(branch="main", commit=repo.git("rev-parse", "HEAD"), root=str(repo.root))
    assert not state.dirty


def test_a_state_has_every_kind_of_difference(repo: Repo) -> None:
    for name in ("staged.txt", "both.txt", "gone.txt", "old name.txt"):
        repo.commit(name, f"{name}\n" * 9)
    repo.write("staged.txt", "other\n")
    repo.write("both.txt", "other\n")
    repo.git("add", "staged.txt", "both.txt")
    repo.write("both.txt", "third\n")
    (repo.root / "gone.txt").unlink()
    repo.git("mv", "old name.txt", "new näme.txt")
    repo.write("dir/one.txt")
    repo.write("dir/two\nlines.txt")
    state = git.git_state(repo.root / "dir")

    assert sorted(state.staged) == ["both.txt", "new näme.txt", "staged.txt"]
    assert sorted(state.modified) == ["both.txt", "gone.txt"]
    assert state.untracked == ("dir/one.txt", "dir/two\nlines.txt")
    assert state.dirty


def test_a_state_has_conflicts_and_stashes(repo: Repo) -> None:
    repo.git("checkout", "-qb", "other")
    repo.commit("a.txt", "theirs\n")
    repo.git("checkout", "-q", "main")
    repo.commit("a.txt", "ours\n")
    repo.write("a.txt", "stashed\n")
    repo.git("stash", "-q")
    with pytest.raises(AssertionError):
        repo.git("merge", "-q", "other")
    state = git.git_state(repo.root)

    assert state.conflicted == ("a.txt",)
    assert state.stashes == 1


def test_a_state_has_its_upstream(repo: Repo, tmp_path: Path) -> None:
    upstream_of(repo, tmp_path / "bare.git")
    repo.commit("b.txt")
    repo.commit("c.txt")
    repo.git("push", "-q", "origin", "HEAD:main")
    repo.git("reset", "-q", "--hard", "HEAD~2")
    repo.commit("d.txt")
    repo.git("config", "status.aheadBehind", "false")
    state = git.git_state(repo.root)

    assert (state.upstream, state.ahead, state.behind) == ("origin/main", 1, 2)


def test_a_state_keeps_names_that_are_no_text(repo: Repo) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    repo.write(name)

    assert git.git_state(repo.root).untracked == (name,)


def test_a_state_of_very_many_files_is_bounded(repo: Repo) -> None:
    for number in range(git.MOST_PATHS + 5):
        repo.write(f"n/{number}")

    assert len(git.git_state(repo.root).untracked) == git.MOST_PATHS


def test_states_of_work_trees_unborn_and_bare_ones(repo: Repo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "-b", "feature", str(tmp_path / "tree"))
    Repo(tmp_path / "tree").write("new.txt")
    new = tmp_path / "new"
    repo.git("init", "-q", "-b", "trunk", str(new))
    Repo(new).write("x.txt")
    around = tmp_path / "around"
    repo.git("clone", "-q", "--bare", str(repo.root), str(around / ".bare"))
    (around / ".git").write_text("gitdir: ./.bare\n")
    Repo(around).git("worktree", "add", "-q", "main")
    commit = repo.git("rev-parse", "HEAD")

    assert git.git_state(tmp_path / "tree").untracked == ("new.txt",)
    assert git.git_state(tmp_path / "tree").branch == "feature"
    assert git.git_state(new) == GitState(branch="trunk", untracked=("x.txt",), root=str(new))
    assert git.git_state(around) == GitState(branch="main", commit=commit, root=str(around))
    assert git.git_state(around / "main") == GitState(branch="main", commit=commit, root=str(around / "main"))


def test_a_submodule_is_looked_at_from_outside(repo: Repo, tmp_path: Path) -> None:
    outer = make_repo(tmp_path / "outer")
    outer.git("submodule", "add", "-q", str(repo.root), "inner")
    outer.git("commit", "-qm", "inner")
    Repo(outer.root / "inner").write("a.txt", "dirty\n")
    assert git.git_state(outer.root).modified == ()

    Repo(outer.root / "inner").commit("b.txt")
    assert git.git_state(outer.root).modified == ("inner",)


def test_what_the_person_ignores_everywhere_is_no_difference(repo: Repo) -> None:
    repo.write(".DS_Store")
    repo.write("note.swp")
    (Path.home() / "mine").write_text("*.swp\n")
    (Path.home() / ".gitconfig").write_text("[core]\n\texcludesFile = ~/mine\n\tsshCommand = false\n")
    git.personal.cache_clear()
    assert git.git_state(repo.root).untracked == (".DS_Store",)

    (Path.home() / ".gitconfig").unlink()
    (Path.home() / ".config" / "git").mkdir(parents=True)
    (Path.home() / ".config" / "git" / "ignore").write_text(".DS_Store\n")
    git.personal.cache_clear()
    assert git.git_state(repo.root).untracked == ("note.swp",)

    repo.write(".excluded", "*.swp\n.excluded\n")
    repo.git("config", "core.excludesFile", str(repo.root / ".excluded"))  # the repository's own goes before
    assert git.git_state(repo.root).untracked == (".DS_Store",)


def test_a_harmless_filter_or_include_does_not_blind(repo: Repo) -> None:
    repo.git("config", "filter.lfs.clean", "git-lfs clean -- %f")
    repo.git("config", "filter.lfs.process", "git-lfs filter-process")
    repo.git("config", "filter.lfs.required", "true")
    repo.git("config", "include.path", "../shared.config")
    repo.write("shared.config", "[pull]\n\trebase = true\n")
    repo.write(".gitattributes", "*.bin filter=lfs\n")
    repo.write("a.txt", "two\n")

    assert git.git_state(repo.root).modified == ("a.txt",)
    assert sorted(git.git_state(repo.root).untracked) == [".gitattributes", "shared.config"]


def test_reading_changes_nothing_in_a_repository(repo: Repo, tmp_path: Path) -> None:
    os.utime(repo.root / "a.txt", (1, 1))  # what a `git status` would note in the index

    def everything() -> dict[str, tuple[int, bytes]]:
        files = [p for p in (repo.root / ".git").rglob("*") if p.is_file()]
        return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}

    before = everything()
    git.git_state(repo.root)
    git.identity(repo.root)
    git.describe(repo.root)
    git.distance(repo.root, *[repo.git("rev-parse", "HEAD")] * 2)

    assert everything() == before


def test_nothing_is_inherited(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_repo(tmp_path / "other")
    other.commit("b.txt")
    marker = tmp_path / "marker"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n: > {marker}\n")
    script.chmod(0o755)
    for name, value in {
        "GIT_DIR": str(other.root / ".git"), "GIT_WORK_TREE": str(other.root), "GIT_INDEX_FILE": "/dev/null",
        "GIT_OBJECT_DIRECTORY": "/nonexistent", "GIT_PAGER": str(script), "GIT_EXTERNAL_DIFF": str(script),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": str(script),
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={script}'", "GIT_TRACE": str(tmp_path / "trace"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    state = git.git_state(repo.root)
    identity = git.identity(repo.root)
    said = git.describe(repo.root)

    assert state.root == str(repo.root)
    assert state.untracked == ()
    assert identity is not None
    assert identity.root_commit == state.commit
    assert said["subject"] == "add a.txt"
    assert not marker.exists()
    assert not (tmp_path / "trace").exists()


def test_a_planted_git_is_not_run(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = repo.write("git", "#!/bin/sh\n: > planted\n")
    planted.chmod(0o755)
    monkeypatch.chdir(repo.root)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    assert git.git_state(repo.root).untracked == ("git",)

    monkeypatch.setattr(os, "defpath", "/nonexistent")
    monkeypatch.setenv("PATH", ".")
    with pytest.raises(WorkspaceError, match="not installed"):
        git.git_state(repo.root)
    assert not (repo.root / "planted").exists()


def test_without_git_a_state_is_refused_and_head_is_known(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_words, **_more: None)

    with pytest.raises(WorkspaceError, match="not installed"):
        git.git_state(repo.root)
    assert git.head(repo.root)[0] == "main"
    assert git.describe(repo.root) == {}


def test_a_broken_repository_is_one_clear_line(repo: Repo) -> None:
    (repo.root / ".git" / "index").write_bytes(b"nonsense")
    with pytest.raises(WorkspaceError, match=r"git status failed in .*repo: ") as caught:
        git.git_state(repo.root)

    assert "\n" not in caught.value.message


def test_git_that_takes_too_long_is_given_up(repo: Repo) -> None:
    found = git.find(repo.root)
    assert found is not None

    with pytest.raises(WorkspaceError, match="took longer"):
        git.run(found, "cat-file", "--batch-check", "--batch-all-objects", timeout_s=1e-9)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_repository_of_another_user_is_read(repo: Repo) -> None:
    for path in (repo.root, *repo.root.rglob("*")):
        os.lchown(path, 65534, 65534)
    plain = subprocess.run(["git", "status"], cwd=repo.root, env=ENVIRONMENT, capture_output=True, check=False)

    assert b"dubious ownership" in plain.stderr
    assert git.git_state(repo.root).branch == "main"
    assert git.describe(repo.root)["author"] == "Ada"


# what HEAD's commit says, and how far it is


def test_a_commit_is_described(repo: Repo) -> None:
    repo.git("commit", "-qm", "füx: the bug\n\nat length", "--allow-empty", at=1_700_000_000)

    assert git.describe(repo.root) == {
        "subject": "füx: the bug", "author": "Ada", "committed": "2023-11-14T22:13:20+00:00"
    }  # fmt: skip


def test_a_commit_in_an_old_encoding_is_described(repo: Repo) -> None:
    tree = repo.git("rev-parse", "HEAD^{tree}")
    raw = f"tree {tree}\nauthor J\xfcrgen <j@x> 1700000000 +0100\ncommitter J <j@x> 1700000000 +0100\n".encode("latin1")
    raw += b"encoding ISO-8859-1\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n\n" + "gr\xfcn".encode("latin1")
    done = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        cwd=repo.root, env=ENVIRONMENT, input=raw, capture_output=True, check=True,
    )  # fmt: skip
    repo.git("update-ref", "refs/heads/main", done.stdout.decode().strip())
    said = git.describe(repo.root)

    assert said["subject"] == "grün"
    assert said["author"] == "Jürgen"


@pytest.mark.parametrize("raw", [b"", b"tree 00\n", b"\xff" * 50, b"author\ncommitter\n\n"])
def test_a_commit_of_odd_bytes_is_not_described(repo: Repo, raw: bytes) -> None:
    done = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        cwd=repo.root, env=ENVIRONMENT, input=raw, capture_output=True, check=True,
    )  # fmt: skip
    (repo.root / ".git" / "refs" / "heads" / "main").write_text(done.stdout.decode())

    assert git.describe(repo.root) == {}


def test_distance_is_counted_both_ways(repo: Repo) -> None:
    base = repo.git("rev-parse", "HEAD")
    one = repo.commit("b.txt")
    two = repo.commit("c.txt")
    repo.git("reset", "-q", "--hard", base)
    other = repo.commit("d.txt")

    assert git.distance(repo.root, base, two) == (2, 0)
    assert git.distance(repo.root, two, one) == (0, 1)
    assert git.distance(repo.root, two, other) == (1, 2)
    assert git.distance(repo.root, "0" * 40, two) is None
    assert git.distance(repo.root, "--output=x", two) is None


# identity


@pytest.mark.parametrize(
    ("address", "known_as"),
    [
        ("https://github.com/Team/tool.git", "github.com/Team/tool"),
        ("https://github.com/Team/tool/", "github.com/Team/tool"),
        ("https://GitHub.com:443/Team/tool", "github.com/Team/tool"),
        ("http://user:secret@github.com/Team/tool.git", "github.com/Team/tool"),
        ("https://user:sec@ret@github.com/Team/tool.git", "github.com/Team/tool"),
        ("https://token@github.com/Team/tool?access_token=secret#x", "github.com/Team/tool"),
        ("ssh://git@github.com/Team/tool.git", "github.com/Team/tool"),
        ("ssh://git@github.com:22/Team/tool.git", "github.com/Team/tool"),
        ("git@github.com:Team/tool.git", "github.com/Team/tool"),
        ("git@github.com:/Team/tool.git/", "github.com/Team/tool"),
        ("github.com:Team/tool", "github.com/Team/tool"),
        ("user:secret@github.com:Team/tool", "github.com/Team/tool"),
        ("git://github.com/Team/tool", "github.com/Team/tool"),
        ("ssh://git@[::1]:2222/team/tool", "[::1]/team/tool"),
        ("git@[::1]:team/tool", "[::1]/team/tool"),
        ("ssh://host/~me/tool", "host/~me/tool"),
        ("/srv/git/tool.git", ""),
        ("../tool", ""),
        ("./a:b", ""),
        ("file:///srv/git/tool.git", ""),
        ("FILE:///srv/git/tool.git", ""),
        ("", ""),
        ("https://", ""),
    ],
)
def test_addresses_of_one_repository_are_one(address: str, known_as: str) -> None:
    assert git.normalise(address) == known_as
    assert "sec" not in git.normalise(address)


def test_an_identity_names_root_commit_and_remote(repo: Repo) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.commit("b.txt")
    repo.git("remote", "add", "backup", "https://example.invalid/b")
    repo.git("remote", "add", "origin", "https://user:secret@example.invalid/team/tool.git")

    assert git.identity(repo.root / ".") == git.Identity(repo.root, "tool", first, "example.invalid/team/tool")


def test_the_only_remote_counts_whatever_it_is_called(repo: Repo) -> None:
    repo.git("remote", "add", "upstream", '"https://example.invalid/x"'.strip('"'))
    assert git.identity(repo.root).remote == "example.invalid/x"  # type: ignore[union-attr]

    repo.git("remote", "add", "mine", "https://example.invalid/y")
    assert git.identity(repo.root).remote == ""  # type: ignore[union-attr]


def test_an_unborn_repository_has_no_root_commit(tmp_path: Path) -> None:
    make_repo(tmp_path / "new", commits=0)

    assert git.identity(tmp_path / "new") == git.Identity(tmp_path / "new", "new", "", "")


def test_a_stamp_tells_directories_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = git.stamp(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()

    assert git.stamp(tmp_path / "b") == first != git.stamp(tmp_path / "a")
    assert git.stamp(tmp_path / "gone") == ""
