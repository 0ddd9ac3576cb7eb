"""How a session is looked at: the picker's scope and order, layout, theme, how often things are drawn anew (row C7).

Kept with the session, in its own journal, and offered to the next new one. Whatever version wrote it, what can be read
is brought to the present one; what cannot falls back to the default, value by value; what a newer one added is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from p8.core.sessions import SessionManager
from p8.errors import StoreError, UsageError

VERSION = 2
KEY = "ui"


class Field(NamedTuple):
    """One setting: its default and what it may be."""

    default: Any
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0


FIELDS: Mapping[str, Field] = {
    "picker_scope": Field("project", ("project", "all")),
    "picker_sort": Field("recent", ("recent", "created", "size", "title")),
    "layout": Field("plain", ("plain", "wide", "compact")),
    "theme": Field("auto", ("auto", "dark", "light", "none")),
    "gauge": Field(True, (True, False)),
    "suggestions": Field(True, (True, False)),
    "status_s": Field(2.0, low=0.2, high=60.0),
    "dashboard_s": Field(5.0, low=1.0, high=3600.0),
}
SPOKEN = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def checked(name: str, value: Any) -> Any:
    """
    Return a value as it is kept.

    Raises:
        UsageError: there is no such setting, or it cannot have that value.
    """
    field = FIELDS.get(name)
    if field is None:
        raise UsageError(f"no view setting is called {name!r}", ", ".join(sorted(FIELDS)))
    if field.choices:
        if isinstance(field.default, bool) and isinstance(value, str):
            value = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(
                value.lower()
            )
        if not any(value is choice or (value == choice and type(value) is type(choice)) for choice in field.choices):
            raise UsageError(f"{name} cannot be {value!r}", " or ".join(str(choice) for choice in field.choices))
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not field.low <= number <= field.high:
        raise UsageError(f"{name} cannot be {value!r}", f"seconds from {field.low:g} to {field.high:g}")
    return number


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had the picker's values in an object, `everywhere` for the scope, and times in milliseconds."""
    picker = data.pop("picker", None)
    if isinstance(picker, Mapping):
        if isinstance(picker.get("everywhere"), bool):
            data["picker_scope"] = "all" if picker["everywhere"] else "project"
        data["picker_sort"] = picker.get("sort")
    if isinstance(data.get("refresh_ms"), int):
        data["status_s"] = data.pop("refresh_ms") / 1000
    return data


#: version -> how it becomes the next one
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def migrate(data: Any) -> dict[str, Any]:
    """Return the settings that some version wrote, as this one has them; unknown ones of a newer version are kept."""
    if not isinstance(data, Mapping):
        data = {}
    found = dict(data)
    version = found.pop("version", 1)
    version = version if isinstance(version, int) and not isinstance(version, bool) and version > 0 else 1
    while version in MIGRATIONS:
        found = MIGRATIONS[version](found)
        version += 1
    values = {name: field.default for name, field in FIELDS.items()}
    for name, value in found.items():
        if name not in FIELDS:
            if version > VERSION:
                values[name] = value
            continue
        try:
            values[name] = checked(name, value)
        except UsageError:
            continue
    return {"version": max(version, VERSION), **values}


class UiState:
    """
    The view of the current session.

    Args:
        sessions: whose current session; it carries the settings.
    """

    def __init__(self, sessions: SessionManager) -> None:
        self._sessions = sessions
        self._last: dict[str, Any] | None = None

    def get(self, name: str) -> Any:
        """
        Return one setting: the session's, else what was set last anywhere, else the default.

        Raises:
            UsageError: there is no such setting.
        """
        if name not in FIELDS:
            raise UsageError(f"no view setting is called {name!r}", ", ".join(sorted(FIELDS)))
        return self.all()[name]

    def all(self) -> dict[str, Any]:
        """Return all settings with the version. Costs no query once the session has its own."""
        session = self._sessions.current
        if session is not None and KEY in session.metadata:
            return migrate(session.metadata[KEY])
        if self._last is None:
            try:
                kept = self._sessions.store.settings.get(KEY)
                earlier = {"version": 1, "picker": self._sessions.store.settings.get("picker")}
                self._last = migrate(kept if kept is not None else earlier)
            except StoreError:
                return migrate(None)
        return dict(self._last)

    def put(self, **values: Any) -> dict[str, Any]:
        """
        Change settings of the current session, and what the next new one begins with.

        Raises:
            UsageError: a setting does not exist or cannot have that value; nothing is changed then.
        """
        before = self.all()
        changed = before | {name: checked(name, value) for name, value in values.items()}
        if changed == before:
            return changed
        if self._sessions.current is not None:
            self._sessions.annotate(ui=changed)
        self._last = changed
        with contextlib.suppress(StoreError):  # the session has it
            self._sessions.store.settings.put(KEY, changed)
        return changed
