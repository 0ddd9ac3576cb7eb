"""A session's histories as they are read: in pages, when they are looked at. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from p8.model import Entry, Kind
from p8.session import ExecutionHistory


class History(Sequence[Any]):
    """
    A session's messages, commands or executions, read from the store when they are looked at.

    What was recorded before the session was resumed is read in pages; what has been recorded since stands in memory.
    """

    def __init__(
        self,
        read: Callable[..., list[Entry]],
        session_id: str,
        upto: int,
        kind: Kind,
        value_of: Callable[[Entry], Any],
    ) -> None:
        self._read = read
        self._session_id = session_id
        self._upto = upto
        self._kind = kind
        self._value_of = value_of
        self._new: list[Any] = []
        self._old: list[Any] | None = None

    def append(self, value: Any) -> None:
        """Take in something just recorded."""
        self._new.append(value)

    def tail(self, count: int) -> list[Any]:
        """Return the last `count`, oldest first, reading no more than these."""
        missing = count - len(self._new)
        if missing <= 0:
            return self._new[-count:] if count else []
        if self._old is not None:
            return [*self._old[-missing:], *self._new]
        return [*map(self._value_of, self._entries(limit=missing, newest=True)), *self._new]

    def _entries(self, **how: Any) -> list[Entry]:
        return self._read(self._session_id, kinds=(self._kind,), last=self._upto, whole=True, **how)

    def entries(self, kinds: Sequence[str], limit: int) -> list[Entry]:
        """Return the last `limit` entries of several kinds from before the session was resumed, oldest first."""
        return self._read(self._session_id, kinds=kinds, last=self._upto, limit=limit, newest=True, whole=True)

    @property
    def upto(self) -> int:
        """Return the last sequence number, in the session's own stream, from before it was resumed."""
        return self._upto

    @property
    def new(self) -> list[Any]:
        """Return what was recorded since the session was resumed."""
        return self._new

    def __iter__(self) -> Iterator[Any]:
        if self._old is not None:
            yield from self._old
        else:
            yield from map(self._value_of, self._entries())
        yield from self._new

    def __len__(self) -> int:
        return len(self._all_old()) + len(self._new)

    def _all_old(self) -> list[Any]:
        if self._old is None:
            self._old = [self._value_of(entry) for entry in self._entries()]
        return self._old

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int) and index < 0:
            tail = self.tail(-index)
            if len(tail) < -index:
                raise IndexError(index)
            return tail[0]
        return [*self._all_old(), *self._new][index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<History of {self._kind} in {self._session_id}>"


def fresh(history: Sequence[Any]) -> list[Any]:
    """Return the part of a history that this process recorded."""
    return history.new if isinstance(history, History) else history  # type: ignore[return-value]


def execution_of(entry: Entry) -> ExecutionHistory:
    """Return the execution an entry records."""
    return ExecutionHistory.from_dict({"command": "", "started_at": entry.time, **entry.data})
