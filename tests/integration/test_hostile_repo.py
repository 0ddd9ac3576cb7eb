"""Repositories that bring programs along: P8 runs none of them, while git itself would.

Each sink plants a command that leaves a marker. The control, a plain git command a person would type, must leave it;
P8's readings of the same repository must not.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from p8.errors import P8Error
from p8.workspace import git
from p8.workspace.restore import Restore
from p8.workspace.snapshots import Snapshots
from support.repos import Repo, make_repo
from support.terminal import Terminal

STATUS = ("status",)


@dataclass
class Trap:
    repo: Repo
    program: Path  #: leaves the marker
    marker: Path

    def config(self, text: str) -> None:
        """Write into the repository's own configuration, as whoever hands it over could."""
        file = self.repo.root / ".git" / "config"
        file.write_text(file.read_text() + text.replace("PROGRAM", str(self.program)))

    def disturb(self) -> None:
        """Make git look at a file's content and not only at its size and times."""
        self.repo.write("a.txt", "two\n")  # of the same size

    def tripped(self) -> bool:
        found = self.marker.exists()
        self.marker.unlink(missing_ok=True)
        return found


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    marker = tmp_path / "marker"
    program = tmp_path / "planted"
    program.write_text(f"#!/bin/sh\n: > {marker}\n")
    program.chmod(0o755)
    repo = make_repo(tmp_path / "repo")
    return Trap(repo, program, marker)


def fsmonitor(trap: Trap) -> None:
    trap.config("[core]\n\tfsmonitor = PROGRAM\n")


def _filtered(trap: Trap) -> None:
    trap.repo.write(".gitattributes", "*.txt filter=evil\n")
    trap.disturb()


def filter_clean(trap: Trap) -> None:
    trap.config('[filter "evil"]\n\tclean = PROGRAM\n')
    _filtered(trap)


def filter_process(trap: Trap) -> None:
    trap.config('[filter "evil"]\n\tprocess = PROGRAM\n')
    _filtered(trap)


def filter_required(trap: Trap) -> None:
    trap.config('[filter "evil"]\n\tclean = PROGRAM\n\trequired = true\n')
    _filtered(trap)


def filter_in_dotted_section(trap: Trap) -> None:
    trap.config("[filter.evil]\n\tclean = PROGRAM\n")
    _filtered(trap)


def filter_behind_another_section(trap: Trap) -> None:
    trap.config('[core] [FilTer "evil"] clean = PROGRAM\n')
    _filtered(trap)


def filter_behind_a_byte_order_mark(trap: Trap) -> None:
    file = trap.repo.root / ".git" / "config"
    file.write_text(f'\ufeff[filter "evil"] clean = {trap.program}\n' + file.read_text())
    _filtered(trap)


def filter_behind_a_megabyte(trap: Trap) -> None:
    trap.config("# padding\n" * 150_000 + '[filter "evil"]\n\tclean = PROGRAM\n')
    _filtered(trap)


def filter_of_an_odd_name(trap: Trap) -> None:
    trap.config('[filter "e=v.i \\"l"]\n\tclean = PROGRAM\n[filter "evil"]\n\tclean = PROGRAM\n')
    trap.repo.write(".gitattributes", '"*.txt" filter=e=v.i\n*.txt filter=evil\n')
    trap.disturb()


def filter_included(trap: Trap) -> None:
    (trap.repo.root / ".git" / "more").write_text(f'[filter "evil"]\n\tclean = {trap.program}\n')
    trap.config("[include]\n\tpath = more\n")
    _filtered(trap)


def filter_included_if(trap: Trap) -> None:
    (trap.repo.root / ".git" / "more").write_text(f'[filter "evil"]\n\tclean = {trap.program}\n')
    trap.config('[includeIf "onbranch:**"]\n\tpath = more\n')
    _filtered(trap)


