"""Fills a home with many sessions of realistic text: prose and code of the standard library, sizes heavy-tailed."""

from __future__ import annotations

import random
import sysconfig
import time
from pathlib import Path

from p8.model import IdMaker
from p8.store.manager import PersistenceManager

RARE = "zymurgical"
COMMON = "self"


def pieces(count: int, chance: random.Random) -> list[str]:
    """Return passages of about 500 bytes."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text("utf-8", "replace")
        at = 0
        while at < len(text):
            step = chance.randint(120, 900)
            found.append(text[at : at + step])
            at += step
        if len(found) >= count:
            break
    return found


def seed(home: Path, sessions: int, messages: int, project: str = "p-00000000") -> dict[str, int]:
    """Record `messages` in `sessions`; return bytes of text, and of the same as JSONL with the usual envelope."""
    import orjson

    chance = random.Random(8)
    texts = pieces(20_000, chance)
    weights = [chance.paretovariate(1.2) for _ in range(sessions)]
    scale = messages / sum(weights)
    store = PersistenceManager(home)
    start = time.time_ns() // 1000 - 60 * 86_400_000_000
    clock = iter(range(start, start + messages * 10_000_000, 2_500_000))
    make = IdMaker(lambda: now)
    sizes = {"text": 0, "jsonl": 0, "messages": 0}
    for number, weight in enumerate(weights):
        now = next(clock)
        stream = make()
        about = {"project": project if number % 3 else "q-00000000", "project_name": "perf", "status": "completed",
                 "branch": "main", "directory": "/x", "model": "local"}  # fmt: skip
        store.record(stream, "session", {"what": "started", "set": about}, now)
        for turn in range(max(2, int(weight * scale))):
            text = chance.choice(texts) + f" {chance.getrandbits(32):08x}"
            if number == sessions // 3 and turn == 1:
                text += f" {RARE}"
            now = next(clock)
            message = {"role": "assistant" if turn % 2 else "user", "content": text}
            store.record(stream, "message", message, now)
            envelope = {"sessionId": stream, "uuid": f"{chance.getrandbits(128):032x}", "type": message["role"],
                        "timestamp": now / 1e6, "message": message}  # fmt: skip
            sizes["text"] += len(text.encode())
            sizes["jsonl"] += len(orjson.dumps(envelope)) + 1
            sizes["messages"] += 1
        if number % 50 == 0:
            while store.journal.backlog > 50_000:
                time.sleep(0.01)
    assert store.drain(600)
    store.keeper.index_for(3600)
    store.close()
    return sizes
