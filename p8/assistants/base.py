"""What P8 expects of whatever answers: the `Assistant` protocol and the pieces it speaks in.

An assistant is given the conversation and yields chunks until it is done or cancelled. It knows nothing of sessions,
journals or screens; `core/turns.py` records, the doors draw.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class ChunkKind(StrEnum):
    """What a chunk carries."""

    TEXT = "text"  # part of the answer
    THOUGHT = "thought"  # part of the reasoning, where the model shows it
    TOOL = "tool"  # a tool call or its update; `data` has id, title, kind, status, content, locations, input, output
    PLAN = "plan"  # what it means to do, whole each time; `data`: id, entries of content, priority, status
    PERMISSION = "permission"  # a question: may it? `data`: request, id (of the tool call), title, kind, scope, choices
    SESSION = "session"  # the backend's own session, to go on with later; `data` comes back as `agent_session`
    USAGE = "usage"  # `data`: tokens_in, tokens_out, cost (USD), where known
    NOTICE = "notice"  # a line for the person, not part of the answer


class Decision(StrEnum):
    """The answers to an agent's question for permission."""

    ONCE = "once"  # this one
    ALWAYS = "always"  # this one, and all of its scope for the rest of the session
    NO = "no"  # not this one
    NEVER = "never"  # not this one, nor any of its scope for the rest of the session
    CANCEL = "cancel"  # stop the whole turn


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a streamed answer."""

    kind: ChunkKind
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model one can switch to."""

    name: str  #: what `/model NAME` takes, e.g. "local" or "gpt-4o-mini"
    provider: str  #: "local", "llm", "acp"
    title: str  #: for people
    ready: bool  #: can answer now: installed, and its key is set where it needs one
    note: str = ""  #: what is missing, or a warning, e.g. that it is a demonstration model


class Cancel(threading.Event):
    """Set by the person's Ctrl-C. An assistant looks at it between chunks and stops soon after."""


@runtime_checkable
class Assistant(Protocol):
    """Something that answers. One object serves one conversation at a time."""

    name: str

    def stream(self, conversation: Sequence[dict[str, Any]], cancel: Cancel) -> Iterator[Chunk]:
        """
        Answer the last message of `conversation`.

        Args:
            conversation: messages, oldest first, each with `role` (user, assistant, system, tool) and `content`
                (text); further keys may be there and are ignored. An answer that this session was given by a backend
                with a session of its own has `agent_session`, as the SESSION chunk had it. Not modified.
            cancel: stop soon after it is set; what was yielded before stays.

        Raises:
            AssistantError: the backend failed, refused or rate-limited; the hint says what to do.
        """
        ...

    def close(self) -> None:
        """Give back memory, processes and connections. Safe to call twice."""
        ...


@runtime_checkable
class Asks(Protocol):
    """An assistant that asks for permission: it yields PERMISSION chunks and waits for the answers."""

    def permit(self, request: str, decision: Decision) -> None:
        """Answer the question `request`, from any thread. One that is not open any more is left alone."""
        ...
