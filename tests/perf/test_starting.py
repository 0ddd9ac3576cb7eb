"""Starting: from exec to a prompt one can type at, and what importing costs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pexpect

from p8.testing import make_app
from support.timing import BARE


def to_prompt(command: list[str], env: dict[str, str], directory: Path) -> float:
    begun = time.perf_counter()
    process = pexpect.spawn(command[0], command[1:], env=env, cwd=str(directory), dimensions=(24, 80), encoding="utf-8")
    process.expect("›", timeout=30)
    process.send("z")
    process.expect("z", timeout=30)
    taken = time.perf_counter() - begun
    process.close(force=True)
    return taken * 1000


def test_exec_to_a_usable_prompt(home: Path, tmp_path: Path, report) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env = {**environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('model = "local"\n')
    times: dict[str, list[float]] = {"p8": [], "bare": []}
    for _ in range(9):
        times["bare"].append(to_prompt(BARE, env, tmp_path))
        times["p8"].append(to_prompt([sys.executable, "-m", "p8"], env, tmp_path))
    ratio = statistics.median(times["p8"]) / statistics.median(times["bare"])
    note = f"p8 {statistics.median(times['p8']):.0f} ms, bare {statistics.median(times['bare']):.0f} ms"
    report("exec to prompt / bare prompt_toolkit", ratio, "≤ 1.35", "×", ratio <= 1.35, note)


def test_version_and_list(home: Path, tmp_path: Path, report) -> None:
    app = make_app(home, tmp_path)
    for number in range(60):
        app.sessions.start_session("here", project=app.project.id, title=f"session {number}", model="local")
        app.sessions.end_session()
    app.close()
    program = str(Path(sys.executable).with_name("p8"))

    def once(*words: str) -> float:
        begun = time.perf_counter()
        done = subprocess.run([program, *words], check=True, capture_output=True, text=True, cwd=tmp_path)
        assert len(done.stdout.splitlines()) in {1, 51}
        return (time.perf_counter() - begun) * 1000

    once("session", "list")
    times = [(once("--version"), once("session", "list")) for _ in range(25)]
    version, listed = (statistics.median(column) for column in zip(*times, strict=True))
    report(
        "p8 session list / p8 --version",
        listed / version,
        "< 2",
        "×",
        listed / version < 2,
        f"{listed:.0f} / {version:.0f} ms",
    )


def test_version_imports_no_vendor(home: Path) -> None:
    code = (
        "import sys; from p8.cli import main; main(['--version']);"
        "vendors = {'docker', 'git', 'llm', 'sqlite_utils', 'prompt_toolkit', 'rich', 'pysqlite3', 'orjson'};"
        "heavy = vendors & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
