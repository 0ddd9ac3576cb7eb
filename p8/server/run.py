"""`p8 serve`: the sockets, the server process on them, and the supervisor that starts it again when it dies.

The supervisor has all code loaded and holds the sockets, and opens nothing else: the process it forks is at work in a
moment, and who connects in between waits instead of being turned away. Only this machine is listened to.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import http.client
import json
import logging
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from p8.errors import ConfigError, Conflict, NotFound
from p8.server.keys import Keys, folder_of, token_of

if TYPE_CHECKING:
    from p8.config import Config

CONNECTIONS = 512
HEAD_BYTES = 32_768  #: of a request's line and headers
HEAD_S = 10.0  #: in which they must have come
PAUSES_S = (0.0, 0.1, 0.5, 2.0, 5.0)  #: before it is started again, the more often it dies before it serves


class Protocol(HttpToolsProtocol):
    """HTTP that does not wait for ever, and not for everybody."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, where there is room."""
        super().connection_made(transport)
        self._head = 0
        self._late = self.loop.call_later(HEAD_S, transport.abort)
        if len(self.connections) > CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._head >= 0:
            self._head += len(data)
        super().data_received(data)
        if self._head > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request: the next one of this connection has as long as the first."""
        super().on_message_begin()
        self._late.cancel()
        self._head = 0
        self._late = self.loop.call_later(HEAD_S, self.transport.abort)

    def on_headers_complete(self) -> None:
        """Hand the request over."""
        self._late.cancel()
        too_long = sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > HEAD_BYTES
        self._head = -1
        if too_long:
            self.transport.abort()
            return
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        self._late.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """A server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave them."""
        yield


class Place(NamedTuple):
    """What is served, and where."""

    config: Config
    directory: Path
    keys: Keys
    sockets: list[socket.socket]
    watch: bool  #: look after instances too


def serve(config: Config, directory: Path, port: int | None, link: bool, supervise: bool, watch: bool) -> int:
    """
    Serve until told to stop; return the process status.

    Raises:
        Conflict: this home is served already, or the port is taken.
        NotFound: with `link`, nothing is serving.
        ConfigError: the folder of the token is not as it must be.
    """
    folder = folder_of(config.home)
    if link:
        return print_link(folder)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict("this home is served already", "p8 serve --link prints a login link of that server") from error
    sockets = listening(folder, port)
    place = Place(config, directory, Keys(token_of(folder)), sockets, watch)
    told(folder, sockets)
    try:
        return supervised(place) if supervise else work(place)
    finally:
        (folder / "p8.sock").unlink(missing_ok=True)
        os.close(lock)


def listening(folder: Path, port: int | None) -> list[socket.socket]:
    """Return the sockets: in the home, and on the loopback where a port is named. Raises Conflict, ConfigError."""
    path = folder / "p8.sock"
    path.unlink(missing_ok=True)
    inside = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        inside.bind(str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error}", "a shorter P8_HOME may help") from error
    finally:
        os.umask(mask)
    inside.listen(256)
    if port is None:
        return [inside]
    # The protocol is named so that asyncio sends each write at once.
    outside = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    outside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        outside.bind(("127.0.0.1", port))
    except OSError as error:
        raise Conflict(f"port {port}: {error.strerror}", "name another one, or 0 for any") from error
    outside.listen(256)
    return [inside, outside]


def port_of(sockets: list[socket.socket]) -> int | None:
    """Return the port that is listened to."""
    return next((int(one.getsockname()[1]) for one in sockets if one.family == socket.AF_INET), None)


def url_of(port: int | None, code: str) -> str:
    """Return where a browser logs in. What stands behind the # is not sent, so it is in no log."""
    return f"http://127.0.0.1:{port}/#{code}" if port else ""


def told(folder: Path, sockets: list[socket.socket]) -> None:
    """Say where."""
    port = port_of(sockets)
    print(f"P8 is served at {folder / 'p8.sock'}" + (f" and http://127.0.0.1:{port}/" if port else ""))
    print(f"  the token is in {folder / 'token'}", flush=True)


def print_link(folder: Path) -> int:
    """Ask the server that is running for a login link."""

    class Inside(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(10.0)
            self.sock.connect(str(folder / "p8.sock"))

    try:
        asked = Inside("localhost")
        head = {"authorization": f"Bearer {token_of(folder)}", "content-type": "application/json"}
        asked.request("POST", "/api/v1/links", "{}", head)
        url = json.loads(asked.getresponse().read()).get("url", "")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotFound("nothing is served here", "p8 serve --port 8008") from error
    if not url:
        raise NotFound("it is served without a port, so no browser gets there", "p8 serve --port 8008")
    print(url)
    return 0


def supervised(place: Place) -> int:
    """Run the server in a process of its own, again and again until it ends well or we are told to stop."""
    from p8.server import web  # noqa: F401 loaded before the fork, so that the next start takes no time

    stopped: list[int] = []
    child = 0

    def stop(number: int, _frame: object) -> None:
        stopped.append(number)
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    deaths, first = 0, True
    while True:
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os._exit(_guarded(place, theirs.detach(), first))
        theirs.close()
        first = False
        if stopped:
            stop(stopped[-1], None)
        status = os.waitstatus_to_exitcode(_wait(child))
        served = bool(ours.recv(1))
        ours.close()
        if stopped or status == 0:
            return 0 if stopped else status
        deaths = 0 if served else deaths + 1
        pause = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
        said = f"signal {-status}" if status < 0 else f"status {status}"
        print(f"p8: the server ended with {said}; it is started again", file=sys.stderr, flush=True)
        select.select([], [], [], pause)
        if stopped:
            return 0


def _wait(child: int) -> int:
    while True:
        with contextlib.suppress(InterruptedError):
            return os.waitpid(child, 0)[1]


def _guarded(*how: Any) -> int:
    try:
        return work(*how)
    except BaseException:
        logging.getLogger("p8.server").exception("the server failed")
        return 1


def work(place: Place, parent: int = -1, first: bool = True) -> int:
    """Serve on the sockets until told to stop, or until the supervisor (the socket `parent`) is gone."""
    from p8.app import make_app
    from p8.core.supervisor import Standby
    from p8.server.web import Web

    app = make_app(place.config, place.directory)
    standby = Standby(lambda: app.instances, lambda: bool(app.store.instances.all()), "serve")
    try:
        app.store.start()
        app.store.drain()
        port = port_of(place.sockets)
        web = Web(app, place.keys, where=lambda code: url_of(port, code))
        gc.collect()
        gc.freeze()  # what is here stays; walking it again and again would hold everybody up for a tenth of a second
        if first and port:
            print(f"  log in, once, within ten minutes: {url_of(port, place.keys.link())}", flush=True)
        if place.watch:
            standby.begin()
        asyncio.run(_serving(web.asgi, place.sockets, parent))
        web.close()
    finally:
        if place.watch:
            standby.end()
        app.close()
    return 0


async def _serving(asgi: Any, sockets: list[socket.socket], parent: int) -> None:
    settings = uvicorn.Config(
        asgi, loop="asyncio", http=Protocol, ws="websockets-sansio", ws_max_size=65_536, ws_max_queue=4,
        ws_per_message_deflate=False, lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, timeout_keep_alive=15, timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = Server(settings)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    def gone() -> None:
        loop.remove_reader(parent)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    if parent >= 0:
        os.write(parent, b"1")
        loop.add_reader(parent, gone)
    await server.serve(sockets=sockets)
