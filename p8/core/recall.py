"""Full text over a few thousand short texts held in memory: BM25, accents and letter case aside.

For memories, which a person may edit as files at any moment, an index on disk would be one more thing to be out of
step; building this one takes about 10 µs a text. What is said in sessions is searched in `store/search.py`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

K1, B = 1.2, 0.75
BEGINNING = 0.6  #: what a word's beginning counts against the whole word
WORD = re.compile(r"[^\W_]+")
#: scripts written without blanks: each character is a word
DENSE = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")


def words_of(text: str) -> list[str]:
    """Return a text's words, folded: lower case, without accents."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(c for c in parts if not unicodedata.combining(c))
        text = unicodedata.normalize("NFC", text)
        text = DENSE.sub(lambda match: f" {match.group()} ", text)
    return WORD.findall(text.casefold())


class Index:
    """
    An index over texts.

    Args:
        texts: found by their places in this sequence.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(words_of(text)) for text in texts]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = sum(self._lengths) / len(texts) if texts else 1.0
        self._places: dict[str, list[int]] = {}
        for at, counts in enumerate(self._counts):
            for word in counts:
                self._places.setdefault(word, []).append(at)

    def best(self, query: str, limit: int) -> list[tuple[int, float]]:
        """Return the places of the texts that fit best with their scores, best first; those without a word left out."""
        scores: dict[int, float] = {}
        for word in dict.fromkeys(words_of(query)):
            for at, score in self._word(word).items():
                scores[at] = scores.get(at, 0.0) + score
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def _word(self, word: str) -> dict[int, float]:
        """Return what a word adds to each text that has it, or a word that begins with it."""
        found = self._weighed(word, 1.0)
        if len(word) >= 3:
            for longer in self._places:
                if longer.startswith(word) and longer != word:
                    for at, score in self._weighed(longer, BEGINNING).items():
                        found[at] = max(found.get(at, 0.0), score)
        return found

    def _weighed(self, word: str, weight: float) -> dict[int, float]:
        places = self._places.get(word, ())
        rarity = math.log(1 + (len(self._counts) - len(places) + 0.5) / (len(places) + 0.5))
        found = {}
        for at in places:
            often = self._counts[at][word]
            length = 1 - B + B * self._lengths[at] / (self._mean or 1.0)
            found[at] = weight * rarity * often * (K1 + 1) / (often + K1 * length)
        return found
