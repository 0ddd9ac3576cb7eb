"""Pictures made of characters: bars, and lines drawn in braille dots, two by four to a cell.

No library: the one for plots takes half a second to import, and `p8 stats` may take 0.3 in all. Refuses: to know what
is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p8.commands.registry import Meters, Plot
from p8.repl.screen import clip, escape, pad, width_of

BLOCKS = " ▏▎▍▌▋▊▉█"
STEPS = " ▁▂▃▄▅▆▇█"
#: of a cell, by column and row from the top
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
HEIGHT = 8
MOST_WIDTH = 100
MOST_BAR = 48
MOST_COLUMN = 4
METER = 30
COLUMN_HEIGHT = 6
MARKS = ("━", "╌", "┄", "·")
STYLES = ("accent", "dim", "good", "warning")


def lines_of(plot: Plot, width: int) -> list[tuple[str, str]]:
    """Return a plot as (style, text) lines of at most `width` columns."""
    width = min(width, MOST_WIDTH)
    if not any(any(values) for _, values in plot.series):
        return []
    draw = {"bars": _bars, "columns": _columns}.get(plot.kind, _curves)
    return draw(plot, width)


def rows_of(meters: Meters, width: int) -> list[tuple[tuple[str, str], ...]]:
    """Return meters as lines of (style, text) pieces, of at most `width` columns."""
    label = max((width_of(row.label) for row in meters.rows), default=0)
    room = max(min(METER, width - label - 10), 6)
    rows: list[tuple[tuple[str, str], ...]] = []
    for row in meters.rows:
        filled = round(room * min(max(row.part, 0.0), 1.0))
        note = clip(escape(row.note, lines=False), max(width - label - room - 11, 0))
        bar = ((row.style or "accent", "━" * filled), ("dim", "─" * (room - filled)))
        percent = f" {min(max(row.part, 0.0), 9.99):4.0%}"
        rows.append((("", f"  {pad(row.label, label)}  "), *bar, ("", percent), ("dim", f"  {note}" if note else "")))
    return rows


def bar(part: float, width: int) -> str:
    """Return a bar of `width` cells, filled by a part between 0 and 1 in eighths of a cell."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (BLOCKS[rest] if rest else "")
    return text.ljust(width)


def _bars(plot: Plot, width: int) -> list[tuple[str, str]]:
    _, values = plot.series[0]
    shown = [_number(value, plot.unit) for value in values]
    label = min(max((width_of(escape(name, lines=False)) for name in plot.labels), default=0), max(width // 3, 6))
    figure = max(map(len, shown))
    room = max(min(width - label - figure - 4, MOST_BAR), 4)
    top = max(*values, 1e-9)
    return [
        ("", f"  {pad(escape(name, lines=False), label)} {bar(value / top, room)} {text:>{figure}}")
        for name, value, text in zip(plot.labels, values, shown, strict=True)
    ]


def _columns(plot: Plot, width: int) -> list[tuple[str, str]]:
    _, values = plot.series[0]
    top = max(*values, 1e-9)
    left = len(_number(top, plot.unit))
    most = max(width - left - 4, 8)
    together = -(-len(values) // most)  # so many share a column, as their mean, where there is no room for each
    values = tuple(sum(part) / len(part) for part in batched(values, together))
    wide = min(MOST_COLUMN, most // len(values))
    gap = 1 if wide > 1 else 0
    heights = [round(max(value, 0.0) / top * COLUMN_HEIGHT * 8) or int(value > 0) for value in values]
    out = []
    for row in range(COLUMN_HEIGHT - 1, -1, -1):
        cells = (STEPS[min(max(height - row * 8, 0), 8)] * (wide - gap) + " " * gap for height in heights)
        edge = _number(top, plot.unit) if row == COLUMN_HEIGHT - 1 else "0" if not row else ""
        out.append(("accent", f"  {edge:>{left}} │{''.join(cells)}".rstrip()))
    ends = (plot.labels[0], plot.labels[-1]) if plot.labels else ("", "")
    cells_wide = len(values) * wide
    out.append(("dim", f"  {'':>{left}} └{'─' * cells_wide}"))
    named = f"{ends[0]}{ends[1]:>{cells_wide - len(ends[0])}}" if cells_wide > len(ends[0] + ends[1]) else ends[1]
    out.append(("dim", f"  {'':>{left}}  {named}"[:width]))
    return out


def batched(values: Sequence[float], size: int) -> Iterator[Sequence[float]]:
    """Yield `size` values after the other, fewer at the end."""
    for at in range(0, len(values), size):
        yield values[at : at + size]


def _curves(plot: Plot, width: int) -> list[tuple[str, str]]:
    every = [value for _, values in plot.series for value in values]
    low, high = min(0.0, *every), max(*every, 1e-9)
    left = max(len(_number(high, plot.unit)), len(_number(low, plot.unit)))
    cells = max(width - left - 4, 8)
    cells = min(cells, 72)
    canvas = [[0] * cells for _ in range(HEIGHT)]
    for at, (_, values) in enumerate(plot.series):
        _draw(canvas, values, low, high, dotted=at > 0)
    out = []
    for row, masks in enumerate(canvas):
        value = high - (high - low) * row / (HEIGHT - 1)
        edge = _number(value, plot.unit) if row in {0, HEIGHT - 1} else ""
        out.append(("accent", f"  {edge:>{left}} │{''.join(chr(0x2800 + mask) for mask in masks)}"))
    ends = (plot.labels[0], plot.labels[-1]) if plot.labels else ("", "")
    out.append(("dim", f"  {'':>{left}} └{'─' * cells}"))
    out.append(("dim", f"  {'':>{left}}  {ends[0]}{ends[1]:>{max(cells - len(ends[0]), 1)}}"))
    if len(plot.series) > 1:
        names = "   ".join(f"{MARKS[min(at, 3)] * 2} {name}" for at, (name, _) in enumerate(plot.series))
        out.append(("dim", f"  {'':>{left}}  {names}"))
    return out


def _draw(canvas: list[list[int]], values: Sequence[float], low: float, high: float, dotted: bool) -> None:
    wide, tall = len(canvas[0]) * 2, len(canvas) * 4
    points = [
        (round(at * (wide - 1) / max(len(values) - 1, 1)), round((high - value) * (tall - 1) / ((high - low) or 1)))
        for at, value in enumerate(values)
    ]
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(steps + 1):
            x, y = x0 + (x1 - x0) * step // steps, y0 + (y1 - y0) * step // steps
            if not dotted or x % 4 < 2:
                canvas[y // 4][x // 2] |= DOTS[x % 2][y % 4]


def _number(value: float, unit: str) -> str:
    if unit == "$":
        return f"${value:,.2f}"
    if abs(value) >= 1e9:
        text = f"{value / 1e9:,.1f}G"
    elif abs(value) >= 1e6:
        text = f"{value / 1e6:,.1f}M"
    elif abs(value) >= 10_000:
        text = f"{value / 1e3:,.0f}k"
    else:
        text = f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    return text + unit
