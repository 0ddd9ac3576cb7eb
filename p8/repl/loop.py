"""The REPL: reads a line, records it, answers or runs it, and saves on every way out.

Signals set flags and never raise, so that nothing is interrupted while it is being recorded. Whatever goes wrong
costs a line on the screen; the last resort writes the traceback to the log and leaves with everything saved.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import ThreadedHistory
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from p8 import __version__
from p8.commands.registry import (
    Choose,
    Confirm,
    Markdown,
    OpenPicker,
    Quit,
    Result,
    Retry,
    RunLines,
    Switched,
    Text,
)
from p8.errors import Held, P8Error, StoreError
from p8.events import Change
from p8.model import Notice, SessionRow, Status
from p8.repl.completion import ReplCompleter
from p8.repl.hint import Hint
from p8.repl.keys import bindings
from p8.repl.opening import changes_since, wanted
from p8.repl.screen import Screen, escape
from p8.repl.status import StatusLine
from p8.repl.theme import theme_of
from p8.repl.typed import TypedLines

if TYPE_CHECKING:
    from p8.app import App
    from p8.assistants.base import Chunk
    from p8.repl.post import Post

PROMPT = "› "
TAIL_ENTRIES = 8  #: of a resumed session's transcript are shown
WARM_AFTER_S = 0.2  #: what the first answer will need is imported so long after the first prompt
STYLE = {
    "prompt": "bold {accent}", "bottom-toolbar": "noreverse", "status": "{dim}", "status.title": "bold",
    "status.good": "{good}", "status.warning": "{warning}", "status.bad": "bold {bad}", "auto-suggestion": "{dim}",
    "hint": "{dim}", "hint.first": "",
}  # fmt: skip


def run(app: App, options: dict[str, Any]) -> int:
    """
    Talk until the person leaves.

    Args:
        app: the app; closed when this returns.
        options: the command line's: continue, resume, take_over.

    Returns:
        the exit status.
    """
    repl = Repl(app)
    try:
        with repl.signals():
            return repl.run(options)
    except Exception:
        repl.crashed()
        return 1
    finally:
        repl.leave()


class Repl:
    """
    The REPL of one app.

    Args:
        app: what it talks to.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.screen = Screen(color=app.config.color)
        self.status = StatusLine(app)
        self.hint = Hint(app, lambda: self._prompt.app.invalidate())  # noqa: PLW0108 made below
        self._cancel: threading.Event | None = None
        self._leaving = ""
        self._said: list[Notice] = []
        self._left = False
        self._draft = ""
        self._last_session = ""
        self._is_open = False
        self._drawn = threading.Event()  # set once the first prompt is: what goes on beside it would slow it down
        self._post: Post | None = None
        self._prompt: PromptSession[str] = PromptSession(
            history=ThreadedHistory(TypedLines(app, "", self._drawn)),
            completer=ReplCompleter(app),
            complete_in_thread=True,
            complete_style=CompleteStyle.COLUMN,
            key_bindings=bindings(self.screen, self.hint.take),
            multiline=True,
            prompt_continuation=lambda _width, _line, _wrap: "… ",
            bottom_toolbar=self._toolbar,
            enable_history_search=True,
        )
        self._prompt.app.after_render += self._after_render
        self._theme = ""
        self._look()
        app.bus.subscribe(self._heard)
        app.progress = self._progress

    # life

    def run(self, options: dict[str, Any]) -> int:
        """Greet, open what was asked for, and take lines until the person leaves."""
        self._greet()
        with self._told():
            self._open(options)
        self._is_open = True
        _ = self.app.box  # made here, as what warms up asks for it on another thread
        if not self.app.model and not self.app.catalog.installed_local():
            self._offer_model()
        while not self._leaving:
            self._show_notices()
            if self._post is not None and self._post.waits:
                with self._told():
                    self._post.deal(self._answer)
                continue
            line = self._read()
            if line is None:
                break
            if line.strip():
                with self._told():
                    self._take(line)
                self.hint.refresh()
        return 0

    def _after_render(self, _application: object) -> None:
        if not self._drawn.is_set():
            self._drawn.set()
            warm = threading.Timer(WARM_AFTER_S, self._warm)
            warm.daemon = True
            warm.start()

    def _look(self) -> None:
        """Draw everything in the session's theme."""
        if self._theme == self.app.theme:
            return
        self._theme = self.app.theme
        look = theme_of(self._theme)
        self.screen.use_theme(self._theme)
        self._prompt.style = Style.from_dict(look.prompt(STYLE))
        self._prompt.color_depth = None if self.app.config.color and look.has_color else ColorDepth.DEPTH_1_BIT

    def _greet(self) -> None:
        where = escape(self.app.directory.name or "/", lines=False)
        self.screen.write(
            self.screen.style("P8", "title")
            + self.screen.style(f" {__version__} · {where} · /help for help", "dim")
            + "\n"
        )

    def _warm(self) -> None:
        """Do in the background what the first prompt did not wait for."""
        with contextlib.suppress(Exception):
            self.app.box.settle()
        with contextlib.suppress(Exception):
            self.app.store.start()
            self._take_letters()
            self.app.settle_project()
            self.app.upkeep.projects()
            self.hint.refresh()
            self.app.files.look_after(self.app.config.snapshot_quota_mb << 20)
        with contextlib.suppress(Exception):
            self.app.upkeep.containers()
        with contextlib.suppress(Exception):
            if self.screen.color:
                import rich.markdown  # noqa: F401
            if (self.app.config.home / "registry.json").exists():
                self.app.upkeep.instances()

    def _take_letters(self) -> None:
        from p8.repl.post import Post

        def keep(text: str) -> None:
            self._draft = text

        self._post = Post(self.app, self.screen, self._prompt, keep, self._interrupt)
        self._post.open()

    def _read(self) -> str | None:
        """Return the next line; None when the person, or the terminal, has gone."""
        try:
            draft, self._draft = self._draft, ""
            self._look()
            self._prompt.bottom_toolbar = None if self.status.is_hidden and not self.hint.take() else self._toolbar
            before, every_s = self._post.begin if self._post is not None else None, self.app.view.get("status_s")
            return self._prompt.prompt(
                [("class:prompt", PROMPT)], default=draft, pre_run=before, refresh_interval=every_s
            )
        except EOFError:
            return None
        except KeyboardInterrupt:
            return ""
        except OSError:  # the terminal is gone
            self._leaving = self._leaving or "hangup"
            return None

    def leave(self) -> None:
        """Save and say how to come back. Safe to call twice, and without a terminal."""
        if self._left:
            return
        self._left = True
        if self._post is not None:
            self._post.close()
        session = self.app.sessions.current
        session_id = session.session_id if session is not None else self._last_session
        if session is not None and self._leaving not in {"", "quit"}:
            with contextlib.suppress(P8Error, OSError):  # row C4: what was there when it ended in a hurry
                self.app.checkpoints.create(f"left by {self._leaving}", emergency=True)
        self.app.close()
        with contextlib.suppress(OSError, ValueError):
            for notice in self.app.store.notices():
                if notice.level == "error":
                    self.screen.notice(notice)
            if session_id:
                self.screen.line(f"Saved. Come back with: p8 -r {session_id}  (or p8 -c)", "dim")

    def crashed(self) -> None:
        """Write down an error nobody foresaw; the session is saved all the same."""
        import traceback

        self._leaving = "a crash"
        file = self.app.config.home / "logs" / "crash.log"
        with contextlib.suppress(OSError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as out:
                out.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} p8 {__version__}\n{traceback.format_exc()}")
        failure = P8Error("P8 failed; your session is saved", f"what happened is in {file}")
        with contextlib.suppress(Exception):
            self.app.note_error(failure)
        with contextlib.suppress(OSError):
            self.screen.error(failure)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Let signals end the REPL in good order, and Ctrl-C end what is running."""

        def end(number: int, _frame: object) -> None:
            self._leaving = signal.Signals(number).name
            if self._cancel is not None:
                self._cancel.set()
            application = self._prompt.app
            if application.is_running and application.loop is not None:
                application.loop.call_soon_threadsafe(self._exit_prompt)

        old = {n: signal.signal(n, end) for n in (signal.SIGTERM, signal.SIGHUP)}
        old[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            for number, handler in old.items():
                if number != signal.SIGHUP:  # what comes after the terminal's end must not end the saving
                    signal.signal(number, handler)

    def _exit_prompt(self) -> None:
        with contextlib.suppress(Exception):
            self._prompt.app.exit(exception=EOFError)

    def _interrupt(self, _number: int = 0, _frame: object = None) -> None:
        if self._cancel is not None:
            self._cancel.set()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors into lines."""
        try:
            yield
        except Held as error:
            self.app.note_error(error)
            self._held(error)
        except P8Error as error:
            self.screen.error(error)
            self.app.note_error(error)

    # what is typed

    def _take(self, line: str) -> None:
        """Record a line, then do what it says."""
        app = self.app
        if app.sessions.current is not None:
            app.sessions.custody.still_mine(app.sessions.current.session_id)
        with self._kept():
            app.ensure_session()
        app.box.settle()
        if line.startswith("/") and not line.startswith("//"):
            with self._kept():
                app.sessions.record_command(line)
            self._command(line[1:])
        elif line.startswith("!"):
            with self._kept():
                app.sessions.record_command(line)
            self._shell(line[1:].strip())
        else:
            from p8.core.turns import ask

            with self._kept():
                ask(app.sessions, line[1:] if line.startswith("//") else line)
            self._answer()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Let a disk that refuses cost a notice and not the line: it is kept in memory and written later."""
        with contextlib.suppress(StoreError):
            yield

    def _command(self, text: str) -> None:
        words = self.app.registry.split(text)
        if not words:
            return
        found, given = self.app.registry.find(words, "repl")
        if "--help" in given or "-h" in given:
            from p8.commands.help import usage

            self.screen.line(usage(found, "repl"))
            return
        self._show(found.run(self.app, found.parse(given)))

    def _show(self, result: Result) -> None:
        effect = result.effect
        if not isinstance(effect, OpenPicker):
            self.screen.draw(*result.views)
        if isinstance(effect, OpenPicker):
            self._pick(effect)
        elif isinstance(effect, Choose):
            from p8.repl.chooser import choose

            value = choose(effect.title, effect.options, self.screen)
            if value is not None:
                self._command(f"{effect.command} {value}")
        elif isinstance(effect, Confirm):
            if self._yes(effect.question):
                self._command(effect.command)
        elif isinstance(effect, Switched):
            self._switched(effect)
        elif isinstance(effect, RunLines):
            from p8.commands.doing import do_lines

            do_lines(effect, self._shell, self._command)
        elif isinstance(effect, Retry):
            self._answer()
        elif isinstance(effect, Quit):
            self._leaving = "quit"
        elif effect is not None:
            from p8.repl.live import perform

            perform(effect, self.screen)

    def _yes(self, question: str, default: bool = False) -> bool:
        self.screen.write(f"{escape(question)} {'[Y/n]' if default else '[y/N]'} ")
        try:
            said = sys.stdin.readline()
        except (KeyboardInterrupt, OSError):
            said = "n"
        return default if said == "\n" else said.strip().lower() in {"y", "yes"}

    # answers and commands of the shell

    @contextlib.contextmanager
    def _running(self, cancel: threading.Event) -> Iterator[None]:
        self._cancel = cancel
        try:
            yield
        finally:
            self._cancel = None

    def _answer(self, also: Callable[[Chunk], None] = lambda _chunk: None) -> None:
        from p8.assistants.base import Cancel
        from p8.core.turns import run_turn
        from p8.repl.answer import Answer

        app = self.app
        assistant = app.assistant
        if app.sessions.current is not None and app.sessions.current.metadata.get("model") != assistant.name:
            with self._kept():
                app.sessions.annotate(model=assistant.name)
        cancel = Cancel()
        with self._running(cancel), Answer(self.screen, cancel) as shown:
            for chunk in run_turn(
                app.sessions, assistant, cancel, idle_timeout_s=app.config.idle_timeout_s, permissions=app.permissions,
                context=app.conversation, ask=shown.ask if self.screen.is_terminal else None,
            ):  # fmt: skip
                shown.take(chunk)
                also(chunk)
        self.status.tokens += shown.tokens
        if cancel.is_set():
            self.screen.line("Stopped; what came is kept. /retry asks again.", "dim")
        with self._kept():
            for checkpoint in app.after_turn():
                self.screen.line(f"◆ {checkpoint.name}", "dim")

    def _shell(self, line: str, **about: Any) -> int:
        """Run a line and record it, with whatever else is known `about` it; return its exit code."""
        if not line:
            return 0
        if line == "cd" or line.startswith("cd "):
            self._change_directory(line[2:].strip())
            return 0
        stop = threading.Event()
        with self._running(stop), self.app.files.around():
            done, where = self.app.box.run(line, lambda text: self.screen.write(escape(text)), stop, self._tell)
        if done.output and not done.output.endswith("\n"):
            self.screen.write("\n")
        if done.exit_code:
            self.screen.line(f"exit {done.exit_code} · {done.duration_s:.1f} s", "bad")
        with self._kept():
            self.app.box.record(line, done, where, **about)
        return done.exit_code

    def _tell(self, text: str) -> None:
        self.screen.line(escape(text, lines=False), "dim")

    def _change_directory(self, words: str) -> None:
        target = (self.app.directory / Path(words or "~").expanduser()).resolve()
        if not target.is_dir():
            raise P8Error(f"no directory {target}", "the session stays where it was")
        self.app.move(target)
        self.screen.line(str(target), "dim")
        with self._kept():
            self.app.sessions.record_execution(f"cd {words}", exit_code=0, output="", directory=str(target))

    # sessions

    def _open(self, options: dict[str, Any]) -> None:
        if "resume" in options and not options["resume"]:
            self._pick(OpenPicker())
            return
        row = wanted(self.app, options)
        if row is not None:
            self._resume(row.id, bool(options.get("take_over")))

    def _pick(self, effect: OpenPicker) -> None:
        from p8.repl.picker import pick_session

        picked = pick_session(self.app, query=effect.query, everywhere=effect.everywhere)
        if picked is None:
            return
        if picked.action == "fork":
            made = self.app.sessions.fork_session(picked.session_id, picked.seq, picked.stream)
            self._switched(Switched(made.session_id, "forked"))
        elif picked.action == "view":
            self._command(f"session show {picked.session_id}")
        else:
            self._resume(picked.session_id)

    def _resume(self, session_id: str, take_over: bool = False) -> None:
        before = self.app.store.sessions.get(session_id)
        self.app.sessions.resume_session(session_id, take_over=take_over)
        self._switched(Switched(session_id, "resumed"), before)

    def _held(self, error: Held) -> None:
        """Offer what can be done with a session that another p8 has open."""
        from p8.repl.chooser import choose

        self.screen.error(error)
        options = (
            ("view", "View it, read-only", "Its transcript, as it stands."),
            (
                "fork",
                "Fork it",
                "Go on from where it stands, in a session of your own; the other one is not disturbed.",
            ),
            ("take", "Take it over", "The other p8 is told, and what is typed there begins a new session."),
        )
        choice = choose("It is open elsewhere", options, self.screen)
        with self._told():
            if choice == "view":
                self._command(f"session show {error.session_id}")
            elif choice == "fork":
                self._switched(Switched(self.app.sessions.fork_session(error.session_id).session_id, "forked"))
            elif choice == "take":
                self._resume(error.session_id, take_over=True)

    def _switched(self, effect: Switched, before: SessionRow | None = None) -> None:
        history = ThreadedHistory(TypedLines(self.app, effect.session_id, self._drawn))
        self._prompt.history = self._prompt.default_buffer.history = history
        self.status.tokens = 0
        self._draft = effect.draft
        if self._is_open:  # else it is left to what warms up: the first prompt waits for none of it
            self.app.box.settle()
        self._look()
        if effect.reason == "new":
            return
        from p8.commands.model import answer_as_before

        row = self.app.store.sessions.get(effect.session_id)
        self.status.tokens = row.tokens_in + row.tokens_out
        answer_as_before(self.app, row)
        self._show_tail(row)
        self._show_changes(before or row)

    def _show_tail(self, row: SessionRow) -> None:
        from p8.commands.session import age
        from p8.commands.transcript import entry_views

        self.screen.write(self.screen.style(f"── {escape(row.title, lines=False) or 'untitled'} ", "title"))
        self.screen.line(f"{row.messages} messages, {age(row.last_us)} ago", "dim")
        kinds = ("message", "execution", "checkpoint")
        for entry in self.app.store.sessions.entries(row.id, kinds=kinds, limit=TAIL_ENTRIES, newest=True):
            # At the start a transcript is shown as it was written: importing the renderer would cost half the start.
            rendered = "rich.markdown" in sys.modules
            views = entry_views(entry)
            self.screen.draw(*(v if rendered or not isinstance(v, Markdown) else Text(v.text) for v in views))

    def _show_changes(self, row: SessionRow) -> None:
        from p8.core.reality import told

        lines = changes_since(self.app, row)
        if row.status is Status.ABANDONED:
            lines = ["its process died; everything it had recorded is here", *lines]
        for line in lines:
            self.screen.write(self.screen.style("! ", "warning") + escape(line, lines=False) + "\n")
        if lines and self.app.sessions.current is not None:
            with self._kept():
                self.app.sessions.record_message({"role": "system", "content": told(lines)})
        self.app.note_place()

    # the rest

    def _offer_model(self) -> None:
        from p8.assistants.local import NOTE

        note = self.app.config.home / "states" / "no-local-model"
        if note.exists() or not self.screen.is_terminal:
            self.screen.line("No model is set: /model lists them, /model install local fetches the offline one.", "dim")
            return
        self.screen.line("No model is configured yet. P8 can fetch an offline one (95 MB, no key, no account):")
        self.screen.line(f"SmolLM2-135M-Instruct, {NOTE}.", "dim")
        if not self._yes("Fetch it now?", default=True):
            with contextlib.suppress(OSError):
                self.app.store.start()
                note.touch()
            self.screen.line("/model install local fetches it any time; /model lists what else there is.", "dim")
            return
        with self._told():
            self._command("model install local")

    def _progress(self, fraction: float, text: str) -> None:
        if not self.screen.is_terminal:
            return
        filled = int(fraction * 24)
        self.screen.write(f"\r{'━' * filled}{'─' * (24 - filled)} {int(fraction * 100):3d}% {text[:44]:<44}")
        if fraction >= 1:
            self.screen.write("\r" + " " * 76 + "\r")

    def _toolbar(self) -> StyleAndTextTuples:
        width = self.screen.width
        return [*self.status.parts(width), *self.hint.parts(width)]

    def _heard(self, change: Change) -> None:
        """Note what the person should know; shown above the prompt."""
        if change.kind == "notice":
            self._said.append(Notice(change.data["level"], change.name, change.data["text"], change.data["hint"]))
        elif change.kind == "lease":
            text = "another p8 has taken this session over; what you type next begins a new one"
            self._said.append(Notice("warning", "lease", text))
        elif change.kind == "session" and change.stream and change.stream != self._last_session:
            self._last_session = change.stream
            return
        else:
            return
        application = self._prompt.app
        if application.is_running and application.loop is not None:
            application.loop.call_soon_threadsafe(lambda: run_in_terminal(self._show_notices))

    def _show_notices(self) -> None:
        said, self._said = self._said, []
        with contextlib.suppress(OSError):
            for notice in said:
                self.screen.notice(notice)
