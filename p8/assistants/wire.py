"""An agent's process and the JSON-RPC connection to it, on an event loop thread of their own.

The SDK of the Agent Client Protocol is async and P8's assistants are not: this is where the two meet. Knows nothing of
conversations. What an agent prints that is no message is skipped and kept for the error line, as is its stderr; nothing
of either reaches the terminal. Refuses: to leave a process behind.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p8.assistants.base import Cancel
from p8.assistants.protocol import Json
from p8.errors import AssistantError

LINE_BYTES = 64 << 20  #: a longer line is no message
STDERR_LINES = 40
NOISE_LINES = 50  #: so many lines that are no messages, before the first that is one: it speaks something else
LEAVE_S = 0.5  #: how long an agent may take to leave by itself at the end of its input
EXIT_S = 1.0  #: and after SIGTERM
POLL_S = 0.05
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
TELLING = re.compile(r"error|fail|denied|not found|invalid|cannot", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Launch:
    """How an agent is started: on the host, or through a command that runs it elsewhere."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  #: the whole environment; nothing is added
    cwd: str = ""  #: where the agent works, as the agent sees it
    outside: bool = False  #: `cwd` is a path in a container: the process itself is started in /
    secrets: tuple[str, ...] = field(default=(), repr=False)  #: values never to be shown
    note: str = ""  #: what the person is told when it is started

    def inside(self, prefix: Sequence[str], cwd: str, names: Sequence[str], flag: str = "-e") -> Launch:
        """
        Return this launch run in a container.

        Args:
            prefix: runs words in the container and ends with the container's name: `docker exec -i NAME`.
            cwd: the project's path in the container.
            names: variables of `env` to be passed on.
            flag: names one, before the container's name, so that no value stands in a command line.
        """
        passed = [word for name in names if name in self.env for word in (flag, name)]
        return Launch((*prefix[:-1], *passed, prefix[-1], *self.argv), self.env, cwd, True, self.secrets)


