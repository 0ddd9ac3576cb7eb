"""Which models there are, and how one is opened. Knows the kinds of assistants; nothing above it does."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.assistants import local
from p8.assistants.base import Assistant, ModelInfo
from p8.errors import NotFound

if TYPE_CHECKING:
    from p8.assistants.agents import Agents, Places

LAST = "states/model"  #: below the home


class Catalog:
    """
    The models of one P8.

    Args:
        home: P8's home, where the local model is.
        extra: further assistants by name; tests and plugins bring theirs so.
        agents: the settings of agents.
        directory: says where the person stands, and agents work.
        places: says where agents run; on the host where none is given.
        unasked: whether agents may do what they want.
    """

    def __init__(
        self,
        home: Path,
        extra: dict[str, Callable[[], Assistant]] | None = None,
        agents: Mapping[str, Any] | None = None,
        directory: Callable[[], Path] = Path.cwd,
        places: Callable[[], Places] | None = None,
        unasked: bool = False,
    ) -> None:
        self._home = home
        self._extra = dict(extra or {})
        self._settings = agents or {}
        self._directory = directory
        self._places = places
        self._unasked = unasked

    @cached_property
    def agents(self) -> Agents:
        """The agents."""
        from p8.assistants.agents import Agents

        places = self._places() if self._places is not None else None
        return Agents(self._settings, self._directory, places, self._unasked)

    def models(self) -> list[ModelInfo]:
        """Return every model, those that are ready first. Imports the llm library where it is installed."""
        from p8.assistants import llm

        found = [ModelInfo(name, "extra", name, True) for name in self._extra]
        found += [local.info(self._home), *self.agents.infos(), *llm.models()]
        return sorted(found, key=lambda model: not model.ready)

    def open(self, name: str) -> Assistant:
        """
        Return the assistant of that name.

        Raises:
            NotFound: there is none; the hint names the nearest ones.
        """
        if name in self._extra:
            return self._extra[name]()
        if name == local.NAME:
            return local.LocalModel(self._home)
        if name in self.agents.names():
            return self.agents.open(name)
        from p8.assistants.llm import LlmModel

        try:
            return LlmModel(name)
        except NotFound as error:
            near = difflib.get_close_matches(name, [model.name for model in self.models()], 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else error.hint
            raise NotFound(error.message, hint) from error

    def last(self) -> str:
        """Return the model used last: a small file, as the first prompt must not wait for the database."""
        try:
            name = (self._home / LAST).read_text("utf-8").strip()[:200]
        except (OSError, UnicodeDecodeError):
            return ""
        return "" if name == local.NAME and not self.installed_local() else name

    def note_last(self, name: str) -> None:
        """Remember the model used last. A disk that refuses costs no more than that."""
        with contextlib.suppress(OSError):
            (self._home / LAST).write_text(name, "utf-8")

    def default(self) -> str:
        """Return a model that can answer now without being asked for: the local one, or nothing."""
        return local.NAME if local.is_installed(self._home) else next(iter(self._extra), "")

    def installed_local(self) -> bool:
        """Return whether the offline model is there."""
        return local.is_installed(self._home)

    def install_local(self, progress: local.Progress) -> None:
        """Fetch the offline model. Raises AssistantError; nothing is left behind then."""
        local.install(self._home, progress)
