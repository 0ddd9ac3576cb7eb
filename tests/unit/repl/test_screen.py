from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.commands.registry import Card, Table, Text
from p8.errors import UsageError
from p8.repl.markdown import render, split
from p8.repl.screen import HOSTILE, Screen, clip, escape, pad, width_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(*views, width: int = 60, color: bool = False) -> str:
    out = Terminal()
    Screen(out, color, width).draw(*views)
    return out.getvalue()


@given(st.text(st.characters()))
def test_nothing_a_terminal_acts_on_gets_through(text: str) -> None:
    safe = escape(text)

    assert not HOSTILE.search(safe)
    assert all(c in "\n\t" or ord(c) >= 0x20 for c in safe)
    assert "\n" not in escape(text, lines=False)


def test_plain_text_is_left_as_it_is() -> None:
    text = "Grüße, 世界! 👩 \t tab\nnewline"

    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[31m", "␛[31m"), ("a\0b", "a␀b"), ("\x9b", "‹9b›"), ("\u202e", "‹202e›"), ("\udcff", "‹dcff›")],
)
def test_hostile_characters_become_visible(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_wide_characters_count_twice() -> None:
    assert width_of("世界") == 4
    assert clip("世界世界", 5) == "世界…"
    assert width_of(pad("世", 6)) == 6
    assert clip("abc", 0) == ""


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_table_fits_its_width(width: int) -> None:
    table = Table(
        ("TITLE", "AGE", "ID"), (("a long title that does not fit " * 3, "3m", "135313-67a5"), ("世界" * 20, "1h", "x"))
    )
    lines = drawn(table, width=width).splitlines()

    assert all(width_of(line) <= width for line in lines)
    assert lines[0].startswith("TITLE")


def test_a_hostile_cell_breaks_no_table() -> None:
    text = drawn(
        Table(("A", "B"), (("x\ny\x1b]0;z\x07", "1"),)), Card("t\x1b", (("k", "v\x1b\nw"),)), Text("\x07"), color=True
    )

    assert "\x1b]" not in text
    assert "\x07" not in text
    assert len(text.splitlines()) == 6


def test_colour_is_off_without_a_terminal_and_when_asked() -> None:
    plain = io.StringIO()
    Screen(plain).draw(Text("x", "bad"))

    assert plain.getvalue() == "x\n"
    assert drawn(Text("x", "bad"), color=False) == "x\n"
    assert drawn(Text("x", "bad"), color=True) == "\x1b[31mx\x1b[0m\n"


def test_an_error_says_what_and_what_to_do() -> None:
    out = Terminal()
    Screen(out, False, 60).error(UsageError("no such \x1b thing", "try this"))

    assert out.getvalue() == "✗ no such ␛ thing\n  try this\n"


def test_markdown_is_split_only_between_finished_blocks() -> None:
    assert split("one\n\ntwo") == 5
    assert split("one\n\n```\ncode\n\nmore") == 5
    assert split("```\ncode\n\nmore\n```\n\nafter") == 20
    assert split("nothing finished") == 0


@given(st.text(st.characters(), max_size=200))
def test_rendered_markdown_holds_only_our_own_sequences(text: str) -> None:
    import re

    shown = re.sub(r"\x1b\[[0-9;]*m", "", render(text, 60))

    assert not HOSTILE.search(shown)
