"""The local model's own process: `python -m p8.assistants.engine MODEL [SITE]`.

Reads one JSON request a line on stdin, writes one JSON event a line on stdout, ends when stdin does. It is a process
of its own so that a crash or a hang of the engine costs an answer and not the REPL, and its chatter never reaches a
terminal. Started by `local.py` only; imports nothing of P8 but this file.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

CONTEXT_TOKENS = 8192


def main() -> None:
    """Serve until stdin ends."""
    model = sys.argv[1]
    if len(sys.argv) > 2:
        sys.path.insert(0, sys.argv[2])
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # the engine prints to stdout; that pipe carries events only
    _die_with_parent()
    try:
        server = _load(model)
    except Exception as error:
        events.write(json.dumps({"error": f"the engine did not start: {error}"}) + "\n")
        return
    events.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        try:
            server.handle_chat_completions(json.loads(line), lambda chunk: _emit(events, chunk))
            events.write('{"done": true}\n')
        except Exception as error:
            events.write(json.dumps({"error": str(error)}) + "\n")


def _load(model: str) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    # One thread: with two on two busy cores the spin barrier made one answer take a minute; one is as fast.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.verbosity = -1
    return xllamacpp.Server(params)


def _emit(events: Any, chunk: Any) -> bool:
    """Pass a chunk on; True stops the engine."""
    data = json.loads(chunk) if isinstance(chunk, str | bytes) else chunk
    event: dict[str, Any] = {}
    for choice in data.get("choices") or ():
        text = (choice.get("delta") or {}).get("content")
        if text:
            event["text"] = text
    if data.get("usage"):
        usage = data["usage"]
        event["tokens_in"], event["tokens_out"] = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    if data.get("error"):
        event["error"] = str(data["error"].get("message", data["error"]))
    if not event:
        return False
    try:
        events.write(json.dumps(event) + "\n")
    except OSError:
        return True
    return False


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, however it dies (Linux)."""
    try:
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    except (OSError, AttributeError):
        return
    if os.getppid() == 1:
        os._exit(0)


if __name__ == "__main__":
    main()
