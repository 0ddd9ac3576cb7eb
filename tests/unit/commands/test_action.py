"""`/do`, `p8 do` and `p8 action`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p8.cli import main
from p8.commands.registry import Confirm, RunLines
from p8.core.sessions import SessionManager
from p8.errors import ConfigError, NotFound, P8Error, UsageError
from p8.store.manager import PersistenceManager
from support.door import run

THEIRS = "greet:\n  help: Greets.\n  run: echo hello {who}\n  parameters: {who: {default: world}}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shell"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def theirs(directory: Path, text: str = THEIRS) -> None:
    folder = directory / ".ai-sessions" / "actions"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.yaml").write_text(text)


def test_what_to_do_is_handed_over_checked_and_quoted(app) -> None:
    result = run(app, "do log count=3")
    assert result.effect == RunLines(
        ("!git --no-pager log --oneline -n 3",), {"action": "log", "parameters": {"count": "3"}}
    )
    assert run(app, "do commit 'fix; rm -rf'").effect.lines == ("!git commit -am 'fix; rm -rf'",)
    assert run(app, "do log --show").effect is None
    for line in ("do log count=0", "do commit", "do log count=1 other=2", "do log --session last"):
        with pytest.raises(UsageError):
            run(app, line)
    with pytest.raises(NotFound):
        run(app, "do nothing-such")


def test_a_projects_actions_run_only_after_agreement_to_them_as_they_are(app) -> None:
    theirs(app.directory)
    asked = run(app, "do greet who=you")
    assert isinstance(asked.effect, Confirm)
    assert "echo hello {who}" in asked.effect.question
    assert run(app, "do greet --show").effect is None
    assert run(app, asked.effect.command).effect.lines == ("!echo hello you",)
    assert run(app, "do greet").effect.lines == ("!echo hello world",)
    theirs(app.directory, THEIRS.replace("hello", "HELLO"))
    assert isinstance(run(app, "do greet").effect, Confirm)


def test_listing_tells_uses_confidence_and_faults(app) -> None:
    app.ensure_session()
    for _ in range(3):
        app.sessions.record_command("/do test")
        app.sessions.record_execution("python -m pytest -q .", exit_code=1)
    listed = {row["action"]: row for row in run(app, "do").data}
    assert (listed["test"]["uses"], listed["test"]["failed"]) == (3, 3)
    assert listed["test"]["confidence"] > listed["lint"]["confidence"]
    assert listed["commit"]["parameters"]["message"]["required"] is True
    json.dumps(run(app, "action").data)
    theirs(app.directory, "bad:\n  run: [3]\n")
    assert any("a.yaml, line 2" in view.text for view in run(app, "action list").views[1:])
    with pytest.raises(P8Error, match="line 2"):
        run(app, "action check")


def test_actions_of_ones_own(app) -> None:
    made = run(app, "action save serve 'serve {port:int=80} {dir}' --about 'Serves.' --when dirty,python").data
    assert made["parameters"]["port"]["type"] == "int"
    assert run(app, "do serve 8080 web").effect.lines == ("!serve 8080 web",)
    assert "Serves." in str(run(app, "action show serve").views)
    with pytest.raises(ConfigError, match="no signal"):
        run(app, "action save x 'y' --when never")
    run(app, "action remove serve")
    with pytest.raises(NotFound):
        run(app, "do serve")


def test_suggestions_follow_what_was_done(app) -> None:
    for _ in range(4):
        app.sessions.start_session("demo")
        for line, code in (("!make build", 0), ("!make ship", 0)):
            app.sessions.record_command(line)
            app.sessions.record_execution(line[1:], exit_code=code)
        app.sessions.end_session()
    app.sessions.start_session("demo")
    app.sessions.record_command("!make build")
    app.sessions.record_execution("make build", exit_code=0)
    found = run(app, "action suggest").data["suggestions"]
    assert found[0]["line"] == "!make ship"
    assert 0.5 < found[0]["confidence"] < 1


def test_in_the_shell_it_runs_and_is_recorded_in_a_session(home: Path, here: Path, capfd) -> None:
    assert main(["action", "save", "two", "echo one", "echo {x}; exit 3", "echo never"]) == 0
    assert main(["do", "two", "a b"]) == 3
    assert capfd.readouterr().out.endswith("one\na b\n")
    assert main(["do", "two", "c", "--json"]) == 3
    data = json.loads(capfd.readouterr().out)
    assert [run["exit_code"] for run in data["runs"]] == [0, 3]
    store = PersistenceManager(home, background=False)
    rows = store.sessions.page()
    done = [e.data for e in store.sessions.entries(rows[0].id, kinds=("command", "execution"))]
    assert [row.title for row in rows] == ["/do two c", "/do two 'a b'"]
    assert {str(row.status) for row in rows} == {"completed"}
    assert done[0] == {"command": "/do two c"}
    assert [(d["command"], d["exit_code"], d["metadata"]["action"], d["metadata"]["parameters"]) for d in done[1:]] == [
        ("echo one", 0, "two", {"x": "c"}), ("echo c; exit 3", 3, "two", {"x": "c"}),
    ]  # fmt: skip
    store.close()


def test_in_the_shell_it_can_be_recorded_in_an_earlier_session(home: Path, here: Path, capfd) -> None:
    manager = SessionManager(PersistenceManager(home, background=False))
    session = manager.start_session("demo", title="the work")
    manager.end_session()
    manager.close()
    main(["action", "save", "hi", "echo hi"])
    assert main(["do", "hi", "--session", "the work"]) == 0
    store = PersistenceManager(home, background=False)
    assert [row.id for row in store.sessions.page()] == [session.session_id]
    assert store.sessions.get(session.session_id).executions == 1
    store.close()


def test_bad_words_run_nothing_and_leave_no_session(home: Path, here: Path, capfd) -> None:
    theirs(here)
    main(["action", "save", "n", "touch made-{n:int}"])
    for words in (["do", "n", "x"], ["do", "n"], ["do", "greet"], ["do", "nosuch"]):
        assert main(words) in {2, 3}
    assert "Traceback" not in capfd.readouterr().err
    assert not list(here.glob("made-*"))
    store = PersistenceManager(home, background=False)
    assert store.sessions.page() == []
    store.close()


def test_every_example_of_the_commands_parses(app) -> None:
    for name in ("do", *(n for n in app.registry.names("cli") if n.split()[0] in {"action", "log"})):
        for example in app.registry.commands[name].examples:
            found, given = app.registry.find(app.registry.split(example), "cli")
            found.parse([word for word in given if word != "--json"])


def test_tab_offers_actions_in_the_repl_and_the_shell(app, home: Path, here: Path, capfd) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from p8.repl.completion import ReplCompleter

    def offered(text: str) -> list[str]:
        return [c.text for c in ReplCompleter(app).get_completions(Document(text), CompleteEvent())]

    assert "commit" in offered("/do com")
    assert offered("/do log co") == ["log count="]
    main(["__complete", "do", "com"])
    assert capfd.readouterr().out.split() == ["commit"]
    main(["__complete", "do", "log", "c"])
    assert capfd.readouterr().out.split() == ["count="]
