"""A model on loopback, or on a unix socket, for real agents: Anthropic's messages and OpenAI's responses, streamed.

It does what it is told by the person's last words: `create NAME: TEXT` calls the agent's own tool for that, `run LINE`
Codex's own for that, `recall` says which of the person's words it was sent; each line `call TOOL: {…}` calls one of
Claude Code's tools, after the other, and `when told call …` waits for `told` first. Anything else is echoed. `asked`
keeps the requests.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.loopback import LoopbackServer, QuietHandler

CREATE = re.compile(r"create (\S+): (.*)")
RUN = re.compile(r"run (.*)")
CALL = re.compile(r"^(when told )?call (\S+): (\{.*\})$", re.MULTILINE)
TOLD_S = 60
USAGE = {"input_tokens": 11, "output_tokens": 7}


class ModelServer(LoopbackServer):
    """The server; `asked` keeps (path, body)."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(Handler, path)
        self.told = threading.Event()
        self.numbers = itertools.count(1)


class Handler(QuietHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._plain({})

    def do_GET(self) -> None:
        self._plain({"data": [], "models": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.split("?")[0]
        self.server.asked.append((path, body))
        self.server.keys.append(self.headers.get("x-api-key") or self.headers.get("authorization") or "")
        if path.endswith("/messages"):
            self._stream(anthropic(self.server, body))
        elif path.endswith("/responses"):
            self._stream(openai(self.server, body))
        elif path.endswith("/count_tokens"):
            self._plain({"input_tokens": 10})
        else:
            self._plain({})

    def _plain(self, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True


def reply(texts: list[str]) -> str:
    """What it says to these words of the person."""
    if texts[-1:] == ["recall"]:
        return "I was told: " + " | ".join(texts[:-1])
    return f"You said: {texts[-1] if texts else ''}"


def anthropic(server: ModelServer, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    texts: list[str] = []
    results: list[dict[str, Any]] = []  # of the tools called since the person's last words
    for message in body.get("messages", ()):
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] != "user":
            continue
        said = [b["text"] for b in blocks if b["type"] == "text" and not b["text"].startswith("<system-reminder>")]
        results = [*([] if said else results), *(b for b in blocks if b["type"] == "tool_result")]
        texts += said
    tools = {tool.get("name") for tool in body.get("tools", ())}
    calls = [call for call in wanted_of(texts[-1] if texts else "", body) if call[1] in tools]
    yield {
        "type": "message_start",
        "message": {
            "id": f"msg_{next(server.numbers)}", "type": "message", "role": "assistant", "content": [],
            "model": body.get("model", "m"), "stop_reason": None, "stop_sequence": None, "usage": USAGE,
        },
    }  # fmt: skip
    if len(results) < len(calls):
        waits, name, given = calls[len(results)]
        assert not waits or server.told.wait(TOLD_S)
        block: dict[str, Any] = {
            "type": "tool_use",
            "id": f"toolu_{next(server.numbers):04}",
            "name": name,
            "input": {},
        }
        delta: dict[str, Any] = {"type": "input_json_delta", "partial_json": given}
    else:
        words = f"It was {'refused' if results[-1].get('is_error') else 'done'}." if results else reply(texts)
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": words}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    reason = "tool_use" if block["type"] == "tool_use" else "end_turn"
    yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": USAGE}
    yield {"type": "message_stop"}


def wanted_of(text: str, body: dict[str, Any]) -> list[tuple[bool, str, str]]:
    """What the person's words want called: whether only when told, the tool, its input as JSON."""
    wanted = CREATE.fullmatch(text.strip())
    if wanted:
        return [(False, "Write", json.dumps({"file_path": f"{cwd_of(body)}/{wanted[1]}", "content": wanted[2]}))]
    return [(bool(waits), name, given) for waits, name, given in CALL.findall(text)]


def cwd_of(body: dict[str, Any]) -> str:
    """The directory the agent says it works in."""
    found = re.search(r"[Ww]orking directory: (\S+)", json.dumps(body.get("system", "")) + json.dumps(body["messages"]))
    return found[1].split("\\n")[0].rstrip('"') if found else "."


def openai(server: ModelServer, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    texts: list[str] = []
    result = ""
    for item in body.get("input", ()):
        if item.get("type") == "message" and item.get("role") == "user":
            content = item["content"]
            found = [content] if isinstance(content, str) else [p["text"] for p in content if "text" in p]
            texts += [text for text in found if not text.startswith("<")]
            result = ""
        elif str(item.get("type")).endswith("_call_output"):
            result = json.dumps(item.get("output"))
    wanted = CREATE.fullmatch(texts[-1].strip()) if texts else None
    ran = RUN.fullmatch(texts[-1].strip()) if texts else None
    answer = f"resp_{next(server.numbers)}"
    yield {"type": "response.created", "response": {"id": answer, "status": "in_progress", "output": []}}
    if wanted and not result:
        patch = f"*** Begin Patch\n*** Add File: {wanted[1]}\n+{wanted[2]}\n*** End Patch"
        item = tool_call(body, patch, f"call_{next(server.numbers):04}")
    elif ran and not result:
        # As Codex's own models do where they are told that its sandbox does not work.
        told = "require_escalated" in json.dumps([i for i in body["input"] if i.get("role") == "developer"])
        more = {"sandbox_permissions": "require_escalated", "justification": "as told"} if told else {}
        item = command_call(body, ran[1], f"call_{next(server.numbers):04}", **more)
    else:
        said = f"The tool said: {result}" if result else reply(texts)
        item = {
            "type": "message", "id": f"msg_{next(server.numbers)}", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": said, "annotations": []}],
        }  # fmt: skip
    yield {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}}
    if item["type"] == "message":
        text = item["content"][0]["text"]
        yield {
            "type": "response.output_text.delta", "item_id": item["id"], "output_index": 0, "content_index": 0,
            "delta": text,
        }  # fmt: skip
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    usage = {**USAGE, "total_tokens": 18, "input_tokens_details": {"cached_tokens": 0},
             "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    yield {"type": "response.completed",
           "response": {"id": answer, "status": "completed", "output": [item], "usage": usage}}  # fmt: skip


def tool_call(body: dict[str, Any], patch: str, call: str) -> dict[str, Any]:
    """The call of whichever tool the agent has for patches."""
    tools = {tool.get("name"): tool for tool in body.get("tools", ())}
    if tools.get("apply_patch", {}).get("type") == "custom":
        return {"type": "custom_tool_call", "id": f"ctc_{call}", "call_id": call, "name": "apply_patch", "input": patch}
    return command_call(body, f"apply_patch <<'EOF'\n{patch}\nEOF", call)


def command_call(body: dict[str, Any], command: str, call: str, **more: str) -> dict[str, Any]:
    """The call of whichever tool the agent has for commands."""
    tools = {tool.get("name"): tool for tool in body.get("tools", ())}
    if "exec_command" in tools:
        name, given = "exec_command", {"cmd": command, **more}
    else:
        name = "shell_command" if "shell_command" in tools else "shell"
        given = {"command": command if name == "shell_command" else ["bash", "-lc", command]}
    return {
        "type": "function_call", "id": f"fc_{call}", "call_id": call, "name": name, "arguments": json.dumps(given),
    }  # fmt: skip


@contextmanager
def model_server(path: Path | None = None) -> Iterator[ModelServer]:
    """Run a server while the block lasts, on a unix socket where one is named."""
    server = ModelServer(path)
    with server.running():
        yield server
