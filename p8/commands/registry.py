"""How a command is declared, found and called: one verb, three doors.

A command is a function `(app, args) -> Result`. The decorator only labels it; `Registry.add` takes it in, so that
importing a module has no effect. The REPL, the `p8` CLI and the HTTP API find it here by name, parse the words
against its declared arguments, call it, and differ only in how they ask and how they draw.

    @command("session rename", "Give a session a name.", Arg("title", nargs="+"), Arg("--id", complete="session"))
    def rename(app: App, args: Namespace) -> Result: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from types import SimpleNamespace

from p8.errors import UsageError
from p8.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

    from p8.app import App
    from p8.containers.base import Channel

ENTRY_POINTS = "p8.commands"
CALLED = {"repl": "/", "cli": "p8 "}  #: what stands before a command at each door where it is typed


class Arg(Record):
    """
    One argument of a command, in argparse's terms.

    `complete` says what Tab offers: "session", "checkpoint", "model", "path", "command", "tag", "action", "project",
    "agent", "memory", "view" (a setting of it, with its value) or nothing.
    """

    name: str  #: "title", or "--id" for an option
    help: str = ""
    complete: str = ""
    nargs: str | int | None = None
    default: Any = None
    choices: tuple[str, ...] | None = None
    flag: bool = False  #: an option that takes no value
    type: Callable[[str], Any] | None = None


# What a command shows. Data, not text: each door draws it its own way.


class Text(Record):
    """Lines for a person."""

    text: str
    style: str = ""  #: "", "dim", "good", "warning", "bad" or "title"


class Markdown(Record):
    """Text in Markdown, as an assistant writes it."""

    text: str


class Table(Record):
    """Rows under headings. The last column takes what width is left; cells are plain text, drawn escaped."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str = "Nothing yet."  #: said when there are no rows


class Card(Record):
    """Names with values, one a line, under a heading."""

    title: str
    fields: tuple[tuple[str, str], ...]


class Plot(Record):
    """Numbers as a picture: bars by label, or columns or lines over an axis from the first label to the last."""

    title: str
    kind: str  #: "bars", "columns" or "lines"
    labels: tuple[str, ...]
    series: tuple[tuple[str, tuple[float, ...]], ...]  #: name and values; bars and columns take the first
    unit: str = ""


class Meter(Record):
    """A part of a whole."""

    label: str
    part: float  #: 0 to 1; more is drawn as full
    note: str = ""  #: said behind it
    style: str = ""  #: as `Text` has it


class Meters(Record):
    """Parts of wholes below each other, to be compared at a glance."""

    rows: tuple[Meter, ...]
    title: str = ""


View = Text | Markdown | Table | Card | Plot | Meters


# What a command asks of its door, beyond drawing. A door that cannot do it draws the views and leaves it.


class OpenPicker(Record):
    """Let the person choose a session and resume it."""

    query: str = ""
    everywhere: bool = False  #: all projects, not only this one


class Choose(Record):
    """Let the person choose one of `options` (value, label, preview), then run `command` with the value appended."""

    title: str
    options: tuple[tuple[str, str, str], ...]
    command: str


class Confirm(Record):
    """Ask before something that cannot be taken back; on yes, run `command`."""

    question: str
    command: str


class Switched(Record):
    """The current session is another one now: reload history, title and transcript."""

    session_id: str
    reason: str  #: "new", "resumed" or "forked"
    draft: str = ""  #: what the next line begins with


class RunLines(Record):
    """Do these lines as if they were typed (`!command`, `/command`), each only after the one before went well."""

    lines: tuple[str, ...]
    about: dict[str, Any]  #: recorded with each execution
    session: str = ""  #: in the shell: record it in this session instead of a new one


class Follow(Record):
    """Show what comes, each as JSON and as a line for a person, until the person stops it."""

    events: Iterator[tuple[dict[str, Any], str]]


class Retry(Record):
    """Ask the assistant again for the last message."""


class Quit(Record):
    """Leave the REPL."""


class Attach(Record):
    """Give the person's terminal to a program; `open` is given (rows, columns), or None without a terminal."""

    name: str
    open: Callable[[tuple[int, int] | None], Channel]


class Stream(Record):
    """Show what comes, as it comes, until it ends or the person has seen enough."""

    pieces: Iterator[bytes]


