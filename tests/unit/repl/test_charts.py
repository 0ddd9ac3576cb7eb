from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p8.commands.registry import Plot
from p8.repl.charts import bar, lines_of
from p8.repl.screen import width_of


def test_bars_are_in_proportion() -> None:
    drawn = [text for _, text in lines_of(Plot("x", "bars", ("full", "half"), (("", (10.0, 5.0)),)), 40)]

    assert drawn[0].count("█") == 2 * drawn[1].count("█") + (drawn[1].count("▌") > 0)
    assert drawn[0].endswith("10")
    assert drawn[1].endswith(" 5")


def test_a_bar_is_filled_in_eighths() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1 / 32, 4) == "▏   "
    assert bar(7, 2) == "██"
    assert bar(-1, 2) == "  "


def test_a_falling_line_begins_high_and_ends_low() -> None:
    drawn = [text for _, text in lines_of(Plot("x", "lines", ("a", "b"), (("left", (8.0, 4.0, 0.0)),)), 40)]
    body = [line.partition("│")[2] for line in drawn if "│" in line]

    assert body[0][0] > "\u2800"
    assert body[0][-1] == "\u2800"
    assert body[-1][-1] > "\u2800"
    assert body[-1][0] == "\u2800"


@given(
    st.sampled_from(["bars", "lines"]), st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50), st.integers(20, 200)
)
def test_nothing_is_wider_than_it_may_be(kind: str, values: list[float], width: int) -> None:
    labels = tuple(f"label {n}" for n in range(len(values)))
    for _, text in lines_of(Plot("x", kind, labels, (("a", tuple(values)), ("b", tuple(values[::-1])))), width):
        assert width_of(text) <= max(width, 44)


def test_nothing_is_drawn_of_nothing() -> None:
    assert lines_of(Plot("x", "bars", (), (("", ()),)), 80) == []
