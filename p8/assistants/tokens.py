"""How many tokens a text is, counted without a network: the local model's by its own vocabulary, others' by OpenAI's.

`bpe-openai` (the extra `tokens`) carries OpenAI's vocabularies; without it a rule of thumb is used and said to be one.
What other providers count differs; `core/context.py` learns by how much from the usage they report.
Refuses: to ask a server, to send anything anywhere.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import mmap
import re
import struct
import sys
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from p8.assistants.engine import CONTEXT_TOKENS
from p8.assistants.local import NAME, weights

DEFAULT_WINDOW = 128_000  #: what a model takes where neither it nor the settings say so
BLOCK = 100_000  #: characters counted at once; a text is cut there, which costs a token at most
WORDS_KEPT = 60_000
#: GPT-2's pattern; numbers stand alone before it is applied, as the model's own pre-tokenizer has it
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
COUNTED_WHOLE = 1_000_000  #: characters; longer texts fit no window, so about is enough
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Tokens(Protocol):
    """Counts tokens. `exact` says whether this is the vocabulary of the model asked for."""

    name: str
    exact: bool
    per_message: int  #: tokens a message costs beside its text
    per_request: int  #: tokens a request costs beside its messages
    no_system: int  #: tokens the model's template adds where no system message is sent

    def count(self, text: str) -> int:
        """Return how many tokens `text` is."""
        ...


def sampled(count: Callable[[str], int], text: str) -> int:
    """Return about how many tokens a very long text is, from eight parts of it."""
    size = COUNTED_WHOLE // 16
    parts = [text[at : at + size] for at in range(0, len(text) - size + 1, (len(text) - size) // 7)]
    return sum(map(count, parts)) * len(text) // (size * len(parts))


class RuleOfThumb:
    """Four bytes of Latin text or two thirds of a character of other scripts a token; for want of a vocabulary."""

    name, exact, per_message, per_request, no_system = "rule of thumb", False, 4, 3, 0

    def count(self, text: str) -> int:
        """Return about how many tokens `text` is."""
        wide = sum(1 for c in text if c > "ÿ")
        return -(-(len(text) - wide) // 4) + -(-wide * 2 // 3)


class OpenAITokens:
    """
    One of OpenAI's vocabularies.

    Args:
        encoding: its name, e.g. "o200k_base".
        exact: whether the model asked for uses it.
    """

    per_message, per_request, no_system = 4, 3, 0

    def __init__(self, encoding: str, exact: bool) -> None:
        import warnings

        with warnings.catch_warnings():  # it reads its data in a way that Python calls outdated
            warnings.simplefilter("ignore", DeprecationWarning)
            import bpe_openai

            found = bpe_openai.get_encoding(encoding)
        self.name, self.exact = encoding, exact
        self._encode: Callable[[str], Sequence[int]] = found.encode_ordinary

    def count(self, text: str) -> int:
        """Return how many tokens `text` is; of one longer than any window, about how many."""
        if len(text) > COUNTED_WHOLE:
            return sampled(self.count, text)
        text = text.encode("utf-8", "replace").decode()
        return sum(len(self._encode(text[at : at + BLOCK])) for at in range(0, len(text), BLOCK))


class GgufTokens:
    """
    The vocabulary that stands in a model's own file (byte-level BPE, as the offline model has it).

    Args:
        file: the weights, GGUF.

    Raises:
        ValueError: no such vocabulary is in it.
    """

    name, exact, per_message, per_request, no_system = NAME, True, 5, 4, 21

    def __init__(self, file: Path) -> None:
        found = read_gguf(file, {"tokenizer.ggml.model", "tokenizer.ggml.merges"})
        merges = found.get("tokenizer.ggml.merges")
        if found.get("tokenizer.ggml.model") != "gpt2" or not isinstance(merges, list):
            raise ValueError(f"{file.name} holds no byte-level BPE")
        self._ranks = {tuple(merge.split(" ", 1)): rank for rank, merge in enumerate(merges)}
        self._letters = _byte_letters()
        self._known: dict[str, int] = {}
        self._numbers = _numbers()

    def count(self, text: str) -> int:
        """Return how many tokens `text` is; of one longer than any window, about how many."""
        if len(text) > COUNTED_WHOLE:
            return sampled(self.count, text)
        total = 0
        for piece in self._numbers.split(text):
            if piece and self._numbers.fullmatch(piece):
                total += self._word(piece)
            elif piece:
                total += sum(map(self._word, SPLIT.findall(piece)))
        return total

    def _word(self, word: str) -> int:
        known = self._known.get(word)
        if known is None:
            if len(self._known) > WORDS_KEPT:
                self._known.clear()
            known = merged([self._letters[b] for b in word.encode("utf-8", "replace")], self._ranks)
            if len(word) < 64:
                self._known[word] = known
        return known


def merged(parts: list[str], ranks: Mapping[tuple[str, ...], int]) -> int:
    """Return how many pieces are left when the pairs of lowest rank are joined until none is left to join."""
    after = [*range(1, len(parts)), -1]
    before = [-1, *range(len(parts) - 1)]
    alive = [True] * len(parts)
    waiting: list[tuple[int, int, str, str]] = []

    def offer(left: int) -> None:
        right = after[left]
        rank = ranks.get((parts[left], parts[right])) if right >= 0 else None
        if rank is not None:
            heapq.heappush(waiting, (rank, left, parts[left], parts[right]))

    for at in range(len(parts)):
        offer(at)
    left_over = len(parts)
    while waiting:
        _, left, first, second = heapq.heappop(waiting)
        right = after[left] if alive[left] else -1
        if right < 0 or parts[left] != first or parts[right] != second:
            continue
        parts[left], alive[right] = first + second, False
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        left_over -= 1
        offer(left)
        if before[left] >= 0:
            offer(before[left])
    return left_over


def _byte_letters() -> list[str]:
    """Return GPT-2's letter for each byte: itself where it can be printed, else one from 256 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    extra = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(extra)) for b in range(256)]


