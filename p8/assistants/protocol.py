"""What agents say, ask and are told over the Agent Client Protocol, as P8 has it: chunks, decisions, prompts.

Refuses: to talk to a process. What is of a kind P8 does not know is left out, never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p8.assistants.base import Chunk, ChunkKind, Decision

HANDOVER_CHARACTERS = 100_000  #: of what was said elsewhere, newest first
Json = dict[str, Any]
Messages = Sequence[dict[str, Any]]
#: the kinds of options that stand for a decision, best first; P8 itself remembers ALWAYS and NEVER, so that an agent
#: does not widen them to what it finds alike, nor write them into the person's settings
OPTIONS = {
    Decision.ONCE: ("allow_once",), Decision.ALWAYS: ("allow_once", "allow_always"),
    Decision.NO: ("reject_once", "reject_always"), Decision.NEVER: ("reject_once", "reject_always"),
}  # fmt: skip


def outcome(options: Sequence[Json], decision: Decision) -> Json:
    """Return what an agent is answered: the option that stands for the decision, cancelled where there is none."""
    for kind in OPTIONS.get(decision, ()):
        for option in options:
            if option.get("kind") == kind and isinstance(option.get("optionId"), str):
                return {"outcome": {"outcome": "selected", "optionId": option["optionId"]}}
    return {"outcome": {"outcome": "cancelled"}}


def scope(tool: Json) -> str:
    """Return what ALWAYS and NEVER cover: this very command, any edit, any read …; else what has the same title."""
    kind = str(tool.get("kind") or "other")
    if kind == "execute":
        command = tool.get("input", {}).get("command") if isinstance(tool.get("input"), dict) else None
        command = " ".join(map(str, command)) if isinstance(command, list) else command
        return f"execute {command or tool.get('title', '')}"
    return (
        kind if kind in {"read", "edit", "delete", "move", "search", "fetch", "think"} else str(tool.get("title", ""))
    )


def chunk_of(update: Json) -> Chunk | None:
    """Return a session update as a chunk, or None where it is of no concern or of a kind P8 does not know."""
    kind = update.get("sessionUpdate")
    if kind in {"agent_message_chunk", "agent_thought_chunk"}:
        text = block_text(update.get("content"))
        return Chunk(ChunkKind.TEXT if kind == "agent_message_chunk" else ChunkKind.THOUGHT, text) if text else None
    if kind in {"tool_call", "tool_call_update"} and isinstance(update.get("toolCallId"), str):
        data: Json = {"id": update["toolCallId"]}
        if kind == "tool_call":
            data["status"] = "pending"
        data |= {key: update[key] for key in ("title", "kind", "status") if isinstance(update.get(key), str)}
        for key, source in (("input", "rawInput"), ("output", "rawOutput")):
            if update.get(source) is not None:
                data[key] = update[source]
        if isinstance(update.get("content"), list):
            data["content"] = [part for part in map(_tool_content, update["content"]) if part]
        if isinstance(update.get("locations"), list):
            data["locations"] = [
                {k: place[k] for k in ("path", "line") if place.get(k) is not None}
                for place in update["locations"] if isinstance(place, dict)
            ]  # fmt: skip
        return Chunk(ChunkKind.TOOL, data=data)
    if kind == "plan" and isinstance(update.get("entries"), list):
        entries = [
            {key: str(entry.get(key, "")) for key in ("content", "priority", "status")}
            for entry in update["entries"] if isinstance(entry, dict)
        ]  # fmt: skip
        return Chunk(ChunkKind.PLAN, data={"id": "plan", "entries": entries})
    return None


def _tool_content(part: Any) -> Json:
    if not isinstance(part, dict):
        return {}
    if part.get("type") == "diff":
        return {"path": str(part.get("path", "")), "old": part.get("oldText"), "new": str(part.get("newText", ""))}
    if part.get("type") == "terminal":
        return {"terminal": str(part.get("terminalId", ""))}
    text = block_text(part.get("content"))
    return {"text": text} if text else {}


def block_text(block: Any) -> str:
    """Return a content block as text: its own, a link, or a mark for what is no text."""
    if not isinstance(block, dict):
        return ""
    if block.get("type") == "text":
        return str(block.get("text", ""))
    if block.get("type") == "resource_link":
        return f"[{block.get('name', '')}]({block.get('uri', '')})"
    if block.get("type") == "resource" and isinstance(block.get("resource"), dict):
        return str(block["resource"].get("text") or f"[{block['resource'].get('uri', 'resource')}]")
    return f"[{block.get('type', 'content')}]"


def tokens(usage: Any) -> Json:
    """Return a prompt's usage as tokens_in (cached ones included) and tokens_out, where it is known."""
    if not isinstance(usage, dict):
        return {}
    read = [usage.get(key) for key in ("inputTokens", "cachedReadTokens", "cachedWriteTokens")]
    into, out = sum(n for n in read if isinstance(n, int)), usage.get("outputTokens")
    return {"tokens_in": into, "tokens_out": out if isinstance(out, int) else 0}


def prompt(conversation: Messages, known: int) -> list[Json]:
    """
    Return a prompt's blocks: what was said that the agent does not know, then the last message of the person.

    Args:
        conversation: all of it, oldest first.
        known: how many of its messages the agent's session holds already.
    """
    last = next((at for at in range(len(conversation), 0, -1) if conversation[at - 1].get("role") == "user"), 0)
    said = str(conversation[last - 1].get("content", "")) if last else ""
    blocks = [{"type": "text", "text": said}]
    before = [m for m in conversation[known : last - 1] if str(m.get("content", "")).strip()] if last else []
    if before:
        blocks.insert(0, {"type": "text", "text": handover(before, begun=not known)})
    return blocks


def handover(messages: Messages, begun: bool) -> str:
    """Return messages that an agent has not seen, the oldest left out where they are too many."""
    names = {"user": "User", "assistant": "Assistant", "system": "Note"}
    kept: list[str] = []
    left = HANDOVER_CHARACTERS
    for message in reversed(messages):
        text = f"{names.get(str(message.get('role')), 'Note')}: {message.get('content', '')}"
        if len(text) > left:
            kept.append("[what came before is left out]")
            break
        left -= len(text)
        kept.append(text)
    where = "so far, with another assistant" if begun else "since your last answer"
    head = f"This was said {where}. It is context: do not answer it again; the user's message follows."
    return "\n\n".join([head, "<conversation>", *reversed(kept), "</conversation>"])
