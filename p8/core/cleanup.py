"""What becomes of projects that nobody uses: warned of, marked, put into the trash (row J5). Off until switched on.

    day 27 warning · day 28 reminder · day 29 final warning · day 30 marked · day 31 into the trash

Days are counted from the last use, or from where an extension puts it. A step is never left out and never comes on
the same day as the one before it, so a clock that jumps, or a P8 that was not run for a year, makes things later and
never sooner: nothing goes that was not warned of on that many days and marked a whole day before. A use, a pin or an
extension ends it; so does a clock that turns out to have gone ahead. Every act is an event of the log.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from p8.core.log import note
from p8.core.portfolio import DAY_US, Portfolio
from p8.core.removal import Removal
from p8.errors import ConfigError, Conflict, P8Error
from p8.model import Notice, Project, ProjectRow, from_us

STATE = "cleanup"  #: what a project's row says of it: how many steps were made, when, and since which use
CHECKED = "projects.checked"  #: setting: when it was last looked
TOPIC = "projects"


class Act(NamedTuple):
    """One thing that cleanup does, or would do."""

    project: str  #: id
    name: str
    what: str  #: "warning", "reminder", "final warning", "mark", "delete" or "spare"
    day: int  #: whole days since the last use
    deleted_on_us: int  #: the earliest moment at which it goes; 0 for "spare"
    state: dict[str, int] | None  #: what the project's row says afterwards

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        on = f"{from_us(self.deleted_on_us):%Y-%m-%d}" if self.deleted_on_us else ""
        return {
            "delete": f"{self.name} was not used for {self.day} days and is in the trash now",
            "mark": f"{self.name} was not used for {self.day} days: it goes to the trash on {on}",
            "spare": f"{self.name} is in use again, or kept: it is not cleaned up",
        }.get(self.what, f"{self.what}: {self.name} was not used for {self.day} days; to the trash on {on}")


class Calendar(NamedTuple):
    """When what is done, in days since the last use."""

    after: int = 30
    warnings: int = 3

    @property
    def last(self) -> int:
        """Return the number of the last step: the deletion."""
        return self.warnings + 2

    def wanted(self, day: int) -> int:
        """Return how many steps the calendar has made by that day."""
        return max(0, min(day - (self.after - self.warnings) + 1, self.last))

    def what(self, step: int) -> str:
        """Return what a step is, counted from 1."""
        if step > self.warnings:
            return "mark" if step == self.warnings + 1 else "delete"
        if step == self.warnings and step > 1:
            return "final warning"
        return "warning" if step == 1 else "reminder"


def next_act(row: ProjectRow, base_us: int, now_us: int, calendar: Calendar, exempt: bool) -> Act | None:
    """
    Return what is to be done about one project now; None for nothing.

    Args:
        row: the project.
        base_us: from when its days are counted.
        now_us: the clock.
        calendar: which days.
        exempt: it is pinned or open.
    """
    said = row.project.meta.get(STATE)
    state = said if isinstance(said, dict) and {"step", "at", "base"} <= said.keys() else None
    day = (now_us - base_us) // DAY_US
    holds = state is not None and state["base"] == base_us and state["at"] <= now_us
    step = int(state["step"]) if state is not None and holds else 0
    wanted = 0 if exempt else calendar.wanted(day)
    named = row.project.id, row.project.name
    if not wanted:
        return Act(*named, "spare", max(day, 0), 0, None) if state is not None else None
    if wanted <= step:
        return None
    if state is not None and step:
        if day <= (state["at"] - base_us) // DAY_US:
            return None
        if step + 1 == calendar.last and now_us - state["at"] < DAY_US:
            return None
    left = calendar.last - (step + 1)
    new = {"step": step + 1, "at": now_us, "base": base_us}
    return Act(*named, calendar.what(step + 1), day, now_us + left * DAY_US, new)


class Cleanup:
    """
    Looks after unused projects.

    Args:
        portfolio: the projects.
        removal: puts them into the trash; its store tells and records what is done.
        calendar: the days that go for all projects.
        on: whether anything may be done at all.
        every_s: how often it looks by itself.

    Raises:
        ConfigError: the calendar makes no sense.
    """

    def __init__(
        self,
        portfolio: Portfolio,
        removal: Removal,
        calendar: Calendar,
        on: bool = False,
        every_s: float = 86_400.0,
    ) -> None:
        if not 0 <= calendar.warnings < calendar.after:
            raise ConfigError(
                f"project_cleanup_warning_days is {calendar.warnings}, project_cleanup_after_days {calendar.after}",
                "warnings must be 0 or more, and fewer than the days",
            )
        self.on = on
        self._portfolio = portfolio
        self._removal = removal
        self._store = removal.store
        self._calendar = calendar
        self._every_us = max(int(every_s * 1e6), 0)

    def plan(self, current: str = "") -> list[Act]:
        """
        Return what would be done now: the dry run.

        Args:
            current: id of the project that the person stands in; it is in use.

        Raises:
            StoreError: the database is out of reach.
        """
        return [act for row in self._portfolio.listed() if (act := self._act(row, current)) is not None]

    def run(self, current: str = "") -> list[Act]:
        """
        Do what `plan` says, each act recorded; what another process has done meanwhile is left out.

        Raises:
            StoreError: the database is out of reach.
        """
        if not self.on:
            return []
        for row in self._portfolio.listed(deleted=True):
            if self._removal.is_unfinished(row):
                self._finish(row.project)
        done = (self._do(act.project, act.what, current) for act in self.plan(current))
        return [act for act in done if act is not None]

    def look(self, current: str = "") -> list[Act]:
        """Do what is due, if nobody has looked for as long as is set; then say which projects are about to go."""
        if not self.on:
            return []
        done: list[Act] = []
        if self._store.settings.claim(CHECKED, self._turn):
            done = self.run(current)
        self._tell()
        return done

    def _turn(self, before: Any) -> int | None:
        now = self._store.clock()
        return None if isinstance(before, int) and 0 <= now - before < self._every_us else now

    def _act(self, row: ProjectRow, current: str) -> Act | None:
        own = row.project.config
        after = own.cleanup_after_days or self._calendar.after
        calendar = Calendar(after, min(own.cleanup_warning_days or self._calendar.warnings, after - 1))
        base, now = self._portfolio.due_us(row) - after * DAY_US, self._store.clock()
        act = next_act(row, base, now, calendar, exempt=False)
        if act is None and STATE not in row.project.meta:
            return None
        exempt = row.project.pinned or row.project.id == current or self._is_open(row)
        return next_act(row, base, now, calendar, exempt=True) if exempt else act

    def _is_open(self, row: ProjectRow) -> bool:
        try:
            self._removal.check_closed(row)
        except Conflict:
            return True
        return False

    def _do(self, project_id: str, what: str, current: str) -> Act | None:
        """Do one act, unless the project was used, kept or looked after by another process since it was planned."""
        row = self._portfolio.get(project_id)
        act = self._act(row, current) if row.deleted_us is None else None
        if act is None or act.what != what:
            return None
        gone = self._removal.gone(row, f"unused for {act.day} days") if what == "delete" else None

        def claimed(found: dict[str, Any]) -> dict[str, Any] | None:
            if found["meta"] != row.project.meta:
                return None
            meta = {**found["meta"], STATE: act.state, "deleted": gone}
            return {**found, "meta": {key: value for key, value in meta.items() if value is not None}}

        if not self._store.projects.update(project_id, claimed):
            return None
        note(self._store, f"project {act.what}", project=act.project, name=act.name, day=act.day, text=act.text)
        if what == "delete":
            self._finish(row.project)
        return act

    def _finish(self, project: Project) -> None:
        """Put a project's sessions and folder into the trash; what cannot be done now is tried at the next look."""
        try:
            self._removal.finish(project.id)
        except P8Error as error:
            text = f"{project.name} could not be put into the trash whole: {error.message}"
            note(self._store, "project failed", project=project.id, text=text)
            self._store.notice("trash of projects", Notice("warning", TOPIC, text, error.hint))

    def _tell(self) -> None:
        """Say which projects are about to go, as long as they are."""
        going = [row for row in self._portfolio.listed() if isinstance(row.project.meta.get(STATE), dict)]
        if not going:
            self._store.notice(TOPIC, None)
            return
        named = ", ".join(row.project.name for row in going[:5]) + (" …" if len(going) > 5 else "")
        text = f"not used for long, and about to go to the trash: {named}"
        hint = "/project cleanup --dry-run says when; /project pin or extend keeps one"
        self._store.notice(TOPIC, Notice("warning", TOPIC, text, hint))
