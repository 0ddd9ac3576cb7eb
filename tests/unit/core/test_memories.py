from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.core.memories import Memories
from p8.core.recall import Index, words_of
from p8.core.shelf import Memory, parse, render
from p8.errors import Conflict, NotFound, StoreError, UsageError
from p8.testing import fixed_clock


def memories_in(home: Path, project: str = "demo-12345678", session: str = "s1", **more) -> Memories:
    return Memories(home, lambda: (project, None), lambda: session, **more)


@pytest.fixture
def memories(home: Path) -> Memories:
    return memories_in(home, clock=fixed_clock())


def test_what_is_remembered_comes_back_in_its_scope(memories: Memories, home: Path) -> None:
    mine = memories.remember("I like short answers", "user", keep=True)
    build = memories.remember("The build needs Python 3.11", tags=["build"])
    memories.remember("We are renaming the parser", "session")
    memories.close()

    here = memories_in(home)
    assert [m.text for m in here.all()] == [
        "We are renaming the parser", "The build needs Python 3.11", "I like short answers",
    ]  # fmt: skip
    assert here.get(build.id) == build
    assert here.get(mine.id).text == mine.text
    assert [m.text for m in memories_in(home, project="other-87654321", session="s2").all()] == [mine.text]


def test_a_persistent_memory_is_a_file_a_person_may_edit_add_or_remove(memories: Memories) -> None:
    made = memories.remember("The build needs Python 3.11", keep=True, tags=["build", "ci"])
    file = memories.shelf("project").path(made.id)
    assert file.read_text().endswith("---\nThe build needs Python 3.11\n")
    assert "tags: build, ci" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0

    file.write_text(file.read_text().replace("3.11", "3.12"))
    (file.parent / "style.md").write_text("Tabs, never spaces.\n")
    assert {m.text for m in memories.all()} == {"The build needs Python 3.12", "Tabs, never spaces."}
    assert memories.get("style").text == "Tabs, never spaces."
    assert memories.get(made.id).tags == ("build", "ci")
    assert [m.id for m in memories.recall("python 3.12")] == [made.id]
    file.unlink()
    assert [m.id for m in memories.all()] == ["style"]
    with pytest.raises(NotFound):
        memories.get(made.id)


def test_two_processes_at_once_keep_both(home: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from p8.core.memories import Memories
        home, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
        memories = Memories(home, lambda: ("demo-12345678", None), snapshot_s=0)
        for number in range(count):
            memories.remember(f"{name} {number}", "user")
            memories.remember(f"{name} {number}", "project", keep=True)
            memories.snapshot()
        memories.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(home)]
    running = [subprocess.Popen([*command, name, "25"]) for name in ("one", "two", "three")]
    assert [process.wait(60) for process in running] == [0, 0, 0]

    expected = {f"{name} {n}" for name in ("one", "two", "three") for n in range(25)}
    known = memories_in(home)
    assert {m.text for m in known.all("user")} == expected
    assert {m.text for m in known.all("project")} == expected


def test_what_one_forgets_does_not_come_back_from_the_others_snapshot(home: Path) -> None:
    one, two = memories_in(home), memories_in(home)
    made = one.remember("old news", "user")
    one.snapshot()
    assert [m.id for m in two.all()] == [made.id]
    two.remember("other", "user")
    one.forget(made.id)
    two.close()
    one.close()

    assert [m.text for m in memories_in(home).all()] == ["other"]


def test_forgetting_a_file_puts_it_into_the_trash(memories: Memories, home: Path) -> None:
    made = memories.remember("gone soon", keep=True)
    memories.forget(made.id)
    assert memories.all() == []
    assert "gone soon" in next((home / "trash").glob("memory-*")).read_text()


def test_hot_becomes_persistent_by_hand_and_by_use(memories: Memories, home: Path) -> None:
    first = memories.remember("release on Fridays")
    assert not memories.promote(first.id).hot
    second = memories.remember("deploy with make ship")
    for _ in range(3):
        assert [m.id for m in memories.recall("deploy")] == [second.id]
    assert not memories.get(second.id).hot
    memories.close()
    assert {m.id: m.hot for m in memories_in(home).all()} == {first.id: False, second.id: False}


