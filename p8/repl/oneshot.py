"""`p8 -p "question"` and `echo … | p8`: one turn without a REPL, recorded like any other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from p8.assistants.base import Cancel, ChunkKind
from p8.core.turns import ask, run_turn
from p8.errors import P8Error, StoreError, UsageError
from p8.repl.opening import open_session
from p8.repl.screen import Screen, escape

if TYPE_CHECKING:
    from p8.app import App


def answer(app: App, question: str, piped: str, options: dict[str, Any]) -> int:
    """
    Ask once, print the answer as it comes, and leave.

    Args:
        app: the app; closed when this returns.
        question: what to ask; may be empty where something is piped in.
        piped: what came on stdin, added below the question.
        options: the command line's.

    Returns:
        the exit status.

    Raises:
        P8Error: nothing to ask, no model, or the model failed; what came was printed and recorded.
    """
    text = "\n\n".join(part for part in (question.strip(), piped.strip("\n")) if part)
    as_json = bool(options.get("json"))
    cancel = Cancel()
    try:
        if not text:
            raise UsageError("nothing to ask", 'p8 -p "question", or pipe something in')
        assistant = app.assistant
        open_session(app, options)
        session = app.ensure_session()
        app.settle_project()
        if "model" in options or not session.metadata.get("model"):
            app.sessions.annotate(model=assistant.name)
        try:
            ask(app.sessions, text)
        except StoreError as error:
            print(f"p8: {escape(str(error))}", file=sys.stderr)
        screen = Screen(color=False)
        pieces: list[str] = []
        for chunk in run_turn(
            app.sessions, assistant, cancel, idle_timeout_s=app.config.idle_timeout_s, permissions=app.permissions,
            context=app.conversation,
        ):  # fmt: skip
            if chunk.kind is ChunkKind.NOTICE:
                print(f"p8: {escape(chunk.text)}", file=sys.stderr)
            elif chunk.kind is ChunkKind.PERMISSION and chunk.data.get("by") == "nobody":
                asked = escape(f"{assistant.name} asked to: {chunk.text}", lines=False)
                print(f'p8: {asked}; nobody is here to allow it (permissions = "allow" does)', file=sys.stderr)
            if chunk.kind is ChunkKind.TEXT:
                pieces.append(chunk.text)
                if not as_json:
                    screen.write(escape(chunk.text) if screen.is_terminal else _writable(chunk.text))
        if not as_json:
            screen.write("\n")
        else:
            import orjson

            data = {"session": session.session_id, "model": assistant.name, "answer": _writable("".join(pieces))}
            sys.stdout.write(orjson.dumps(data).decode() + "\n")
        app.say_metrics("turn")
        return 0
    except KeyboardInterrupt:
        cancel.set()
        return 130
    except P8Error as error:
        app.note_error(error)
        raise
    finally:
        app.close()


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
