"""What an assistant is sent, and what is left out when a conversation outgrows what it takes at once (row C2).

The rule, in this order, into four fifths of the window (the rest is for the answer, and for counting wrong):

1. the last message; alone too long, its beginning is cut;
2. the memories that fit a tenth, and once something must be left out, the handoff note, at most another tenth;
3. where something is left out, the session's first message, at most a twentieth: what it all is about;
4. whole messages and runs from the newest back, up to the first that does not fit; none is left out in between;
5. one line that says how many were left out and how they can be read.

Nothing is removed from the journal. Refuses: to rewrite what anybody said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Message = dict[str, Any]
Count = Callable[[str], int]

ROOM = (4, 5)
MEMORY_PART, NOTE_PART, FIRST_PART = 10, 10, 20  #: a tenth, a tenth, a twentieth of the room
PER_MESSAGE = 5


class Sent(NamedTuple):
    """A request: what is in it, and what is not."""

    messages: list[Message]  #: oldest first, system messages first
    memories: str  #: the part that comes from memories
    tokens: int  #: as counted; 0 where it need not be, as it is much less than there is room for
    left_out: int  #: messages and runs of the conversation that did not fit


def compose(
    conversation: Sequence[Message],
    window: int,
    count: Count,
    *,
    memories: Callable[[int], str] = lambda _budget: "",
    note: Callable[[], str] = lambda: "",
    first: Callable[[], str] = lambda: "",
    where: str = "",
) -> Sent:
    """
    Return what to send of a conversation.

    Args:
        conversation: messages, oldest first; not modified.
        window: tokens the assistant takes at once, its answer included.
        count: returns the tokens of a text.
        memories: returns what is remembered, in at most so many tokens.
        note: returns the handoff note; asked for only where something is left out.
        first: returns the session's first message; likewise.
        where: says how what is left out can be read.
    """
    room = window * ROOM[0] // ROOM[1]
    if sum(len(_text(m).encode("utf-8", "replace")) + PER_MESSAGE for m in conversation) <= room * 9 // 10:
        remembered = memories(room // MEMORY_PART)  # a token is a byte at least, so there is nothing to count
        head = [_system(remembered)] if remembered else []
        return Sent([*head, *map(_plain, conversation)], remembered, 0, 0)
    remembered = clip(memories(room // MEMORY_PART), room // MEMORY_PART, count)
    spoken = [m for m in conversation if m.get("role") != "system"]
    system = [m for m in conversation if m.get("role") == "system"]
    costs = {id(m): count(_text(m)) + PER_MESSAGE for m in conversation}
    taken = count(remembered) + PER_MESSAGE if remembered else 0
    if taken + sum(costs.values()) <= room:
        head = [_system(remembered)] if remembered else []
        return Sent([*head, *map(_plain, conversation)], remembered, taken + sum(costs.values()), 0)
    head, taken = _head(remembered, note(), first(), where, room, count)
    for message in reversed(system):  # the newest of what P8 itself told goes before talk
        if taken + costs[id(message)] <= room // 3:
            taken += costs[id(message)]
            head.append(_plain(message))
    kept: list[Message] = []
    for message in reversed(spoken):
        cost = costs[id(message)]
        if taken + cost > room:
            if not kept:
                text = clip(_text(message), max(room - taken - PER_MESSAGE, 16), count, end=True)
                kept.append({**_plain(message), "content": text})
                taken += count(text) + PER_MESSAGE
            break
        taken += cost
        kept.append(_plain(message))
    kept.reverse()
    left_out = len(conversation) - len(kept) - (len(head) - 1)
    head[0] = {"role": "system", "content": head[0]["content"].replace(LEFT_OUT, str(left_out))}
    return Sent([*head[:1], *reversed(head[1:]), *kept], remembered, taken, left_out)


LONGEST_TOKEN = 32  #: characters, but for runs of one sign
LEFT_OUT = "\x00left-out\x00"


def _head(remembered: str, note: str, first: str, where: str, room: int, count: Count) -> tuple[list[Message], int]:
    """Return the one system message that stands for what is not sent, and its tokens."""
    parts = [remembered] if remembered else []
    if first:
        parts.append("The session began with:\n" + clip(first, room // FIRST_PART, count))
    if note:
        parts.append(clip(note, room // NOTE_PART, count))
    parts.append(f"[{LEFT_OUT} earlier messages are not shown here{'; ' + where if where else ''}.]")
    text = "\n\n".join(parts)
    return [_system(text)], count(text) + PER_MESSAGE


def clip(text: str, budget: int, count: Count, *, end: bool = False) -> str:
    """Return as much of a text as fits a budget of tokens: its beginning, or its end, with … where it was cut."""
    if len(text) > budget * LONGEST_TOKEN:  # so much cannot fit, and is not worth counting
        text = text[-budget * LONGEST_TOKEN :] if end else text[: budget * LONGEST_TOKEN]
    elif not text or count(text) <= budget:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest part that fits
        middle = (low + high + 1) // 2
        part = text[-middle:] if end else text[:middle]
        low, high = (middle, high) if count(part) + 1 <= budget else (low, middle - 1)
    if low == 0:
        return ""
    return f"…{text[-low:]}" if end else f"{text[:low]}…"


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


def _plain(message: Mapping[str, Any]) -> Message:
    return {**message, "role": str(message.get("role", "user")), "content": _text(message)}


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content", "")
    return content if isinstance(content, str) else str(content)
