"""The OpenAPI document is true: thousands of generated requests get what it says, and never a 5xx."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from support.serving import Served

from p8.testing import make_app

#: over all operations; P8_SCHEMA_CASES=50000 is the full count
CASES = int(os.environ.get("P8_SCHEMA_CASES", "1500"))
OPERATIONS = 28
COUNTED = {"calls": 0}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("api")
    place, home = root / "work", root / "home"
    place.mkdir()
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    (place / "a.txt").write_text("one")
    app = make_app(home, place)
    for number in range(3):
        app.sessions.start_session("p", directory=str(place))
        app.sessions.record_message({"role": "user", "content": f"number {number}"})
        app.checkpoints.create(f"c{number}")
        app.sessions.pause_session()
    app.close()
    with Served(home, place) as served:
        yield served


@pytest.fixture
def api(served: Served) -> Any:
    document = served.get("/api/v1/openapi.json").json
    known = {"session": [], "checkpoint": []}  # that exist, so that not every request is for nothing
    for kind in known:
        known[kind] = [one["id"] for one in _items(served.get(f"/api/v1/{kind}s").json)]
    for verbs in document["paths"].values():
        for operation in verbs.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["examples"] = {str(n): {"value": v} for n, v in enumerate(known[parameter["name"]])}
    return schemathesis.openapi.from_dict(document)


def _items(found: Any) -> Any:
    return found["items"] if isinstance(found, dict) else found


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=max(CASES // OPERATIONS, 5), deadline=None, derandomize="P8_SCHEMA_CASES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_the_document_is_true(case: Any, served: Served) -> None:
    COUNTED["calls"] += 1
    headers = {"authorization": f"Bearer {served.token}"}
    case.call_and_validate(base_url=f"http://127.0.0.1:{served.port}", headers=headers)


def test_the_cases_were_run_and_the_server_did_not_stumble(served: Served) -> None:
    assert COUNTED["calls"] >= CASES * 0.5
    assert "Traceback" not in served.said()
    assert served.get("/health").status == 200
