"""A quick look at a local engine, over its socket and without its library: whether it answers, and which images it has.

For those who wait at a prompt: milliseconds where the library takes a third of a second to load. Of an engine that is
not behind a Unix socket, or that P8 has no library to use, nothing is said. Refuses: to change anything.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import orjson

from p8.containers.endpoint import Address, has_library

USUAL = "unix:///var/run/docker.sock"
WITHIN_S = 0.5


class Glance(NamedTuple):
    """What was seen."""

    endpoint: str  #: the engine's address; empty where only its library can tell
    asked: bool  #: whether it could be asked this way
    up: bool
    images: dict[str, str]  #: ids by name, of those that it has


def endpoint_of(address: Address, person: Path) -> str:
    """Return an engine's address as far as it can be told without reading docker's contexts."""
    if address.host or address.context:
        return address.host
    with contextlib.suppress(OSError, ValueError):
        known = orjson.loads((person / ".docker" / "config.json").read_bytes())
        if isinstance(known, dict) and known.get("currentContext", "default") not in {"", "default"}:
            return ""
    return USUAL


def glance(address: Address, person: Path, images: Sequence[str]) -> Glance:
    """
    Look at an engine now, for half a second at most.

    Args:
        address: which.
        person: the person's home directory.
        images: names of images to look for.
    """
    endpoint = endpoint_of(address, person)
    if not endpoint.startswith("unix://") or not has_library():
        return Glance(endpoint, False, False, {})
    until = time.monotonic() + WITHIN_S
    found: dict[str, str] = {}
    try:
        for name in images:
            status, body = _get(endpoint.removeprefix("unix://"), f"/images/{quote(name)}/json", until)
            if status == 200:
                found[name] = str(orjson.loads(body)["Id"])
    except (OSError, ValueError, LookupError, TypeError):
        return Glance(endpoint, True, False, {})
    return Glance(endpoint, True, True, found)


def _get(path: str, what: str, until: float) -> tuple[int, bytes]:
    """Ask over a socket in HTTP 1.0, whose answers end where the connection does; return status and body."""
    said = b""
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(max(until - time.monotonic(), 0.01))
        talk.connect(path)
        talk.sendall(f"GET {what} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        while piece := talk.recv(65536):
            said += piece
            talk.settimeout(max(until - time.monotonic(), 0.01))
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split(None, 2)[1]), body
