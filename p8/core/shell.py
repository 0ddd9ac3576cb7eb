"""`!command`: runs a line in the session's container where there is one, else on the host, and records it.

On the host the command gets a process group of its own, so that Ctrl-C ends it and all it started, and no terminal to
write to: its output comes in pieces, for the door to show.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.config import Config
from p8.core.output import Kept
from p8.core.sessions import SessionManager
from p8.errors import ContainerError, P8Error

if TYPE_CHECKING:
    from p8.core.session_container import SessionContainer

GRACE_S = 2.0
LAUNCH_S = 10.0  #: how long a command, never the prompt, waits for a container that is being launched


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a command."""

    exit_code: int  #: negative for a signal
    output: str
    duration_s: float
    started_at: datetime
    cut_bytes: int  #: of the output that were not kept
    interrupted: bool
    where: str = ""  #: the container's name, or nothing for the host


class Shell:
    """
    Where the commands of the current session run.

    Args:
        config: the settings `container` and `shell`.
        sessions: whose current session they belong to.
        container: the one under the session.
        directory: where the person stands.
    """

    def __init__(
        self,
        config: Config,
        sessions: SessionManager,
        container: Callable[[], SessionContainer],
        directory: Callable[[], Path],
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._container = container
        self._directory = directory
        self._session = ""
        self._told = ""

    @property
    def is_boxed(self) -> bool:
        """Return whether sessions have containers here."""
        return self._config.container != "never"

    def settle(self) -> None:
        """Launch a container for the current session, if it is another one than before; returns at once."""
        session = self._sessions.current
        name = session.session_id if session is not None else ""
        if not self.is_boxed or name == self._session:
            return
        self._session = name
        if name:
            self._container().start_in_background(name, self._directory())
        else:
            self._container().stop(wait=False)

    def run(self, line: str, show: Callable[[str], None], stop: threading.Event, tell: Callable[[str], None]) -> Run:
        """
        Run a line in the container where there is one, else on the host.

        Args:
            line: what is run.
            show: called with each piece of output.
            stop: when set, the command and all it started are ended.
            tell: told once, in a line, where there is no container though there should be one.

        Raises:
            ContainerError: commands must run in a container, and there is none.
            P8Error: the shell cannot be run.
        """
        directory = self._directory()
        if self.is_boxed:
            container = self._container()
            container.wait(LAUNCH_S)
            if container.covers(directory):
                done = container.execute(line, show, stop, directory=directory)
                return Run(done.exit_code, done.output, done.duration_s, done.started_at, done.cut_bytes,
                           done.interrupted, done.where)  # fmt: skip
            self._say_why(container, directory, tell)
        return on_host(line, self._config, directory, show, stop)

    def _say_why(self, container: SessionContainer, directory: Path, tell: Callable[[str], None]) -> None:
        if self._config.container == "always":
            problem = container.problem or f"{directory} is not what the session's container holds"
            raise ContainerError(f"there is no container to run it in: {problem}", container.hint)
        if container.problem and container.problem != self._told:
            self._told = container.problem
            tell(f"On this machine, not in a container: {container.problem}")


def record(sessions: SessionManager, line: str, ran: Run, directory: Path, **about: Any) -> None:
    """Record what came of a line in the current session, with whatever else is known about it. Raises StoreError."""
    more: dict[str, Any] = {"cut_bytes": ran.cut_bytes} if ran.cut_bytes else {}
    more |= {"where": ran.where} if ran.where else {}
    sessions.record_execution(
        line, exit_code=ran.exit_code, output=ran.output, duration_s=ran.duration_s, started_at=ran.started_at,
        directory=str(directory), **more, **about,
    )  # fmt: skip


def on_host(line: str, config: Config, directory: Path, show: Callable[[str], None], stop: threading.Event) -> Run:
    """Run a line on this machine, in the shell of the settings. Raises P8Error where that cannot be run."""
    try:
        return run(line, config.shell, directory, config.output_limit_bytes, show, stop)
    except OSError as error:
        raise P8Error(f"it cannot be run: {error.strerror}", f"in {directory}") from error


def run(
    command: str, shell: str, directory: Path, limit_bytes: int, show: Callable[[str], None], stop: threading.Event
) -> Run:
    """
    Run a line and wait for it.

    Args:
        command: the line.
        shell: what runs it, with `-c`.
        directory: where.
        limit_bytes: of the output so much is kept: the first half and the last half.
        show: called with each piece of output.
        stop: when set, the command and all it started are ended.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    process = subprocess.Popen(
        [shell, "-c", command], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    kept = Kept(limit_bytes)
    try:
        _pump(process, kept, show, stop)
    except BaseException:  # whoever was shown it has gone
        _end(process)
        raise
    if stop.is_set():
        _end(process)
    code = process.wait()
    return Run(code, kept.text(), round(time.monotonic() - begun, 3), started, kept.cut, stop.is_set())


def _pump(process: subprocess.Popen[bytes], kept: Kept, show: Callable[[str], None], stop: threading.Event) -> None:
    import codecs

    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with process.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not stop.is_set():
            ready = selector.select(0.1)
            if ready:
                block = os.read(pipe.fileno(), 65536)
                if not block:
                    return
                kept.add(block)
                show(decoder.decode(block))
            elif process.poll() is not None and not selector.select(0.2):
                return  # it is over, though something it left behind still holds the pipe


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign, patience in ((signal.SIGINT, 0.5), (signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
