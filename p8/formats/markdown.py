"""Markdown, for people and for repositories: what was said as it was written, commands with their output in fences.

What a person or a model wrote cannot break out of its place: code left open is closed, markup that would swallow what
follows is escaped, and a fence is longer than any inside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from p8.formats.reading import Block, Transcript, begins_turn, blocks, facts, speaker, title_of
from p8.model import SessionRow

_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})([^`]*)$")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(?:[^`]|(?!\1(?!`))`+)*?(?<!`)\1(?!`)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])(?!(?:https?|mailto):[^\s<>]*>)")
_RISKY = re.compile(r"`{3}|~{3}|<[A-Za-z/!?]")
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~])")


def pieces(
    transcripts: Iterable[Transcript], rows: Sequence[SessionRow], closing: Callable[[], str] = lambda: ""
) -> Iterator[str]:
    """
    Yield the file.

    Args:
        transcripts: what to write, in order.
        rows: all of their rows, for the list at the top where there are several.
        closing: a last line, asked for at the end.
    """
    if len(rows) > 1:
        yield f"# {len(rows)} sessions\n\n"
        yield "".join(f"{n}. {escaped(title_of(row))}\n" for n, row in enumerate(rows, 1)) + "\n---\n\n"
    for number, transcript in enumerate(transcripts):
        yield ("---\n\n" if number else "") + f"# {escaped(title_of(transcript.row))}\n\n"
        yield "".join(f"- **{name}:** {escaped(value)}\n" for name, value in facts(transcript.row)) + "\n"
        who = ""
        for entry in transcript.entries:
            for block in blocks(entry):
                if begins_turn(block, who):
                    yield f"## {escaped(block.name)}\n\n*{entry.time:%Y-%m-%d %H:%M}*\n\n"
                who = speaker(block) or who
                yield _block(block)
    said = closing()
    if said:
        yield f"---\n\n*{escaped(said)}*\n"


def _block(block: Block) -> str:
    note = f"*({escaped(block.note)})*\n\n" if block.note else ""
    if block.kind == "run":
        return f"{_fenced(f'$ {block.name}' + chr(10) * bool(block.text) + block.text, 'console')}{note}"
    if block.kind == "call":
        return f"**Tool: {escaped(block.name)}**{' — ' + escaped(block.note) if block.note else ''}\n\n" + (
            _fenced(block.text) if block.text else ""
        )
    if block.kind == "checkpoint":
        return f"**◆ {escaped(block.name)}** {escaped(block.note)}".rstrip() + "\n\n"
    if block.kind == "typed":
        return f"`` {block.text.replace('``', '` `')} ``\n\n" if block.text else ""
    if block.kind == "note":
        return f"*{escaped(' '.join(block.text.split()))}*\n\n{note}"
    if block.kind == "assistant":
        return (f"{contained(block.text)}\n\n" if block.text else "") + note
    body = contained(block.text)
    if block.kind == "thought":
        body = f"*Thought*\n\n{body}"
    return ("".join(f"> {part}".rstrip() + "\n" for part in body.split("\n")) + "\n" if body else "") + note


def escaped(text: str) -> str:
    """Return plain text as Markdown that shows it."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str, language: str = "") -> str:
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
    return f"{fence}{language}\n{text}\n{fence}\n\n"


def contained(text: str) -> str:
    """Return Markdown that ends where its text ends: fences closed, HTML shown instead of interpreted."""
    if not _RISKY.search(text):
        return text
    mended = _mended(text)
    return mended if _ends(mended) else _fenced(text, "markdown").rstrip()


def _mended(text: str) -> str:
    lines, fence = [], ""
    for one in text.split("\n"):
        found, shown = _FENCE.match(one), one
        if fence:
            if found and found[2][0] == fence[0] and len(found[2]) >= len(fence) and not found[3].strip():
                fence = ""
        elif found:
            fence = found[2]
        elif not one.startswith(("    ", "\t")):
            shown = _outside_code(one)
        lines.append(shown)
    return "\n".join([*lines, fence] if fence else lines)


def _ends(text: str) -> bool:
    """Return whether what follows `text` is not taken for a part of it, and nothing in it is HTML."""
    tokens = _parser().parse(f"{text}\n\nthe end")
    inner = [child.type for token in tokens for child in token.children or ()]
    last = tokens[-2:-1]
    return (
        [(t.type, t.level, t.content) for t in last] == [("inline", 1, "the end")]
        and all(token.type != "html_block" for token in tokens)
        and "html_inline" not in inner
    )


@lru_cache(1)
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark")


def _outside_code(text: str) -> str:
    if "<" not in text:
        return text
    parts, done = [], 0
    for span in _SPAN.finditer(text):
        parts += [_TAG.sub(r"\\<", text[done : span.start()]), span.group()]
        done = span.end()
    return "".join([*parts, _TAG.sub(r"\\<", text[done:])])
