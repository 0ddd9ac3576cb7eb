"""The `p8` and `ai-session` commands: words in, the same verbs as the REPL, tables or JSON out.

Whatever needs time is imported when it is needed: `p8 --version` imports nothing of P8, a list no terminal library.
Exit statuses are those of `errors.py`. With `--json`, results go to stdout and errors to stderr, each one JSON value.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from p8.app import App
    from p8.commands.registry import Follow, Result, RunLines
    from p8.errors import P8Error
    from p8.repl.screen import Screen

HELP = """\
usage: p8 [options]                 talk: the REPL
       p8 [options] -p QUESTION     ask once, print the answer; a piped stdin is added to the question
       p8 COMMAND [words] [--json]  the REPL's commands: p8 help lists them

options:
  -c, --continue            go on with the last session of this directory's project
  -r, --resume [WHICH]      go on with a session, by id, title or part of one; without WHICH, pick one
  -p, --print QUESTION      ask once and leave
      --model NAME          who answers; p8 model list shows them
      --json                print JSON
      --take-over           with -c or -r: even if another p8 has the session open
      --version             print the version
  -h, --help                print this; after a command, its own help

examples:
  p8
  p8 -c
  p8 -r "parser bug"
  git diff | p8 -p "review this"
  p8 session list --all --json
  p8 search "connection reset" after:7d
  eval "$(p8 completion bash)"
"""

SHELLS = {
    "bash": """_p8() { local IFS=$'\\n'; COMPREPLY=($(p8 __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)); }
