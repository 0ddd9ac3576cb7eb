"""The line under the prompt: title, project, branch, model, tokens, and how safe what was typed is.

Made of what is in memory and one small file; no query and no process, as it is drawn at every keystroke.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from p8.repl.screen import clip, escape, width_of
from p8.workspace import git

if TYPE_CHECKING:
    from p8.app import App

GAP = "  "
LEAST = {"full": 0, "compact": 35, "off": 100}  #: how important a field must be to be shown
CONTAINERS = {"running": "⬢ container", "starting": "⬡ container", "paused": "⬡ paused"}
Part = tuple[str, str]


class StatusLine:
    """
    Draws the line.

    Args:
        app: what it speaks of.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._branch = ""
        self._branch_at = 0.0
        self.tokens = 0

    def parts(self, width: int) -> list[Part]:
        """Return (style class, text) pieces that fit `width` columns; what matters least goes first."""
        layout = self._app.view.get("status")
        rest = [field for field in self._fields() if field[0] >= LEAST[layout]]
        if layout == "off" and not rest:
            return []
        title = self._title()
        while rest and width_of(title) // 2 + sum(width_of(text) + len(GAP) for _, _, text in rest) > width:
            rest.remove(min(rest))
        left = width - sum(width_of(text) + len(GAP) for _, _, text in rest) - 1
        shown: list[Part] = [("class:status.title", clip(title, max(left, 4)))]
        for _, style, text in rest:
            shown += [("class:status", GAP), (style, text)]
        return shown

    @property
    def is_hidden(self) -> bool:
        """Return whether there is nothing to draw at all."""
        return self._app.view.get("status") == "off" and not self.parts(80)

    def _title(self) -> str:
        session = self._app.sessions.current
        if session is None:
            return "new session"
        return escape(str(session.metadata.get("title") or "untitled"), lines=False)

    def _fields(self) -> list[tuple[int, str, str]]:
        """Return (importance, style, text)."""
        app = self._app
        project = app.project_known
        state = app.store.durability()
        fields = [(30, "class:status", project.name if project is not None else app.directory.name)]
        if self._current_branch():
            fields.append((20, "class:status", f"⎇ {self._branch}"))
        fields.append((40, "class:status", app.model or "no model"))
        if self.tokens:
            fields.append((10, "class:status", f"{_count(self.tokens)} tokens"))
        filled = self._filled()
        if filled >= 0.01 and app.view.get("gauge"):
            style = "class:status.bad" if filled >= 0.9 else "class:status.warning" if filled >= 0.7 else "class:status"
            fields.append((15 if filled < 0.7 else 60, style, f"{filled:.0%} full"))
        if "container" in app.__dict__ and str(app.container.state) in CONTAINERS:
            bringing = app.container.bringing
            sync = f"sync {bringing[0]:.0%}" if bringing is not None else app.container.sync
            fields.append((25, "class:status", f"{CONTAINERS[str(app.container.state)]} {sync}".rstrip()))
        if state.unwritten:
            fields.append((100, "class:status.bad", f"NOT SAVED: {state.unwritten} only in memory"))
        elif state.problem and state.unfolded:
            fields.append((100, "class:status.warning", "saved in the journal; database busy"))
        elif app.sessions.current is not None:
            fields.append((90, "class:status.good", "saved" if not state.unsynced_bytes else "saved, not synced"))
        return [(rank, style, escape(text, lines=False)) for rank, style, text in fields]

    def _filled(self) -> float:
        """Return the part of what the model takes that the last request filled; in memory since that turn."""
        planner = self._app.__dict__.get("planner")
        return planner.usage.sent / max(planner.window, 1) if planner is not None and planner.is_current else 0.0

    def _current_branch(self) -> str:
        now = time.monotonic()
        if now - self._branch_at > self._app.view.get("status_s"):
            self._branch_at = now
            branch, commit = git.head(self._app.directory)
            self._branch = branch or commit[:8]
        return self._branch


def _count(number: int) -> str:
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"