class Live(Record):
    """Draw anew every so many seconds, until the person has seen enough."""

    draw: Callable[[], tuple[View, ...]]
    every_s: float
    close: Callable[[], None] = lambda: None


class Serve(Record):
    """Become a server: `what` is web, mcp or acp; `options` are its own."""

    what: str
    options: Mapping[str, Any]


Effect = OpenPicker | Choose | Confirm | Switched | RunLines | Follow | Retry | Quit | Attach | Stream | Live | Serve


class Result(Record):
    """What came of a command. `data` is what `--json` prints and the API returns: plain values only."""

    data: Any = None
    views: tuple[View, ...] = ()
    effect: Effect | None = None
    status: int = 0  #: of the process, where the command did what it was told and what it found is not well


Run = Callable[["App", "Namespace"], Result]


class Command(Record):
    """A declared command."""

    path: str  #: "session rename"; one word or two
    help: str  #: one sentence
    args: tuple[Arg, ...]
    run: Run
    aliases: tuple[str, ...] = ()  #: other full paths: ("sess rename",)
    examples: tuple[str, ...] = ()  #: as typed after the slash: ("session rename Fix the parser",)
    doors: tuple[str, ...] = ("repl", "cli")  #: where it is offered
    hidden: bool = False  #: works, but is not listed

    def parser(self, door: str) -> ArgumentParser:
        """Return an argparse parser, which names the command as a door has it."""
        import argparse

        program = CALLED[door]
        parser = _parser_class()(
            prog=f"{program}{self.path}",
            description=self.help,
            epilog="\n".join(["examples:", *(f"  {program}{e}" for e in self.examples)]) if self.examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        for arg in self.args:
            options: dict[str, Any] = {"help": arg.help, "default": arg.default}
            if arg.flag:
                options |= {"action": "store_true", "default": False}
            else:
                options |= {"nargs": arg.nargs, "choices": arg.choices, "type": arg.type or str}
            parser.add_argument(arg.name, **options)
        return parser

    def parse(self, words: Sequence[str], door: str = "repl") -> Namespace:
        """
        Fit words typed at a door, "repl" or "cli", to the declared arguments; what is returned has `door` too.

        Raises:
            UsageError: they do not fit; the hint is the usage line.
        """
        if not words and all(arg.name.startswith("-") or arg.nargs in {"*", "?"} for arg in self.args):
            return self.fit({}, door)  # without argparse, whose import alone costs some milliseconds
        found = self.parser(door).parse_args(list(words))
        found.door = door
        return found

    def fit(self, values: Mapping[str, Any], door: str) -> Namespace:
        """
        Return arguments by name, without words: for a door that has them apart. Those not given have their defaults.

        Raises:
            UsageError: there is no such argument, or one that must be given is not.
        """
        found: dict[str, Any] = {"door": door}
        for arg in self.args:
            name = arg.name.lstrip("-").replace("-", "_")
            option = arg.name.startswith("-")
            many = arg.nargs in {"*", "+"} and not option and arg.default is None
            found[name] = values.get(name, False if arg.flag else ([] if many else arg.default))
            if name not in values and not option and arg.nargs in {None, "+"}:
                raise UsageError(f"{self.path} needs {name}", arg.help)
        strange = values.keys() - found.keys()
        if strange:
            raise UsageError(f"{self.path} has no {', '.join(sorted(strange))}")
        return SimpleNamespace(**found)  # type: ignore[return-value]


@lru_cache(1)
def _parser_class() -> type[ArgumentParser]:
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
            raise UsageError(f"{self.prog}: {message}", usage)

    return Parser


def command(
    path: str,
    help: str,
    *args: Arg,
    aliases: tuple[str, ...] = (),
    examples: tuple[str, ...] = (),
    doors: tuple[str, ...] = ("repl", "cli"),
    hidden: bool = False,
) -> Callable[[Run], Command]:
    """Label a function as a command; `Registry.add` makes it known."""

    def label(run: Run) -> Command:
        return Command(path, help, args, run, aliases, examples, doors, hidden)

    return label


#: first word of a command -> the modules here that declare it, so that only what is asked for is imported
BUILT_IN = {
    "agent": "agent",
    "checkpoint": "checkpoint files", "rewind": "files",
    "import": "transfer",
    "doctor": "doctor",
    "export": "export",
    "help": "help", "settings": "help", "quit": "help", "exit": "help", "q": "help",
    "instance": "instance engine backup", "image": "engine", "watch": "engine", "shell-init": "engine",
    "backup": "backup", "restore": "backup",
    "log": "log", "do": "action", "action": "action",
    "model": "model",
    "project": "project discovery",
    "search": "talk", "history": "talk", "retry": "talk",
    "serve": "serve", "mcp": "serve", "acp": "serve",
    "session": "session forks plan", "sess": "session forks plan", "resume": "session",
    "remember": "memory", "recall": "memory", "forget": "memory",
    "stats": "stats", "context": "context discovery", "handoff": "handoff", "view": "view",
}  # fmt: skip


class Registry:
    """
    All commands by path. Open to third parties through entry points `p8.commands`.

    Args:
        plugins: names of entry points to load, comma separated; "all" for every one, nothing for none.
        tell: told of a plugin that fails; it costs a line, never a start.
    """

    def __init__(self, plugins: str = "", tell: Callable[[str], None] = print) -> None:
        self.plugins = plugins
        self.tell = tell
        self.commands: dict[str, Command] = {}
        self.aliases: dict[str, str] = {}
        self._loaded: set[str] = set()

    def load(self, word: str = "", until: str = "") -> None:
        """
        Import what declares commands.

        Args:
            word: those that begin with it; every one where none is given.
            until: stop as soon as there is a command of this path.
        """
        wanted = BUILT_IN.get(word) or " ".join(sorted(set(BUILT_IN.values())))
        for name in wanted.split():
            if name in self._loaded:
                continue
            if until in self.commands or until in self.aliases:
                return
            self._loaded.add(name)
            self.add_module(import_module(f"p8.commands.{name}"))
        if self.plugins and word not in BUILT_IN and "entry points" not in self._loaded:
            self._loaded.add("entry points")
            self._load_plugins()

    def _load_plugins(self) -> None:
        from importlib.metadata import entry_points

        chosen = {name.strip() for name in self.plugins.split(",")}
        for point in entry_points(group=ENTRY_POINTS):
            if "all" not in chosen and point.name not in chosen:
                continue
            try:
                loaded = point.load()
                loaded(self) if callable(loaded) and not isinstance(loaded, Command) else self.add(loaded)
            except Exception as error:
                self.tell(f"plugin {point.name} failed and is left out: {type(error).__name__}: {error}")

    def add(self, *commands: Command) -> None:
        """Take commands in. A later one does not replace an earlier one of the same path."""
        for one in commands:
            self.commands.setdefault(one.path, one)
            for alias in one.aliases:
                self.aliases.setdefault(alias, one.path)

    def add_module(self, module: object) -> None:
        """Take in every command a module declares."""
        self.add(*(value for value in vars(module).values() if isinstance(value, Command)))

    def find(self, words: Sequence[str], door: str) -> tuple[Command, list[str]]:
        """
        Return the command that `words` begin with (two words before one) and the words left.

        Raises:
            UsageError: there is none, and the hint names the nearest ones; or it is offered at another door.
        """
        if words:
            self.load(words[0], " ".join(words[:2]) if len(words) > 1 else "")
        for length in (2, 1):
            name = " ".join(words[:length])
            found = self.commands.get(self.aliases.get(name, name))
            if len(words) >= length and found is not None:
                if door not in found.doors:
                    raise UsageError(f"{found.path} works in the REPL only", f"p8, then /{' '.join(words)[:60]}")
                return found, list(words[length:])
        raise UsageError(f"no command is called {words[0]!r}" if words else "no command given", self._near(words, door))

    def names(self, door: str) -> list[str]:
        """Return the paths offered at a door, sorted, without hidden ones and aliases."""
        self.load()
        return sorted(path for path, c in self.commands.items() if door in c.doors and not c.hidden)

    def split(self, line: str) -> list[str]:
        """
        Split a command line as a shell would.

        Raises:
            UsageError: a quote is not closed.
        """
        import shlex

        try:
            return shlex.split(line)
        except ValueError as error:
            raise UsageError(f"{line[:60]!r}: {error}", "close the quote or put a \\ before it") from error

    def _near(self, words: Sequence[str], door: str) -> str:
        import difflib

        known: Iterable[str] = {*self.names(door), *self.aliases}
        near = difflib.get_close_matches(" ".join(words[:2]), known, 3, 0.6) or difflib.get_close_matches(
            words[0] if words else "", known, 3, 0.5
        )
        return f"did you mean {' or '.join(near)}?" if near else "help lists them"
