"""Where agents run: in the container under the session, or on the host. Launches the container where one is wanted.

An agent that runs in the container keeps its own session in the mounted state folder, so that it is gone on with in the
next container. Refuses: to let an agent out where the setting says container.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from p8.assistants.agents import Place
from p8.config import Config
from p8.containers import within
from p8.containers.docker import Docker
from p8.core.session_container import ContainerState, SessionContainer
from p8.errors import AssistantError, ConfigError, ContainerError, P8Error

PLACES = ("auto", "container", "host")
LAUNCH_S = 30.0  #: for a container that is being launched, when its agent is to answer
OFFLINE = 'without a network; to reach its provider it needs container_network = "bridge" in config.toml'
LIST = 'IFS=:; for folder in $PATH; do ls "$folder" 2>/dev/null; done'


class AgentPlace:
    """
    Says where an agent runs.

    Args:
        config: the settings `agents_in`, `container` and `container_network`.
        container: the one under the session.
        runtime: the engine.
        session: the id of the current session, or nothing.
        directory: where the person stands.
    """

    def __init__(
        self,
        config: Config,
        container: Callable[[], SessionContainer],
        runtime: Callable[[], Docker],
        session: Callable[[], str],
        directory: Callable[[], Path],
    ) -> None:
        self._config = config
        self._container = container
        self._runtime = runtime
        self._session = session
        self._directory = directory
        self._lock = threading.Lock()
        self._programs: tuple[str, frozenset[str]] = "", frozenset()

    def now(self, program: str) -> Place | None:
        """Return where an agent of that program would run as things stand; None for the host. Waits for nothing."""
        if self._config.agents_in == "host" or self._config.container == "never":
            return None
        container, directory = self._container(), self._directory()
        if not container.covers(directory) or program not in self._inside(container):
            return None
        facts = container.facts()
        cwd = str(directory.resolve())
        prefix = within.command_for(self._runtime(), self._config.home, str(facts["id"]), cwd)
        network = OFFLINE if self._config.container_network == "none" else "with a network"
        return Place(prefix, cwd, f"container {facts['name']}, {network}")

    def settled(self, program: str) -> Place | None:
        """
        Return where an agent of that program is to be run now; a container that is wanted is launched first.

        Raises:
            AssistantError: it may run in a container only, and there is none, or none with that program.
            ConfigError: the setting is none of auto, container, host.
        """
        wanted = self._config.agents_in
        if wanted not in PLACES:
            raise ConfigError(f"agents_in is {wanted!r}", f"it must be {', '.join(PLACES[:-1])} or {PLACES[-1]}")
        if wanted == "host" or (wanted == "auto" and self._config.container == "never"):
            return None
        container = self._container()
        if self._config.container != "never":
            with self._lock:
                self._launch(container)
        place = self.now(program)
        if place is None and wanted == "container":
            raise self._nowhere(container, program)
        return place

    def prepare(self, program: str) -> None:
        """Make ready in the background where an agent of that program will be run; what is wrong is told later."""

        def work() -> None:
            with contextlib.suppress(P8Error):
                self.settled(program)

        threading.Thread(target=work, name="p8-agent-place", daemon=True).start()

    def _launch(self, container: SessionContainer) -> None:
        session = self._session()
        missing = {ContainerState.OFF, ContainerState.PAUSED, ContainerState.GONE}
        if self._config.agents_in == "container":
            missing.add(ContainerState.FAILED)
        if session and (container.session != session or container.state in missing):
            container.start_in_background(session, self._directory())
        if container.state is ContainerState.STARTING and container.wait(LAUNCH_S) is ContainerState.STARTING:
            raise AssistantError(f"the container is not there after {LAUNCH_S:.0f} s", "/retry waits again")

    def _inside(self, container: SessionContainer) -> frozenset[str]:
        """Return the names of all programs in the container; asked once of each."""
        which = str(container.facts().get("id", ""))
        if which and self._programs[0] != which:
            try:
                listed = container.execute(LIST, lambda _text: None).output
            except ContainerError:
                return frozenset()
            self._programs = which, frozenset(listed.split("\n"))
        return self._programs[1] if which else frozenset()

    def _nowhere(self, container: SessionContainer, program: str) -> AssistantError:
        if container.state is ContainerState.RUNNING and container.covers(self._directory()):
            return AssistantError(
                f"the container has no program {program}", "p8 image build --variant agents has the agents"
            )
        if container.state is ContainerState.RUNNING:
            return AssistantError(f"{self._directory()} is not in the container", "cd back to the session's project")
        why = container.problem or f"it is {'never wanted' if self._config.container == 'never' else container.state}"
        return AssistantError(
            f"agents run in a container only, and there is none: {why}", container.hint or 'agents_in = "host"'
        )
