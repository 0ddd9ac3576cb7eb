"""Agents: which there are, what is known of one, and switching to one; the conversation stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p8.commands.registry import Arg, Card, Choose, Result, Table, Text, command

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App


@command("agent", "Show or switch the agent that answers, also in the middle of a session.",
         Arg("name", "its name", "agent", "?"), examples=("agent", "agent codex"))  # fmt: skip
def agent(app: App, args: Namespace) -> Result:
    """Show or switch the agent."""
    agents = app.catalog.agents
    if args.name:
        preset, before = agents.get(args.name), app.model
        app.switch_model(preset.name)
        agents.prepare(preset)
        said = f"{preset.name} answers from now on" + (f"; it was {before}" if before not in {"", preset.name} else "")
        missing = next((info.note for info in agents.infos() if info.name == preset.name), "")
        missing = "" if app.config.agents_in == "container" else missing  # its container may only be on its way
        views = (Text(f"{said}. The conversation goes with it."), *((Text(missing, "warning"),) if missing else ()))
        return Result({"agent": preset.name, "before": before}, views)
    options = tuple((i.name, f"{'●' if i.ready else '○'} {i.name}", f"{i.title}  {i.note}") for i in agents.infos())
    views = (Text(f"{app.model} answers." if app.model else "No model is set."),)
    return Result({"agent": app.model}, views, Choose("Which agent?", options, "agent"))


@command("agent list", "List the agents; ● is installed.")
def agent_list(app: App, args: Namespace) -> Result:
    """List agents."""
    agents = app.catalog.agents
    rows, data = [], []
    for info in agents.infos():
        wrong = info.name in app.config.agents and not info.ready
        preset = agents.get(info.name) if not wrong or info.note.startswith("not installed") else None
        version = agents.version(preset) if preset else ""
        pinned = preset.version if preset else ""
        rows.append(("●" if info.ready else "○", info.name, version, pinned, info.note))
        data.append({"name": info.name, "title": info.title, "ready": info.ready, "version": version,
                     "pinned": pinned, "note": info.note})  # fmt: skip
    return Result(data, (Table(("", "AGENT", "INSTALLED", "PINNED", "NOTE"), tuple(rows)),))


@command("agent show", "Show how an agent is started, what it may do unasked, and what it is given.",
         Arg("name", "its name", "agent"), examples=("agent show claude",))  # fmt: skip
def agent_show(app: App, args: Namespace) -> Result:
    """Show an agent."""
    agents = app.catalog.agents
    preset = agents.get(args.name)
    place = agents.place(preset)
    session = app.sessions.current.session_id if app.sessions.current is not None else ""
    rules = [f"{said} {scope}" for who, scope, said in app.permissions.standing(session) if who == preset.name]
    given = [*preset.passed, *preset.env]
    about = getattr(app.assistant, "about", {}) if app.model == preset.name else {}
    fields = [
        ("command", " ".join(preset.command)), ("program", agents.program(preset) or "not found"),
        ("version", agents.version(preset)), ("pinned at", preset.version), ("installed by", preset.install),
        ("runs", f"in {place.about}, at {place.cwd}" if place else "on the host, in the session's directory"),
        ("says it is", " ".join(str(about[key]) for key in ("title", "name", "version") if about.get(key))),
        ("permissions", "; ".join([app.config.permissions, *rules])),
        ("is given", ", ".join(given) or "no keys"),
        ("takes a key in", f"{', '.join(preset.keys)}: name one under pass in [agents.{preset.name}]"
         if preset.keys and not given else ""),
        ("signing in", preset.sign_in),
    ]  # fmt: skip
    data = {
        "name": preset.name, "title": preset.title, "command": list(preset.command), "package": preset.package,
        "pinned": preset.version, "version": agents.version(preset), "program": agents.program(preset),
        "given": given, "standing": rules,
    }  # fmt: skip
    return Result(data, (Card(preset.title, tuple((k, v) for k, v in fields if v)),))
