"""P8 as an agent of the Agent Client Protocol on stdin and stdout: an editor lists, loads and continues sessions.

Whoever P8 answers with (a model, or another agent; the editor offers the choice) answers here too; what it does on the
way is shown, and its questions for permission go to the editor. Each session of an editor is a P8 of its own over the
same home, standing in its cwd, with a container of its own where sessions have them: agents and `!command` run there.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import acp
from acp import schema
from acp.core import DEFAULT_STDIO_BUFFER_LIMIT_BYTES
from acp.exceptions import RequestError
from acp.stdio import stdio_streams

from p8.assistants.base import Asks, Cancel, Chunk, ChunkKind, Decision, ModelInfo
from p8.commands.model import answer_as_before
from p8.core.turns import ask, run_turn
from p8.errors import NotFound, P8Error, StoreError, UsageError
from p8.model import Entry, check_id, text_of
from p8.server.routes import Call

if TYPE_CHECKING:
    from p8.app import App
    from p8.config import Config

LISTED = 50
MODEL = "model"  #: the one thing an editor can set of a session: who answers
SHOWN_EVERY_S = 0.2  #: what a command prints is told so often
SHOWN_BYTES = 20_000  #: of it, the end
REPLAYED = 2000  #: entries told again when a session is loaded, the newest
KINDS = {"read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other"}
STATES = {"pending", "in_progress", "completed", "failed"}
CHOICES = (
    (Decision.ONCE, "allow_once", "Allow"), (Decision.ALWAYS, "allow_always", "Always allow in this session"),
    (Decision.NO, "reject_once", "Refuse"), (Decision.NEVER, "reject_always", "Always refuse in this session"),
)  # fmt: skip


def serve(config: Config, directory: Path) -> int:
    """Speak ACP until the editor leaves."""
    from p8.app import make_app

    return asyncio.run(speak(Agent(lambda place: make_app(config, place), directory)))


async def speak(agent: Agent) -> int:
    """Speak on stdin and stdout until the editor leaves, or we are told to stop."""
    reader, writer = await stdio_streams(limit=DEFAULT_STDIO_BUFFER_LIMIT_BYTES)
    sys.stdout = sys.stderr  # what anything prints must not get between the messages
    running = asyncio.ensure_future(acp.run_agent(agent, writer, reader, use_unstable_protocol=True))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await asyncio.to_thread(agent.close)
    return 0


class Agent:
    """
    What an editor talks to.

    Args:
        make: makes a P8 that stands in a directory.
        directory: where lists are asked from.
    """

    def __init__(self, make: Callable[[Path], App], directory: Path) -> None:
        self._make = make
        self._directory = directory
        self._looking: App | None = None
        self._open: dict[str, App] = {}
        self._turns: dict[str, Cancel] = {}
        self._busy: dict[str, asyncio.Lock] = {}
        self._client: Any = None

    def on_connect(self, conn: Any) -> None:
        """Remember whom to tell."""
        self._client = conn

    def close(self) -> None:
        """Stop what runs, pause all sessions."""
        for cancel in self._turns.values():
            cancel.set()
        for app in [*self._open.values(), *([self._looking] if self._looking is not None else [])]:
            app.close()
        self._open.clear()

    # the protocol

    async def initialize(self, protocol_version: int, **_: Any) -> schema.InitializeResponse:
        """Say who we are."""
        from p8 import __version__

        can = schema.SessionCapabilities(
            list=schema.SessionListCapabilities(), resume=schema.SessionResumeCapabilities(),
            close=schema.SessionCloseCapabilities(), fork=schema.SessionForkCapabilities(),
        )  # fmt: skip
        return schema.InitializeResponse(
            protocol_version=min(protocol_version, acp.PROTOCOL_VERSION),
            agent_capabilities=schema.AgentCapabilities(
                load_session=True, prompt_capabilities=schema.PromptCapabilities(embedded_context=True),
                session_capabilities=can,
            ),
            agent_info=schema.Implementation(name="p8", title="P8", version=__version__),
            auth_methods=[],
        )  # fmt: skip

    async def authenticate(self, method_id: str, **_: Any) -> None:
        """Refuse: nothing needs it."""
        raise RequestError.invalid_params({"details": f"there is no method {method_id}"})

    async def new_session(self, cwd: str, **_: Any) -> schema.NewSessionResponse:
        """Begin a session in a directory."""

        def begin(app: App) -> tuple[str, list[Any]]:
            _project = app.project  # so that it belongs to the project from its first entry on
            made = app.ensure_session()
            app.settle_project()
            app.box.settle()
            return str(made.session_id), choices(app)

        app, (session, options) = await self._with_new(cwd, begin)
        self._open[session] = app
        return schema.NewSessionResponse(session_id=session, config_options=options)

    async def load_session(self, cwd: str, session_id: str, **_: Any) -> schema.LoadSessionResponse:
        """Go on with a session, and tell what was said in it."""
        app = await self._resumed(cwd, session_id)
        entries = await self._do(
            lambda: app.store.sessions.entries(session_id, kinds=("message", "execution"), limit=REPLAYED, newest=True)
        )
        for entry in entries:
            for update in replayed(entry):
                await self._client.session_update(session_id=session_id, update=update)
        return schema.LoadSessionResponse(config_options=await self._do(lambda: choices(app)))

    async def resume_session(self, cwd: str, session_id: str, **_: Any) -> schema.ResumeSessionResponse:
        """Go on with a session."""
        app = await self._resumed(cwd, session_id)
        return schema.ResumeSessionResponse(config_options=await self._do(lambda: choices(app)))

    async def fork_session(self, cwd: str, session_id: str, **_: Any) -> schema.ForkSessionResponse:
        """Go on with a session in another one."""

        def begin(app: App) -> tuple[str, list[Any]]:
            fork = str(app.sessions.fork_session(check_id(session_id)).session_id)
            go_on(app, fork)
            return fork, choices(app)

        app, (fork, options) = await self._with_new(cwd, begin)
        self._open[fork] = app
        return schema.ForkSessionResponse(session_id=fork, config_options=options)

    async def close_session(self, session_id: str, **_: Any) -> schema.CloseSessionResponse:
        """Put a session down."""
        await self.cancel(session_id)
        app = self._open.pop(session_id, None)
        if app is not None:
            async with self._lock(session_id):
                await self._do(app.close)
        return schema.CloseSessionResponse()

    async def list_sessions(
        self, cwd: str | None = None, cursor: str | None = None, **_: Any
    ) -> schema.ListSessionsResponse:
        """List sessions, newest first: of a directory, or all."""

        def find() -> list[dict[str, Any]]:
            if self._looking is None:
                self._looking = self._make(self._directory)
            call = Call(self._looking)
            found: list[dict[str, Any]] = call("session list", all=True, limit=LISTED, after=cursor or "").data
            return found

        if cursor is not None:
            await self._do(lambda: check_id(cursor))
        found = await self._do(find)
        sessions = [
            schema.SessionInfo(session_id=row["id"], cwd=_cwd(row["directory"]), title=row["title"] or None,
                               updated_at=row["last"])
            for row in found if cwd is None or row["directory"] == cwd
        ]  # fmt: skip
        return schema.ListSessionsResponse(
            sessions=sessions, next_cursor=found[-1]["id"] if len(found) == LISTED else None
        )

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> schema.PromptResponse:
        """Record what the person says, and answer; run what begins with `!`."""
        app = self._opened(session_id)
        text = said(prompt)
        if not text:
            raise RequestError.invalid_params({"details": "nothing was said that P8 can read"})
        async with self._lock(session_id):
            cancel = self._turns[session_id] = Cancel()
            usage: dict[str, Any] = {}
            loop = asyncio.get_running_loop()
            try:
                tell = self._teller(session_id, loop)
                if text.startswith("!"):
                    await self._do(lambda: self._run(app, session_id, text, cancel, usage, tell))
                else:
                    await self._do(lambda: self._turn(app, session_id, text, cancel, usage, loop))
            finally:
                cancel.set()
                self._turns.pop(session_id, None)
        stopped = usage.pop("stopped", False)
        tokens = int(usage.get("tokens_in") or 0), int(usage.get("tokens_out") or 0)
        spent = schema.Usage(total_tokens=sum(tokens), input_tokens=tokens[0], output_tokens=tokens[1])
        return schema.PromptResponse(
            stop_reason="cancelled" if stopped else "end_turn", usage=spent if any(tokens) else None
        )

    async def cancel(self, session_id: str, **_: Any) -> None:
        """Stop the answer."""
        cancel = self._turns.get(session_id)
        if cancel is not None:
            cancel.set()

    async def set_config_option(
        self, config_id: str, session_id: str, value: str | bool, **_: Any
    ) -> schema.SetSessionConfigOptionResponse:
        """Have somebody else answer from now on; the conversation goes with it."""
        app = self._opened(session_id)
        if config_id != MODEL:
            raise RequestError.invalid_params({"details": f"nothing is set by the name {config_id[:80]!r}"})

        def switch() -> list[Any]:
            name = str(value)
            Call(app, "repl")("agent" if name in app.catalog.agents.names() else "model", name=name)
            return choices(app)

        async with self._lock(session_id):
            return schema.SetSessionConfigOptionResponse(config_options=await self._do(switch))

    # behind it

    def _opened(self, session_id: str) -> App:
        app = self._open.get(session_id)
        if app is None:
            raise RequestError.invalid_params({"details": f"session {session_id} is not open", "hint": "load it first"})
        return app

    def _teller(self, session_id: str, loop: asyncio.AbstractEventLoop) -> Callable[[Any], None]:
        """Return what tells the editor of an update, from a thread, and waits until it is on its way."""

        def tell(update: Any) -> None:
            sent = self._client.session_update(session_id=session_id, update=update)
            asyncio.run_coroutine_threadsafe(sent, loop).result(60)

        return tell

    def _lock(self, session_id: str) -> asyncio.Lock:
        return self._busy.setdefault(session_id, asyncio.Lock())

    async def _do(self, work: Callable[[], Any]) -> Any:
        """Work in a thread; tell the editor of an error in P8's words."""
        try:
            return await asyncio.to_thread(work)
        except NotFound as error:
            raise RequestError(-32002, error.message, {"hint": error.hint}) from error
        except UsageError as error:
            raise RequestError(-32602, error.message, {"hint": error.hint}) from error
        except P8Error as error:
            raise RequestError(-32603, error.message, {"hint": error.hint, "kind": type(error).__name__}) from error

    async def _with_new(self, cwd: str, work: Callable[[App], Any]) -> tuple[App, Any]:
        def make() -> tuple[App, Any]:
            place = Path(cwd)
            if not place.is_absolute() or not place.is_dir():
                raise UsageError(f"there is no directory {cwd[:200]!r}", "cwd must be the full path of one")
            app = self._make(place)
            try:
                return app, work(app)
            except BaseException:
                app.close()
                raise

        app, found = await self._do(make)
        return app, found

    async def _resumed(self, cwd: str, session_id: str) -> App:
        async with self._lock(session_id):
            app = self._open.get(session_id)
            if app is None:

                def begin(app: App) -> None:
                    app.sessions.resume_session(session_id)
                    go_on(app, session_id)

                app, _ = await self._with_new(cwd, begin)
                self._open[session_id] = app
            return app

    def _turn(
        self, app: App, session_id: str, text: str, cancel: Cancel, usage: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        """Record, ask and answer; on a thread of its own."""
        assistant = app.assistant
        still_ours(app, session_id)
        tell = self._teller(session_id, loop)
        with contextlib.suppress(StoreError):  # told as a notice; it is kept and retried
            if app.sessions.current is not None and app.sessions.current.metadata.get("model") != assistant.name:
                app.sessions.annotate(model=assistant.name)
            ask(app.sessions, text)

        def permit(question: dict[str, Any]) -> Decision:
            return asyncio.run_coroutine_threadsafe(self._permit(session_id, question), loop).result()

        shown: set[str] = set()
        with app.files.around() if isinstance(assistant, Asks) else contextlib.nullcontext():
            for chunk in run_turn(
                app.sessions, assistant, cancel, idle_timeout_s=app.config.idle_timeout_s,
                permissions=app.permissions, ask=permit, context=app.conversation,
            ):  # fmt: skip
                if chunk.kind is ChunkKind.USAGE:
                    usage.update(chunk.data)
                update = shown_as(chunk, shown)
                if update is not None:
                    tell(update)
        usage["stopped"] = cancel.is_set()
        with contextlib.suppress(StoreError):
            for checkpoint in app.after_turn():
                tell(acp.update_agent_thought_text(f"◆ {_clean(checkpoint.name)}\n"))

    def _run(
        self, app: App, session_id: str, text: str, cancel: Cancel, usage: dict[str, Any],
        tell: Callable[[Any], None],
    ) -> None:  # fmt: skip
        """Run a line where the session's commands run, show what it prints, and record it; on a thread of its own."""
        line = text[1:].strip()
        if not line:
            raise UsageError("nothing to run", "!command")
        still_ours(app, session_id)
        with contextlib.suppress(StoreError):
            app.sessions.record_command(text)
        call, printed, told = f"run-{time.time_ns()}", "", time.monotonic()
        tell(acp.start_tool_call(call, _clean(line), kind="execute", status="in_progress"))

        def show(piece: str) -> None:
            nonlocal printed, told
            printed = (printed + piece)[-SHOWN_BYTES:]
            if time.monotonic() - told >= SHOWN_EVERY_S:
                told = time.monotonic()
                try:
                    tell(acp.update_tool_call(call, content=printed_as(printed)))
                except Exception:  # the editor has gone: what runs for it is ended
                    cancel.set()

        def note(why: str) -> None:
            tell(acp.update_agent_thought_text(_clean(why) + "\n"))

        try:
            with app.files.around():
                ran, where = app.box.run(line, show, cancel, note)
        except P8Error as error:
            tell(acp.update_tool_call(call, status="failed", content=printed_as(printed or str(error))))
            raise
        usage["stopped"] = ran.interrupted
        with contextlib.suppress(StoreError):
            app.box.record(line, ran, where)
        about: dict[str, Any] = {"exit_code": ran.exit_code, **({"container": where} if where else {})}
        tell(acp.update_tool_call(call, status="failed" if ran.exit_code else "completed",
                                  content=printed_as(printed), raw_output=about))  # fmt: skip

    async def _permit(self, session_id: str, question: dict[str, Any]) -> Decision:
        """Ask the editor's person."""
        call = schema.ToolCallUpdate(
            tool_call_id=str(question.get("id") or question.get("request") or "question"),
            title=str(question.get("title") or "do something"), kind=_kind(question), status="pending",
        )  # fmt: skip
        options = [schema.PermissionOption(option_id=str(d), kind=kind, name=name) for d, kind, name in CHOICES]
        answer = await self._client.request_permission(session_id=session_id, tool_call=call, options=options)
        chosen = getattr(answer.outcome, "option_id", "")
        return Decision(chosen) if chosen in {str(d) for d, _, _ in CHOICES} else Decision.CANCEL


def go_on(app: App, session_id: str) -> None:
    """Take up a session where it was left: who answered it, and its container."""
    answer_as_before(app, app.store.sessions.get(session_id))
    app.box.settle()


def still_ours(app: App, session_id: str) -> None:
    """Take a session back that another p8 has had meanwhile. Raises Held while it has it."""
    if app.sessions.current is not None:
        app.sessions.custody.still_mine(session_id)
    if app.sessions.current is None:
        app.sessions.resume_session(session_id)
    app.box.settle()


def choices(app: App) -> list[Any]:
    """Return what an editor can choose: who answers, of all that can answer now, and the agents there are."""
    now = app.model
    known = [m for m in app.catalog.models() if m.ready or m.provider == "acp" or m.name == now]
    if now not in {model.name for model in known}:
        known.insert(0, ModelInfo(now, "", now or "nobody yet", False))
    options = [
        schema.SessionConfigSelectOption(
            value=m.name, name=_clean(m.title or m.name), description=_clean(m.note) or None
        )
        for m in known
    ]  # fmt: skip
    return [schema.SessionConfigOptionSelect(
        id=MODEL, name="Model", description="Who answers: a model, or another agent", category="model", type="select",
        current_value=now, options=options,
    )]  # fmt: skip


def printed_as(text: str) -> list[Any]:
    """Return what a command printed as the content of a tool call."""
    return [acp.tool_content(acp.text_block(_clean(text)))] if text else []


def _cwd(directory: str) -> str:
    return directory or "/"


def _kind(data: dict[str, Any]) -> Any:
    return data.get("kind") if data.get("kind") in KINDS else "other"


def said(prompt: list[Any]) -> str:
    """Return what a prompt says: its texts, the text of what is embedded, and the names of what is only linked."""
    parts = []
    for block in prompt:
        resource = getattr(block, "resource", None)
        if getattr(block, "text", None):
            parts.append(str(block.text))
        elif resource is not None and getattr(resource, "text", None):
            parts.append(f"{resource.uri}:\n```\n{resource.text}\n```")
        elif getattr(block, "uri", None):
            parts.append(str(block.uri))
    return "\n\n".join(parts).strip()


def replayed(entry: Entry) -> list[Any]:
    """Return an entry as an editor is told it when a session is loaded."""
    if entry.kind == "execution":
        command, output = str(entry.data.get("command", "")), str(entry.data.get("output", ""))
        done = "failed" if entry.data.get("exit_code") else "completed"
        return [acp.start_tool_call(f"{entry.stream}-{entry.seq}", _clean(command) or "a command", kind="execute",
                                    status=done, content=printed_as(output))]  # fmt: skip
    text = _clean(text_of(entry.data))
    if not text:
        return []
    if entry.role == "user":
        return [acp.update_user_message_text(text)]
    return [acp.update_agent_message_text(text)]


def shown_as(chunk: Chunk, shown: set[str]) -> Any:
    """Return a chunk as an editor is told it; `shown` holds the tool calls it knows already."""
    if chunk.kind is ChunkKind.TEXT:
        return acp.update_agent_message_text(_clean(chunk.text))
    if chunk.kind is ChunkKind.THOUGHT:
        return acp.update_agent_thought_text(_clean(chunk.text))
    if chunk.kind is ChunkKind.NOTICE:
        return acp.update_agent_thought_text(_clean(chunk.text) + "\n")
    if chunk.kind is ChunkKind.PLAN:
        entries = [e for e in chunk.data.get("entries") or () if isinstance(e, dict)]
        return acp.update_plan([
            acp.plan_entry(_clean(str(e.get("content", ""))),
                           status=e.get("status") if e.get("status") in STATES - {"failed"} else "pending")
            for e in entries
        ])  # fmt: skip
    if chunk.kind is ChunkKind.TOOL:
        data = chunk.data
        name, title = str(data.get("id", "")), _clean(str(data.get("title") or "")) or None
        status: Any = data.get("status") if data.get("status") in STATES else None
        if name in shown:
            return acp.update_tool_call(name, title=title, status=status)
        shown.add(name)
        return acp.start_tool_call(name, title or "a tool", kind=_kind(data), status=status or "pending")
    return None


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
