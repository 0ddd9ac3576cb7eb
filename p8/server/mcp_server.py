"""P8 as an MCP server on stdin and stdout: another assistant starts, records, checkpoints, hands over, finds sessions.

One process serves one client and has one current session, as a REPL has; what it records is in every picker at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp_types import Resource

from p8.errors import NotFound, P8Error, UsageError
from p8.model import text_of
from p8.server.problems import dumps
from p8.server.routes import Call

if TYPE_CHECKING:
    from p8.app import App
    from p8.config import Config

INSTRUCTIONS = """\
P8 keeps the record of your work: what was asked, answered and run, with checkpoints of the files.
Call start_session when work begins, record for each message, create_checkpoint before something risky or when a step
is done, create_handoff when somebody else goes on, and complete_session at the end. search_sessions and get_context
find what was said before, in any session of any assistant."""
LISTED = 50  #: sessions listed as resources, the newest
TEXT = 4000  #: characters of one entry in a context


def serve(config: Config, directory: Path) -> int:
    """Speak MCP until the client leaves."""
    import anyio

    from p8.app import make_app

    app = make_app(config, directory)

    def stop(_number: int, _frame: object) -> None:
        app.close()
        os._exit(0)  # a thread is reading stdin, and nobody will write to it any more

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            anyio.run(server(app).run_stdio_async)
    finally:
        app.close()
    return 0


class Sessions(MCPServer):  # type: ignore[misc]
    """A server whose resources are the sessions there are at the moment it is asked."""

    desk: Desk

    async def list_resources(self) -> list[Resource]:
        """Return the newest sessions."""
        import anyio

        return await anyio.to_thread.run_sync(self.desk.resources)


class Desk:
    """
    What the client can do; one thing at a time.

    Args:
        app: one process of P8.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._call = Call(app, "repl")
        self._lock = threading.RLock()
        app.registry.load()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell the client what went wrong in P8's own words."""
        with self._lock:
            try:
                yield
            except P8Error as error:
                raise ToolError(str(error)) from error

    def _has(self, command: str) -> bool:
        return command in self._app.registry.commands

    def start_session(self, title: str = "", session: str = "") -> dict[str, Any]:
        """
        Begin a session and make it the current one, or go on with an earlier one.

        Args:
            title: what it is about; taken from the first message where none is given.
            session: an earlier session to go on with: its id, its title, or `last`.
        """
        with self._told():
            if session:
                found = self._call("session info", session=[session]).data
                self._call("resume", session=[found["id"]])
            else:
                _ = self._app.project  # so that it belongs to the project from its first entry on
                self._call("session new", title=[title] if title else [])
                self._app.settle_project()
            return self._current()

    def record(
        self, content: str, role: Literal["user", "assistant", "system", "tool"] = "user", model: str = "",
        tokens_in: int = 0, tokens_out: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """
        Record a message of the conversation. When this returns it survives a power cut.

        Args:
            content: what was said.
            role: who said it.
            model: who answered, for an assistant's message.
            tokens_in: what it cost, where known.
            tokens_out: what it cost, where known.
        """
        with self._told():
            self._app.ensure_session()
            known = {"model": model, "tokens_in": tokens_in, "tokens_out": tokens_out}
            said = {"role": role, "content": content, **{name: value for name, value in known.items() if value}}
            seq = self._app.sessions.record("message", said)
            self._app.sessions.save_session()
            return {**self._current(), "seq": seq}

    def record_execution(self, command: str, exit_code: int = 0, output: str = "") -> dict[str, Any]:
        """Record a command that ran, with what it printed."""
        with self._told():
            self._app.ensure_session()
            self._app.sessions.record_execution(command, exit_code=exit_code, output=output)
            self._app.sessions.save_session()
            return self._current()

    def create_checkpoint(self, name: str = "") -> dict[str, Any]:
        """Mark this place: the conversation so far, the files of the directory, and the state of git."""
        with self._told():
            made: dict[str, Any] = self._call("checkpoint create", name=[name] if name else []).data
            return made

    def create_handoff(self) -> dict[str, Any]:
        """Write down where the work stands, for whoever goes on: goal, state, decisions, open ends, files."""
        with self._told():
            if not self._has("handoff"):
                raise UsageError("this P8 writes no handoffs", "get_context says where the work stands")
            made: dict[str, Any] = self._call("handoff", plain=True).data
            return made

    def complete_session(self, summary: str = "") -> dict[str, Any]:
        """End the current session, with a last word where one is given."""
        with self._told():
            if summary and self._app.sessions.current is not None:
                self._app.sessions.record_message({"role": "assistant", "content": summary, "summary": True})
            current = self._current()
            self._call("session end")
            return {**current, "status": "completed"}

    def search_sessions(self, query: str, limit: int = 10) -> list[dict[str, Any]]:
        """
        Find words in all sessions, whoever they were with.

        Args:
            query: words, "phrases", and project: branch: tag: role: before: after:
            limit: at most so many.
        """
        with self._told():
            found: list[dict[str, Any]] = self._call("search", words=[query], limit=max(1, min(limit, 100))).data
            return found

    def get_context(self, session: str = "", limit: int = 40) -> dict[str, Any]:
        """
        Return where a session stands: what it is, its newest entries (oldest first) and its checkpoints.

        Args:
            session: its id, its title, or `last`; the current one where none is given.
            limit: how many entries.
        """
        with self._told():
            which = [session] if session else []
            if not which and self._app.sessions.current is None:
                raise UsageError("no session is active", "start_session begins one; or name one")
            shown = self._call("session show", session=which, limit=max(1, min(limit, 500))).data
            row = shown["session"]
            marks = self._call("checkpoint list", session=[row["id"]]).data
            entries = [
                {"seq": e["seq"], "time": e["time"], "kind": e["kind"], "role": e.get("role", ""), "text": _short(e)}
                for e in shown["entries"] if e["kind"] in {"message", "execution", "command"}
            ]  # fmt: skip
            return {
                "session": {key: row[key] for key in
                            ("id", "title", "status", "project_name", "directory", "branch", "model", "last")},
                "entries": entries,
                "checkpoints": [{key: mark[key] for key in ("id", "name", "created")} for mark in marks],
            }  # fmt: skip

    def _current(self) -> dict[str, Any]:
        current = self._app.sessions.current
        if current is None:
            raise UsageError("no session is active", "start_session begins one")
        return {"session": str(current.session_id), "title": str(current.metadata.get("title") or "")}

    # sessions as resources

    def resources(self) -> list[Resource]:
        """Return the newest sessions."""
        with self._lock:
            try:
                found = self._call("session list", all=True, limit=LISTED).data
            except P8Error:
                return []
        return [
            Resource(uri=f"p8://session/{row['id']}", name=row["id"], title=row["title"] or None,
                     description=f"{row['project_name']}, {row['messages']} messages, {row['status']}",
                     mime_type="application/json")
            for row in found
        ]  # fmt: skip

    def read(self, session: str) -> str:
        """Return a session with its transcript, as JSON."""
        with self._lock:
            try:
                self._app.store.sessions.get(session)
                return dumps(self._call("session show", session=[session], limit=1000).data).decode()
            except NotFound as error:
                raise ResourceNotFoundError(str(error)) from error


def _short(entry: dict[str, Any]) -> str:
    if entry["kind"] == "execution":
        said = f"$ {entry.get('command', '')} [exit {entry.get('exit_code')}]\n{entry.get('output', '')}"
    else:
        said = text_of(entry)
    text = said.encode("utf-8", "replace").decode()
    return text if len(text) <= TEXT else f"{text[:TEXT]} …"


def server(app: App) -> MCPServer:
    """Return the server of one client."""
    from p8 import __version__

    made = Sessions("p8", title="P8", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    desk = made.desk = Desk(app)
    tools: tuple[Callable[..., Any], ...] = (
        desk.start_session, desk.record, desk.record_execution, desk.create_checkpoint, desk.create_handoff,
        desk.complete_session, desk.search_sessions, desk.get_context,
    )  # fmt: skip
    for tool in tools:
        made.add_tool(tool)
    made.resource("p8://session/{session}", name="session", mime_type="application/json",
                  description="A session with its transcript.")(desk.read)  # fmt: skip
    return made
