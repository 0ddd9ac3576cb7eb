"""Counts of tokens against the local model's own, on real texts: English, code, and other scripts."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from p8.assistants import local
from p8.assistants.base import Cancel, ChunkKind
from p8.assistants.tokens import GgufTokens, OpenAITokens, Tokens, is_available
from p8.core.context import Correction

MODULES = (
    json, shutil, textwrap, __import__("argparse"), __import__("logging"), __import__("pathlib"),
    __import__("subprocess"), __import__("threading"), __import__("urllib.parse").parse, __import__("zipfile"),
    __import__("tarfile"), __import__("statistics"), __import__("fractions"), __import__("decimal"),
)  # fmt: skip
#: article 1 of the Universal Declaration of Human Rights, in a language a line
ARTICLE = Path(__file__).parents[1].joinpath("support", "human_rights.txt").read_text("utf-8").splitlines()
TEXTS = int(os.environ.get("P8_TEXTS", "12"))  # a release asks for all of them, 337; each takes the model 2 seconds


def corpus() -> list[tuple[str, str]]:
    """Return 300 and more texts by kind, 60 to 400 characters."""
    members = [value for module in MODULES for _, value in inspect.getmembers(module)]
    members += [v for m in members if inspect.isclass(m) for _, v in inspect.getmembers(m, inspect.isfunction)]
    english, code = {}, {}
    for member in members:
        if inspect.isfunction(member) or inspect.isclass(member):
            english[inspect.getdoc(member) or ""] = None
            try:
                code[textwrap.dedent(inspect.getsource(member))[:400]] = None
            except (OSError, TypeError):
                continue
    other = [part for text in ARTICLE for part in (text, f"{text}\n{text[:60]}", *text.split(". "))]
    kinds = {"english": [*english], "code": [*code], "other": other}
    return [
        (kind, text[:400])
        for kind, texts in kinds.items()
        for text in [t for t in texts if len(t) >= 60][: 140 if kind != "other" else 80]
    ]


@pytest.fixture(scope="module")
def model() -> Iterator[local.LocalModel]:
    home = Path(os.environ.get("P8_TEST_MODELS", "/tmp/p8-test-models"))
    if not local.is_installed(home):
        local.install(home, lambda _fraction, _text: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "ANSWER_TOKENS", 1)
        one = local.LocalModel(home)
        yield one
        one.close()


def reported(model: local.LocalModel, text: str) -> int:
    chunks = list(model.stream([{"role": "user", "content": text}], Cancel()))  # to its end, so that the engine stays
    return next(int(c.data["tokens_in"]) for c in chunks if c.kind is ChunkKind.USAGE)


def request(counter: Tokens, text: str) -> int:
    return counter.per_request + counter.per_message + counter.no_system + counter.count(text)


def errors(pairs: list[tuple[int, int]]) -> list[float]:
    return [abs(counted - real) / real for counted, real in pairs]


@pytest.mark.timeout(3600)
def test_counts_are_those_of_the_model(model: local.LocalModel, capsys: pytest.CaptureFixture[str]) -> None:
    """±5 % for each text, before any correction, with the model's own vocabulary."""
    texts = corpus()
    assert len(texts) >= 300
    counter = GgufTokens(local.weights(model._home))
    real = [(kind, text, reported(model, text)) for kind, text in texts[:: max(1, len(texts) // TEXTS)]]
    lines = []
    for kind in ("english", "code", "other"):
        mine = [(text, tokens) for k, text, tokens in real if k == kind]
        wrong = errors([(request(counter, text), tokens) for text, tokens in mine])
        lines.append(
            f"{len(wrong):4d} {kind:8} own vocabulary worst {max(wrong):7.2%} mean {sum(wrong) / len(wrong):7.2%}"
        )
        assert max(wrong) <= 0.05
        if is_available() and len(mine) > 20:
            lines += list(_with_another(kind, mine))
    with capsys.disabled():
        print("\n" + "\n".join(lines))


def _with_another(kind: str, real: list[tuple[str, int]]) -> Iterator[str]:
    """A vocabulary that is not the model's: before correction, and after ten turns."""
    counter = OpenAITokens("o200k_base", False)
    counted = [(request(counter, text), tokens) for text, tokens in real]
    learnt = Correction()
    for pair in counted[:10]:
        learnt.learn(*pair)
    rest = [(learnt.apply(c), tokens) for c, tokens in counted[10:]]
    before, after = errors(counted[10:]), errors(rest)
    for name, wrong in (("o200k", before), ("o200k, 10 learnt", after)):
        yield f"{len(wrong):4d} {kind:8} {name:17} worst {max(wrong):7.2%} mean {sum(wrong) / len(wrong):7.2%}"
    assert sum(after) < sum(before)
