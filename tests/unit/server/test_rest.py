"""The API does what the commands do, page by page, and says what went wrong as a problem."""

from __future__ import annotations

import gc
import subprocess
from pathlib import Path

import pytest

from p8 import errors
from p8.commands.registry import Arg, Result, command
from p8.core.roster import Roster
from p8.server import problems
from p8.server.keys import Keys
from p8.server.web import Web
from p8.testing import make_app
from support.serving import TOKEN, ask


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    return place


@pytest.fixture
def app(home: Path, place: Path):
    app = make_app(home, place, engine=f"unix://{place}/none.sock")
    yield app
    app.close()


@pytest.fixture
def web(app):
    web = Web(app, Keys(TOKEN))
    yield web
    web.close()


def session_of(app, *texts: str, **about) -> str:
    made = app.sessions.start_session("p", project=app.project.id, directory=str(app.directory), **about)
    for text in texts:
        app.sessions.record_message({"role": "user", "content": text})
    app.sessions.pause_session()
    return made.session_id


def test_sessions_come_page_by_page_each_once(app, web) -> None:
    made = [session_of(app, f"number {n}") for n in range(7)]
    seen, after = [], ""
    for _ in range(9):
        page = ask(web.asgi, "GET", f"/api/v1/sessions?limit=3&after={after}").json
        seen += [one["id"] for one in page["items"]]
        after = page["next"]
        if not after:
            break
    assert seen == made[::-1]
    found = ask(web.asgi, "GET", "/api/v1/sessions?q=number%204").json["items"]
    assert [one["title"] for one in found] == ["number 4"]
    assert ask(web.asgi, "GET", "/api/v1/sessions?project=other-00000000").json["items"] == []


def test_a_transcript_comes_backwards_page_by_page_also_a_forks(app, web) -> None:
    first = session_of(app, *(f"m{n}" for n in range(10)))
    fork = app.sessions.fork_session(first, 8).session_id
    app.sessions.record_message({"role": "user", "content": "in the fork"})
    app.sessions.pause_session()
    seen, before = [], ""
    while True:
        page = ask(web.asgi, "GET", f"/api/v1/sessions/{fork}/entries?limit=3&before={before}").json
        seen = page["items"] + seen
        before = page["next"]
        if not before:
            break
    said = [one["content"] for one in seen if one["kind"] == "message"]
    assert said == [*(f"m{n}" for n in range(7)), "in the fork"]
    assert len({(one["stream"], one["seq"]) for one in seen}) == len(seen)


def test_what_an_entry_says_never_hides_where_it_stands(app, web) -> None:
    app.sessions.start_session("p")
    app.sessions.record_message({"role": "user", "content": "x", "seq": "no", "time": 5, "stream": [], "kind": None})
    row = app.sessions.current.session_id
    entry = ask(web.asgi, "GET", f"/api/v1/sessions/{row}/entries").json["items"][-1]
    assert (entry["stream"], entry["seq"], entry["kind"]) == (row, 2, "message")


def test_text_that_json_cannot_say_is_answered(app, web) -> None:
    session_of(app, "bad \ud800 paste")
    assert ask(web.asgi, "GET", "/api/v1/search?q=paste").status == 200
    assert ask(web.asgi, "GET", "/api/v1/sessions").json["items"][0]["title"].startswith("bad ")


def test_a_session_is_changed_deleted_and_brought_back(app, web) -> None:
    one = f"/api/v1/sessions/{session_of(app, 'hello')}"
    changed = ask(web.asgi, "PATCH", one, {"title": "T", "pinned": True, "add_tags": ["a", "b"]}).json
    assert (changed["title"], changed["pinned"], changed["tags"]) == ("T", True, ["a", "b"])
    assert ask(web.asgi, "PATCH", one, {"archived": True, "remove_tags": ["a"]}).json["tags"] == ["b"]
    assert ask(web.asgi, "DELETE", one).status == 200
    assert ask(web.asgi, "GET", one).json["trashed"]
    assert ask(web.asgi, "POST", "/api/v1/sessions/undo", {}).json["what"] == "trashed"
    assert ask(web.asgi, "GET", one).json["trashed"] is None


