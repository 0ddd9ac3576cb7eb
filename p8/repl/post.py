"""Messages from outside (a dashboard) for the session that is open at this prompt: shown, recorded and answered here.

They come on threads of their own and wait until the prompt is free; what is being typed stays. Refuses: commands, ours
and the shell's. What comes from outside is something said, whatever it begins with.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession

from p8.core.letterbox import Letter, Letterbox, known
from p8.core.turns import ask
from p8.errors import Conflict, P8Error
from p8.repl.screen import Screen, escape

if TYPE_CHECKING:
    from p8.app import App
    from p8.assistants.base import Chunk

Answers = Callable[[Callable[["Chunk"], None]], None]
MOST = 20  #: that wait at a time


class Post:
    """
    Takes messages from outside.

    Args:
        app: whose session.
        screen: shows them.
        prompt: is left for one that comes, and begun again with what was typed so far.
        keep: told what was typed so far.
        stop: ends the answer that is coming.
    """

    def __init__(
        self, app: App, screen: Screen, prompt: PromptSession[str], keep: Callable[[str], None],
        stop: Callable[[], None],
    ) -> None:  # fmt: skip
        self._app = app
        self._screen = screen
        self._prompt = prompt
        self._keep = keep
        self._stop = stop
        self._waiting: deque[Letter] = deque()
        self._box = Letterbox(app.config.home, app.store.leases.me.owner, self._take)

    def open(self) -> None:
        """Begin to take them; where that cannot be, none come."""
        with contextlib.suppress(OSError):
            self._box.open()

    def close(self) -> None:
        """Take no more, and tell those that wait."""
        self._box.close()
        while self.waits:
            letter = self._waiting.popleft()
            letter.refuse(Conflict("the p8 that had the session open is leaving", "send it again"))
            letter.close()

    @property
    def waits(self) -> bool:
        """Return whether there is one that still matters to somebody."""
        while self._waiting and self._waiting[0].withdrawn:
            self._waiting.popleft()
        return bool(self._waiting)

    def _take(self, letter: Letter) -> None:
        if len(self._waiting) >= MOST:
            letter.refuse(Conflict("too many messages wait for this session", "send it again later"))
            letter.close()
            return
        letter.tell(state="waiting")
        self._waiting.append(letter)
        self.wake()

    def begin(self) -> None:
        """Note that a prompt begins."""
        self._prompt.app.erase_when_done = False
        self.wake()

    def wake(self) -> None:
        """Leave the prompt where one waits; what is typed so far comes back with the next prompt."""
        application = self._prompt.app

        def leave() -> None:
            if self.waits and application.is_running and not application.is_done:
                self._keep(self._prompt.default_buffer.text)
                application.erase_when_done = True
                application.exit(result="")

        if application.loop is not None:
            with contextlib.suppress(RuntimeError):  # the prompt is over
                application.loop.call_soon_threadsafe(leave)

    def deal(self, answer: Answers) -> None:
        """
        Show, record and answer the next one; whoever sent it hears of each step, and of what goes wrong.

        Args:
            answer: has it answered, and hands on each chunk.

        Raises:
            P8Error: it was not taken, or the answer failed; whoever sent it was told.
        """
        letter = self._waiting.popleft()
        manager = self._app.sessions
        try:
            current = manager.current
            if (
                current is None
                or current.session_id != letter.session
                or not manager.custody.still_mine(letter.session)
            ):
                raise Conflict(f"session {letter.session} is not open here any more", "send it again")
            found = known(manager, letter.key)
            if found is None:
                self._screen.write(self._screen.style("» ", "accent") + escape(letter.text) + "\n")
                found = ask(manager, letter.text, via="server", **({"letter": letter.key} if letter.key else {})), False
            letter.tell(state="recorded", seq=found[0])
            if not found[1]:
                letter.stop = self._stop
                answer(lambda chunk: letter.tell(kind=str(chunk.kind), text=chunk.text, data=chunk.data))
            letter.tell(state="done")
        except P8Error as error:
            letter.refuse(error)
            raise
        finally:
            letter.stop = lambda: None
            letter.close()
