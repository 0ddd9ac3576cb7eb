"""Made-up working days: what people type in three projects, with habits, failures, noise, and a change of habits.

What comes next depends on what was done, on how it ended, on the project, and on chance: one step in seven is anything
at all, and every commit message is new. Half way through, one project gets a new way to test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

NOISE = 0.14
ANYTHING = (
    "!ls", "!git status", "!git log --oneline", "!cat notes-{n}.txt", "!grep -rn word{n} src", "!df -h",
    "/checkpoint create before-{n}", "!make clean", "!top -b -n 1",
)  # fmt: skip


class Typed(NamedTuple):
    """One line, and how it ended."""

    line: str  #: without a mark it is said to the assistant
    exit_code: int | None


class Days:
    """
    Sessions of one person.

    Args:
        seed: what happens.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._n = 0

    def sessions(self, count: int) -> Iterator[tuple[str, list[Typed]]]:
        """Yield (project, what was typed)."""
        for number in range(count):
            project = self._random.choices(("api-00000001", "web-00000002", "ops-00000003"), (5, 3, 2))[0]
            late = number > count // 2
            work = {"a": self._api, "w": self._web, "o": self._ops}[project[0]]
            typed: list[Typed] = []
            for _ in range(self._random.randint(2, 5)):
                for one in work(late):
                    if self._random.random() < NOISE:
                        typed.append(Typed(self._random.choice(ANYTHING).format(n=self._next()), 0))
                    typed.append(one)
            yield project, typed

    def _next(self) -> int:
        self._n += 1
        return self._n

    def _maybe(self, chance: float) -> bool:
        return self._random.random() < chance

    def _fails(self, chance: float) -> int:
        return int(self._maybe(chance))

    def _api(self, late: bool) -> Iterator[Typed]:
        test = "!make check" if late else "/do test"
        yield Typed(f"please change part {self._next()}", None)
        while True:
            code = self._fails(0.4)
            yield Typed(test if self._maybe(0.9) else "!python -m pytest -q tests", code)
            if not code:
                break
            if self._maybe(0.6):
                yield Typed(f"it fails, see line {self._next()}", None)
            else:
                yield Typed("/do test-failed", self._fails(0.5))
        if self._maybe(0.5):
            yield Typed("/do lint", 0)
        if self._maybe(0.7):
            yield Typed("!git --no-pager diff --stat", 0)
        yield Typed(f'!git commit -am "part {self._next()} is done"', 0)
        if self._maybe(0.5):
            yield Typed("!git push", 0)

    def _web(self, late: bool) -> Iterator[Typed]:
        yield Typed(f"a page about {self._next()}", None)
        code = self._fails(0.3)
        yield Typed("!npm run build", code)
        if code:
            yield Typed(f"the build says {self._next()}", None)
            yield Typed("!npm run build", 0)
        yield Typed("!npm test", self._fails(0.2))
        yield Typed("!git add -A", 0)
        yield Typed(f'!git commit -m "page {self._next()}"', 0)
        if self._maybe(0.8):
            yield Typed("!git push origin main", 0)

    def _ops(self, late: bool) -> Iterator[Typed]:
        yield Typed("!terraform plan", code := self._fails(0.2))
        if code:
            yield Typed("!terraform init", 0)
            yield Typed("!terraform plan", 0)
        if self._maybe(0.7):
            yield Typed("!terraform apply -auto-approve", self._fails(0.1))
            yield Typed("!kubectl get pods", 0)
            if self._maybe(0.4):
                yield Typed(f"!kubectl logs pod-{self._next()}", 0)
