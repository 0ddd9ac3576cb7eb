"""What agents may do: asks the person, and remembers for the rest of a session what always or never goes.

Remembered is what the person said of one agent and one scope ("edit", "execute make test"), in this process only: a
session resumed tomorrow asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from p8.assistants.base import Decision
from p8.errors import ConfigError

POLICIES = ("ask", "allow", "refuse")
#: asks the person: given the question's `data` (see ChunkKind.PERMISSION), returns the answer
Ask = Callable[[dict[str, Any]], Decision]


class Answer(NamedTuple):
    """A decision and whose it was."""

    decision: Decision
    by: str  #: "person", "session" (said before), "setting", or "nobody" where there was none to ask


class Permissions:
    """
    Decides.

    Args:
        policy: ask (the person), allow (each, once), or refuse.

    Raises:
        ConfigError: it is none of these.
    """

    def __init__(self, policy: str = "ask") -> None:
        if policy not in POLICIES:
            raise ConfigError(f"permissions cannot be {policy!r}", f"one of {', '.join(POLICIES)}")
        self._policy = policy
        self._standing: dict[tuple[str, str, str], Decision] = {}

    def decide(self, session_id: str, agent: str, question: dict[str, Any], ask: Ask | None) -> Answer:
        """
        Answer an agent's question.

        Args:
            session_id: P8's session.
            agent: who asks.
            question: the PERMISSION chunk's `data`.
            ask: asks the person; None where nobody is there, and what is not settled otherwise is refused.
        """
        key = session_id, agent, str(question.get("scope", ""))
        standing = self._standing.get(key)
        if standing is not None:
            return Answer(standing, "session")
        if self._policy != "ask":
            return Answer(Decision.ONCE if self._policy == "allow" else Decision.NO, "setting")
        if ask is None:
            return Answer(Decision.NO, "nobody")
        decision = ask(question)
        if decision in {Decision.ALWAYS, Decision.NEVER}:
            self._standing[key] = decision
        return Answer(decision, "person")

    def standing(self, session_id: str) -> list[tuple[str, str, Decision]]:
        """Return what is settled for the rest of a session, as (agent, scope, decision)."""
        return [
            (agent, scope, said) for (session, agent, scope), said in self._standing.items() if session == session_id
        ]
