from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.errors import FormatError
from p8.formats.yaml import parse_yaml, read_yaml, write_yaml


def test_each_part_knows_its_line() -> None:
    found = parse_yaml("# first\na:\n  b: 1\n  c:\n    - x\n    - {y: 2}\n\nd: |\n  long\n  text\n", "f.yaml")
    assert found.data == {"a": {"b": 1, "c": ["x", {"y": 2}]}, "d": "long\ntext\n"}
    assert [found.lines[key] for key in (("a",), ("a", "b"), ("a", "c", 0), ("a", "c", 1, "y"), ("d",))] == [
        2,
        3,
        5,
        6,
        8,
    ]
    assert found.at("a", "c", 1) == "f.yaml, line 6"
    assert found.at("a", "nothing", "below") == "f.yaml, line 2"
    assert parse_yaml("", "f.yaml").at("x") == "f.yaml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "line 2"), ("a: 1\na: 2\n", "line 2: 'a' comes twice"), ("a: &x 1\nb: *x\n", "line 2: aliases"),
        ("a: !!python/object/apply:os.system [id]\n", "line 1"), ("\ta: 1\n", "line 1"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: \x00", "f.yaml"),
        *((text, "too deeply") for text in ("[" * 65_000, "{a: " * 16_000, "- " * 32_000 + "x", "? " * 30_000)),
        ("? [a]\n: 1\n", "f.yaml"),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_yaml(text, "f.yaml")
    assert said in caught.value.message
    assert "f.yaml" in caught.value.message


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "missing")
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    (tmp_path / "large").write_text("#" * 70_000)
    os.mkfifo(tmp_path / "pipe")
    for name in ("latin", "large"):
        with pytest.raises(FormatError):
            read_yaml(tmp_path / name)
    assert read_yaml(tmp_path / "pipe").data is None  # nobody writes: nothing is waited for
    with pytest.raises(FormatError):
        read_yaml(tmp_path)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_yaml(text, "f.yaml")
    except FormatError as error:
        refused = error.message
    else:
        refused = "f.yaml"
    assert refused.startswith("f.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), inner),
    max_leaves=8,
)


@given(PLAIN)
def test_what_is_written_is_read_again(data: object) -> None:
    assert parse_yaml(write_yaml(data), "f.yaml").data == data
