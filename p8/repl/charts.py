"""Pictures made of characters: bars, and lines drawn in braille dots, two by four to a cell.

No library: the one for plots takes half a second to import, and `p8 stats` may take 0.3 in all. Refuses: to know what
is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

from p8.commands.registry import Plot

BLOCKS = " ▏▎▍▌▋▊▉█"
#: of a cell, by column and row from the top
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
HEIGHT = 8
MOST_WIDTH = 100
MARKS = ("━", "╌", "┄", "·")
STYLES = ("accent", "dim", "good", "warning")


def lines_of(plot: Plot, width: int) -> list[tuple[str, str]]:
    """Return a plot as (style, text) lines of at most `width` columns."""
    width = min(width, MOST_WIDTH)
    if not any(values for _, values in plot.series):
        return []
    return _bars(plot, width) if plot.kind == "bars" else _curves(plot, width)


def bar(part: float, width: int) -> str:
    """Return a bar of `width` cells, filled by a part between 0 and 1 in eighths of a cell."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (BLOCKS[rest] if rest else "")
    return text.ljust(width)


def _bars(plot: Plot, width: int) -> list[tuple[str, str]]:
    _, values = plot.series[0]
    shown = [_number(value, plot.unit) for value in values]
    label = min(max((len(name) for name in plot.labels), default=0), max(width // 3, 6))
    figure = max(map(len, shown))
    room = max(width - label - figure - 4, 4)
    top = max(*values, 1e-9)
    return [
        ("", f"  {name[:label]:<{label}} {bar(value / top, room)} {text:>{figure}}")
        for name, value, text in zip(plot.labels, values, shown, strict=True)
    ]


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
    if abs(value) >= 10_000_000:
        text = f"{value / 1e6:,.0f}M"
    elif abs(value) >= 10_000:
        text = f"{value / 1e3:,.0f}k"
    else:
        text = f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    return text + unit
