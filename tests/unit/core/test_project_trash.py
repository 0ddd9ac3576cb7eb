"""Projects in the trash under a clock that tests turn: when they go, what goes with them, and the dry run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p8.core.portfolio import DAY_US, Portfolio
from p8.core.project_trash import TOLD, ProjectTrash
from p8.core.removal import Removal
from p8.core.sessions import SessionManager
from p8.core.trash import Trash
from p8.errors import Conflict, InvalidTransition, NotFound
from p8.model import ProjectRow
from p8.store.manager import PersistenceManager

BEGIN = 1_795_000_000_000_000


class House:
    """A home whose clock stands still until it is turned."""

    def __init__(self, home: Path, days: int = 30) -> None:
        self.now = BEGIN
        self.store = PersistenceManager(home, background=False, clock=lambda: self.now)
        self.sessions = SessionManager(self.store)
        self.portfolio = Portfolio(self.sessions)
        self.removal = Removal(self.portfolio, self.sessions)
        self.trash = ProjectTrash(self.portfolio, self.removal, Trash(self.sessions, days), days)

    def make(self, prefix: str, directory: Path | None = None) -> str:
        return self.portfolio.create(prefix, directory).project.id

    def work_in(self, project: str) -> str:
        session = self.sessions.start_session("demo", project=project)
        self.sessions.record_message({"role": "user", "content": "something said"})
        self.sessions.end_session()
        return session.session_id

    def delete(self, project: str) -> ProjectRow:
        return self.removal.delete(self.portfolio.get(project))

    @property
    def folders(self) -> list[str]:
        return sorted(p.name for p in self.removal.trash.iterdir()) if self.removal.trash.is_dir() else []


@pytest.fixture
def house(home: Path) -> Iterator[House]:
    made = House(home)
    yield made
    made.store.close()


def test_what_is_due_is_listed_a_day_before_it_goes_and_comes_back_until_then(house: House) -> None:
    project, other = house.make("old"), house.make("other")
    (house.portfolio.workspaces / project / "repo" / "a.txt").write_text("kept")
    house.delete(project)
    house.delete(other)
    house.now += 30 * DAY_US
    assert house.trash.due() == []
    house.now += DAY_US
    assert {one.row.project.id for one in house.trash.due()} == {project, other}
    assert house.trash.expiring() == []
    assert house.trash.expire() == []
    assert ["old" in n.text and "other" in n.text for n in house.store.notices()] == [True]
    house.now += DAY_US - 1
    assert house.trash.expire() == []
    house.removal.restore(house.portfolio.get(other))
    house.now += 1
    assert [one.row.project.id for one in house.trash.expiring()] == [project]
    assert house.trash.expire() == [project]

    assert house.folders == []
    assert house.portfolio.listed(deleted=True) == []
    with pytest.raises(NotFound):
        house.portfolio.get(project)
    assert house.portfolio.get(other).deleted_us is None
    assert (house.portfolio.workspaces / other / "repo").is_dir()
    assert house.store.notices() == []
    assert house.store.settings.get(TOLD) == {}
    said = [e.entry.data["what"] for e in house.store.feed.after("0.0") if e.entry.kind == "event"]
    assert said[-1] == "project purged"


def test_a_deletion_anew_is_listed_anew(house: House) -> None:
    project = house.make("old")
    house.delete(project)
    house.now += 31 * DAY_US
    house.trash.expire()
    house.removal.restore(house.portfolio.get(project))
    house.delete(project)
    house.now += 40 * DAY_US
    assert house.trash.expire() == []
    house.now += DAY_US
    assert house.trash.expire() == [project]


def test_nothing_goes_unless_it_is_set_nor_what_is_pinned(home: Path) -> None:
    house = House(home, days=0)
    house.delete(house.make("old"))
    house.now += 4000 * DAY_US
    assert (house.trash.due(), house.trash.expire(), len(house.folders)) == ([], [], 1)
    pinned = ProjectTrash(house.portfolio, house.removal, Trash(house.sessions, 1), 1)
    house.portfolio.change(house.portfolio.listed(deleted=True)[0].project.id, pinned=True)
    assert pinned.due() == []
    house.store.close()


def test_by_hand_sessions_go_too_and_those_that_forks_share_are_named(house: House, tmp_path: Path) -> None:
    project = house.make("old")
    shared, alone = house.work_in(project), house.work_in(project)
    house.sessions.fork_session(shared)
    house.sessions.annotate(project="elsewhere-12345678")
    house.sessions.end_session()
    target = tmp_path / "mine"
    target.mkdir()
    (target / "precious").write_text("x")
    repo = house.portfolio.workspaces / project / "repo"
    (repo / "link").symlink_to(target)
    (repo / "shut").mkdir()
    (repo / "shut" / "a").write_text("x" * 1000)
    os.chmod(repo / "shut", 0o500)
    with pytest.raises(InvalidTransition):
        house.trash.purge(house.portfolio.get(project))
    done = house.trash.purge(house.delete(project))

    assert done.sessions == (alone,)
    assert len(done.kept) == 1
    assert shared in done.kept[0]
    assert done.size_bytes > 1000
    assert house.folders == []
    assert (target / "precious").read_text() == "x"
    assert house.store.sessions.get(shared).messages == 1


def test_a_directory_of_the_persons_own_is_never_touched(house: House, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").write_text("x")
    project = house.make("own", mine)
    house.trash.purge(house.delete(project))

    assert (mine / "precious").read_text() == "x"
    assert house.store.projects.get(project) is None


def test_what_a_crash_broke_off_is_finished_and_never_restored_by_half(house: House, monkeypatch) -> None:
    project = house.make("old")
    row = house.delete(project)
    from p8.workspace import hosted

    def power_cut(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hosted, "remove", power_cut)
    with pytest.raises(KeyboardInterrupt):
        house.trash.purge(row)
    monkeypatch.undo()
    with pytest.raises(Conflict):
        house.removal.restore(house.portfolio.get(project))
    house.trash.expire()

    assert house.folders == []
    assert house.store.projects.get(project) is None


def test_one_restored_meanwhile_stays(house: House) -> None:
    project = house.make("old")
    row = house.delete(project)
    house.removal.restore(row)
    with pytest.raises(Conflict):
        house.trash.purge(row)
    assert (house.portfolio.workspaces / project / "repo").is_dir()


THINGS = st.lists(
    st.tuples(st.sampled_from(["wait", "wait", "jump", "pin", "delete", "restore"]), st.integers(0, 2),
              st.integers(0, 20)), max_size=25,
)  # fmt: skip


@given(THINGS)
@settings(max_examples=25)
def test_the_dry_run_equals_what_then_happens(things: list) -> None:
    folder = tempfile.mkdtemp()
    house = House(Path(folder) / "home", days=4)
    projects = [house.make(name) for name in ("a", "b", "c")]
    listed: dict[str, int] = {}
    for what, which, number in things:
        project = projects[which]
        there = house.store.projects.get(project) is not None
        if what in {"wait", "jump"}:
            house.now += (number - (10 if what == "jump" else 0)) * DAY_US // 2
        elif there and what == "pin":
            house.portfolio.change(project, pinned=number % 2 == 0 or None)
        elif there and what == "delete" and house.portfolio.get(project).deleted_us is None:
            house.delete(project)
        elif there and what == "restore" and house.portfolio.get(project).deleted_us is not None:
            house.removal.restore(house.portfolio.get(project))
        before = house.folders
        planned = [one.row.project.id for one in house.trash.expiring()]
        keys = {one.row.project.id: one.key for one in house.trash.due()}
        assert house.folders == before
        gone = house.trash.expire()
        assert gone == planned
        for one in gone:
            assert house.now - listed[keys[one]] >= DAY_US  # never before it stood in the list for a day
            assert house.store.projects.get(one) is None
            assert not any(name.startswith(one) for name in house.folders)
        for one in house.trash.due():
            listed.setdefault(one.key, house.now)
    house.store.close()
    shutil.rmtree(folder)
