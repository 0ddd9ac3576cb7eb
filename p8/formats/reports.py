"""What a project's own test tools left behind: coverage.py (XML, JSON), lcov, JUnit. Read, never written, never run.

Such a file may come with a strange repository: sizes are bounded, links are not followed, and XML may declare nothing.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from p8.errors import FormatError

MOST_BYTES = 64 << 20
COVERAGE = (
    "coverage.xml", "coverage.json", "lcov.info", "coverage.lcov", "coverage/lcov.info", "coverage/coverage.xml",
    "coverage/cobertura-coverage.xml", "reports/coverage.xml", "build/coverage.xml",
)  # fmt: skip
JUNIT = ("junit.xml", "report.xml", "test-results.xml", "results.xml", "reports/junit.xml", "test-results/junit.xml",
         "build/test-results.xml")  # fmt: skip
HOW = "pytest --junitxml=junit.xml writes one"
JUNIT_FOLDERS = ("target/surefire-reports", "build/test-results/test")


class Coverage(NamedTuple):
    """Lines that tests ran, of the lines there are."""

    covered: int
    lines: int
    source: str  #: the file's name
    time_s: float  #: when it was written, seconds since 1970

    @property
    def percent(self) -> float:
        """Return covered lines of 100; 0 where there are none."""
        return 100 * self.covered / self.lines if self.lines else 0.0


class Outcomes(NamedTuple):
    """Outcomes of a run of tests."""

    total: int
    failed: int  #: failures and errors
    skipped: int
    duration_s: float
    source: str
    time_s: float

    @property
    def passed(self) -> int:
        """Return how many passed."""
        return self.total - self.failed - self.skipped


def newest_coverage(root: Path) -> Coverage | None:
    """Return the newest coverage report of a project that can be read."""
    for file, time_s in _found(root, COVERAGE):
        try:
            return read_coverage(file)._replace(source=str(file.relative_to(root)), time_s=time_s)
        except FormatError:
            continue
    return None


def newest_tests(root: Path) -> Outcomes | None:
    """Return the newest JUnit report of a project that can be read; a folder of reports counts as one."""
    for file, time_s in _found(root, JUNIT):
        try:
            return read_junit(file)._replace(source=str(file.relative_to(root)), time_s=time_s)
        except FormatError:
            continue
    for folder in JUNIT_FOLDERS:
        parts = []
        for file, time_s in _found(root / folder, sorted(_names(root / folder))[:2000]):
            try:
                parts.append(read_junit(file)._replace(time_s=time_s))
            except FormatError:
                continue
        if parts:
            return Outcomes(
                sum(p.total for p in parts), sum(p.failed for p in parts), sum(p.skipped for p in parts),
                sum(p.duration_s for p in parts), folder, max(p.time_s for p in parts),
            )  # fmt: skip
    return None


def _names(folder: Path) -> list[str]:
    try:
        return [e.name for e in os.scandir(folder) if e.name.endswith(".xml")]
    except OSError:
        return []


def _found(root: Path, names: Any) -> Iterator[tuple[Path, float]]:
    """Yield those of `names` that are plain files, newest first."""
    there = []
    for name in names:
        try:
            state = (root / name).lstat()
        except OSError:
            continue
        if stat.S_ISREG(state.st_mode):
            there.append((state.st_mtime, root / name))
    yield from ((file, time_s) for time_s, file in sorted(there, key=lambda item: -item[0]))


def read_coverage(file: Path) -> Coverage:
    """
    Read a coverage report of any of the three kinds.

    Raises:
        FormatError: it is none of them, too large, or cannot be read.
    """
    raw = _bytes(file)
    start = raw.lstrip()[:1]
    try:
        if start == b"<":
            return _cobertura(raw, file.name)
        if start == b"{":
            totals = json.loads(raw)["totals"]
            return Coverage(int(totals["covered_lines"]), int(totals["num_statements"]), file.name, 0.0)
        return _lcov(raw, file.name)
    except (ValueError, KeyError, TypeError, RecursionError, expat.ExpatError) as error:
        raise FormatError(
            f"{file.name} is no coverage report: {error}", "coverage xml, coverage json or lcov"
        ) from error


def _cobertura(raw: bytes, name: str) -> Coverage:
    found: dict[str, str] = {}
    counted = [0, 0]

    def begin(tag: str, attributes: dict[str, str]) -> None:
        if tag == "coverage" and not found:
            found.update(attributes)
        elif tag == "line" and "hits" in attributes:
            counted[0] += int(attributes["hits"]) > 0
            counted[1] += 1

    _parse(raw, begin)
    if "line-rate" not in found:
        raise ValueError("no <coverage line-rate=…>")
    if "lines-valid" in found and "lines-covered" in found:
        return Coverage(int(found["lines-covered"]), int(found["lines-valid"]), name, 0.0)
    return Coverage(counted[0], counted[1], name, 0.0)


def _lcov(raw: bytes, name: str) -> Coverage:
    sums = {b"LF": 0, b"LH": 0}
    records = 0
    for line in raw.splitlines():
        key, _, number = line.partition(b":")
        if key in sums:
            sums[key] += int(number)
        records += line == b"end_of_record"
    if not records:
        raise ValueError("no end_of_record")
    return Coverage(sums[b"LH"], sums[b"LF"], name, 0.0)


def read_junit(file: Path) -> Outcomes:
    """
    Read a JUnit report. What each test case says counts, not the sums beside them.

    Raises:
        FormatError: it is none, too large, or cannot be read.
    """
    total = failed = skipped = 0
    duration = 0.0
    suites = False
    state = ""

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal total, failed, skipped, duration, suites, state
        tag = tag.rpartition("}")[2]
        if tag in {"testsuite", "testsuites"}:
            suites = True
        elif tag == "testcase":
            total += 1
            duration += float(attributes.get("time", "0").replace(",", "") or 0)
            state = "passed"
        elif tag in {"failure", "error"} and state in {"passed", "skipped"}:
            failed += 1
            skipped -= state == "skipped"
            state = "failed"
        elif tag == "skipped" and state == "passed":
            skipped += 1
            state = "skipped"

    try:
        _parse(_bytes(file), begin)
    except (ValueError, expat.ExpatError) as error:
        raise FormatError(
            f"{file.name} is no JUnit report: {error}", "pytest --junitxml=junit.xml writes one"
        ) from error
    if not suites:
        raise FormatError(f"{file.name} is no JUnit report", HOW)
    return Outcomes(total, failed, skipped, round(duration, 3), file.name, 0.0)


def _parse(raw: bytes, begin: Any) -> None:
    parser = expat.ParserCreate()
    parser.StartElementHandler = begin

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities")

    parser.EntityDeclHandler = refuse
    parser.Parse(raw, True)


def _bytes(file: Path) -> bytes:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as source:
            raw = source.read(MOST_BYTES + 1)
    except OSError as error:
        raise FormatError(f"{file.name} cannot be read: {error.strerror}") from error
    if len(raw) > MOST_BYTES:
        raise FormatError(f"{file.name} is too large", f"at most {MOST_BYTES >> 20} MB are read")
    return raw
