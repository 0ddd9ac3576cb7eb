"""`App`: one process of P8, wired. The only place that builds; everything is built when it is first needed.

Who reacts to which event stands here. Refuses: to draw, to parse, to know SQL or git.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from p8.commands.registry import Registry
from p8.config import Config, load_config
from p8.errors import AssistantError, P8Error
from p8.events import Bus, Change
from p8.model import Checkpoint, GitState, Notice, Project
from p8.store.manager import PersistenceManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from p8.assistants.base import Assistant
    from p8.assistants.catalog import Catalog
    from p8.containers.docker import Docker
    from p8.core.actions import Book
    from p8.core.agent_place import AgentPlace
    from p8.core.boxed import Box
    from p8.core.checkpoints import Checkpoints
    from p8.core.cleanup import Cleanup
    from p8.core.context import ContextPlanner
    from p8.core.doctor import Doctor
    from p8.core.files import Files
    from p8.core.handoff import Handoffs
    from p8.core.instances import InstanceManager
    from p8.core.memories import Memories
    from p8.core.meter import Meter
    from p8.core.permissions import Permissions
    from p8.core.portfolio import Portfolio
    from p8.core.project_trash import ProjectTrash
    from p8.core.projects import Projects
    from p8.core.pulse import Pulse
    from p8.core.removal import Removal
    from p8.core.session_container import SessionContainer
    from p8.core.sessions import SessionManager
    from p8.core.suggest import Suggestions
    from p8.core.transfer import Transfer
    from p8.core.trash import Trash
    from p8.core.ui import UiState
    from p8.session import Session
    from p8.upkeep import Upkeep


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
        self._noted: tuple[str, Path, GitState, dict[str, Any]] | None = None
        self._book: Book | None = None
        self._pulse: Pulse | None = None
        #: told how far something long has come: a fraction and what is being done; the door draws it
        self.progress: Callable[[float, str], None] = lambda _fraction, _text: None

    @cached_property
    def bus(self) -> Bus:
        """Where every change is heard."""
        return Bus()

    @cached_property
    def store(self) -> PersistenceManager:
        """Where everything is kept."""
        store = PersistenceManager(self.config.home, self.bus, self._background)
        self.bus.subscribe(self._note_down)
        return store

    def _note_down(self, change: Change) -> None:
        if change.kind == "notice":
            from p8.core.log import note_notice

            note_notice(self.store, change)

    @cached_property
    def upkeep(self) -> Upkeep:
        """What is done beside the conversation."""
        from p8.upkeep import Upkeep

        return Upkeep(self)

    @cached_property
    def sessions(self) -> SessionManager:
        """What is recorded."""
        from p8.core.sessions import SessionManager

        if self.config.trash_expire_days > 0 and self._background:
            from p8.core.trash import once_ready

            self.bus.subscribe(once_ready(lambda: (self.trash.expire(), self.project_trash.expire())))
        made = SessionManager(self.store)
        if self._background:
            from p8.core.pulse import Pulse

            self._pulse = Pulse(made, self._figures, lambda: float(self.view.get("metrics_s")))
        return made

    def _session_id(self) -> str:
        return self.sessions.current.session_id if self.sessions.current is not None else ""

    def _tell_progress(self, fraction: float, text: str) -> None:
        self.progress(fraction, text)

    def _figures(self) -> dict[str, Any]:
        if "planner" not in self.__dict__ or not self.planner.is_current:
            return {}
        from p8.core.gauge import figures_of

        return figures_of(self.planner.usage, self.planner.plan, self.planner.window)

    def say_metrics(self, why: str, **measured: Any) -> None:
        """Say how the current session stands, for whoever follows what happens (see `core/pulse.py`)."""
        if self._pulse is not None:
            self._pulse.say(why, **measured)

    @property
    def session_known(self) -> Session | None:
        """The current session; None also where nothing has asked for one yet, which costs nothing to find out."""
        return self.sessions.current if "sessions" in self.__dict__ else None

    @cached_property
    def projects(self) -> Projects:
        """What sessions belong to."""
        from p8.core.projects import Projects

        return Projects(self.store)

    @cached_property
    def portfolio(self) -> Portfolio:
        """All of them."""
        from p8.core.portfolio import Portfolio

        return Portfolio(self.sessions, self.config.max_projects, self.config.project_cleanup_after_days)

    @cached_property
    def removal(self) -> Removal:
        """Their way into the trash and out of it."""
        from p8.core.removal import Removal

        return Removal(self.portfolio, self.sessions)

    @cached_property
    def cleanup(self) -> Cleanup:
        """What becomes of those that nobody uses."""
        from p8.core.cleanup import Calendar, Cleanup

        config = self.config
        calendar = Calendar(config.project_cleanup_after_days, config.project_cleanup_warning_days)
        return Cleanup(self.portfolio, self.removal, calendar, config.project_cleanup, config.project_cleanup_every_s)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Places to come back to."""
        from p8.core.checkpoints import Checkpoints

        return Checkpoints(
            self.sessions, lambda: self.directory, snapshots=self.files.note, container=self.container_facts
        )

    @cached_property
    def files(self) -> Files:
        """The project's files, kept and brought back."""
        from p8.core.files import Files
        from p8.workspace.scan import Limits

        limits = Limits(file_bytes=self.config.snapshot_file_mb << 20)
        return Files(
            self.sessions, self.config.home, lambda: self.project.id, lambda: self.directory, limits,
            self.config.snapshots, self._tell_progress,
        )  # fmt: skip

    @property
    def actions(self) -> Book:
        """Quick actions, as their files are now."""
        from p8.core.actions import book_at

        self._book = book_at(self.config.home, self.directory, self._book)
        return self._book

    @cached_property
    def suggestions(self) -> Suggestions:
        """What may come next."""
        from p8.core.suggest import Suggestions

        def project() -> str:
            return self._project.id if self._project is not None else ""

        def checkpoint_us() -> int | None:
            current = self.sessions.current
            made = self.checkpoints.list(current.session_id) if current is not None else []
            return made[0].created_us if made else None

        return Suggestions(
            self.sessions, lambda: self.actions, lambda: self.directory, project, self._budget_used, checkpoint_us
        )

    def _budget_used(self) -> float | None:
        """Return which part of what the model takes, or of the plan, is used; None where nothing was counted yet."""
        if "planner" not in self.__dict__ or not self.planner.ready:
            return None
        usage, plan = self.planner.usage, self.planner.plan
        return max(usage.sent / max(self.planner.window, 1), usage.total / plan.total_budget if plan else 0.0)

    @cached_property
    def runtime(self) -> Docker:
        """The container engine; not contacted before it is used."""
        from p8.containers.docker import Docker
        from p8.containers.endpoint import Address
        from p8.store.instances import installation_of

        config = self.config
        self.store.start()
        return Docker(installation_of(config.home), config.home, Path.home(), Address.of(config))

    @cached_property
    def instances(self) -> InstanceManager:
        """Assistants and shells in containers of their own."""
        from p8.config import inherited
        from p8.core.instances import InstanceManager

        made = InstanceManager(self.store, self.runtime, inherited, self.config.container_image)
        made.remotes.ignored = self.config.sync_ignored
        made.remotes.progress = self._tell_progress
        return made

    @cached_property
    def meter(self) -> Meter:
        """What containers use, as long as somebody looks."""
        from p8.core.meter import Meter

        return Meter(self.runtime)

    @cached_property
    def container(self) -> SessionContainer:
        """The container under the current session."""
        from p8.core.session_container import SessionContainer, follower

        def tell(level: str, text: str, data: dict[str, Any]) -> None:
            self.instances.roster.tell(level, text, data)

        made = SessionContainer(self.config, lambda: self.runtime, tell=tell)
        self.bus.subscribe(follower(made))
        return made

    def container_facts(self) -> dict[str, Any]:
        """Return what is known of the container under the current session; nothing where none was asked for."""
        return self.container.facts() if "container" in self.__dict__ else {}

    @cached_property
    def box(self) -> Box:
        """Where `!command` runs."""
        from p8.core.boxed import Box

        return Box(
            self.config, self.sessions, lambda: self.container, lambda: self.directory,
            self._tell_progress,
        )  # fmt: skip

    @cached_property
    def memories(self) -> Memories:
        """What is remembered across sessions."""
        from p8.core.log import note
        from p8.core.memories import Memories

        def project() -> tuple[str, Path | None]:
            hosted = self.project.meta.get("workspace")
            return self.project.id, Path(hosted) if isinstance(hosted, str) else None

        memories = Memories(
            self.config.home, project, self._session_id, self.store.clock, self.config.memory_snapshot_s
        )
        memories.on_change = lambda what, one: note(self.store, f"memory {what}", memory=one.id, scope=one.scope)
        return memories

    @cached_property
    def planner(self) -> ContextPlanner:
        """What the conversation costs."""
        from p8.assistants.tokens import TokenBook, window_of
        from p8.core.context import ContextPlanner

        def window() -> int:
            return window_of(self.model, self._assistant, self.config.context_limit_tokens)

        return ContextPlanner(self.sessions, self.checkpoints, TokenBook(self.config.home), lambda: self.model, window)

    @cached_property
    def view(self) -> UiState:
        """How things are looked at."""
        from p8.core.ui import UiState

        return UiState(self.config.home, lambda: self.__dict__.get("sessions"))

    @property
    def theme(self) -> str:
        """The colours things are drawn in: the session's, else the setting's."""
        chosen = str(self.view.get("theme"))
        return self.config.theme if chosen == "auto" else chosen

    @cached_property
    def handoff(self) -> Handoffs:
        """What the next one goes on from."""
        from p8.core.handoff import Handoffs

        def plan() -> list[str]:
            return self.planner.told if self.planner.plan is not None else []

        def assistant() -> Assistant | None:
            return self.assistant if self.model else None

        return Handoffs(self.sessions, lambda: self.directory, plan, assistant, self.config.idle_timeout_s)

    @cached_property
    def transfer(self) -> Transfer:
        """Conversations of other tools."""
        from p8.core.transfer import Transfer

        return Transfer(self.sessions, self.projects, lambda: self.directory)

    @cached_property
    def trash(self) -> Trash:
        """What was deleted, and can be removed for good."""
        from p8.core.handoff import Notes
        from p8.core.kept import Kept
        from p8.core.trash import Trash

        also = (Kept(self.sessions).purge, Notes(self.config.home).purge)
        return Trash(self.sessions, self.config.trash_expire_days, also)

    @cached_property
    def project_trash(self) -> ProjectTrash:
        """The same of projects."""
        from p8.core.project_trash import ProjectTrash

        return ProjectTrash(self.portfolio, self.removal, self.trash, self.config.trash_expire_days)

    @cached_property
    def doctor(self) -> Doctor:
        """Examines and repairs what is kept."""
        from p8.core.doctor import Doctor
        from p8.core.kept import Kept

        checks = (Kept(self.sessions).examine,)
        return Doctor(self.store, self.sessions.custody, checks, self.trash.finish, self._tell_progress)

    @cached_property
    def catalog(self) -> Catalog:
        """Who can answer."""
        from p8.assistants.catalog import Catalog

        unasked = self.config.permissions == "allow"
        return Catalog(self.config.home, self._assistants, self.config.agents, lambda: self.directory,
                       self._agent_places, unasked)  # fmt: skip

    def _agent_places(self) -> AgentPlace:
        """Say where agents run."""
        from p8.core.agent_place import AgentPlace

        return AgentPlace(
            self.config, lambda: self.container, lambda: self.runtime, self._session_id, lambda: self.directory
        )

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

    def apart(self, directory: Path, model: str = "") -> App:
        """Return a P8 with a session of its own over the same home, standing elsewhere; it is to be closed."""
        config = self.config._replace(model=model) if model else self.config
        return App(config, directory, self._assistants, self._background)

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
            place = reality.place_now(self.directory)
            noted = session.session_id, self.directory, place, self.container_facts()
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

    def note_error(self, error: P8Error) -> None:
        """Record an error that somebody was shown; where there is no home yet, there is nothing to record it in."""
        from p8.core.log import note_error

        current = self.session_known
        if current is not None or self.config.home.is_dir():
            note_error(self.store, error, current.session_id if current is not None else "")

    # turns

    def conversation(self) -> list[dict[str, Any]]:
        """Return what the assistant is sent (see `turning.conversation`)."""
        from p8.turning import conversation

        return conversation(self)

    def after_turn(self) -> list[Checkpoint]:
        """Count what a turn cost; return the checkpoints whose time has come. Raises StoreError (`turning.settle`)."""
        from p8.turning import settle

        return settle(self)

    # models

    @property
    def model(self) -> str:
        """The model in use, or "" where none is configured or ready."""
        if self._model is None:
            self._model = self.config.model or self.catalog.last() or self.catalog.default()
        return self._model

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
        self.store.start()
        self.catalog.note_last(assistant.name)
        if self.sessions.current is not None:
            self.sessions.annotate(model=assistant.name)
        return assistant.name

    def close(self) -> None:
        """Pause the current session, save, let go of everything. Safe to call twice."""
        if "upkeep" in self.__dict__:
            self.upkeep.close()
        if self._assistant is not None:
            self._assistant.close()
        if "memories" in self.__dict__:
            self.memories.close()
        if "sessions" in self.__dict__:
            self.note_place()
        if "box" in self.__dict__:
            self.box.close()
        if "container" in self.__dict__:
            self.container.stop()
        if "meter" in self.__dict__:
            self.meter.close()
        if "runtime" in self.__dict__:
            self.runtime.close()
        if "sessions" in self.__dict__:
            if self._project is not None and self._project.workspace and self.sessions.current is not None:
                with contextlib.suppress(P8Error):
                    self.sessions.pause_session()
                self.portfolio.settle(self._project.id)
            self.sessions.close()
            if "timings" in vars(self.sessions):
                from p8.core import health

                health.note(self.config.home, self.sessions.timings, self.store.clock())
        elif "store" in self.__dict__:
            self.store.close()


def make_app(config: Config | None = None, directory: Path | None = None, background: bool = True) -> App:
    """Return a P8 with the settings of this machine, standing in the current directory."""
    return App(config or load_config(), directory or Path.cwd(), background=background)
