"""Markdown, HTML and JSON lines: what was said is shown, and cannot act."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from p8.formats import html, jsonl, markdown
from p8.formats.reading import Transcript, blocks, visible
from p8.model import Entry, SessionId, SessionRow, Status

AT = 1_795_000_000_000_000
ROW = SessionRow(
    SessionId("20261121-093000-123456-ab12"), "A title", "manual", "demo-1", "demo", Status.PAUSED, AT, AT + 9 * 10**8,
    None, "/x", "main", "514a1b6b46d1", "gpt-x", 2, 1, 1, 10, 20, 0.01, 100, False, False, None, ("tag",), None, None,
    5, {},
)  # fmt: skip
VOID = {"meta", "br", "hr"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "footer", "article", "header", "section", "h1", "h2",
    "h3", "h4", "h5", "h6", "bdi", "dl", "div", "dt", "dd", "p", "a", "time", "details", "summary", "span", "code",
    "pre", "small", "b", "em", "strong", "s", "ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th",
    "td", "hr", "br",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "rel", "datetime", "open", "style",
    "start",
}  # fmt: skip
PLACES = ("user", "assistant", "tool", "thought", "output", "command", "title", "name", "call")
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</style><script>", "<svg/onload=x>", "<!-- open",
    "![x](https://example.org/track.png)", "[x](javascript:alert(1))", "[x](data:text/html,x)", "<https://a.b/\"onx=1>",
    "[x](https://a.b/\"onmouseover=alert(1))", "```html\n<script>1</script>", "```\"><script>\nx\n```", "</pre></code>",
    "| a |\n|---|\n| <b>x</b> |", "&lt;script&gt;", "[a]: javascript:x\n[a]", "<style>*{display:none}</style>",
    "\x1b]8;;https://evil\x1b\\link\x1b]8;;\x1b\\", "\u202egnp.exe", "\0\x08\x7f\x9b31m", "\ud800", "<base href=//x>",
    "<meta http-equiv=refresh content=0>", "</main></body></html>", "<details open ontoggle=x>", "`<b>`", "$(x)",
    "# <b>h</b>", "> <i>q</i>", "1. <u>l</u>", "    <script>indented</script>", "<iframe srcdoc=x>", "<a href=x>y</a>",
]  # fmt: skip


def entry(kind: str, seq: int = 1, **data: Any) -> Entry:
    return Entry(ROW.id, seq, AT + seq * 10**7, kind, data)


def page(*entries: Entry, row: SessionRow = ROW) -> str:
    return "".join(html.pieces([Transcript(row, entries)], [row], lambda: "The end."))


def text(*entries: Entry, row: SessionRow = ROW) -> str:
    return "".join(markdown.pieces([Transcript(row, entries)], [row], lambda: "The end."))


class Checked(HTMLParser):
    """Reads a page and notes what it is made of and what its reader sees."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name)
            assert name != "style" or re.fullmatch(r"text-align:(left|right|center)", value or ""), value
            if name == "href":
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.seen.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("place", PLACES)
def test_text_is_never_html(said: str, place: str) -> None:
    row = ROW._replace(title=said, branch=said, tags=(said,), project_name=said) if place == "title" else ROW
    entries = {
        "thought": entry("message", role="assistant", content="x", thought=said),
        "output": entry("execution", command="x", output=said),
        "command": entry("execution", command=said, output="x"),
        "name": entry("checkpoint", name=said, git={"branch": said, "commit": said}),
        "call": entry("message", role="assistant", content="x", tools=[{"title": said, "input": said, "status": said}]),
        "title": entry("message", role="user", content="x"),
    }
    source = page(entries.get(place) or entry("message", role=place, content=said, model=said), row=row)
    found = Checked(source)

    assert all(re.match(r"https?://|mailto:|#e", link) for link in found.links), found.links
    assert len(found.ids) == len(set(found.ids))
    source.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", source)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*HOSTILE, "\n", "\n\n", "> ", "- ", "`", "```", "~~~", "  ", "*", "_"]), max_size=12))
