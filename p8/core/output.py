"""What is kept of a command's output when it is longer than the limit: the first and the last part."""

from __future__ import annotations

CUT = "\n[… {} bytes of output left out …]\n"


class Kept:
    """The first and the last part of an output."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._first = bytearray()
        self._last = bytearray()
        self.cut = 0

    def add(self, block: bytes) -> None:
        """Take a piece in."""
        room = self._half - len(self._first)
        if room > 0:
            self._first += block[:room]
            block = block[room:]
        self._last += block
        over = len(self._last) - self._half
        if over > 0:
            del self._last[:over]
            self.cut += over

    def text(self) -> str:
        """Return what was kept."""
        middle = CUT.format(self.cut).encode() if self.cut else b""
        return (bytes(self._first) + middle + bytes(self._last)).decode("utf-8", "replace")
