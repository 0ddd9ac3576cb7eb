from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p8.commands.registry import Meter, Meters, Plot
from p8.repl.charts import bar, lines_of, rows_of
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
    st.sampled_from(["bars", "columns", "lines"]),
    st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50),
    st.integers(20, 200),
)
def test_nothing_is_wider_than_it_may_be(kind: str, values: list[float], width: int) -> None:
    labels = tuple(f"label {n}" for n in range(len(values)))
    for _, text in lines_of(Plot("x", kind, labels, (("a", tuple(values)), ("b", tuple(values[::-1])))), width):
        assert width_of(text) <= max(width, 44)


def test_nothing_is_drawn_of_nothing() -> None:
    assert lines_of(Plot("x", "bars", (), (("", ()),)), 80) == []


def test_columns_stand_over_their_days() -> None:
    drawn = [t for _, t in lines_of(Plot("x", "columns", ("Mon", "Tue", "Wed"), (("", (8.0, 0.0, 4.0)),)), 40)]
    body = [line.partition("│")[2].ljust(12) for line in drawn if "│" in line]

    assert body[0] == "███         "
    assert body[-1] == "███     ███ "
    assert [row[8] for row in body] == [" ", " ", " ", "█", "█", "█"]
    assert drawn[0].split("│")[0].strip() == "8"
    assert drawn[-1].split() == ["Mon", "Wed"]


def test_the_smallest_column_can_be_seen() -> None:
    drawn = [t for _, t in lines_of(Plot("x", "columns", ("a", "b"), (("", (1000.0, 1.0)),)), 40)]
    assert "▁" in next(line for line in reversed(drawn) if "│" in line)


def test_nothing_is_drawn_of_zeros() -> None:
    assert lines_of(Plot("x", "columns", ("a", "b"), (("", (0.0, 0.0)),)), 80) == []


@given(st.floats(-5, 5), st.integers(20, 120))
def test_a_meter_is_filled_by_its_part_and_fits(part: float, width: int) -> None:
    (row,) = rows_of(Meters((Meter("done", part, "about 3 h of work left, or so"),)), width)
    text = "".join(piece for _, piece in row)
    whole = text.count("━") + text.count("─")

    assert width_of(text) <= width
    assert text.count("━") == round(whole * min(max(part, 0), 1))
