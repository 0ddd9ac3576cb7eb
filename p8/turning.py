"""What stands around a turn: what the assistant is sent, and what follows from its answer."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from p8.core.turns import conversation_for
from p8.core.window import compose
from p8.errors import P8Error
from p8.model import Checkpoint

if TYPE_CHECKING:
    from p8.app import App


def conversation(app: App) -> list[dict[str, Any]]:
    """
    Return what the assistant is sent: the conversation with what is remembered, as far as it fits the model.

    Before anything is left out for the first time, and when much more is, a handoff is written and goes along.
    """
    session, planner = app.sessions.current, app.planner
    spoken = conversation_for(app.sessions)
    query = next((str(m["content"]) for m in reversed(spoken) if m["role"] == "user"), "")

    def remembered(budget: int) -> str:
        try:
            return app.memories.context(budget, planner.count_soon, query)
        except P8Error:
            return ""

    def note() -> str:
        with contextlib.suppress(P8Error):
            return planner.note(lambda: app.handoff.write("compaction").text)
        return ""

    where = f"`p8 session show {session.session_id}` shows them" if session is not None else ""
    sent = compose(spoken, planner.window, planner.count, memories=remembered, note=note,
                   first=planner.first_message, where=where)  # fmt: skip
    with contextlib.suppress(P8Error):  # counting must not cost an answer
        planner.sending(sent.messages, sent.memories)
    return sent.messages


def settle(app: App) -> list[Checkpoint]:
    """
    Count what a turn cost, and make the checkpoints whose time has come; an emergency writes a handoff too.

    A vocabulary that is not loaded yet is loaded meanwhile, and nobody waits for it; the next turn counts this one too.

    Raises:
        StoreError: the disk or the database refuses; the next turn tries again.
    """
    planner = app.planner
    if not planner.ready:
        threading.Thread(target=lambda: planner.tokens, daemon=True).start()
        app.say_metrics("turn")
        return []
    made = planner.after_turn()
    if any(checkpoint.data.get("trigger") == "emergency" for checkpoint in made):
        app.handoff.write("emergency")
    app.say_metrics("turn")
    return made
