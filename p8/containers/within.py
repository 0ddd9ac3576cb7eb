"""Runs a program in one of P8's containers with this process's stdin, stdout and stderr joined to it.

What `docker exec -i` does, through the same SDK and the same engine as all else, so that no `docker` program is needed;
and when its input ends, or it is told to end, nothing of what it started is left in the container. Started as a file of
its own, with `python -P`: the caller's environment need not know where P8 is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p8.containers.base import Channel
    from p8.containers.docker import Docker

LEAVE_S = 0.3  #: how long a program may take to leave by itself at the end of its input
STATUS_S = 2.0
REFUSED = 125  #: the exit status where nothing could be run, as the docker program has it
PIECE = 1 << 16


def command_for(runtime: Docker, home: Path, container: str, workdir: str) -> tuple[str, ...]:
    """
    Return the words that run further words in a container; `-e NAME` before the last one passes a variable on.

    Args:
        runtime: the engine.
        home: P8's home.
        container: its id; the last word.
        workdir: where the program runs, as the container has it.
    """
    address = runtime.address
    words = ["--installation", runtime.installation, "--home", str(home), "--workdir", workdir]
    for option, value in (
        ("--engine", address.host), ("--context", address.context), ("--certificates", address.certificates)
    ):  # fmt: skip
        words += [option, value] if value else []
    return (sys.executable, "-P", str(Path(__file__)), *words, container)


def main(words: Sequence[str]) -> int:
    """Run a program and return its exit status; 125 where it could not be run."""
    parser = argparse.ArgumentParser(prog="within", allow_abbrev=False)
    for option in ("--installation", "--home"):
        parser.add_argument(option, required=True)
    for option in ("--workdir", "--engine", "--context", "--certificates"):
        parser.add_argument(option, default="")
    parser.add_argument("-e", dest="names", action="append", default=[])
    parser.add_argument("container")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(words)
    from p8.config import inherited
    from p8.containers.docker import Docker
    from p8.containers.endpoint import Address
    from p8.errors import ContainerError

    address = Address(given.engine, given.context, given.certificates)
    runtime = Docker(given.installation, Path(given.home), Path.home(), address)
    passed = inherited(given.names)
    try:
        channel = runtime.open(given.container, given.command, environment=passed, workdir=given.workdir)
    except ContainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    return join(channel)


def join(channel: Channel) -> int:
    """Pass on what comes either way until the program ends; return its exit status."""
    over = threading.Event()

    def feed() -> None:
        with contextlib.suppress(OSError):  # its input is closed, or it has ended
            while data := os.read(0, PIECE):
                channel.write(data)
        channel.close_input()
        if not over.wait(LEAVE_S):
            channel.end()

    def ended(_number: int, _frame: object) -> None:
        threading.Thread(target=channel.end, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ended)
    threading.Thread(target=feed, daemon=True).start()
    try:
        while (piece := channel.read()) is not None:
            _write(*piece)
    except OSError:  # nobody listens any more
        channel.end()
    over.set()
    with contextlib.suppress(Exception):
        code = channel.wait(STATUS_S)
        if code is not None:
            return code
    print("error: the container ended", file=sys.stderr)
    return REFUSED


def _write(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a thread may still wait for input
