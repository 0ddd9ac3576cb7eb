"""Times cases in turn, so that a machine whose speed varies treats them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


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
