"""aider: `.aider.chat.history.md` in the project, Markdown, appended to by every chat.

A chat begins with `# aider chat started at`; `#### ` is the person, `> ` the tool, the rest the model. aider ends what
it writes itself with two spaces, which tells it from quotes and headings of the model's. Only the beginning of a chat
has a time, in local time; what was said in it gets that one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from p8.formats.foreign import Conversation, Item, beginning, lines
from p8.model import to_us

NAME = "aider"
TITLE = "aider"
FILE = ".aider.chat.history.md"
STARTED = "# aider chat started at "
MODEL = re.compile(r"^(?:Main model|Model): (\S+)")
TOKENS = re.compile(r"^Tokens: ([\d.,]+)(k|M)? sent,.*?([\d.,]+)(k|M)? received\.(?: Cost: \$([\d.]+) message)?")
#: commands of aider's that carry a message to the model
ASKING = ("/ask ", "/code ", "/architect ", "/context ", "/chat-mode ")


def places(env: Mapping[str, str], directories: Sequence[Path]) -> list[Path]:
    """Return the histories in the person's projects and in the home."""
    return [folder / FILE for folder in (*directories, Path(env.get("HOME", "~")))]


def detect(path: Path) -> bool:
    """Return whether a file is such a history."""
    return path.suffix == ".md" and STARTED.encode() in beginning(path, 4096)


def source_of(path: Path) -> Path:
    """Return the file itself."""
    return path


def read(path: Path) -> Iterator[Conversation]:
    """
    Yield the chats of a history in which something was said, oldest first.

    Raises:
        FormatError: the file cannot be read.
    """
    chat: _Chat | None = None
    for raw in lines(path):
        line = "" if raw is None else raw.decode("utf-8", "replace")
        if line.startswith(STARTED):
            if chat is not None:
                yield from chat.end()
            chat = _Chat(path, line[len(STARTED) :].strip())
        elif chat is not None:
            chat.take(line, damaged=raw is None)
    if chat is not None:
        yield from chat.end()


class _Chat:
    """One chat while its lines are read."""

    def __init__(self, path: Path, started: str) -> None:
        self.found = Conversation(NAME, started, str(path), directory=str(path.absolute().parent))
        try:
            self.found.started_us = to_us(datetime.fromisoformat(started).astimezone())
        except (ValueError, OverflowError, OSError):
            self.found.bad += 1
        self._lines: list[str] = []

    def take(self, line: str, *, damaged: bool) -> None:
        """Take a line in."""
        self.found.bad += damaged
        self._lines.append(line)

    def end(self) -> Iterator[Conversation]:
        """Yield the chat, if anything was said in it."""
        found = self.found
        strict = any(line.startswith(("> ", "#### ")) and line.endswith("  \n") for line in self._lines)
        role = ""
        block: list[str] = []
        for line in self._lines:
            now, said = _part(line, strict)
            now = now or "assistant"
            if now != role:
                self._add(role, block)
                role, block = now, []
            block.append(said)
        self._add(role, block)
        asked = next((item.content for item in found.items if item.role == "user"), "")
        if any(item.role in {"user", "assistant"} or item.kind == "command" for item in found.items):
            found.id = f"{found.id}-{hashlib.blake2b(asked.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"
            yield found.settle()

    def _add(self, role: str, block: list[str]) -> None:
        content = "\n".join(line.rstrip() if role != "assistant" else line for line in block).strip("\n")
        if not content.strip():
            return
        if role == "tool":
            self._said_by_tool(content)
        elif role == "user" and content.startswith("/") and not content.startswith(ASKING):
            self.found.add(Item("", content, "command"))
        else:
            self.found.add(Item(role, content, model=self.found.model if role == "assistant" else ""))

    def _said_by_tool(self, content: str) -> None:
        found = self.found
        rest = []
        for line in content.splitlines():
            model = MODEL.match(line)
            if model is not None:
                found.model = model.group(1)
            tokens = TOKENS.match(line)
            if tokens is None or not found.items or found.items[-1].role != "assistant":
                rest.append(line)
                continue
            last = found.items[-1]
            last.tokens_in, last.tokens_out = _number(*tokens.group(1, 2)), _number(*tokens.group(3, 4))
            last.cost = float(tokens.group(5) or 0) if (tokens.group(5) or "0").count(".") <= 1 else 0.0
        if not found.items:
            found.more["opening"] = "\n".join(rest)[:4000]
        elif rest:
            found.add(Item("tool", "\n".join(rest)))


def _part(line: str, strict: bool) -> tuple[str, str]:
    """Return whose a line is ("" where it may be anybody's), and what it says."""
    own = line.endswith("  \n") or not strict
    said = line.rstrip("\n")
    if said.startswith("> ") and own:
        return "tool", said[2:]
    if (said.startswith("#### ") or said.rstrip() == "####") and own:
        return "user", said[5:]
    return "assistant" if said.strip() else "", said


def _number(digits: str, unit: str | None) -> int:
    try:
        return int(float(digits.replace(",", "")) * {"k": 1000, "M": 1_000_000}.get(unit or "", 1))
    except (ValueError, OverflowError):
        return 0
