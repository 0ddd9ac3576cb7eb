"""Claude Code: `~/.claude/projects/<directory>/<session>.jsonl`, one JSON record a line, linked into a tree by `uuid`.

What is read is the branch that was gone on with last; prompts that were taken back, what subagents did among themselves
and what the tool put in unasked are left out and counted. A record without its parent is joined to the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p8.formats.foreign import Conversation, Item, Records, count, first_records, mapping, sequence, shown, text, when
from p8.formats.foreign import tool_call as call_of

NAME = "claude"
TITLE = "Claude Code"
KINDS = {"user", "assistant", "system", "summary", "attachment", "queue-operation", "file-history-snapshot", "progress"}
COMMAND = re.compile(r"<command-name>\s*/?(.*?)\s*</command-name>", re.DOTALL)
ARGUMENTS = re.compile(r"<command-args>\s*(.*?)\s*</command-args>", re.DOTALL)
BASH = re.compile(r"<bash-input>(.*?)</bash-input>", re.DOTALL)
OUTPUT = re.compile(r"<(bash-stdout|bash-stderr|local-command-stdout|local-command-stderr)>(.*?)</\1>", re.DOTALL)


def places(env: Mapping[str, str], directories: Sequence[Path]) -> list[Path]:
    """Return its folders of projects."""
    home = Path(env.get("HOME", "~"))
    roots = [Path(env["CLAUDE_CONFIG_DIR"])] if env.get("CLAUDE_CONFIG_DIR") else []
    return [root / "projects" for root in (*roots, home / ".claude", home / ".config" / "claude")]


def detect(path: Path) -> bool:
    """Return whether a file holds a session: its records name one, and are of Claude Code's kinds."""
    if path.suffix != ".jsonl" or path.name.startswith("agent-"):
        return False
    return any(
        text(r.get("type")) in KINDS and ("sessionId" in r or "leafUuid" in r) and "payload" not in r
        for r in first_records(path)
    )


def source_of(path: Path) -> Path:
    """Return the file itself: one session each."""
    return path


def read(path: Path) -> Iterator[Conversation]:
    """
    Yield the one conversation of a file.

    Raises:
        FormatError: the file cannot be read.
    """
    session = _Session(path)
    records = Records(path)
    for record in records:
        session.take(record)
    found = session.conversation()
    found.bad += records.bad
    yield found


