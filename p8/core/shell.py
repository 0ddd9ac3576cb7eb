"""`!command`: runs a line in the shell and hands on what it prints as it comes. Refuses: to record, to draw.

The command gets a process group of its own, so that Ctrl-C ends it and all it started, and no terminal to write to: its
output passes the escaper like any other text.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from p8.core.output import Kept

GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a command."""

    exit_code: int  #: negative for a signal
    output: str
    duration_s: float
    started_at: datetime
    cut_bytes: int  #: of the output that were not kept
    interrupted: bool


def run(
    command: str, shell: str, directory: Path, limit_bytes: int, show: Callable[[str], None], stop: threading.Event
) -> Run:
    """
    Run a line and wait for it.

    Args:
        command: the line.
        shell: what runs it, with `-c`.
        directory: where.
        limit_bytes: of the output so much is kept: the first half and the last half.
        show: called with each piece of output.
        stop: when set, the command and all it started are ended.
    """
    started, begun = datetime.now(UTC), time.monotonic()
    process = subprocess.Popen(
        [shell, "-c", command], cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    kept = Kept(limit_bytes)
    _pump(process, kept, show, stop)
    if stop.is_set():
        _end(process)
    code = process.wait()
    return Run(code, kept.text(), round(time.monotonic() - begun, 3), started, kept.cut, stop.is_set())


def _pump(process: subprocess.Popen[bytes], kept: Kept, show: Callable[[str], None], stop: threading.Event) -> None:
    import codecs

    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with process.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not stop.is_set():
            ready = selector.select(0.1)
            if ready:
                block = os.read(pipe.fileno(), 65536)
                if not block:
                    return
                kept.add(block)
                show(decoder.decode(block))
            elif process.poll() is not None and not selector.select(0.2):
                return  # it is over, though something it left behind still holds the pipe


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign, patience in ((signal.SIGINT, 0.5), (signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
