"""Quick actions: defined in YAML, checked before anything runs, done as if typed, suggested by what usually comes next.

Three sources, a later one replaces an earlier one's action of the same name: built in, the person's, the project's.
What a project brings along runs only after the person has agreed to that file as it is (row C8).
Refuses: to run anything. Lines are handed to the door, which runs and records them like any other.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from p8.errors import ConfigError, FormatError, NotFound, UsageError
from p8.formats.yaml import read_yaml

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
HOLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
TYPES = ("text", "int", "number", "bool", "choice", "path")
FIELDS = {"help", "run", "parameters", "when"}
LIMITS = {"type", "default", "help", "choices", "min", "max", "pattern", "must_exist"}
SIGNALS = {
    "dirty", "clean", "ahead", "behind", "failing", "passing", "tests", "budget", "no-checkpoint", "python", "node",
    "rust", "go",
}  # fmt: skip
MOST_ACTIONS, MOST_LINES, MOST_PARAMETERS = 200, 20, 20
PROJECT_FILE = Path(".ai-sessions") / "actions.yaml"
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

    def value(self, text: Any, directory: Path) -> str:
        """
        Return a value as it goes into a line, not yet quoted.

        Raises:
            UsageError: it is none of this parameter's values.
        """
        said = str(text).strip() if not isinstance(text, bool) else str(text).lower()
        if "\0" in said or "\n" in said:
            raise self._wrong(said, "one line of text")
        if self.type in {"int", "number"}:
            return self._number(said)
        if self.type == "bool":
            if said.lower() not in {"true", "false", "yes", "no", "1", "0"}:
                raise self._wrong(said, "true or false")
            return "true" if said.lower() in {"true", "yes", "1"} else "false"
        if self.type == "choice" and said not in self.choices:
            raise self._wrong(said, f"one of {', '.join(self.choices)}")
        if self.pattern and not re.fullmatch(self.pattern, said):
            raise self._wrong(said, f"text like {self.pattern}")
        if self.type == "path":
            if said.startswith("-"):
                raise self._wrong(said, "a path; ./ goes before one that begins with a dash")
            if self.must_exist and not (directory / said).exists():
                raise self._wrong(said, "a path that exists")
        return said

    def _number(self, said: str) -> str:
        kind = "a whole number" if self.type == "int" else "a number"
        span = "".join((f", at least {self.low:g}" if self.low is not None else "",
                        f", at most {self.high:g}" if self.high is not None else ""))  # fmt: skip
        try:
            number = int(said) if self.type == "int" else float(said)
        except ValueError:
            raise self._wrong(said, kind + span) from None
        if math.isnan(number) or (self.low is not None and number < self.low) or (
            self.high is not None and number > self.high
        ):  # fmt: skip
            raise self._wrong(said, kind + span)
        return str(number)

    def _wrong(self, said: str, wanted: str) -> UsageError:
        return UsageError(f"{self.name}={said[:60]!r} is not {wanted}", self.help)


class Action(NamedTuple):
    """A defined action."""

    name: str
    help: str
    run: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    when: tuple[str, ...]
    source: str  #: "built in", "user" or "project"

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
        filled = {}
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
        """Return whether a line typed by hand is what this action does: its first line, with any values."""
        first = self.run[0] if self.run[0].startswith("/") else f"!{self.run[0]}"
        parts = [re.escape(part.strip()) for part in HOLE.split(first)[::2]]
        return re.fullmatch(r"\s*(?:\S.*)?".join(parts).rstrip(), line.strip()) is not None


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
    open_ = [name for name in known if name not in named]
    if loose and not open_:
        raise UsageError(f"{action.name} does not take {loose[0]!r}", action.usage())
    for at, name in enumerate(open_[: len(loose)]):
        named[name] = " ".join(loose[at:]) if at == len(open_) - 1 else loose[at]
    return named


class Book:
    """
    The actions at hand.

    Args:
        home: P8's home, with the person's own.
        root: returns the project's directory, with the project's.
    """

    def __init__(self, home: Path, root: Path) -> None:
        self.problems: list[str] = []
        self._actions: dict[str, Action] = {}
        self.project_file = root / PROJECT_FILE
        for file, source in ((BUILT_IN, "built in"), (home / "actions.yaml", "user"), (self.project_file, "project")):
            try:
                state = file.stat()
                self._actions |= {a.name: a for a in _kept(file, source, state.st_mtime_ns, state.st_size)}
            except FileNotFoundError:
                continue
            except (FormatError, ConfigError) as error:  # the others still work
                self.problems.append(error.message)

    def all(self) -> list[Action]:
        """Return all, by name."""
        return [self._actions[name] for name in sorted(self._actions)]

    def get(self, name: str) -> Action:
        """
        Return one.

        Raises:
            NotFound: there is none of that name; the hint names the nearest ones.
        """
        import difflib

        found = self._actions.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self._actions, 3, 0.5)
            raise NotFound(
                f"no action is called {name!r}", f"did you mean {' or '.join(near)}?" if near else "/do lists them"
            )
        return found

    def named(self, line: str) -> str:
        """Return the name of the action that a typed line is, or ""."""
        return next((a.name for a in self.all() if a.matches(line)), "")

    def fingerprint(self) -> str:
        """Return what tells the project's file as it is now from any other."""
        try:
            return hashlib.sha256(self.project_file.read_bytes()).hexdigest()
        except OSError:
            return ""