def test_words_are_found_inside_sessions(app, web) -> None:
    found = session_of(app, "the zymurgy of ale")
    session_of(app, "something else")
    hits = ask(web.asgi, "GET", "/api/v1/search?q=zymurgy").json
    assert {hit["session"] for hit in hits} == {found}


def test_a_restore_is_planned_first_and_done_only_as_planned(app, web, place: Path) -> None:
    (place / "a.txt").write_text("one")
    app.sessions.start_session("p", directory=str(place))
    made = app.checkpoints.create("before")
    app.sessions.pause_session()
    (place / "a.txt").write_text("two")
    path = f"/api/v1/checkpoints/{made.id}/restore"
    assert ask(web.asgi, "GET", f"/api/v1/checkpoints/{made.id}/diff").json["files"]
    asked = {"everything": True}
    plan = ask(web.asgi, "POST", path, asked).json
    assert [action["path"] for action in plan["actions"]] == ["a.txt"]
    assert (place / "a.txt").read_text() == "two"
    assert ask(web.asgi, "POST", path, {**asked, "plan": "0" * 64}).status == 409
    assert ask(web.asgi, "POST", path, {"plan": plan["plan"]}).status == 409  # another plan than the one shown
    (place / "b.txt").write_text("new")
    (place / "a.txt").write_text("three")
    stale = ask(web.asgi, "POST", path, {**asked, "plan": plan["plan"]})
    assert (stale.status in {200, 409}, (place / "b.txt").read_text()) == (True, "new")
    if stale.status == 409:
        again = ask(web.asgi, "POST", path, asked).json["plan"]
        assert ask(web.asgi, "POST", path, {**asked, "plan": again}).status == 200
    assert (place / "a.txt").read_text() == "one"
    assert ask(web.asgi, "POST", f"/api/v1/checkpoints/{made.id}/undo", {}).status == 200
    assert (place / "a.txt").read_text() == "three"


