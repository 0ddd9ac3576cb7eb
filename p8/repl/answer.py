"""An answer on the screen, from the first moment of waiting to the last word, with what an agent does and asks."""

from __future__ import annotations

import difflib
import threading
import time
from types import TracebackType
from typing import Any, Self

from p8.assistants.base import Chunk, ChunkKind, Decision
from p8.repl.markdown import Stream
from p8.repl.screen import Screen, clip, escape

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHOWN_LINES = 24  #: of a change or a command that an agent asks for
MARKS = {"completed": "✓", "in_progress": "▸"}


class Answer:
    """
    Draws the chunks of one answer; a context manager, so that the screen is left in order however it ends.

    Args:
        screen: where to.
        cancel: ends a question that is being asked.

    Attributes:
        tokens: what it cost, in and out, once known.
    """

    def __init__(self, screen: Screen, cancel: threading.Event | None = None) -> None:
        self._screen = screen
        self._cancel = cancel
        self._stream = Stream(screen)
        self._waiting = threading.Event()
        self._spinner: threading.Thread | None = None
        self._thinking = False
        self._tools: dict[str, dict[str, Any]] = {}
        self.tokens = 0

    def __enter__(self) -> Self:
        self._wait()
        return self

    def _wait(self) -> None:
        if self._screen.color and self._spinner is None:
            self._waiting.clear()
            self._spinner = threading.Thread(target=self._spin, daemon=True)
            self._spinner.start()

    def _spin(self) -> None:
        begun = time.monotonic()
        for number in range(10**9):
            if self._waiting.wait(0.1):
                break
            waited = time.monotonic() - begun
            frame = FRAMES[number % len(FRAMES)]
            self._screen.write(f"\r{self._screen.style(f'{frame} {waited:.0f} s', 'dim')}")
        self._screen.write("\r\x1b[K")

    def _stop_waiting(self) -> None:
        if self._spinner is not None:
            self._waiting.set()
            self._spinner.join()
            self._spinner = None

    def take(self, chunk: Chunk) -> None:
        """Draw one chunk."""
        if chunk.kind is ChunkKind.USAGE:
            self.tokens = int(chunk.data.get("tokens_in") or 0) + int(chunk.data.get("tokens_out") or 0)
        elif chunk.kind is ChunkKind.TEXT:
            self._stop_waiting()
            if self._thinking:
                self._thinking = False
                self._screen.write("\n")
            self._stream.feed(chunk.text)
        elif chunk.kind is ChunkKind.THOUGHT:
            if not self._thinking:
                self._settle()
            self._thinking = True
            self._screen.write(self._screen.style(escape(chunk.text), "dim"))
        elif chunk.kind is ChunkKind.NOTICE:
            self._settle()
            self._screen.line(chunk.text, "dim")
        elif chunk.kind is ChunkKind.TOOL:
            self._tool(chunk.data)
        elif chunk.kind is ChunkKind.PLAN:
            self._settle()
            for entry in chunk.data.get("entries", ()):
                line = f"{MARKS.get(entry.get('status'), '·')} {entry.get('content', '')}"
                self._screen.line(escape(line, lines=False), "dim")
            self._wait()
        elif chunk.kind is ChunkKind.PERMISSION:
            self._answered(chunk.data)

    def _settle(self) -> None:
        """Finish what was being written, so that a line of another kind can follow."""
        self._stop_waiting()
        self._stream.close()
        self._stream = Stream(self._screen)
        if self._thinking:
            self._thinking = False
            self._screen.write("\n")

    def _tool(self, data: dict[str, Any]) -> None:
        """Draw a tool call when it is known what it is about, and again when it has failed."""
        tool = self._tools.setdefault(str(data.get("id", "")), {})
        tool.update(data)
        title = escape(str(tool.get("title", "")), lines=False)
        known = tool.get("status") != "pending" or any(tool.get(key) for key in ("input", "content", "locations"))
        if title and known and tool.get("drawn") != title:
            tool["drawn"] = title
            self._settle()
            self._screen.line(clip(f"⚙ {title}", self._screen.width - 1), "dim")
            self._wait()
        if tool.get("status") == "failed" and not tool.get("told"):
            tool["told"] = True
            self._settle()
            why = next((part["text"] for part in tool.get("content", ()) if part.get("text")), "")
            line = escape(f"✗ {title} failed {why}".strip(), lines=False)
            self._screen.line(clip(line, self._screen.width - 1), "bad")
            self._wait()

    # questions

    def ask(self, question: dict[str, Any]) -> Decision:
        """Ask the person whether an agent may do something (see `core/permissions.py`)."""
        from p8.repl.chooser import choose

        self._settle()
        for line, style in preview(question):
            self._screen.line(clip(escape(line.expandtabs(4)), self._screen.width - 1), style)
        scope = str(question.get("scope", ""))
        offered = {
            Decision.ONCE: ("Yes, this once", ""),
            Decision.ALWAYS: ("Yes, always in this session", f"Without asking again: {scope}"),
            Decision.NO: ("No", "It is told so, and goes on without."),
            Decision.NEVER: ("Never in this session", f"Without asking again: {scope}"),
        }
        options = [(str(d), *words) for d, words in offered.items() if str(d) in question.get("choices", ())]
        options.append((str(Decision.CANCEL), "Stop the answer", "What came is kept."))
        title = escape(f"May it? {question.get('title') or scope}", lines=False)
        said = choose(clip(title, self._screen.width - 2), options, self._screen, self._cancel)
        self._wait()
        return Decision(said) if said else Decision.CANCEL

    def _answered(self, data: dict[str, Any]) -> None:
        decision, by = data.get("answer", ""), data.get("by", "")
        mark = "✓ allowed" if decision in {Decision.ONCE, Decision.ALWAYS} else "✗ refused"
        if decision == Decision.CANCEL:
            return
        self._settle()
        how = {"person": "", "session": " (as said before)", "setting": " (by setting)", "nobody": " (nobody to ask)"}
        more = f": always, {data.get('scope')}" if decision == Decision.ALWAYS and by == "person" else ""
        self._screen.line(escape(f"{mark}{how.get(by, '')}{more}", lines=False), "dim")
        self._wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_waiting()
        self._stream.close()


def preview(question: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what an agent asks for as (line, style): the command, or what a file would become."""
    lines: list[tuple[str, str]] = []
    given = question.get("input")
    if isinstance(given, dict) and given.get("command"):
        command = given["command"]
        text = " ".join(map(str, command)) if isinstance(command, list) else str(command)
        lines += [(f"$ {line}", "accent") for line in text.splitlines()]
    for part in question.get("content", ()):
        if "new" in part:
            old, new = str(part.get("old") or "").splitlines(), str(part["new"]).splitlines()
            styles = {"+": "good", "-": "bad"}
            changes = list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]
            lines.append((str(part.get("path", "")), "title"))
            lines += [(line, styles.get(line[:1], "dim")) for line in changes]
        elif part.get("text"):
            lines += [(line, "dim") for line in str(part["text"]).splitlines()]
    if len(lines) > SHOWN_LINES:
        lines = [*lines[:SHOWN_LINES], (f"… {len(lines) - SHOWN_LINES} more lines", "dim")]
    return lines
