"""Codex: `~/.codex/sessions/YYYY/MM/DD/rollout-….jsonl`, one JSON record a line, older ones bare or compressed.

What the person and the model said is read from the items of the model's own protocol; the instructions and context that
Codex sends along, and events that repeat an item, are left out. Turns that were rolled back are left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from p8.errors import FormatError
from p8.formats.foreign import (
    Conversation,
    Item,
    Records,
    count,
    first_records,
    mapping,
    parse,
    sequence,
    shown,
    text,
    tool_call,
    when,
)

NAME = "codex"
TITLE = "Codex"
FILE = re.compile(r"rollout-.*?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?\.jsonl(\.zst)?")
#: beginnings of what Codex itself says in the person's name
CONTEXT = (
    "<environment_context>", "<user_instructions>", "<permissions instructions>", "# AGENTS.md instructions for",
    "<INSTRUCTIONS>", "<skill>", "<skills_instructions>", "<turn_aborted>", "<subagent_notification>",
    "<collaboration_mode>", "<apps_instructions>", "<app-context>", "<model_switch>",
)  # fmt: skip
CALLS = {"function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call"}
OUTPUTS = {"function_call_output", "custom_tool_call_output", "tool_search_output"}


def places(env: Mapping[str, str], directories: Sequence[Path]) -> list[Path]:
    """Return its folders of rollouts."""
    home = Path(env.get("CODEX_HOME") or Path(env.get("HOME", "~")) / ".codex")
    return [home / "sessions", home / "archived_sessions"]


def detect(path: Path) -> bool:
    """Return whether a file is a rollout."""
    if path.suffix == ".zst":
        return FILE.fullmatch(path.name) is not None
    if path.suffix != ".jsonl":
        return False
    records = first_records(path, 4)
    if FILE.fullmatch(path.name) is not None and records:
        return True
    return any(r.get("type") == "session_meta" and isinstance(r.get("payload"), dict) for r in records)


def source_of(path: Path) -> Path:
    """Return the file itself: one conversation each."""
    return path


def read(path: Path) -> Iterator[Conversation]:
    """
    Yield the one conversation of a rollout.

    Raises:
        FormatError: the file cannot be read.
    """
    match = FILE.fullmatch(path.name)
    rollout = _Rollout(Conversation(NAME, (match.group(1) if match else "") or path.stem, str(path)))
    records = Records(path)
    for record in records:
        rollout.take(record)
    found = rollout.found
    rollout.close()
    found.bad += records.bad
    name, title = _titles(path).get(found.id, ("", ""))
    found.title, found.named = name or title, bool(name)
    for item in rollout.items:
        found.add(item)
    yield found.settle()


class _Rollout:
    """A conversation while its records are read."""

    def __init__(self, found: Conversation) -> None:
        self.found = found
        self.items: list[Item] = []
        self._meta = False
        self._model = ""
        self._open: Item | None = None  #: the model's answer so far
        self._answered = False  #: a tool's result came: what the model says next is its next answer
        self._calls: dict[str, dict[str, Any]] = {}
        self._recorded_usage = False
        self._total = -1

    def take(self, record: dict[str, Any]) -> None:
        """Take a record in, wrapped (`type` and `payload`) or bare."""
        at = when(record.get("timestamp"))
        kind, payload = text(record.get("type")), record.get("payload")
        if not isinstance(payload, dict):
            if "payload" in record:
                self.found.bad += 1
            elif not kind and "id" in record and "timestamp" in record:
                self._about(record, at)
            elif kind:
                self._item(record, at)
            return
        if kind == "session_meta":
            self._about(payload, at)
        elif kind == "turn_context":
            self._model = text(payload.get("model")) or self._model
        elif kind == "response_item":
            self._item(payload, at)
        elif kind == "compacted":
            self.close()
            self._say(Item("system", text(payload.get("message")), time_us=at, more={"summary": True}))
        elif kind == "token_usage_record":
            self._recorded_usage = True
            self._usage(mapping(payload.get("usage")))
        elif kind == "event_msg":
            self._event(payload)

    def _about(self, meta: dict[str, Any], at: int) -> None:
        if self._meta:  # of the conversation this one was forked from
            self.found.more.setdefault("forked_from", text(meta.get("id")))
            return
        self._meta = True
        found, git = self.found, mapping(meta.get("git"))
        found.id = text(meta.get("id")) or found.id
        found.started_us = when(meta.get("timestamp")) or at
        found.directory = text(meta.get("cwd"))
        found.branch, found.commit = text(git.get("branch")), text(git.get("commit_hash"))
        for name, key in (("version", "cli_version"), ("originator", "originator"), ("provider", "model_provider")):
            if text(meta.get(key)):
                found.more[name] = meta[key]

    def _event(self, event: dict[str, Any]) -> None:
        if event.get("type") == "token_count" and not self._recorded_usage:
            info = mapping(event.get("info"))
            total = count(mapping(info.get("total_token_usage")).get("total_tokens"))
            if total != self._total:
                self._total = total
                self._usage(mapping(info.get("last_token_usage")))
        elif event.get("type") == "thread_rolled_back":
            self._roll_back(count(event.get("num_turns")))
        elif event.get("type") == "thread_name_updated" and text(event.get("thread_name")):
            self.found.title = text(event["thread_name"])

    def _usage(self, usage: dict[str, Any]) -> None:
        last = next((item for item in reversed(self.items) if item.role == "assistant"), None)
        if last is not None:
            last.tokens_in = count(usage.get("input_tokens")) or last.tokens_in
            last.tokens_out = count(usage.get("output_tokens")) or last.tokens_out

    def _roll_back(self, turns: int) -> None:
        self.close()
        while turns > 0 and self.items:
            item = self.items.pop()
            self.found.more["taken_back"] = int(self.found.more.get("taken_back", 0)) + 1
            turns -= item.role == "user"

    def _item(self, item: dict[str, Any], at: int) -> None:
        kind = text(item.get("type"))
        if kind == "message":
            self._message(item, at)
        elif kind == "reasoning":
            parts = [*sequence(item.get("summary")), *sequence(item.get("content"))]
            said = "\n".join(text(mapping(part).get("text")) for part in parts)
            answer = self._answer(item, at)
            answer.thought = "\n".join(filter(None, (answer.thought, said)))
        elif kind in CALLS:
            self._call(item, at)
        elif kind in OUTPUTS:
            self._output(item)

    def _message(self, item: dict[str, Any], at: int) -> None:
        role, content = text(item.get("role")), item.get("content")
        if not isinstance(content, list | str):
            self.found.bad += 1
            return
        said = _said(content)
        if role == "assistant":
            if self._open is not None and self._open.content:
                self.close()
            answer = self._answer(item, at)
            answer.content, answer.id = said, text(item.get("id")) or answer.id
        elif role == "user" and said.strip() and not _is_context(item, said):
            self.close()
            self._say(Item("user", said, id=text(item.get("id")), time_us=at))

    def _answer(self, item: dict[str, Any], at: int) -> Item:
        """Return the model's answer that an item is part of."""
        if self._open is None or self._answered:
            self.close()
            self._open = Item("assistant", "", id=text(item.get("id")), time_us=at, model=self._model)
            self._say(self._open)
        return self._open

    def _call(self, item: dict[str, Any], at: int) -> None:
        given: Any = item.get("arguments", item.get("input", item.get("action")))
        if isinstance(given, str):
            parsed = parse(given.encode("utf-8", "replace"))
            given = parsed if isinstance(parsed, dict) else given
        name = text(item.get("name")) or text(item.get("type")).removesuffix("_call")
        if isinstance(given, dict) and isinstance(given.get("command"), list):
            given = {**given, "command": " ".join(map(shown, given["command"]))}
        call = tool_call(name, given, item.get("call_id") or item.get("id"))
        if item.get("type") == "web_search_call":
            call["status"] = text(item.get("status")) or "completed"
        self._answer(item, at).tools.append(call)
        self._calls[call["id"]] = call

    def _output(self, item: dict[str, Any]) -> None:
        self._answered = True
        call = self._calls.get(text(item.get("call_id")))
        if call is None:
            self.found.bad += 1
            return
        output = item.get("output")
        parsed = parse(output.encode("utf-8", "replace")) if isinstance(output, str) and output[:1] == "{" else output
        body, failed = output, False
        if isinstance(parsed, dict):
            body = parsed.get("output", parsed.get("content", output))
            failed = parsed.get("success") is False or count(mapping(parsed.get("metadata")).get("exit_code")) != 0
        call["content"] = _said(body) if isinstance(body, list) else shown(body)
        exit_code = re.search(r"^Process exited with code (-?\d+)", call["content"], re.MULTILINE)
        failed = failed or (exit_code is not None and exit_code.group(1) != "0")
        call["status"] = "failed" if failed else "completed"

    def _say(self, item: Item) -> None:
        if item.content or item.role == "assistant":
            self.items.append(item)

    def close(self) -> None:
        """End the model's answer; one in which nothing was said is dropped."""
        answer, self._open, self._answered = self._open, None, False
        if answer is not None and not (answer.content or answer.thought or answer.tools):
            self.items.remove(answer)


