"""Messages that clients send: handed to the process that holds the session, else answered here with its lease.

Each session has a queue and, while something is in it, a thread and a P8 of its own, so that the server holds no
session longer than it works for it. What is acknowledged is on disk; one that comes again with its key is known.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p8.assistants.base import Asks, Cancel, Chunk, ChunkKind, Decision
from p8.core.letterbox import Sent, known
from p8.core.permissions import Permissions
from p8.core.turns import ask, run_turn
from p8.errors import Conflict, Held, NotFound, P8Error, StoreError
from p8.server.problems import dumps, of_error, problem

if TYPE_CHECKING:
    from p8.app import App
    from p8.model import SessionRow

SESSIONS = 16  #: at work at a time
WAITING = 20  #: messages of one session
UNHEARD_S = 10.0  #: a question that nobody could answer for so long is refused
CLOSING_S = 15.0
SHOWN_BYTES = 50_000  #: of what an agent asks for

Tell = Callable[[dict[str, Any]], None]


class Saying:
    """
    A message on its way.

    Args:
        session, text: what is said, and where.
        key: by which it is known when it comes again.
        take_over: take the session from a living process.
        tell: told what becomes of it; called from any thread.
    """

    def __init__(self, session: str, text: str, key: str, take_over: bool, tell: Tell) -> None:
        self.session = session
        self.text = text
        self.key = key
        self.take_over = take_over
        self._tell = tell

    def tell(self, state: str, **more: Any) -> None:
        """Tell how far it is: waiting, recorded, done, or refused."""
        self._tell({"said": {"id": self.key, "state": state, **more}})

    def refuse(self, found: dict[str, Any]) -> None:
        """Tell that it is not taken, or that the answer failed."""
        self.tell("refused", problem=found)


class Turn:
    """What is being answered in one session."""

    def __init__(self) -> None:
        self.queue: deque[Saying] = deque()
        self.stop: Callable[[], None] = lambda: None
        self.question = ""  #: id of what is being asked
        self.answer: Decision | None = None
        self.answered = threading.Event()


class Talk:
    """
    Has messages answered.

    Args:
        app: whose sessions.
        live: told each piece of an answer as it comes; None when it is over.
        heard: returns whether anybody follows a session.
    """

    def __init__(
        self, app: App, live: Callable[[str, dict[str, Any] | None], None], heard: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._live = live
        self._heard = heard
        self._lock = threading.Lock()
        self._turns: dict[str, Turn] = {}
        self._threads: set[threading.Thread] = set()
        self._permissions: dict[str, Permissions] = {}
        self._closed = False

    # from clients

    def say(self, one: Saying) -> None:
        """Take a message; what becomes of it is told. Never waits."""
        with self._lock:
            turn = self._turns.get(one.session)
            if self._closed or (turn is None and len(self._turns) >= SESSIONS):
                one.refuse(problem(503, "too much is asked at a time", "try again in a moment"))
                return
            if turn is not None:
                if len(turn.queue) >= WAITING:
                    one.refuse(problem(503, "too many messages wait for this session", "try again in a moment"))
                    return
                turn.queue.append(one)
                one.tell("waiting")
                return
            turn = self._turns[one.session] = Turn()
            turn.queue.append(one)
            thread = threading.Thread(target=self._work, args=(one.session, turn), name="p8-turn", daemon=True)
            self._threads.add(thread)
        thread.start()

    def stop(self, session: str) -> None:
        """End the answer that is coming in a session; what came is kept."""
        with self._lock:
            turn = self._turns.get(session)
        if turn is not None:
            turn.stop()

    def answer(self, session: str, question: str, decision: str) -> None:
        """Answer what an agent asks; what is asked no more is left alone."""
        with self._lock:
            turn = self._turns.get(session)
        if turn is not None and turn.question == question and decision in set(Decision):
            turn.answer = Decision(decision)
            turn.answered.set()

    def close(self) -> None:
        """Stop all answers, keep what came, put the sessions down."""
        with self._lock:
            self._closed = True
            turns, threads = list(self._turns.values()), list(self._threads)
        for turn in turns:
            turn.stop()
        for thread in threads:
            thread.join(CLOSING_S)

    # one session's thread

    def _work(self, session: str, turn: Turn) -> None:
        own: App | None = None
        try:
            while True:
                with self._lock:
                    one = turn.queue.popleft() if turn.queue and not self._closed else None
                    if one is None and own is None:
                        del self._turns[session]
                        break
                if one is None:  # put the session down first: what comes meanwhile begins anew
                    assert own is not None
                    self._put_down(own)
                    own = None
                    continue
                try:
                    own = self._deal(one, turn, own)
                except P8Error as error:
                    one.refuse(of_error(error))
                except Exception:
                    logging.getLogger("p8.server").exception("a message to %s failed", session)
                    one.refuse(problem(500, "something went wrong in P8 itself; its log says what"))
                finally:
                    turn.stop = lambda: None
        finally:
            with self._lock:
                self._turns.pop(session, None)
                self._threads.discard(threading.current_thread())
            for one in turn.queue:
                one.refuse(problem(503, "the server is being stopped", "send it again"))

    def _put_down(self, own: App) -> None:
        try:
            own.close()
        except Exception:
            logging.getLogger("p8.server").exception("a session could not be put down well")

    def _deal(self, one: Saying, turn: Turn, own: App | None) -> App | None:
        """Have a message answered; return the P8 that holds the session then, if it is ours."""
        if own is not None and own.sessions.custody.still_mine(one.session) and own.sessions.current is not None:
            self._answered(own, one, turn)
            return own
        if own is not None:
            self._put_down(own)
        row = self._app.store.sessions.get(one.session)
        holder = self._app.store.leases.holder(one.session)
        if holder is not None and not one.take_over:
            self._handed_over(holder.owner, one, turn)
            return None
        own = self._resumed(row, one.take_over)
        try:
            self._answered(own, one, turn)
        except P8Error as error:
            one.refuse(of_error(error))
        return own

    def _handed_over(self, owner: str, one: Saying, turn: Turn) -> None:
        """Have whoever holds the session answer."""
        try:
            sent = Sent(self._app.config.home, owner, one.session, one.text, one.key)
        except Conflict as error:
            raise Held(one.session, error.message, error.hint) from error
        turn.stop = sent.stop
        state = ""
        try:
            for told in sent.replies():
                if "kind" in told:
                    self._show(one.session, Chunk(ChunkKind(told["kind"]), told.get("text", ""), told.get("data", {})))
                    continue
                state = str(told.get("state"))
                if state == "refused":
                    found = problem(409, str(told.get("message")), str(told.get("hint", "")), str(told.get("error")))
                    one.refuse(found)
                    return
                one.tell(state, **({"seq": told["seq"]} if "seq" in told else {}))
        finally:
            self._live(one.session, None)
        if state != "done":
            was = "its answer is not whole" if state == "recorded" else "it was not taken"
            raise Conflict(f"the p8 that had the session open is gone: {was}", "send it again")

    def _resumed(self, row: SessionRow, take_over: bool) -> App:
        """Return a P8 that stands where the session does and has it open."""
        place = Path(row.directory) if row.directory else self._app.directory
        there = place if place.is_dir() else self._app.directory
        own = self._with_model(there, row.model)
        try:
            _check_place(own, place)
            own.sessions.resume_session(row.id, take_over=take_over)
        except BaseException:
            own.close()
            raise
        return own

    def _with_model(self, place: Path, model: str) -> App:
        """Return a P8 that stands there with this model, or with the usual one where that is not known here."""
        own = self._app.apart(place, model)
        try:
            own.assistant  # noqa: B018 made now
        except NotFound:  # of another tool, or of another machine
            own.close()
            return self._app.apart(place)
        except BaseException:
            own.close()
            raise
        return own

    def _answered(self, own: App, one: Saying, turn: Turn) -> None:
        """Record a message and have it answered, piece by piece."""
        manager, assistant = own.sessions, own.assistant
        found = known(manager, one.key)
        if found is None:
            if manager.current is not None and manager.current.metadata.get("model") != assistant.name:
                manager.annotate(model=assistant.name)
            found = ask(manager, one.text, via="server", **({"letter": one.key} if one.key else {})), False
        one.tell("recorded", seq=found[0])
        if found[1]:
            one.tell("done")
            return
        cancel = Cancel()
        turn.stop = cancel.set
        if self._closed:
            cancel.set()
        rules = self._permissions.setdefault(one.session, Permissions(own.config.permissions))

        def permit(question: dict[str, Any]) -> Decision:
            return self._asked(one.session, turn, question, cancel)

        try:
            with own.files.around() if isinstance(assistant, Asks) else contextlib.nullcontext():
                for chunk in run_turn(
                    manager, assistant, cancel, idle_timeout_s=own.config.idle_timeout_s, permissions=rules,
                    context=own.conversation, ask=permit,
                ):  # fmt: skip
                    self._show(one.session, chunk)
        finally:
            self._live(one.session, None)
        with contextlib.suppress(StoreError):
            own.after_turn()
        one.tell("done", **({"stopped": True} if cancel.is_set() else {}))

    def _asked(self, session: str, turn: Turn, question: dict[str, Any], cancel: Cancel) -> Decision:
        """Ask whoever follows the session; with nobody there for a while it is refused."""
        turn.answer = None
        turn.answered.clear()
        turn.question = str(question.get("request") or question.get("id") or "question")
        names = ("title", "scope", "choices", "input", "content")
        asked = {name: question[name] for name in names if name in question}
        if len(dumps(asked)) > SHOWN_BYTES:
            asked = {name: asked[name] for name in ("title", "scope", "choices") if name in asked}
        self._live(session, asked | {"kind": "question", "question": turn.question})
        unheard = 0.0
        while not cancel.is_set() and unheard < UNHEARD_S:
            if turn.answered.wait(0.2) and turn.answer is not None:
                turn.question = ""
                return turn.answer
            unheard = 0.0 if self._heard(session) else unheard + 0.2
        turn.question = ""
        return Decision.CANCEL if cancel.is_set() else Decision.NO

    def _show(self, session: str, chunk: Chunk) -> None:
        if chunk.kind in {ChunkKind.TEXT, ChunkKind.THOUGHT, ChunkKind.NOTICE}:
            self._live(session, {"kind": str(chunk.kind), "text": chunk.text})
        elif chunk.kind in {ChunkKind.TOOL, ChunkKind.PERMISSION}:
            names = ("id", "title", "status", "answer", "by")
            self._live(session, {"kind": str(chunk.kind), **{n: chunk.data[n] for n in names if n in chunk.data}})


def _check_place(own: App, place: Path) -> None:
    if isinstance(own.assistant, Asks) and own.directory != place:
        raise Conflict(f"{place} is not there, and an agent works in it", "fork the session, or bring it back")
