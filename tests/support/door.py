"""A door for tests: does a line as the REPL or the shell would, and draws nothing."""

from __future__ import annotations

from p8.app import App
from p8.commands.registry import Result


def run(app: App, line: str, door: str = "repl") -> Result:
    """Do a line that was typed at a door, "repl" or "cli", without its `/` or `p8`."""
    found, given = app.registry.find(app.registry.split(line), door)
    return found.run(app, found.parse(given, door))
