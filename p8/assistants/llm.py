"""Every model of the `llm` library and its plugins, with the user's own keys (`llm keys set NAME`).

The library is imported on first use, in the thread that answers: its import alone takes a third of a second.
Refuses: tools, and llm's own log; P8 keeps the record.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from typing import Any

from p8.assistants.base import Cancel, Chunk, ChunkKind, ModelInfo
from p8.errors import AssistantError, NotFound


def is_available() -> bool:
    """Return whether the library is installed; does not import it."""
    return importlib.util.find_spec("llm") is not None


def models() -> list[ModelInfo]:
    """Return the library's models; ready where no key is needed or one is set."""
    if not is_available():
        return []
    llm = _library()
    found = []
    for entry in llm.get_models_with_aliases():
        model = entry.model
        ready = _has_key(llm, model)
        note = "" if ready else f"no key: llm keys set {model.needs_key}"
        found.append(ModelInfo(model.model_id, "llm", str(model), ready, note))
    return found


def _has_key(llm: Any, model: Any) -> bool:
    if not getattr(model, "needs_key", None):
        return True
    return bool(llm.get_key(alias=model.needs_key, env=getattr(model, "key_env_var", None)))


def _library() -> Any:
    import llm

    return llm


class LlmModel:
    """
    One of the library's models as an `Assistant`.

    Args:
        name: a model id or alias, as `llm models` lists them.

    Raises:
        NotFound: the library has no such model, or is not installed.
    """

    def __init__(self, name: str) -> None:
        if not is_available():
            raise NotFound(f"no model is called {name!r}", "pip install 'p8[llm]' brings the llm library's models")
        llm = _library()
        try:
            self._model = llm.get_model(name)
        except llm.UnknownModelError as error:
            raise NotFound(f"no model is called {name!r}", "/model lists them") from error
        self.name: str = self._model.model_id

    def stream(self, conversation: Sequence[dict[str, Any]], cancel: Cancel) -> Iterator[Chunk]:
        """Answer the last message (see `Assistant`)."""
        llm = _library()
        turn = {"user": llm.user, "assistant": llm.assistant, "system": llm.system}
        messages = [turn.get(str(m.get("role")), llm.user)(str(m.get("content", ""))) for m in conversation]
        try:
            response = self._model.prompt(messages=messages, stream=bool(getattr(self._model, "can_stream", True)))
            for piece in response:
                if cancel.is_set():
                    return
                if piece:
                    yield Chunk(ChunkKind.TEXT, piece)
            usage = response.usage()
        except Exception as error:
            raise explained(error, self.name) from error
        if usage.input is not None or usage.output is not None:
            yield Chunk(ChunkKind.USAGE, data={"tokens_in": usage.input or 0, "tokens_out": usage.output or 0})

    def close(self) -> None:
        """Nothing is held between answers."""


def explained(error: Exception, name: str) -> AssistantError:
    """Make of a vendor's exception one line that says what went wrong and what to do."""
    kind = type(error).__name__
    status = getattr(error, "status_code", None)
    text = _short(error)
    if kind == "NeedsKeyException":
        return AssistantError(f"{name} needs a key: {text}", "llm keys set NAME, then /retry")
    if status == 401 or kind == "AuthenticationError":
        return AssistantError(f"{name} refused the key: {text}", "llm keys set NAME with a good one, then /retry")
    if status == 429 or kind == "RateLimitError":
        wait = _header(error, "retry-after")
        when = f"in {wait} s" if wait else "in a while"
        return AssistantError(
            f"{name} is rate-limited or out of quota: {text}", f"/retry {when}, or /model another one"
        )
    if "Timeout" in kind:
        return AssistantError(f"{name} did not answer in time", "/retry, or /model another one")
    if "Connection" in kind or "Connect" in kind or isinstance(error, OSError):
        return AssistantError(f"{name} cannot be reached: {text}", "check the network and the model's address; /retry")
    if isinstance(status, int) and status >= 500:
        return AssistantError(f"{name}'s server failed with status {status}: {text}", "/retry, or /model another one")
    return AssistantError(f"{name} failed: {kind}: {text}", "/retry, or /model another one")


def _header(error: Exception, name: str) -> str:
    with contextlib.suppress(AttributeError, TypeError):
        return str(error.response.headers.get(name) or "")  # type: ignore[attr-defined]
    return ""


def _short(error: Exception) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])[:200]
    text = " ".join(str(error).split())
    return re.sub(r"\b(sk-[\w-]{4})[\w-]+", r"\1…", text)[:200] or type(error).__name__
