"""What a session's conversation costs, counted as it grows: the gauge, and checkpoints that make themselves (C2 to C4).

Counting is by turn, from what was recorded, and costs nothing while recording. Where the counts stand is said in the
session's own journal with each turn; a trigger that fired is the checkpoint it made, so that it fires once, also after
a kill -9. Refuses: to ask a network how many tokens something is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from p8.assistants.tokens import TokenBook, Tokens
from p8.core import plan as planning
from p8.core.checkpoints import Checkpoints
from p8.core.gauge import SOURCES, UNPLANNED, Gauge, Usage, gauge_of
from p8.core.history import History, fresh
from p8.core.plan import EMERGENCY_PERCENT, Plan, Trigger
from p8.core.sessions import SessionManager
from p8.core.turns import CONTEXT_ENTRIES, run_text
from p8.errors import InvalidTransition, NotFound, P8Error, StoreError, UsageError
from p8.model import Checkpoint, Kind, text_of
from p8.session import Session

TURNS_KEPT = 200
NOTE_EVERY = 60
DECAY = 0.8  #: what a turn's report weighs against the one after it
Messages = Sequence[Mapping[str, Any]]


class Sample(NamedTuple):
    """What was counted and what the model reported of the same."""

    counted: float
    reported: float
    weight: float = 1.0


@dataclass(slots=True)
class Correction:
    """
    How a model's own counts differ from ours, learnt from the usage it reports (row C3).

        reported = ratio * counted + constant

    The ratio is sum(w * reported) / sum(w * counted); a constant (a template of the provider's) is told apart from it
    by weighted least squares as soon as three reports lie far enough apart. Each report weighs 0.8 of the next one.
    """

    samples: list[tuple[float, float]] = field(default_factory=list)  #: (counted, reported), oldest first

    def learn(self, counted: int, reported: int) -> None:
        """Take in one report; one that differs fivefold measured something else and is left out."""
        if (counted > 0 and reported > 0 and 0.2 <= reported / counted <= 5) or 0 < counted < reported < counted + 400:
            self.samples = [*self.samples[-11:], (float(counted), float(reported))]

    def apply(self, counted: float, whole: bool = True) -> int:
        """Return the corrected count of a request (`whole`), or of one text in it, which has no constant."""
        ratio, constant = self.fit()
        return max(0, round(counted * ratio + (constant if whole else 0)))

    def fit(self) -> tuple[float, float]:
        """Return ratio and constant."""
        samples = [Sample(c, r, DECAY**age) for age, (c, r) in enumerate(reversed(self.samples))]
        if not samples:
            return 1.0, 0.0
        weight = sum(s.weight for s in samples)
        x = sum(s.weight * s.counted for s in samples) / weight
        y = sum(s.weight * s.reported for s in samples) / weight
        spread = sum(s.weight * (s.counted - x) ** 2 for s in samples) / weight
        if len(samples) >= 3 and spread > (x / 10) ** 2:
            slope = sum(s.weight * (s.counted - x) * (s.reported - y) for s in samples) / weight / spread
            if 0.2 <= slope <= 5:
                return slope, y - slope * x
        return y / x, 0.0


class ContextPlanner:
    """
    Counts and plans the current session.

    Args:
        sessions: whose current session.
        checkpoints: make what triggers ask for.
        book: vocabularies.
        model: returns the name of whoever answers.
        window: returns how many tokens that one takes.
    """

    def __init__(
        self,
        sessions: SessionManager,
        checkpoints: Checkpoints,
        book: TokenBook,
        model: Callable[[], str],
        window: Callable[[], int],
    ) -> None:
        self._sessions = sessions
        self._checkpoints = checkpoints
        self._book = book
        self._model = model
        self._window = window
        self._session: Session | None = None
        self._messages = self._runs = 0
        self._corrections: dict[str, Correction] | None = None
        self._pending: tuple[list[Mapping[str, Any]], str] | None = None
        self._note = "", 0
        self.usage = Usage()
        self.plan: Plan | None = None
        self.fired: set[str] = set()

    @property
    def is_current(self) -> bool:
        """Return whether the counts are those of the session that is current now."""
        return self._session is not None and self._session is self._sessions.current

    # counting

    @property
    def tokens(self) -> Tokens:
        """Return what counts for the model in use."""
        return self._book.of(self._model())

    @property
    def ready(self) -> bool:
        """Return whether counting is at hand; else it takes up to a second to load a vocabulary."""
        return self._book.is_loaded(self._model())

    def count_soon(self, text: str) -> int:
        """Return the tokens of a text, or more than it can be in any but odd scripts while no vocabulary is loaded."""
        return self.count(text) if self.ready else len(text.encode("utf-8", "replace")) // 3 + 1

    def count(self, text: str) -> int:
        """Return the tokens of one text, corrected by what the model has reported so far."""
        return self.correction.apply(self.tokens.count(text), whole=False)

    def raw_request(self, messages: Messages) -> int:
        """Return the tokens of a whole request as counted, with what the model's template adds."""
        tokens = self.tokens
        found = tokens.per_request + sum(tokens.per_message + tokens.count(text_of(m)) for m in messages)
        return found if any(m.get("role") == "system" for m in messages) else found + tokens.no_system

    @property
    def correction(self) -> Correction:
        """Return what was learnt of the model in use."""
        if self._corrections is None:
            self._corrections = {n: Correction(s) for n, s in _read_corrections(self._sessions.store.home).items()}
        return self._corrections.setdefault(self._model(), Correction())

    @property
    def window(self) -> int:
        """Return how many tokens the model takes at once."""
        return self._window()

    def first_message(self) -> str:
        """Return what the session began with; "" where it cannot be read now."""
        session = self._sessions.current
        if session is None:
            return ""
        with contextlib.suppress(StoreError, NotFound):
            entries = self._sessions.store.sessions.entries(session.session_id, kinds=(Kind.MESSAGE,), limit=5)
            return next((entry.text for entry in entries if entry.role == "user"), "")
        return ""

    def note(self, write: Callable[[], str]) -> str:
        """
        Return the handoff note that goes along where something is left out.

        It is written when there is none yet, and again after every `NOTE_EVERY` messages and runs.
        """
        self._follow()
        session = self._sessions.current
        if session is None:
            return ""
        seq = self._sessions.store.journal.position(session.session_id)[0]
        text, at = self._note
        if not text and "note" in session.metadata:
            with contextlib.suppress(StoreError, NotFound, TypeError, ValueError):
                at = int(session.metadata["note"])
                text = text_of(self._sessions.store.entry(session.session_id, at).data)
        if not text or seq - at > NOTE_EVERY:
            text = write()
            at = self._sessions.store.journal.position(session.session_id)[0]
            self._sessions.annotate(note=at)
        self._note = text, at
        return text

    @property
    def told(self) -> list[str]:
        """Return the plan in words, a line each; what is open begins with "open: "."""
        plan = self.plan
        if plan is None:
            return []
        used = self.usage.by_phase()
        lines = [f"plan: {self.usage.total:,} of {plan.total_budget:,} tokens used, now in phase {self.usage.phase}"]
        lines += [f"phase {name} finished, {used.get(name, 0):,} tokens" for name in self.usage.done]
        return lines + [f"open: phase {p.name} of the plan" for p in plan.phases if p.name not in self.usage.done]

    def sending(self, messages: Messages, memories: str = "") -> None:
        """
        Note what is about to be sent; it is counted when the turn has ended.

        Args:
            messages: the request.
            memories: the part of it that came from memories.
        """
        self._follow()
        self._pending = [*messages], memories

    def _count_sent(self) -> int | None:
        """Return the tokens of the last request as counted; what is new of the memories in it counts as used."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        messages, memories = pending
        if memories:
            most = self.usage.extra.get("memories", 0)
            now = self.count(memories)
            self.usage.extra["memories"] = max(most, now)
            self.usage.add("memories", max(0, now - most))
        return self.raw_request(messages)

    def settle(self) -> None:
        """
        Count what was recorded since the last call. Called when a turn has ended, and before anything is shown.

        Raises:
            StoreError: what was recorded before this process began cannot be read.
        """
        self._follow()
        session = self._sessions.current
        if session is None:
            return
        upto = self._sessions.store.journal.position(session.session_id)[0]
        messages, runs = fresh(session.conversation_history), self._sessions.runs
        for data in messages[self._messages :]:
            self._take("message", data)
        for _, data in runs[self._runs :]:
            self._take("execution", data)
        self._messages, self._runs = len(messages), len(runs)
        self.usage.seq = max(self.usage.seq, upto)

    def _take(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "execution":
            self.usage.add("tools", self.count(run_text(dict(data))))
            return
        role = data.get("role")
        source = data.get("source") if data.get("source") in SOURCES else "tools" if role == "tool" else "messages"
        out = data.get("tokens_out")
        answered = role == "assistant" and isinstance(out, int) and not isinstance(out, bool) and out > 0
        self.usage.add(str(source), int(str(out)) if answered else self.count(text_of(data)))
        for tool in data.get("tools") or ():
            self.usage.add("tools", self.count(str(tool.get("content", ""))) if isinstance(tool, Mapping) else 0)

    def after_turn(self) -> list[Checkpoint]:
        """
        Count the turn, learn from what the model reported of it, say so in the journal, and fire what is due.

        Returns:
            the checkpoints that triggers made.

        Raises:
            StoreError: the disk or the database refuses; nothing recorded is lost, and the next turn tries again.
        """
        self._follow()
        before = self.usage.total
        self.settle()
        session = self._sessions.current
        if session is None:
            return []
        self._learn(session.conversation_history[-1] if self._messages else {})
        self.usage.turns = [*self.usage.turns, [self._sessions.store.clock(), self.usage.total - before]][-TURNS_KEPT:]
        self._say()
        return self.fire()

    def _learn(self, answer: Mapping[str, Any]) -> None:
        pending = self._count_sent()
        reported, out = answer.get("tokens_in"), answer.get("tokens_out")
        if not isinstance(reported, int) or not isinstance(out, int):
            self.usage.sent = self.correction.apply(pending) if pending else self.usage.sent
            return
        self.usage.sent = reported + out
        if pending:
            self.correction.learn(pending, reported)
            _write_corrections(self._sessions.store.home, self._corrections or {})

    def _say(self) -> None:
        with contextlib.suppress(InvalidTransition):
            self._sessions.annotate(usage=self.usage.to_dict())

    # the current session

    def _follow(self) -> None:
        """
        Turn to the session that is current now, and take up its counts and plan where they stand.

        A fork goes on with its parent's plan, and with its counts where they do not reach beyond the fork.
        """
        session = self._sessions.current
        if session is self._session:
            return
        self._session, self._messages, self._runs, self._pending, self._note = session, 0, 0, None, ("", 0)
        self.usage, self.plan, self.fired = Usage(), None, set()
        if session is None:
            return
        about = dict(session.metadata)
        if about.get("parent") and "usage" not in about and "plan" not in about:
            with contextlib.suppress(NotFound):
                inherited = self._sessions.store.sessions.get(str(about["parent"])).meta
                about |= {"plan": inherited.get("plan")}
                counted = inherited.get("usage")
                if isinstance(counted, dict) and counted.get("seq", 0) <= (about.get("fork_seq") or 0):
                    about["usage"] = counted | {"seq": 0}
        if about.get("plan"):
            with contextlib.suppress(UsageError):
                self.plan = Plan.from_dict(about["plan"])
        self.usage = Usage.from_dict(about.get("usage"))
        if self.plan is not None and self.usage.phase == UNPLANNED:
            self.usage.phase = self.plan.phases[0].name
        if isinstance(session.conversation_history, History):
            self._catch_up(session.session_id, session.conversation_history.upto, "usage" in about)

    def _catch_up(self, session_id: str, upto: int, known: bool) -> None:
        """Count what an earlier process recorded and did not count, and see which triggers have fired."""
        entries = self._sessions.store.sessions.entries
        kinds = (Kind.MESSAGE, Kind.EXECUTION)
        if not known:
            uncounted = entries(session_id, kinds=kinds, last=upto, limit=CONTEXT_ENTRIES, newest=True)
        elif 0 < self.usage.seq < upto:
            uncounted = entries(session_id, kinds=kinds, first=self.usage.seq + 1, last=upto)
        else:
            uncounted = []
        for entry in uncounted:
            self._take(entry.kind, entry.data)
        self.usage.seq = max(self.usage.seq, upto)
        plan_id = self.plan.id if self.plan is not None else ""
        for entry in entries(session_id, kinds=(Kind.CHECKPOINT,), last=upto):
            if entry.data.get("trigger") and entry.data.get("plan", "") == plan_id:
                self.fired.add(str(entry.data["trigger"]))

    # the plan

    def make(self, scope: planning.Scope, phases: Sequence[tuple[str, int]] = planning.PHASES) -> Plan:
        """
        Plan the current session; an earlier plan is replaced. What was used so far counts for the first phase.

        Raises:
            InvalidTransition: no session is current.
        """
        self.settle()
        if self._sessions.current is None:
            raise InvalidTransition("no session is active", "/session start begins one")
        self.plan = planning.allocate(scope, phases, f"{self._sessions.store.clock():x}")
        before = self.usage.by_source()
        self.usage.phase, self.usage.done = self.plan.phases[0].name, []
        self.usage.used = {self.usage.phase: {s: t for s, t in before.items() if t}}
        self.fired = set()
        self._sessions.annotate(plan=self.plan.to_dict(), usage=self.usage.to_dict())
        return self.plan

    def required(self) -> Plan:
        """Return the plan. Raises UsageError where there is none."""
        self._follow()
        if self.plan is None:
            raise UsageError("this session has no plan", "/session start --scope lines=700,tests=200,docs=50")
        return self.plan

    def enter(self, name: str) -> None:
        """
        Count for this phase from now on; a finished one is opened again.

        Raises:
            UsageError: there is no plan, or no such phase.
        """
        plan = self.required()
        self.settle()
        if name not in {phase.name for phase in plan.phases}:
            raise UsageError(f"no phase is called {name!r}", ", ".join(phase.name for phase in plan.phases))
        self.usage.phase = name
        self.usage.done = [done for done in self.usage.done if done != name]
        self._say()

    def finish_phase(self) -> list[Checkpoint]:
        """
        Finish the current phase and go on to the next open one.

        Returns:
            the checkpoints that were made, among them the phase's own.

        Raises:
            UsageError: there is no plan, or all phases are finished.
            StoreError: the disk refuses.
        """
        plan = self.required()
        self.settle()
        if self.usage.phase in self.usage.done:
            raise UsageError("all phases are finished", "/session complete ends the session")
        self.usage.done = [*self.usage.done, self.usage.phase]
        left = [phase.name for phase in plan.phases if phase.name not in self.usage.done]
        if left:
            self.usage.phase = left[0]
        self._say()
        return self.fire()

    # triggers

    def due(self) -> list[Trigger]:
        """Return the triggers whose time has come and that have not fired, in their order."""
        used, plan = self.usage.total, self.plan
        found = []
        for trigger in plan.triggers if plan is not None else ():
            reached = (
                trigger.name.removeprefix("phase:") in self.usage.done
                if trigger.kind == "phase"
                else used >= trigger.at_tokens
            )
            if reached and trigger.name not in self.fired:
                found.append(trigger)
        emergency = self.usage.sent * 100 >= self._window() * EMERGENCY_PERCENT
        if emergency and "emergency" not in self.fired and all(t.kind != "emergency" for t in found):
            found.append(Trigger("emergency", "emergency"))
        return found

    def fire(self) -> list[Checkpoint]:
        """
        Make a checkpoint for each trigger that is due; the checkpoint's own entry is what says that it has fired.

        Raises:
            StoreError: the disk refuses; what could not be written is written later, in order.
        """
        made = []
        for trigger in self.due():
            self.fired.add(trigger.name)
            plan_id = self.plan.id if self.plan is not None else ""
            made.append(self._checkpoints.create(_name(trigger), trigger=trigger.name, plan=plan_id))
        return made

    # the picture

    def gauge(self) -> Gauge:
        """
        Return where the session stands.

        Raises:
            StoreError: what was recorded before this process began cannot be read.
        """
        self.settle()
        return gauge_of(self.usage, self.plan, self.fired, self._model(), self._window(), self.tokens.exact)


def _name(trigger: Trigger) -> str:
    return {
        "percentage": f"auto: {trigger.name} of the estimate",
        "phase": f"auto: {trigger.name.removeprefix('phase:')} finished",
    }.get(trigger.kind, "auto: almost full")


def _read_corrections(home: Any) -> dict[str, list[tuple[float, float]]]:
    import json

    try:
        data = json.loads((home / "states" / "tokens.json").read_text("utf-8"))
        return {
            str(name): [(float(c), float(r)) for c, r in samples if c > 0 and r > 0][-12:]
            for name, samples in data.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_corrections(home: Any, known: Mapping[str, Correction]) -> None:
    """Keep what was learnt for other sessions; losing it costs accuracy of a few turns and nothing else."""
    import json
    import os

    with contextlib.suppress(OSError, P8Error, StoreError):
        file = home / "states" / "tokens.json"
        young = file.with_name(f"tokens.{os.getpid()}.new")
        young.write_text(json.dumps({n: c.samples for n, c in known.items() if c.samples}), "utf-8")
        young.replace(file)
