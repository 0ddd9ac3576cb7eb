"""Agents that speak the Agent Client Protocol (version 1), each as an `Assistant`.

The agent runs its own tools where it is started; P8 gives it no files and no terminals. What it sends becomes chunks
keyed by id. It keeps a session of its own: that is gone on with while it knows all that was said, loaded again in a new
process where it offers that, and where not, the conversation is handed over in the first prompt.
"""

from __future__ import annotations

import importlib.util
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from p8.assistants.base import Cancel, Chunk, ChunkKind, Decision
from p8.assistants.protocol import OPTIONS, Json, Messages, chunk_of, outcome, prompt, scope, tokens
from p8.assistants.wire import POLL_S, Cancelled, Launch, Refused, Wire
from p8.errors import AssistantError

VERSION = 1
AUTH_REQUIRED = -32000


class AcpAgent:
    """
    One agent.

    Args:
        name: what it is called.
        launch: says how it is started; asked at each start, and before each answer for the directory.
        auth: the method it is signed in with when it asks for that, where it offers it.
        sign_in: what the person does when it asks for signing in, for the hint.
        start_timeout_s: how long it may take to answer anything but a prompt.
        cancel_timeout_s: how long it may take to stop; it is ended then.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], Launch],
        *,
        auth: str = "",
        sign_in: str = "",
        start_timeout_s: float = 60.0,
        cancel_timeout_s: float = 10.0,
    ) -> None:
        self.name = name
        self._launch = launch
        self._auth = auth
        self._sign_in = sign_in
        self._start_timeout_s = start_timeout_s
        self._cancel_timeout_s = cancel_timeout_s
        self._turn = threading.Lock()
        self._wire: Wire | None = None
        self._launched: Launch | None = None
        self._hello: Json = {}
        self._sessions: dict[str, float | None] = {}  # known to the process; what each had cost before the turn
        self._talk: _Talk | None = None

    @property
    def about(self) -> Json:
        """Return what the agent said of itself when it was started: name, version, title; empty before."""
        info = self._hello.get("agentInfo")
        return dict(info) if isinstance(info, dict) else {}

    def stream(self, conversation: Messages, cancel: Cancel) -> Iterator[Chunk]:
        """Answer the last message (see `Assistant`)."""
        with self._turn:
            try:
                yield from self._stream(conversation, cancel)
            except Cancelled:
                return
            except Refused as error:
                raise self._refused(error) from error

    def _stream(self, conversation: Messages, cancel: Cancel) -> Iterator[Chunk]:
        launch = self._launch()
        before = self._wire
        wire = self._started(launch, cancel)
        if launch.note and wire is not before:
            yield Chunk(ChunkKind.NOTICE, launch.note)
        session, known, told = self._session(wire, conversation, launch, cancel)
        if told:
            yield Chunk(ChunkKind.NOTICE, told)
        where = {"inside": True} if launch.outside else {}
        yield Chunk(ChunkKind.SESSION, data={"agent": self.name, "session": session, "cwd": launch.cwd, **where})
        if cancel.is_set():
            return
        talk = self._talk = _Talk(session)
        answer = wire.submit("session/prompt", {"sessionId": session, "prompt": prompt(conversation, known)})
        try:
            yield from talk.until(answer, cancel)
            if answer.done():
                yield from self._ended(talk, wire.outcome(answer))
        finally:
            self._talk = None
            talk.refuse_all()
            if not answer.done():
                self._stop(wire, session, answer)

    def _stop(self, wire: Wire, session: str, answer: Any) -> None:
        """Have the agent stop; end it where it does not."""
        wire.notify("session/cancel", {"sessionId": session})
        until = time.monotonic() + self._cancel_timeout_s
        while not answer.done() and time.monotonic() < until:
            time.sleep(POLL_S)
        if not answer.done():
            self.close()

    def _ended(self, talk: _Talk, result: Json) -> Iterator[Chunk]:
        usage = tokens(result.get("usage")) | talk.usage
        before = self._sessions.get(talk.session)
        if talk.cost is not None:
            usage["cost"] = round(max(talk.cost - before, 0.0), 6) if before is not None else 0.0
            self._sessions[talk.session] = talk.cost
        if usage:
            yield Chunk(ChunkKind.USAGE, data=usage)
        reason = str(result.get("stopReason", "end_turn"))
        if reason != "end_turn":
            yield Chunk(ChunkKind.NOTICE, f"{self.name} stopped: {reason.replace('_', ' ')}")

    # its process and its session

    def _started(self, launch: Launch, cancel: Cancel) -> Wire:
        same = self._launched is not None and _alike(self._launched, launch)
        if self._wire is not None and self._wire.alive and same:
            return self._wire
        self.close()
        if importlib.util.find_spec("acp") is None:
            raise AssistantError("agents need a package that is not installed", "pip install 'p8[agents]'")
        self._launched = launch
        wire = self._wire = Wire(self.name, launch, self._heard, self._asked)
        from p8 import __version__

        hello = {
            "protocolVersion": VERSION, "clientInfo": {"name": "p8", "version": __version__},
            "clientCapabilities": {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False},
        }  # fmt: skip
        try:
            self._hello = wire.call("initialize", hello, self._start_timeout_s, cancel)
        except Refused as error:
            self.close()
            hint = f"/agent show {self.name} names a version that fits"
            raise AssistantError(f"{self.name} does not begin a conversation: {error}", hint) from error
        except BaseException:
            self.close()
            raise
        if self._hello.get("protocolVersion") != VERSION:
            self.close()
            spoken = str(self._hello.get("protocolVersion"))[:20]
            raise AssistantError(f"{self.name} speaks version {spoken} of the protocol; P8 speaks {VERSION}",
                                 f"/agent show {self.name} names a version that fits")  # fmt: skip
        return wire

    def _session(self, wire: Wire, conversation: Messages, launch: Launch, cancel: Cancel) -> tuple[str, int, str]:
        """Return a session, how many messages of the conversation it knows, and what the person should be told."""
        cwd = launch.cwd
        known, session = self._last(conversation, launch)
        told = ""
        if session:
            if session in self._sessions or self._revived(wire, session, cwd, cancel):
                return session, known, ""
            told = f"{self.name} could not go on with its own session: the conversation is handed over to a new one."
        made = self._signed_in(wire, "session/new", {"cwd": cwd, "mcpServers": []}, cancel)
        session = str(made.get("sessionId", ""))
        if not session:
            raise AssistantError(f"{self.name} made no session", f"/agent show {self.name} names a version that fits")
        self._sessions[session] = 0.0
        return session, 0, told

    def _last(self, conversation: Messages, launch: Launch) -> tuple[int, str]:
        """Return the session it has here, and how much that knows: one of the host is not known in a container."""
        for at in range(len(conversation), 0, -1):
            mark = conversation[at - 1].get("agent_session")
            if not isinstance(mark, dict) or mark.get("agent") != self.name:
                continue
            if bool(mark.get("inside")) == launch.outside:
                return (at, str(mark.get("session", ""))) if mark.get("cwd") == launch.cwd else (0, "")
        return 0, ""

    def _revived(self, wire: Wire, session: str, cwd: str, cancel: Cancel) -> bool:
        can = self._hello.get("agentCapabilities")
        can = can if isinstance(can, dict) else {}
        more = can.get("sessionCapabilities")
        resumes = isinstance(more, dict) and more.get("resume") is not None
        if not resumes and not can.get("loadSession"):
            return False
        method = "session/resume" if resumes else "session/load"
        try:
            self._signed_in(wire, method, {"sessionId": session, "cwd": cwd, "mcpServers": []}, cancel)
        except Refused as error:
            if error.code == AUTH_REQUIRED:
                raise
            return False
        self._sessions[session] = None
        return True

    def _signed_in(self, wire: Wire, method: str, params: Json, cancel: Cancel) -> Json:
        try:
            return wire.call(method, params, self._start_timeout_s, cancel)
        except Refused as error:
            offered = [m.get("id") for m in self._hello.get("authMethods") or () if isinstance(m, dict)]
            if error.code != AUTH_REQUIRED or self._auth not in offered:
                raise
            wire.call("authenticate", {"methodId": self._auth}, self._start_timeout_s, cancel)
            return wire.call(method, params, self._start_timeout_s, cancel)

    def _refused(self, error: Refused) -> AssistantError:
        if error.code == AUTH_REQUIRED:
            hint = self._sign_in or f"sign in with its own program, or give it a key: /agent show {self.name}"
            return AssistantError(f"{self.name} wants you to sign in: {error}", hint)
        return AssistantError(f"{self.name} failed: {error}", "/retry, or /agent another one")

    # on the loop's thread: what it says and asks

    def _heard(self, method: str, params: Json) -> None:
        talk, update = self._talk, params.get("update")
        if method != "session/update" or talk is None or not isinstance(update, dict):
            return
        if params.get("sessionId") == talk.session:
            talk.take(update)

    def _asked(self, method: str, params: Json, answer: Callable[[Json | None], None]) -> None:
        if method != "session/request_permission":
            answer(None)
            return
        talk = self._talk
        if talk is None or params.get("sessionId") != talk.session:
            answer(outcome((), Decision.CANCEL))
            return
        talk.ask(params, answer)

    def permit(self, request: str, decision: Decision) -> None:
        """Answer a question (see `Asks`)."""
        talk = self._talk
        if talk is not None:
            talk.permit(request, decision)

    def close(self) -> None:
        """End the agent's process. Its session can be gone on with."""
        wire, self._wire = self._wire, None
        self._sessions.clear()
        if wire is not None:
            wire.close()


