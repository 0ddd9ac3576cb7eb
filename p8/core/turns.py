"""One turn: the person's message, recorded and durable before anybody is asked; the answer, recorded however it ends.

The assistant runs in a thread of its own, so that a backend that hangs can be left alone: cancelling returns at once
and keeps what came. All recording happens on the caller's thread.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from p8.assistants.base import Asks, Assistant, Cancel, Chunk, ChunkKind, Decision
from p8.core.history import History, fresh
from p8.core.parts import Parts
from p8.core.permissions import Ask, Permissions
from p8.core.sessions import SessionManager
from p8.errors import AssistantError, P8Error, StoreError
from p8.model import Kind, text_of

POLL_S = 0.05
TOOL_PATIENCE = 10  #: a tool at work may be silent so many times as long as a model
OUTPUT_TAIL = 4000  #: characters of a command's output that the assistant sees
CONTEXT_ENTRIES = 400  #: newest messages and executions considered
Messages = list[dict[str, Any]]


def ask(manager: SessionManager, text: str, **extra: Any) -> int:
    """
    Record what the person says and make it survive a power cut, before any assistant is asked.

    Returns:
        the number of its entry.

    Raises:
        InvalidTransition: no session is current.
        StoreError: it is not (yet) safe on disk; it is recorded as far as the disk allows, and the turn may go on.
    """
    seq = manager.record(Kind.MESSAGE, {"role": "user", "content": text, **extra})
    manager.save_session()
    return seq


def run_turn(
    manager: SessionManager,
    assistant: Assistant,
    cancel: Cancel,
    *,
    idle_timeout_s: float,
    context: Callable[[], Messages] | None = None,
    permissions: Permissions | None = None,
    ask: Ask | None = None,
) -> Iterator[Chunk]:
    """
    Stream the answer to the conversation's last message and record it.

    One message is recorded when it ends, whatever ended it: `content`, `model`, `duration_s`, tokens and cost where
    known, `cancelled` or `error` where that was so. Leaving the iterator early counts as cancelling. What an agent does
    on the way is recorded as it comes (`core/parts.py`).

    Args:
        manager: its current session is answered.
        assistant: who answers.
        cancel: set it to stop; what came is kept.
        idle_timeout_s: how long nothing may come.
        context: what is sent; `conversation_for` where none is given.
        permissions: decides what an agent may do; asks each time where none is given.
        ask: asks the person, on this thread; where none is given, what is not settled is refused.

    Raises:
        AssistantError: it failed, hung or refused. What came before is recorded with the error.
        InvalidTransition: no session is current.
    """
    conversation = context() if context is not None else conversation_for(manager)
    rules = permissions or Permissions()
    turn = _Turn(assistant, conversation, cancel, idle_timeout_s, Parts(manager, assistant.name))
    error: P8Error | None = None
    try:
        for chunk in turn:
            if chunk.kind is ChunkKind.PERMISSION:
                _permit(manager, assistant, rules, chunk, ask, cancel)
            turn.take(chunk)
            yield chunk
    except P8Error as failure:
        error = failure
        raise
    finally:
        if not turn.finished and error is None:
            cancel.set()
        with contextlib.suppress(StoreError):  # told by the store as a notice; kept in memory and retried
            manager.record_message(turn.message(error, manager))
            manager.save_session()


def collect(
    manager: SessionManager, assistant: Assistant, conversation: Messages, cancel: Cancel, idle_timeout_s: float
) -> str:
    """
    Return an assistant's whole answer to a conversation that is not recorded; what came where it was cancelled.

    Raises:
        AssistantError: it failed, hung or refused, or is an agent that wants to do something.
    """
    turn = _Turn(assistant, conversation, cancel, idle_timeout_s, Parts(manager, assistant.name))
    said: list[str] = []
    try:
        for chunk in turn:
            if chunk.kind is ChunkKind.PERMISSION:
                raise AssistantError(f"{assistant.name} asked to do something instead of answering")
            said.append(chunk.text if chunk.kind is ChunkKind.TEXT else "")
        return "".join(said)
    finally:
        if not turn.finished:
            cancel.set()


def _permit(
    manager: SessionManager, assistant: Assistant, rules: Permissions, chunk: Chunk, ask: Ask | None, cancel: Cancel
) -> None:
    """Have an agent's question answered, and note the answer in the chunk."""
    session = manager.current.session_id if manager.current is not None else ""
    answer = rules.decide(session, assistant.name, chunk.data, ask)
    chunk.data.update(answer=str(answer.decision), by=answer.by)
    if answer.decision is Decision.CANCEL:
        cancel.set()
    if isinstance(assistant, Asks):
        assistant.permit(str(chunk.data.get("request", "")), answer.decision)


