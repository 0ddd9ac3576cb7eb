"""Amounts as people and Kubernetes write them: `1Gi`, `500m`, `30s`. A parser's ValueError says what it wants."""

from __future__ import annotations

import re
from typing import Any

MEMORY = {
    "": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
    "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
}  # fmt: skip
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
SMALLEST_MEMORY = 6 << 20


def memory(value: Any) -> int:
    """Return bytes of `512Mi`, `1Gi`, `512m` (as docker has it, MiB) or a number."""
    match = AMOUNT.fullmatch(str(value))
    if isinstance(value, bool) or match is None or match[2] not in MEMORY:
        raise ValueError(f"an amount of memory such as 512Mi or 1Gi is wanted, not {value!r}")
    amount = int(float(match[1]) * MEMORY[match[2]])
    if amount < SMALLEST_MEMORY:
        raise ValueError(f"at least 6Mi are needed, not {value!r}")
    return amount


def cpus(value: Any) -> float:
    """Return processors of `500m` (thousandths) or `1.5`."""
    match = AMOUNT.fullmatch(str(value))
    if isinstance(value, bool) or match is None or match[2] not in {"", "m"}:
        raise ValueError(f"processors such as 500m or 1.5 are wanted, not {value!r}")
    amount = float(match[1]) / (1000 if match[2] else 1)
    if not 0.01 <= amount <= 1024:
        raise ValueError(f"between 10m and 1024 processors are wanted, not {value!r}")
    return amount


def duration(value: Any) -> float:
    """Return seconds of `30s`, `500ms`, `2m`, `1h`, `7d` or a number of seconds."""
    match = AMOUNT.fullmatch(str(value))
    if isinstance(value, bool) or match is None or (match[2] or "s") not in SECONDS:
        raise ValueError(f"a time such as 30s or 5m is wanted, not {value!r}")
    return float(match[1]) * SECONDS[match[2] or "s"]


def show_memory(amount: int) -> str:
    """Return bytes as `memory` reads them."""
    for unit, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if amount >= size:
            number = amount / size
            return f"{number:.0f}{unit}" if number == int(number) or number >= 100 else f"{number:.1f}{unit}"
    return str(amount)


def show_cpus(amount: float) -> str:
    """Return processors as `cpus` reads them."""
    return f"{round(amount * 1000)}m"


def show_duration(seconds: float) -> str:
    """Return seconds as `duration` reads them."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s" if seconds >= 1 else f"{round(seconds * 1000)}ms"