def test_a_snapshot_is_written_every_so_often(home: Path) -> None:
    memories = memories_in(home, snapshot_s=0.05)
    memories.remember("soon on disk", "user")
    file = home / "memories" / "user" / "hot" / "hot.json"
    for _ in range(100):
        if file.exists():
            break
        threading.Event().wait(0.05)
    assert json.loads(file.read_text())["memories"][0]["text"] == "soon on disk"
    memories.close()


def test_a_broken_snapshot_is_set_aside(memories: Memories, home: Path) -> None:
    memories.remember("kept", "user")
    memories.close()
    file = home / "memories" / "user" / "hot" / "hot.json"
    file.write_text('{"memories": [tru')
    again = memories_in(home)
    assert again.all() == []
    again.remember("new", "user")
    again.close()
    assert [m.text for m in memories_in(home).all()] == ["new"]
    assert next(file.parent.glob("hot.unreadable-*")).read_text() == '{"memories": [tru'


def test_links_are_not_followed(memories: Memories, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("password")
    memories.remember("x", keep=True)
    (memories.shelf("project").folder / "persistent" / "link.md").symlink_to(secret)
    assert [m.text for m in memories.all()] == ["x"]
    with pytest.raises(NotFound):
        memories.get("link")
    with pytest.raises(NotFound):
        memories.get("../../../secret")


def test_a_folder_that_cannot_be_written_is_one_clear_error(memories: Memories, home: Path) -> None:
    (home / "memories").mkdir(parents=True)
    (home / "memories" / "project").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        memories.remember("x", keep=True)
    memories.remember("only in RAM")
    with pytest.raises(StoreError):
        memories.snapshot()
    assert [m.text for m in memories.all()] == ["only in RAM"]
    memories.close()


def test_what_is_told_to_the_assistant_fits_the_budget(memories: Memories) -> None:
    memories.remember("The build needs Python 3.11", "user", keep=True)
    memories.remember("The parser lives in src/parse.py")
    memories.remember("long " * 100)

    def words(text: str) -> int:
        return len(text.split())

    told = memories.context(24, words, "where is the parser?")
    lines = told.splitlines()
    assert lines[0].startswith("What is remembered")
    assert lines[1] == "- The parser lives in src/parse.py (project)"
    assert lines[2] == "- The build needs Python 3.11"
    assert "long" not in told
    assert words(told) <= 24
    assert memories.context(3, words) == ""
    assert memories_in(Path("/nonexistent")).context(1000, words) == ""


def test_words_name_one_memory_or_say_so(memories: Memories) -> None:
    one = memories.remember("alpha beta")
    memories.remember("alpha gamma")
    assert memories.find("BETA") == one
    assert memories.find(one.id[-9:]) == one
    with pytest.raises(Conflict):
        memories.find("alpha")
    with pytest.raises(NotFound):
        memories.find("omega")
    for text, scope in (("", "user"), ("x", "galaxy"), ("x" * 300_000, "user")):
        with pytest.raises(UsageError):
            memories.remember(text, scope)


@given(st.text(max_size=200), st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=3))
def test_a_memory_survives_its_file(text: str, tags: list[str]) -> None:
    text = text.encode("utf-8", "replace").decode().strip()
    memory = Memory("m1", "user", text, 1_795_000_000_000_000, 1_795_000_000_000_000, tuple(sorted(set(tags))), False)
    assert parse(render(memory), "m1", "user", memory.updated_us) == memory


def test_recall_ranks_rare_words_and_knows_accents_and_scripts() -> None:
    texts = ["the build is slow", "the build needs Python", "the café menu", "人人生而自由", "Überraschung im Parser"]
    index = Index(texts)

    assert [at for at, _ in index.best("build python", 5)] == [1, 0]
    assert [at for at, _ in index.best("CAFE", 5)] == [2]
    assert [at for at, _ in index.best("自由", 5)] == [3]
    assert [at for at, _ in index.best("uberrasch", 5)] == [4]
    assert index.best("nothing", 5) == []
    assert Index([]).best("x", 5) == []
    assert words_of("snake_case v2.0") == ["snake", "case", "v2", "0"]
