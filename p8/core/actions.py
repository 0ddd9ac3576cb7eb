"""Quick actions: defined in YAML, checked before anything runs, done as if typed (row C8).

Three sources, a later one replaces an earlier one's action of the same name: built in, the person's, the project's.
What a project brings along runs only after the person has agreed to it as it is.
Refuses: to run anything. Lines are handed to the door, which runs and records them like any other.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p8.containers.yamlfile import LARGEST_BYTES, Document, written
from p8.errors import ConfigError, Conflict, NotFound, StoreError, UsageError
from p8.workspace import git
from p8.workspace.git import read

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
#: a value's place in a line; `${name}` is the shell's own, and what a backslash stands before is left as it is
HOLE = re.compile(r"(?<![$\\])\{([a-z][a-z0-9_]*)\}")
TYPES = ("text", "int", "number", "bool", "choice", "path")
FIELDS = {"help", "run", "parameters", "when"}
LIMITS = {"type", "default", "help", "choices", "min", "max", "pattern", "must_exist"}
SIGNALS = {
    "dirty", "clean", "ahead", "behind", "failing", "passing", "budget", "stale-checkpoint", "python", "node", "rust",
    "go",
}  # fmt: skip
MOST_LINES, MOST_PARAMETERS, MOST_FILES = 20, 20, 50
PROJECT_FOLDER = Path(".ai-sessions") / "actions"
USER_FOLDER = Path("configs") / "actions"
BUILT_IN = Path(__file__).with_name("actions.yaml")
MISSING = object()


class Parameter(NamedTuple):
    """One parameter of an action."""

    name: str
    type: str
    default: Any = MISSING  #: `MISSING` where one must be given
    help: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    pattern: str = ""
    must_exist: bool = False
    where: str = ""  #: file and line of its definition

    def value(self, said: Any, directory: Path) -> str:
        """
        Return a value as it goes into a line, not yet quoted.

        Raises:
            UsageError: it is none of this parameter's values.
        """
        text = str(said).strip() if not isinstance(said, bool) else str(said).lower()
        if "\0" in text or "\n" in text or "\r" in text:
            raise self._wrong(text, "one line of text")
        if self.type in {"int", "number"}:
            return self._number(text)
        if self.type == "bool":
            if text.lower() not in {"true", "false", "yes", "no", "1", "0"}:
                raise self._wrong(text, "true or false")
            return "true" if text.lower() in {"true", "yes", "1"} else "false"
        if self.type == "choice" and text not in self.choices:
            raise self._wrong(text, f"one of {', '.join(self.choices)}")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise self._wrong(text, f"text like {self.pattern}")
        if self.type == "path":
            if text.startswith("-") or not text:
                raise self._wrong(text, "a path; ./ goes before one that begins with a dash")
            if self.must_exist and not (directory / text).exists():
                raise self._wrong(text, "a path that exists")
        return text

    def _number(self, text: str) -> str:
        kind = "a whole number" if self.type == "int" else "a number"
        span = "".join((f", at least {self.low:g}" if self.low is not None else "",
                        f", at most {self.high:g}" if self.high is not None else ""))  # fmt: skip
        try:
            number = int(text) if self.type == "int" else float(text)
        except ValueError:
            raise self._wrong(text, kind + span) from None
        out = (self.low is not None and number < self.low) or (self.high is not None and number > self.high)
        if out or not math.isfinite(number):
            raise self._wrong(text, kind + span)
        return str(number)

    def _wrong(self, text: str, wanted: str) -> UsageError:
        hint = ", ".join(part for part in (self.help, f"as {self.where} has it" if self.where else "") if part)
        return UsageError(f"{self.name}={text[:60]!r} is not {wanted}", hint)


class Action(NamedTuple):
    """A defined action."""

    name: str
    help: str
    run: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    when: tuple[str, ...]
    source: str  #: "built in", "user" or "project"
    where: str = ""  #: file and line of its definition

    def lines(self, values: Mapping[str, Any], directory: Path) -> tuple[str, ...]:
        """
        Return the lines to do, with every value checked and quoted.

        Raises:
            UsageError: a value is missing, unknown or does not fit; nothing may be run then.
        """
        known = {parameter.name for parameter in self.parameters}
        for name in values:
            if name not in known:
                raise UsageError(f"{self.name} has no parameter {name!r}", self.usage())
        filled: dict[str, str] = {}
        for parameter in self.parameters:
            given = values.get(parameter.name, parameter.default)
            if given is MISSING:
                raise UsageError(f"{self.name} needs {parameter.name}", self.usage())
            filled[parameter.name] = parameter.value(given, directory)
        return tuple(
            line if line.startswith("/") else f"!{line}"
            for line in (HOLE.sub(lambda hole: shlex.quote(filled[hole.group(1)]), line) for line in self.run)
        )

    def usage(self) -> str:
        """Return how it is called."""
        parts = [
            f"{p.name}={p.type.upper()}" if p.default is MISSING else f"[{p.name}={p.default}]" for p in self.parameters
        ]
        return " ".join((f"/do {self.name}", *parts))

    def matches(self, line: str) -> bool:
        """Return whether a line typed by hand is what this action does: its only line, with any values."""
        if len(self.run) > 1:
            return False
        first = self.run[0] if self.run[0].startswith("/") else f"!{self.run[0]}"
        head, *rest = HOLE.split(first)[::2]
        text, at = line.strip(), len(head.rstrip())
        if not rest:
            return text == head.strip()
        if not text.startswith(head.rstrip()) or (head[-1:].isspace() and text[at : at + 1].strip()):
            return False
        for part in rest[:-1]:
            at = text.find(part.strip(), at)
            if at < 0:
                return False
            at += len(part.strip())
        tail = rest[-1].strip()
        return text.endswith(tail) and len(text) - len(tail) >= at


def values_of(words: Sequence[str], action: Action) -> dict[str, str]:
    """
    Read `name=value` words; a word without a name goes to the next parameter, and the last takes all that are left.

    Raises:
        UsageError: there are too many words.
    """
    named: dict[str, str] = {}
    loose: list[str] = []
    known = [parameter.name for parameter in action.parameters]
    for word in words:
        name, sign, value = word.partition("=")
        if sign and name in known:
            named[name] = value
        else:
            loose.append(word)
    left = [name for name in known if name not in named]
    if loose and not left:
        raise UsageError(f"{action.name} does not take {loose[0]!r}", action.usage())
    for at, name in enumerate(left[: len(loose)]):
        named[name] = " ".join(loose[at:]) if at == len(left) - 1 else loose[at]
    return named


class Book:
    """
    The actions at hand.

    Args:
        home: P8's home, with the person's own in `configs/actions/*.yaml`.
        root: the project's directory, with its own in `.ai-sessions/actions/*.yaml`.

    Attributes:
        problems: what is wrong with definitions, each with its file and line; the others still work.
    """

    def __init__(self, home: Path, root: Path) -> None:
        self.problems: list[str] = []
        self.user_folder = home / USER_FOLDER
        self.project_folder = root / PROJECT_FOLDER
        self._actions: dict[str, Action] = {}
        self._stamp = self._stamp_now()
        for file in (BUILT_IN, *_files(self.user_folder), *_files(self.project_folder)):
            source = {self.user_folder: "user", self.project_folder: "project"}.get(file.parent, "built in")
            found, problems = read_actions(file, source)
            self._actions |= {action.name: action for action in found}
            self.problems += problems

    def is_of(self, home: Path, root: Path) -> bool:
        """Return whether it was read from this home and project, and no file has changed since."""
        folders = (home / USER_FOLDER, root / PROJECT_FOLDER)
        return folders == (self.user_folder, self.project_folder) and self.is_current()

    def is_current(self) -> bool:
        """Return whether no file has changed since it was read."""
        return self._stamp == self._stamp_now()

    def _stamp_now(self) -> list[tuple[str, int, int]]:
        found = []
        for file in (*_files(self.user_folder), *_files(self.project_folder)):
            try:
                state = file.stat()
            except OSError:
                continue
            found.append((str(file), state.st_mtime_ns, state.st_size))
        return found

    def all(self) -> list[Action]:
        """Return all, by name."""
        return [self._actions[name] for name in sorted(self._actions)]

    def get(self, name: str) -> Action:
        """
        Return one.

        Raises:
            NotFound: there is none of that name; the hint names the nearest ones.
        """
        found = self._actions.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self._actions, 3, 0.5)
            raise NotFound(
                f"no action is called {name!r}", f"did you mean {' or '.join(near)}?" if near else "/do lists them"
            )
        return found

    def named(self, line: str) -> str:
        """Return the name of the action that a typed line is, or ""."""
        return next((name for name, action in self._actions.items() if action.matches(line)), "")

    def completions(self, typed: str) -> list[tuple[str, str]]:
        """Return what the words after `/do` may become, whole, each with a note."""
        words = typed.split(" ")
        if len(words) == 1:
            return [(action.name, action.help) for action in self.all()]
        action = self._actions.get(words[0])
        if action is None:
            return []
        given = {word.partition("=")[0] for word in words[1:-1]}
        head = " ".join(words[:-1])
        found = []
        for one in action.parameters:
            choices = one.choices or (("true", "false") if one.type == "bool" else ("",))
            if one.name not in given:
                found += [(f"{head} {one.name}={choice}", one.help or one.type) for choice in choices]
        return found

    def fingerprint(self) -> str:
        """Return what tells the project's files as they are now from any others; "" where it has none."""
        whole = hashlib.sha256()
        files = _files(self.project_folder)
        for file in files:
            try:
                whole.update(repr((file.name, file.read_bytes())).encode())
            except OSError:
                return ""
        return whole.hexdigest() if files else ""

    # those of the person's own

    def save(self, name: str, definition: Mapping[str, Any], replace: bool = False) -> Action:
        """
        Write an action down, to be there in every project from now on.

        Raises:
            ConfigError: it makes no sense.
            Conflict: there is one of that name already, and it is not to be replaced.
            StoreError: the disk refuses.
        """
        file = self.user_folder / f"{name}.yaml"
        text = written({name: {key: value for key, value in definition.items() if value}})
        found, problems = actions_in(Document(name, text), "user")
        if problems:
            raise ConfigError(problems[0])
        try:
            self.user_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            young = file.with_suffix(f".{os.getpid()}.new")
            if file.exists() and not replace:
                raise Conflict(f"there is an action {name!r} already", "--replace replaces it")
            young.write_text(text, "utf-8")
            young.replace(file)
        except OSError as error:
            raise StoreError(f"{file} cannot be written: {error.strerror}", "check the disk") from error
        return found[0]

    def remove(self, name: str) -> Path:
        """
        Remove an action of the person's own that has a file to itself; return where it is kept aside.

        Raises:
            NotFound: there is no such file.
        """
        file = self.user_folder / f"{name}.yaml"
        if not NAME.fullmatch(name) or not file.is_file():
            raise NotFound(f"no action of yours is called {name!r}", f"yours are in {self.user_folder}")
        aside = file.with_suffix(".removed")
        file.replace(aside)
        return aside


