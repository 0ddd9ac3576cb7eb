"""`/project` and `p8 project`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from p8.commands.registry import Confirm, Switched
from p8.errors import Conflict, NotFound, UsageError
from p8.testing import make_app
from support.door import run


def test_a_project_from_its_making_to_the_trash_and_back(app) -> None:
    made = run(app, "project create my-api --workspace --tag web,py --description 'The API'").data
    assert json.loads(json.dumps(made)) == made
    assert run(app, "project list my --tag web").data[0]["project_id"] == made["project_id"]
    run(app, "project tag new --project my-api")
    run(app, "project tag web --remove --project my-api")
    run(app, "project pin my-api")
    run(app, "project describe Another words --project my-api")
    shown = run(app, "project show my-api").data
    assert (shown["tags"], shown["pinned"], shown["description"]) == (["new", "py"], True, "Another words")
    assert run(app, "project unpin my-api").data["pinned"] is False
    assert "Kept until" in run(app, "project extend my-api --days 5").views[0].text

    asked = run(app, "project delete my-api")
    assert isinstance(asked.effect, Confirm)
    run(app, asked.effect.command)
    assert "my-api" not in [r["name"] for r in run(app, "project list").data]
    assert [r["name"] for r in run(app, "project list --trash").data] == ["my-api"]
    run(app, "project restore my-api")
    assert Path(run(app, "project show my-api").data["workspace"], "repo").is_dir()


def test_a_project_in_the_trash_is_removed_for_good_when_that_is_agreed_to(app) -> None:
    made = run(app, "project create scratch --workspace").data
    with pytest.raises(NotFound):
        run(app, "project purge scratch")  # it is not in the trash
    with pytest.raises(UsageError):
        run(app, "project purge")
    run(app, "project delete scratch --yes")
    assert "nothing goes" in run(app, "project purge --expired").views[0].text
    (planned,) = run(app, "project purge scratch --dry-run").data["projects"]
    assert planned["project_id"] == made["project_id"]
    assert (app.removal.trash / planned["folder"]).is_dir()
    asked = run(app, "project purge scratch").effect
    assert isinstance(asked, Confirm)
    done = run(app, asked.command)
    assert done.data["purged"] == [made["project_id"]]
    assert "Removed for good: scratch (" in done.views[0].text
    assert not (app.removal.trash / planned["folder"]).exists()
    assert run(app, "project list --trash").data == []


def test_this_directory_becomes_a_project_and_takes_its_sessions_along(app) -> None:
    session = app.ensure_session()
    app.settle_project()
    old = app.project.id
    app.sessions.record_message({"role": "user", "content": "x"})
    made = run(app, "project create mine --adopt").data

    assert app.project.id == made["project_id"] != old
    assert run(app, "project").data["sessions"][0]["id"] == session.session_id
    with pytest.raises(Conflict):
        run(app, "project create again")
    with pytest.raises(UsageError):
        run(app, "project create other --workspace --adopt")


def test_deleting_the_project_at_hand_puts_the_session_down(app) -> None:
    app.project  # worked out before the first word
    session = app.ensure_session()
    app.sessions.record_message({"role": "user", "content": "x"})
    done = run(app, f"project delete {app.project.id} --yes")
    assert isinstance(done.effect, Switched)
    assert app.sessions.current is None
    assert app.store.sessions.get(session.session_id).trashed_us is not None


def test_cleanup_says_what_it_would_do_and_does_nothing_where_it_is_off(app) -> None:
    run(app, "project create old --workspace")
    with pytest.raises(UsageError, match="off"):
        run(app, "project cleanup")
    assert run(app, "project cleanup --dry-run").data == []
    project = app.portfolio.resolve("old").project.id
    app.store.projects.update(project, lambda row: {**row, "last": row["last"] - 29 * 86_400_000_000})
    (act,) = run(app, "project cleanup --dry-run").data
    assert (act["what"], act["day"]) == ("warning", 29)


def test_switched_on_it_warns_in_the_repl(home: Path, tmp_path: Path) -> None:
    app = make_app(home, tmp_path, project_cleanup=True)
    project = app.portfolio.create("old").project.id
    app.store.projects.update(project, lambda row: {**row, "last": row["last"] - 29 * 86_400_000_000})
    app.upkeep.projects()
    assert [n.text for n in app.store.notices() if "about to go" in n.text]
    assert run(app, "project cleanup").data == []
    app.close()


@pytest.mark.parametrize("line", ["project show nothing", "project restore nothing", "project pin nothing"])
def test_what_is_not_there_is_said(app, line: str) -> None:
    with pytest.raises(NotFound):
        run(app, line)


def test_every_project_command_explains_itself(app) -> None:
    from p8.commands.help import usage

    names = [name for name in app.registry.names("cli") if name.split()[0] == "project"]
    assert len(names) >= 12
    for name in names:
        assert app.registry.commands[name].help in " ".join(usage(app.registry.commands[name], "cli").split())
        for example in app.registry.commands[name].examples:
            words = [word for word in shlex.split(example) if word != "--json"]  # the door takes that
            found, given = app.registry.find(words, "cli")
            found.parse(given, "cli")


def test_tab_offers_projects(app) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from p8.repl.completion import ReplCompleter

    made = app.portfolio.create("my-api").project.id
    offered = [c.text for c in ReplCompleter(app).get_completions(Document("/project show my"), CompleteEvent())]
    assert offered == [made]
