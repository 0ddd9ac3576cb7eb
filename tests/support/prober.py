"""`python -m support.prober FILE`: asks every instance of some homes once a second whether it answers.

The file is JSON: `log`, where a line a second goes, `fleets`, each with P8's `registry`, the `engine`'s socket and the
`ids` of its instances, and `controls`, ports by name of containers that P8 has nothing to do with. An instance is up in
a second when it says its own name with status 200, in less than a second, at the one attempt made in it: on its port
where it has one, else on its socket, as `registry.json` has them. The engine is up in a second when it answers before
and after. The machine stood still in a second when fewer than half of the controls answered: nobody breaks those.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

WITHIN_S = 0.8
REQUEST = b"GET %b HTTP/1.0\r\nHost: localhost\r\n\r\n"


async def get(place: int | str, path: bytes) -> tuple[int, bytes]:
    """Ask a port of this machine, or a socket; return status and body. Raises OSError, ValueError, TimeoutError."""
    opening = asyncio.open_unix_connection(place) if isinstance(place, str) else asyncio.open_connection(
        "127.0.0.1", place
    )  # fmt: skip
    reader, writer = await opening
    try:
        writer.write(REQUEST % path)
        await writer.drain()
        head, _, body = (await reader.read(65536)).partition(b"\r\n\r\n")
        while piece := await reader.read(65536):
            body += piece
        return int((head.split(None, 2) or [b"", b"0"])[1]), body
    finally:
        writer.close()


async def asked(place: int | str, path: bytes) -> tuple[int, bytes]:
    """Return status and body; 0 where nobody answers in time."""
    try:
        return await asyncio.wait_for(get(place, path), WITHIN_S)
    except (OSError, ValueError, IndexError, TimeoutError):
        return 0, b""


async def says(name: str, place: int | str) -> bool:
    """Return whether who answers there says that name."""
    status, body = await asked(place, b"/")
    return status == 200 and body.strip() == name.encode()


async def is_up(known: dict[str, Any], name: str) -> bool:
    one = known.get(name)
    return one is not None and await says(name, one["port"] or one["socket_path"])


def registry(path: str) -> dict[str, Any]:
    try:
        return dict(json.loads(Path(path).read_text())["instances"])
    except (OSError, ValueError, KeyError):
        return {}


async def look(fleet: dict[str, Any]) -> dict[str, Any]:
    before, _ = await asked(fleet["engine"], b"/_ping")
    known = registry(fleet["registry"])
    found = await asyncio.gather(*(is_up(known, name) for name in fleet["ids"]))
    after, _ = await asked(fleet["engine"], b"/_ping")
    down = [name for name, up in zip(fleet["ids"], found, strict=True) if not up]
    return {"engine": before == after == 200, "asked": len(found), "down": down}


async def main(asked_for: dict[str, Any]) -> None:
    begun, number = time.monotonic(), 0
    with Path(asked_for["log"]).open("a", buffering=1) as log:
        while os.getppid() != 1:
            looks = asyncio.gather(*map(look, asked_for["fleets"]))
            controls = asyncio.gather(*(says(*one) for one in asked_for["controls"].items()))
            line = {"second": number, "time": time.time(), "fleets": await looks, "controls": await controls}
            log.write(json.dumps(line) + "\n")
            number = max(number + 1, math.ceil(time.monotonic() - begun))
            await asyncio.sleep(max(begun + number - time.monotonic(), 0))


class Availability(NamedTuple):
    """What a prober's log comes to."""

    seconds: int  #: in which it looked
    missed: int  #: in which it did not, as the machine was too busy
    instance_seconds: int  #: looked at while their engine was up
    lost: int  #: of them, those without an answer
    engine_away: int  #: seconds in which an engine did not answer
    still: tuple[float, ...]  #: when the machine stood still, a time for each second; not counted among the others

    @property
    def percent(self) -> float:
        """Return the availability over the time the engines were up."""
        return 100.0 * (1 - self.lost / self.instance_seconds) if self.instance_seconds else 0.0


def availability(log: Path) -> Availability:
    """Add a log up."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    looks, still = [], []
    for line, after in zip(lines, [*lines[1:], None], strict=True):
        if 2 * sum(line["controls"]) >= len(line["controls"]):
            looks += line["fleets"]
        else:
            took = after["second"] - line["second"] if after is not None else 1
            still += [line["time"] + number for number in range(took)]
    counted = [fleet for fleet in looks if fleet["engine"]]
    span = lines[-1]["second"] + 1 if lines else 0
    return Availability(
        len(lines), span - len(lines), sum(fleet["asked"] for fleet in counted),
        sum(len(fleet["down"]) for fleet in counted), len(looks) - len(counted),
        tuple(still),
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