def filter_in_the_work_trees_configuration(trap: Trap) -> None:
    trap.config("[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tworktreeConfig = true\n")
    (trap.repo.root / ".git" / "config.worktree").write_text(f'[filter "evil"]\n\tclean = {trap.program}\n')
    _filtered(trap)


def filter_in_a_common_directory(trap: Trap) -> None:
    dot = trap.repo.root / ".git"
    elsewhere = trap.repo.root / "elsewhere"
    elsewhere.mkdir()
    for name in ("objects", "refs", "config"):
        (dot / name).rename(elsewhere / name)
    (dot / "config").write_text("[core]\n\tbare = false\n")
    (elsewhere / "config").write_text(f'[filter "evil"]\n\tclean = {trap.program}\n')
    (dot / "commondir").write_text("../elsewhere\n")
    _filtered(trap)


def filter_by_the_private_attributes(trap: Trap) -> None:
    trap.config('[filter "evil"]\n\tclean = PROGRAM\n')
    (trap.repo.root / ".git" / "info").mkdir(exist_ok=True)
    (trap.repo.root / ".git" / "info" / "attributes").write_text("*.txt filter=evil\n")
    trap.disturb()


def _submodule(trap: Trap) -> Repo:
    inner = make_repo(trap.repo.root / "inner")
    trap.repo.git("add", "inner")
    trap.repo.git("commit", "-qm", "inner")
    return inner


def filter_of_a_submodule(trap: Trap) -> None:
    inner = Trap(_submodule(trap), trap.program, trap.marker)
    filter_clean(inner)


def fsmonitor_of_a_submodule(trap: Trap) -> None:
    inner = Trap(_submodule(trap), trap.program, trap.marker)
    fsmonitor(inner)


def submodule_not_to_be_ignored(trap: Trap) -> None:
    filter_of_a_submodule(trap)
    trap.config('[diff]\n\tignoreSubmodules = none\n[submodule "inner"]\n\tpath = inner\n\tignore = none\n')
    trap.repo.write(".gitmodules", '[submodule "inner"]\n\tpath = inner\n\turl = ./x\n\tignore = none\n')


def hook_of_the_index(trap: Trap) -> None:
    hook = trap.repo.root / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.symlink_to(trap.program)
    os.utime(trap.repo.root / "a.txt", (1, 1))


def hooks_elsewhere(trap: Trap) -> None:
    hooks = trap.repo.root / ".githooks"
    hooks.mkdir()
    (hooks / "post-index-change").symlink_to(trap.program)
    trap.config(f"[core]\n\thooksPath = {hooks}\n")
    os.utime(trap.repo.root / "a.txt", (1, 1))


