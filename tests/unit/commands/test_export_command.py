from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8.app import App
from p8.commands.registry import Card, Confirm, Result, Table, Text
from p8.core.archive import read_archive
from p8.errors import FormatError, NotFound, UsageError
from p8.testing import make_app
from support.door import run

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "here").mkdir()
    app = make_app(tmp_path / "home", tmp_path / "here")
    app.ensure_session()
    app.settle_project()
    app.sessions.record_message({"role": "user", "content": f"Fix the parser with {SECRET}"})
    yield app
    app.close()


def said(result: Result) -> str:
    return " ".join(view.text for view in result.views if isinstance(view, Text))


def test_the_current_session_is_written_here(app: App) -> None:
    result = run(app, "export", "repl")
    path = Path(result.data["path"])

    assert path.parent == app.directory
    assert path.name.startswith("p8-")
    assert path.name.endswith("fix-the-parser-with.md")
    assert "[redacted: github token 1]" in path.read_text()
    assert result.data["redacted"] == [{"kind": "github token", "secrets": 1, "places": 2}]
    assert Table(("REDACTED", "SECRETS", "PLACES"), (("github token", "1", "2"),), "No secret was found in it.") in (
        result.views
    )
    assert isinstance(result.views[0], Card)
    json.dumps(result.data)


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("export last", "md"), ("export last --format html", "html"), ("export last -o x.jsonl", "jsonl"),
        ("export last -o x.zip", "p8"), ("export last -o x.txt", "md"), ("export last -o x.html --format md", "md"),
        ("export --project --format p8", "p8"), ("export --all --format jsonl", "jsonl"),
    ],
)  # fmt: skip
def test_formats_are_chosen_by_name_or_by_file(app: App, line: str, form: str) -> None:
    result = run(app, line)
    assert result.data["format"] == form
    assert (SECRET in Path(result.data["path"]).read_bytes().decode("latin-1")) is False or form == "p8"


def test_an_archive_is_lossless_and_says_so(app: App) -> None:
    result = run(app, "export last -o a.p8.zip")
    assert "Lossless" in said(result)
    assert result.data["lossless"] is True
    assert result.data["redacted"] is None
    archive = read_archive(app.directory / "a.p8.zip")
    assert not archive.manifest.redacted

    clean = run(app, "export last -o b.p8.zip --redact")
    assert "Lossless" not in said(clean)
    assert clean.data["redacted"] == [{"kind": "github token", "secrets": 1, "places": 2}]
    assert read_archive(app.directory / "b.p8.zip").manifest.redacted


def test_redaction_can_be_left_out_and_that_is_said(app: App) -> None:
    result = run(app, "export last --no-redact")
    assert SECRET in Path(result.data["path"]).read_text()
    assert "Nothing was redacted" in said(result)
    with pytest.raises(UsageError, match="exclude"):
        run(app, "export last --no-redact --redact")


def test_a_file_is_not_replaced_unasked(app: App) -> None:
    (app.directory / "my notes.md").write_text("mine")
    result = run(app, "export last -o 'my notes.md'")
    assert (app.directory / "my notes.md").read_text() == "mine"
    assert isinstance(result.effect, Confirm)
    assert "4 bytes" in result.effect.question
    assert "1 messages as md" in result.effect.question

    done = run(app, result.effect.command)
    assert done.data["path"] == str(app.directory / "my notes.md")
    assert (app.directory / "my notes.md").read_text() != "mine"


@pytest.mark.parametrize("flags", ["--project", "--all", "--no-redact", "--all --format p8 --redact"])
def test_what_was_asked_is_done_after_the_question(app: App, flags: str) -> None:
    (app.directory / "x").write_text("mine")
    result = run(app, f"export {flags} -o x")
    assert isinstance(result.effect, Confirm)
    for flag in flags.split():
        assert flag in result.effect.command
    assert run(app, result.effect.command).data["size_bytes"] > 4


def test_several_sessions_go_into_one_file(app: App) -> None:
    app.sessions.start_session("demo", title="Second thing")
    app.sessions.record_message({"role": "user", "content": "hello"})
    result = run(app, "export 'Second thing' parser")
    assert len(result.data["sessions"]) == 2
    assert result.data["path"].endswith("second-thing-and-1-more.md")
    assert len(run(app, "export Second thing").data["sessions"]) == 1
    assert len(run(app, "export --all").data["sessions"]) == 2
    assert len(run(app, "export --project -o of-the-project.md").data["sessions"]) == 1


def test_a_directory_takes_a_named_file(app: App) -> None:
    (app.directory / "out").mkdir()
    assert Path(run(app, "export last -o out").data["path"]).parent == app.directory / "out"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("export nothing-like-it", NotFound), ("export last --all", UsageError), ("export --project --all", UsageError),
        ("export last --format pdf", UsageError), ("export last -o none/x.md", FormatError),
        ("export last -o /dev/null --yes", FormatError), ("export foo bar", NotFound),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(app: App, line: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(app, line)


def test_without_a_session_there_is_nothing_to_write(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    app = make_app(tmp_path / "home2", tmp_path / "there")
    app.store.drain()
    with pytest.raises(UsageError, match="which session"):
        run(app, "export")
    with pytest.raises(NotFound, match="no session yet"):
        run(app, "export --all")
    app.close()


def test_secrets_of_the_environment_are_known(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_PASSWORD", "correct horse")
    app.sessions.record_message({"role": "user", "content": "it is correct horse, really"})
    path = Path(run(app, "export last").data["path"])
    assert "it is [redacted: MY\\_SERVICE\\_PASSWORD 1], really" in path.read_text().replace("_", "\\_")


def test_progress_waits_for_a_second(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    app.progress = lambda fraction, _text: told.append(fraction)
    run(app, "export last -o a.md")
    assert told == []
    monkeypatch.setattr("p8.commands.export.QUIET_S", -1.0)
    run(app, "export last -o b.md")
    assert told[-1] == 1.0
    assert len(told) >= 2
