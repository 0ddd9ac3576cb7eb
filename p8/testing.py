"""For P8's own tests and for authors of plugins: an assistant that says what it is told to, an engine, an app."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.assistants.base import Assistant, Cancel, Chunk, ChunkKind
from p8.containers.base import (
    INSTALLATION,
    Channel,
    Container,
    ContainerSpec,
    Engine,
    EngineDown,
    Event,
    Gone,
    ImageMissing,
    PortTaken,
    Sample,
    State,
)
from p8.errors import ContainerError, P8Error
from p8.model import now_us

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


class FakeRuntime:
    """
    An engine in memory, for tests of what decides and records; whether a real engine does as told is tested with one.

    Attributes:
        containers: what there is, by id; a test may change or remove them as if somebody had.
        images: names it has.
        taken: ports of the host that a start finds taken.
        down: when set, everything raises EngineDown with this text.
        refuses: when set, every start raises ContainerError with this text.
        specs: what was started, in order.
        acts: (verb, container's name) in order.
    """

    def __init__(self, installation: str = "a" * 24, images: Sequence[str] = ("p8-session:base",)) -> None:
        self.installation = installation
        self.endpoint = "memory"
        self.containers: dict[str, Container] = {}
        self.images = set(images)
        self.taken: set[int] = set()
        self.down = ""
        self.refuses = ""
        self.specs: list[ContainerSpec] = []
        self.acts: list[tuple[str, str]] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def _up(self) -> None:
        if self.down:
            raise EngineDown(self.down, "")

    is_local = True

    def engine(self) -> Engine:
        """Say what it is."""
        self._up()
        return Engine("fake://", "1", "1.41", True, 4, 8 << 30, True)

    def has_image(self, name: str) -> str:
        """Return an id for a name it has."""
        self._up()
        return f"sha256:{name}" if name in self.images else ""

    def start(self, spec: ContainerSpec) -> Container:
        """Keep a running container."""
        self._up()
        with self._lock:
            if spec.image not in self.images:
                raise ImageMissing(f"no image {spec.image}", "")
            if self.refuses:
                raise ContainerError(self.refuses, "")
            if any(outside in self.taken for _, outside in spec.ports):
                raise PortTaken("a port is taken", "")
            number, now = next(self._numbers), now_us()
            self.specs.append(spec)
            made = Container(
                f"{number:064x}", spec.name, State.RUNNING, spec.image,
                {**spec.labels, INSTALLATION: self.installation}, now, now, 0, "", False, spec.ports,
                1000 + number, "",
            )  # fmt: skip
            self.containers[made.id] = made
            return made

    def list(self) -> list[Container]:
        """Return this installation's."""
        self._up()
        return [one for one in self.containers.values() if one.labels.get(INSTALLATION) == self.installation]

    def inspect(self, container_id: str) -> Container | None:
        """Return one."""
        self._up()
        found = self.containers.get(container_id)
        return found if found is not None and found.labels.get(INSTALLATION) == self.installation else None

    def act(self, container_id: str, verb: str, grace_s: float = 10.0) -> None:
        """Change its state as the verb says."""
        found = self.inspect(container_id)
        if found is None:
            if verb in {"remove", "stop", "kill"}:
                return
            raise Gone(f"no container {container_id}", "")
        self.acts.append((verb, found.name))
        if verb == "remove":
            del self.containers[container_id]
            return
        states = {"stop": State.EXITED, "kill": State.EXITED, "pause": State.PAUSED}
        self.containers[container_id] = found._replace(state=states.get(verb, State.RUNNING), started_us=now_us())

    def open(self, container_id: str, command: Sequence[str], **_more: Any) -> Channel:
        """Refuse: nothing runs here."""
        raise ContainerError("a fake engine runs nothing", "")

    def logs(self, container_id: str, tail: int | None, follow: bool, timestamps: bool = False) -> Iterator[bytes]:
        """Return one line."""
        yield b"a line\n"

    def samples(self, container_id: str) -> Iterator[Sample]:
        """Return none."""
        return iter(())

    def events(self, since_us: int) -> Iterator[Event]:
        """Return none."""
        self._up()
        return iter(())

    def connection(self) -> Any:
        """Refuse: there is no such engine to move files to."""
        raise EngineDown("a fake engine has no files", "")

    def remove_volume(self, name: str) -> None:
        """Note it."""
        self._up()
        self.acts.append(("remove volume", name))

    def close(self) -> None:
        """Nothing to let go of."""


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


__all__ = ["FakeAssistant", "FakeRuntime", "P8Error", "fixed_clock", "make_app"]
