"""YAML as people write it by hand: definitions and configurations. Plain data, and the line each part stands on.

Refuses: tags that make objects, aliases that grow without end, the same key twice, and files too large to be by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from p8.errors import FormatError

MOST_BYTES = 65_536
MOST_DEPTH = 40
Key = str | int


class Document(NamedTuple):
    """What a YAML file holds, and where."""

    data: Any  #: None for an empty one
    where: str  #: the file's name, for errors
    lines: dict[tuple[Key, ...], int]  #: keys and indices from the top -> line, counted from 1

    def at(self, *path: Key) -> str:
        """Return `file, line N` of a part, or of the nearest one around it that is known."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return f"{self.where}, line {self.lines[path[:length]]}"
        return self.where


def read_yaml(file: Path) -> Document:
    """
    Read a YAML file.

    Raises:
        FileNotFoundError: there is none.
        FormatError: it cannot be read, is too large or is no YAML; the message names the line.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as source:
            raw = source.read(MOST_BYTES + 1)
        text = raw.decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > MOST_BYTES:
        raise FormatError(f"{file} is too large", f"at most {MOST_BYTES >> 10} kB")
    return parse_yaml(text, str(file))


def parse_yaml(text: str, where: str) -> Document:
    """
    Read a YAML text.

    Args:
        text: the text.
        where: what to call it in errors.

    Raises:
        FormatError: it is no YAML, uses an alias, or names a key twice; the message names the line.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _look(yaml.parse(text, Loader=loader), where)
        lines: dict[tuple[Key, ...], int] = {}
        _walk(yaml.compose(text, Loader=loader), where, (), lines)
        return Document(yaml.load(text, Loader=loader), where, lines)  # noqa: S506 one of the safe ones, in C
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        raise FormatError(f"{where}{line}: {said}", "see the examples in the built-in ones") from error
    except (RecursionError, ValueError, TypeError) as error:
        raise FormatError(f"{where}: {error}") from error


def write_yaml(data: Any) -> str:
    """Return plain data as YAML, keys in their order."""
    import yaml

    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def _look(events: Iterable[Any], where: str) -> None:
    """Refuse what must not be built: aliases, and nesting so deep that the C library would overrun its stack."""
    import yaml

    depth = 0
    for event in events:
        line = event.start_mark.line + 1
        depth += isinstance(event, yaml.events.CollectionStartEvent)
        depth -= isinstance(event, yaml.events.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise FormatError(f"{where}, line {line}: nested too deeply", f"at most {MOST_DEPTH} levels")
        if isinstance(event, yaml.events.AliasEvent):
            raise FormatError(f"{where}, line {line}: aliases are not taken", "write it out")


def _walk(node: Any, where: str, path: tuple[Key, ...], lines: dict[tuple[Key, ...], int]) -> None:
    import yaml

    if node is None:
        return
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            line = key.start_mark.line + 1
            if name in seen:
                raise FormatError(f"{where}, line {line}: {name!r} comes twice", "remove one")
            seen.add(name)
            lines[*path, name] = line
            _walk(value, where, (*path, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, where, (*path, index), lines)