@lru_cache(16)
def _kept(file: Path, source: str, _changed_ns: int, _size: int) -> tuple[Action, ...]:
    """Return a file's actions; it is read again when it has changed."""
    return tuple(read_actions(file, source))


def read_actions(file: Path, source: str) -> list[Action]:
    """
    Read a file of actions.

    Raises:
        FileNotFoundError: there is none.
        FormatError: it is no YAML.
        ConfigError: a definition makes no sense; the message names it.
    """
    data = read_yaml(file)
    if data is None:
        return []
    if not isinstance(data, dict) or len(data) > MOST_ACTIONS:
        raise ConfigError(f"{file}: actions by name are expected, at most {MOST_ACTIONS}")
    return [_action(str(name), said, source, f"{file}: {name}") for name, said in data.items()]


def _action(name: str, said: Any, source: str, where: str) -> Action:
    if not NAME.fullmatch(name):
        raise ConfigError(f"{where}: not a name", "letters, digits and hyphens")
    if not isinstance(said, dict) or set(said) - FIELDS or "run" not in said:
        raise ConfigError(f"{where}: it must have `run`, and may have {', '.join(sorted(FIELDS - {'run'}))}")
    run = [said["run"]] if isinstance(said["run"], str) else said["run"]
    if not isinstance(run, list) or not 0 < len(run) <= MOST_LINES or not all(_is_line(line) for line in run):
        raise ConfigError(f"{where}: `run` must be a line, or a list of at most {MOST_LINES}")
    parameters = said.get("parameters") or {}
    if not isinstance(parameters, dict) or len(parameters) > MOST_PARAMETERS:
        raise ConfigError(f"{where}: `parameters` must be by name")
    made = tuple(_parameter(str(n), p, f"{where}: {n}") for n, p in parameters.items())
    holes = {hole for line in run for hole in HOLE.findall(line)}
    if holes - {p.name for p in made}:
        raise ConfigError(f"{where}: {{{min(holes - {p.name for p in made})}}} is no parameter of it")
    when = said.get("when") or []
    if not isinstance(when, list) or set(map(str, when)) - SIGNALS:
        raise ConfigError(f"{where}: `when` may name {', '.join(sorted(SIGNALS))}")
    return Action(name, str(said.get("help", "")), tuple(run), made, tuple(map(str, when)), source)


def _is_line(line: Any) -> bool:
    return isinstance(line, str) and bool(line.strip()) and "\n" not in line and "\0" not in line


def _parameter(name: str, said: Any, where: str) -> Parameter:
    said = {"type": said} if isinstance(said, str) else said
    if not isinstance(said, dict) or set(said) - LIMITS or said.get("type", "text") not in TYPES:
        raise ConfigError(f"{where}: `type` must be {', '.join(TYPES)}; besides {', '.join(sorted(LIMITS - {'type'}))}")
    if not HOLE.fullmatch(f"{{{name}}}"):
        raise ConfigError(f"{where}: not a name of a parameter", "small letters, digits, _")
    kind = said.get("type", "text")
    choices = said.get("choices", [])
    limits = [said.get("min"), said.get("max")]
    if (kind == "choice") != bool(choices) or not isinstance(choices, list):
        raise ConfigError(f"{where}: a choice needs `choices`, and nothing else has them")
    if not all(limit is None or (isinstance(limit, int | float) and not isinstance(limit, bool)) for limit in limits):
        raise ConfigError(f"{where}: `min` and `max` must be numbers")
    pattern = said.get("pattern", "")
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{where}: `pattern` cannot be read: {error}") from error
    made = Parameter(
        name, kind, said.get("default", MISSING), str(said.get("help", "")), tuple(map(str, choices)), limits[0],
        limits[1], str(pattern), bool(said.get("must_exist", False)),
    )  # fmt: skip
    if made.default is not MISSING and not (made.must_exist and kind == "path"):
        try:
            made.value(made.default, Path())
        except UsageError as error:
            raise ConfigError(f"{where}: the default does not fit: {error.message}") from error
    return made


def signals_of(facts: Mapping[str, Any], names: Iterable[str]) -> frozenset[str]:
    """
    Return the signals that hold now.

    Args:
        facts: changed, ahead, behind (numbers, of git), last_exit (of the last run of tests, or None), budget (part
            used of what the model takes or the plan allows), checkpoint (whether there is one).
        names: of the files in the project's directory.
    """
    there = set(names)
    holds = {
        "dirty": bool(facts.get("changed")), "clean": facts.get("changed") == 0, "ahead": bool(facts.get("ahead")),
        "behind": bool(facts.get("behind")), "failing": bool(facts.get("last_exit")),
        "passing": facts.get("last_exit") == 0, "tests": facts.get("last_exit") is not None,
        "budget": (facts.get("budget") or 0) >= 0.7, "no-checkpoint": not facts.get("checkpoint"),
        "python": bool(there & {"pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "requirements.txt"}),
        "node": "package.json" in there, "rust": "Cargo.toml" in there, "go": "go.mod" in there,
    }  # fmt: skip
    return frozenset(name for name, value in holds.items() if value)
