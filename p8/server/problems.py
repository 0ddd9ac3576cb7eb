"""What went wrong, as RFC 9457 has it: one shape for every refusal and every error, and no stack trace ever."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

from p8 import errors
from p8.store.plain import plain

TYPE = "application/problem+json"
#: kind of error -> status. What P8 depends on and is away (engine, model) is 424: P8 itself is well.
STATUSES: dict[type[errors.P8Error], int] = {
    errors.UsageError: 422, errors.NotFound: 404, errors.InvalidTransition: 409, errors.Conflict: 409,
    errors.ConfigError: 422, errors.StoreError: 503, errors.WorkspaceError: 409, errors.ContainerError: 424,
    errors.AssistantError: 424, errors.FormatError: 422, errors.P8Error: 409,
}  # fmt: skip


def status_of(error: errors.P8Error) -> int:
    """Return the HTTP status of an error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem(status: int, detail: str, hint: str = "", kind: str = "") -> dict[str, Any]:
    """Return a problem; `kind` is the name of P8's error, where it is one."""
    title = HTTPStatus(status).phrase
    found = {"type": f"urn:p8:{kind}" if kind else "about:blank", "title": title, "status": status, "detail": detail}
    return found | ({"hint": hint} if hint else {})


def of_error(error: errors.P8Error) -> dict[str, Any]:
    """Return the problem that an error is."""
    return problem(status_of(error), error.message, error.hint, type(error).__name__)


def dumps(data: Any) -> bytes:
    """Return JSON; what JSON cannot say (lone surrogates, NaN, huge numbers) is replaced."""
    try:
        return orjson.dumps(data)
    except TypeError:
        return orjson.dumps(plain(data), default=str)
