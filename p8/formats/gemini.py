"""Gemini CLI: `~/.gemini/tmp/<project>/chats/session-….jsonl` (older: one `.json`), one or several files a session.

A message may stand there more than once: written again when its tools are done, and all of them when the session is
resumed, then without their times and tools. The fullest of each is kept; messages taken back with /rewind are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p8.errors import FormatError
from p8.formats.foreign import (
    Conversation,
    Item,
    Records,
    beginning,
    count,
    first_records,
    mapping,
    parse,
    sequence,
    shown,
    text,
    tool_call,
    when,
    whole,
)

NAME = "gemini"
TITLE = "Gemini CLI"
CONTEXT = ("<session_context>", "<hook_context>")


def places(env: Mapping[str, str], directories: Sequence[Path]) -> list[Path]:
    """Return its folder of projects."""
    return [Path(env.get("GEMINI_CLI_HOME") or env.get("HOME", "~")) / ".gemini" / "tmp"]


def detect(path: Path) -> bool:
    """Return whether a file holds a chat: it names a session and the hash of a project."""
    if path.suffix == ".jsonl":
        return any("sessionId" in r and "projectHash" in r for r in first_records(path, 3))
    if path.suffix != ".json":
        return False
    start = beginning(path, 2048)
    return b'"sessionId"' in start and (b'"projectHash"' in start or b'"messages"' in start)


def source_of(path: Path) -> Path:
    """Return the folder of chats that a file lies in: a session that was resumed goes on in another file."""
    return path.parent if path.parent.name == "chats" else path


def read(path: Path) -> Iterator[Conversation]:
    """
    Yield the conversations of a file, or of a folder of them.

    Raises:
        FormatError: a file given by itself cannot be read; one of many counts as one bad record.
    """
    files = sorted(f for f in path.iterdir() if f.is_file() and detect(f)) if path.is_dir() else [path]
    chats: dict[str, _Chat] = {}
    for file in files:
        try:
            records, bad = _records(file)
        except FormatError:
            if file == path:
                raise
            continue
        session = next((text(r["sessionId"]) for r in records if text(r.get("sessionId"))), "") or file.stem
        chat = chats.setdefault(session, _Chat(session, file))
        chat.found.bad += bad
        chat.take(records)
    for chat in chats.values():
        yield chat.conversation()


def _records(file: Path) -> tuple[list[dict[str, Any]], int]:
    if file.suffix == ".jsonl":
        records = Records(file)
        return list(records), records.bad
    data = parse(whole(file))
    if not isinstance(data, dict):
        raise FormatError(f"{file} is not a chat of {TITLE}")
    return [data], 0


class _Chat:
    """One session while its files are read, in the order of their names, which begin with the time."""

    def __init__(self, session: str, file: Path) -> None:
        self.found = Conversation(NAME, session, str(file))
        self._file = file
        self._messages: dict[str, dict[str, Any]] = {}  #: as they stand, in order
        self._fullest: dict[str, dict[str, Any]] = {}
        self._directories: list[str] = []

    def take(self, records: list[dict[str, Any]]) -> None:
        """Take a file's records in: they begin anew, and end with everything that stands."""
        before, self._messages = self._messages, {}
        for record in records:
            update = record.get("$set")
            if isinstance(record.get("$rewindTo"), str):
                self._rewind(record["$rewindTo"])
            elif isinstance(update, dict):
                if isinstance(update.get("messages"), list):
                    self._messages = {}
                self._about(update)
            elif "id" in record and "sessionId" not in record:
                self._message(record)
            else:
                self._about(record)
        if len(self._messages) < len(before) and not set(self._messages) & set(before):
            self._messages = before | self._messages

    def _rewind(self, message_id: str) -> None:
        ids = list(self._messages)
        gone = ids[ids.index(message_id) :] if message_id in ids else ids
        for one in gone:
            del self._messages[one]
        self.found.more["taken_back"] = int(self.found.more.get("taken_back", 0)) + len(gone)

    def _about(self, data: dict[str, Any]) -> None:
        started = when(data.get("startTime"))
        if started and not self.found.started_us:
            self.found.started_us = started
        self.found.title = text(data.get("summary")) or self.found.title
        self._directories = [d for d in sequence(data.get("directories")) if text(d)] or self._directories
        if data.get("kind") == "subagent":
            self.found.more["subagent"] = True
        for message in sequence(data.get("messages")):
            self._message(message)

    def _message(self, message: Any) -> None:
        known = mapping(message)
        message_id = text(known.get("id"))
        if not message_id or not isinstance(known.get("content", ""), list | str | dict):
            self.found.bad += 1
            return
        full = self._fullest.get(message_id)
        if full is None or "toolCalls" in known or _said(full.get("content")) != _said(known.get("content")):
            full = self._fullest[message_id] = {**known, "timestamp": (full or known).get("timestamp")}
        self._messages[message_id] = full

    def conversation(self) -> Conversation:
        """Return what stands at the end."""
        results: dict[str, Any] = {}
        for message in self._messages.values():
            for part in _parts(message.get("content")):
                answer = mapping(part.get("functionResponse"))
                results.setdefault(text(answer.get("id")), answer.get("response"))
        context = ""
        for message in self._messages.values():
            said = _said(message.get("content"))
            if message.get("type") == "user" and said.lstrip().startswith(CONTEXT):
                context = context or said
                continue
            item = _item(message, said, results)
            if item.content or item.tools or item.thought:
                self.found.add(item)
        self.found.directory = self._directory(context)
        return self.found.settle()

    def _directory(self, context: str) -> str:
        """Return where it took place: kept beside the chats, in the chat, or told to the model."""
        root = self._file.parent.parent / ".project_root"
        if root.is_file():
            kept = beginning(root, 4096).decode("utf-8", "replace").strip()
            if kept:
                return kept
        if self._directories:
            return self._directories[0]
        listed = context.partition("**Workspace Directories:**")[2].splitlines()
        return next((line.strip()[2:].strip() for line in listed if line.strip().startswith("- /")), "")


