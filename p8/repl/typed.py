"""What Up and Ctrl-R walk at the prompt. The session itself is the record; nothing is written here."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prompt_toolkit.history import History

from p8.errors import P8Error

if TYPE_CHECKING:
    from p8.app import App


DRAWN_S = 2.0  #: a prompt that is not drawn by then is waited for no longer


class TypedLines(History):
    """
    What Up and Ctrl-R walk: the session's lines, before them those of earlier sessions of the project.

    Args:
        app: whose.
        session_id: of the session; empty where there is none yet.
        drawn: set once the first prompt is drawn.
    """

    def __init__(self, app: App, session_id: str, drawn: threading.Event) -> None:
        super().__init__()
        self._app = app
        self._session_id = session_id
        self._drawn = drawn

    def load_history_strings(self) -> Iterable[str]:
        """Return lines, newest first; not before there is a prompt to walk them at."""
        self._drawn.wait(DRAWN_S)
        from p8.commands.talk import typed_in, typed_in_project

        limit = self._app.config.user_shell_history
        try:
            mine = typed_in(self._app, self._session_id, limit) if self._session_id else []
            earlier = typed_in_project(self._app, limit - len(mine), self._session_id) if len(mine) < limit else []
        except P8Error:
            return []
        return [line for _, line, _ in reversed([*earlier, *mine])]

    def store_string(self, string: str) -> None:
        """Nothing to do: the session records it."""
