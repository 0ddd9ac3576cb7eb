"""
Availability over a run of faults, by probes once a second from outside.

What is counted: two fleets of instances, one on the usual engine, each with a port, and one on an engine of the test's
own that is stopped and started, each with a socket; both looked after by `p8 watch` processes. A third process asks
each instance once a second, one attempt, whether it answers with its own name (`support/prober.py`). All instances
count, also the one that is being broken, and from the moment it is. Availability is the instance-seconds with an answer
over all instance-seconds in which the instance's engine answered, before and after the probes: how long instances take
to be back after their engine is counts, the time without an engine does not. Nor do the seconds in which the machine
itself stood still, as a virtual one does while others have its processors: those in which half of eight containers,
started without P8 and broken by nobody, did not answer either. A run with more than one such second in fifty fails.

A fault costs what it takes to see it and to start a container, about a second, so no run in which faults come faster
than every thousand instance-seconds or so can reach 99.9 %. The full run makes 200 in an hour among 122 instances: it
misses 99.9 % as soon as a fault costs more than 2.3 instance-seconds on average. The short run makes the same faults
at once one after another and holds their cost to a laxer bound, as it runs on busy machines; with recovery switched off
both are missed.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.engine import IMAGE, OwnEngine
from support.faults import FAULTS, Span, break_one, fleet_of, kill, probing, restart_engine
from support.prober import Availability, availability

WITHIN_S = 20.0  #: configured: two checks a second apart, or an event, and a start; on a machine that others use too
WANTED = 99.9  #: percent
STILL = 0.02  #: of the seconds, at most
ENGINE = "engine stopped and started"


class Run(NamedTuple):
    """A run of faults."""

    faults: int
    instances: int  #: on the usual engine
    others: int  #: on the test's own
    every_s: float  #: from one fault to the next; longer where it takes longer to be well again
    checked: str  #: how often each instance is, but for the few that are checked twice a second

    @property
    def allowed_s(self) -> float:
        """Return how many instance-seconds a fault may cost on average, where WANTED is to be reached."""
        return (self.instances + self.others) * self.every_s * (1 - WANTED / 100)


SHORT = Run(faults=16, instances=6, others=2, every_s=0.0, checked="1s")
SHORT_ALLOWED_S = 4.0
FULL = Run(faults=200, instances=120, others=2, every_s=18.5, checked="5s")


@pytest.fixture
def engine(image: str) -> Iterator[OwnEngine]:
    made = Path(tempfile.mkdtemp(prefix="p8e-", dir="/tmp"))
    own = OwnEngine(made)
    own.start()
    own.load(IMAGE)
    yield own
    own.stop()
    shutil.rmtree(made, ignore_errors=True)


def told(capsys, run: Run, took: dict[str, list[Span]], found: Availability) -> None:
    with capsys.disabled():
        print(f"\n{run.faults} faults, {run.instances} + {run.others} instances, {found.seconds} s of probes")
        for kind, spans in took.items():
            seconds = [span.without(found.still) for span in spans]
            print(f"  {kind:<28}{len(seconds):>4} ×, well after {statistics.median(seconds):5.2f} s"
                  f" in the middle, {max(seconds):5.2f} s at most")  # fmt: skip
        print(f"  {found.lost} of {found.instance_seconds} instance-seconds without an answer:"
              f" {found.lost / run.faults:.2f} a fault, availability {found.percent:.3f} %;"
              f" {found.engine_away} s without an engine, {found.missed} s without probes,"
              f" {len(found.still)} s in which the machine stood still")  # fmt: skip


@pytest.mark.parametrize("run", [SHORT, pytest.param(FULL, marks=pytest.mark.slow)], ids=["short", "full"])
@pytest.mark.timeout(4 * 3600)
def test_instances_are_available_through_a_run_of_faults(run: Run, place: Path, engine: OwnEngine, capsys) -> None:
    took: dict[str, list[Span]] = defaultdict(list)
    with (
        fleet_of(place, "a", run.instances, every=run.checked) as many,
        fleet_of(place, "b", run.others, engine) as few,
    ):
        many.start()
        few.start(plain=True)
        with probing(place, [many, few]) as log:
            kinds = [*FAULTS, ENGINE]
            for number in range(run.faults):
                kind, begun = kinds[number % len(kinds)], time.monotonic()
                if kind == ENGINE:
                    took[kind].append(restart_engine(few, engine, WITHIN_S))
                else:
                    took[kind].append(break_one(many, kind, WITHIN_S))
                time.sleep(max(begun + run.every_s - time.monotonic(), 1.0))
            given_up = [name for fleet in (many, few) for name in fleet.ids if fleet.told("RECOVERY_FAILED", name)]
        found = availability(log)
    told(capsys, run, took, found)

    assert given_up == []
    assert max(span.without(found.still) for spans in took.values() for span in spans) < WITHIN_S
    assert len(found.still) <= STILL * found.seconds
    assert found.missed < 0.05 * found.seconds
    assert found.engine_away > 0
    assert found.lost / run.faults <= (SHORT_ALLOWED_S if run is SHORT else run.allowed_s)
    assert run is SHORT or found.percent >= WANTED


def test_with_recovery_switched_off_it_is_missed(place: Path, image: str, capsys) -> None:
    weak = Run(faults=3, instances=4, others=0, every_s=4.0, checked="1s")
    with fleet_of(place, "a", weak.instances, recovers=False) as fleet:
        fleet.start(plain=True)
        with probing(place, [fleet]) as log:
            for name in fleet.ids[: weak.faults]:
                kill(fleet, name)
                time.sleep(weak.every_s)
        found = availability(log)
    told(capsys, weak, {}, found)

    assert found.percent < WANTED
    assert found.lost / weak.faults > SHORT_ALLOWED_S


def test_seconds_in_which_the_machine_stood_still_count_for_nobody(tmp_path: Path) -> None:
    def line(second: int, down: list[str], controls: list[bool]) -> str:
        fleet = {"engine": True, "asked": 2, "down": down}
        return json.dumps({"second": second, "time": 100.0 + second, "fleets": [fleet], "controls": controls}) + "\n"

    log = tmp_path / "probes.log"
    log.write_text(
        line(0, [], [True, True])
        + line(1, ["a"], [True, False])
        + line(2, ["a", "b"], [False, False])
        + line(5, [], [True, True])
    )

    found = availability(log)
    assert (found.instance_seconds, found.lost, found.missed) == (6, 1, 2)
    assert found.still == (102.0, 103.0, 104.0)
    assert Span(99.5, 104.0).without(found.still) == 1.5
