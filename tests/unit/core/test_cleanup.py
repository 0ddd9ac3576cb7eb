"""The calendar under a clock that tests turn: exact days, jumps both ways, pins, extensions, and the dry run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p8.core.cleanup import STATE, Act, Calendar, Cleanup, next_act
from p8.core.portfolio import DAY_US, Portfolio
from p8.core.removal import Removal
from p8.core.sessions import SessionManager
from p8.errors import ConfigError
from p8.model import Project, ProjectId, ProjectRow, ProjectStatistics
from p8.store.feed import START
from p8.store.manager import PersistenceManager

BEGIN = 1_795_000_000_000_000
HOUR_US = DAY_US // 24


class House:
    """A home whose clock stands still until it is turned."""

    def __init__(self, home: Path, calendar: Calendar = Calendar(), on: bool = True) -> None:  # noqa: B008 immutable
        self.now = BEGIN
        self.store = PersistenceManager(home, background=False, clock=lambda: self.now)
        self.sessions = SessionManager(self.store)
        self.portfolio = Portfolio(self.sessions, after_days=calendar.after)
        self.removal = Removal(self.portfolio, self.sessions)
        self.cleanup = Cleanup(self.portfolio, self.removal, calendar, on)

    def make(self, prefix: str, days_ago: float = 0, hosted: bool = True, directory: Path | None = None) -> str:
        here, self.now = self.now, self.now - int(days_ago * DAY_US)
        row = self.portfolio.create(prefix, None if hosted else directory)
        self.now = here
        return row.project.id

    def work_in(self, project: str, text: str = "x") -> str:
        session = self.sessions.start_session("demo", project=project)
        self.sessions.record_message({"role": "user", "content": text})
        self.sessions.end_session()
        return session.session_id

    def acts(self, current: str = "") -> list[tuple[str, str, int]]:
        return [(a.project.rsplit("-", 1)[0], a.what, a.day) for a in self.cleanup.run(current)]

    def logged(self) -> list[str]:
        """Return what cleanup has logged, without what a person did by hand."""
        found, cursor = [], START
        while batch := self.store.feed.after(cursor):
            found += [str(e.entry.data.get("what", "")) for e in batch]
            cursor = batch[-1].cursor
        return [what for what in found if what.startswith("project ") and what.split()[1] not in {"created", "changed"}]


@pytest.fixture
def house(home: Path) -> Iterator[House]:
    made = House(home)
    yield made
    made.store.close()


@contextmanager
def scratch(calendar: Calendar = Calendar()) -> Iterator[House]:  # noqa: B008 immutable
    folder = tempfile.mkdtemp()
    made = House(Path(folder) / "home", calendar)
    try:
        yield made
    finally:
        made.store.close()
        shutil.rmtree(folder)


def test_the_calendar_of_the_requirement(house: House) -> None:
    project = house.make("old")
    session = house.work_in(project)
    found = []
    for _day in range(40):
        found += house.acts()
        house.now += DAY_US

    assert found == [
        ("old", "warning", 27), ("old", "reminder", 28), ("old", "final warning", 29), ("old", "mark", 30),
        ("old", "delete", 31),
    ]  # fmt: skip
    assert house.logged() == [f"project {what}" for _, what, _ in found]
    assert house.portfolio.get(project).deleted_us == BEGIN + 31 * DAY_US
    assert house.store.sessions.get(session).trashed_us is not None
    assert not (house.portfolio.workspaces / project).exists()
    assert [p.name[: len(project)] for p in house.removal.trash.iterdir()] == [project]
    assert house.portfolio.listed() == []


def test_what_was_deleted_comes_back_whole(house: House) -> None:
    project = house.make("old")
    session, apart = house.work_in(project), house.work_in(project)
    house.sessions.annotate(apart, trashed=True)  # by hand, before
    (house.portfolio.workspaces / project / "repo" / "a.txt").write_text("kept")
    for _day in range(32):
        house.acts()
        house.now += DAY_US
    house.removal.restore(house.portfolio.resolve("old", deleted=True))

    assert (house.portfolio.workspaces / project / "repo" / "a.txt").read_text() == "kept"
    assert house.store.sessions.get(session).trashed_us is None
    assert house.store.sessions.get(apart).trashed_us is not None
    assert [row.project.id for row in house.portfolio.listed()] == [project]
    assert house.acts() == []
    house.now += 27 * DAY_US
    assert house.acts() == [("old", "warning", 27)]


def test_off_means_nothing_at_all(home: Path) -> None:
    house = House(home, on=False)
    house.make("old", 400)
    for _day in range(10):
        assert house.cleanup.run() == []
        assert house.cleanup.look() == []
        house.now += DAY_US
    assert [act.what for act in house.cleanup.plan()] == ["warning"]
    assert house.logged() == []
    house.store.close()


def test_a_directory_of_the_persons_own_is_never_touched(house: House, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "work.txt").write_text("x")
    house.make("mine", hosted=False, directory=mine)
    for _day in range(32):
        house.acts()
        house.now += DAY_US
    assert house.portfolio.listed() == []
    assert sorted(p.name for p in mine.iterdir()) == [".ai-sessions", "work.txt"]


def test_use_pin_extension_and_standing_in_it_end_it(house: House) -> None:
    used, pinned, extended, here = (house.make(name) for name in ("used", "pinned", "extended", "here"))
    house.now += 30 * DAY_US
    house.acts()  # late: the warning comes first
    for _day in range(3):
        house.now += DAY_US
        house.acts()
    assert house.portfolio.get(used).project.meta[STATE]["step"] == 4
    house.work_in(used)
    house.portfolio.change(pinned, pinned=True)
    house.portfolio.extend(extended, 90)
    house.now += DAY_US

    assert sorted(house.acts(current=here)) == [
        ("extended", "spare", 0), ("here", "spare", 34), ("pinned", "spare", 34), ("used", "spare", 1),
    ]  # fmt: skip
    assert house.acts(current=here) == []
    house.now += 85 * DAY_US  # extended on day 33 until day 123
    assert [a for a in house.acts(here) if a[0] == "extended"] == []
    house.now += DAY_US
    assert [a for a in house.acts(here) if a[0] == "extended"] == [("extended", "warning", 27)]


def test_a_project_with_an_open_session_is_not_cleaned_up(house: House) -> None:
    project = house.make("open")
    house.sessions.start_session("demo", project=project)
    house.now += 400 * DAY_US
    assert house.acts() == []
    house.sessions.end_session()
    house.now += 1
    assert house.acts() == [("open", "warning", 400)]


def test_a_clock_that_jumps_forward_makes_it_later_and_back_forgets_it(house: House) -> None:
    house.make("one", 5)
    house.now += 365 * DAY_US
    assert house.acts() == [("one", "warning", 370)]
    assert house.acts() == []
    house.now -= 365 * DAY_US
    assert house.acts() == [("one", "spare", 5)]
    assert house.acts() == []
    house.now += 22 * DAY_US
    assert house.acts() == [("one", "warning", 27)]


def test_a_use_in_the_future_is_a_use(house: House) -> None:
    house.make("ahead", -1000)
    house.now += 500 * DAY_US
    assert house.acts() == []


def test_a_crash_in_the_middle_of_a_deletion_is_finished(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    project = house.make("old")
    session = house.work_in(project)
    with monkeypatch.context() as patch:
        patch.setattr(Removal, "finish", lambda *_: (_ for _ in ()).throw(SystemExit))
        for _day in range(31):
            house.now += DAY_US
            if house.now - BEGIN == 31 * DAY_US:
                with pytest.raises(SystemExit):
                    house.acts()
            else:
                house.acts()
    assert house.store.sessions.get(session).trashed_us is None
    house.now += DAY_US
    assert house.acts() == []

    assert house.store.sessions.get(session).trashed_us is not None
    assert not (house.portfolio.workspaces / project).exists()


def test_it_looks_once_a_day_whoever_asks(home: Path) -> None:
    one = House(home)
    two = House(home)
    one.make("old", 27)
    assert [act.what for act in one.cleanup.look()] == ["warning"]
    assert two.cleanup.look() == []
    assert any("about to go" in notice.text for notice in two.store.notices())
    two.now += DAY_US
    assert [act.what for act in two.cleanup.look()] == ["reminder"]
    one.store.close()
    two.store.close()


def test_two_processes_at_once_do_each_act_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = House(home), House(home)
    one.make("old", 27)
    stale = two.cleanup.plan()
    assert [act.what for act in one.cleanup.run()] == ["warning"]
    monkeypatch.setattr(two.cleanup, "plan", lambda _current="": stale)
    assert two.cleanup.run() == []
    one.store.close()
    two.store.close()


@pytest.mark.parametrize(("after", "warnings"), [(0, 0), (3, 3), (30, -1), (2, 5)])
def test_a_calendar_without_sense_is_refused(house: House, after: int, warnings: int) -> None:
    with pytest.raises(ConfigError):
        Cleanup(house.portfolio, house.removal, Calendar(after, warnings))


# properties of the rule alone: thousands of histories


def row_of(state: dict[str, int] | None, pinned: bool = False) -> ProjectRow:
    meta: dict[str, Any] = {STATE: state} if state is not None else {}
    project = Project(ProjectId("p-00000000"), "p", "", meta=meta | ({"pinned": True} if pinned else {}))
    return ProjectRow(project, BEGIN, BEGIN, ProjectStatistics())


def lived(calendar: Calendar, moves: list[tuple[str, int]]) -> list[tuple[int, int, Act]]:
    """Run a history of clock moves and uses with a check after each; return (now, base, act) until it is deleted."""
    now = base = BEGIN
    state: dict[str, int] | None = None
    found = []
    for what, hours in moves:
        now += hours * HOUR_US
        if what == "use":
            base = max(base, now)
        act = next_act(row_of(state), base, now, calendar, exempt=what == "pin")
        assert act == next_act(row_of(state), base, now, calendar, exempt=what == "pin")
        if act is not None:
            found.append((now, base, act))
            state = act.state
            if act.what == "delete":
                break
    return found


MOVES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["check", "check", "check", "use", "pin"]), st.integers(0, 60)),
        st.tuples(st.just("check"), st.integers(-24 * 500, 24 * 500)),
    ),
    max_size=80,
)
CALENDARS = st.integers(1, 60).flatmap(lambda after: st.builds(Calendar, st.just(after), st.integers(0, after - 1)))


@given(CALENDARS, MOVES)
@settings(max_examples=600)
def test_nothing_goes_without_every_warning_on_days_of_its_own(calendar: Calendar, moves: list) -> None:
    acts = lived(calendar, moves)
    for at, (now, base, act) in enumerate(acts):
        assert act.day == max((now - base) // DAY_US, 0)
        if act.what != "spare":
            assert act.day >= calendar.after - calendar.warnings
        if act.what != "delete":
            continue
        steps = acts[at - calendar.warnings - 1 : at + 1]
        assert [a.what for _, _, a in steps] == [calendar.what(n) for n in range(1, calendar.last + 1)]
        assert {b for _, b, _ in steps} == {base}
        days = [a.day for _, _, a in steps]
        assert days == sorted(set(days))
        assert now - steps[-2][0] >= DAY_US
        assert act.day > calendar.after


@given(CALENDARS, st.integers(0, 23))
def test_looked_at_daily_each_step_comes_on_its_day(calendar: Calendar, hour: int) -> None:
    days = calendar.after + 5
    acts = lived(calendar, [("check", hour), *[("check", 24)] * days])
    first = calendar.after - calendar.warnings
    assert [(a.day, a.what) for _, _, a in acts] == [
        (first + n - 1, calendar.what(n)) for n in range(1, calendar.last + 1)
    ]
    assert acts[-1][2].day == calendar.after + 1


@given(CALENDARS, st.lists(st.integers(1, 24 * 26), max_size=60))
def test_what_is_used_in_time_is_never_spoken_of(calendar: Calendar, hours: list[int]) -> None:
    limit = (calendar.after - calendar.warnings) * 24
    moves = [("use", h) for h in hours if h < limit]
    assert lived(calendar, moves) == []


@given(st.integers(24 * 40, 24 * 4000), st.integers(1, 8))
def test_one_jump_forward_is_one_step(jump: int, checks: int) -> None:
    acts = lived(Calendar(), [("check", 5), ("check", jump), *[("check", 0)] * checks])
    assert [a.what for _, _, a in acts] == ["warning"]


# and of the whole, on a real store


THINGS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "wait", "wait", "jump", "use", "pin", "unpin", "extend", "delete", "restore"]),
        st.integers(0, 2), st.integers(0, 40),
    ),
    max_size=25,
)  # fmt: skip


@given(THINGS)
@settings(max_examples=25)
def test_the_dry_run_equals_what_then_happens(things: list) -> None:
    with scratch(Calendar(6, 2)) as house:
        projects = [house.make(name) for name in ("a", "b", "c")]
        for what, which, number in things:
            project = projects[which]
            if what == "wait":
                house.now += number % 5 * DAY_US // 2
            elif what == "jump":
                house.now += (number - 20) * DAY_US
            elif what in {"pin", "unpin"}:
                house.portfolio.change(project, pinned=(what == "pin") or None)
            elif what == "extend":
                house.portfolio.extend(project, number + 1)
            elif what == "use" and house.portfolio.get(project).deleted_us is None:
                house.work_in(project)
            elif what == "delete" and house.portfolio.get(project).deleted_us is None:
                house.removal.delete(house.portfolio.get(project))
            elif what == "restore" and house.portfolio.get(project).deleted_us is not None:
                house.removal.restore(house.portfolio.get(project))
            planned = house.cleanup.plan()
            before = {p: house.portfolio.get(p) for p in projects}
            assert house.cleanup.plan() == planned
            assert {p: house.portfolio.get(p) for p in projects} == before  # it changed nothing
            logged = len(house.logged())
            assert house.cleanup.run() == planned
            assert house.logged()[logged:] == [f"project {act.what}" for act in planned]
            for act in planned:
                row = house.portfolio.get(act.project)
                assert (row.deleted_us is not None) == (act.what == "delete")
                assert not (row.project.pinned and act.what != "spare")
