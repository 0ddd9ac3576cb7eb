"""The live stream: every event in order, once, from any cursor on, and answers while they come.

One thread looks for what is new and wakes the clients; each client reads on from where it is: from what is still in
memory, or, where it fell behind, from the store. So a client that reads slowly keeps nothing waiting and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket

from p8.errors import P8Error
from p8.server.client import Client, fits, leave
from p8.server.events import BATCH, Told, events_after, newest
from p8.server.guard import PROTOCOL
from p8.server.problems import dumps, of_error, problem
from p8.server.shapes import CURSOR
from p8.server.talk import Talk

if TYPE_CHECKING:
    from p8.app import App

POLL_S = 0.02
KEPT = 4096  #: newest events in memory
KEPT_BYTES = 16 << 20
AT_ONCE = 100  #: events in one message
LIVE_S = 0.03  #: pieces of an answer that come within so long go out together
LIVE_PARTS = 200_000  #: of one answer are kept; what comes after is told when it is recorded
PROJECTS = 50_000  #: sessions whose projects are remembered


class Live:
    """An answer that is coming."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts: list[dict[str, Any]] = []
        self.over = False


class Hub:
    """
    Hands events to clients.

    Args:
        app: whose.
    """

    def __init__(self, app: App) -> None:
        self.talk = Talk(app, self._live, self._is_heard)
        self._app = app
        self._clients: set[Client] = set()
        self._kept: deque[tuple[Told, bytes]] = deque()
        self._numbers: dict[str, int] = {}  # cursor -> how many events came before the one behind it
        self._count = 0  # events ever seen
        self._bytes = 0
        self._head = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._answers: dict[str, Live] = {}
        self._turns = itertools.count(1)
        self._waking = False
        self._projects: dict[str, str] = {}

    def close(self) -> None:
        """Stop looking and answering."""
        self._closed = True
        self._wanted.set()
        self.talk.close()

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
        for client in self._clients:
            client.wake.set()

    async def read(self, cursor: str) -> list[tuple[Told, bytes]]:
        """Return what comes next after a cursor; nothing where that is all. Raises UsageError, StoreError."""
        number = self._numbers.get(cursor)
        if number is not None:
            first = len(self._kept) - (self._count - number)
            return [self._kept[at] for at in range(first, min(first + AT_ONCE, len(self._kept)))]
        if cursor == self._head and not self._kept:
            return []
        assert self._loop is not None
        found = await self._loop.run_in_executor(None, events_after, self._app, cursor, AT_ONCE)
        return [(one, dumps(one.data)) for one in found]

    def is_in(self, one: Told, project: str) -> bool:
        """Return whether an event is about a project, or one of its sessions."""
        data = one.data["data"]
        values = data.get("set")
        named = {data.get("project"), data.get("about"), values.get("project") if isinstance(values, dict) else ""}
        return project in named or any(self._project_of(session) == project for session in one.about)

    def _project_of(self, session: str) -> str:
        if not session or session.startswith("~"):
            return ""
        known = self._projects.get(session, "")
        if not known:
            with contextlib.suppress(P8Error):
                known = self._app.store.sessions.get(session).project
        if known:  # a session may be given one later
            if len(self._projects) >= PROJECTS:
                self._projects.clear()
            self._projects[session] = known
        return known

    # answers

    def _live(self, session: str, part: dict[str, Any] | None) -> None:
        """Take a piece of an answer, or its end. From any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._take_live, session, part)

    def _take_live(self, session: str, part: dict[str, Any] | None) -> None:
        live = self._answers.get(session)
        if part is None:
            if live is not None:
                live.over = True
        else:
            if live is None or live.over:
                live = self._answers[session] = Live(next(self._turns))
            if len(live.parts) < LIVE_PARTS:
                live.parts.append(part)
        if not self._waking and self._loop is not None:
            self._waking = True
            self._loop.call_later(LIVE_S, self._wake_live)

    def _wake_live(self) -> None:
        self._waking = False
        for client in self._clients:
            if client.session in self._answers:
                client.wake.set()
        heard = {client.session for client in self._clients}
        self._answers = {name: live for name, live in self._answers.items() if not live.over or name in heard}

    def live_of(self, session: str) -> Live | None:
        """Return the answer that is coming, or came last, in a session."""
        return self._answers.get(session)

    def _is_heard(self, session: str) -> bool:
        return any(client.session == session for client in list(self._clients))

    # clients

    async def serve(self, socket: WebSocket) -> None:
        """Serve one client until it leaves."""
        query = dict(socket.query_params)
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(PROTOCOL if PROTOCOL in offered else None)
        if not fits(query):
            hint = "each may be left out; after is a cursor, start or now"
            await leave(socket, problem(422, "the query is after=CURSOR&session=ID&project=ID", hint))
            return
        session, project, after = (query.get(name, "") for name in ("session", "project", "after"))
        self._loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="p8-stream", daemon=True)
            self._thread.start()
        client = Client(self, socket, session, project)
        self._clients.add(client)
        self._wanted.set()
        try:
            start = after if re.fullmatch(CURSOR, after) else "0.0"
            if after in {"", "now"}:
                start = await self._loop.run_in_executor(None, newest, self._app)
            await client.run(start)
        except P8Error as error:
            await leave(socket, of_error(error))
        finally:
            self._clients.discard(client)
            if not self._clients:
                self._wanted.clear()
