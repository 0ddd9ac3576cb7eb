"""Ports of this machine for instances.

Leased in the database, so that no two processes get the same, and tried on the host, so that none is handed out that
something else listens on.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection
from typing import Protocol

from p8.errors import Conflict

FreeOnHost = Callable[[int], bool]


class Leases(Protocol):
    """Where leases are kept: one row a port, in the store."""

    def take(self, holder: str, candidates: range, preferred: int, free: FreeOnHost, avoid: Collection[int]) -> int:
        """Lease and return the first port that nobody holds and `free` approves; 0 where there is none."""
        ...

    def release(self, holder: str) -> None:
        """Give back what a holder has."""
        ...


def is_free(port: int) -> bool:
    """Return whether nothing on this machine listens where a container's port would be published."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                # Else a connection closed a minute ago would count; a listener still does.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((address, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
    return True


class Ports:
    """
    Hands out ports.

    Args:
        leases: where they are kept.
        free: whether a port is free on the host; always true for an engine elsewhere.
    """

    def __init__(self, leases: Leases, free: FreeOnHost = is_free) -> None:
        self._leases = leases
        self._free = free

    def allocate(self, holder: str, low: int, high: int, preferred: int = 0, avoid: Collection[int] = ()) -> int:
        """
        Lease a port. A holder has one at most: asking again returns it while it is good, and gives it back otherwise.

        Args:
            holder: the instance's id.
            low: the first of the range.
            high: the last of the range.
            preferred: taken if it is free, also outside the range; 0 for none.
            avoid: ports that the engine refused a moment ago.

        Raises:
            Conflict: none of the range is free.
            StoreError: the database is out of reach.
        """
        found = self._leases.take(holder, range(low, high + 1), preferred, self._free, avoid)
        if not found:
            raise Conflict(
                f"no port from {low} to {high} is free: all are leased to instances or in use on this machine",
                "stop an instance, or widen networking.port_range",
            )
        return found

    def release(self, holder: str) -> None:
        """Give a holder's port back."""
        self._leases.release(holder)
