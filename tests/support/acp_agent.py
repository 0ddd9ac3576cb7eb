"""`python -m support.acp_agent [flags]`: an agent made with the SDK, well or badly behaved as it is told.

The last text of a prompt is a verb with words: say, edit, run, plan, recall, usage, slow, deaf, hang, die, noise, odd,
refuse. What it has been sent is kept in the folder AGENT_STATE, so that another process can load it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import acp
from acp import schema
from acp.exceptions import RequestError

FLAGS = set(sys.argv[1:])
STATE = Path(os.environ["AGENT_STATE"])


def option(kind: str) -> schema.PermissionOption:
    return schema.PermissionOption(option_id=f"the-{kind}", name=kind, kind=kind)


class Agent:
    def __init__(self) -> None:
        self.conn: Any = None
        self.cwd: dict[str, str] = {}
        self.cancelled: dict[str, asyncio.Event] = {}

    def on_connect(self, conn: Any) -> None:
        self.conn = conn

    async def initialize(self, protocol_version: int, **_: Any) -> Any:
        if "--silent" in FLAGS:
            await asyncio.sleep(600)
        note("initialize")
        return schema.InitializeResponse(
            protocol_version=99 if "--newer" in FLAGS else 1,
            agent_capabilities=schema.AgentCapabilities(
                load_session="--load" in FLAGS,
                session_capabilities=schema.SessionCapabilities(
                    resume=schema.SessionResumeCapabilities() if "--resume" in FLAGS else None
                ),
            ),
            agent_info=schema.Implementation(name="test-agent", version="1.2.3"),
            auth_methods=[schema.AuthMethodAgent(id="a-key", name="a key")],
        )

    async def authenticate(self, method_id: str, **_: Any) -> None:
        note(f"authenticate {method_id}")
        FLAGS.discard("--signed-out")

    async def new_session(self, cwd: str, **_: Any) -> Any:
        if "--signed-out" in FLAGS:
            raise RequestError.auth_required({"details": "no key, no session"})
        session = f"s-{os.getpid()}-{len(self.cwd)}"
        self._open(session, cwd)
        note(f"new {session} {cwd}")
        return schema.NewSessionResponse(session_id=session)

    def _open(self, session: str, cwd: str) -> None:
        self.cwd[session] = cwd
        self.cancelled[session] = asyncio.Event()

    async def load_session(self, cwd: str, session_id: str, **_: Any) -> Any:
        if not kept(session_id).exists():
            raise RequestError.resource_not_found(session_id)
        note(f"load {session_id}")
        self._open(session_id, cwd)
        for text in sent(session_id):
            await self.say(session_id, f"[replayed {text}]")
        return schema.LoadSessionResponse()

    async def resume_session(self, cwd: str, session_id: str, **_: Any) -> Any:
        note(f"resume {session_id}")
        self._open(session_id, cwd)
        return schema.ResumeSessionResponse()

    async def cancel(self, session_id: str, **_: Any) -> None:
        note(f"cancel {session_id}")
        self.cancelled[session_id].set()

    async def say(self, session: str, text: str) -> None:
        await self.conn.session_update(session_id=session, update=acp.update_agent_message_text(text))

    async def update(self, session: str, update: Any) -> None:
        await self.conn.session_update(session_id=session, update=update)

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> Any:
        self.cancelled[session_id].clear()
        texts = [block.text for block in prompt]
        with kept(session_id).open("a") as file:
            file.write(json.dumps("\n".join(texts)) + "\n")
        verb, *words = texts[-1].split()
        reason = await getattr(self, f"do_{verb}")(session_id, *words)
        usage = schema.Usage(total_tokens=12, input_tokens=7, output_tokens=5)
        return schema.PromptResponse(stop_reason=reason or "end_turn", usage=usage if verb == "usage" else None)

    async def do_say(self, session: str, *words: str) -> None:
        for word in words:
            await self.say(session, f"{word} ")

    async def do_recall(self, session: str) -> None:
        await self.say(session, json.dumps(sent(session)[:-1]))

    async def do_plan(self, session: str) -> None:
        await self.update(session, acp.update_agent_thought_text("hm, "))
        await self.update(session, acp.update_agent_thought_text("well"))
        for status in ("pending", "completed"):
            await self.update(session, acp.update_plan([acp.plan_entry("look", status=status)]))
        await self.say(session, "planned")

    async def do_edit(self, session: str, name: str, text: str) -> str | None:
        path = Path(self.cwd[session]) / name
        old = path.read_text() if path.exists() else None
        call = f"call-{name}-{time.monotonic_ns()}"
        diff = acp.tool_diff_content(str(path), text, old)
        await self.say(session, "let me see ")
        await self.update(session, acp.start_tool_call(call, f"Edit {name}", kind="edit", status="pending"))
        answer = await self.conn.request_permission(
            session_id=session, tool_call=schema.ToolCallUpdate(tool_call_id=call, content=[diff]),
            options=[option(kind) for kind in ("allow_always", "allow_once", "reject_once")],
        )  # fmt: skip
        note(f"answer {getattr(answer.outcome, 'option_id', 'cancelled')}")
        if answer.outcome.outcome == "cancelled":
            return "cancelled"
        allowed = answer.outcome.option_id == "the-allow_once"
        if allowed:
            path.write_text(text)
        await self.update(session, acp.update_tool_call(call, status="completed" if allowed else "failed"))
        await self.say(session, "done" if allowed else "not done")
        return None

    async def do_run(self, session: str, *words: str) -> None:
        call = schema.ToolCallUpdate(
            tool_call_id=f"run-{time.monotonic_ns()}", title="a command", kind="execute",
            raw_input={"command": " ".join(words)},
        )  # fmt: skip
        answer = await self.conn.request_permission(
            session_id=session, tool_call=call, options=[option(kind) for kind in ("allow_once", "reject_once")]
        )
        await self.say(session, answer.outcome.option_id)

    async def do_usage(self, session: str, amount: str) -> None:
        cost = schema.Cost(amount=float(amount), currency="USD")
        await self.update(session, schema.UsageUpdate(session_update="usage_update", used=100, size=2000, cost=cost))
        await self.say(session, "counted")

    async def do_slow(self, session: str) -> str:
        for number in range(600):
            await self.say(session, f"{number} ")
            if await waited(self.cancelled[session], 0.05):
                return "cancelled"
        return "end_turn"

    async def do_deaf(self, session: str) -> None:
        await self.say(session, "deaf ")
        await asyncio.sleep(600)

    async def do_busy(self, session: str) -> None:
        await self.update(session, acp.start_tool_call("b", "Long work", kind="execute", status="in_progress"))
        await asyncio.sleep(1.0)
        await self.update(session, acp.update_tool_call("b", status="completed"))
        await self.say(session, "worked")

    async def do_die(self, session: str) -> None:
        await self.say(session, "half ")
        print("just so you know", "\x1b[31mError: out of cheese sk-secret-value\x1b[0m", "    at line 1",
              sep="\n", file=sys.stderr, flush=True)  # fmt: skip
        os._exit(3)

    async def do_fail(self, session: str) -> None:
        raise RequestError(-32603, "Internal error", {"details": "quota of sk-secret-value is used up"})

    async def do_refuse(self, session: str) -> str:
        return "refusal"

    async def do_noise(self, session: str) -> None:
        for line in ("not json", '{"level":"info"}', "[1]", "5", '{"id":{}}', '{"id":77,"error":"x"}', "\udcff"):
            sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.buffer.flush()
        await self.say(session, "after the noise")

    async def do_odd(self, session: str) -> None:
        updates: list[Any] = [
            {"sessionUpdate": "of_the_future", "x": 1}, {"sessionUpdate": "agent_message_chunk", "content": 5},
            {"sessionUpdate": "tool_call"}, {"sessionUpdate": "plan", "entries": [5]}, 7, None, {},
            {"sessionUpdate": "tool_call_update", "toolCallId": "t", "content": [4, {"type": "new"}], "locations": [1]},
            {"sessionUpdate": "usage_update", "cost": 3}, {"sessionUpdate": "agent_message_chunk"},
        ]  # fmt: skip
        for update in updates:
            params = {"sessionId": session, "update": update}
            raw({"jsonrpc": "2.0", "method": "session/update", "params": params})
        raw({"jsonrpc": "2.0", "method": "session/update", "params": [1]})
        raw({"jsonrpc": "2.0", "id": 900, "method": "fs/read_text_file", "params": {"path": "/etc/passwd"}})
        raw({"jsonrpc": "2.0", "id": 901, "method": "session/request_permission", "params": {"sessionId": "else"}})
        await asyncio.sleep(0.2)
        await self.say(session, "odd, but well")

    async def do_big(self, session: str) -> None:
        await self.say(session, "x" * 3_000_000)


def raw(message: dict) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


async def waited(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def kept(session: str) -> Path:
    return STATE / f"{session}.jsonl"


def sent(session: str) -> list[str]:
    return [json.loads(line) for line in kept(session).read_text().splitlines()]


def note(line: str) -> None:
    with (STATE / "log").open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    STATE.mkdir(parents=True, exist_ok=True)
    note(f"start {os.getpid()} {json.dumps(dict(os.environ))}")
    if "--garbage" in FLAGS:
        while True:
            print("Welcome to something else entirely", flush=True)
            time.sleep(0.001)
    if "--dies" in FLAGS:
        sys.exit("Error: no such model")
    if "--child" in FLAGS:
        note(f"child {subprocess.Popen(['sleep', '600']).pid}")
    asyncio.run(acp.run_agent(Agent(), use_unstable_protocol=True))
