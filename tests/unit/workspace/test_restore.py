"""Files come back as they were, and nothing that no snapshot holds is ever lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p8.errors import NotFound
from p8.workspace.restore import FOREIGN, UNSEEN, Restore
from p8.workspace.snapshots import Snapshots, changes
from support.histories import History, git, git_hash, tree_of

HISTORIES = int(os.environ.get("P8_HISTORIES", "40"))  # a release runs 1000


def kept(snapshots: Snapshots, ids: list[str]) -> set[bytes]:
    """Return every content that any of the snapshots holds."""
    found = set()
    with snapshots.objects.reader() as reader:
        for one in ids:
            for state in snapshots.files(one).values():
                if not state.is_folder:
                    found.add(reader.read(state.oid))
    return found


@pytest.mark.parametrize("part", range(4))
def test_any_history_comes_back_byte_for_byte(tmp_path: Path, part: int) -> None:
    for seed in range(part, HISTORIES, 4):
        root = tmp_path / f"p{seed}"
        root.mkdir()
        history = History(root, seed)
        snapshots = Snapshots(tmp_path / f"s{seed}" / "p.git", root)
        restore = Restore(snapshots)
        taken = [snapshots.take().id]
        before, of_git = tree_of(root), git_hash(root)
        seen = set(snapshots.files(taken[0]))
        history.change(history.random.randint(1, 15))
        if history.random.random() < 0.5:
            taken.append(snapshots.take().id)
        changed, of_git_then = tree_of(root), git_hash(root)
        plan = restore.plan(taken[0], everything=True)
        assert tree_of(root) == changed, f"seed {seed}: planning changed something"
        record = restore.apply(plan)
        after = tree_of(root)
        named = {action.path for action in record.skipped}
        one, two = taken[0], plan.safety
        assert snapshots.diff(one, two) == changes(snapshots.files(one), snapshots.files(two)), f"seed {seed}: diff"

        for path in seen:
            if path not in named:
                assert after.get(path) == before[path], f"seed {seed}: {path!r}"
        bytes_kept = kept(snapshots, [*taken, plan.safety])
        for path, (kind, _, content) in changed.items():
            raw = os.fsencode(content) if kind == "link" else content
            if after.get(path, (None,))[0] != kind or after[path][2] != content:
                assert kind == "dir" or raw in bytes_kept, f"seed {seed}: {path!r} is lost"
        extra = {p for p in after if p not in before} - named
        held = {p for p in extra if after[p] != changed.get(p)}
        assert not held, f"seed {seed}: {held} appeared"
        assert git_hash(root) == of_git_then, f"seed {seed}: .git was touched"
        assert of_git  # the fixture has one where it is a repository
        restore.undo()
        assert {p: v for p, v in tree_of(root).items() if p not in named} == {
            p: v for p, v in changed.items() if p not in named
        }, f"seed {seed}: undo"


def test_what_changed_since_by_something_else_is_kept_and_named(root: Path, snapshots: Snapshots) -> None:
    (root / "mine").write_text("1")
    (root / "gone").write_text("kept")
    first = snapshots.take()
    (root / "mine").write_text("2")
    (root / "made").write_text("by p8")
    snapshots.take()
    (root / "theirs").write_text("never seen")
    (root / "gone").unlink()
    (root / "mine2").write_text("x")
    restore = Restore(snapshots)
    record = restore.apply(restore.plan(first.id))

    assert (root / "mine").read_text() == "1"
    assert (root / "gone").read_text() == "kept"
    assert not (root / "made").exists()
    assert (root / "theirs").read_text() == "never seen"
    assert {a.path: a.reason for a in record.skipped} == {"theirs": UNSEEN, "mine2": UNSEEN}


def test_an_edit_of_somebody_else_is_skipped_unless_asked_for(root: Path, snapshots: Snapshots) -> None:
    (root / "f").write_text("1")
    first = snapshots.take()
    (root / "f").write_text("edited elsewhere")
    restore = Restore(snapshots)
    plan = restore.plan(first.id)
    assert [(a.path, a.reason) for a in plan.skipped] == [("f", FOREIGN)]
    assert plan.actions == ()
    snapshots.take(known=False)
    assert restore.plan(first.id).actions == (), "a plan, or what P8 keeps by itself, does not make an edit P8's own"
    record = restore.apply(restore.plan(first.id, everything=True))
    assert (root / "f").read_text() == "1"
    assert record.skipped == []
    restore.undo()
    assert (root / "f").read_text() == "edited elsewhere"


def test_what_p8_ran_has_changed_is_p8s_to_take_back(root: Path, snapshots: Snapshots) -> None:
    (root / "f").write_text("1")
    first = snapshots.take()
    (root / "mine").write_text("between two turns")
    before = snapshots.take(known=False)
    (root / "f").write_text("by a command")
    (root / "new").write_text("by a command")
    after = snapshots.take(known=False)
    changed = snapshots.claim(before.id, after.id)
    restore = Restore(snapshots)
    record = restore.apply(restore.plan(first.id))

    assert [(c.path, c.what) for c in changed] == [("f", "modified"), ("new", "added")]
    assert sorted(a.path for a in record.actions) == ["f", "new"]
    assert [(a.path, a.reason) for a in record.skipped] == [("mine", UNSEEN)]
    assert (root / "mine").exists()


def test_nothing_is_written_through_a_link(root: Path, snapshots: Snapshots, tmp_path: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "f").write_text("1")
    first = snapshots.take()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("not yours")
    (outside / "f").chmod(0o644)
    (root / "sub" / "f").unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to(outside)
    restore = Restore(snapshots)
    record = restore.apply(restore.plan(first.id))

    assert {a.path for a in record.skipped} == {"sub", "sub/f"}
    assert tree_of(outside) == {"f": ("file", 0o644, b"not yours")}
    assert (root / "sub").is_symlink()


def test_a_link_put_in_place_after_the_plan_is_seen(root: Path, snapshots: Snapshots, tmp_path: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "f").write_text("1")
    first = snapshots.take()
    (root / "sub" / "f").write_text("2")
    snapshots.take()
    restore = Restore(snapshots)
    plan = restore.plan(first.id)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("2")
    (root / "sub" / "f").unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to(outside)
    record = restore.apply(plan)

    assert [a.path for a in record.skipped] == ["sub/f"]
    assert (outside / "f").read_text() == "2"


def test_ignored_files_are_neither_kept_nor_touched(root: Path, snapshots: Snapshots) -> None:
    git(root, "init", "-q")
    (root / ".gitignore").write_text("*.o\nbuild/\n")
    (root / "build").mkdir()
    (root / "build" / "x").write_text("1")
    (root / "a.o").write_text("1")
    first = snapshots.take()
    assert set(snapshots.files(first.id)) == {".gitignore"}
    (root / "build" / "x").write_text("2")
    restore = Restore(snapshots)
    record = restore.apply(restore.plan(first.id, everything=True))

    assert record.actions == []
    assert (root / "build" / "x").read_text() == "2"


def test_a_file_that_is_ignored_now_is_not_overwritten_unasked(root: Path, snapshots: Snapshots) -> None:
    (root / "data").write_text("1")
    first = snapshots.take()
    (root / ".gitignore").write_text("data\n")
    (root / "data").write_text("precious")
    snapshots.take()
    restore = Restore(snapshots)
    record = restore.apply(restore.plan(first.id))
    assert ("data", UNSEEN) in {(a.path, a.reason) for a in record.skipped}
    assert (root / "data").read_text() == "precious"
    restore.apply(restore.plan(first.id, everything=True))
    assert (root / "data").read_text() == "1"
    restore.undo()
    assert (root / "data").read_text() == "precious"


def test_there_is_nothing_to_undo_at_first(snapshots: Snapshots, root: Path) -> None:
    snapshots.take()
    with pytest.raises(NotFound):
        Restore(snapshots).undo()
