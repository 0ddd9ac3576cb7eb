"""How amounts are said to a person: bytes, hours. One way for all commands. Refuses: to import anything of P8."""

from __future__ import annotations


def bytes_said(size_bytes: float) -> str:
    """Return a number of bytes as a person reads it: "512 B", "1.4 MiB"."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(size_bytes) >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def many(count: int, word: str) -> str:
    """Return a number of things, in words: "1 message", "1,200 messages"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def hours_said(hours: float) -> str:
    """Return a span as a person reads it: "under a minute", "45 min", "2.5 h"."""
    if hours < 1 / 60:
        return "under a minute"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"
