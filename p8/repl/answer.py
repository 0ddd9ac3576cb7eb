"""An answer on the screen, from the first moment of waiting to the last word."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from p8.assistants.base import Chunk, ChunkKind
from p8.repl.markdown import Stream
from p8.repl.screen import Screen, escape

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Answer:
    """
    Draws the chunks of one answer; a context manager, so that the screen is left in order however it ends.

    Args:
        screen: where to.

    Attributes:
        tokens: what it cost, in and out, once known.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._stream = Stream(screen)
        self._waiting = threading.Event()
        self._spinner: threading.Thread | None = None
        self._thinking = False
        self.tokens = 0

    def __enter__(self) -> Self:
        if self._screen.color:
            self._spinner = threading.Thread(target=self._spin, daemon=True)
            self._spinner.start()
        return self

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
            return
        self._stop_waiting()
        if chunk.kind is ChunkKind.TEXT:
            if self._thinking:
                self._thinking = False
                self._screen.write("\n")
            self._stream.feed(chunk.text)
        elif chunk.kind is ChunkKind.THOUGHT:
            self._thinking = True
            self._screen.write(self._screen.style(escape(chunk.text), "dim"))
        elif chunk.kind is ChunkKind.NOTICE:
            self._screen.line(chunk.text, "dim")
        elif chunk.kind is ChunkKind.TOOL:
            self._screen.line(f"⚙ {chunk.data.get('title', '')} {chunk.data.get('status', '')}".rstrip(), "dim")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_waiting()
        self._stream.close()