def test_no_mixture_of_markup_is_html(parts: list[str]) -> None:
    said = "".join(parts)
    Checked(page(entry("message", role="assistant", content=said), entry("message", 2, role="user", content="after")))


def test_a_page_is_whole_and_fetches_nothing() -> None:
    source = page(entry("message", role="assistant", content="![p](https://example.org/x.png) and `code`"))

    assert "default-src 'none'" in source.replace("&#x27;", "'")
    assert 'name="viewport"' in source
    assert "prefers-color-scheme:dark" in source
    assert not re.search(r"<(script|img|link|iframe|object|embed|video|audio|source|form|input)\b", source)
    assert not re.search(r"@import|url\(|src=", source.replace("img-src", ""))
    assert 'href="https://example.org/x.png"' in source


def test_a_page_shows_what_happened() -> None:
    source = page(
        entry("message", 1, role="user", content="a < b\n  indented"),
        entry("message", 2, role="assistant", content="**bold** `x < y`\n\n```python\nx = 1\n```", model="gpt-x"),
        entry("execution", 3, command="ls", output="\x1b[31mred\x1b[0m", exit_code=2, duration_s=1.25),
        entry("checkpoint", 4, name="good", git={"branch": "main", "commit": "a" * 40, "modified": ["x"]}),
        entry("message", 5, role="assistant", content="half", model="gpt-x", cancelled=True),
        entry("message", 6, role="assistant", content="", model="gpt-x", error="timed out"),
    )
    seen = "".join(Checked(source).seen)

    for part in ("A title", "a < b\n  indented", "bold", "x < y", "x = 1", "$ ls", "red", "exit 2, 1.2 s", "good"):
        assert part in seen
    for part in ("main aaaaaaaaaa, 1 changed", "cancelled", "failed: timed out", "The end.", "gpt-x", "You"):
        assert part in seen
    assert "\x1b" not in source
    assert "<strong>bold</strong>" in source
    assert '<span class="n">x</span>' in source


def test_many_sessions_have_a_list_and_ids_of_their_own() -> None:
    other = ROW._replace(id=SessionId("20261121-093000-123456-cd34"), title="Another", parent=ROW.id, fork_seq=1)
    shared = entry("message", role="user", content="shared")
    own = Entry(other.id, 2, AT, "message", {"role": "user", "content": "own"})
    rows = [ROW, other]
    source = "".join(html.pieces([Transcript(ROW, [shared]), Transcript(other, [shared, own])], rows))
    found = Checked(source)

    assert len(found.ids) == len(set(found.ids))
    assert {f"#{i}" for i in found.ids} >= {link for link in found.links if link.startswith("#")}
    assert "2 sessions" in "".join(found.seen)
    listed = "".join(markdown.pieces([Transcript(r, []) for r in rows], rows))
    assert "1. A title\n2. Another\n" in listed


@pytest.mark.parametrize("said", HOSTILE)
def test_markdown_ends_where_its_text_ends(said: str) -> None:
    source = text(entry("message", role="assistant", content=said), entry("message", 2, role="user", content="AFTER"))
    tokens = MarkdownIt("commonmark").parse(source)

    assert not [t for t in tokens if t.type == "html_block"], said
    inline = [c.content for t in tokens for c in t.children or () if c.type == "html_inline"]
    assert inline == []
    rendered = MarkdownIt("commonmark").render(source)
    assert re.search(r"<blockquote>\s*<p>AFTER</p>", rendered)
    assert "<em>The end.</em>" in rendered


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*HOSTILE, "\n", "\n\n", "> ", "- ", "1. ", "`", "```", "~~~", "  ", "    ", "*", "<", "<!--"]),
        max_size=12,
    )
)
def test_no_mixture_of_markup_swallows_what_follows(parts: list[str]) -> None:
    said = "".join(parts)
    source = text(entry("message", role="assistant", content=said), entry("message", 2, role="user", content="AFTER"))
    tokens = MarkdownIt("commonmark").parse(source)

    assert not [t for t in tokens if t.type == "html_block"]
    assert re.search(r"<blockquote>\s*<p>AFTER</p>", MarkdownIt("commonmark").render(source))