class _Turn:
    """The answer so far, fed by a worker thread."""

    def __init__(
        self, assistant: Assistant, conversation: Messages, cancel: Cancel, idle_timeout_s: float, parts: Parts
    ) -> None:
        self._assistant = assistant
        self._conversation = conversation
        self._cancel = cancel
        self._idle_timeout_s = idle_timeout_s
        self._queue: queue.Queue[Chunk | BaseException | None] = queue.Queue()
        self._text: list[str] = []
        self._thought: list[str] = []
        self._parts = parts
        self._session: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._started = time.monotonic()
        self.finished = False

    def __iter__(self) -> Iterator[Chunk]:
        threading.Thread(target=self._work, name="p8-answer", daemon=True).start()
        quiet_since = time.monotonic()
        while not self._cancel.is_set():
            try:
                item = self._queue.get(timeout=POLL_S)
            except queue.Empty:
                patience_s = self._idle_timeout_s * (TOOL_PATIENCE if self._parts.busy else 1)
                if time.monotonic() - quiet_since > patience_s:
                    self._cancel.set()
                    raise AssistantError(
                        f"{self._assistant.name} sent nothing for {patience_s:.0f} s",
                        "/retry, or /model another one",
                    ) from None
                continue
            if item is None:
                self.finished = not self._cancel.is_set()  # one that stops at once is cancelled all the same
                return
            if isinstance(item, P8Error):
                raise item
            if isinstance(item, BaseException):
                raise AssistantError(
                    f"{self._assistant.name} failed: {type(item).__name__}: {item}", "/retry, or /model another one"
                ) from item
            yield item
            quiet_since = time.monotonic()  # the person may have taken their time over it

    def _work(self) -> None:
        try:
            for chunk in self._assistant.stream(self._conversation, self._cancel):
                self._queue.put(chunk)
                if self._cancel.is_set():
                    break
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def take(self, chunk: Chunk) -> None:
        """Take in a chunk for the record."""
        self._parts.take(chunk)
        if chunk.kind is ChunkKind.TEXT:
            self._text.append(chunk.text)
        elif chunk.kind is ChunkKind.THOUGHT:
            self._thought.append(chunk.text)
        elif chunk.kind is ChunkKind.USAGE:
            self._usage.update(chunk.data)
        elif chunk.kind is ChunkKind.SESSION:
            self._session.update(chunk.data)

    def message(self, error: P8Error | None, manager: SessionManager) -> dict[str, Any]:
        """Record what is left of the parts and return the message to record."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self._text),
            "model": self._assistant.name,
            "duration_s": round(time.monotonic() - self._started, 3),
            **self._usage,
            **self._parts.finish(),
        }
        if self._thought:
            message["thought"] = "".join(self._thought)
        if self._session and manager.current is not None:
            message["agent_session"] = {**self._session, "of": manager.current.session_id}
        if error is not None:
            message["error"] = error.message
        elif not self.finished:
            message["cancelled"] = True
        return message


def conversation_for(manager: SessionManager, limit: int = CONTEXT_ENTRIES) -> Messages:
    """
    Return what an assistant is sent of the current session: its newest messages and what was run between them.

    Answers that failed, or were cancelled before anything came, are left out, so that a retry asks the same again. A
    command that ran becomes a user's message with its line, exit code and the end of its output. An answer of this very
    session by an agent with a session of its own says so; a fork's parent's does not, as that one has gone on.
    """
    mine = manager.current.session_id if manager.current is not None else ""
    found: Messages = []
    for kind, data in recent(manager, limit):
        if kind == "execution":
            found.append({"role": "user", "content": run_text(data)})
        elif _worth_sending(data):
            message: dict[str, Any] = {"role": str(data.get("role", "user")), "content": text_of(data)}
            mark = data.get("agent_session")
            if isinstance(mark, dict) and mark.get("of") == mine:
                message["agent_session"] = mark
            found.append(message)
    return found


def recent(manager: SessionManager, limit: int) -> list[tuple[str, dict[str, Any]]]:
    """
    Return the current session's newest messages and executions as (kind, data), oldest first.

    What this process recorded is in memory; what came before is read from the store, and left out where that cannot be
    had now.
    """
    session = manager.current
    if session is None:
        return []
    history = session.conversation_history
    new: list[tuple[str, dict[str, Any]]] = [("message", message) for message in fresh(history)]
    for place, data in reversed(manager.runs):
        new.insert(place, ("execution", data))
    if len(new) >= limit or not isinstance(history, History):
        return new[-limit:]
    try:
        old = history.entries(kinds=("message", "execution"), limit=limit - len(new))
    except StoreError:
        old = []
    return [*((entry.kind, entry.data) for entry in old), *new]


def run_text(data: dict[str, Any]) -> str:
    """Return what an assistant is told of a command that ran."""
    output = str(data.get("output", ""))
    cut = "…" if len(output) > OUTPUT_TAIL else ""
    ran = f"I ran `{data.get('command', '')}` (exit code {data.get('exit_code')})"
    return f"{ran}:\n```\n{cut}{output[-OUTPUT_TAIL:]}\n```"


def _worth_sending(data: dict[str, Any]) -> bool:
    if data.get("role") != "assistant":
        return data.get("role") in {"user", "system"}
    return "error" not in data and bool(data.get("content"))
