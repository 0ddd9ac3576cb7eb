"""Two-way synchronisation with a container of a second engine, which mounts nothing: edits on both sides, cuts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.containers.base import EngineDown
from p8.containers.sync import Sync
from p8.errors import ContainerError
from support.engine import Line, Second, until

SCRIPT = """
import json, os, sys
for line in json.loads(sys.argv[1]):
    verb, path, text = line
    path = "/vol/work/" + path
    if verb == "write":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write(text)
    elif os.path.exists(path):
        os.unlink(path)
"""
LOOK = """
import json, os
found = {}
for place, folders, files in os.walk("/vol/work"):
    folders[:] = [f for f in folders if f != ".p8-sync"]
    for name in files:
        path = os.path.join(place, name)
        found[os.path.relpath(path, "/vol/work")] = open(path).read()
print(json.dumps(found))
"""


@pytest.fixture
def container(second: Second) -> Iterator:
    """Hardened as P8's own, with a volume to work in."""
    import docker

    engine = second.client()
    made = engine.containers.run(
        second.image, ["sleep", "600"], detach=True, user="1234:1234", read_only=True, cap_drop=["ALL"],
        network_mode="none",
        security_opt=["no-new-privileges:true"], mounts=[docker.types.Mount("/vol", None, type="volume")],
    )  # fmt: skip
    yield made
    made.remove(force=True, v=True)
    engine.close()


@pytest.fixture
def sync(line: Line, container, tmp_path: Path) -> Sync:
    import docker

    (tmp_path / "tree").mkdir()
    return Sync(
        lambda: (docker.APIClient(base_url=line.address, version="auto", timeout=30), container.id),
        "/vol/work", tmp_path / "tree", tmp_path / "state" / "sync.json",
    )  # fmt: skip


def edit_there(container, edits: list) -> None:
    import json

    for at in range(0, len(edits), 200):
        code, said = container.exec_run(["python3", "-c", SCRIPT, json.dumps(edits[at : at + 200])])
        assert code == 0, said


def look_there(container) -> dict[str, str]:
    import json

    code, said = container.exec_run(["python3", "-c", LOOK])
    assert code == 0, said
    return json.loads(said)


def edit_here(root: Path, edits: list) -> None:
    for verb, path, text in edits:
        if verb == "write":
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        else:
            (root / path).unlink(missing_ok=True)


