"""A terminal for tests: runs P8 in a pseudo-terminal and shows the screen a person would see."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import ptyprocess
import pyte

P8 = [sys.executable, "-m", "p8"]
FAKE = [sys.executable, "-m", "support.fake_repl"]


class Terminal:
    """
    A pseudo-terminal of a given size with P8 in it.

    Args:
        home: P8's home.
        directory: where it is started.
        args: its words.
        program: what is run; P8 with a model that echoes where none is given.
    """

    def __init__(
        self,
        home: Path,
        directory: Path,
        *args: str,
        program: list[str] | None = None,
        rows: int = 30,
        columns: int = 100,
        **env: str,
    ) -> None:
        command = program or FAKE
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self.screen)
        self.raw = ""
        variables = {
            "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "P8_HOME": str(home), "TERM": "xterm-256color",
            "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3])), **env,
        }  # fmt: skip
        self.process = pexpect.spawn(
            command[0], [*command[1:], *args], cwd=str(directory), env=variables, dimensions=(rows, columns),
            encoding="utf-8", codec_errors="replace", timeout=10,
        )  # fmt: skip
        self.screen.write_process_input = self.process.send  # type: ignore[method-assign]

    def pump(self, seconds: float = 0.05) -> None:
        """Read what comes for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                text = self.process.read_nonblocking(65536, 0.02)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                return
            self.raw += text
            self._stream.feed(text)

    @property
    def text(self) -> str:
        """The screen as it stands."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait(self, wanted: str, seconds: float = 20.0) -> str:
        """Return the screen as soon as it holds `wanted`; fail with the screen where it never does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.pump()
            if wanted in self.text:
                return self.text
            if not self.process.isalive():
                self.pump(0.2)
                break
        assert wanted in self.text, f"{wanted!r} is not on the screen:\n{self.text}"
        return self.text

    def send(self, keys: str) -> None:
        """Type."""
        self.process.send(keys)

    def line(self, text: str, wanted: str = "") -> str:
        """Type a line and wait for something on the screen."""
        self.send(text)
        self.pump(0.15)
        self.send("\r")
        return self.wait(wanted) if wanted else self.text

    def end(self, seconds: float = 15.0) -> int | None:
        """Wait until the process ends; return its status (negative for a signal)."""
        until = time.monotonic() + seconds
        while self.process.isalive() and time.monotonic() < until:
            self.pump()
        assert not self.process.isalive(), f"it did not end:\n{self.text}"
        self.pump(0.1)
        status = self.process.signalstatus
        return -status if status else self.process.exitstatus

    def hang_up(self) -> None:
        """Close the terminal, as a window is closed: the kernel tells the program, nothing else does."""
        self.process.ptyproc.fileobj.close()
        self.process.child_fd = self.process.ptyproc.fd = -1
        self.process.closed = self.process.ptyproc.closed = True

    def close(self) -> None:
        """Make an end of it; a machine that is busy gets the time it needs."""
        try:
            if self.process.closed:
                self.process.ptyproc.terminate(force=True)
            else:
                self.process.close(force=True)
        except (pexpect.ExceptionPexpect, ptyprocess.PtyProcessError):
            until = time.monotonic() + 15
            while self.process.ptyproc.isalive():
                assert time.monotonic() < until, "it lives on after SIGKILL"
                time.sleep(0.1)


Start = Callable[..., Terminal]


@contextmanager
def opening(home: Path, directory: Path, **usual: Any) -> Iterator[Start]:
    """Open terminals as they are asked for, with words and further options of their own; close all at the end."""
    opened: list[Terminal] = []

    def start(*args: str, **more: Any) -> Terminal:
        opened.append(Terminal(home, directory, *args, **usual, **more))
        return opened[-1]

    try:
        yield start
    finally:
        for terminal in opened:
            terminal.close()
