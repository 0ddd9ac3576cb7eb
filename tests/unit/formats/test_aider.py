"""aider's history, as it wrote it, and as people's editors leave it."""

from __future__ import annotations

from pathlib import Path

from p8.core.sessions import SessionManager
from p8.formats import aider
from p8.model import to_us
from support.imports import ANSWER, DATA, THEN, every_cut, said, talk, twice_adds_nothing

FILE = DATA / "aider" / ".aider.chat.history.md"


def chat(folder: Path, body: str, started: str = "2026-11-21 07:00:00") -> Path:
    file = folder / ".aider.chat.history.md"
    with file.open("a", encoding="utf-8") as end:
        end.write(f"\n# aider chat started at {started}\n\n{body}")
    return file


def test_a_history_that_aider_wrote() -> None:
    assert aider.detect(FILE)
    first, second = aider.read(FILE)
    edit = "Here is the change:\n\nnotes.txt\n```\n<<<<<<< SEARCH\nhello\n=======\nhello again\n>>>>>>> REPLACE\n```"
    assert talk(first) == [
        ("user", "Use a tool to edit notes.txt"), ("assistant", edit), ("tool", "Applied edit to notes.txt"),
    ]  # fmt: skip
    asked = "notes.txt\nAdd file to the chat? (Y)es/(N)o/(D)on't ask again [Yes]: y"
    assert talk(second) == [("user", THEN), ("assistant", ANSWER), ("tool", asked), ("assistant", ANSWER)]
    assert (first.items[1].tokens_in, first.items[1].tokens_out, first.model) == (2500, 25, "openai/loop-1")
    assert "Git repo: .git with 1 files" in first.more["opening"]
    from datetime import datetime

    assert first.started_us == to_us(datetime(2026, 11, 21, 7, 29, 8).astimezone())
    assert second.started_us - first.started_us == 11_000_000


def test_importing_it_twice_adds_nothing(manager: SessionManager) -> None:
    sessions = twice_adds_nothing(manager, FILE)
    assert [manager.store.sessions.get(one).title for one in sessions] == ["Use a tool to edit notes.txt", THEN]
    assert [entry.role for entry in said(manager, sessions[0])] == ["user", "assistant", "tool"]


def test_quotes_and_headings_of_the_model_are_its_own(tmp_path: Path) -> None:
    answer = "# Title\n\n> a quote\n\n#### Part\n\nbody"
    (found,) = aider.read(
        chat(tmp_path, f"#### explain  \n####   \n#### please  \n\n{answer}\n\n> Tokens: 1k sent, 2 received.  \n")
    )
    assert talk(found) == [("user", "explain\n\nplease"), ("assistant", answer)]
    assert found.items[1].tokens_in == 1000


def test_a_history_whose_trailing_spaces_an_editor_took_is_still_read(tmp_path: Path) -> None:
    (found,) = aider.read(chat(tmp_path, "> Model: gpt-4o with diff\n\n#### hello\n\nhi\n\n> Cost: low\n"))
    assert talk(found) == [("user", "hello"), ("assistant", "hi"), ("tool", "Cost: low")]
    assert found.model == "gpt-4o"


def test_commands_costs_and_empty_chats(tmp_path: Path) -> None:
    chat(tmp_path, "> nothing was said  \n")
    file = chat(tmp_path, (
        "#### /add a.py  \n> Added a.py to the chat  \n\n#### /ask why?  \n\nBecause.\n\n"
        "> Tokens: 2.5k sent, 1.2k cache hit, 310 received. Cost: $0.02 message, $0.05 session.  \n"
    ), "2026-11-21 08:00:00")  # fmt: skip
    (found,) = aider.read(file)
    assert talk(found) == [
        ("command", "/add a.py"), ("tool", "Added a.py to the chat"), ("user", "/ask why?"), ("assistant", "Because."),
    ]  # fmt: skip
    assert (found.items[3].tokens_in, found.items[3].tokens_out, found.items[3].cost) == (2500, 310, 0.02)


def test_a_chat_that_went_on_is_the_same_chat(tmp_path: Path, manager: SessionManager) -> None:
    from support.imports import bring_in

    file = chat(tmp_path, "#### one  \n\nFirst.\n\n")
    (session,) = twice_adds_nothing(manager, file)
    with file.open("a") as end:
        end.write("#### two  \n\nSecond.\n\n")
    (again,) = bring_in(manager, file).outcomes
    assert (again.state, again.added, again.session) == ("grown", 2, session)
    assert [e.data["content"] for e in said(manager, session)] == ["one", "First.", "two", "Second."]


def test_a_time_that_is_none_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = chat(tmp_path, "#### hello  \n\nhi\n", "yesterday")
    file.write_bytes(file.read_bytes() + b"\xff\xfe\x00 more\n")
    (found,) = aider.read(file)
    assert found.bad == 1
    assert talk(found)[0] == ("user", "hello")
    assert found.started_us > 0


def test_a_file_cut_off_anywhere_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    assert every_cut(FILE, aider.read, tmp_path / "cut.md", 31) == 4