def look_here(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


def edits(rng: random.Random, side: str, files: int, count: int) -> list:
    made = []
    for number in range(count):
        path = f"d{rng.randrange(12)}/f{rng.randrange(files * 2)}.txt"
        if rng.random() < 0.2:
            made.append(["delete", f"d{(n := rng.randrange(files)) % 12}/f{n}.txt", ""])
        else:
            n = rng.randrange(files)
            path = f"d{n % 12}/f{n}.txt" if rng.random() < 0.7 else path
            made.append(["write", path, f"{side} {number} {rng.random()}"])
    return made


def tried(sync: Sync, rounds: int = 6) -> None:
    for _ in range(rounds):
        try:
            if not sync.cycle().pending:
                return
        except EngineDown:
            continue
    raise AssertionError("not one")


@pytest.mark.parametrize(("files", "count"), [(5000, 1000)])
def test_both_sides_are_one_after_edits_on_both_and_two_cuts(
    sync: Sync, line: Line, container, tmp_path: Path, capsys, files: int, count: int
) -> None:
    root = tmp_path / "tree"
    initial = [["write", f"d{n % 12}/f{n}.txt", f"file {n} " * 20] for n in range(files)]
    edit_here(root, initial)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("mine")
    steps: list[float] = []
    sync.progress = lambda fraction, _text: steps.append(fraction)
    begun = time.monotonic()
    line.limit = line.passed + files * 400  # cut in the middle of the first time
    with pytest.raises(EngineDown):
        sync.cycle()
    assert sync.status.state == "cut"
    tried(sync)
    took = time.monotonic() - begun
    there = look_there(container)
    assert there == {path: text for _, path, text in initial}
    assert steps[-1] == 1.0
    assert sync.status.line == f"sync: synced, {files + 12:,} files"
    assert sync.status.short == "in sync"

    rng = random.Random(7)
    mine, yours = edits(rng, "here", files, count), edits(rng, "there", files, count)
    beside = threading.Thread(target=edit_there, args=(container, yours))
    beside.start()
    edit_here(root, mine)
    beside.join()
    wrote = [look_here(root), look_there(container)]
    base = {path: text for _, path, text in initial}
    again = Sync(sync._far._connect, "/vol/work", root, sync._state)  # resumed from its state file
    line.limit = line.passed + count * 150
    begun = time.monotonic()
    with pytest.raises(EngineDown):
        again.cycle()
    tried(again)
    edited = time.monotonic() - begun

    here, there = look_here(root), look_there(container)
    assert here.pop(".git/config") == "mine"
    assert here == there
    contents = set(here.values())
    for side in wrote:
        lost = {p for p, text in side.items() if base.get(p) != text and text not in contents and p != ".git/config"}
        assert lost == set()
    both = {
        path for path in wrote[0].keys() & wrote[1].keys()
        if wrote[0][path] != wrote[1][path] and base.get(path) not in {wrote[0][path], wrote[1][path]}
    }  # fmt: skip
    assert both
    for path in both:
        doubles = [text for name, text in here.items() if name.startswith(f"{path}.conflict-")]
        assert sorted([here[path], *doubles]) == sorted([wrote[0][path], wrote[1][path]])
    untouched = {path for path in base if all(side.get(path) == base[path] for side in wrote)}
    assert all(here[path] == base[path] for path in untouched)
    for path in base.keys() - both:
        gone = [path not in side for side in wrote]
        if any(gone) and all(side.get(path) in {None, base[path]} for side in wrote):
            assert path not in here
    assert not (root / ".p8-sync").exists()
    with capsys.disabled():
        print(f"\n{files:,} files with a cut {took:.1f} s; {2 * count:,} edits with a cut {edited:.1f} s, ", end="")
        print(f"{len(both)} conflicts, all kept")


def test_it_goes_on_by_itself_through_a_cut(sync: Sync, line: Line, container, tmp_path: Path) -> None:
    root, stop = tmp_path / "tree", threading.Event()
    (root / "a").write_text("one")
    work = threading.Thread(target=sync.run, args=(stop, 1.0))
    work.start()
    try:
        until(lambda: look_there(container) == {"a": "one"}, 20, "the first round")
        line.cut()
        (root / "a").write_text("two")
        (root / "b").symlink_to("a")
        (root / "run").write_text("#!/bin/sh\n")
        (root / "run").chmod(0o755)
        until(lambda: look_there(container).get("b") == "two", 30, "the round after a cut")
        edit_there(container, [["write", "deep/er/c", "three"], ["delete", "a", ""]])
        until(lambda: (root / "deep/er/c").exists() and not (root / "a").exists(), 20, "what changed there")
        assert (root / "b").is_symlink()
        assert container.exec_run(["test", "-x", "/vol/work/run"])[0] == 0
    finally:
        stop.set()
        sync.wake()
        work.join(20)
    assert not work.is_alive()


def test_a_project_that_is_gone_deletes_nothing(sync: Sync, container, tmp_path: Path) -> None:
    (tmp_path / "tree" / "a").write_text("one")
    sync.cycle()
    (tmp_path / "tree").rename(tmp_path / "away")
    with pytest.raises(ContainerError, match="not there"):
        sync.cycle()
    assert look_there(container) == {"a": "one"}
    container.stop(timeout=0)
    (tmp_path / "away").rename(tmp_path / "tree")
    with pytest.raises(ContainerError):
        sync.cycle()
    assert (tmp_path / "tree" / "a").read_text() == "one"
