"""One client of the live stream: sends it what it asked for at its own pace, takes what it says in a session.

Everything goes out through one task, which waits for the client to take it, so that one who reads slowly costs nobody
else anything; one who takes nothing for long, or says too much at a time, is let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from p8.errors import P8Error, StoreError
from p8.server import shapes
from p8.server.problems import dumps, of_error, problem
from p8.server.talk import Saying

if TYPE_CHECKING:
    from p8.server.events import Told
    from p8.server.stream import Live
    from p8.server.talk import Talk

PATIENCE_S = 30.0  #: a client that takes nothing for so long is let go
QUIET_S = 15.0  #: after which a client is told where it is, though nothing happened
UNTAKEN = 200  #: replies that a client leaves waiting
SPOKEN: TypeAdapter[shapes.Say | shapes.Stop | shapes.Answered] = TypeAdapter(
    shapes.Say | shapes.Stop | shapes.Answered
)


class Source(Protocol):
    """Where events come from."""

    talk: Talk

    async def read(self, cursor: str) -> list[tuple[Told, bytes]]:
        """Return what comes next after a cursor; nothing where that is all."""

    def live_of(self, session: str) -> Live | None:
        """Return the answer that is coming in a session."""

    def is_in(self, one: Told, project: str) -> bool:
        """Return whether an event is about a project, or one of its sessions."""


class Client:
    """
    A client.

    Args:
        source: where events come from.
        socket: where they go.
        session: only of this one; "" for all.
        project: only of this one and its sessions; "" for all.

    Attributes:
        wake: set when there may be something new.
    """

    def __init__(self, source: Source, socket: WebSocket, session: str, project: str) -> None:
        self.session = session
        self.wake = asyncio.Event()
        self._source = source
        self._socket = socket
        self._project = project
        self._loop = asyncio.get_running_loop()
        self._out: deque[dict[str, Any]] = deque()
        self._seen: tuple[Any, int] = (None, 0)  # of which answer, how many pieces

    async def run(self, cursor: str) -> None:
        """Serve it until it leaves."""
        tasks = [asyncio.create_task(self._feed(cursor)), asyncio.create_task(self._listen())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            pass  # it left, or takes nothing
        except P8Error as error:
            await leave(self._socket, of_error(error))
        finally:
            for task in tasks:
                task.cancel()

    # out

    async def _feed(self, cursor: str) -> None:
        await self._events([], cursor)
        while True:
            self.wake.clear()
            while self._out:
                await self._send(dumps(self._out.popleft()))
            await self._live()
            try:
                some = await self._source.read(cursor)
            except StoreError:
                await asyncio.sleep(0.5)
                continue
            if some:
                cursor = some[-1][0].cursor
                wanted = await asyncio.to_thread(self._wanted, some) if self._project else self._wanted(some)
                await self._events(wanted, cursor)
                continue
            try:
                await asyncio.wait_for(self.wake.wait(), QUIET_S)
            except TimeoutError:
                await self._events([], cursor)

    def _wanted(self, some: list[tuple[Told, bytes]]) -> list[bytes]:
        found = [(one, line) for one, line in some if not self.session or self.session in one.about]
        return [line for one, line in found if not self._project or self._source.is_in(one, self._project)]

    async def _live(self) -> None:
        """Send the pieces of the answer that is coming."""
        live = self._source.live_of(self.session) if self.session else None
        if live is None:
            return
        if self._seen[0] is not live:
            if live.over:
                return
            self._seen = live, 0
        elif self._seen[1] < 0:
            return
        some, over = live.parts[self._seen[1] :], live.over
        if some or over:
            self._seen = live, -1 if over else self._seen[1] + len(some)
            said = {"session": self.session, "turn": live.number, "parts": joined(some), "over": over}
            await self._send(dumps({"live": said}))

    async def _events(self, lines: list[bytes], cursor: str) -> None:
        await self._send(b'{"cursor":' + dumps(cursor) + b',"events":[' + b",".join(lines) + b"]}")

    async def _send(self, text: bytes) -> None:
        await asyncio.wait_for(self._socket.send_text(text.decode()), PATIENCE_S)

    def tell(self, said: dict[str, Any]) -> None:
        """Send it something besides events. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._put, said)

    def _put(self, said: dict[str, Any]) -> None:
        self._out.append(said)
        self.wake.set()

    # in

    async def _listen(self) -> None:
        """Take what it says until it leaves."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if len(self._out) > UNTAKEN:
                raise TimeoutError
            said = message.get("text")
            try:
                self._take(orjson.loads(said if said is not None else message.get("bytes") or b""))
            except (orjson.JSONDecodeError, ValidationError):
                self._put({"refused": problem(400, "it has not the shape of a message", "say, stop or answer")})

    def _take(self, data: Any) -> None:
        given = SPOKEN.validate_python(data)
        talk = self._source.talk
        if not self.session:
            hint = "connect with ?session=ID"
            self._put({"refused": problem(422, "this stream is of no session", hint)})
        elif isinstance(given, shapes.Say):
            talk.say(Saying(self.session, given.say, given.id, given.take_over, self.tell))
        elif isinstance(given, shapes.Stop):
            talk.stop(self.session)
        else:
            talk.answer(self.session, given.question, given.answer)


def joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return pieces of an answer with neighbours of one kind of text put together."""
    found: list[dict[str, Any]] = []
    for part in parts:
        if found and "text" in part and found[-1]["kind"] == part["kind"]:
            found[-1] = {**part, "text": found[-1]["text"] + part["text"]}
        else:
            found.append(part)
    return found


async def leave(socket: WebSocket, said: dict[str, object]) -> None:
    """Tell what is wrong, and end."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(dumps({"problem": said}).decode())
        await socket.close(4000 + int(str(said["status"])), str(said["detail"])[:100])


def fits(query: dict[str, str]) -> bool:
    """Return whether a question is one: after, session, project, and nothing else."""
    after, session, project = (query.get(name, "") for name in ("after", "session", "project"))
    return (
        query.keys() <= {"after", "session", "project"}
        and bool(re.fullmatch(shapes.CURSOR, after) or after in {"", "start", "now"})
        and bool(not session or re.fullmatch(shapes.ID, session))
        and bool(not project or re.fullmatch(shapes.NAME, project))
    )
