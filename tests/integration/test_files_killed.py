"""Killed at any moment of keeping or restoring files: the old state, the new one, or one that can be finished."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p8.errors import NotFound
from p8.workspace.restore import Restore
from p8.workspace.snapshots import Snapshots
from p8.workspace.upkeep import Upkeep
from support.histories import git, git_hash

KILLS = int(os.environ.get("P8_FILE_KILLS", "15"))  # a release runs 200
FILES = 80

KEEPER = """
import os, sys
from pathlib import Path
from p8.workspace.snapshots import Snapshots
root, store = Path(sys.argv[1]), Path(sys.argv[2])
snapshots = Snapshots(store, root)
number = int(sys.argv[3])
while True:
    number += 1
    for name in range(40):
        (root / f"f{name}").write_text(f"{number} " * 200)
    print("begin", flush=True)
    print(snapshots.take().id, flush=True)
"""
RESTORER = """
import sys
from pathlib import Path
from p8.workspace.restore import Restore
from p8.workspace.snapshots import Snapshots
restore = Restore(Snapshots(Path(sys.argv[2]), Path(sys.argv[1])))
plan = restore.plan(sys.argv[3], everything=True)
print("planned", flush=True)
restore.apply(plan)
print("done", flush=True)
"""


def killed(script: str, *args: object, after: str, delay_s: float) -> list[str]:
    """Run a script, kill it so long after it has printed `after`; return what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    lines = []
    while line := process.stdout.readline():
        lines.append(line.strip())
        if line.strip() == after:
            break
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read().split("\n")
    process.wait()
    process.stdout.close()
    return [line for line in lines if line]


def write_all(root: Path, text: str) -> None:
    for name in range(FILES):
        (root / f"f{name}").write_text(text)


def left_over(store: Path) -> list[str]:
    return [str(p) for p in store.rglob("*") if p.name.startswith("tmp_") or p.suffix in {".new", ".lock"}]


def test_killed_while_keeping(tmp_path: Path) -> None:
    root, store = tmp_path / "project", tmp_path / "store" / "p.git"
    root.mkdir()
    git(root, "init", "-q")
    rng = random.Random(8)
    torn = 0
    for round_ in range(KILLS):
        before = git_hash(root)
        said = killed(KEEPER, root, store, round_ * 1000, after="begin", delay_s=rng.random() * 0.25)
        torn += said[-1] == "begin"
        snapshots = Snapshots(store, root)
        for name in [line for line in said if len(line) == 40][-2:]:
            assert len(snapshots.files(name)) == 40, "an acknowledged snapshot is gone"
        content = {p.name: p.read_bytes() for p in root.iterdir() if p.is_file()}
        taken = snapshots.take()
        files = snapshots.files(taken.id)
        assert {name: snapshots.read(files[name]) for name in ("f0", "f39")} == {n: content[n] for n in ("f0", "f39")}
        assert left_over(store) == []
        assert git_hash(root) == before
    assert torn > 0, "no kill fell into a snapshot: this test proves nothing"
    assert Upkeep(Snapshots(store, root)).verify() == []


@pytest.mark.parametrize("way", ["resume", "undo"])
def test_killed_while_restoring(tmp_path: Path, way: str) -> None:
    root, store = tmp_path / "project", tmp_path / "store" / "p.git"
    root.mkdir()
    write_all(root, "A")
    a = Snapshots(store, root).take().id
    rng = random.Random(88)
    torn = finished = 0
    for _ in range(KILLS):
        write_all(root, "B")
        (root / "only-b").write_text("B")
        said = killed(RESTORER, root, store, a, after="planned", delay_s=rng.random() * 0.06)
        states = {(root / f"f{name}").read_text() for name in range(FILES)}
        assert states <= {"A", "B"}, "a file is neither old nor new"
        restore = Restore(Snapshots(store, root))
        if restore.interrupted() is not None:
            torn += len(states) == 2
            getattr(restore, way)()
            states = {(root / f"f{name}").read_text() for name in range(FILES)}
            assert states == ({"A"} if way == "resume" else {"B"})
            assert (root / "only-b").exists() == (way == "undo")
        elif "done" in said:
            finished += 1
            assert states == {"A"}
        assert restore.interrupted() is None
        assert Snapshots(store, root).take().files in {FILES, FILES + 1}
        assert not [p.name for p in root.iterdir() if p.name.startswith(".p8-restore")]
        assert left_over(store) == []
    assert torn + finished > 0
    assert torn > 0, "no kill fell into a restore: this test proves nothing"


def test_a_restore_without_a_record_could_not_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a restore that keeps no record is left half-done by the same kill."""
    root, store = tmp_path / "project", tmp_path / "store" / "p.git"
    root.mkdir()
    write_all(root, "A")
    a = Snapshots(store, root).take().id
    write_all(root, "B")
    weak = RESTORER.replace("plan = ", "restore._save = lambda record: None\nplan = ").replace(
        "restore.apply", "import p8.workspace.restore as r, os, signal\n"
        "r._write = lambda *a, real=r._write, n=[0]: (n.__setitem__(0, n[0] + 1),"
        " os.kill(os.getpid(), 9) if n[0] > 20 else real(*a))\nrestore.apply",
    )  # fmt: skip
    killed(weak, root, store, a, after="planned", delay_s=1.0)
    states = [(root / f"f{name}").read_text() for name in range(FILES)]
    assert set(states) == {"A", "B"}
    with pytest.raises(NotFound):
        Restore(Snapshots(store, root)).resume()
