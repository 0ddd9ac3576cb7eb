"""Going back as a person does: conversation and files, shown first, undone at will."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.histories import git, git_hash
from support.terminal import Terminal


@pytest.fixture
def directory(directory: Path) -> Path:
    git(directory, "init", "-q", "-b", "main")
    (directory / "parser.py").write_text("one\n")
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "first")
    return directory


@pytest.fixture
def terminal(home: Path, directory: Path) -> Iterator[Terminal]:
    one = Terminal(home, directory)
    one.wait("›")
    yield one
    one.close()


def p8(home: Path, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "P8_HOME": str(home)}
    return subprocess.run([sys.executable, "-m", "p8", *words], cwd=directory, env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip


def test_a_checkpoint_brings_files_back_and_the_restore_is_undone(terminal: Terminal, directory: Path) -> None:
    one = terminal
    one.line("begin", "You said: begin")
    one.line("/checkpoint tests pass", "◆ tests pass — main")
    of_git = git_hash(directory)
    one.line("!echo two > parser.py; echo new > added.py; ls", "added.py")
    one.line("/checkpoint restore tests pass", "Change 2 files?")
    assert "~  parser.py" in one.text
    assert "-  added.py" in one.text
    one.send("y\r")
    one.wait("Files are as at ◆ tests pass: 2 files")
    assert (directory / "parser.py").read_text() == "one\n"
    assert not (directory / "added.py").exists()
    one.line("/checkpoint undo", "Files are as they were before the restore")
    assert (directory / "parser.py").read_text() == "two\n"
    assert (directory / "added.py").read_text() == "new\n"
    assert git_hash(directory) == of_git


def test_rewinding_takes_conversation_and_files_back(terminal: Terminal, directory: Path) -> None:
    one = terminal
    one.line("first question", "You said: first question")
    one.line("!echo changed > parser.py", "›")
    one.pump(0.5)
    one.line("second question", "You said: second question")
    one.send("\x1b\x1b")
    screen = one.wait("Go back to before")
    assert "second question" in screen
    one.send("echo changed")
    one.wait("1 file changed: parser.py")
    one.send("\r")
    one.wait("Conversation and files")
    one.send("\r")
    one.wait("Change 1 file?")
    one.send("y\r")
    one.wait("in a fork")
    assert (directory / "parser.py").read_text() == "one\n"
    one.line("/history", "first question")
    assert "second question" not in one.text.rpartition("/history")[2]


def test_somebody_elses_edit_is_named_and_kept(terminal: Terminal, directory: Path) -> None:
    one = terminal
    one.line("begin", "You said: begin")
    one.line("/checkpoint start", "◆ start")
    one.line("!echo two > parser.py", "›")
    one.pump(0.5)
    (directory / "parser.py").write_text("edited in an editor\n")
    (directory / "mine.txt").write_text("never seen\n")
    one.line("/checkpoint restore start", "2 kept as they are")
    assert "changed since by something else" in one.text
    assert (directory / "parser.py").read_text() == "edited in an editor\n"
    assert (directory / "mine.txt").exists()


def test_the_shell_has_the_same_verbs(home: Path, directory: Path) -> None:
    one = Terminal(home, directory)
    try:
        one.wait("›")
        one.line("begin", "You said: begin")
        one.line("/checkpoint base", "◆ base")
        one.line("/quit", "Saved")
        one.end()
    finally:
        one.close()
    (directory / "parser.py").write_text("by hand\n")
    dry = p8(home, directory, "checkpoint", "restore", "base", "--dry-run", "--everything", "--json")
    assert json.loads(dry.stdout)["actions"] == [{"path": "parser.py", "what": "write", "new": False}]
    refused = p8(home, directory, "checkpoint", "restore", "base", "--everything")
    assert refused.returncode == 2
    assert "this would change 1 file" in refused.stderr
    assert (directory / "parser.py").read_text() == "by hand\n"
    done = p8(home, directory, "checkpoint", "restore", "base", "--everything", "--yes")
    assert done.returncode == 0, done.stderr
    assert (directory / "parser.py").read_text() == "one\n"
    diff = p8(home, directory, "checkpoint", "diff", "base")
    assert "No file differs" in diff.stdout
    assert p8(home, directory, "checkpoint", "undo").returncode == 0
    assert (directory / "parser.py").read_text() == "by hand\n"
    diff = p8(home, directory, "checkpoint", "diff", "base", "--patch")
    assert "+by hand" in diff.stdout


def test_a_home_directory_is_not_kept_unasked(home: Path) -> None:
    person = Path(os.environ["HOME"])
    one = Terminal(home, person)
    try:
        one.wait("›")
        one.line("!touch made-here", "no file checkpoints here")
        assert "home directory" in one.text.replace("\n", " ")
        one.line("!echo works", "works")
    finally:
        one.close()


def test_what_ends_in_a_hurry_leaves_a_checkpoint(home: Path, directory: Path) -> None:
    one = Terminal(home, directory)
    try:
        one.wait("›")
        one.line("begin", "You said: begin")
        (directory / "parser.py").write_text("unsaved work\n")
        one.process.kill(signal.SIGTERM)
        one.end()
    finally:
        one.close()
    (directory / "parser.py").write_text("lost otherwise\n")
    listed = json.loads(p8(home, directory, "checkpoint", "list", "--json").stdout)
    assert listed[0]["name"] == "left by SIGTERM"
    assert p8(home, directory, "checkpoint", "restore", "last", "--everything", "--yes").returncode == 0
    assert (directory / "parser.py").read_text() == "unsaved work\n"


def test_a_restore_that_was_interrupted_is_told_at_the_next_start(home: Path, directory: Path) -> None:
    one = Terminal(home, directory)
    try:
        one.wait("›")
        one.line("begin", "You said: begin")
        one.line("/checkpoint base", "◆ base")
        one.line("!echo two > parser.py", "›")
        one.pump(0.4)
        one.line("/checkpoint restore base --yes", "Files are as at")
        one.line("/quit", "Saved")
        one.end()
    finally:
        one.close()
    record = next(home.glob("snapshots/*/p8/restores/*.json"))
    record.write_text(record.read_text().replace('"state": "done"', '"state": "running"'))
    two = Terminal(home, directory)
    try:
        two.wait("›")
        two.pump(1.0)
        two.line("hello", "a restore of files was interrupted here")
        two.line("/checkpoint undo", "Files are as they were before the restore")
    finally:
        two.close()
    assert (directory / "parser.py").read_text() == "two\n"