def _said(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = []
    for part in map(mapping, sequence(content)):
        kind = text(part.get("type"))
        said = text(part.get("text"))
        parts.append(said or (f"[{kind.removeprefix('input_')}]" if "image" in kind or "audio" in kind else ""))
    return "\n".join(part for part in parts if part)


def _is_context(item: dict[str, Any], said: str) -> bool:
    about = mapping(item.get("internal_chat_message_metadata_passthrough"))
    sources = [text(mapping(mapping(m).get("provenance")).get("type")) for m in
               sequence(about.get("content_item_metadata"))]  # fmt: skip
    return said.lstrip().startswith(CONTEXT) or (bool(sources) and all(source == "harness" for source in sources))


def _titles(path: Path) -> dict[str, tuple[str, str]]:
    """Return what Codex calls its conversations, by id: (name given by hand, other title)."""
    for folder in path.parents[:5]:
        if folder.name in {"sessions", "archived_sessions"}:
            return _titles_of(folder.parent)
    return {}


@lru_cache(4)
def _titles_of(home: Path) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    index = home / "session_index.jsonl"
    if index.is_file():
        try:
            for record in Records(index):
                found[text(record.get("id"))] = (text(record.get("thread_name")), "")
        except FormatError:
            pass
    states = sorted(home.glob("state_*.sqlite"), key=lambda file: (len(file.name), file.name))
    if states:
        from p8.formats.database import Database

        try:
            with Database(states[-1], ("threads",)) as db:
                for thread, title, *name in db.rows(f"SELECT {', '.join(db.among('threads', 'id', 'title', 'name'))}"
                                                    " FROM threads"):  # fmt: skip
                    by_hand = text(name[0]) if name else ""
                    found[text(thread)] = (by_hand or found.get(text(thread), ("", ""))[0], text(title))
        except (FormatError, ValueError):
            pass
    return found