class _Talk:
    """
    One turn: what came of it, in order, and which questions are open.

    Args:
        session: the agent's.
    """

    def __init__(self, session: str) -> None:
        self.session = session
        self.usage: Json = {}
        self.cost: float | None = None
        self._queue: queue.Queue[Chunk] = queue.Queue()
        self._tools: dict[str, Json] = {}
        self._open: dict[str, tuple[list[Json], Callable[[Json], None]]] = {}
        self._over = False
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def until(self, answer: Any, cancel: Cancel) -> Iterator[Chunk]:
        """Yield what comes until the answer has come, too, or the person stops it."""
        while not cancel.is_set():
            done = answer.done()
            try:
                yield self._queue.get_nowait() if done else self._queue.get(timeout=POLL_S)
            except queue.Empty:
                if done:
                    return

    def take(self, update: Json) -> None:
        """Take in an update; one of a kind P8 does not know is left out."""
        if update.get("sessionUpdate") == "usage_update":
            self._count(update)
            return
        chunk = chunk_of(update)
        if chunk is None:
            return
        if chunk.kind is ChunkKind.TOOL:
            self._tools.setdefault(chunk.data["id"], {}).update(chunk.data)
        self._queue.put(chunk)

    def _count(self, update: Json) -> None:
        for name, key in (("context_used", "used"), ("context_size", "size")):
            if isinstance(update.get(key), int):
                self.usage[name] = update[key]
        cost = update.get("cost")
        if isinstance(cost, dict) and cost.get("currency") == "USD" and isinstance(cost.get("amount"), int | float):
            self.cost = float(cost["amount"])

    def ask(self, params: Json, answer: Callable[[Json], None]) -> None:
        """Take in a question for permission."""
        options = [o for o in params.get("options") or () if isinstance(o, dict)]
        call = params.get("toolCall") if isinstance(params.get("toolCall"), dict) else {}
        chunk = chunk_of({"sessionUpdate": "tool_call_update", **(call or {})})
        request = f"q{next(self._numbers)}"
        with self._lock:
            if self._over:
                answer(outcome((), Decision.CANCEL))
                return
            self._open[request] = (options, answer)
        tool: Json = {}
        if chunk is not None:
            tool = self._tools.setdefault(chunk.data["id"], {})
            tool.update(chunk.data)
            self._queue.put(chunk)
        kinds = {str(option.get("kind")) for option in options}
        choices = [str(d) for d, wanted in OPTIONS.items() if kinds & set(wanted)]
        data = {"id": "", "title": "", "kind": "other", **tool, "request": request, "choices": choices}
        data["scope"] = scope(data)
        self._queue.put(Chunk(ChunkKind.PERMISSION, str(data["title"]), data))

    def permit(self, request: str, decision: Decision) -> None:
        """Answer a question."""
        with self._lock:
            options, answer = self._open.pop(request, ((), None))
        if answer is not None:
            answer(outcome(options, decision))

    def refuse_all(self) -> None:
        """Answer all questions, open ones and those to come, with: it was cancelled."""
        with self._lock:
            self._over = True
            requests = list(self._open)
        for request in requests:
            self.permit(request, Decision.CANCEL)


def _alike(one: Launch, other: Launch) -> bool:
    """Return whether a process started as `one` will do for `other`: all but the directory, which a session has."""
    return (one.argv, one.env, one.outside) == (other.argv, other.env, other.outside)


__all__ = ["AcpAgent", "Launch"]
