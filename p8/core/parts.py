"""The parts of an answer as journal entries of their own, written as they come: an agent may work for an hour.

A part has an `id`, and a later entry of the same `turn` and `id` says more of it: a tool call is written when it begins
and when it ends, a text or a thought when something else follows. An answer that is nothing but text has no parts; its
message says it all.
"""

from __future__ import annotations

import contextlib
from typing import Any

from p8.assistants.base import Chunk, ChunkKind
from p8.core.sessions import SessionManager
from p8.errors import P8Error
from p8.model import Kind

ENDED = {"completed", "failed"}
QUESTION = ("id", "title", "kind", "scope", "choices", "answer", "by")
BRIEF = ("id", "title", "kind", "status")


class Parts:
    """
    Records the parts of one answer in the current session.

    Args:
        manager: the sessions.
        agent: who answers.

    Attributes:
        turn: what the parts of this answer have in common.
    """

    def __init__(self, manager: SessionManager, agent: str) -> None:
        self._manager = manager
        self._agent = agent
        self._text: list[str] = []
        self._kind = ChunkKind.TEXT
        self._tools: dict[str, dict[str, Any]] = {}
        self._unsaid: set[str] = set()
        self._count = 0
        self.turn = f"{manager.store.clock():x}"

    def take(self, chunk: Chunk) -> None:
        """Take in what came, and record what is complete by it."""
        if chunk.kind in {ChunkKind.TEXT, ChunkKind.THOUGHT}:
            if chunk.kind is not self._kind:
                self._flush()
            self._kind = chunk.kind
            self._text.append(chunk.text)
        elif chunk.kind is ChunkKind.TOOL:
            self._flush()
            self._tool(chunk.data)
        elif chunk.kind is ChunkKind.PLAN:
            self._flush()
            self._record(chunk.kind, chunk.data)
        elif chunk.kind is ChunkKind.PERMISSION:  # what it is about stands in the tool call of the same id
            self._flush()
            self._record(chunk.kind, {key: chunk.data[key] for key in QUESTION if key in chunk.data})

    def _tool(self, data: dict[str, Any]) -> None:
        key = str(data.get("id", ""))
        first = key not in self._tools
        tool = self._tools.setdefault(key, {})
        before = tool.get("status")
        tool.update(data)
        self._unsaid.add(key)
        if first or (tool.get("status") in ENDED and before not in ENDED):
            self._say(key)

    def _say(self, key: str) -> None:
        self._unsaid.discard(key)
        self._record(ChunkKind.TOOL, self._tools[key])

    def _flush(self) -> None:
        text, self._text = "".join(self._text), []
        if text:
            self._record(self._kind, {"id": f"{self._kind}-{self._count + 1}", "text": text})

    def _record(self, part: ChunkKind, data: dict[str, Any]) -> None:
        self._count += 1
        with contextlib.suppress(P8Error):  # told by the store as a notice; kept in memory and retried
            self._manager.record(Kind.PART, {"part": str(part), "turn": self.turn, "agent": self._agent, **data})

    def finish(self) -> dict[str, Any]:
        """Record what is left; return what the answer's message says of its parts."""
        if not self._count:
            return {}
        self._flush()
        for key in [key for key in self._tools if key in self._unsaid]:
            self._say(key)
        brief = [{key: tool[key] for key in BRIEF if key in tool} for tool in self._tools.values()]
        return {"turn": self.turn, **({"tools": brief} if brief else {})}

    @property
    def busy(self) -> bool:
        """Return whether a tool is at work: silence is no sign of a hang then."""
        return any(tool.get("status") not in ENDED for tool in self._tools.values())
