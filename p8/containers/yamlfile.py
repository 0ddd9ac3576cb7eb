"""YAML with line numbers.

Reads a small file into plain values, says at which line something is wrong, and changes one value in the text without
touching the rest. Refuses: tags, documents that grow by aliases, anything large.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from p8.errors import ConfigError

LARGEST_BYTES = 65536
MOST_NODES = 5000
DEEPEST = 12
T = TypeVar("T")
Where = tuple[str, ...]


class Document:
    """
    A file as read.

    Args:
        name: what errors call it.
        text: its contents.

    Raises:
        ConfigError: it is not YAML that P8 takes; the message has the line.

    Attributes:
        values: a mapping of plain values; empty for an empty file.
    """

    def __init__(self, name: str, text: str) -> None:
        import yaml

        self.name = name
        self.text = text
        self._lines: dict[Where, int] = {}
        self._nodes = 0
        if len(text) > LARGEST_BYTES:
            raise ConfigError(f"{name} is larger than {LARGEST_BYTES} bytes", "it is no configuration")
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            raise ConfigError(f"{name}, line {line}: {error.problem or error.context}", "it must be YAML") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{name}: {error}", "it must be YAML") from error
        self._root = root
        value = {} if root is None else self._plain(root, ())
        if not isinstance(value, dict):
            raise ConfigError(f"{name}, line 1: names with values are wanted", "such as `resources:`")
        self.values: dict[str, Any] = value

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file; one that does not exist is empty."""
        try:
            return cls(path.name, path.read_text("utf-8") if path.exists() else "")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", "") from error

    def _plain(self, node: Any, where: Where) -> Any:
        import yaml

        self._nodes += 1
        line = node.start_mark.line + 1
        self._lines.setdefault(where, line)
        if self._nodes > MOST_NODES or len(where) > DEEPEST:
            raise ConfigError(f"{self.name}, line {line}: too much of it", "it is no configuration")
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key, value in node.value:
                name = str(key.value)
                if name in found:
                    raise ConfigError(f"{self.name}, line {key.start_mark.line + 1}: {name} stands there twice", "")
                self._lines[*where, name] = key.start_mark.line + 1
                found[name] = self._plain(value, (*where, name))
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*where, str(number))) for number, item in enumerate(node.value)]
        try:
            return yaml.constructor.SafeConstructor().construct_object(node)
        except yaml.YAMLError as error:
            raise ConfigError(f"{self.name}, line {line}: {getattr(error, 'problem', error)}", "") from error

    def line(self, where: Where) -> int:
        """Return the line of a place, counted from 1; 0 where it is not there."""
        return self._lines.get(where, 0)

    def wrong(self, where: Where, what: str, hint: str = "") -> ConfigError:
        """Return the error that something is wrong at a place, with the place's line."""
        at = where
        while at and at not in self._lines:
            at = at[:-1]
        line = f", line {self._lines[at]}" if at in self._lines and at else ""
        return ConfigError(f"{self.name}{line}: {'.'.join(where)}: {what}", hint)

    def with_value(self, where: Where, value: str) -> str:
        """
        Return the text with one value set; comments and order stay.

        Args:
            where: the path of names.
            value: as it shall stand in the file.

        Raises:
            ConfigError: the path leads through something that has no names.
        """
        import yaml

        node, lines = self._root, self.text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        if node is None:
            return "".join(lines) + _block(where, value, 0)
        for depth, name in enumerate(where):
            if not isinstance(node, yaml.MappingNode):
                raise self.wrong(where[:depth], "has a value, and no names under it")
            child = next((v for k, v in node.value if str(k.value) == name), None)
            if child is None:
                return self._insert(lines, node, where[depth:], value)
            node = child
        if isinstance(node, yaml.MappingNode):
            raise self.wrong(
                where, "has names under it", f"set one of {', '.join(str(k.value) for k, _ in node.value)}"
            )
        text = "".join(lines)
        start, end = node.start_mark.index, node.end_mark.index
        space = "" if start == 0 or text[start - 1].isspace() else " "
        return text[:start] + space + value + text[end:]

    def _insert(self, lines: list[str], node: Any, where: Where, value: str) -> str:
        first = node.value[0][0] if node.value else None
        if node.flow_style or first is None:
            raise self.wrong(where, "cannot be added to a mapping in braces", "edit the file by hand")
        at = first.start_mark.line
        return "".join([*lines[:at], _block(where, value, first.start_mark.column), *lines[at:]])


def _block(where: Where, value: str, indent: int) -> str:
    *above, last = where
    lines = [f"{' ' * (indent + 2 * depth)}{name}:\n" for depth, name in enumerate(above)]
    return "".join(lines) + f"{' ' * (indent + 2 * len(above))}{last}: {value}\n"


def written(value: Any) -> str:
    """Return plain values as YAML, in the order they have."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False))


class Section:
    """
    One mapping of a document, read name by name; what was not asked for is an error.

    Args:
        document: for the lines.
        values: the mapping.
        where: its path.
    """

    def __init__(self, document: Document, values: Any, where: Where = ()) -> None:
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            raise document.wrong(where, f"names with values are wanted, not {values!r}")
        self.document = document
        self.where = where
        self._values = dict(values)
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def take(self, name: str, parse: Callable[[Any], T], default: T) -> T:
        """Return a value as `parse` makes it; `parse` raises ValueError with what is wanted instead."""
        self._known.add(name)
        if name not in self._values or self._values[name] is None:
            return default
        try:
            return parse(self._values[name])
        except ValueError as error:
            raise self.document.wrong((*self.where, name), str(error)) from error

    def section(self, name: str) -> Section:
        """Return a mapping within."""
        self._known.add(name)
        return Section(self.document, self._values.get(name), (*self.where, name))

    def wrong(self, name: str, what: str) -> ConfigError:
        """Return the error that a value is wrong."""
        return self.document.wrong((*self.where, name), what)

    def done(self) -> None:
        """Refuse names that nobody asked for."""
        for name in self._values:
            if name not in self._known:
                near = difflib.get_close_matches(name, self._known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(self._known))}"
                raise self.document.wrong((*self.where, name), "there is no such setting", hint)
