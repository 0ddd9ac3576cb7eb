"""The OpenAPI document is true: thousands of generated requests get what it says, and never a 5xx."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth

from p8.testing import make_app
from support.serving import Served

#: over all operations; P8_SCHEMA_CASES=50000 is the full count
CASES = int(os.environ.get("P8_SCHEMA_CASES", "1500"))
FULL = "P8_SCHEMA_CASES" in os.environ


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
    document.pop("security")  # the token is always sent here: test_guard.py asks without it
    for verbs in document["paths"].values():
        for operation in verbs.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["examples"] = {str(n): {"value": v} for n, v in enumerate(known[parameter["name"]])}
    made = schemathesis.openapi.from_dict(document)
    # What has the right shape is never refused for its shape (400); it may make no sense here, or need an engine.
    made.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "404", "409", "422", "424"]
    return made


def _items(found: Any) -> Any:
    return found["items"] if isinstance(found, dict) else found


@pytest.mark.timeout(3600)
def test_the_document_is_true_and_nothing_breaks(api: Any, served: Served) -> None:
    headers = {"authorization": f"Bearer {served.token}"}
    base = f"http://127.0.0.1:{served.port}"
    operations = [result.ok() for result in api.get_all_operations()]
    calls = 0

    def asked(operation: Any, mode: GenerationMode, examples: int) -> bool:
        """Ask so often; return whether there was as much to ask, as there is not without parameters."""
        before = calls

        @settings(max_examples=examples, deadline=None, database=None, derandomize=not FULL,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def hold(case: Any) -> None:
            nonlocal calls
            calls += 1
            case.call_and_validate(base_url=base, headers=headers, excluded_checks=[ignored_auth])

        with contextlib.suppress(Unsatisfiable):
            hold()
        return calls - before >= examples

    left = [(one, mode) for one in operations for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    while left and calls < CASES:
        each = -(-(CASES - calls) // len(left))
        left = [(one, mode) for one, mode in left if asked(one, mode, each)]
    print(f"\n{calls} cases of {len(operations)} operations")
    assert calls >= CASES
    assert "Traceback" not in served.said()
    assert served.get("/health").status == 200
