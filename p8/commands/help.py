"""Help, settings, and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p8.commands.registry import CALLED, Arg, Command, Quit, Result, Table, Text, command

if TYPE_CHECKING:
    from argparse import Namespace

    from p8.app import App

KEYS = (
    ("Enter", "send"), ("Alt-Enter", "new line"), ("!command", "run it in the shell, recorded"),
    ("Up, Down, Ctrl-R", "earlier lines"), ("Tab", "complete; where nothing is typed, take what is suggested below"),
    ("Ctrl-C", "stop the answer; clear the line"),
    ("Esc Esc", "rewind"), ("Ctrl-D", "leave; everything is saved"),
    ("//text", "say something that begins with a slash"),
)  # fmt: skip


@command("help", "List the commands, or explain one.", Arg("command", "its words", "command", "*"),
         examples=("help", "help session rename"))  # fmt: skip
def help_(app: App, args: Namespace) -> Result:
    """Show help."""
    registry = app.registry
    door = "repl" if args.door == "repl" else "cli"
    if args.command:
        found, _ = registry.find([word.lstrip("/") for word in args.command], door)
        return Result({"command": found.path, "help": found.help}, (Text(usage(found, door)),))
    names = registry.names(door)
    rows = tuple((f"/{name}" if door == "repl" else name, registry.commands[name].help) for name in names)
    keys = (Text(""), Table(("KEY", ""), KEYS)) if door == "repl" else ()
    return Result(
        [{"command": n, "help": registry.commands[n].help} for n in names], (Table(("COMMAND", ""), rows), *keys)
    )


def usage(found: Command, door: str) -> str:
    """Return a command's help text, as a door has it."""
    text = found.parser(door).format_help()
    others = f"\nalso: {', '.join(f'{CALLED[door]}{alias}' for alias in found.aliases)}" if found.aliases else ""
    return text.rstrip() + others


@command("settings", "Show the settings and where they come from.")
def settings(app: App, args: Namespace) -> Result:
    """Show settings."""
    config = app.config
    values = config._asdict()
    # A table holds what belongs to nobody's screen: keys for agents.
    rows = tuple((name, ", ".join(v) if isinstance(v, dict) else str(v)) for name, v in values.items())
    where = Text(f"Set them in {config.home / 'config.toml'}, name = value.", "dim")
    return Result({name: value for name, value in rows}, (Table(("SETTING", "VALUE"), rows), where))  # noqa: C416


@command("quit", "Leave. The session is saved and can be resumed.", aliases=("exit", "q"), doors=("repl",))
def quit_(app: App, args: Namespace) -> Result:
    """Leave."""
    return Result(effect=Quit())