def test_a_checkpoint_of_another_directory_is_restored_there(home: Path, app, web, place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    (other / "x").write_text("one")
    there = make_app(home, other)
    there.sessions.start_session("q", directory=str(other))
    made = there.checkpoints.create("there")
    there.close()
    (other / "x").write_text("two")
    path = f"/api/v1/checkpoints/{made.id}/restore"
    plan = ask(web.asgi, "POST", path, {"everything": True}).json
    assert ask(web.asgi, "POST", path, {"everything": True, "plan": plan["plan"]}).status == 200
    assert (other / "x").read_text() == "one"


def test_events_of_all_come_in_order_and_of_one_session_alone(app, web) -> None:
    one, two = session_of(app, "a", "b"), session_of(app, "c")
    ask(web.asgi, "PATCH", f"/api/v1/sessions/{one}", {"pinned": True})
    page = ask(web.asgi, "GET", "/api/v1/events?limit=500").json
    said = [e["data"].get("content") for e in page["items"] if e["kind"] == "message"]
    assert said == ["a", "b", "c"]
    of_one = ask(web.asgi, "GET", f"/api/v1/events?session={one}").json["items"]
    assert {e["stream"] for e in of_one} >= {one}
    assert two not in {e["stream"] for e in of_one}
    assert [e["data"].get("set", {}).get("pinned") for e in of_one][-1] is True
    seen, cursor = [], "0.0"
    while batch := ask(web.asgi, "GET", f"/api/v1/events?limit=2&after={cursor}").json["items"]:
        seen += batch
        cursor = batch[-1]["cursor"]
    assert [e["cursor"] for e in seen] == [e["cursor"] for e in page["items"]]
    assert ask(web.asgi, "GET", "/api/v1/events?after=999999.1").status == 422
    newest = ask(web.asgi, "GET", "/api/v1/events?newest=true&limit=3").json["items"]
    assert newest == page["items"][-3:]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the SDK's, where none answers
def test_without_an_engine_instances_are_listed_and_starting_one_is_a_clear_problem(app, web) -> None:
    assert ask(web.asgi, "GET", "/api/v1/instances").json == []
    assert ask(web.asgi, "GET", "/api/v1/instances/none").status == 404
    answer = ask(web.asgi, "POST", "/api/v1/instances", {"project": ".", "mode": "shell"})
    assert answer.status == 424
    assert answer.json["type"] == "urn:p8:EngineDown"
    assert ask(web.asgi, "GET", "/api/v1/health").json["status"] in {"ok", "trouble"}
    assert Roster(app.store).all("up") == []
    gc.collect()


def test_what_went_wrong_is_a_problem(web) -> None:
    missing = ask(web.asgi, "GET", "/api/v1/sessions/20200101-000000-000000-abcd")
    assert (missing.status, missing.headers["content-type"]) == (404, problems.TYPE)
    assert missing.json["type"] == "urn:p8:NotFound"
    assert missing.json["hint"]
    for path, status in (("/api/v1/sessions/..%2f..", 404), ("/api/v1/nothing", 404), ("/api/v1/sessions?limit=0", 400),
                         ("/api/v1/sessions?limit=abc", 400), ("/api/v1/sessions?nothing=1", 400),
                         ("/api/v1/sessions?limit=1&limit=2", 400), ("/api/v1/sessions?archived=1", 400),
                         ("/api/v1/about?x=1", 400)):  # fmt: skip
        answer = ask(web.asgi, "GET", path)
        assert (answer.status, answer.json["status"]) == (status, status), path
    wrong = ask(web.asgi, "POST", "/api/v1/sessions")
    assert (wrong.status, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


def test_every_kind_of_error_has_a_status() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.P8Error)]
    made = {k.__name__: problems.status_of(k("a", "b", "c") if k is errors.Held else k("a")) for k in kinds}
    assert made["NotFound"] == 404
    assert made["Held"] == made["InvalidTransition"] == 409
    assert made["NotSaved"] == made["StoreError"] == 503
    assert all(400 <= status < 504 and status != 500 for status in made.values())


def test_what_breaks_in_p8_itself_shows_no_stack(app, home: Path) -> None:
    @command("session info", "Break.", Arg("session", nargs="*"))
    def broken(_app, _args) -> Result:
        raise ZeroDivisionError("secret /path")

    app.registry.add(broken)
    app.registry.commands["session info"] = broken
    web = Web(app, Keys(TOKEN))
    with pytest.raises(ZeroDivisionError):  # the server logs it; the client was answered before
        ask(web.asgi, "GET", "/api/v1/sessions/20200101-000000-000000-abcd")
    web.close()


def test_routes_of_commands_that_are_not_installed_are_not_offered(app, monkeypatch) -> None:
    app.registry.load()
    web = Web(app, Keys(TOKEN))
    answer = ask(web.asgi, "POST", "/api/v1/actions/checkpoint", {"values": {"name": "x"}})
    assert answer.json["lines"] == ["/checkpoint create x"]
    monkeypatch.delitem(app.registry.commands, "do")
    without = Web(app, Keys(TOKEN))
    assert {r.path for r in web.routes} - {r.path for r in without.routes} == {
        "/api/v1/actions", "/api/v1/actions/{action}", "/api/v1/actions/{action}/run"
    }  # fmt: skip
    assert ask(without.asgi, "GET", "/api/v1/actions").status == 404
    web.close()
    without.close()


ACTIONS = """\
greet:
  run: echo hello {name} {count}
  parameters:
    name: text
    count: {type: int, default: 1, max: 3}
steps:
  run: ["echo one", "exit 3", "echo never"]
"""


