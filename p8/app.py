"""`App`: one process of P8, wired. The only place that builds; everything is built when it is first needed.

Who reacts to which event stands here. Refuses: to draw, to parse, to know SQL or git.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from p8.commands.registry import Registry
from p8.config import Config, load_config
from p8.errors import AssistantError, P8Error
from p8.events import Bus
from p8.model import GitState, Notice, Project, Session
from p8.store.manager import PersistenceManager

if TYPE_CHECKING:
    from p8.assistants.base import Assistant
    from p8.assistants.catalog import Catalog
    from p8.containers.docker import Docker
    from p8.core.checkpoints import Checkpoints
    from p8.core.files import Files
    from p8.core.instances import InstanceManager
    from p8.core.permissions import Permissions
    from p8.core.projects import Projects
    from p8.core.session_container import SessionContainer
    from p8.core.sessions import SessionManager
    from p8.core.transfer import Transfer


class App:
    """
    One P8.

    Args:
        config: the settings.
        directory: where the person stands; its project is the scope of lists and of `--continue`.
        assistants: further assistants by name.
        background: fold in a thread of its own; short commands do without.
    """

    def __init__(
        self,
        config: Config,
        directory: Path,
        assistants: dict[str, Callable[[], Assistant]] | None = None,
        background: bool = True,
    ) -> None:
        self.config = config
        self.directory = directory
        self._assistants = assistants
        self._background = background
        self._model: str | None = None
        self._assistant: Assistant | None = None
        self._lock = threading.Lock()
        self._project: Project | None = None
        self._noted: tuple[str, Path, GitState] | None = None
        #: told how far something long has come: a fraction and what is being done; the door draws it
        self.progress: Callable[[float, str], None] = lambda _fraction, _text: None

    @cached_property
    def bus(self) -> Bus:
        """Where every change is heard."""
        return Bus()

    @cached_property
    def store(self) -> PersistenceManager:
        """Where everything is kept."""
        return PersistenceManager(self.config.home, self.bus, self._background)

    @cached_property
    def sessions(self) -> SessionManager:
        """What is recorded."""
        from p8.core.sessions import SessionManager

        return SessionManager(self.store)

    @cached_property
    def projects(self) -> Projects:
        """What sessions belong to."""
        from p8.core.projects import Projects

        return Projects(self.store)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Places to come back to."""
        from p8.core.checkpoints import Checkpoints

        return Checkpoints(self.sessions, lambda: self.directory, snapshots=self.files.note)

    @cached_property
    def files(self) -> Files:
        """The project's files, kept and brought back."""
        from p8.core.files import Files
        from p8.workspace.scan import Limits

        limits = Limits(file_bytes=self.config.snapshot_file_mb << 20)
        return Files(
            self.sessions, self.config.home, lambda: self.project.id, lambda: self.directory, limits,
            self.config.snapshots, lambda fraction, text: self.progress(fraction, text),  # noqa: PLW0108 set by a door
        )  # fmt: skip

    @cached_property
    def runtime(self) -> Docker:
        """The container engine; not contacted before it is used."""
        from p8.containers.docker import Address, Docker
        from p8.store.instances import installation_of

        config = self.config
        self.store.start()
        address = Address(config.engine, config.engine_context, config.engine_certificates)
        return Docker(installation_of(config.home), config.home, Path.home(), address)

    @cached_property
    def instances(self) -> InstanceManager:
        """Assistants and shells in containers of their own."""
        from p8.config import inherited
        from p8.core.instances import InstanceManager

        return InstanceManager(self.store, self.runtime, inherited, self.config.container_image)

    @cached_property
    def container(self) -> SessionContainer:
        """The container under the current session."""
        from p8.core.session_container import SessionContainer

        return SessionContainer(self.config, lambda: self.runtime)

    @cached_property
    def transfer(self) -> Transfer:
        """Conversations of other tools."""
        from p8.core.transfer import Transfer

        return Transfer(self.sessions, self.projects, lambda: self.directory)

    @cached_property
    def catalog(self) -> Catalog:
        """Who can answer."""
        from p8.assistants.catalog import Catalog

        return Catalog(self.config.home, self._assistants, self.config.agents, lambda: self.directory)

    @cached_property
    def permissions(self) -> Permissions:
        """What agents may do unasked."""
        from p8.core.permissions import Permissions

        return Permissions(self.config.permissions)

    @cached_property
    def registry(self) -> Registry:
        """What a person can tell P8 to do."""
        return Registry(
            self.config.plugins, lambda text: self.store.notice("plugins", Notice("warning", "plugins", text))
        )

    @property
    def project(self) -> Project:
        """The project of the directory."""
        with self._lock:
            if self._project is None:
                self._project = self.projects.of_directory(self.directory)
            return self._project

    @property
    def project_known(self) -> Project | None:
        """The project of the directory, where it has been worked out already."""
        return self._project

    def beside(self, directory: Path) -> App:
        """Return a P8 that stands elsewhere over the same store and sessions; it is not to be closed."""
        other = App(self.config, directory, self._assistants, self._background)
        other.__dict__ |= {"bus": self.bus, "store": self.store, "sessions": self.sessions, "registry": self.registry}
        return other

    def move(self, directory: Path) -> None:
        """Stand in another directory from now on."""
        self.directory = directory
        with self._lock:
            self._project = None

    # sessions

    def ensure_session(self) -> Session:
        """
        Return the current session; a new one where there is none. Nothing is recorded before something is said.

        Raises:
            NotSaved: the disk refuses; the session exists in memory.
        """
        if self.sessions.current is not None:
            return self.sessions.current
        from p8.workspace import git

        branch, commit = git.head(self.directory)
        project = self._project
        about = {"project": project.id} if project is not None else {}
        return self.sessions.start_session(
            project.name if project is not None else self.directory.name or "/",
            directory=git.shown(str(self.directory)), branch=branch, commit=commit, model=self._model or "", **about,
        )  # fmt: skip

    def note_place(self) -> None:
        """Record where the work of the current session stands, so that resuming it can tell what has changed."""
        session = self.sessions.current
        if session is None:
            return
        from p8.core import reality

        with contextlib.suppress(P8Error):
            noted = session.session_id, self.directory, reality.place_now(self.directory)
            if noted != self._noted:
                self._noted = noted
                reality.note_place(self.sessions, *noted[1:])

    def settle_project(self) -> None:
        """Work out the project and say so of the current session, if it does not know it yet."""
        project = self.project
        session = self.sessions.current
        if session is not None and not session.metadata.get("project"):
            with contextlib.suppress(P8Error):
                self.sessions.annotate(project=project.id, project_name=project.name)

    # models

    @property
    def model(self) -> str:
        """The model in use, or "" where none is configured or ready."""
        if self._model is None:
            self._model = self.config.model or self._remembered() or self.catalog.default()
        return self._model

    def _remembered(self) -> str:
        """Return the model used last: a small file, as the first prompt must not wait for the database."""
        try:
            name = (self.config.home / "states" / "model").read_text("utf-8").strip()[:200]
        except (OSError, UnicodeDecodeError):
            return ""
        return "" if name == "local" and not self.catalog.installed_local() else name

    @property
    def assistant(self) -> Assistant:
        """
        Whoever answers.

        Raises:
            AssistantError: no model is configured.
            NotFound: the one configured does not exist.
        """
        if self._assistant is None:
            if not self.model:
                raise AssistantError(
                    "no model to answer with", "/model install local fetches the offline one, /model lists all"
                )
            self._assistant = self.catalog.open(self.model)
        return self._assistant

    def switch_model(self, name: str) -> str:
        """
        Answer with another model from now on; the conversation stays.

        Returns:
            its full name.

        Raises:
            NotFound: there is none of that name.
        """
        assistant = self.catalog.open(name)
        if self._assistant is not None:
            self._assistant.close()
        self._assistant, self._model = assistant, assistant.name
        with contextlib.suppress(OSError):
            self.store.start()
            (self.config.home / "states" / "model").write_text(assistant.name, "utf-8")
        if self.sessions.current is not None:
            self.sessions.annotate(model=assistant.name)
        return assistant.name

    def close(self) -> None:
        """Pause the current session, save, let go of everything. Safe to call twice."""
        if self._assistant is not None:
            self._assistant.close()
        if "container" in self.__dict__:
            self.container.stop()
        if "runtime" in self.__dict__:
            self.runtime.close()
        if "sessions" in self.__dict__:
            self.note_place()
            self.sessions.close()
        elif "store" in self.__dict__:
            self.store.close()


def make_app(config: Config | None = None, directory: Path | None = None, background: bool = True) -> App:
    """Return a P8 with the settings of this machine, standing in the current directory."""
    return App(config or load_config(), directory or Path.cwd(), background=background)
