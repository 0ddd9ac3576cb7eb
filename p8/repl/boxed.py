"""The container under the session, as the REPL uses it: launched beside the prompt, asked for each `!command`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from p8.errors import ContainerError, P8Error
from p8.repl import shell
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
        self._noted: object = None

    @property
    def is_wanted(self) -> bool:
        """Return whether sessions have containers here."""
        return self._app.config.container != "never"

    def settle(self) -> None:
        """Launch a container for the current session, if it is another one than before; returns at once."""
        session = self._app.sessions.current
        name = session.session_id if session is not None else ""
        if not self.is_wanted:
            return
        if name and name != self._session:
            self._app.container.start_in_background(name, self._app.directory)
        elif name:
            self._note()
        self._session = name  # one that was put down has taken its container along

    def _note(self) -> None:
        """Record what commands run in, once it is known, for whoever resumes the session."""
        from p8.core.reality import note_container

        facts = self._app.container.facts()
        known = self._session, facts.get("id"), facts.get("problem")
        if facts and known != self._noted:
            self._noted = known
            with contextlib.suppress(P8Error):
                note_container(self._app.sessions, facts)

    def sweep(self) -> None:
        """Remove containers that a process which died has left. Takes its time; never raises."""
        from p8.core import leftovers

        if leftovers.is_any(self._app.config.home):
            with contextlib.suppress(P8Error):
                leftovers.sweep(self._app.runtime, self._app.config.home)

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
            self._wait(stop)
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

    def _wait(self, stop: threading.Event) -> None:
        """Wait for a container that is being launched; while the project is brought to it, as long as that takes."""
        container, shown, until = self._app.container, False, time.monotonic() + LAUNCH_S
        while container.wait(0.1) == "starting" and time.monotonic() < until:
            if container.bringing is None:
                continue
            if stop.is_set():
                raise ContainerError("the project is still on its way to the container", "the next command waits again")
            until, shown = time.monotonic() + LAUNCH_S, True
            self._app.progress(min(container.bringing[0], 0.99), container.bringing[1])
        if shown:
            self._app.progress(1.0, "")

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
        container = self._app.container
        said = {"running": "⬢ container", "starting": "⬡ container", "paused": "⬡ paused"}.get(str(container.state), "")
        sync = f"sync {container.bringing[0]:.0%}" if container.bringing is not None else container.sync
        return f"{said} {sync}" if said and sync else said
