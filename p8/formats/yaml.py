"""YAML as people write it by hand: definitions and configurations. Plain data, with the line at fault in errors.

Refuses: tags that make objects, aliases that grow without end, the same key twice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from p8.errors import FormatError

MOST_BYTES = 1 << 20


def read_yaml(file: Path) -> Any:
    """
    Return what a YAML file holds; None for an empty one.

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


def parse_yaml(text: str, where: str) -> Any:
    """
    Return what a YAML text holds.

    Args:
        text: the text.
        where: what to call it in errors.

    Raises:
        FormatError: it is no YAML, uses an alias, or names a key twice; the message names the line.
    """
    import yaml

    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.events.AliasEvent):
                raise FormatError(f"{where}, line {event.start_mark.line + 1}: aliases are not taken", "write it out")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _check(node, where)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        said = getattr(error, "problem", None) or str(error)
        raise FormatError(f"{where}{line}: {said}", "see the examples in the built-in ones") from error
    except (RecursionError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from error


def _check(node: Any, where: str) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            if name in seen:
                raise FormatError(f"{where}, line {key.start_mark.line + 1}: {name!r} comes twice", "remove one")
            seen.add(name)
            _check(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check(value, where)
