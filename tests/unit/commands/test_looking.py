"""`/context`, `/stats`, `/handoff`, `/view` and `/log` as commands: what they show at the prompt and in the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p8.commands.registry import Live, Meters
from p8.errors import UsageError
from p8.testing import make_app
from support.door import run


@pytest.fixture
def app(home: Path, tmp_path: Path):
    (tmp_path / "here").mkdir()
    app = make_app(home, tmp_path / "here")
    yield app
    app.close()


def worked(app) -> str:
    run(app, "session start --scope lines=100 Date parser")
    app.sessions.record_message({"role": "user", "content": "write a parser"})
    app.sessions.record_message({"role": "assistant", "content": "done", "tokens_in": 40, "tokens_out": 10})
    assert app.planner.tokens
    app.after_turn()
    app.settle_project()
    return app.sessions.current.session_id


def meters(result) -> dict[str, float]:
    return {row.label.strip(): row.part for view in result.views if isinstance(view, Meters) for row in view.rows}


def test_a_session_that_is_put_down_is_shown_as_it_was_left(app) -> None:
    session = worked(app)
    there = run(app, "context")
    app.sessions.pause_session()
    app.ensure_session()  # a line was typed in it, and nothing else
    app.settle_project()
    for line, door in (("context", "cli"), (f"context {session}", "repl"), ("context Date", "cli")):
        if door == "cli":
            app.sessions.pause_session() if app.sessions.current is not None else None
        found = run(app, line, door)
        assert (found.data["used"], found.data["budget"]) == (there.data["used"], 1200)
        assert "▸ implement" in " ".join(meters(found))
    assert run(app, "stats Date", "cli").data["completion"] is not None
    assert "budget" in meters(run(app, "stats Date", "cli"))


def test_where_nothing_was_said_yet_stats_are_those_of_all(app) -> None:
    worked(app)
    app.sessions.pause_session()
    app.ensure_session()
    app.sessions.record_command("/stats")
    assert run(app, "stats").data["totals"]["messages"] == 2


def test_a_completed_session_is_done(app) -> None:
    worked(app)
    done = run(app, "session complete")
    assert done.data["metrics"]["completion"] == 1.0
    assert meters(done)["done"] == 1.0


def test_what_works_in_the_repl_only_says_so_in_the_shell(app) -> None:
    with pytest.raises(UsageError, match="works in the REPL only") as caught:
        app.registry.find(["session", "complete"], "cli")
    assert "/session complete" in caught.value.hint


def test_figures_are_drawn_anew_as_often_as_the_view_says(app) -> None:
    run(app, "view watch_s 7")
    found = run(app, "stats --all --watch")
    assert isinstance(found.effect, Live)
    assert found.effect.every_s == 7.0
    assert found.data["totals"]["sessions"] == len(found.data["by_project"])


def test_a_view_is_changed_shown_and_reset(app) -> None:
    assert run(app, "view theme dark").data["theme"] == "dark"
    assert run(app, "view theme").data == {"theme": "dark"}
    assert app.theme == "dark"
    assert run(app, "view --reset").data["theme"] == "auto"
    with pytest.raises(UsageError):
        run(app, "view theme dark --reset")
    with pytest.raises(UsageError):
        run(app, "view colour")


def test_the_log_of_metrics_alone(app) -> None:
    worked(app)
    found = run(app, "log --what metrics")
    assert [event["data"]["why"] for event in found.data] == ["checkpoint", "turn"]
    assert "turn: 2 messages, 0 run" in found.views[0].rows[-1][3]
    assert json.loads(json.dumps(found.data)) == found.data
    assert {event["data"]["what"] for event in run(app, "log --what error,metrics").data} == {"metrics"}
