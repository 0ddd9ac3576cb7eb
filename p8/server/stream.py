"""The live stream: every event in order, once, from any cursor on, each client at its own pace.

One thread looks for what is new and wakes the clients; each client reads on from where it is: from what is still in
memory, or, where it fell behind, from the store. So a client that reads slowly keeps nothing waiting and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import deque
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

from p8.errors import P8Error, StoreError
from p8.server.events import BATCH, Told, events_after, newest
from p8.server.guard import PROTOCOL
from p8.server.problems import dumps, of_error, problem
from p8.server.shapes import CURSOR, ID

if TYPE_CHECKING:
    from p8.app import App

POLL_S = 0.02
KEPT = 4096  #: newest events in memory
KEPT_BYTES = 16 << 20
AT_ONCE = 100  #: events in one message
PATIENCE_S = 30.0  #: a client that takes nothing for so long is let go
QUIET_S = 15.0  #: after which a client is told where it is, though nothing happened


class Hub:
    """
    Hands events to clients.

    Args:
        app: whose.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._clients = 0
        self._kept: deque[tuple[Told, bytes]] = deque()
        self._numbers: dict[str, int] = {}  # cursor -> how many events came before the one behind it
        self._count = 0  # events ever seen
        self._bytes = 0
        self._head = ""
        self._news: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Stop looking."""
        self._closed = True
        self._wanted.set()

    # looking

    def _look(self) -> None:
        pause = threading.Event()
        while not self._closed:
            self._wanted.wait()
            try:
                if not self._head:
                    self._head = newest(self._app)
                found = events_after(self._app, self._head)
            except P8Error:
                found = []
                pause.wait(0.2)
            if found and self._loop is not None:
                self._head = found[-1].cursor
                lines = [(one, dumps(one.data)) for one in found]
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._keep, lines)
            if len(found) < BATCH:
                pause.wait(POLL_S)

    def _keep(self, lines: list[tuple[Told, bytes]]) -> None:
        for line in lines:
            self._kept.append(line)
            self._count += 1
            self._numbers[line[0].cursor] = self._count
            self._bytes += len(line[1])
        while len(self._kept) > KEPT or (self._bytes > KEPT_BYTES and len(self._kept) > 1):
            gone = self._kept.popleft()
            self._numbers.pop(gone[0].cursor, None)
            self._bytes -= len(gone[1])
        if self._news is not None:
            self._news.set()
            self._news = asyncio.Event()

    # clients

    async def serve(self, socket: WebSocket) -> None:
        """Serve one client until it leaves."""
        query = dict(socket.query_params)
        session, after = query.pop("session", ""), query.pop("after", "")
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(PROTOCOL if PROTOCOL in offered else None)
        fits = re.fullmatch(CURSOR, after) or after in {"", "start", "now"}
        if query or not fits or (session and not re.fullmatch(ID, session)):
            said = problem(422, "the query is after=CURSOR&session=ID", "both may be left out")
            await _leave(socket, said)
            return
        self._loop = asyncio.get_running_loop()
        self._news = self._news or asyncio.Event()
        self._clients += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="p8-stream", daemon=True)
            self._thread.start()
        self._wanted.set()
        tasks: list[asyncio.Task[None]] = []
        try:
            loop = self._loop
            start = after if re.fullmatch(CURSOR, after) else "0.0"
            cursor = start if after not in {"", "now"} else await loop.run_in_executor(None, newest, self._app)
            tasks = [asyncio.create_task(self._feed(socket, cursor, session)), asyncio.create_task(_listen(socket))]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            pass  # it left, or takes nothing
        except P8Error as error:
            await _leave(socket, of_error(error))
        finally:
            for task in tasks:
                task.cancel()
            self._clients -= 1
            if not self._clients:
                self._wanted.clear()

    async def _feed(self, socket: WebSocket, cursor: str, session: str) -> None:
        """Send what comes after a cursor, and go on."""
        assert self._loop is not None
        await self._send(socket, [], cursor)
        while True:
            news = self._news
            number = self._numbers.get(cursor)
            if number is not None:
                behind = self._count - number
                first = len(self._kept) - behind
                some = [self._kept[at] for at in range(first, min(first + AT_ONCE, len(self._kept)))]
            elif cursor == self._head and not self._kept:
                some = []
            else:
                try:
                    found = await self._loop.run_in_executor(None, events_after, self._app, cursor, AT_ONCE)
                except StoreError:
                    await asyncio.sleep(0.5)
                    continue
                some = [(one, dumps(one.data)) for one in found]
            if some:
                cursor = some[-1][0].cursor
                lines = [line for one, line in some if not session or session in one.about]
                await self._send(socket, lines, cursor)
                continue
            assert news is not None
            try:
                await asyncio.wait_for(news.wait(), QUIET_S)
            except TimeoutError:
                await self._send(socket, [], cursor)

    async def _send(self, socket: WebSocket, lines: list[bytes], cursor: str) -> None:
        text = b'{"cursor":' + dumps(cursor) + b',"events":[' + b",".join(lines) + b"]}"
        await asyncio.wait_for(socket.send_text(text.decode()), PATIENCE_S)


async def _listen(socket: WebSocket) -> None:
    """Take what the client sends, which is nothing that matters, until it leaves."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return


async def _leave(socket: WebSocket, said: dict[str, object]) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.send_text(dumps({"problem": said}).decode())
        await socket.close(4000 + int(str(said["status"])), str(said["detail"])[:100])