def book_at(home: Path, directory: Path, known: Book | None) -> Book:
    """Return the actions at hand in a directory, as their files are now: those already `known` where they still are."""
    found = git.find(directory)
    root = found.root if found is not None else directory
    return known if known is not None and known.is_of(home, root) else Book(home, root)


def _files(folder: Path) -> list[Path]:
    try:
        names = sorted(n for n in os.listdir(folder) if n.endswith((".yaml", ".yml")) and not n.startswith("."))
    except OSError:
        return []
    return [folder / name for name in names[:MOST_FILES]]


def read_actions(file: Path, source: str) -> tuple[list[Action], list[str]]:
    """Return the actions that a file defines, and what is wrong with the others, each with its line."""
    try:
        text = read(file, LARGEST_BYTES + 1).decode("utf-8")
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"]
    try:
        return actions_in(Document(str(file), text), source)
    except ConfigError as error:
        return [], [str(error)]


def actions_in(document: Document, source: str) -> tuple[list[Action], list[str]]:
    """Return the actions that a document defines, and what is wrong with the others, each with its line."""
    found, problems = [], []
    for name, said in document.values.items():
        try:
            found.append(_Reader(document, name, source).action(said))
        except ConfigError as error:
            problems.append(str(error))
    return found, problems


class _Reader:
    """Makes one action of its definition, or says which line is at fault."""

    def __init__(self, document: Document, name: str, source: str) -> None:
        self._document = document
        self._name = name
        self._source = source

    def _wrong(self, what: str, *path: str, hint: str = "") -> ConfigError:
        return self._document.wrong((self._name, *path), what, hint)

    def _at(self, *path: str) -> str:
        return f"{self._document.name}, line {self._document.line((self._name, *path))}"

    def action(self, said: Any) -> Action:
        if not NAME.fullmatch(self._name):
            raise self._wrong(f"{self._name!r} is no name", hint="small letters, digits and hyphens")
        if not isinstance(said, dict) or "run" not in said:
            raise self._wrong("an action needs `run`")
        for field in said:
            if field not in FIELDS:
                raise self._wrong(f"{field!r} is no part of an action", str(field), hint=", ".join(sorted(FIELDS)))
        run = [said["run"]] if isinstance(said["run"], str) else said["run"]
        if not isinstance(run, list) or not 0 < len(run) <= MOST_LINES:
            raise self._wrong(f"`run` must be a line, or a list of at most {MOST_LINES}", "run")
        given = said.get("parameters") or {}
        if not isinstance(given, dict) or len(given) > MOST_PARAMETERS:
            raise self._wrong("`parameters` must be by name", "parameters")
        parameters = tuple(self._parameter(str(n), p) for n, p in given.items())
        for index, line in enumerate(run):
            self._line(
                line, {p.name for p in parameters}, ("run", str(index)) if isinstance(said["run"], list) else ("run",)
            )
        when = said.get("when") or []
        for index, signal in enumerate(when if isinstance(when, list) else [when]):
            if str(signal) not in SIGNALS:
                raise self._wrong(f"{signal!r} is no signal", "when", str(index), hint=", ".join(sorted(SIGNALS)))
        help_ = said.get("help", "")
        where = self._at()
        names = tuple(map(str, when if isinstance(when, list) else [when]))
        return Action(self._name, str(help_), tuple(run), parameters, names, self._source, where)

    def _line(self, line: Any, known: set[str], path: tuple[str, ...]) -> None:
        if not isinstance(line, str) or not line.strip() or "\n" in line or "\0" in line:
            raise self._wrong("`run` must be lines of text", *path)
        quote = ""
        at = 0
        holes = {hole.start(): hole.group(1) for hole in HOLE.finditer(line)}
        while at < len(line):
            letter = line[at]
            if at in holes:
                if holes[at] not in known:
                    raise self._wrong(f"{{{holes[at]}}} is no parameter", *path)
                if quote:
                    raise self._wrong(
                        f"{{{holes[at]}}} stands within quotes", *path, hint="leave the quotes out: values are quoted"
                    )
            if letter == "\\" and quote != "'":
                at += 1
            elif quote:
                quote = "" if letter == quote else quote
            elif letter in "'\"`":
                quote = letter
            at += 1

    def _parameter(self, name: str, said: Any) -> Parameter:
        path = ("parameters", name)
        said = {"type": said} if isinstance(said, str) else {} if said is None else said
        if not HOLE.fullmatch(f"{{{name}}}"):
            raise self._wrong(f"{name!r} is no name of a parameter", *path, hint="small letters, digits, _")
        if not isinstance(said, dict):
            raise self._wrong(f"{name} must be a type, or a mapping", *path)
        for field in said:
            if field not in LIMITS:
                raise self._wrong(f"{field!r} is no part of a parameter", *path, field,
                                  hint=", ".join(sorted(LIMITS)))  # fmt: skip
        kind, choices = said.get("type", "text"), said.get("choices", [])
        if kind not in TYPES:
            raise self._wrong(f"{kind!r} is no type", *path, "type", hint=", ".join(TYPES))
        if (kind == "choice") != bool(choices) or not isinstance(choices, list):
            raise self._wrong("a choice needs `choices`, and nothing else has them", *path, "choices")
        for field in ("min", "max"):
            limit = said.get(field)
            if limit is not None and (not isinstance(limit, int | float) or isinstance(limit, bool)):
                raise self._wrong(f"`{field}` must be a number", *path, field)
        try:
            re.compile(said.get("pattern", ""))
        except (re.error, TypeError) as error:
            raise self._wrong(f"`pattern` cannot be read: {error}", *path, "pattern") from error
        made = Parameter(
            name, kind, said.get("default", MISSING), str(said.get("help", "")), tuple(map(str, choices)),
            said.get("min"), said.get("max"), said.get("pattern", ""), bool(said.get("must_exist", False)),
            self._at(*path),
        )  # fmt: skip
        # A pattern of somebody else's may take for ever: none is tried before the person has agreed to the file.
        foreign = self._source == "project" and made.pattern
        if made.default is not MISSING and not made.must_exist and not foreign:
            try:
                made.value(made.default, Path())
            except UsageError as error:
                raise self._wrong(f"the default does not fit: {error.message}", *path, "default") from error
        return made


def signals_of(facts: Mapping[str, Any], names: Sequence[str] = ()) -> frozenset[str]:
    """
    Return the signals that hold now.

    Args:
        facts: changed, ahead, behind (numbers, of git; none outside a repository), last_exit (of the last command run,
            or None), budget (part used of what the model takes, where known), checkpoint_s (seconds since the last one,
            or since the session began).
        names: of the files in the project's directory.
    """
    there = set(names)
    holds = {
        "dirty": bool(facts.get("changed")), "clean": facts.get("changed") == 0, "ahead": bool(facts.get("ahead")),
        "behind": bool(facts.get("behind")), "failing": bool(facts.get("last_exit")),
        "passing": facts.get("last_exit") == 0, "budget": (facts.get("budget") or 0) >= 0.7,
        "stale-checkpoint": (facts.get("checkpoint_s") or 0) >= 1800,
        "python": bool(there & {"pyproject.toml", "setup.cfg", "tox.ini", "requirements.txt"})
        or any(name.endswith(".py") for name in there),
        "node": "package.json" in there, "rust": "Cargo.toml" in there, "go": "go.mod" in there,
    }  # fmt: skip
    return frozenset(name for name, value in holds.items() if value)
