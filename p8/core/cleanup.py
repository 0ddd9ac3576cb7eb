"""When a project that nobody uses is warned of, marked and put into the trash (row J5): the calendar, and nothing else.

    day 27, 28, 29    warned, once a day            (after 30 days, warning 3 days before)
    day 30            marked
    day 31            deleted, if nobody used it

Days are whole days since the last use. Each look takes one step at most, and each step needs a later day than the one
before it: after a machine was off for months, or a clock has jumped, there are still three warnings on three days, then
the mark, then the deletion. What was written down on a day that has not come yet, as the clock says, does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

DAY_US = 86_400_000_000


class Terms(NamedTuple):
    """When projects are cleaned up."""

    after_days: int = 30
    warning_days: int = 3


class Standing(NamedTuple):
    """How far the cleanup of a project has come. Days count from the last use."""

    base_us: int = 0  #: the last use they count from
    warned: tuple[int, ...] = ()
    marked: int | None = None

    @classmethod
    def from_dict(cls, data: Any) -> Standing:
        """Read what a project's row says; what makes no sense counts as nothing."""
        try:
            marked = data["marked"]
            return cls(int(data["base"]), tuple(sorted(int(d) for d in data["warned"])),
                       int(marked) if marked is not None else None)  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return cls()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"base": self.base_us, "warned": list(self.warned), "marked": self.marked}


class Step(NamedTuple):
    """What is to be done about a project now."""

    project: str
    name: str
    action: str  #: "warn", "mark", "delete" or "clear"
    day: int
    left_days: int  #: at the soonest until it is deleted
    standing: Standing  #: after the step


def last_use_us(row: Mapping[str, Any], last_session_us: int, terms: Terms) -> int:
    """
    Return when a project was used last, microseconds since 1970.

    An extension counts as a use so long before its end that the mark comes when it ends.
    """
    kept_until = row["meta"].get("kept_until")
    extended = int(kept_until) - terms.after_days * DAY_US if isinstance(kept_until, int) else 0
    return max(int(row["created"]), int(row["last"]), last_session_us, extended)


def next_step(row: Mapping[str, Any], last_session_us: int, now_us: int, terms: Terms) -> Step | None:
    """
    Return the step that is due for a project, or None.

    Args:
        row: the project's row: id, name, created, last, meta (pinned, kept_until, cleanup, trashed).
        last_session_us: the last activity of its sessions; 0 where it has none.
        now_us: the clock, whatever it says.
        terms: the calendar.
    """
    meta = row["meta"]
    if meta.get("trashed"):
        return None
    known = Standing.from_dict(meta.get("cleanup"))
    base = last_use_us(row, last_session_us, terms)
    day = (now_us - base) // DAY_US
    first = terms.after_days - terms.warning_days
    if meta.get("pinned") or known.base_us != base or day < first:
        if known.warned or known.marked is not None:
            return _step(row, "clear", max(day, 0), Standing(), terms)
        if meta.get("pinned") or day < first:
            return None
        known = Standing(base)
    warned = tuple(d for d in known.warned if d <= day)
    marked = known.marked if known.marked is not None and known.marked <= day else None
    if day in warned or day == marked:
        return None
    if len(warned) < terms.warning_days:
        return _step(row, "warn", day, Standing(base, (*warned, day)), terms)
    if marked is None:
        return _step(row, "mark", day, Standing(base, warned, day), terms) if day >= terms.after_days else None
    return _step(row, "delete", day, Standing(base, warned, marked), terms) if day > terms.after_days else None


def _step(row: Mapping[str, Any], action: str, day: int, standing: Standing, terms: Terms) -> Step:
    """Return a step, with the days that are left: those of the calendar, and a day for each step still to come."""
    to_come = max(0, terms.warning_days - len(standing.warned)) + (standing.marked is None) + 1
    left = 0 if action == "delete" else max(to_come, terms.after_days + 1 - day)
    return Step(str(row["id"]), str(row["name"]), action, day, left, standing)
