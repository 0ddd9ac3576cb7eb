from __future__ import annotations

import re

import pytest

from p8.patterns import pattern


def test_it_matches_as_the_compiled_one_does() -> None:
    mine, theirs = pattern("a(b+)", re.IGNORECASE), re.compile("a(b+)", re.IGNORECASE)
    for text in ("xABBy", "ab", "c"):
        assert bool(mine.search(text)) == bool(theirs.search(text))
        assert bool(mine.fullmatch(text)) == bool(theirs.fullmatch(text))
        assert mine.sub("-", text) == theirs.sub("-", text)
    assert (mine.pattern, mine.flags) == (theirs.pattern, theirs.flags)


def test_nothing_is_compiled_before_it_is_used() -> None:
    late = pattern("(")
    with pytest.raises(re.error):
        late.match("x")
