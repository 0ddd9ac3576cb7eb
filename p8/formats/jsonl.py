"""JSON lines, for programs: one line that describes a session, then one line an entry, session after session.

Every entry is there with all its fields. What JSON cannot hold becomes readable text, so any parser takes it; to carry
sessions to another P8 without loss there is the archive (`native.py`).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from p8.formats.reading import Transcript
from p8.model import from_us

VERSION = 1


def pieces(transcripts: Iterable[Transcript]) -> Iterator[str]:
    """Yield the file, line by line."""
    for transcript in transcripts:
        row = transcript.row
        about = {name: getattr(row, name) for name in row._fields if not name.endswith("_us")}
        times = {"created": row.created_us, "last": row.last_us, "ended": row.ended_us, "trashed": row.trashed_us}
        about |= {name: None if at is None else from_us(at).isoformat() for name, at in times.items()}
        yield _line({"type": "session", "format": f"p8-jsonl-{VERSION}", **about})
        for entry in transcript.entries:
            place = {"session": row.id, "stream": entry.stream, "seq": entry.seq, "time": entry.time.isoformat()}
            yield _line({"type": entry.kind, **place, "data": entry.data})


def _line(value: dict[str, Any]) -> str:
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value).encode("utf-8", "replace").decode() if not value.isascii() else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(_plain(str(k))): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return _plain(str(value))
