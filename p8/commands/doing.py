"""Doing the lines of a quick action: in the REPL as if they were typed, elsewhere in a session of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from p8.commands.registry import Confirm, RunLines, View
from p8.core.boxed import record_run, run_here
from p8.errors import UsageError

if TYPE_CHECKING:
    from p8.app import App


class RunsShell(Protocol):
    """Runs a line in the shell, records it with what is known about it, and returns its exit code."""

    def __call__(self, line: str, **about: Any) -> int:
        """Run a line."""


def do_lines(effect: RunLines, run_shell: RunsShell, run_command: Callable[[str], object]) -> int:
    """
    Do lines one after another; the first that fails ends it.

    Args:
        effect: the lines.
        run_shell: runs what stands behind a `!`.
        run_command: runs what stands behind a `/`.

    Returns:
        the exit code of the last line that was done; 0 for a command of P8's own.

    Raises:
        P8Error: a command of P8's own failed.
    """
    code = 0
    for line in effect.lines:
        if line.startswith("/"):
            run_command(line[1:])
            continue
        code = run_shell(line[1:].strip(), **effect.about)
        if code:
            break
    return code


class Done(NamedTuple):
    """What came of the lines of an action."""

    session: str
    about: dict[str, Any]
    exit_code: int  #: of the last line that was done; negative for a signal
    runs: list[dict[str, Any]]  #: each line, with its exit code, seconds and output, or with a command's data

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"session": self.session, **self.about, "exit_code": self.exit_code, "runs": self.runs}


def do_alone(
    app: App,
    effect: RunLines,
    show: Callable[[str], None] = lambda _text: None,
    draw: Callable[[tuple[View, ...]], None] = lambda _views: None,
    stop: threading.Event | None = None,
) -> Done:
    """
    Do lines outside the REPL, recorded in the session that `effect` names or in a new one.

    Args:
        app: has no current session, and has one afterwards where `effect` names it.
        effect: the lines.
        show: given what they print, as it comes.
        draw: given what P8's own commands show.
        stop: when set, what runs is ended.

    Raises:
        P8Error: the session is open elsewhere, or a command of P8's own failed.
    """
    done: list[dict[str, Any]] = []
    if effect.session:
        app.sessions.resume_session(effect.session)
    session = app.ensure_session()
    app.settle_project()
    typed = str(effect.about.get("typed", ""))
    if not effect.session:
        app.sessions.annotate(title=typed[:72], title_source="auto")
    app.sessions.record_command(typed)
    about = {key: value for key, value in effect.about.items() if key != "typed"}

    def run_shell(line: str, **more: Any) -> int:
        with app.files.around():
            run = run_here(app.config, app.directory, line, show, stop or threading.Event())
        record_run(app.sessions, app.directory, line, run, **more)
        done.append({"line": line, "exit_code": run.exit_code, "duration_s": run.duration_s, "output": run.output})
        return run.exit_code

    def run_command(text: str) -> None:
        found, given = app.registry.find(app.registry.split(text), "repl")
        result = found.run(app, found.parse(given))
        if isinstance(result.effect, Confirm):
            raise UsageError(result.effect.question, "do it in the REPL")
        done.append({"line": f"/{text}", "data": result.data})
        draw(result.views)

    try:
        code = do_lines(effect._replace(about=about), run_shell, run_command)
    finally:
        if not effect.session and app.sessions.current is not None:
            app.sessions.end_session()
    return Done(session.session_id, about, code, done)
