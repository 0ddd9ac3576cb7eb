"""An editor for tests: the ACP SDK's own client around `p8 acp`, and what it is told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import acp
from acp import schema

TESTS = Path(__file__).parents[1]


class Editor:
    """What an editor remembers of what it is told."""

    def __init__(self, choice: str = "once") -> None:
        self.told: list[Any] = []
        self.asked: list[Any] = []
        self.choice = choice

    def on_connect(self, conn: Any) -> None:
        pass

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self.told.append((session_id, update))

    async def request_permission(self, options: Any, session_id: str, tool_call: Any, **_: Any) -> Any:
        self.asked.append(tool_call)
        if self.choice == "cancel":
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        outcome = schema.AllowedOutcome(outcome="selected", option_id=self.choice)
        return schema.RequestPermissionResponse(outcome=outcome)

    def texts(self, kind: str) -> list[str]:
        return [u.content.text for _, u in self.told if u.session_update == kind]

    def said(self) -> str:
        return "".join(self.texts("agent_message_chunk"))


def edit(
    home: Path,
    place: Path,
    work: Callable[[Any, Editor, Any], Awaitable[Any]],
    editor: Editor | None = None,
    **env: str,
) -> Any:
    paths = f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    given = {"P8_HOME": str(home), "HOME": str(home.parent), "PYTHONPATH": paths, "PATH": os.environ["PATH"],
             "P8_CONTAINER": "never", **env}  # fmt: skip
    editor = editor or Editor()

    async def go() -> Any:
        command = [sys.executable, "-m", "support.fake_repl", "acp"]
        async with acp.spawn_agent_process(editor, *command, env=given, cwd=place, use_unstable_protocol=True) as (
            conn, process,
        ):  # fmt: skip
            hello = await conn.initialize(protocol_version=acp.PROTOCOL_VERSION)
            assert hello.agent_info.name == "p8"
            return await asyncio.wait_for(work(conn, editor, process), 90)

    return asyncio.run(go())
