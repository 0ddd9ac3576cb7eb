"""Entries' data and JSON: what JSON cannot hold is kept as `{"$p8": kind, …}` and comes back as it was.

Nothing a person typed or a model said may be lost because a serialiser refuses it: lone surrogates from a bad paste,
NaN, integers beyond 64 bits, bytes (RELIABILITY section 3, "Text").
"""

from __future__ import annotations

import math

from p8.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def has_nan(value: Any) -> bool:
    """Return whether a number in `value` is one that JSON would turn into null."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(has_nan, value.values()))
    return isinstance(value, list | tuple) and any(map(has_nan, value))


def plain(value: Any, depth: int = 0) -> Any:
    """
    Return `value` as JSON can hold it, losing nothing: lone surrogates, NaN, integers beyond 64 bits, bytes.

    Keys that are not text become text. Anything else, and what is nested deeper than 100 levels, becomes its `repr`.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(str(value))
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else {"$p8": "int", "text": str(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$p8": "float", "text": repr(float(value))}
    if isinstance(value, bytes | bytearray):
        return {"$p8": "bytes", "base64": _base64(value)}
    if depth > 100:
        return _plain_text(repr(value)[:65536])
    if isinstance(value, dict):
        return {_plain_key(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v, depth + 1) for v in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return _plain_text(repr(value))


def _plain_text(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogatepass")
        readable = text.encode("utf-8", "replace").decode()
        return {"$p8": "text", "base64": _base64(raw), "text": readable}
    return text


def _base64(raw: bytes | bytearray) -> str:
    import base64

    return base64.b64encode(raw).decode()


def _plain_key(key: Any) -> str:
    return str(key).encode("utf-8", "backslashreplace").decode()


def column(value: Any) -> Any:
    """Return `value` as a column of a session takes it: readable text, lists as JSON; the entry itself has it whole."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return packed([column(item) if isinstance(item, str) else plain(item) for item in value])
    return value


def packed(value: Any) -> str:
    """Return a plain value as JSON, for a column."""
    import orjson

    return orjson.dumps(value).decode()


def unpacked(text: str) -> Any:
    """Return the value of a column of JSON. Most are empty or short, and orjson takes long to import."""
    if text == "{}":
        return {}
    if text == "[]":
        return []
    import json

    value = json.loads(text)
    return restore(value) if '"$p8"' in text else value


def restore(value: Any) -> Any:
    """Undo `plain`."""
    from base64 import b64decode

    if isinstance(value, dict):
        mark = value.get("$p8")
        if mark == "text" and "base64" in value:
            return b64decode(value["base64"]).decode("utf-8", "surrogatepass")
        if mark == "bytes":
            return b64decode(value["base64"])
        if mark == "int":
            return int(value["text"])
        if mark == "float":
            return float(value["text"])
        return {k: restore(v) for k, v in value.items()}
    if isinstance(value, list):
        return [restore(v) for v in value]
    return value


def load(payload: bytes | str) -> dict[str, Any]:
    """
    Read an entry's data back from its JSON.

    Raises:
        StoreError: it is not a JSON object.
    """
    import orjson

    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise StoreError(f"damaged entry: {error}", "p8 doctor finds and reports damage") from error
    if not isinstance(data, dict):
        raise StoreError("damaged entry: not an object", "p8 doctor finds and reports damage")
    marked = b'"$p8"' in payload if isinstance(payload, bytes) else '"$p8"' in payload
    return restore(data) if marked else data
