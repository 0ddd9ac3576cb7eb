"""The container under the session, as the REPL uses it: launched beside the prompt, asked for each `!command`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from p8.core import shell
from p8.errors import ContainerError, P8Error
from p8.repl.screen import Screen, escape

if TYPE_CHECKING:
    from p8.app import App

LAUNCH_S = 10.0  #: how long a command, never the prompt, waits for a container that is being launched


class Box:
    """
    Where commands run.

    Args:
        app: whose session.
        screen: told once where there is no container though there should be one.
    """

    def __init__(self, app: App, screen: Screen) -> None:
        self._app = app
        self._screen = screen
        self._session = ""
        self._told = ""

    @property
    def is_wanted(self) -> bool:
        """Return whether sessions have containers here."""
        return self._app.config.container != "never"

    def settle(self) -> None:
        """Launch a container for the current session, if it is another one than before; returns at once."""
        session = self._app.sessions.current
        name = session.session_id if session is not None else ""
        if not self.is_wanted or name == self._session:
            return
        self._session = name
        if name:
            self._app.container.start_in_background(name, self._app.directory)
        else:
            self._app.container.stop(wait=False)

    def run(self, line: str, show: Callable[[str], None], stop: threading.Event) -> tuple[shell.Run, str]:
        """
        Run a line in the container where there is one, else on the host.

        Returns:
            what came of it, and the container's name or "".

        Raises:
            ContainerError: commands must run in a container, and there is none.
            P8Error: the shell cannot be run.
        """
        app = self._app
        if self.is_wanted:
            app.container.wait(LAUNCH_S)
            if app.container.covers(app.directory):
                done = app.container.execute(line, show, stop, directory=app.directory)
                ran = shell.Run(
                    done.exit_code, done.output, done.duration_s, done.started_at, done.cut_bytes, done.interrupted
                )
                return ran, done.where
            self._tell_why()
        try:
            return shell.run(line, app.config.shell, app.directory, app.config.output_limit_bytes, show, stop), ""
        except OSError as error:
            raise P8Error(f"it cannot be run: {error.strerror}", f"in {app.directory}") from error

    def _tell_why(self) -> None:
        container = self._app.container
        if self._app.config.container == "always":
            problem = container.problem or f"{self._app.directory} is not what the session's container holds"
            raise ContainerError(f"there is no container to run it in: {problem}", container.hint)
        if container.problem and container.problem != self._told:
            self._told = container.problem
            self._screen.line(f"On this machine, not in a container: {escape(container.problem, lines=False)}", "dim")

    def field(self) -> str:
        """Return what the status line says of it, or ""."""
        if not self.is_wanted or "container" not in self._app.__dict__:
            return ""
        state = str(self._app.container.state)
        return {"running": "⬢ container", "starting": "⬡ container", "paused": "⬡ paused"}.get(state, "")
