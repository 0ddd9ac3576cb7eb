"""For P8's own tests and for authors of plugins: an assistant that says what it is told to, and an app in a folder."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.assistants.base import Assistant, Cancel, Chunk, ChunkKind
from p8.errors import P8Error

if TYPE_CHECKING:
    from p8.app import App


class FakeAssistant:
    """
    Answers from a script, one item a turn, the last one again and again.

    Args:
        script: texts (streamed word by word), sequences of chunks, or exceptions to raise. Default: echoes.
        delay_s: pause before each piece.
        hang_after: stop answering after so many pieces, without looking at `cancel`.
        name: what it is called.

    Attributes:
        asked: the conversations it was given.
    """

    def __init__(
        self,
        *script: str | Sequence[Chunk] | Exception,
        delay_s: float = 0.0,
        hang_after: int | None = None,
        name: str = "fake",
    ) -> None:
        self.name = name
        self.asked: list[list[dict[str, Any]]] = []
        self.closed = False
        self._script = script
        self._delay_s = delay_s
        self._hang_after = hang_after

    def stream(self, conversation: Sequence[dict[str, Any]], cancel: Cancel) -> Iterator[Chunk]:
        """Answer with the next item of the script."""
        self.asked.append(list(conversation))
        item = self._script[min(len(self.asked), len(self._script)) - 1] if self._script else _echo(conversation)
        if isinstance(item, Exception):
            raise item
        pieces = _words(item) if isinstance(item, str) else item
        for number, piece in enumerate(pieces):
            if self._hang_after is not None and number >= self._hang_after:
                time.sleep(3600)
            if self._delay_s:
                time.sleep(self._delay_s)
            if cancel.is_set():
                return
            yield piece

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def _echo(conversation: Sequence[dict[str, Any]]) -> str:
    return f"You said: {conversation[-1]['content']}" if conversation else "Nobody said anything."


def _words(text: str) -> list[Chunk]:
    words = [Chunk(ChunkKind.TEXT, word) for word in text.splitlines(keepends=True)] if "\n" in text else []
    words = words or [Chunk(ChunkKind.TEXT, w + " ") for w in text.split(" ")]
    usage = Chunk(ChunkKind.USAGE, data={"tokens_in": 10, "tokens_out": len(text.split())})
    return [*words, usage]


def fixed_clock(start_us: int = 1_795_000_000_000_000, step_us: int = 1000) -> Callable[[], int]:
    """Return a clock that goes on by `step_us` at each look, microseconds since 1970."""
    ticks = itertools.count(start_us, step_us)
    return lambda: next(ticks)


def make_app(home: Path, directory: Path, *assistants: Assistant, **settings: Any) -> App:
    """
    Return a whole P8 in a folder of its own.

    Args:
        home: its home.
        directory: where it stands; a project of its own.
        assistants: models it knows, by their names; the first is the one it uses. One that echoes where none is given.
        settings: fields of `Config`.
    """
    from p8.app import App
    from p8.config import Config

    known = assistants or (FakeAssistant(),)
    config = Config(home=home, **{"model": known[0].name, **settings})
    return App(config, directory, {one.name: _giver(one) for one in known})


def _giver(assistant: Assistant) -> Callable[[], Assistant]:
    return lambda: assistant


__all__ = ["FakeAssistant", "P8Error", "fixed_clock", "make_app"]
