"""The two programs, `p8` and `ai-session`; also `python -m p8`."""

from __future__ import annotations

import gc
import os
import sys

from p8.cli import ai_session, main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

GARBAGE = 50_000  #: objects between two collections: importing makes thousands, none of them garbage


def run_p8() -> NoReturn:
    """Run `p8` and end the process with its status."""
    _run(main)


def run_ai_session() -> NoReturn:
    """Run `ai-session` and end the process with its status."""
    _run(ai_session)


def _run(program: Callable[[], int]) -> NoReturn:
    """Everything is closed when `program` returns; taking the interpreter apart as well would only take time."""
    gc.set_threshold(GARBAGE)
    status = program()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = 141
    os._exit(status)


if __name__ == "__main__":
    run_p8()
