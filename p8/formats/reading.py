"""What a reader sees of a session: blocks of text with a name and a kind, the same for Markdown and HTML.

Entries that are bookkeeping (status, titles, leases) give none. What is no text, such as an image or an unknown part
of a message, is named and not dropped. Refuses: to know markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from p8.formats.redact import UNSEEN
from p8.model import Entry, SessionRow, from_us

#: C0 but tab and newline, DEL, C1, the bidirectional controls, surrogates, tags
_MARKED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
LONG_INPUT = 20_000  #: characters of a tool's input that are shown


class Transcript(NamedTuple):
    """A session on its way out, redacted where that was asked for."""

    row: SessionRow
    entries: Iterable[Entry]  #: oldest first, a fork's with its parents'


class Block(NamedTuple):
    """One thing to read."""

    kind: str  #: user, assistant, system, tool, thought, call, run, typed, checkpoint or note
    name: str  #: who said it, what ran, what a checkpoint is called; one line
    text: str
    note: str = ""  #: how it ended; one line


def speaker(block: Block) -> str:
    """Return who speaks in a block; nothing of what is no speech, such as a command that ran."""
    if block.kind in {"user", "assistant", "system", "tool"}:
        return f"{block.kind} {block.name}"
    return f"assistant {block.name}" if block.kind == "thought" and block.name else ""


def begins_turn(block: Block, before: str) -> bool:
    """Return whether a block needs a heading, when `before` spoke last."""
    return bool(speaker(block)) and (speaker(block) != before or block.kind == "user")


def visible(text: str) -> str:
    """Return `text` as a person would see it: no terminal sequences, other controls as visible marks."""
    if UNSEEN.search(text):
        text = UNSEEN.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return _MARKED.sub(_mark, text) if _MARKED.search(text) else text


def line(text: str, most: int = 300) -> str:
    """Return `text` in one line, visible, at most `most` characters."""
    words = " ".join(visible(text).split())
    return words if len(words) <= most else words[: most - 1] + "…"


def _mark(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return "\n" if code == 0x0D else chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return "\ufffd" if 0xD800 <= code < 0xE000 else f"‹{code:x}›"


def blocks(entry: Entry) -> Iterator[Block]:
    """Yield what there is to read in an entry."""
    data = entry.data
    if entry.kind == "message":
        yield from _message(entry)
    elif entry.kind == "execution":
        yield Block("run", line(_text(data.get("command"))), visible(_text(data.get("output"))).rstrip(), _ended(data))
    elif entry.kind == "checkpoint":
        yield Block("checkpoint", line(entry.text) or "checkpoint", "", _git(data.get("git")))
    elif entry.kind == "command":
        said = _text(data.get("command"))
        if not said.startswith("!"):  # what it ran follows
            yield Block("typed", "", line(said))
    elif entry.kind == "session":
        if data.get("what") == "forked":
            yield Block("note", "", "A fork begins here.")
    elif entry.text:
        yield Block("note", "", visible(entry.text))


def _message(entry: Entry) -> Iterator[Block]:
    data = entry.data
    role = entry.role or "note"
    kind = role if role in {"user", "assistant", "system", "tool"} else "note"
    model = data.get("model") if kind == "assistant" else None
    name = "You" if role == "user" else line(role, 80).capitalize()
    if isinstance(model, str) and model:
        name = line(model, 80)
    thought = data.get("thought")
    if isinstance(thought, str) and thought.strip():
        yield Block("thought", name, visible(thought).strip())
    note = _fault(data)
    texts: list[str] = []
    for part in _parts(data.get("content")):
        if isinstance(part, str):
            texts.append(part)
            continue
        if texts:
            yield Block(kind, name, visible("".join(texts)).strip("\n"))
            texts = []
        yield part
    text = visible("".join(texts)).strip("\n")
    if text or note:
        yield Block(kind, name, text, note)
    for key in ("tools", "tool_calls"):
        for call in data[key] if isinstance(data.get(key), list) else ():
            if isinstance(call, Mapping):
                yield _call(call)


def _parts(content: Any) -> Iterator[str | Block]:
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            sort = str(part.get("type", ""))
            if isinstance(part.get("text"), str) and sort in {"", "text", "input_text", "output_text"}:
                yield part["text"]
            elif sort in {"thinking", "reasoning"}:
                yield Block("thought", "", visible(_text(part.get("thinking", part.get("text")))).strip())
            elif "tool" in sort or "function" in sort:
                yield _call(part)
            else:
                yield Block("note", "", line(f"[{sort or 'something'} that cannot be shown as text]"))
        elif part is not None:
            yield str(part)


def _call(call: Mapping[str, Any]) -> Block:
    """Return a use of a tool, in whichever of the usual shapes it was recorded."""
    inner = call.get("function")
    about: Mapping[str, Any] = {**call, **inner} if isinstance(inner, Mapping) else call
    names = (about[k] for k in ("title", "name", "tool_name", "kind", "type") if isinstance(about.get(k), str))
    given = next((about[k] for k in ("input", "arguments", "args", "rawInput", "raw_input") if about.get(k)), None)
    got = next((about[k] for k in ("output", "result", "content", "rawOutput", "raw_output") if about.get(k)), None)
    texts = [_shown(value) for value in (given, got) if value is not None]
    status = about.get("status")
    ended = line(status) if isinstance(status, str) else ""
    return Block("call", line(next(names, "tool")), "\n\n".join(filter(None, texts)), ended)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return visible(value).strip("\n")
    if isinstance(value, list) and all(isinstance(v, Mapping) and isinstance(v.get("text"), str) for v in value):
        return visible("\n".join(v["text"] for v in value)).strip("\n")
    if isinstance(value, Mapping) and len(value) == 1 and isinstance(next(iter(value.values())), str):
        return visible(f"{next(iter(value))}: {next(iter(value.values()))}").strip("\n")
    return visible(json.dumps(value, ensure_ascii=False, indent=2, default=str))[:LONG_INPUT]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _ended(data: Mapping[str, Any]) -> str:
    code, took = data.get("exit_code"), data.get("duration_s")
    parts = [f"exit {code}" if isinstance(code, int) and code else ""]
    parts.append(f"{took:.1f} s" if isinstance(took, int | float) and took >= 0.1 else "")
    where = data.get("where")
    parts.append(f"in {line(where, 60)}" if isinstance(where, str) and where not in {"", "host"} else "")
    return ", ".join(filter(None, parts))


def _fault(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    if error:
        return line(f"failed: {_text(error)}")
    return "cancelled" if data.get("cancelled") else ""


def _git(state: Any) -> str:
    if not isinstance(state, Mapping):
        return ""
    place = f"{line(_text(state.get('branch')), 100)} {line(_text(state.get('commit')))[:10]}".strip()
    changed = {*_names(state, "staged"), *_names(state, "modified")}
    parts = [place, f"{len(changed)} changed" if changed else ""]
    parts.append(f"{len(_names(state, 'untracked'))} untracked" if _names(state, "untracked") else "")
    return ", ".join(filter(None, parts))


def _names(state: Mapping[str, Any], key: str) -> list[Any]:
    value = state.get(key)
    return list(value) if isinstance(value, list | tuple) else []


def facts(row: SessionRow) -> list[tuple[str, str]]:
    """Return what is said of a session above its transcript, as (name, value)."""
    begun, last = from_us(row.created_us), from_us(row.last_us)
    when = f"{begun:%Y-%m-%d %H:%M} – " + (f"{last:%H:%M}" if last.date() == begun.date() else f"{last:%Y-%m-%d %H:%M}")
    said = [f"{row.messages} message{'s' * (row.messages != 1)}"]
    if row.executions:
        said.append(f"{row.executions} command{'s' * (row.executions != 1)} run")
    if row.tokens_in or row.tokens_out:
        said.append(f"{row.tokens_in + row.tokens_out:,} tokens")
    if row.cost:
        said.append(f"${row.cost:.4f}")
    found = [
        ("Project", line(row.project_name, 120)), ("Branch", line(f"{row.branch} {row.commit[:10]}", 120)),
        ("Model", line(row.model, 120)), ("When", f"{when} UTC"), ("Said", ", ".join(said)),
        ("Tags", line(" ".join(row.tags), 200)), ("Session", row.id), ("Forked from", row.parent or ""),
    ]  # fmt: skip
    return [(name, value) for name, value in found if value.strip()]


def title_of(row: SessionRow) -> str:
    """Return what a session is called where it is read."""
    return line(row.title, 200) or "A session in which nothing was said"
