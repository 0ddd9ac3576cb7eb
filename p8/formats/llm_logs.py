"""`llm`: its `logs.db`, in both layouts: responses of conversations (to 0.27), and threads over a tree of messages.

A conversation that was gone on with by a newer `llm` stands in both; its thread is the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p8.errors import FormatError
from p8.formats.database import Database, is_database
from p8.formats.foreign import (
    Conversation,
    Item,
    beginning,
    count,
    mapping,
    parse,
    sequence,
    shown,
    text,
    tool_call,
    when,
)

NAME = "llm"
TITLE = "llm"
TABLES = (
    "conversations", "responses", "tool_calls", "tool_results", "threads", "turns", "messages", "parts", "fragments",
    "prompt_fragments", "system_fragments", "attachments", "prompt_attachments",
)  # fmt: skip
CHAIN = 100_000  #: messages of one thread


def places(env: Mapping[str, str], directories: Sequence[Path]) -> list[Path]:
    """Return its log."""
    home = Path(env.get("HOME", "~"))
    kept = home / "Library" / "Application Support" if (home / "Library").is_dir() else home / ".config"
    return [Path(env.get("LLM_USER_PATH") or kept / "io.datasette.llm") / "logs.db"]


def detect(path: Path) -> bool:
    """Return whether a file is such a log: a database with its tables named in its first pages."""
    if path.suffix not in {".db", ".sqlite", ".sqlite3"}:
        return False
    start = beginning(path)
    return is_database(start) and b"responses" in start and b"conversations" in start and b"prompt_json" in start


def source_of(path: Path) -> Path:
    """Return the file itself."""
    return path


def read(path: Path) -> Iterator[Conversation]:
    """
    Yield the conversations of a log, oldest first within each layout.

    Raises:
        FormatError: the file cannot be read, or breaks off.
    """
    with Database(path, TABLES) as db:
        threads = set()
        if db.columns("threads"):
            order = "SELECT id, name, tip_message_hash, datetime_utc FROM threads ORDER BY datetime_utc, id"
            for thread, name, tip, at in db.all(order):
                threads.add(thread)
                yield _thread(db, Conversation(NAME, text(thread), str(path), title=text(name)), tip, when(at))
        if db.columns("responses"):
            yield from _Responses(db, path).conversations(threads)


# threads


def _thread(db: Database, found: Conversation, tip: Any, at: int) -> Conversation:
    """Return a thread: its messages from the tip back, with what is known of each call of the model."""
    fields = db.among(
        "turns", "tip_message_hash", "parent_message_hash", "model", "input_tokens", "output_tokens", "duration_ms",
        "datetime_utc",
    )  # fmt: skip
    turns = db.all(f"SELECT {', '.join(fields)} FROM turns WHERE thread_id = ?", (found.id,))
    names = [field.strip('"') for field in fields]
    answers: dict[Any, dict[str, Any]] = {}
    asked: dict[Any, int] = {}
    for row in turns:
        turn = dict(zip(names, row, strict=True))
        answers[turn.get("tip_message_hash")] = turn
        asked.setdefault(turn.get("parent_message_hash"), when(turn.get("datetime_utc")))
    found.started_us = min((when(turn.get("datetime_utc")) for turn in answers.values()), default=0) or at
    calls: dict[str, dict[str, Any]] = {}
    for message, role in _chain(db, tip):
        item = Item(role, "", id=message, time_us=asked.get(message, 0))
        turn = answers.get(message, {})
        if turn:
            item.model = text(turn.get("model"))
            item.tokens_in, item.tokens_out = count(turn.get("input_tokens")), count(turn.get("output_tokens"))
            item.time_us = when(turn.get("datetime_utc")) + count(turn.get("duration_ms")) * 1000
        _parts(db, message, item, calls, found)
        if role != "tool" and (item.content or item.tools or item.thought):
            found.add(item)
    return found.settle()


def _chain(db: Database, tip: Any) -> list[tuple[str, str]]:
    chain: list[tuple[str, str]] = []
    seen = set()
    while tip is not None and tip not in seen and len(chain) < CHAIN:
        seen.add(tip)
        row = next(iter(db.all("SELECT parent_hash, role FROM messages WHERE hash = ?", (tip,))), None)
        if row is None:
            break
        chain.append((text(tip), text(row[1])))
        tip = row[0]
    return chain[::-1]


def _parts(db: Database, message: str, item: Item, calls: dict[str, dict[str, Any]], found: Conversation) -> None:
    sql = "SELECT type, text, payload FROM parts WHERE message_hash = ? ORDER BY position"
    for kind, said, raw in db.all(sql, (message,)):
        payload = parse(raw.encode("utf-8", "replace")) if isinstance(raw, str) else {}
        if not isinstance(payload, dict):
            found.bad += 1
            continue
        if kind in {"text", "reasoning"}:
            content = text(said) or _with_fragments(db, payload)
            if kind == "text":
                item.content += content
            else:
                item.thought += content
        elif kind == "tool_call":
            call = tool_call(payload.get("name"), payload.get("arguments"), payload.get("tool_call_id"))
            item.tools.append(call)
            calls[call["id"]] = call
        elif kind == "tool_result":
            _result(calls.get(text(payload.get("tool_call_id"))), payload.get("output"), payload.get("exception"))
        elif kind == "attachment":
            item.content += "[attachment]"


def _with_fragments(db: Database, payload: dict[str, Any]) -> str:
    parts = []
    for piece in map(mapping, sequence(payload.get("text_ref"))):
        if "fragment" in piece:
            rows = db.all("SELECT content FROM fragments WHERE id = ?", (piece["fragment"],))
            parts.append(text(rows[0][0]) if rows else "")
        else:
            parts.append(text(piece.get("literal")))
    return "".join(parts)


def _result(call: dict[str, Any] | None, output: Any, exception: Any) -> None:
    if call is not None:
        call["content"] = shown(output) or shown(exception)
        call["status"] = "failed" if exception else "completed"


# conversations of responses


class _Responses:
    """The older layout: a row for each answer, with what was asked."""

    def __init__(self, db: Database, path: Path) -> None:
        self._db = db
        self._path = path
        self._fields = [f.strip('"') for f in db.among(
            "responses", "id", "model", "prompt", "system", "response", "duration_ms", "datetime_utc", "input_tokens",
            "output_tokens", "reasoning",
        )]  # fmt: skip

    def conversations(self, known: set[Any]) -> Iterator[Conversation]:
        """Yield all conversations but those whose thread is known."""
        names = {row[0]: text(row[1]) for row in self._db.all("SELECT id, name FROM conversations")}
        grouped: dict[str, list[Any]] = {}
        for response, conversation in self._db.all(
            "SELECT id, conversation_id FROM responses ORDER BY datetime_utc, id"
        ):
            grouped.setdefault(conversation or response, []).append(response)
        asked, answered = self._by_response("tool_calls"), self._by_response("tool_results")
        for conversation, responses in grouped.items():
            if conversation in known:
                continue
            found = Conversation(NAME, text(conversation), str(self._path), title=names.get(conversation, ""))
            calls: dict[str, dict[str, Any]] = {}
            system = ""
            for response in responses:
                system = self._response(found, response, system, asked, answered, calls)
            yield found.settle()

    def _by_response(self, table: str) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] = {}
        if self._db.columns(table):
            for row, response in self._db.all(f"SELECT id, response_id FROM {table} ORDER BY id"):
                found.setdefault(response, []).append(row)
        return found

    def _response(
        self, found: Conversation, response: Any, system: str, asked: dict[Any, list[Any]],
        answered: dict[Any, list[Any]], calls: dict[str, dict[str, Any]],
    ) -> str:  # fmt: skip
        """Add what one row holds; return the system prompt in force."""
        db = self._db
        try:
            (values,) = db.all(f"SELECT {', '.join(self._fields)} FROM responses WHERE id = ?", (response,))
        except (FormatError, ValueError):
            found.bad += 1
            return system
        row = dict(zip(self._fields, values, strict=True))
        at = when(row.get("datetime_utc"))
        key = text(row["id"])
        for result in answered.get(response, ()):
            for call_id, output, *exception in db.all(
                f"SELECT tool_call_id, output{''.join(', ' + c for c in db.among('tool_results', 'exception'))}"
                " FROM tool_results WHERE id = ?", (result,),
            ):  # fmt: skip
                _result(calls.get(text(call_id)), output, next(iter(exception), None))
        said = self._prompt(key, "system_fragments", text(row.get("system")))
        if said and said != system:
            found.add(Item("system", said, id=f"{key}:system", time_us=at))
        prompt = self._prompt(key, "prompt_fragments", text(row.get("prompt")))
        if prompt:
            found.add(Item("user", prompt, id=f"{key}:prompt", time_us=at))
        item = Item(
            "assistant", text(row.get("response")), id=key, time_us=at + count(row.get("duration_ms")) * 1000,
            model=text(row.get("model")), tokens_in=count(row.get("input_tokens")),
            tokens_out=count(row.get("output_tokens")), thought=text(row.get("reasoning")),
        )  # fmt: skip
        for one in asked.get(response, ()):
            for name, given, call_id in db.all(
                "SELECT name, arguments, tool_call_id FROM tool_calls WHERE id = ?", (one,)
            ):
                arguments = parse(text(given).encode("utf-8", "replace"))
                call = tool_call(name, arguments if arguments is not None else given, call_id)
                item.tools.append(call)
                calls[call["id"]] = call
        if item.content or item.tools or item.thought:
            found.add(item)
        return said or system

    def _prompt(self, response: str, table: str, prompt: str) -> str:
        """Return a prompt with the fragments that were put before it."""
        if not self._db.columns(table):
            return prompt
        sql = (
            f"SELECT f.content FROM {table} p JOIN fragments f ON f.id = p.fragment_id WHERE p.response_id = ?"
            ' ORDER BY p."order"'
        )
        return "\n".join(filter(None, (*(text(row[0]) for row in self._db.all(sql, (response,))), prompt)))
