"""Projects made and kept by hand: ids, layout, the metadata file, filters, statistics, the trash."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.core.portfolio import DAY_US, Portfolio, checked_tags
from p8.core.projects import ID, MARKER, PREFIX, Projects, check_prefix, prefix_from
from p8.core.removal import Removal
from p8.core.sessions import SessionManager
from p8.errors import Conflict, NotFound, UsageError
from p8.store.manager import PersistenceManager
from p8.workspace.snapshots import too_much
from support.repos import make_repo


@pytest.fixture
def portfolio(manager: SessionManager) -> Portfolio:
    return Portfolio(manager)


def work_in(manager: SessionManager, project: str, *said: str) -> str:
    session = manager.start_session("demo", project=project)
    for text in said:
        manager.record_message({"role": "user", "content": text, "tokens_in": 3})
        manager.record_command(f"!{text}")
        manager.record_execution(text, exit_code=0)
    manager.end_session()
    return session.session_id


LETTERS = st.from_regex(r"[a-z0-9-]{0,36}", fullmatch=True)


@given(st.text(max_size=40) | st.from_regex(PREFIX.pattern, fullmatch=True) | LETTERS)
def test_a_prefix_is_taken_if_and_only_if_it_fits_the_rule(text: str) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    good = 1 <= len(text) <= 32 and text[0] in letters and set(text) <= set(letters + "0123456789-")
    if good:
        assert check_prefix(text) == text
        assert ID.fullmatch(f"{text}-0123abcd")
    else:
        with pytest.raises(UsageError):
            check_prefix(text)
    assert check_prefix(prefix_from(text))


def test_a_hosted_project_has_the_layout_of_the_requirement(portfolio: Portfolio, home: Path) -> None:
    row = portfolio.create("my-api", description="The API", tags=["web", "py", "web"], keep_days=7)
    folder = home / "workspaces" / row.project.id
    data = json.loads((folder / ".project_metadata.json").read_text())

    assert ID.fullmatch(row.project.id)
    assert row.project.prefix == "my-api"
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == [
        ".logs", ".memories", ".memories/hot", ".memories/persistent", ".project_metadata.json", "repo", "tmp",
    ]  # fmt: skip
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_dir()} == {0o700}
    assert stat.S_IMODE((folder / ".project_metadata.json").stat().st_mode) == 0o600
    assert (data["project_id"], data["tags"], data["config"]["cleanup_after_days"]) == (
        row.project.id,
        ["py", "web"],
        7,
    )
    assert str(home) not in (folder / ".project_metadata.json").read_text()  # paths are relative


def test_its_directory_is_that_project_wherever_one_stands_in_it(
    portfolio: Portfolio, store: PersistenceManager, home: Path
) -> None:
    row = portfolio.create("tool")
    repo = home / "workspaces" / row.project.id / "repo"
    make_repo(repo / "inner", "https://example.invalid/other")
    projects = Projects(store)
    for place in (repo, repo.parent, repo / "inner"):
        found = projects.of_directory(place)
        assert (found.id, found.workspace, found.root) == (row.project.id, str(repo.parent), str(repo))
    assert too_much(repo, home) == ""
    assert too_much(repo.parent.parent, home) != ""
    assert too_much(home / "journal", home) != ""


def test_a_store_that_was_lost_is_told_by_the_folder(portfolio: Portfolio, home: Path, tmp_path: Path) -> None:
    row = portfolio.create("tool", name="The Tool", tags=["a"])
    (tmp_path / "other").mkdir()
    (home / "workspaces").rename(tmp_path / "other" / "workspaces")
    other = PersistenceManager(tmp_path / "other", background=False)
    again = Projects(other).of_directory(tmp_path / "other" / "workspaces" / row.project.id / "repo")

    assert (again.id, again.name, again.tags) == (row.project.id, "The Tool", ("a",))
    assert again.workspace.startswith(str(tmp_path / "other"))
    assert Portfolio(SessionManager(other)).get(row.project.id).project.tags == ("a",)
    other.close()


def test_a_directory_of_ones_own_gets_a_mark_and_nothing_else(
    portfolio: Portfolio, store: PersistenceManager, tmp_path: Path
) -> None:
    repo = make_repo(tmp_path / "repo")
    below = repo.root / "src"
    below.mkdir()
    row = portfolio.create("mine", below)

    assert json.loads((repo.root / MARKER).read_text()) == {"id": row.project.id, "name": "mine"}
    assert Projects(store).of_directory(below).id == row.project.id
    assert row.project.workspace == ""
    with pytest.raises(Conflict, match="already"):
        portfolio.create("mine", repo.root)
    with pytest.raises(UsageError):
        portfolio.create("mine", Path("/tmp"))


def test_what_does_not_fit_makes_nothing(portfolio: Portfolio, home: Path, tmp_path: Path) -> None:
    for words in ({"tags": ["two words"]}, {"tags": [""]}, {"keep_days": -1}, {"keep_days": 10**9}):
        with pytest.raises(UsageError):
            portfolio.create("ok", None, **words)
    with pytest.raises(UsageError):
        portfolio.create("Not OK")
    assert portfolio.listed() == []
    assert not (home / "workspaces").exists()


def test_so_many_and_no_more(manager: SessionManager) -> None:
    portfolio = Portfolio(manager, max_projects=2)
    first = portfolio.create("a")
    portfolio.create("b")
    with pytest.raises(Conflict, match="2 projects"):
        portfolio.create("c")
    Removal(portfolio, manager).delete(first)
    assert portfolio.create("c").project.prefix == "c"


def test_listing_filters_and_finds(portfolio: Portfolio, store: PersistenceManager) -> None:
    one = portfolio.create("web-shop", tags=["web", "py"]).project.id
    two = portfolio.create("web-blog", tags=["web"]).project.id
    three = portfolio.create("tool", name="Web of tools").project.id
    portfolio.change(two, pinned=True)

    assert next(r.project.id for r in portfolio.listed("web-")) == two
    assert {r.project.id for r in portfolio.listed("web-")} == {one, two}
    assert [r.project.id for r in portfolio.listed(tags=["web", "py"])] == [one]
    assert portfolio.resolve(three).project.id == three
    assert portfolio.resolve("web-shop").project.id == one
    assert portfolio.resolve("of tools").project.id == three
    with pytest.raises(Conflict, match="several"):
        portfolio.resolve("web")
    with pytest.raises(NotFound):
        portfolio.resolve("nothing")


def test_statistics_and_records_are_those_of_its_sessions(portfolio: Portfolio, manager: SessionManager) -> None:
    row = portfolio.create("tool")
    first = work_in(manager, row.project.id, "one", "two")
    second = work_in(manager, row.project.id, "three")
    work_in(manager, "other-00000000", "four")
    manager.annotate(first, trashed=True)
    found = portfolio.get(row.project.id)

    assert found.statistics[:7] == (2, 1, 3, 3, 3, 9, 0)
    assert found.used_us == found.statistics.last_us > found.created_us
    assert {(r.id, r.messages, r.status) for r in portfolio.records(row.project.id)} == {
        (first, 2, "completed"), (second, 1, "completed"),
    }  # fmt: skip
    portfolio.settle(row.project.id)
    data = json.loads((portfolio.workspaces / row.project.id / ".project_metadata.json").read_text())
    assert data["statistics"]["messages"] == 3
    assert {s["id"] for s in data["sessions"]} == {first, second}


def test_tags_are_added_and_removed_by_two_at_once(portfolio: Portfolio, home: Path) -> None:
    project = portfolio.create("tool").project.id
    stores = [PersistenceManager(home, background=False) for _ in range(4)]

    def add(number: int) -> None:
        other = Portfolio(SessionManager(stores[number]))
        for step in range(5):
            other.tag(project, [f"t{number}-{step}"])

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    [s.close() for s in stores]

    assert len(portfolio.get(project).project.tags) == 20
    assert portfolio.tag(project, [], ["t0-0"]).project.tags[0] == "t0-1"


def test_an_extension_counts_from_the_due_day(portfolio: Portfolio) -> None:
    project = portfolio.create("tool").project.id
    due = portfolio.due_us(portfolio.get(project))
    assert portfolio.due_us(portfolio.extend(project, 10)) == due + 10 * DAY_US
    assert portfolio.due_us(portfolio.extend(project)) == due + 40 * DAY_US
    for days in (-1, 10**9):
        with pytest.raises(UsageError):
            portfolio.extend(project, days)


def test_an_open_session_keeps_its_project_out_of_the_trash(portfolio: Portfolio, manager: SessionManager) -> None:
    row = portfolio.create("tool")
    manager.start_session("demo", project=row.project.id)
    removal = Removal(portfolio, manager)
    with pytest.raises(Conflict, match="is open"):
        removal.delete(row)
    assert portfolio.get(row.project.id).deleted_us is None
    manager.end_session()
    assert removal.delete(row).deleted_us is not None
    assert manager.list_all_sessions() == []
    with pytest.raises(NotFound):
        portfolio.resolve("tool")
    assert portfolio.resolve("tool", deleted=True).project.id == row.project.id


def test_using_it_again_takes_a_deleted_project_back(
    portfolio: Portfolio, manager: SessionManager, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    row = portfolio.create("mine", tmp_path / "mine")
    Removal(portfolio, manager).delete(row)
    assert portfolio.listed() == []
    portfolio.touch(row.project.id)
    assert [r.project.id for r in portfolio.listed()] == [row.project.id]


def test_sessions_can_be_adopted(portfolio: Portfolio, manager: SessionManager, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    before = Projects(manager.store).of_directory(repo.root)
    session = work_in(manager, before.id, "x")
    row = portfolio.create("mine", repo.root)
    assert portfolio.adopt(row, before) == 1
    assert manager.store.sessions.get(session).project == row.project.id


def test_what_another_version_wrote_into_a_project_stays(portfolio: Portfolio, store: PersistenceManager) -> None:
    project = portfolio.create("tool").project.id
    portfolio.change(project, novelty={"deep": [1]}, config={"cleanup_after_days": "x", "other": 3})
    row = portfolio.tag(project, ["a"])
    assert row.project.meta["novelty"] == {"deep": [1]}
    assert row.project.config.cleanup_after_days == 0


def test_identity_does_not_overwrite_what_was_said_meanwhile(
    portfolio: Portfolio, store: PersistenceManager, tmp_path: Path
) -> None:
    repo = make_repo(tmp_path / "repo")
    project = Projects(store).of_directory(repo.root)
    portfolio.tag(project.id, ["kept"])
    repo.root.rename(tmp_path / "moved")
    assert Projects(store).of_directory(tmp_path / "moved").id == project.id
    assert portfolio.get(project.id).project.tags == ("kept",)


def test_tags_are_words() -> None:
    assert checked_tags(["b", "a", "b"]) == ["a", "b"]
    for bad in ("", "a b", "a\n", "x" * 65, "\x1b[31m"):
        with pytest.raises(UsageError):
            checked_tags([bad])
