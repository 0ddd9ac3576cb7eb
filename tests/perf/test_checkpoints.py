"""Keeping files beside a shadow repository, `git stash create` and a plain copy, in the same run."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p8.workspace import git as state
from p8.workspace.snapshots import Snapshots
from support.histories import git

FILES = int(os.environ.get("P8_PERF_FILES", "3500"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of installed Python sources, packed as a cloned one is."""
    root = tmp_path_factory.mktemp("perf") / "repository"
    root.mkdir()
    count = 0
    for place in (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["stdlib"]):
        for file in Path(place).rglob("*.py"):
            if count >= FILES:
                break
            target = root / Path(place).name / file.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            count += 1
    assert count >= 3000
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A", "-f")
    git(root, "commit", "-qm", "x")
    git(root, "gc", "-q")
    return root


def disturb(root: Path, count: int, salt: str) -> None:
    """Change so many tracked files, and add as many."""
    for name in git(root, "ls-files").splitlines()[:count]:
        with (root / name).open("a") as file:
            file.write(f"\n# {salt}\n")
    for number in range(count):
        new = root / "added" / f"d{number % 20}" / f"n{number}.py"
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(f"x = {number}  # {salt}\n" * 40)


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000


def test_keeping_files(repository: Path, tmp_path: Path, report) -> None:
    shadow = tmp_path / "shadow.git"
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_DIR": str(shadow), "GIT_WORK_TREE": str(repository)}
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]

    def run(*words: str) -> None:
        subprocess.run(["git", *who, *words], cwd=repository, env=env, check=True, capture_output=True)

    def in_shadow() -> None:
        run("add", "-A")
        run("commit", "-q", "--allow-empty", "-m", "x")

    run("init", "-q")
    first_shadow = timed(in_shadow)
    first = statistics.median(
        timed(Snapshots(tmp_path / f"s{n}.git", repository, source=repository / ".git" / "objects").take)
        for n in range(3)
    )
    report("first checkpoint / a shadow repository's", first / first_shadow, "≤ 0.5", "×", first / first_shadow <= 0.5,
           f"{first:.0f} / {first_shadow:.0f} ms")  # fmt: skip
    snapshots = Snapshots(tmp_path / "s0.git", repository)
    for count in (0, 10, 1000):
        ours, theirs, stash, copied = [], [], [], []
        for round_ in range(5 if count < 1000 else 3):
            if count:
                disturb(repository, count, f"{count} {round_} {time.time()}")
            time.sleep(0.15)
            ours.append(timed(snapshots.take))
            theirs.append(timed(in_shadow))
            stash.append(timed(lambda: git(repository, "stash", "create")))
        copied.append(timed(lambda: shutil.copytree(repository, tmp_path / f"copy{count}", symlinks=True)))  # noqa: B023
        shutil.rmtree(tmp_path / f"copy{count}")
        ratio = statistics.median(ours) / statistics.median(theirs)
        note = (
            f"{statistics.median(ours):.0f} / {statistics.median(theirs):.0f} ms; git stash create (tracked only)"
            f" {statistics.median(stash):.0f}, a plain copy {copied[0]:.0f}"
        )
        report(f"checkpoint, {count} changed and {count} new / shadow", ratio, "≤ 1.2", "×", ratio <= 1.2, note)
    before = sum(p.stat().st_size for p in snapshots.folder.rglob("*") if p.is_file())
    for _ in range(100):
        snapshots.take()
    grown = (sum(p.stat().st_size for p in snapshots.folder.rglob("*") if p.is_file()) - before) / (1 << 20)
    report("100 checkpoints of an unchanged tree", grown, "< 1", "MiB", grown < 1)


def test_git_state(repository: Path, report) -> None:
    heads = statistics.median(timed(lambda: state.head(repository)) for _ in range(50))
    whole = statistics.median(timed(lambda: state.git_state(repository)) for _ in range(5))
    report("branch and commit, from files", heads, "watch", "ms", True, "the status line")
    report("the whole git state", whole, "watch", "ms", True, "a checkpoint")
