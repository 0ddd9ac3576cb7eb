"""How a session is looked at: the picker, the status line, the theme, how often things are drawn anew (row C7).

Kept with the session, in its own journal, and offered to the next new one from a small file in the home, as the first
prompt must not wait for the database. Whatever version wrote it, what can be read is brought to the present one; what
cannot falls back to the default, value by value; what a newer one added is kept.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from p8.config import THEMES
from p8.errors import UsageError

if TYPE_CHECKING:
    from p8.core.sessions import SessionManager

VERSION = 3
KEY = "ui"
MOST_BYTES = 65_536


class Field(NamedTuple):
    """One setting: its default, what it may be, and what it does."""

    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0


FIELDS: Mapping[str, Field] = {
    "theme": Field("auto", "colours; auto: the terminal's own", THEMES),
    "status": Field("full", "the line under the prompt; off: only trouble", ("full", "compact", "off")),
    "gauge": Field(True, "how full the model is, in that line", (True, False)),
    "suggestions": Field(True, "what may come next, below it", (True, False)),
    "picker_preview": Field("auto", "where the picker shows a transcript",
                            ("auto", "right", "below", "off")),
    "picker_scope": Field("project", "whose sessions the picker lists first", ("project", "all")),
    "picker_sort": Field("recent", "and in which order", ("recent", "created", "size", "title")),
    "status_s": Field(2.0, "how often that line is looked at again", low=0.2, high=60.0),
    "watch_s": Field(2.0, "how often --watch draws anew", low=0.2, high=3600.0),
    "metrics_s": Field(60.0, "how often metrics go to the log at work", low=1.0, high=3600.0),
}  # fmt: skip
SPOKEN = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def spoken(value: Any) -> str:
    """Return a value as a person says it."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else f"{value:g}" if isinstance(
        value, float) else str(value)  # fmt: skip


def may_be(name: str) -> str:
    """Return what a setting may be, in words."""
    field = FIELDS[name]
    if field.choices:
        return ", ".join(map(spoken, field.choices))
    return f"{field.low:g} to {field.high:g} seconds"


def offered(typed: str) -> list[tuple[str, str]]:
    """Return what the words of `view` may become, with what it is: a setting; after one, that with what it may be."""
    name, blank, _ = typed.partition(" ")
    if name in FIELDS and blank:
        return [(f"{name} {spoken(choice)}", "") for choice in FIELDS[name].choices]
    return [(name, field.help) for name, field in FIELDS.items()]


def checked(name: str, value: Any) -> Any:
    """
    Return a value as it is kept.

    Raises:
        UsageError: there is no such setting, or it cannot have that value.
    """
    field = FIELDS.get(name)
    if field is None:
        raise _unknown(name)
    if field.choices:
        if isinstance(field.default, bool) and isinstance(value, str):
            value = SPOKEN.get(value.lower(), value)
        if not any(value == choice and type(value) is type(choice) for choice in field.choices):
            raise UsageError(f"{name} cannot be {str(value)[:40]!r}", f"it may be {may_be(name)}")
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not field.low <= number <= field.high:
        raise UsageError(f"{name} cannot be {str(value)[:40]!r}", f"it may be {may_be(name)}")
    return number


def _unknown(name: str) -> UsageError:
    return UsageError(f"no view setting is called {name[:40]!r}", ", ".join(sorted(FIELDS)))


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


def _from_2(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had one word for the layout of everything, and its time between drawings was the dashboard's."""
    layout = data.pop("layout", None)
    if layout == "wide":
        data["picker_preview"] = "right"
    elif layout == "compact":
        data |= {"picker_preview": "off", "status": "compact"}
    if "dashboard_s" in data:
        data["watch_s"] = data.pop("dashboard_s")
    return data


#: version -> how it becomes the next one
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}


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
        with contextlib.suppress(UsageError):
            values[name] = checked(name, value)
    return {"version": max(version, VERSION), **values}


class UiState:
    """
    The view of the current session.

    Args:
        home: where the view that a new session begins with is kept.
        sessions: returns whose current session carries the settings; None where none is kept in this process.
    """

    def __init__(self, home: Path, sessions: Callable[[], SessionManager | None]) -> None:
        self._file = home / "states" / "view.json"
        self._sessions = sessions
        self._last: dict[str, Any] | None = None
        self._seen: tuple[Any, dict[str, Any]] | None = None  # a session's settings, and what they are by now

    def get(self, name: str) -> Any:
        """
        Return one setting: the session's, else what was set last anywhere, else the default. Costs no query.

        Raises:
            UsageError: there is no such setting.
        """
        if name not in FIELDS:
            raise _unknown(name)
        return self._now()[name]

    def all(self) -> dict[str, Any]:
        """Return all settings with the version."""
        return dict(self._now())

    def _now(self) -> dict[str, Any]:
        sessions = self._sessions()
        session = sessions.current if sessions is not None else None
        kept = session.metadata.get(KEY) if session is not None else None
        if kept is not None:
            if self._seen is None or self._seen[0] is not kept:
                self._seen = kept, migrate(kept)
            return self._seen[1]
        if self._last is None:
            self._last = migrate(self._read())
        return self._last

    def _read(self) -> Any:
        with contextlib.suppress(OSError, ValueError, RecursionError), self._file.open("rb") as file:
            return json.loads(file.read(MOST_BYTES))
        return None

    def put(self, **values: Any) -> dict[str, Any]:
        """
        Change settings of the current session, and what the next new one begins with.

        Raises:
            UsageError: a setting does not exist or cannot have that value; nothing is changed then.
        """
        return self._keep(self.all() | {name: checked(name, value) for name, value in values.items()})

    def reset(self, *names: str) -> dict[str, Any]:
        """Give settings their defaults, all of them where none is named. Raises UsageError as `get` does."""
        for name in names:
            if name not in FIELDS:
                raise _unknown(name)
        return self._keep(self.all() | {name: FIELDS[name].default for name in names or FIELDS})

    def _keep(self, changed: dict[str, Any]) -> dict[str, Any]:
        if changed == self._now():
            return changed
        sessions = self._sessions()
        if sessions is not None and sessions.current is not None:
            sessions.annotate(ui=changed)
        self._last = changed
        young = self._file.with_name(f"view.{os.getpid()}.new")
        with contextlib.suppress(OSError):  # the session has it
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            young.write_text(json.dumps(changed), "utf-8")
            young.replace(self._file)
        return changed
