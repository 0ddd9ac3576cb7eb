"""`/context project` and `p8 project context`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p8.commands.help import usage
from p8.errors import UsageError
from p8.testing import make_app
from support.door import run
from support.repos import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    (tmp_path / "shop").mkdir()
    made = Repo(tmp_path / "shop")
    made.git("init", "-q", "-b", "main")
    made.write("package.json", '{"name": "shop", "dependencies": {"react": "^18"}}')
    made.commit("a.js")
    return made


@pytest.fixture
def app(home: Path, repo: Repo):
    app = make_app(home, repo.root)
    yield app
    app.close()


def test_the_assistant_is_given_the_project_as_an_entry(app) -> None:
    given = run(app, "context project --tokens 500").data
    assert json.loads(json.dumps(given)) == given
    assert given["given"]
    assert 0 < given["tokens"] <= 500
    app.sessions.record_message({"role": "user", "content": "What is it?"})
    sent = app.conversation()
    assert [m["role"] for m in sent] == ["system", "user"]
    assert sent[0]["content"] == given["text"]
    assert "react ^18" in sent[0]["content"]
    entry = app.store.sessions.entries(app.sessions.current.session_id, kinds=("message",))[0]
    assert (entry.role, entry.data["source"], entry.data["about"]) == ("system", "files", "project")


def test_in_the_shell_it_is_printed_and_no_session_begins(app) -> None:
    shown = run(app, "context project", "cli")
    assert not shown.data["given"]
    assert shown.views[0].text == shown.data["text"]
    assert app.sessions.current is None


@pytest.mark.parametrize("line", ["--tokens 0", "--tokens x", "--tokens -5", "--tokens 99999999999", "--tokens ٣٠٠"])
def test_a_budget_that_makes_no_sense_is_refused(app, line: str) -> None:
    with pytest.raises(UsageError):
        run(app, f"context project {line}")
    assert app.sessions.current is None


def test_the_project_is_shown_and_written_only_on_request(app, repo: Repo) -> None:
    shown = run(app, "project context --files").data
    assert [one["type"] for one in shown["types"]] == ["node"]
    assert [one["path"] for one in shown["index"]] == ["a.js", "package.json"]
    assert shown["git"]["branch"] == "main"
    assert not (repo.root / ".ai-sessions").exists()

    assert len(run(app, "project context --write").data["written"]) == 4
    assert run(app, "project context --write").data["written"] == []
    assert sorted(os.listdir(repo.root / ".ai-sessions")) == ["context"]


def test_history_is_written_redacted_and_relative(app, repo: Repo) -> None:
    app.ensure_session()
    app.settle_project()
    key = "ghp_" + "a1B2c3D4e5F6" * 3
    app.sessions.record_execution(f"cat {repo.root}/a.js", exit_code=0, output="private output")
    app.sessions.record_execution(f"TOKEN={key} make \udcff", exit_code=2)
    repo.write("b.js")
    made = app.checkpoints.create("before lunch")
    with pytest.raises(UsageError):
        run(app, "project context --history")
    written = run(app, "project context --write --history").data["written"]
    assert written[4:] == [".ai-sessions/state/session-history.json", f".ai-sessions/state/checkpoints/{made.id}.json"]

    text = (repo.root / ".ai-sessions" / "state" / "session-history.json").read_text()
    history = json.loads(text)["sessions"][0]
    assert history["id"] == app.sessions.current.session_id
    assert [one["exit_code"] for one in history["commands"]] == [0, 2]
    assert history["commands"][0]["command"] == "cat a.js"
    assert key not in text
    assert "private output" not in text
    checkpoint = json.loads((repo.root / written[-1]).read_text())
    assert (checkpoint["name"], checkpoint["branch"]) == ("before lunch", "main")
    assert checkpoint["untracked"] == ["b.js"]
    assert run(app, "project context --write --history").data["written"] == []


def test_help_has_examples(app) -> None:
    for name in ("context project", "project context"):
        found, _ = app.registry.find(name.split(), "cli")
        assert found.path == name
        assert "examples:" in usage(found, "cli")


def test_the_shell_prints_json_and_one_clear_error(repo: Repo, home: Path) -> None:
    def p8(at: Path, *words: str) -> subprocess.CompletedProcess[str]:
        env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[3]))
        return subprocess.run(
            [sys.executable, "-m", "p8", *words], cwd=at, env=env, capture_output=True, text=True, check=False
        )

    done = p8(repo.root, "project", "context", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["components"][0]["dependencies"] == [["react", "^18", ""]]
    (repo.root / ".ai-sessions").write_text("in the way")
    done = p8(repo.root, "project", "context", "--write")
    assert (done.returncode, "Traceback" in done.stderr) == (8, False)
    assert "link or a file" in done.stderr