@lru_cache(1)
def _numbers() -> re.Pattern[str]:
    chars = "".join(c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] == "N")
    return re.compile(f"([{re.escape(chars)}])")


def read_gguf(file: Path, wanted: set[str]) -> dict[str, Any]:
    """
    Return some of the values that head a GGUF file: text and lists of text; others are passed over.

    Raises:
        ValueError: it is no GGUF file, or cut off.
        OSError: it cannot be read.
    """
    with file.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise ValueError(f"{file.name} is no GGUF file")
        try:
            return _head(data, wanted)
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"{file.name}: {error}") from error


class _Place(NamedTuple):
    value: Any
    end: int


def _head(data: mmap.mmap, wanted: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    (count,) = struct.unpack_from("<Q", data, 16)
    at = 24
    for _ in range(count):
        key, at = _text(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        value, at = _value(data, at + 4, kind, key in wanted)
        if key in wanted:
            found[key] = value
            if len(found) == len(wanted):
                break
    return found


def _text(data: mmap.mmap, at: int) -> _Place:
    (size,) = struct.unpack_from("<Q", data, at)
    if size > len(data) - at - 8:
        raise struct.error("cut off")
    return _Place(data[at + 8 : at + 8 + size].decode("utf-8"), at + 8 + size)


def _value(data: mmap.mmap, at: int, kind: int, keep: bool) -> _Place:
    if kind == 8:
        return _text(data, at)
    if kind != 9:
        return _Place(None, at + SIZES[kind])
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner != 8:
        return _Place(None, at + SIZES[inner] * count)
    values = []
    for _ in range(count):
        value, at = _text(data, at)
        if keep:
            values.append(value)
    return _Place(values, at)


class TokenBook:
    """
    Finds the vocabulary of a model, and what it takes. Vocabularies are loaded once, on first use.

    Args:
        home: P8's home, where the local model's weights are.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._loaded: dict[str, Tokens] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> Tokens:
        """Return what counts for a model; loading takes up to a second the first time."""
        with self._lock:
            wanted = NAME if model == NAME else encoding_of(model)[0]
            if wanted not in self._loaded:
                self._loaded[wanted] = self._load(model)
            return self._loaded[wanted]

    def _load(self, model: str) -> Tokens:
        if model == NAME:
            with contextlib.suppress(OSError, ValueError):
                return GgufTokens(weights(self._home))
        encoding, exact = encoding_of(model)
        with contextlib.suppress(Exception):  # a broken wheel must not cost an answer
            if is_available():
                return OpenAITokens(encoding, exact)
        return RuleOfThumb()

    def is_loaded(self, model: str) -> bool:
        """Return whether `of` would return at once."""
        return (NAME if model == NAME else encoding_of(model)[0]) in self._loaded


def is_available() -> bool:
    """Return whether OpenAI's vocabularies are installed; does not load them."""
    return "bpe_openai" in sys.modules or importlib.util.find_spec("bpe_openai") is not None


def encoding_of(model: str) -> tuple[str, bool]:
    """Return the OpenAI vocabulary to count a model's tokens with, and whether it is that model's own."""
    name = model.lower().rsplit("/", 1)[-1]
    if re.match(r"gpt-(3\.5|4(?![o.]))|text-embedding-3", name):
        return "cl100k_base", True
    return "o200k_base", bool(re.match(r"(gpt-|o\d|chatgpt)", name))


def window_of(model: str, assistant: object = None, limit: int = 0) -> int:
    """
    Return how many tokens a model takes at once.

    Args:
        model: its name.
        assistant: its attribute `context_tokens` says so, where it has one.
        limit: the person's setting; 0 means none.
    """
    known = getattr(assistant, "context_tokens", 0) or (CONTEXT_TOKENS if model == NAME else DEFAULT_WINDOW)
    return min(int(known), limit) if limit else int(known)
