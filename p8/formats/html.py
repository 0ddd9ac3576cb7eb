"""One HTML page that reads well anywhere: dark and light, from a phone's width up, on paper, without a network.

Nothing in it runs and nothing is fetched: no scripts, no images, no fonts, and a policy in the page that forbids them.
Text is never HTML: it is escaped, or rendered from Markdown by a parser that escapes what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from html import escape
from typing import Any

from p8.formats.page_style import STYLE
from p8.formats.reading import Block, Transcript, begins_turn, blocks, facts, speaker, title_of
from p8.model import Entry, SessionRow, from_us

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'none'; base-uri 'none'; form-action 'none'"
OPEN_LINES = 16  #: output of more lines is folded away
COLOURED = 20_000  #: characters of code; longer code is not coloured
LANGUAGES = frozenset({
    "bash", "c", "console", "cpp", "css", "diff", "dockerfile", "go", "html", "ini", "java", "javascript", "js", "json",
    "jsx", "kotlin", "py", "python", "rb", "ruby", "rs", "rust", "sh", "shell", "sql", "swift", "toml", "ts", "tsx",
    "typescript", "xml", "yaml", "yml", "zsh",
})  # fmt: skip
_LINK = re.compile(r"(?:https?://|mailto:)\S+", re.IGNORECASE)


def pieces(
    transcripts: Iterable[Transcript], rows: Sequence[SessionRow], closing: Callable[[], str] = lambda: ""
) -> Iterator[str]:
    """
    Yield the page.

    Args:
        transcripts: what to write, in order.
        rows: all of their rows, for the page's title and, where there are several, the list at the top.
        closing: a last line, asked for at the end.
    """
    title = title_of(rows[0]) if len(rows) == 1 else f"{len(rows)} sessions"
    yield (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
    )
    if len(rows) > 1:
        yield f"<h1>{escape(title)}</h1>\n<ol class=list>\n"
        for row in rows:
            when = f"{from_us(row.created_us):%Y-%m-%d}"
            link = f'<a href="#{_anchor(row.id)}"><bdi>{escape(title_of(row))}</bdi></a>'
            yield f"<li>{link} <small>{when}</small></li>\n"
        yield "</ol>\n"
    for transcript in transcripts:
        yield from _session(transcript)
    said = closing()
    yield f"</main><footer>{escape(said)}</footer></body></html>\n"


def _session(transcript: Transcript) -> Iterator[str]:
    row = transcript.row
    yield f'<article id="{_anchor(row.id)}"><header><h1><bdi>{escape(title_of(row))}</bdi></h1>\n<dl>'
    for name, value in facts(row):
        yield f"<div><dt>{escape(name)}</dt><dd><bdi>{escape(value)}</bdi></dd></div>"
    yield "</dl></header>\n"
    who, day, seen = "", "", False
    for entry in transcript.entries:
        anchor = _anchor(f"{row.id}-{entry.seq}" if entry.stream == row.id else f"{row.id}-{entry.stream}-{entry.seq}")
        place = f' id="{anchor}"'
        for block in blocks(entry):
            seen = True
            today = f"{entry.time:%A, %d %B %Y}"
            if today != day:
                yield f"<h2 class=day>{today}</h2>\n"
                day, who = today, ""
            head = _head(block.name, entry, anchor) if begins_turn(block, who) else ""
            who = speaker(block) or who
            yield f"<section class={block.kind}{place}>{head}{_body(block)}</section>\n"
            place = ""
    if not seen:
        yield "<p class=note>Nothing was said.</p>\n"
    yield "</article>\n"


def _head(name: str, entry: Entry, anchor: str) -> str:
    time = f'<time datetime="{entry.time.isoformat()}">{entry.time:%H:%M}</time>'
    return f'<h3><bdi>{escape(name)}</bdi> <a href="#{anchor}">{time}</a></h3>'


def _body(block: Block) -> str:
    note = f"<p class=end>{escape(block.note)}</p>" if block.note else ""
    if block.kind == "run":
        return _folded(f"<code>$ {escape(block.name)}</code>", block)
    if block.kind == "call":
        return _folded(f"<span>Tool</span> <code>{escape(block.name)}</code>", block)
    if block.kind == "thought":
        return f"<details><summary><span>Thought</span></summary><div class=plain>{escape(block.text)}</div></details>"
    if block.kind == "checkpoint":
        return f"<p>◆ <b><bdi>{escape(block.name)}</bdi></b> {escape(block.note)}</p>"
    if block.kind == "typed":
        return f"<p><code>{escape(block.text)}</code></p>"
    if block.kind == "assistant":
        return f"<div class=text>{rendered(block.text)}</div>{note}" if block.text else note
    if block.kind == "tool":
        return _folded("<span>Result</span>", block)
    return f"<div class=plain>{escape(block.text)}</div>{note}"


def _folded(summary: str, block: Block) -> str:
    bad = " class=bad" if block.note.startswith(("exit", "fail")) else ""
    note = f" <small{bad}>{escape(block.note)}</small>" if block.note else ""
    if not block.text:
        return f"<p class=line>{summary}{note}</p>"
    opened = " open" if block.kind == "run" and block.text.count("\n") < OPEN_LINES else ""
    return f"<details{opened}><summary>{summary}{note}</summary><pre>{escape(block.text)}</pre></details>"


def _anchor(name: str) -> str:
    return "e" + re.sub(r"[^A-Za-z0-9~-]", "-", name)


# Markdown


def rendered(text: str) -> str:
    """Return Markdown as HTML; HTML in it is shown as text, images become links, links go to the web or by mail."""
    if not re.search(r"[`*_#\[\]<>&|~\\\n]|^\s*[-+\d]", text):
        return f"<p>{escape(text)}</p>"
    try:
        return str(_parser().render(text))
    except (RecursionError, ValueError, IndexError):
        return f"<div class=plain>{escape(text)}</div>"


@lru_cache(1)
def _parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "highlight": _coloured, "breaks": False})
    parser.enable(["table", "strikethrough"])
    parser.validateLink = lambda url: _LINK.match(url) is not None  # type: ignore[method-assign]
    parser.add_render_rule("image", _image)
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("table_open", lambda *_: "<div class=wide><table>\n")
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _image(_self: Any, tokens: Any, at: int, _options: Any, _env: Any) -> str:
    token = tokens[at]
    where = escape(str(token.attrs.get("src", "")))
    said = escape(token.content or "image")
    return f'<a href="{where}" rel="noreferrer noopener">image: {said}</a>'


def _link(self: Any, tokens: Any, at: int, options: Any, env: Any) -> str:
    tokens[at].attrs = {"href": tokens[at].attrs.get("href", ""), "rel": "noreferrer noopener"}
    return str(self.renderToken(tokens, at, options, env))


def _coloured(code: str, language: str, _attributes: str) -> str:
    """Return a fence's code with colours where its language is known; "" leaves it to the parser, which escapes it."""
    name = language.lower()
    if name not in LANGUAGES or len(code) > COLOURED:
        return ""
    from pygments import highlight
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        body = highlight(code, get_lexer_by_name(name), HtmlFormatter(nowrap=True))
    except (ClassNotFound, RecursionError):
        return ""
    return f"<pre><code>{body}</code></pre>"