def test_an_action_is_done_with_checked_parameters_and_recorded(app, web, place: Path, home: Path) -> None:
    app.store.start()
    (home / "configs" / "actions").mkdir()
    (home / "configs" / "actions" / "mine.yaml").write_text(ACTIONS)
    path = "/api/v1/actions/greet/run"
    for wrong, status in (({}, 422), ({"values": {"name": "x", "count": "9"}}, 422), ({"values": {"more": "1"}}, 422),
                          ({"values": {"name": 1}}, 400), ({"values": {"name": "a\nb"}}, 422)):  # fmt: skip
        assert ask(web.asgi, "POST", path, wrong).status == status, wrong
    assert ask(web.asgi, "GET", "/api/v1/sessions").json["items"] == []
    done = ask(web.asgi, "POST", path, {"values": {"name": "$(touch x); you", "count": "2"}}).json
    assert (done["exit_code"], done["runs"][0]["output"]) == (0, "hello $(touch x); you 2\n")
    assert not (place / "x").exists()
    row = ask(web.asgi, "GET", f"/api/v1/sessions/{done['session']}").json
    assert (row["status"], row["executions"], row["directory"]) == ("completed", 1, str(place))
    session = session_of(app, "before")
    steps = ask(web.asgi, "POST", "/api/v1/actions/steps/run", {"session": session}).json
    assert (steps["session"], steps["exit_code"], len(steps["runs"])) == (session, 3, 2)
    assert ask(web.asgi, "GET", f"/api/v1/sessions/{session}").json["status"] == "paused"
    assert ask(web.asgi, "POST", "/api/v1/actions/none/run", {}).status == 404
    named = {one["action"]: one for one in ask(web.asgi, "GET", "/api/v1/actions").json}
    assert named["greet"]["parameters"]["count"]["max"] == 3


def test_an_action_that_came_with_the_project_is_done_only_when_it_is_trusted(app, web, place: Path) -> None:
    folder = place / ".ai-sessions" / "actions"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text("theirs: {run: touch done}\n")
    path = "/api/v1/actions/theirs/run"
    refused = ask(web.asgi, "POST", path, {})
    assert (refused.status, "touch done" in refused.json["detail"]) == (409, True)
    assert not (place / "done").exists()
    assert ask(web.asgi, "POST", path, {"trust": True}).status == 200
    assert (place / "done").exists()
    assert ask(web.asgi, "POST", path, {}).status == 200  # as it is
    (folder / "a.yaml").write_text("theirs: {run: touch other}\n")
    assert ask(web.asgi, "POST", path, {}).status == 409


