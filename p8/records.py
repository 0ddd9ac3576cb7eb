"""`Record`: `typing.NamedTuple` for modules that every start imports.

Defining a named tuple compiles its constructor there and then, a fifth of a millisecond each, and brings in `typing`.
A record compiles its own when the first one is made, as most are not made in most runs. For type checkers it is
`NamedTuple` itself, and it behaves as one: fields, defaults, `_replace`, `_asdict`, unpacking, pickling.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as Record
else:
    from collections import _tuplegetter as field_at

    class _Kind(type):
        """Makes the class: its fields are what its body annotates."""

        def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, object]) -> type:
            names = tuple(space.get("__annotations__", ()))
            defaults = {field: space[field] for field in names if field in space}
            if list(defaults) != list(names[len(names) - len(defaults) :]):
                raise TypeError(f"{name}: a field without a default stands behind one that has one")
            for number, field in enumerate(names):
                space[field] = field_at(number, "")
            space |= {"__slots__": (), "__match_args__": names, "_fields": names, "_field_defaults": defaults}
            return type.__new__(cls, name, bases or (tuple,), space)

    class Record(metaclass=_Kind):
        """A tuple whose items have names."""

        def __new__(cls, *values: object, **named: object) -> Record:  # noqa: PYI034 needs typing
            """Compile the constructor, then make the first one with it."""
            fields = ", ".join(cls._fields)
            source = f"lambda _cls, {fields}: _new(_cls, ({fields}{',' if fields else ''}))"
            new = eval(source, {"_new": tuple.__new__, "__builtins__": {}})  # noqa: S307 names of a class body
            new.__defaults__ = tuple(cls._field_defaults.values())
            new.__name__, new.__qualname__ = "__new__", f"{cls.__name__}.__new__"
            cls.__new__ = staticmethod(new)
            return new(cls, *values, **named)

        def __repr__(self) -> str:
            """Return it as it would be written."""
            pairs = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({pairs})"

        def __getnewargs__(self) -> tuple[object, ...]:
            """Let copies and pickles be made."""
            return tuple(self)

        @classmethod
        def _make(cls, values: object) -> Record:
            return cls(*values)

        def _asdict(self) -> dict[str, object]:
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changes: object) -> Record:
            made = self._make([changes.pop(name, value) for name, value in zip(self._fields, self, strict=True)])
            if changes:
                raise ValueError(f"{type(self).__name__} has no {', '.join(changes)}")
            return made


__all__ = ["Record"]