def _item(message: dict[str, Any], said: str, results: dict[str, Any]) -> Item:
    kind, at, message_id = text(message.get("type")), when(message.get("timestamp")), text(message.get("id"))
    if kind == "user":
        if said.startswith("/") and "\n" not in said:
            return Item("", said, "command", message_id, at)
        return Item("user", said, id=message_id, time_us=at)
    if kind != "gemini":
        return Item("notice", said, id=message_id, time_us=at)
    tokens = mapping(message.get("tokens"))
    thoughts = [mapping(t) for t in sequence(message.get("thoughts"))]
    thought = "\n".join(": ".join(filter(None, (text(t.get("subject")), text(t.get("description"))))) for t in thoughts)
    return Item(
        "assistant", said, id=message_id, time_us=at, model=text(message.get("model")), thought=thought,
        tokens_in=count(tokens.get("input")), tokens_out=count(tokens.get("output"), tokens.get("thoughts")),
        tools=_tools(message, results),
    )  # fmt: skip


def _tools(message: dict[str, Any], results: dict[str, Any]) -> list[dict[str, Any]]:
    calls = []
    for kept in map(mapping, sequence(message.get("toolCalls"))):
        call = tool_call(kept.get("name"), kept.get("args"), kept.get("id"))
        outcomes = [mapping(mapping(part).get("functionResponse")) for part in sequence(kept.get("result"))]
        call["content"] = "\n".join(_outcome(one.get("response")) for one in outcomes)
        call["status"] = {"success": "completed", "error": "failed", "cancelled": "failed"}.get(
            text(kept.get("status")), "pending"
        )
        calls.append(call)
    if not calls:
        for part in _parts(message.get("content")):
            asked = mapping(part.get("functionCall"))
            if asked:
                call = tool_call(asked.get("name"), asked.get("args"), asked.get("id"))
                if call["id"] in results:
                    call["content"], call["status"] = _outcome(results[call["id"]]), "completed"
                calls.append(call)
    return calls


def _outcome(response: Any) -> str:
    known = mapping(response)
    return shown(known.get("output", known.get("error", response)))


def _parts(content: Any) -> list[dict[str, Any]]:
    return [part for part in (content if isinstance(content, list) else [content]) if isinstance(part, dict)]


def _said(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = []
    for part in content if isinstance(content, list) else [content]:
        known = mapping(part)
        if isinstance(part, str):
            parts.append(part)
        elif text(known.get("text")) and not known.get("thought"):
            parts.append(text(known["text"]))
        elif "inlineData" in known or "fileData" in known:
            parts.append(f"[{text(mapping(known.get('inlineData')).get('mimeType')) or 'file'}]")
    return "".join(parts)