class Refused(Exception):
    """The agent answered a request with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Cancelled(Exception):
    """The person stopped waiting."""


class Wire:
    """
    One agent process, started when this is made.

    Args:
        name: of the agent, for error lines.
        launch: how it is started.
        heard: told of each notification (method, params), on the loop's thread; must not block.
        asked: told of each request of the agent's (method, params, answer), on the loop's thread; must not block, and
            calls `answer` with the result, or with None for a method it does not know, once, from any thread.

    Raises:
        AssistantError: the program is missing or cannot be run.
    """

    def __init__(
        self,
        name: str,
        launch: Launch,
        heard: Callable[[str, Json], None],
        asked: Callable[[str, Json, Callable[[Json | None], None]], None],
    ) -> None:
        self._name = name
        self._launch = launch
        self._heard = heard
        self._asked = asked
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._lines: _Lines | None = None
        self._connection: Any = None
        self._closing = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"p8-agent-{name}", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except (OSError, ValueError) as error:
            self.close()
            raise self._unstartable(error) from error

    def _unstartable(self, error: Exception) -> AssistantError:
        program = self._launch.argv[0]
        if isinstance(error, FileNotFoundError):
            missing = error.filename if error.filename and error.filename != program else ""
            what = f"no directory {missing}" if missing else f"there is no program {program}"
            return AssistantError(
                f"{self._name} cannot be started: {what}", f"/agent show {self._name} says what it needs"
            )
        reason = getattr(error, "strerror", None) or str(error)
        return AssistantError(f"{self._name} cannot be started: {program}: {reason}", f"/agent show {self._name}")

    # the loop's thread

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _start(self) -> None:
        from acp.connection import Connection

        launch = self._launch
        # What create_subprocess_exec does; but what is made here has to be closed here, before the loop is.
        self._transport, protocol = await self._loop.subprocess_exec(
            lambda: asyncio.subprocess.SubprocessStreamProtocol(1 << 20, self._loop), *launch.argv,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=dict(launch.env), cwd="/" if launch.outside else launch.cwd or None, start_new_session=True,
        )  # fmt: skip
        self._process = asyncio.subprocess.Process(self._transport, protocol, self._loop)
        self._lines = _Lines(self._process)
        self._reader = asyncio.ensure_future(self._read_stderr(self._process))
        self._connection = Connection(self._handle, self._lines)

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        rest = b""
        while block := await process.stderr.read(1 << 16):
            *lines, rest = (rest + block).split(b"\n")
            self._stderr.extend(clean(line) for line in lines if line.strip())
            rest = rest[-4096:]
        if rest.strip():
            self._stderr.append(clean(rest))

    async def _handle(self, method: str, params: Any, is_notification: bool) -> Any:
        from acp.exceptions import RequestError

        params = params if isinstance(params, dict) else {}
        if is_notification:
            self._heard(method, params)
            return None
        future: asyncio.Future[Json | None] = self._loop.create_future()

        def answer(result: Json | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(result))

        self._asked(method, params, answer)
        result = await future
        if result is None:
            raise RequestError.method_not_found(method)
        return result

    # any thread

    @property
    def alive(self) -> bool:
        """Return whether there is somebody at the other end."""
        return not self._closed and self._process is not None and self._process.returncode is None and self._open()

    def _open(self) -> bool:
        return self._lines is not None and not self._lines.ended

    def submit(self, method: str, params: Json) -> concurrent.futures.Future[Any]:
        """Send a request; `outcome` makes of the future what it became."""
        if not self.alive:
            failed: concurrent.futures.Future[Any] = concurrent.futures.Future()
            failed.set_exception(ConnectionError())
            return failed
        return asyncio.run_coroutine_threadsafe(self._connection.send_request(method, params), self._loop)

    def outcome(self, future: concurrent.futures.Future[Any]) -> Json:
        """
        Return a finished request's result.

        Raises:
            Refused: the agent answered with an error.
            AssistantError: it ended, or never spoke the protocol.
        """
        from acp.exceptions import RequestError

        try:
            result = future.result()
        except RequestError as error:
            raise Refused(error.code if isinstance(error.code, int) else 0, self.shown(_explained(error))) from error
        except (ConnectionError, concurrent.futures.CancelledError, RuntimeError) as error:
            raise self.fate() from error
        return result if isinstance(result, dict) else {}

    def call(self, method: str, params: Json, timeout_s: float, cancel: Cancel) -> Json:
        """
        Send a request and wait for its result.

        Raises:
            Refused: the agent answered with an error.
            Cancelled: `cancel` was set; the agent is ended, as nobody knows where it stands.
            AssistantError: it ended, never spoke the protocol, or did not answer in time; it is ended then.
        """
        future = self.submit(method, params)
        until = time.monotonic() + timeout_s
        while not future.done():
            if cancel.is_set() or time.monotonic() > until:
                error = self._silent(method, timeout_s)
                self.close()
                raise Cancelled if cancel.is_set() else error
            concurrent.futures.wait([future], POLL_S)
        return self.outcome(future)

    def notify(self, method: str, params: Json) -> None:
        """Send a notification, as far as there is somebody to hear it."""
        if self.alive:
            asyncio.run_coroutine_threadsafe(self._connection.send_notification(method, params), self._loop)

    # what went wrong

    def fate(self) -> AssistantError:
        """Return in one line how it came to its end."""
        lines = self._lines
        if lines is not None and lines.noise and not lines.spoken:
            text = f"{self._name} does not speak the Agent Client Protocol: it printed {lines.noise[:120]!r}"
            return AssistantError(self.shown(text), f"is it the right command? /agent show {self._name}")
        process = self._process
        if process is not None:
            until = time.monotonic() + EXIT_S
            while process.returncode is None and time.monotonic() < until:
                time.sleep(POLL_S)
            time.sleep(POLL_S)  # its last words may still be on their way
        status = process.returncode if process is not None else None
        how = "closed the connection" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was killed ({signal.Signals(-status).name})"
        text = f"{self._name} {how}{self._tail()}"
        return AssistantError(self.shown(text), "/retry starts it again; /agent another one")

    def _silent(self, method: str, timeout_s: float) -> AssistantError:
        if self._lines is not None and self._lines.noise and not self._lines.spoken:
            return self.fate()
        text = f"{self._name} did not answer ({method}) in {timeout_s:.0f} s{self._tail()}"
        return AssistantError(self.shown(text), "/retry starts it again; /agent another one")

    def _tail(self) -> str:
        lines = list(self._stderr)
        said = [line for line in lines if TELLING.search(line)] or lines
        return f": {said[-1][:300].strip()}" if said else ""

    def shown(self, text: str) -> str:
        """Return `text` without the secrets the agent was given."""
        for secret in self._launch.secrets:
            text = text.replace(secret, "…")
        return text

    # the end

    def close(self) -> None:
        """End the process and all it has started. Safe to call twice, and from any thread."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            try:
                with contextlib.suppress(concurrent.futures.TimeoutError, RuntimeError):
                    asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(4 * EXIT_S)
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(EXIT_S)

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        for number, wait_s in ((signal.SIGTERM, LEAVE_S), (signal.SIGKILL, EXIT_S), (None, EXIT_S)):
            until = time.monotonic() + wait_s
            while _is_there(process.pid) and time.monotonic() < until:  # noqa: ASYNC110  the kernel sends no event
                await asyncio.sleep(POLL_S)
            if number is not None and _is_there(process.pid):
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, number)
        self._reader.cancel()
        with contextlib.suppress(Exception):
            await self._connection.close()
        assert self._transport is not None
        self._transport.close()


