"""Git repositories for tests, made by real git with nothing of the person's configuration."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.invalid",
    "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.invalid", "LC_ALL": "C.UTF-8",
}  # fmt: skip


@dataclass(frozen=True)
class Repo:
    """A work tree to do things in."""

    root: Path

    def git(self, *words: str, at: int | None = None) -> str:
        """Run git; return what it printed. `at` is the commit's time, seconds since 1970."""
        times = {} if at is None else {"GIT_AUTHOR_DATE": f"{at} +0000", "GIT_COMMITTER_DATE": f"{at} +0000"}
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *words], cwd=self.root, env=ENVIRONMENT | times,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def write(self, name: str, text: str = "x\n") -> Path:
        """Write a file, with its folders."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def commit(self, name: str = "a.txt", text: str = "one\n", at: int | None = None) -> str:
        """Write a file and commit everything; return the commit's id."""
        self.write(name, text)
        self.git("add", "-A")
        self.git("commit", "-qm", f"add {name}", at=at)
        return self.git("rev-parse", "HEAD")


def make_repo(root: Path, remote: str = "", commits: int = 1) -> Repo:
    """Return a new repository on branch main."""
    root.mkdir(parents=True, exist_ok=True)
    repo = Repo(root)
    repo.git("init", "-q", "-b", "main", ".")
    if remote:
        repo.git("remote", "add", "origin", remote)
    for number in range(commits):
        repo.commit("a.txt", "one\n" * (number + 1))
    return repo