def _missing_tree(trap: Trap, config: str) -> None:
    """Take the tree of HEAD away and promise that a remote has it: git then goes and fetches."""
    tree = trap.repo.git("rev-parse", "HEAD^{tree}")
    (trap.repo.root / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    trap.config(
        "[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tpartialClone = evil\n"
        f'[remote "evil"]\n\tpromisor = true\n{config}'
    )


def fetch_by_a_command(trap: Trap) -> None:
    _missing_tree(trap, '\turl = "ext::PROGRAM"\n[protocol "ext"]\n\tallow = always\n')


def fetch_through_ssh(trap: Trap) -> None:
    _missing_tree(
        trap, '\turl = git@host.invalid:x\n[core]\n\tsshCommand = PROGRAM\n[protocol "ssh"]\n\tallow = always\n'
    )


def fetch_by_upload_pack(trap: Trap) -> None:
    _missing_tree(trap, f'\turl = {trap.repo.root}\n\tuploadpack = PROGRAM\n[protocol "file"]\n\tallow = always\n')


def fetch_by_a_proxy(trap: Trap) -> None:
    _missing_tree(
        trap, '\turl = git://host.invalid/x\n[core]\n\tgitProxy = PROGRAM\n[protocol "git"]\n\tallow = always\n'
    )


TRIPS_STATUS = [
    fsmonitor, filter_clean, filter_process, filter_required, filter_in_dotted_section, filter_behind_another_section,
    filter_behind_a_byte_order_mark, filter_behind_a_megabyte, filter_of_an_odd_name, filter_included,
    filter_included_if, filter_in_the_work_trees_configuration, filter_in_a_common_directory,
    filter_by_the_private_attributes, filter_of_a_submodule, fsmonitor_of_a_submodule, submodule_not_to_be_ignored,
    hook_of_the_index, hooks_elsewhere, fetch_by_a_command, fetch_through_ssh, fetch_by_upload_pack, fetch_by_a_proxy,
]  # fmt: skip


@pytest.mark.parametrize("plant", TRIPS_STATUS, ids=lambda plant: plant.__name__)
def test_status_runs_nothing_that_a_repository_brings(trap: Trap, plant: Callable[[Trap], None]) -> None:
    plant(trap)
    subprocess.run(["git", "status"], cwd=trap.repo.root, capture_output=True, check=False, timeout=20)
    assert trap.tripped(), "the control, plain `git status`, must trip it"

    plant_again(trap, plant)

    def files(directory: Path) -> None:
        source = git.find(directory).common_dir / "objects"  # type: ignore[union-attr]
        snapshots = Snapshots(directory.parent / "store" / "p.git", directory, source=source)
        first = snapshots.take()
        assert len(snapshots.files(first.id)) > 0
        (directory / "a.txt").write_text("three\n")
        second = snapshots.take()
        snapshots.patch(first.id, second.id)
        restore = Restore(snapshots)
        restore.apply(restore.plan(first.id, everything=True))
        restore.undo()

    for read in (git.git_state, git.identity, git.head, lambda d: list(git.describe(d)), files):
        try:
            read(trap.repo.root)
        except P8Error:
            pass
        assert not trap.tripped(), read


def plant_again(trap: Trap, plant: Callable[[Trap], None]) -> None:
    """Let the control's traces not protect: git has noted in the index what it has compared."""
    if plant in {hook_of_the_index, hooks_elsewhere}:
        os.utime(trap.repo.root / "a.txt", (2, 2))


EVERY_COMMAND = (
    "/session info", "/session status", "/checkpoint first", "!true", "/checkpoint second", "/checkpoint list",
    "/checkpoint show last", "/checkpoint diff first second", "/checkpoint restore first --everything --yes",
    "/checkpoint undo", "/session fork", "/session list", "/search hello", "/history", "/project list", "/doctor",
    "/export --format md -o PLACE/out.md", "/export --format html -o PLACE/out.html", "/settings", "/agent list",
)  # fmt: skip


@pytest.mark.parametrize(
    "plant", [fsmonitor, filter_clean, filter_process, filter_included_if], ids=lambda p: p.__name__
)
def test_no_command_of_the_repl_runs_anything(
    trap: Trap, plant: Callable[[Trap], None], home: Path, tmp_path: Path
) -> None:
    plant(trap)
    subprocess.run(["git", "status"], cwd=trap.repo.root, capture_output=True, check=False, timeout=20)
    assert trap.tripped(), "the control, plain `git status`, must trip it"
    plant_again(trap, plant)
    one = Terminal(home, trap.repo.root, rows=50)
    try:
        one.wait("›")
        one.line("hello", "You said: hello")
        assert not trap.tripped(), "start"
        for command in EVERY_COMMAND:
            trap.disturb()
            one.line(command.replace("PLACE", str(tmp_path)))
            one.pump(1.2)
            assert not trap.tripped(), command
        one.line("/quit", "Saved")
        one.end()
    finally:
        one.close()
    assert not trap.tripped(), "leaving"
    two = Terminal(home, trap.repo.root, "-c")
    try:
        two.wait("hello")
        two.pump(1.0)
    finally:
        two.close()
    assert not trap.tripped(), "resuming"