complete -o default -F _p8 p8
""",
    "zsh": """_p8() {
  local -a found
  found=("${(@f)$(p8 __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found
}
compdef _p8 p8
""",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `p8` with these words (those of the process where none are given); return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-V"]):
        from p8 import __version__

        print(f"p8 {__version__}")
        return 0
    if words in (["--help"], ["-h"]):
        print(HELP, end="")
        return 0
    os.umask(0o077)
    try:
        return _run(words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter does not fail again while it closes
        return 141
    except KeyboardInterrupt:
        return 130


#: verbs of `ai-session` that are no commands of `p8`'s own
VERBS = (
    "start", "stop", "restart", "attach", "list", "show", "find", "stats", "logs", "top", "config", "health", "heal",
    "sync", "pause", "resume", "remove", "events", "backup", "restore",
)  # fmt: skip


def ai_session(argv: Sequence[str] | None = None) -> int:
    """Run `ai-session`: verbs for instances; any other word is a command of `p8`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in {"--help", "-h"}:
        from p8.commands.registry import Registry

        known = Registry()
        known.load("instance")
        print("usage: ai-session VERB [words] [--json]; ai-session VERB --help says more\n")
        for verb in VERBS:
            print(f"  {verb:<10}{known.commands[f'instance {verb}'].help}")
        return 0 if words else 2
    return main(["instance", *words] if words[0] in VERBS else words)


def _run(words: list[str]) -> int:
    from p8.errors import P8Error

    options: dict[str, Any] = {}
    try:
        rest = _options(words, options)
        return _start(rest, options)
    except P8Error as error:
        return _fail(error, "json" in options or "--json" in words)


def _options(words: list[str], options: dict[str, Any]) -> list[str]:
    """Take the leading options; return what begins with the command."""
    from p8.errors import UsageError

    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if name in {"-c", "--continue"}:
            options["continue"] = True
        elif name in {"-r", "--resume"}:
            taken = value or (rest.pop(0) if rest and not rest[0].startswith("-") else "")
            options["resume"] = taken
        elif name in {"-p", "--print", "--model"}:
            if not value and not rest:
                raise UsageError(f"{name} needs a value", f'p8 {name} "…"')
            options["print" if name in {"-p", "--print"} else "model"] = value or rest.pop(0)
        elif name == "--json":
            options["json"] = True
        elif name == "--take-over":
            options["take_over"] = True
        else:
            raise UsageError(f"no option is called {word!r}", "p8 --help lists them")
    return rest


def _start(rest: list[str], options: dict[str, Any]) -> int:
    from p8.config import load_config
    from p8.errors import P8Error, UsageError

    config = load_config()
    if "model" in options:
        config = config._replace(model=options["model"])
    if rest:
        if rest[0] == "completion":
            return _completion(rest[1:])
        from p8.app import make_app

        app = make_app(config, background=False)
        try:
            if rest[0] == "__complete":
                return _complete(app, rest[1:])
            return _command(app, rest, as_json="json" in options)
        except P8Error as error:
            if not isinstance(error, UsageError):  # a line that fits no command is the shell's business
                app.note_error(error)
            raise
        finally:
            app.close()
    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    from p8.app import make_app

    app = make_app(config)
    if "print" in options or not sys.stdin.isatty():
        from p8.repl.oneshot import answer

        return answer(app, options.get("print", ""), piped, options)
    from p8.repl.loop import run

    return run(app, options)


def _command(app: App, rest: list[str], as_json: bool) -> int:
    from p8.repl.screen import Screen

    words = [word for word in rest if word != "--json"]
    as_json = as_json or len(words) < len(rest)
    found, given = app.registry.find(words, "cli")
    screen = Screen(color=app.config.color)
    if screen.color:
        screen.use_theme(app.theme)
    if "--help" in given or "-h" in given:
        from p8.commands.help import usage

        screen.line(usage(found, "cli"))
        return 0
    args = found.parse(given, "cli")
    app.progress = _progress(screen) if screen.is_terminal and not as_json else app.progress
    result = found.run(app, args)
    return _finish(app, result, screen, as_json)


def _finish(app: App, result: Result, screen: Screen, as_json: bool) -> int:
    from p8.commands.registry import Attach, Choose, Confirm, Follow, Live, RunLines, Serve, Stream, Table
    from p8.errors import UsageError

    if isinstance(result.effect, Confirm):
        if as_json or not (sys.stdin.isatty() and screen.is_terminal):
            raise UsageError(result.effect.question, "--yes does it without asking")
        screen.draw(*result.views)
        screen.write(f"{result.effect.question} [y/N] ")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            screen.line("Nothing was done.", "dim")
            return 0
        return _command(app, app.registry.split(result.effect.command), as_json)
    if isinstance(result.effect, Serve):
        from p8.server import serve

        return serve(app.config, app.directory, result.effect)
    if isinstance(result.effect, Follow):
        return _follow(result.effect, screen, as_json)
    if isinstance(result.effect, RunLines):
        return _done(app, result.effect, screen, as_json)
    if isinstance(result.effect, Attach | Stream | Live) and not as_json:
        from p8.repl.live import perform

        screen.draw(*result.views)
        return perform(result.effect, screen)
    if as_json:
        import orjson

        sys.stdout.write(orjson.dumps(result.data, default=str, option=orjson.OPT_INDENT_2).decode() + "\n")
        return result.status
    screen.draw(*result.views)
    if isinstance(result.effect, Choose):
        screen.draw(Table(("", ""), tuple((label, preview) for _, label, preview in result.effect.options)))
    return result.status


def _done(app: App, effect: RunLines, screen: Screen, as_json: bool) -> int:
    """Do lines and print what they print; return the status of the one that failed, 128 more for a signal."""
    from p8.commands.doing import do_alone
    from p8.repl.screen import escape

    if as_json:
        import orjson

        done = do_alone(app, effect)
        sys.stdout.write(orjson.dumps(done.to_dict(), default=str, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        done = do_alone(app, effect, lambda text: screen.write(escape(text)), lambda views: screen.draw(*views))
    return 128 - done.exit_code if done.exit_code < 0 else min(done.exit_code, 255)


def _follow(effect: Follow, screen: Screen, as_json: bool) -> int:
    """Print what comes, a line each, until the reader or the person stops it."""
    import orjson

    for data, line in effect.events:
        if as_json:
            sys.stdout.write(orjson.dumps(data, default=str).decode() + "\n")
            sys.stdout.flush()
        else:
            screen.line(line)
    return 0


def _progress(screen: Screen) -> Any:
    def draw(fraction: float, text: str) -> None:
        filled = int(fraction * 30)
        screen.write(f"\r{'━' * filled}{'─' * (30 - filled)} {int(fraction * 100):3d}%  {text[:40]:<40}")
        if fraction >= 1:
            screen.write("\r" + " " * 78 + "\r")

    return draw


def _fail(error: P8Error, as_json: bool) -> int:
    if as_json:
        import json

        data = {
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "status": error.exit_status,
        }
        print(json.dumps(data), file=sys.stderr)
    else:
        from p8.repl.screen import escape

        hint = f"\n  {escape(error.hint)}" if error.hint else ""
        print(f"p8: {escape(error.message)}{hint}", file=sys.stderr)
    return error.exit_status


def _completion(words: list[str]) -> int:
    from p8.errors import UsageError

    shell = words[0] if words else "bash"
    if shell not in SHELLS:
        raise UsageError(f"no completion for {shell!r}", 'eval "$(p8 completion bash)", or zsh')
    print(SHELLS[shell], end="")
    return 0


def _complete(app: App, words: list[str]) -> int:
    """Print what the last of `words` may become, a line each; quiet about anything that goes wrong."""
    from p8.errors import P8Error

    *before, last = words or [""]
    try:
        names = app.registry.names("cli")
        if before and before[-1] in {"-r", "--resume"}:
            found = [row.title or row.id for row in app.store.sessions.page(project=app.project.id, limit=50)]
        else:
            prefix = " ".join(before)
            tails = [name.removeprefix(prefix).strip().split(" ")[0] for name in names if name.startswith(prefix)]
            found = [*sorted({tail for tail in tails if tail}), *_values(app, before, last)]
    except P8Error:
        return 0
    for value in found:
        if value.lower().startswith(last.lower()):
            print(value)
    return 0


def _values(app: App, before: list[str], last: str) -> list[str]:
    if not before:
        return ["-c", "-r", "-p", "--model", "--json", "--version", "--help", "completion"]
    command, _ = app.registry.find(before, "cli")
    kinds = {arg.complete for arg in command.args if arg.complete}
    options = [arg.name for arg in command.args if arg.name.startswith("--")] + ["--json", "--help"]
    if "action" in kinds:
        typed = " ".join([*before[len(command.path.split()) :], ""])
        return [*(text.rpartition(" ")[2] for text, _ in app.actions.completions(typed)), *options]
    if "view" in kinds:
        from p8.core.ui import offered

        typed = " ".join([*before[len(command.path.split()) :], ""])
        return [*(text.rpartition(" ")[2] for text, _ in offered(typed)), *options]
    if "session" in kinds:
        return [*(row.title or row.id for row in app.store.sessions.page(project=None, limit=50)), *options]
    if "project" in kinds:
        return [*(row.project.id for row in app.portfolio.listed()), *options]
    if "memory" in kinds:
        return [*(memory.id for memory in app.memories.all()), *options]
    if "model" in kinds:
        return [*(model.name for model in app.catalog.models()), *options]
    if "path" in kinds:
        return [*_paths(last), *options]
    return options


def _paths(start: str) -> list[str]:
    """Return the files and folders that a path may become, as it was begun."""
    from pathlib import Path

    folder, slash, begun = start.rpartition("/")
    try:
        with os.scandir(Path(folder + slash).expanduser()) as found:
            names = [entry.name + ("/" if entry.is_dir() else "") for entry in found]
    except (OSError, RuntimeError):
        return []
    hidden = begun.startswith(".")
    return sorted(folder + slash + name for name in names if hidden or not name.startswith("."))[:500]
