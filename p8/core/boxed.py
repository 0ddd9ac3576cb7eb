"""The container under the session, as doors use it: launched beside the prompt, asked for each `!command`.

A line runs in it where it is there, else on the host. Refuses: to draw; what is printed comes in pieces, for the door.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.config import Config
from p8.core import shell
from p8.core.sessions import SessionManager
from p8.errors import ContainerError, P8Error

if TYPE_CHECKING:
    from p8.core.session_container import SessionContainer

LAUNCH_S = 10.0  #: how long a command, never the prompt, waits for a container that is being launched


def run_here(
    config: Config, directory: Path, line: str, show: Callable[[str], None], stop: threading.Event
) -> shell.Run:
    """Run a line on the host, as `Box.run` does. Raises P8Error: the shell cannot be run."""
    try:
        return shell.run(line, config.shell, directory, config.output_limit_bytes, show, stop)
    except OSError as error:
        raise P8Error(f"it cannot be run: {error.strerror}", f"in {directory}") from error


def record_run(sessions: SessionManager, directory: Path, line: str, ran: shell.Run, **about: Any) -> None:
    """Record in the current session what came of a line, with whatever else is known about it. Raises StoreError."""
    cut: dict[str, Any] = {"cut_bytes": ran.cut_bytes} if ran.cut_bytes else {}
    sessions.record_execution(
        line, exit_code=ran.exit_code, output=ran.output, duration_s=ran.duration_s, started_at=ran.started_at,
        directory=str(directory), **cut, **about,
    )  # fmt: skip


class Box:
    """
    Where commands run.

    Args:
        config: the settings `container` and `shell`.
        sessions: whose current session they belong to.
        container: the one under the session.
        directory: where the person stands.
        progress: told how far the project has been brought to a container elsewhere.
    """

    def __init__(
        self,
        config: Config,
        sessions: SessionManager,
        container: Callable[[], SessionContainer],
        directory: Callable[[], Path],
        progress: Callable[[float, str], None],
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._container = container
        self._directory = directory
        self._progress = progress
        self._session = ""
        self._told = ""
        self._noted: object = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def is_wanted(self) -> bool:
        """Return whether sessions have containers here."""
        return self._config.container != "never"

    def settle(self) -> None:
        """Launch a container for the current session, if it is another one than before; returns at once."""
        if not self.is_wanted:
            return
        with self._lock:
            if self._closed:
                return
            session = self._sessions.current
            name = session.session_id if session is not None else ""
            if name and name != self._session:
                self._container().start_in_background(name, self._directory())
            elif name:
                self._note()
            self._session = name  # one that was put down has taken its container along

    def close(self) -> None:
        """Launch nothing from now on."""
        with self._lock:
            self._closed = True

    def _note(self) -> None:
        """Record what commands run in, once it is known, for whoever resumes the session."""
        from p8.core.reality import note_container

        facts = self._container().facts()
        known = self._session, facts.get("id"), facts.get("problem")
        if facts and known != self._noted:
            self._noted = known
            with contextlib.suppress(P8Error):
                note_container(self._sessions, facts)

    def run(
        self, line: str, show: Callable[[str], None], stop: threading.Event, tell: Callable[[str], None]
    ) -> tuple[shell.Run, str]:
        """
        Run a line in the container where there is one, else on the host.

        Args:
            line: what is run.
            show: called with each piece of output.
            stop: when set, the command and all it started are ended.
            tell: told once, in a line, where there is no container though there should be one.

        Returns:
            what came of it, and the container's name or "".

        Raises:
            ContainerError: commands must run in a container, and there is none.
            P8Error: the shell cannot be run.
        """
        directory, config = self._directory(), self._config
        if self.is_wanted:
            container = self._container()
            self._wait(container, stop)
            if container.covers(directory):
                done = container.execute(line, show, stop, directory=directory)
                ran = shell.Run(
                    done.exit_code, done.output, done.duration_s, done.started_at, done.cut_bytes, done.interrupted
                )
                return ran, done.where
            self._tell_why(container, directory, tell)
        return run_here(config, directory, line, show, stop), ""

    def _wait(self, container: SessionContainer, stop: threading.Event) -> None:
        """Wait for a container that is being launched; while the project is brought to it, as long as that takes."""
        shown, until = False, time.monotonic() + LAUNCH_S
        while container.wait(0.1) == "starting" and time.monotonic() < until:
            if container.bringing is None:
                continue
            if stop.is_set():
                raise ContainerError("the project is still on its way to the container", "the next command waits again")
            until, shown = time.monotonic() + LAUNCH_S, True
            self._progress(min(container.bringing[0], 0.99), container.bringing[1])
        if shown:
            self._progress(1.0, "")

    def record(self, line: str, ran: shell.Run, where: str, **about: Any) -> None:
        """Record what came of a line, with whatever else is known about it. Raises StoreError."""
        more = {"where": where} if where else {}
        record_run(self._sessions, self._directory(), line, ran, **more, **about)

    def _tell_why(self, container: SessionContainer, directory: Path, tell: Callable[[str], None]) -> None:
        if self._config.container == "always":
            problem = container.problem or f"{directory} is not what the session's container holds"
            raise ContainerError(f"there is no container to run it in: {problem}", container.hint)
        if container.problem and container.problem != self._told:
            self._told = container.problem
            tell(f"On this machine, not in a container: {container.problem}")