def test_an_action_of_another_project_is_done_there(home: Path, app, web, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    there = make_app(home, other)
    project = there.project.id
    there.close()
    found = ask(web.asgi, "POST", "/api/v1/actions/save/run", {"project": project}).status
    assert found in {200, 404}
    (home / "configs" / "actions").mkdir(parents=True, exist_ok=True)
    (home / "configs" / "actions" / "w.yaml").write_text("where: {run: pwd}\n")
    done = ask(web.asgi, "POST", "/api/v1/actions/where/run", {"project": project}).json
    assert done["runs"][0]["output"] == f"{other}\n"


def test_handoffs_are_written_listed_and_read(app, web) -> None:
    session, other = session_of(app, "Write a parser"), session_of(app, "something else")
    made = ask(web.asgi, "POST", "/api/v1/handoffs", {"session": session})
    assert (made.status, made.json["session"]) == (201, session)
    assert "## Goal\n\nWrite a parser" in made.json["text"]
    again = ask(web.asgi, "POST", "/api/v1/handoffs", {"session": session, "summary": True}).json
    assert "## Summary, by fake" in again["text"]
    ask(web.asgi, "POST", "/api/v1/handoffs", {"session": other})
    listed = ask(web.asgi, "GET", f"/api/v1/handoffs?session={session}").json
    assert [one["id"] for one in listed] == [again["id"], made.json["id"]]
    assert len(ask(web.asgi, "GET", "/api/v1/handoffs").json) == 3
    assert ask(web.asgi, "GET", f"/api/v1/handoffs/{made.json['id']}").json == made.json
    assert ask(web.asgi, "GET", f"/api/v1/handoffs/{session}-1").status == 404
    assert ask(web.asgi, "POST", "/api/v1/handoffs", {"session": "20200101-000000-000000-abcd"}).status == 404
    assert ask(web.asgi, "GET", f"/api/v1/sessions/{session}").json["status"] == "paused"


def test_what_was_completed_is_completed_after_its_handoff(app, web) -> None:
    session = session_of(app, "done with")
    app.sessions.resume_session(session)
    app.sessions.end_session()
    assert ask(web.asgi, "POST", "/api/v1/handoffs", {"session": session}).status == 201
    assert ask(web.asgi, "POST", f"/api/v1/sessions/{session}/checkpoints", {"name": "x"}).status == 201
    assert ask(web.asgi, "GET", f"/api/v1/sessions/{session}").json["status"] == "completed"


def test_a_session_that_is_open_elsewhere_is_not_written_to(home: Path, app, web, place: Path) -> None:
    session = session_of(app, "hello")
    other = make_app(home, place)
    other.sessions.resume_session(session)
    for path, body in (("/api/v1/handoffs", {"session": session}), (f"/api/v1/sessions/{session}/checkpoints", {})):
        answer = ask(web.asgi, "POST", path, body)
        assert (answer.status, answer.json["type"]) == (409, "urn:p8:Held"), path
    other.close()


def test_a_checkpoint_is_made_and_its_diff_shows_what_changed(app, web, place: Path) -> None:
    (place / "a.txt").write_text("one\n")
    session = session_of(app, "hello")
    made = ask(web.asgi, "POST", f"/api/v1/sessions/{session}/checkpoints", {"name": "as it was"})
    assert (made.status, made.json["name"], made.json["session"]) == (201, "as it was", session)
    (place / "a.txt").write_text("two\n")
    path = f"/api/v1/checkpoints/{made.json['id']}/diff"
    assert "patch" not in ask(web.asgi, "GET", path).json
    assert "-one\n+two\n" in ask(web.asgi, "GET", f"{path}?patch=true").json["patch"]


def test_a_session_is_forked_at_its_end_or_at_an_entry(app, web) -> None:
    session = session_of(app, "a", "b", "c")
    made = [ask(web.asgi, "POST", f"/api/v1/sessions/{session}/fork", body).json for body in ({}, {"at": 3})]
    assert [(one["parent"], one["status"]) for one in made] == [(session, "paused")] * 2
    said = [ask(web.asgi, "GET", f"/api/v1/sessions/{one['id']}/entries").json["items"] for one in made]
    assert [[e["content"] for e in page if e["kind"] == "message"] for page in said] == [["a", "b", "c"], ["a", "b"]]
    assert ask(web.asgi, "POST", f"/api/v1/sessions/{session}/fork", {"at": 99}).status == 404


def test_a_session_begins_in_a_project(home: Path, app, web, tmp_path: Path) -> None:
    project = ask(web.asgi, "POST", "/api/v1/projects", {"prefix": "mine"}).json["project_id"]
    made = ask(web.asgi, "POST", f"/api/v1/projects/{project}/sessions", {"title": "First"})
    assert (made.status, made.json["title"], made.json["project"], made.json["status"]) == (
        201, "First", project, "paused",
    )  # fmt: skip
    listed = ask(web.asgi, "GET", f"/api/v1/projects/{project}/sessions").json["items"]
    assert [one["id"] for one in listed] == [made.json["id"]]
    assert ask(web.asgi, "POST", "/api/v1/projects/none-1/sessions", {}).status == 404


def test_the_document_names_every_route_and_only_those(app, web) -> None:
    document = ask(web.asgi, "GET", "/api/v1/openapi.json").json
    named = {f"{verb.upper()} {path}" for path, verbs in document["paths"].items() for verb in verbs}
    assert named == {f"{route.method} {route.path}" for route in web.routes}
    ids = [one["operationId"] for verbs in document["paths"].values() for one in verbs.values()]
    assert len(ids) == len(set(ids))