class _Session:
    """A session while its records are read: what each says, how they are linked, and the results of tools."""

    def __init__(self, path: Path) -> None:
        self._found = Conversation(NAME, path.stem, str(path))
        self._parents: dict[str, str] = {}
        self._order: list[tuple[str, str, Item]] = []  #: uuid, id of the model's message, what it says
        self._messages: dict[str, Item] = {}
        self._uuids: dict[str, set[str]] = {}
        self._results: dict[str, dict[str, Any]] = {}
        self._before = ""
        self._titles: dict[str, str] = {}
        self._summaries: list[tuple[str, str]] = []

    def take(self, record: dict[str, Any]) -> None:
        """Take a record in; one that is not as it should be counts as bad."""
        found, kind = self._found, text(record.get("type"))
        if kind in {"custom-title", "ai-title"}:
            self._titles[kind] = text(record.get("customTitle" if kind == "custom-title" else "aiTitle"))
            return
        if kind == "summary":
            self._summaries.append((text(record.get("leafUuid")), text(record.get("summary"))))
            return
        uuid = text(record.get("uuid"))
        if not uuid:
            return
        if record.get("isSidechain"):
            found.more["subagent_records"] = int(found.more.get("subagent_records", 0)) + 1
            return
        parent = text(record.get("parentUuid")) or text(record.get("logicalParentUuid"))
        begins = not parent and record.get("parentUuid", "") is None and kind == "user"
        self._parents[uuid] = parent if parent in self._parents else "" if begins else self._before
        self._before = uuid
        found.directory = found.directory or text(record.get("cwd"))
        found.branch = text(record.get("gitBranch")) or found.branch
        if text(record.get("version")):
            found.more["version"] = record["version"]
        if text(record.get("sessionId")) and found.id != record["sessionId"]:
            found.more["session"] = record["sessionId"]
        message = mapping(record.get("message"))
        at = when(record.get("timestamp"))
        if kind == "assistant":
            self._assistant(uuid, message, at)
        elif kind == "user":
            self._user(uuid, record, message, at)
        elif kind == "system" and text(record.get("content")) and record.get("subtype") != "compact_boundary":
            self._order.append((uuid, "", Item("notice", text(record["content"]), id=uuid, time_us=at)))

    def _assistant(self, uuid: str, message: dict[str, Any], at: int) -> None:
        if not isinstance(message.get("content"), list | str):
            self._found.bad += 1
            return
        message_id = text(message.get("id")) or uuid
        item = self._messages.get(message_id)
        if item is None:
            model = text(message.get("model"))
            item = Item("assistant", "", id=message_id, time_us=at, model="" if model == "<synthetic>" else model)
            self._messages[message_id] = item
            self._order.append((uuid, message_id, item))
        self._uuids.setdefault(message_id, set()).add(uuid)
        for block in _blocks(message["content"]):
            if block.get("type") == "text":
                item.content = _joined(item.content, text(block.get("text")))
            elif block.get("type") == "thinking":
                item.thought = _joined(item.thought, text(block.get("thinking")))
            elif text(block.get("type")) in {"tool_use", "server_tool_use"}:
                item.tools.append(call_of(block.get("name"), block.get("input"), block.get("id")))
        usage = mapping(message.get("usage"))
        cached = usage.get("cache_creation_input_tokens"), usage.get("cache_read_input_tokens")
        item.tokens_in = count(usage.get("input_tokens"), *cached) or item.tokens_in
        item.tokens_out = count(usage.get("output_tokens")) or item.tokens_out

    def _user(self, uuid: str, record: dict[str, Any], message: dict[str, Any], at: int) -> None:
        if not isinstance(message.get("content"), list | str):
            self._found.bad += 1
            return
        said = []
        for block in _blocks(message["content"]):
            if block.get("type") == "tool_result":
                self._results[text(block.get("tool_use_id"))] = block
            else:
                said.append(_readable(block))
        content = "\n".join(part for part in said if part)
        if not content or record.get("isMeta"):
            return
        if record.get("isCompactSummary"):
            item = Item("system", content, id=uuid, time_us=at, more={"summary": True})
        else:
            item = _typed(content, uuid, at)
        self._order.append((uuid, "", item))

    def conversation(self) -> Conversation:
        """Return what was said on the branch that was gone on with last."""
        found = self._found
        active = self._active()
        for uuid, message_id, item in self._order:
            if uuid not in active and not (message_id and self._uuids[message_id] & active):
                found.more["taken_back"] = int(found.more.get("taken_back", 0)) + 1
                continue
            for call in item.tools:
                result = self._results.get(call["id"])
                if result is not None:
                    call["status"] = "failed" if result.get("is_error") else "completed"
                    call["content"] = "\n".join(map(_readable, _blocks(result.get("content"))))
            if not (item.content or item.thought or item.tools):
                continue
            before = found.items[-1] if found.items else None
            if item.kind == "output" and before is not None and before.kind == "execution":
                before.more["output"] = _joined(text(before.more.get("output")), item.content)
                continue
            if item.kind == "output":
                item.kind, item.role = "message", "notice"
            found.add(item)
        by_hand = self._titles.get("custom-title", "")
        summary = next((said for leaf, said in reversed(self._summaries) if leaf in self._parents), "")
        found.title, found.named = by_hand or self._titles.get("ai-title", "") or summary, bool(by_hand)
        return found.settle()

    def _active(self) -> set[str]:
        """Return the records on the way from the last one that says something back to the first."""
        at = self._order[-1][0] if self._order else ""
        last = self._order[-1][1] if self._order else ""
        if last:  # a message in several records: the last of them
            at = next((u for u in reversed(self._parents) if u in self._uuids[last]), at)
        on_the_way: set[str] = set()
        while at and at not in on_the_way:
            on_the_way.add(at)
            at = self._parents.get(at, "")
        return on_the_way


def _typed(content: str, uuid: str, at: int) -> Item:
    """Return what a person typed: a message, a command of the tool's own, or a command of the shell."""
    shell = BASH.search(content)
    if shell is not None:
        return Item("", shell.group(1).strip(), "execution", uuid, at)
    command = COMMAND.search(content)
    if command is not None:
        given = ARGUMENTS.search(content)
        return Item("", f"/{command.group(1)} {given.group(1) if given else ''}".strip(), "command", uuid, at)
    printed = [part.strip("\n") for _, part in OUTPUT.findall(content)]
    if printed and content.lstrip().startswith("<"):
        return Item("", "\n".join(part for part in printed if part.strip()), "output", uuid, at)
    return Item("user", content, id=uuid, time_us=at)


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in sequence(content) if isinstance(block, dict)]


def _readable(block: dict[str, Any]) -> str:
    if block.get("type") == "text":
        return text(block.get("text"))
    if text(block.get("type")) in {"image", "document"}:
        kind = text(mapping(block.get("source")).get("media_type"))
        return f"[{block['type']}{' ' + kind if kind else ''}]"
    return shown({key: value for key, value in block.items() if key != "source"})


def _joined(before: str, after: str) -> str:
    return f"{before}\n{after}" if before and after else before or after
