"""Doing the lines of a quick action: in the REPL as if they were typed, in the shell in a session of their own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from p8.commands.registry import Confirm, RunLines
from p8.core import shell
from p8.errors import P8Error, UsageError
from p8.repl.screen import Screen, escape

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


def do_alone(app: App, effect: RunLines, screen: Screen, as_json: bool) -> int:
    """
    Do lines outside the REPL, recorded in the session that `effect` names or in a new one; print what they print.

    Returns:
        the exit status: that of the line that failed, 128 more than the signal for one that was ended.

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
        stop = threading.Event()
        with app.files.around():
            try:
                show = (lambda _text: None) if as_json else (lambda text: screen.write(escape(text)))
                run = shell.run(line, app.config.shell, app.directory, app.config.output_limit_bytes, show, stop)
            except OSError as error:
                raise P8Error(f"it cannot be run: {error.strerror}", f"in {app.directory}") from error
        app.sessions.record_execution(
            line, exit_code=run.exit_code, output=run.output, duration_s=run.duration_s, started_at=run.started_at,
            directory=str(app.directory), **more,
        )  # fmt: skip
        done.append({"line": line, "exit_code": run.exit_code, "duration_s": run.duration_s, "output": run.output})
        return run.exit_code

    def run_command(text: str) -> None:
        found, given = app.registry.find(app.registry.split(text), "repl")
        args = found.parse(given, "/")
        args.door = "repl"
        result = found.run(app, args)
        if isinstance(result.effect, Confirm):
            raise UsageError(result.effect.question, "do it in the REPL")
        done.append({"line": f"/{text}", "data": result.data})
        if not as_json:
            screen.draw(*result.views)

    try:
        code = do_lines(effect._replace(about=about), run_shell, run_command)
    finally:
        if not effect.session and app.sessions.current is not None:
            app.sessions.end_session()
    if as_json:
        import orjson

        data = {"session": session.session_id, **about, "exit_code": code, "runs": done}
        sys.stdout.write(orjson.dumps(data, default=str, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 128 - code if code < 0 else min(code, 255)
