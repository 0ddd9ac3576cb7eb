"""opencode: `~/.local/share/opencode/opencode.db`, or in older versions a folder `storage` of one JSON file a record.

Both hold the same records: sessions, their messages, the parts of each. What was reverted is left out and counted, and
so are the sessions of subagents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p8.errors import FormatError
from p8.formats.database import Database, is_database
from p8.formats.foreign import (
    Conversation,
    Item,
    amount,
    beginning,
    count,
    mapping,
    parse,
    shown,
    text,
    tool_call,
    when,
    whole,
)

NAME = "opencode"
TITLE = "opencode"
UNTITLED = re.compile(r"(New|Child) session - \d{4}-.*")
RECORD_BYTES = 64 << 20
Record = dict[str, Any]


def places(env: Mapping[str, str], directories: Sequence[Path]) -> list[Path]:
    """Return its databases and its folder of records."""
    root = Path(env.get("XDG_DATA_HOME") or Path(env.get("HOME", "~")) / ".local" / "share") / "opencode"
    return [*sorted(root.glob("opencode*.db")), root / "storage"]


def detect(path: Path) -> bool:
    """Return whether a file is such a database, or the record of a session."""
    if path.suffix == ".db":
        start = beginning(path)
        return (
            is_database(start) and b"session" in start and (b"parent_id" in start or b"opencode" in path.name.encode())
        )
    return path.suffix == ".json" and path.parent.parent.name == "session" and path.stem.startswith("ses_")


def source_of(path: Path) -> Path:
    """Return the database, or the folder that a session's record belongs to."""
    return path if path.suffix == ".db" else path.parents[2]


def read(path: Path) -> Iterator[Conversation]:
    """
    Yield the conversations of a database, a folder of records, or one session's record.

    Raises:
        FormatError: it cannot be read, or breaks off.
    """
    if path.is_dir():
        records = sorted(path.glob("session/*/ses_*.json")) or sorted(path.glob("storage/session/*/ses_*.json"))
        for record in records:
            yield from _from_files(record)
    elif path.suffix == ".json":
        yield from _from_files(path)
    else:
        yield from _from_database(path)


def _from_database(path: Path) -> Iterator[Conversation]:
    with Database(path, ("session", "message", "part")) as db:
        names = ("id", "parent_id", "directory", "title", "version", "revert", "time_created", "time_updated")
        fields = db.among("session", *names)
        if not fields or not db.columns("part"):
            raise FormatError(f"{path} holds no sessions of {TITLE}")
        sessions = db.all(f"SELECT {', '.join(fields)} FROM session ORDER BY time_created, id")
        for row in sessions:
            about = dict(zip([field.strip('"') for field in fields], row, strict=True))
            about["time"] = {"created": about.get("time_created"), "updated": about.get("time_updated")}
            about["revert"] = _json(about.get("revert"))
            about["parentID"] = about.get("parent_id")

            def rows(sql: str, *params: Any) -> list[tuple[str, Any, int]]:
                return [(text(one), _json(data), when(at)) for one, data, at in db.all(sql, params)]

            messages = rows(
                "SELECT id, data, time_created FROM message WHERE session_id = ? ORDER BY time_created, id", about["id"]
            )
            yield from _conversation(
                path, about, messages,
                lambda message, rows=rows: rows(  # type: ignore[misc]
                    "SELECT id, data, time_created FROM part WHERE message_id = ? ORDER BY id", message
                ),
            )  # fmt: skip


def _from_files(path: Path) -> Iterator[Conversation]:
    about = _json(whole(path, RECORD_BYTES))
    if not isinstance(about, dict):
        raise FormatError(f"{path} is not a session of {TITLE}")
    storage = path.parents[2]

    def records(folder: Path) -> list[tuple[str, Any, int]]:
        found = []
        for file in sorted(folder.glob("*.json")):
            try:
                data = _json(whole(file, RECORD_BYTES))
            except FormatError:
                data = None
            found.append((file.stem, data, when(mapping(mapping(data).get("time")).get("created"))))
        return found

    session = path.stem
    yield from _conversation(
        path, {**about, "id": session}, records(storage / "message" / session),
        lambda message: records(storage / "part" / message),
    )  # fmt: skip


def _conversation(
    path: Path,
    about: Record,
    messages: list[tuple[str, Any, int]],
    parts_of: Callable[[str], Iterable[tuple[str, Any, int]]],
) -> Iterator[Conversation]:
    time, title = mapping(about.get("time")), text(about.get("title"))
    found = Conversation(
        NAME, text(about.get("id")), str(path), title="" if UNTITLED.fullmatch(title) else title,
        directory=text(about.get("directory")), started_us=when(time.get("created")),
    )  # fmt: skip
    if text(about.get("version")):
        found.more["version"] = about["version"]
    if text(about.get("parentID")):
        found.more["subagent"] = True
    reverted = text(mapping(about.get("revert")).get("messageID"))
    for message_id, data, at in sorted(messages, key=lambda message: (message[2], message[0])):
        if not isinstance(data, dict):
            found.bad += 1
        elif reverted and message_id >= reverted:
            found.more["taken_back"] = int(found.more.get("taken_back", 0)) + 1
        else:
            item = _message(message_id, data, at)
            for _, part, _ in sorted(parts_of(message_id), key=lambda part: part[0]):
                if isinstance(part, dict):
                    _part(item, part)
                else:
                    found.bad += 1
            if item.content or item.thought or item.tools:
                found.add(item)
    yield found.settle()


def _message(message_id: str, data: Record, at: int) -> Item:
    tokens = mapping(data.get("tokens"))
    cache = mapping(tokens.get("cache"))
    assistant = data.get("role") == "assistant"
    provider, model = text(data.get("providerID")), text(data.get("modelID"))
    item = Item(
        "assistant" if assistant else "user", "", id=message_id,
        time_us=when(mapping(data.get("time")).get("created")) or at,
        model=f"{provider}/{model}" if assistant and provider and model else model if assistant else "",
        tokens_in=count(tokens.get("input"), cache.get("read"), cache.get("write")),
        tokens_out=count(tokens.get("output"), tokens.get("reasoning")), cost=amount(data.get("cost")),
    )  # fmt: skip
    error = mapping(data.get("error"))
    if error:
        item.more["error"] = text(mapping(error.get("data")).get("message")) or text(error.get("name")) or "failed"
    if data.get("summary") is True:
        item.role, item.more["summary"] = "system", True
    return item


def _part(item: Item, part: Record) -> None:
    kind = part.get("type")
    if kind == "text" and not part.get("synthetic") and not part.get("ignored"):
        item.content = "\n".join(filter(None, (item.content, text(part.get("text")))))
    elif kind == "reasoning":
        item.thought = "\n".join(filter(None, (item.thought, text(part.get("text")))))
    elif kind == "file":
        item.content = "\n".join(filter(None, (item.content, f"[file {text(part.get('filename'))}]")))
    elif kind == "tool":
        state = mapping(part.get("state"))
        call = tool_call(part.get("tool"), state.get("input"), part.get("callID"))
        call["content"] = shown(state.get("output")) or shown(state.get("error"))
        call["status"] = {"completed": "completed", "error": "failed"}.get(text(state.get("status")), "pending")
        item.tools.append(call)


def _json(raw: Any) -> Any:
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "replace")
    return parse(raw) if isinstance(raw, bytes) else None
