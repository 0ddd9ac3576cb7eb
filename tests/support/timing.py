"""Times cases in turn, so that a machine whose speed varies treats them alike."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BARE = [sys.executable, "-c", "from prompt_toolkit import PromptSession\nPromptSession().prompt('› ')"]


def interleaved(cases: dict[str, Callable[[], Any]], rounds: int, calls: int) -> dict[str, float]:
    """Return the median time of one call in microseconds, for cases measured in turn."""
    clock = time.perf_counter_ns
    medians: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            taken = []
            for _ in range(calls):
                begun = clock()
                call()
                taken.append(clock() - begun)
            medians[name].append(statistics.median(taken) / 1000)
    return {name: statistics.median(values) for name, values in medians.items()}


def processes(
    cases: Mapping[str, list[str]], rounds: int, env: Mapping[str, str], directory: Path
) -> dict[str, tuple[float, float]]:
    """Return the median wall and processor time of whole processes in milliseconds, measured in turn."""

    def once(command: list[str]) -> tuple[float, float]:
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, env=dict(env), cwd=directory, stdout=subprocess.DEVNULL, check=True)
        wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000

    taken: dict[str, list[tuple[float, float]]] = {name: [once(command)] for name, command in cases.items()}
    for _ in range(rounds):
        for name, command in cases.items():
            taken[name].append(once(command))
    medians = {name: [statistics.median(column) for column in zip(*t[1:], strict=True)] for name, t in taken.items()}
    return {name: (wall, cpu) for name, (wall, cpu) in medians.items()}
