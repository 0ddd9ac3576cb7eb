"""`pattern`: `re.compile` for modules that every start imports; the work is done when it is first matched."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import compile as pattern
else:

    class pattern:  # noqa: N801 stands for the function it puts off
        """A regular expression, compiled at its first use; its methods are then the compiled one's own."""

        def __init__(self, text: str | bytes, flags: int = 0) -> None:
            self._source = text, flags

        def __getattr__(self, name: str) -> object:
            """Compile it; `re` remembers it for the other methods."""
            if name.startswith("_"):
                raise AttributeError(name)
            self.__dict__[name] = found = getattr(re.compile(*self._source), name)
            return found


__all__ = ["pattern"]
