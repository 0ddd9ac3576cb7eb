"""Performance tests: figures beside their targets, ratios to floors measured in the same run, written to one JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RESULTS: dict[str, dict[str, Any]] = {}


class Report:
    """Collects figures: `report(name, value, target, unit)`."""

    def __call__(self, name: str, value: float, target: str, unit: str, met: bool, note: str = "") -> None:
        RESULTS[name] = {"value": round(value, 3), "unit": unit, "target": target, "met": met, "note": note}
        print(f"\n  {name}: {value:,.3f} {unit} (target {target}) {'ok' if met else 'MISSED'} {note}")


@pytest.fixture
def report() -> Report:
    return Report()


@pytest.fixture(scope="session", autouse=True)
def _written() -> Iterator[None]:
    yield
    target = os.environ.get("P8_PERF_JSON", "")
    if target and RESULTS:
        Path(target).write_text(json.dumps(RESULTS, indent=2) + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if RESULTS:
        terminalreporter.section("figures beside their targets")
        for name, r in RESULTS.items():
            state = "ok" if r["met"] else "MISSED"
            terminalreporter.write_line(
                f"{name:<58} {r['value']:>14,.3f} {r['unit']:<8} {r['target']:<22} {state} {r['note']}"
            )
