"""What P8 looks like: one set of colours for the screen, the prompt, the picker and Markdown (row C7).

`auto` takes the terminal's own sixteen colours, which whoever set it up has fitted to its background; `dark` and
`light` bring their own, readable on black and on white; `none` has no colour, but weight. Plain data: neither rich nor
prompt_toolkit is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from p8.repl.screen import STYLES


class Theme(NamedTuple):
    """The colours of one theme. Roles: dim, good, warning, bad, accent."""

    name: str
    screen: Mapping[str, str]  #: style of a view -> parameters of the escape sequence that begins it
    roles: Mapping[str, str]  #: role -> colour, in prompt_toolkit's words; "" for none
    code: str  #: pygments' style for code in answers
    markdown: Mapping[str, str]  #: rich's styles that differ from its own
    has_color: bool = True

    def prompt(self, template: Mapping[str, str]) -> dict[str, str]:
        """Return a style sheet of prompt_toolkit's: classes with their roles in braces become colours."""
        return {name: " ".join(style.format(**self.roles).split()) for name, style in template.items()}


#: number in the palette of 256, and the same for prompt_toolkit
_DARK = {"dim": (245, "#8a8a8a"), "good": (114, "#87d787"), "warning": (221, "#ffd75f"), "bad": (210, "#ff8787"),
         "accent": (117, "#87d7ff")}  # fmt: skip
_LIGHT = {"dim": (242, "#6c6c6c"), "good": (28, "#008700"), "warning": (94, "#875f00"), "bad": (124, "#af0000"),
          "accent": (25, "#005faf")}  # fmt: skip


def _own(name: str, colors: Mapping[str, tuple[int, str]], code: str) -> Theme:
    codes = {role: f"38;5;{number}" for role, (number, _) in colors.items()}
    screen = {**codes, "title": "1", "user": f"1;{codes['accent']}", "mark": f"1;{codes['warning']}", "inverse": "7"}
    accent = f"color({colors['accent'][0]})"
    quiet = f"color({colors['dim'][0]})"
    return Theme(name, screen, {role: color for role, (_, color) in colors.items()}, code, _markdown(accent, quiet))


def _markdown(accent: str, quiet: str) -> dict[str, str]:
    return {
        "markdown.code": f"bold {accent}", "markdown.code_block": accent, "markdown.block_quote": quiet,
        "markdown.list": "none", "markdown.item.number": accent, "markdown.item.bullet": accent,
        "markdown.h1": "bold underline", "markdown.h2": f"bold {accent}", "markdown.h3": "bold",
        "markdown.h4": "italic", "markdown.link": accent, "markdown.link_url": f"underline {quiet}",
        "markdown.table.border": quiet, "markdown.table.header": "bold",
    }  # fmt: skip


@lru_cache(8)
def theme_of(name: str) -> Theme:
    """Return a theme by its name; `auto` for what is none."""
    if name == "dark":
        return _own(name, _DARK, "monokai")
    if name == "light":
        return _own(name, _LIGHT, "xcode")
    if name == "none":
        screen = {"bad": "1", "title": "1", "user": "1", "mark": "1;4", "inverse": "7"}
        return Theme(name, screen, dict.fromkeys(_DARK, ""), "bw", _markdown("default", "default"), has_color=False)
    roles = {"dim": "ansibrightblack", "good": "ansigreen", "warning": "ansiyellow", "bad": "ansired",
             "accent": "ansicyan"}  # fmt: skip
    return Theme("auto", STYLES, roles, "ansi_dark", _markdown("cyan", "bright_black"))
