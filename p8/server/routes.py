"""The REST API, as a table: each route says its policy, the commands it calls, what it takes and what it tells.

A route only fits names to a command's arguments and shapes its data; what is done is done by the command, as at the
REPL and in the shell. A route whose command is not installed is not offered.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import BaseModel

from p8.commands.registry import Confirm, Result, RunLines
from p8.errors import Conflict, ContainerError
from p8.model import Status
from p8.server import shapes as s
from p8.server.events import page_of_events

if TYPE_CHECKING:
    from p8.app import App

Values = Mapping[str, Any]


class Call:
    """
    Calls commands by their names, as other doors do.

    Args:
        app: where.
        door: whose commands; those of the REPL need a current session.
        stop: set when nobody waits for the answer any more.
    """

    def __init__(self, app: App, door: str = "cli", stop: threading.Event | None = None) -> None:
        self.app = app
        self.stop = stop or threading.Event()
        self._door = door

    def __call__(self, path: str, /, **values: Any) -> Result:
        """Call one; see `Command.fit`."""
        found, _ = self.app.registry.find(path.split(), self._door)
        return found.run(self.app, found.fit(values, "api"))

    def standing(self, directory: str) -> Call:
        """Return what calls commands as if the person stood in another directory."""
        place = Path(directory)
        return Call(self.app.beside(place)) if directory and place.is_dir() else self

    @contextlib.contextmanager
    def apart(self, directory: str, door: str = "cli", model: str = "") -> Iterator[Call]:
        """Lend what calls commands of a P8 of its own, so that it can have a session. Raises Conflict."""
        place = Path(directory) if directory else self.app.directory
        if not place.is_dir():
            raise Conflict(f"{place} is not there", "bring the directory back, or say where the project is now")
        own = self.app.apart(place, model)
        try:
            yield Call(own, door, self.stop)
        finally:
            own.close()

    @contextlib.contextmanager
    def within(self, session: str) -> Iterator[Call]:
        """Lend what calls commands as if the person had resumed a session, and put it down as it was."""
        row = self.app.store.sessions.get(session)
        with self.apart(row.directory, "repl") as there:
            there.app.sessions.resume_session(row.id)
            yield there
            if row.status is Status.COMPLETED and there.app.sessions.current is not None:
                there.app.sessions.end_session()


Run = Callable[[Call, Values], Any]


class Route(NamedTuple):
    """One route."""

    method: str
    path: str
    needs: tuple[str, ...]  #: commands it calls
    summary: str
    run: Run
    answer: Any  #: a model, or list[model]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    policy: str = "key"  #: "key", or "open" for what answers anybody on this machine
    status: int = 200
    engine: bool = False  #: needs the container engine
    slow: bool = False  #: may take minutes, and ends when the client leaves
    kept: bool = False  #: says only what stands in the database: its answer may be kept until that changes


def _sessions(call: Call, v: Values) -> Any:
    data = call(
        "session list", query=v["q"].split(), all=not v["project"], project=v["project"], limit=v["limit"],
        sort=v["sort"], archived=v["archived"], trash=v["trash"], tag=v["tag"], after=v["after"],
    ).data  # fmt: skip
    return {"items": data, "next": data[-1]["id"] if len(data) == v["limit"] else None}


def _change_session(call: Call, v: Values) -> Any:
    which = [v["id"]]
    if v["title"] is not None:
        call("session rename", title=[v["title"]], id=v["id"])
    if v["pinned"] is not None:
        call("session pin" if v["pinned"] else "session unpin", session=which)
    if v["archived"] is not None:
        call("session archive" if v["archived"] else "session unarchive", session=which)
    if v["add_tags"]:
        call("session tag", tags=v["add_tags"], id=v["id"])
    if v["remove_tags"]:
        call("session untag", tags=v["remove_tags"], id=v["id"])
    return call("session info", session=which).data


def _entries(call: Call, v: Values) -> Any:
    found = call("session show", session=[v["id"]], limit=v["limit"], before=v["before"]).data["entries"]
    first = f"{found[0]['stream']}:{found[0]['seq']}" if len(found) == v["limit"] else None
    return {"items": found, "next": first}


def _search(call: Call, v: Values) -> Any:
    return call("search", words=[v["q"]], session=v["session"], limit=v["limit"]).data


def _restore(call: Call, v: Values) -> Any:
    """Plan; and where the client shows that it has seen this very plan, do it."""
    found = call("checkpoint show", checkpoint=[v["id"]]).data
    there = call.standing(str(found.get("directory", "")))
    asked = {"checkpoint": [v["id"]], "everything": v["everything"], "path": v["path"]}
    planned = there("checkpoint restore", **asked, dry_run=True).data
    seen = {name: planned[name] for name in ("target", "actions", "skipped")} | asked
    mark = hashlib.sha256(orjson.dumps(seen, option=orjson.OPT_SORT_KEYS)).hexdigest()
    if not v["plan"]:
        return {"plan": mark, **planned}
    if v["plan"] != mark:
        raise Conflict("the files have changed since this was planned", "look at the new plan first")
    if not planned["actions"]:
        return {"safety": planned["safety"], "changed": [], "skipped": planned["skipped"]}
    return there("checkpoint restore", **asked, yes=True).data


def _undo_restore(call: Call, v: Values) -> Any:
    found = call("checkpoint show", checkpoint=[v["id"]]).data
    return call.standing(str(found.get("directory", "")))("checkpoint undo").data


def _diff(call: Call, v: Values) -> Any:
    found = call("checkpoint show", checkpoint=[v["id"]]).data
    there = call.standing(str(found.get("directory", "")))
    return there("checkpoint diff", old=v["id"], new=v["to"], patch=v["patch"]).data


def _made_checkpoint(call: Call, v: Values) -> Any:
    with call.within(v["id"]) as there:
        return there("checkpoint create", name=v["name"].split()).data


def _made_session(call: Call, v: Values) -> Any:
    root = call("project show", project=[v["id"]]).data["root"]
    with call.apart(root, "repl") as there:
        there.app.project  # noqa: B018 so that it belongs to it from its first entry on
        made = there("session new", title=v["title"].split()).data["session"]
        there.app.sessions.pause_session()
    return call("session info", session=[made]).data


def _forked(call: Call, v: Values) -> Any:
    row = call.app.store.sessions.get(v["id"])
    with call.apart(row.directory if Path(row.directory).is_dir() else "", "repl") as there:
        made = there("session fork", session=[row.id], at=v["at"] or None).data["session"]
        there.app.sessions.pause_session()
    return call("session info", session=[made]).data


def _made_handoff(call: Call, v: Values) -> Any:
    row = call.app.store.sessions.get(v["session"])
    with call.apart(row.directory, model=row.model) as there:
        made = there("handoff", session=row.id, plain=not v["summary"]).data
    return call("handoff show", handoff=made["id"]).data


def _started(call: Call, v: Values) -> Any:
    return call("instance start", project=v["project"], mode=v["mode"], instance=v["id"], template=v["template"]).data


def _changed_instance(call: Call, v: Values) -> Any:
    call("instance config", words=["set", v["id"], v["key"], v["value"]])
    return call("instance show", instance=v["id"]).data


def _instance_stats(call: Call, v: Values) -> Any:
    known = call("instance show", instance=v["id"]).data["id"]
    found = [one for one in call("instance stats").data if one["id"] == known]
    return found[0] if found else {"id": known}


def _health(call: Call, _v: Values) -> Any:
    state = call.app.store.durability()
    problem = state.problem
    try:
        found = call("instance health", words=["check"]).data
    except ContainerError as error:
        found, problem = [], problem or error.message
    well = not problem and all(one["healthy"] for one in found)
    plain = [{**one, "reasons": list(one["reasons"])} for one in found]
    return {"status": "ok" if well else "trouble", "problem": problem, "instances": plain}


def _root(call: Call, project: str) -> str:
    return str(call("project show", project=[project]).data["root"]) if project else ""


def _actions(call: Call, v: Values) -> Any:
    return call.standing(_root(call, v["project"]))("do").data


def _do(call: Call, v: Values) -> Any:
    """Say what an action would do."""
    return call.standing(_root(call, v["project"]))("do", action=v["id"], values=v["values"], show=True).data


def _done(call: Call, v: Values) -> Any:
    """Do an action."""
    from p8.commands.doing import do_alone

    session = v["session"]
    place = call.app.store.sessions.get(session).directory if session else _root(call, v["project"])
    with call.apart(place) as there:
        found = there("do", action=v["id"], values=v["values"], session=session, yes=v["trust"])
        if isinstance(found.effect, Confirm):
            raise Conflict(found.effect.question, "trust: true says so")
        assert isinstance(found.effect, RunLines)
        return do_alone(there.app, found.effect, stop=there.stop).to_dict()


def _is_ok(_call: Call, _v: Values) -> Any:
    return {"status": "ok"}


SESSIONS = (
    Route("GET", "/api/v1/sessions", ("session list",), "List sessions, newest first.", _sessions, s.SessionPage,
          s.SessionsQuery, kept=True),
    Route("GET", "/api/v1/sessions/{session}", ("session info",), "Show a session.",
          lambda call, v: call("session info", session=[v["id"]]).data, s.SessionDetail, kept=True),
    Route("PATCH", "/api/v1/sessions/{session}", ("session rename", "session info"),
          "Rename, pin, archive or tag a session.", _change_session, s.SessionDetail, body=s.SessionChange),
    Route("DELETE", "/api/v1/sessions/{session}", ("session delete",), "Put a session into the trash.",
          lambda call, v: call("session delete", session=[v["id"]], yes=True).data, s.Anything),
    Route("POST", "/api/v1/sessions/undo", ("session undo",), "Take back the last change of a session.",
          lambda call, _v: call("session undo").data, s.Anything, body=s.Nothing),
    Route("GET", "/api/v1/sessions/{session}/entries", ("session show",), "Read a transcript, the newest page first.",
          _entries, s.EntryPage, s.EntriesQuery, kept=True),
    Route("GET", "/api/v1/search", ("search",), "Find words said or printed in any session.", _search,
          list[s.HitShape], s.SearchQuery, kept=True),
    Route("GET", "/api/v1/checkpoints", ("checkpoint list",), "List checkpoints, newest first.",
          lambda call, v: call("checkpoint list", session=[v["session"]] if v["session"] else []).data,
          list[s.CheckpointShape], s.CheckpointsQuery, kept=True),
    Route("POST", "/api/v1/sessions/{session}/fork", ("session fork", "session info"),
          "Continue a session from its end, or from an entry, as a new one.", _forked, s.SessionDetail,
          body=s.ForkAsked, status=201),
    Route("POST", "/api/v1/sessions/{session}/checkpoints", ("checkpoint create",), "Make a checkpoint.",
          _made_checkpoint, s.CheckpointShape, body=s.CheckpointAsked, status=201),
    Route("GET", "/api/v1/checkpoints/{checkpoint}", ("checkpoint show",), "Show a checkpoint.",
          lambda call, v: call("checkpoint show", checkpoint=[v["id"]]).data, s.CheckpointShape),
    Route("GET", "/api/v1/checkpoints/{checkpoint}/diff", ("checkpoint diff",), "Compare with another one, or now.",
          _diff, s.DiffShape, s.DiffQuery),
    Route("POST", "/api/v1/checkpoints/{checkpoint}/restore", ("checkpoint restore",),
          "Plan a restore of files, or do what was planned.", _restore, s.PlanShape | s.RestoredShape,
          body=s.RestoreAsked),
    Route("POST", "/api/v1/checkpoints/{checkpoint}/undo", ("checkpoint undo",),
          "Take back the last restore in a checkpoint's directory.", _undo_restore, s.RestoredShape, body=s.Nothing),
    Route("GET", "/api/v1/handoffs", ("handoff list",), "List handoffs, newest first.",
          lambda call, v: call("handoff list", session=[v["session"]] if v["session"] else []).data,
          list[s.HandoffShape], s.HandoffsQuery),
    Route("POST", "/api/v1/handoffs", ("handoff", "handoff show"), "Write a handoff of a session.", _made_handoff,
          s.HandoffText, body=s.HandoffAsked, status=201, slow=True),
    Route("GET", "/api/v1/handoffs/{handoff}", ("handoff show",), "Read a handoff.",
          lambda call, v: call("handoff show", handoff=v["id"]).data, s.HandoffText),
    Route("GET", "/api/v1/events", (), "Read what happened, in order.", page_of_events, s.EventPage, s.EventsQuery),
)  # fmt: skip

INSTANCES = (
    Route("GET", "/api/v1/instances", ("instance list",), "List instances.",
          lambda call, v: call("instance list", status=v["status"]).data, list[s.InstanceShape], s.InstancesQuery),
    Route("POST", "/api/v1/instances", ("instance start",), "Start an instance.", _started, s.InstanceShape,
          body=s.InstanceAsked, status=201, engine=True),
    Route("GET", "/api/v1/instances/{instance}", ("instance show",), "Show an instance.",
          lambda call, v: call("instance show", instance=v["id"]).data, s.InstanceShape),
    Route("PUT", "/api/v1/instances/{instance}", ("instance config",), "Change a setting of an instance.",
          _changed_instance, s.InstanceShape, body=s.InstanceChange),
    Route("DELETE", "/api/v1/instances/{instance}", ("instance stop",), "Stop an instance; its state stays.",
          lambda call, v: call("instance stop", instance=[v["id"]], force=v["force"]).data[0], s.InstanceShape,
          s.ForceQuery, engine=True),
    *(
        Route("POST", f"/api/v1/instances/{{instance}}/{verb}", (f"instance {verb}",), f"{said} an instance.",
              lambda call, v, verb=verb: call(f"instance {verb}", instance=v["id"]).data,  # type: ignore[misc]
              s.InstanceShape if verb != "heal" else s.Anything, body=s.Nothing, engine=True)
        for verb, said in (("restart", "Restart"), ("pause", "Freeze"), ("resume", "Let go on"), ("heal", "Heal"))
    ),
    Route("GET", "/api/v1/instances/{instance}/logs", ("instance logs",), "Read what an instance printed.",
          lambda call, v: call("instance logs", instance=v["id"], tail=v["tail"]).data, s.LogShape, s.LogQuery,
          engine=True),
    Route("GET", "/api/v1/instances/{instance}/stats", ("instance stats", "instance show"),
          "Say what an instance uses.", _instance_stats, s.UsageShape, engine=True),
    Route("GET", "/api/v1/resources", ("instance stats",), "Say what all instances use.",
          lambda call, _v: call("instance stats").data, list[s.UsageShape], engine=True),
    Route("GET", "/api/v1/health", ("instance health",), "Say how all is.", _health, s.Overall),
    Route("GET", "/health", (), "Say that the server is there.", _is_ok, s.Anything, policy="open"),
)  # fmt: skip

PROJECTS = (
    Route("GET", "/api/v1/projects", ("project list",), "List projects.",
          lambda call, v: call("project list", prefix=v["prefix"], tag=v["tag"], trash=v["trash"]).data,
          list[s.Anything], s.ProjectsQuery),
    Route("POST", "/api/v1/projects", ("project create",), "Make a project that P8 hosts.",
          lambda call, v: call("project create", workspace=True, **v).data, s.Anything, body=s.ProjectAsked,
          status=201),
    Route("GET", "/api/v1/projects/{project}", ("project show",), "Show a project.",
          lambda call, v: call("project show", project=[v["id"]]).data, s.Anything),
    Route("DELETE", "/api/v1/projects/{project}", ("project delete",), "Put a project into the trash.",
          lambda call, v: call("project delete", project=[v["id"]], yes=True).data, s.Anything),
    Route("GET", "/api/v1/projects/{project}/sessions", ("session list",), "List a project's sessions.",
          lambda call, v: _sessions(call, {**v, "project": v["id"]}), s.SessionPage, s.SessionsQuery),
    Route("POST", "/api/v1/projects/{project}/sessions", ("project show", "session new", "session info"),
          "Begin a session in a project.", _made_session, s.SessionDetail, body=s.SessionAsked, status=201),
    Route("POST", "/api/v1/projects/{project}/extend", ("project extend",), "Keep a project for longer without use.",
          lambda call, v: call("project extend", project=[v["id"]], days=v["days"]).data, s.Anything,
          body=s.ExtendAsked),
    *(
        Route("POST", f"/api/v1/projects/{{project}}/{verb}", (f"project {verb}",), f"{said} a project.",
              lambda call, v, verb=verb: call(f"project {verb}", project=[v["id"]]).data,  # type: ignore[misc]
              s.Anything, body=s.Nothing)
        for verb, said in (("pin", "Pin"), ("unpin", "Unpin"))
    ),
    Route("GET", "/api/v1/metrics", ("stats",), "Read how the work goes: a session's figures, or sums over all.",
          lambda call, v: call("stats", session=[v["session"]] if v["session"] else [], all=not v["session"],
                               days=v["days"]).data, s.Anything, s.MetricsQuery),
    Route("GET", "/api/v1/actions", ("do",), "List quick actions, with what may come next.", _actions,
          list[s.Anything], s.ActionsQuery),
    Route("POST", "/api/v1/actions/{action}", ("do",), "Say what a quick action would do.", _do, s.Anything,
          body=s.ActionAsked),
    Route("POST", "/api/v1/actions/{action}/run", ("do",), "Do a quick action, and wait for it.", _done, s.ActionDone,
          body=s.ActionToDo, slow=True),
)  # fmt: skip

#: what a path's part may be, by its name in the path
PARTS = {
    "session": s.ID, "checkpoint": s.ID, "handoff": s.HANDOFF, "instance": s.NAME, "action": s.NAME, "project": s.NAME,
}  # fmt: skip


def routes(app: App) -> list[Route]:
    """Return the routes whose commands are installed."""
    app.registry.load()
    known = app.registry.commands
    found = [one for one in (*SESSIONS, *INSTANCES, *PROJECTS) if all(name in known for name in one.needs)]
    offered = sorted(f"{one.method} {one.path}" for one in found)

    def about(call: Call, _v: Values) -> Any:
        from p8 import __version__

        here = call.app
        return {"version": __version__, "project": here.project.id, "directory": str(here.directory), "offers": offered}

    return [*found, Route("GET", "/api/v1/about", (), "Say what is served.", about, s.About)]
