from __future__ import annotations

import struct
from pathlib import Path

import pytest

from p8.assistants.tokens import (
    DEFAULT_WINDOW,
    GgufTokens,
    RuleOfThumb,
    TokenBook,
    encoding_of,
    is_available,
    merged,
    read_gguf,
    window_of,
)
from p8.testing import FakeAssistant


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(file: Path, merges: list[str], model: str = "gpt2") -> Path:
    values = [
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("some.numbers") + struct.pack("<IIQ", 9, 5, 3) + struct.pack("<3i", 1, 2, 3),
        text("tokenizer.ggml.model") + struct.pack("<I", 8) + text(model),
        text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, len(merges)) + b"".join(map(text, merges)),
    ]
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + b"".join(values))
    return file


def test_pairs_are_merged_in_the_order_of_the_vocabulary(tmp_path: Path) -> None:
    counter = GgufTokens(gguf(tmp_path / "m.gguf", ["h e", "l l", "he ll", "hell o", "Ġ hello"]))

    assert counter.count("hello") == 1
    assert counter.count("hello hello") == 2
    assert counter.count("helo") == 3  # he l o
    assert counter.count("12 345") == 6  # digits stand alone, and so does the blank before one
    assert counter.count("é") == 2  # two bytes
    assert counter.count("") == 0
    assert counter.count("\ud800") == 1


def test_merging_takes_the_lowest_rank_and_the_leftmost_first() -> None:
    assert merged(list("aaa"), {("a", "a"): 0}) == 2
    assert merged(list("abcd"), {("b", "c"): 0, ("a", "b"): 1, ("bc", "d"): 2, ("a", "bcd"): 3}) == 1
    assert merged([], {}) == 0


def test_a_file_that_is_none_or_cut_off_is_refused(tmp_path: Path) -> None:
    file = gguf(tmp_path / "m.gguf", ["a b"])
    with pytest.raises(ValueError, match="no byte-level"):
        GgufTokens(gguf(tmp_path / "other.gguf", ["a b"], model="llama"))
    for size in (5, 40, 90, len(file.read_bytes()) - 3):
        short = tmp_path / "short.gguf"
        short.write_bytes(file.read_bytes()[:size])
        with pytest.raises(ValueError, match="gguf"):
            read_gguf(short, {"tokenizer.ggml.merges"})
    (tmp_path / "no.gguf").write_bytes(b"PK\3\4 no")
    with pytest.raises(ValueError, match="no GGUF"):
        read_gguf(tmp_path / "no.gguf", set())


def test_which_vocabulary_counts_for_a_model() -> None:
    assert encoding_of("gpt-4") == ("cl100k_base", True)
    assert encoding_of("gpt-4o-mini") == ("o200k_base", True)
    assert encoding_of("openrouter/openai/gpt-4.1") == ("o200k_base", True)
    assert encoding_of("claude-sonnet-4") == ("o200k_base", False)


def test_without_weights_and_vocabulary_a_rule_of_thumb_counts(tmp_path: Path) -> None:
    assert RuleOfThumb().count("word " * 100) == 125
    assert RuleOfThumb().count("人人生而自由") == 4
    counter = TokenBook(tmp_path).of("local")
    assert counter.name != "local"
    assert counter.count("hello") in {1, 2}


@pytest.mark.skipif(not is_available(), reason="needs bpe-openai")
def test_openai_counts_offline(tmp_path: Path) -> None:
    counter = TokenBook(tmp_path).of("gpt-4o")
    assert counter.exact
    assert counter.count("hello world") == 2
    assert counter.count("tiktoken is great!") == 6
    assert counter.count("x\ud800") >= 2
    assert counter.count("<|endoftext|>") > 1


def test_what_a_model_takes() -> None:
    fake = FakeAssistant()
    assert window_of("fake", fake) == DEFAULT_WINDOW
    assert window_of("fake", fake, 1000) == 1000
    assert window_of("local") == 8192
    fake.context_tokens = 500  # type: ignore[attr-defined]
    assert window_of("fake", fake, 1000) == 500
