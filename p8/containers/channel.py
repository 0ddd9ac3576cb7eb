"""A program run inside a container, over the engine's exec socket: its output apart or as a terminal has it, its input.

The engine has no way to end such a program, so each gets a mark in its environment, which all it starts inherit;
ending it is killing what bears the mark.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

MARK = "P8_EXEC"
HEADER = struct.Struct(">BxxxL")
PIECE = 65536
#: kills all that bear a mark, first with a signal they can handle; its own shell does not bear it
END = """for s in TERM KILL; do n=0; for p in /proc/[0-9]*; do
 if grep -aqs "P8_EXEC=$1" "$p/environ"; then kill -$s "${p#/proc/}" 2>/dev/null && n=1; fi; done
 [ $n = 0 ] && exit 0; [ $s = TERM ] && sleep 0.3; done"""


#: a terminal has its size before the program first asks for it
SIZED = 'stty rows "$1" cols "$2" 2>/dev/null; shift 2; exec "$@"'


class ExecChannel:
    """
    The streams of one exec.

    Args:
        api: for short questions.
        streams: for the socket; without a time limit.
        container: its full id.
        command: program and words.
        tty: (rows, columns) where the program shall have a terminal; then both outputs are one.
        environment: added to the container's.
        workdir: where it runs; the container's own where empty.
    """

    def __init__(
        self,
        api: Any,
        streams: Any,
        container: str,
        command: Sequence[str],
        tty: tuple[int, int] | None,
        environment: dict[str, str],
        workdir: str,
    ) -> None:
        self._api = api
        self._container = container
        self._tty = tty is not None
        self._mark = os.urandom(8).hex()
        self._ended = False
        self._stream = self._left = 0
        words = list(command) if tty is None else ["sh", "-c", SIZED, "sh", str(tty[0]), str(tty[1]), *command]
        self._write_lock = threading.Lock()
        self._id = api.exec_create(
            container, words, stdin=True, stdout=True, stderr=True, tty=self._tty,
            environment={**environment, MARK: self._mark}, workdir=workdir or None,
        )["Id"]  # fmt: skip
        self._holder = streams.exec_start(self._id, tty=self._tty, socket=True)
        self._socket: socket.socket = getattr(self._holder, "_sock", self._holder)
        self._socket.settimeout(None)
        # What the engine sent in one packet with its headers waits in the reader that read those.
        response = getattr(self._holder, "_response", None)
        reader = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
        self._read = getattr(reader, "read1", None) or self._socket.recv

    def read(self) -> tuple[int, bytes] | None:
        """Return the next piece as (stream, bytes); None at the end."""
        if self._tty:
            data = self._receive(PIECE)
            return (1, data) if data else None
        while self._left == 0:
            header = self._exactly(HEADER.size)
            if header is None:
                return None
            self._stream, self._left = HEADER.unpack(header)
        data = self._receive(min(self._left, PIECE))
        if not data:
            return None
        self._left -= len(data)
        return self._stream, data

    def _receive(self, size: int) -> bytes:
        try:
            return bytes(self._read(size))
        except (OSError, ValueError, AttributeError):
            return b""

    def _exactly(self, size: int) -> bytes | None:
        got = b""
        while len(got) < size:
            piece = self._receive(size - len(got))
            if not piece:
                return None
            got += piece
        return got

    def write(self, data: bytes) -> None:
        """Send to the program's input. Raises BrokenPipeError where it has ended."""
        with self._write_lock:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise BrokenPipeError(str(error)) from error

    def close_input(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program its terminal's size."""
        with contextlib.suppress(Exception):  # it may have ended already
            self._api.exec_resize(self._id, height=rows, width=columns)

    def exit_code(self) -> int | None:
        """Return the status, or None while it runs. The engine knows it a moment after the streams ended."""
        data = self._api.exec_inspect(self._id)
        return None if data.get("Running") else data.get("ExitCode")

    def wait(self, seconds: float) -> int | None:
        """Return the status as soon as it is known, or None when that takes longer."""
        until = time.monotonic() + seconds
        pause = 0.002
        while True:
            code = self.exit_code()
            if code is not None or time.monotonic() >= until:
                return code
            time.sleep(pause)
            pause = min(pause * 2, 0.1)

    def end(self) -> None:
        """End the program and all it started, and let go of the streams."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(Exception):
            if self.exit_code() is None:
                command = ["sh", "-c", END, "sh", self._mark]
                self._api.exec_start(self._api.exec_create(self._container, command)["Id"])
        self.close()

    def close(self) -> None:
        """Let go of the streams; the program goes on."""
        self._ended = True
        for one in (self._socket, self._holder):
            with contextlib.suppress(Exception):
                one.shutdown(socket.SHUT_RDWR) if isinstance(one, socket.socket) else None
            with contextlib.suppress(Exception):
                one.close()