@pytest.mark.parametrize("output", ["```\nx\n```", "~~~", "``````", "`" * 40, "    x", "", "<b>\n</pre>"])
def test_output_stays_in_its_fence(output: str) -> None:
    source = text(entry("execution", command="run", output=output), entry("message", 2, role="user", content="AFTER"))
    fences = [t.content for t in MarkdownIt("commonmark").parse(source) if t.type == "fence"]

    assert fences == ["$ run\n" + output.rstrip() + "\n" if output else "$ run\n"]


def test_markdown_is_kept_as_it_was_written() -> None:
    said = "# Title\n\n- a `<b>`\n- b\n\n```html\n<p>x</p>\n```\n\n<https://example.org> and x < y"
    assert said in text(entry("message", role="assistant", content=said))


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, [("user", "ab")]),
        (
            {"role": "user", "content": [{"type": "image", "source": {}}]},
            [("note", "[image that cannot be shown as text]")],
        ),
        (
            {"role": "assistant", "content": [{"type": "tool_use", "name": "read", "input": {"path": "a.py"}}, "then"]},
            [("call", "path: a.py"), ("assistant", "then")],
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": '{"a":1}'}}]},
            [("call", '{"a":1}')],
        ),
        ({"role": "user", "content": [{"type": "tool_result", "content": "done"}]}, [("call", "done")]),
        ({"role": "assistant", "content": "x", "thought": "hm"}, [("thought", "hm"), ("assistant", "x")]),
        ({"role": "assistant", "content": "", "cancelled": True}, [("assistant", "")]),
        ({"role": "martian", "content": "x"}, [("note", "x")]),
        ({"role": "user", "content": None}, []),
        ({"role": "user", "content": 5}, [("user", "5")]),
        ({"content": {"text": "x"}}, [("note", "x")]),
        ({}, []),
    ],
)
def test_messages_of_all_shapes_are_read(data: dict[str, Any], shown: list[tuple[str, str]]) -> None:
    assert [(b.kind, b.text) for b in blocks(entry("message", **data))] == shown


def test_bookkeeping_is_not_shown_and_forks_are() -> None:
    assert list(blocks(entry("session", what="paused", set={"status": "paused"}))) == []
    assert [b.text for b in blocks(entry("session", what="forked"))] == ["A fork begins here."]
    assert list(blocks(entry("command", command="!ls"))) == []
    assert [b.text for b in blocks(entry("command", command="/model x"))] == ["/model x"]
    assert [b.text for b in blocks(entry("event", text="moved"))] == ["moved"]


def test_controls_are_made_visible() -> None:
    assert visible("a\x1b[1mb\x1b[0m\r\nc\rd\x07\x9b\u202e\ud800\u200b") == "ab\nc\nd␇‹9b›‹202e›\ufffd"


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.sampled_from(["\ud800"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
        max_leaves=8,
    )
)
def test_json_lines_are_json_whatever_was_recorded(value: Any) -> None:
    entries = [entry("message", role="user", content="x", more=value), entry("odd", 2)]
    source = "".join(jsonl.pieces([Transcript(ROW._replace(meta={"m": value}), entries)]))
    lines = source.encode("utf-8").split(b"\n")

    assert lines.pop() == b""
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [one["type"] for one in found] == ["session", "message", "odd"]
    assert found[0]["id"] == found[1]["session"] == ROW.id
    assert found[1]["seq"] == 1


def test_json_lines_keep_every_field() -> None:
    data = {"role": "user", "content": "é\n", "unknown": {"a": [1, 2.5, None, True]}}
    line = "".join(jsonl.pieces([Transcript(ROW, [entry("message", **data)])])).splitlines()[1]
    assert json.loads(line)["data"] == data
