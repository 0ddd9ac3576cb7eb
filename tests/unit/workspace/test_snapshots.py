"""Snapshots hold every byte they should, leave the project's `.git` alone, and cost nothing where nothing changed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from p8.errors import NotFound, WorkspaceError
from p8.workspace.scan import Limits
from p8.workspace.snapshots import Snapshots, too_much
from p8.workspace.upkeep import Upkeep
from support.histories import git, git_hash


def size(store: Path) -> int:
    return sum(p.stat().st_size for p in store.rglob("*") if p.is_file())


def test_an_unchanged_tree_costs_nothing(root: Path, snapshots: Snapshots) -> None:
    for number in range(50):
        (root / f"f{number}").write_text("x" * 1000)
    first = snapshots.take()
    before = size(snapshots.folder)
    again = [snapshots.take() for _ in range(100)]

    assert first.new
    assert {s.id for s in again} == {first.id}
    assert size(snapshots.folder) - before < 1 << 20


def test_git_finds_nothing_wrong_with_what_was_written(root: Path, snapshots: Snapshots) -> None:
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "sub" / "f").write_text("1")
    (root / "empty").mkdir()
    (root / "sub.x").write_text("sorts between")
    first = snapshots.take()
    (root / "sub" / "f").write_text("2")
    second = snapshots.take()

    assert Upkeep(snapshots).verify() == []
    out = git(
        snapshots.folder, "--git-dir", str(snapshots.folder), "ls-tree", "-r", "--name-only", f"{second.id}:files"
    )
    assert out.split() == ["sub.x", "sub/f"]
    assert "-1\n" in snapshots.patch(first.id, second.id).replace("\n\\ No newline at end of file", "")


def test_a_store_begins_with_the_objects_of_the_repository(tmp_path: Path, root: Path) -> None:
    git(root, "init", "-q")
    for number in range(30):
        (root / f"f{number}").write_bytes(os.urandom(2000))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "x")
    git(root, "repack", "-adq")
    before = git_hash(root)
    snapshots = Snapshots(tmp_path / "store" / "p.git", root, source=root / ".git" / "objects")
    taken = snapshots.take()

    assert taken.written_bytes < 2000  # the manifest and a tree or two
    assert len(snapshots.files(taken.id)) == 30
    assert Upkeep(snapshots).size_bytes() < 20_000
    assert git_hash(root) == before
    shutil.rmtree(root / ".git")  # the store does not depend on it
    assert Upkeep(snapshots).verify() == []


def test_attributes_filters_and_hooks_have_no_say(tmp_path: Path, root: Path) -> None:
    marker = tmp_path / "ran"
    git(root, "init", "-q")
    git(root, "config", "filter.evil.clean", f"touch {marker}; cat")
    git(root, "config", "core.fsmonitor", f"touch {marker}")
    git(root, "config", "core.hooksPath", str(root / "hooks"))
    (root / ".gitattributes").write_text("* filter=evil text eol=crlf ident working-tree-encoding=UTF-16\n")
    raw = b"line\nother\r\n$Id$\n\xff\xfe"
    (root / "f").write_bytes(raw)
    snapshots = Snapshots(tmp_path / "store" / "p.git", root, source=root / ".git" / "objects")
    taken = snapshots.take()

    assert snapshots.read(snapshots.files(taken.id)["f"]) == raw
    assert not marker.exists()
    subprocess.run(["git", "add", "f"], cwd=root, check=False, capture_output=True)
    assert marker.exists(), "the control did not run: this test proves nothing"


def test_a_change_that_leaves_size_and_time_alone_is_seen(root: Path, snapshots: Snapshots) -> None:
    file = root / "f"
    file.write_text("aaaa")
    first = snapshots.take()
    when = file.stat()
    file.write_text("bbbb")
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))
    second = snapshots.take()

    assert snapshots.read(snapshots.files(second.id)["f"]) == b"bbbb"
    assert first.id != second.id


def test_repositories_within_are_kept_but_for_their_git(root: Path, snapshots: Snapshots) -> None:
    inner = root / "vendor" / "inner"
    inner.mkdir(parents=True)
    git(inner, "init", "-q")
    (inner / ".gitignore").write_text("*.log\n")
    (inner / "a.log").write_text("left out by its own rules")
    (inner / "f").write_text("1")
    git(inner, "add", "-A")
    git(inner, "commit", "-qm", "x")
    (root / "b.log").write_text("not left out")
    before = git_hash(root)
    taken = snapshots.take()
    files = snapshots.files(taken.id)

    assert taken.nested == ("vendor/inner",)
    assert {p for p in files if not files[p].is_folder} == {"b.log", "vendor/inner/.gitignore", "vendor/inner/f"}
    assert snapshots.manifest(taken.id).nested["vendor/inner"] == git(inner, "rev-parse", "HEAD").strip()
    assert git_hash(root) == before


def test_a_tracked_file_is_kept_though_a_rule_names_it(root: Path, snapshots: Snapshots) -> None:
    git(root, "init", "-q")
    (root / "build").mkdir()
    (root / "build" / "keep").write_text("1")
    (root / "build" / "other").write_text("1")
    git(root, "add", "-f", "build/keep")
    (root / ".gitignore").write_text("build/\n")
    assert "build/keep" in snapshots.files(snapshots.take().id)
    assert "build/other" not in snapshots.files(snapshots.take().id)
    git(root, "add", "-f", "build/other")
    assert "build/other" in snapshots.files(snapshots.take().id)
    git(root, "rm", "-q", "--cached", "build/keep")
    assert "build/keep" not in snapshots.files(snapshots.take().id)


def test_a_rule_that_changes_is_followed(root: Path, snapshots: Snapshots) -> None:
    (root / "a.o").write_text("1")
    (root / "objects").mkdir()
    (root / "objects" / "b.o").write_text("1")
    assert "a.o" in snapshots.files(snapshots.take().id)
    (root / ".gitignore").write_text("*.o\n")
    assert set(snapshots.files(snapshots.take().id)) == {".gitignore", "objects"}
    (root / "objects" / "seen").write_text("in a directory of ignored files only")
    assert "objects/seen" in snapshots.files(snapshots.take().id)
    (root / ".gitignore").unlink()
    assert {"a.o", "objects/b.o"} <= set(snapshots.files(snapshots.take().id))


def test_what_is_left_out_is_named(tmp_path: Path, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "large").write_bytes(b"x" * 3_000_000)
    snapshots = Snapshots(tmp_path / "store" / "p.git", root, Limits(file_bytes=2 << 20))
    taken = snapshots.take()

    assert {(s.path, s.reason, s.size_bytes) for s in taken.skipped} == {
        ("pipe", "a pipe, socket or device", 0),
        ("large", "larger than 2 MiB", 3_000_000),
    }
    assert snapshots.take().skipped == taken.skipped
    assert snapshots.manifest(taken.id).skipped == list(taken.skipped)


def test_a_tree_that_is_too_large_is_refused(tmp_path: Path, root: Path) -> None:
    for number in range(30):
        (root / str(number)).write_text("x")
    with pytest.raises(WorkspaceError, match="more than 20 files"):
        Snapshots(tmp_path / "store" / "p.git", root, Limits(files=20)).take()


def test_home_and_the_whole_file_system_are_too_much(tmp_path: Path) -> None:
    assert "home directory" in too_much(Path.home(), tmp_path / "h")
    assert "home directory" in too_much(Path.home().parent, tmp_path / "h")
    assert "whole file system" in too_much(Path("/"), tmp_path / "h")
    assert too_much(tmp_path / "project", tmp_path / "h") == ""


def test_p8s_own_home_is_not_looked_into(tmp_path: Path, root: Path) -> None:
    (root / "home").mkdir()
    (root / "home" / "secret").write_text("x")
    (root / "f").write_text("x")
    snapshots = Snapshots(tmp_path / "store" / "p.git", root, apart=[root / "home"])
    assert set(snapshots.files(snapshots.take().id)) == {"f"}


def test_dropping_frees_and_touches_nothing_else(root: Path, snapshots: Snapshots) -> None:
    ids = []
    for _ in range(4):
        (root / "f").write_bytes(os.urandom(200_000))
        ids.append(snapshots.take().id)
    content = (root / "f").read_bytes()
    freed = Upkeep(snapshots).drop(ids[:3])

    assert freed > 500_000
    assert Upkeep(snapshots).verify() == []
    assert snapshots.read(snapshots.files(ids[3])["f"]) == content
    with pytest.raises(NotFound):
        snapshots.files(ids[0])
    (root / "g").write_text("after")
    assert set(snapshots.files(snapshots.take().id)) == {"f", "g"}


def test_a_flipped_bit_is_found(root: Path, snapshots: Snapshots) -> None:
    (root / "f").write_bytes(os.urandom(5000))
    taken = snapshots.take()
    pack = next((snapshots.folder / "objects" / "pack").glob("*.pack"))
    pack.chmod(0o644)
    raw = bytearray(pack.read_bytes())
    raw[len(raw) // 2] ^= 4
    pack.write_bytes(raw)

    assert Upkeep(snapshots).verify()
    with pytest.raises((WorkspaceError, NotFound)):
        snapshots.read(snapshots.files(taken.id)["f"])


def test_modes_and_names_survive(root: Path, snapshots: Snapshots) -> None:
    wanted = {}
    for number, mode in enumerate((0o644, 0o755, 0o600, 0o400, 0o777, 0o644)):
        name = f"{number} \n\udcff"
        (root / name).write_text("x")
        (root / name).chmod(mode)
        wanted[name] = mode
    (root / "private").mkdir(mode=0o700)
    files = snapshots.files(snapshots.take().id)

    assert {n: stat.S_IMODE(files[n].mode) for n in wanted} == wanted
    assert stat.S_IMODE(files["private"].mode) == 0o700