def _is_there(group: int) -> bool:
    """Return whether anything of a process group is left: the agent, or what it has started; zombies do not count."""
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, _parent, its_group = stat.read_text("utf-8", "replace").rsplit(")", 1)[1].split()[:3]
            found.append((int(its_group), state))
    return not found or any(one == group and state != "Z" for one, state in found)


class _Lines:
    """The SDK's `Transport` over a process's pipes: never raises, and passes on nothing but JSON-RPC messages."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self._buffer = bytearray()
        self.spoken = False
        self.ended = False
        self.noise = ""  #: the last line that was no message
        self._noises = 0

    async def send(self, message: Json) -> None:
        """Write a message; one to a process that is gone is dropped, as the reading side tells of its end."""
        with contextlib.suppress(OSError, RuntimeError):
            self._in.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            await self._in.drain()

    async def receive(self) -> Json | None:
        """Return the next message, or None at the end."""
        while (line := await self._line()) is not None:
            message = message_of(line)
            if message is not None:
                self.spoken = True
                return message
            if line.strip():
                self.noise = clean(line)
                self._noises += 1
                if not self.spoken and self._noises >= NOISE_LINES:
                    break
        self.ended = True
        return None

    async def _line(self) -> bytes | None:
        start = 0
        while (at := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > LINE_BYTES:
                self.noise = f"a line of more than {LINE_BYTES >> 20} MB"
                return None
            try:
                block = await self._out.read(1 << 18)
            except OSError:
                block = b""
            if not block:
                rest, self._buffer = bytes(self._buffer), bytearray()
                return rest or None
            self._buffer += block
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        return line

    async def close(self) -> None:
        """Close the way in."""
        self.ended = True
        self._in.close()


def message_of(line: bytes) -> Json | None:
    """Return the JSON-RPC message a line holds, in a shape the SDK can take, or None where it holds none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    method, number = message.get("method"), message.get("id")
    if not isinstance(number, int | str | None) or not isinstance(method, str | None):
        return None
    if method is None and number is None:
        return None
    error = message.get("error")
    if error is not None and not isinstance(error, dict):
        message["error"] = {"code": 0, "message": str(error)}
    return message


def clean(line: bytes) -> str:
    """Return a printed line as plain text: no escape sequences, no control characters."""
    return ESCAPES.sub("", line[:4096].decode("utf-8", "replace")).strip()


def _explained(error: Any) -> str:
    """Return a JSON-RPC error's message with what its data adds."""
    text, data = str(error), error.data
    if isinstance(data, dict):
        data = next((data[key] for key in ("details", "message", "error", "reason") if data.get(key)), "")
    if isinstance(data, dict):
        data = data.get("message", "")
    if isinstance(data, str) and data and data not in text:
        text = f"{text}: {data}"
    return " ".join(ESCAPES.sub("", text).split())[:400]
