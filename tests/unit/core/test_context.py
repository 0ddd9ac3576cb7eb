from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from p8.assistants.tokens import TokenBook
from p8.core.checkpoints import Checkpoints
from p8.core.context import ContextPlanner, Correction
from p8.core.plan import Scope
from p8.core.sessions import SessionManager
from p8.errors import UsageError
from p8.store.manager import PersistenceManager

WORD = "alpha "


def planner_of(manager: SessionManager, place: Path, window: int = 100_000) -> ContextPlanner:
    checkpoints = Checkpoints(manager, lambda: place)
    return ContextPlanner(manager, checkpoints, TokenBook(manager.store.home), lambda: "gpt-4o", lambda: window)


def say(manager: SessionManager, words: int, role: str = "assistant") -> None:
    """Record a message whose tokens are known: the model reports them."""
    manager.record_message({"role": role, "content": WORD * words, "tokens_in": 10, "tokens_out": words})


def triggers(manager: SessionManager) -> list[str]:
    assert manager.current is not None
    entries = manager.store.sessions.entries(manager.current.session_id, kinds=("checkpoint",))
    return [entry.data["trigger"] for entry in entries if "trigger" in entry.data]


def test_tokens_go_to_the_phase_and_source_they_were_used_in(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    planner = planner_of(manager, tmp_path)
    planner.make(Scope(1000), [("build", 60), ("test", 40)])
    say(manager, 100)
    planner.after_turn()
    planner.finish_phase()
    say(manager, 30)
    manager.record_execution("make", exit_code=0, output="ok")
    planner.after_turn()
    gauge = planner.gauge()

    assert [(name, how) for name, _, _, how in gauge.phases] == [("build", "done"), ("test", "now")]
    assert gauge.phases[0][1] == 100
    assert gauge.sources["messages"] == 130
    assert gauge.sources["tools"] == gauge.phases[1][1] - 30 > 5
    assert gauge.phases[1][2] == 4000 + 5900  # what build left over
    assert gauge.used == sum(gauge.sources.values())


def test_each_trigger_fires_once_and_makes_a_checkpoint(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    planner = planner_of(manager, tmp_path)
    planner.make(Scope(100), [("build", 50), ("test", 50)])  # 1,000 tokens: 350, 600, 700, emergency at 1,080
    fired = []
    for _ in range(12):
        say(manager, 100)
        fired.append([c.data["trigger"] for c in planner.after_turn()])

    assert [(turn, names) for turn, names in enumerate(fired, 1) if names] == [
        (4, ["35%"]), (6, ["60%"]), (7, ["70%"]), (11, ["emergency"]),
    ]  # fmt: skip
    assert [c.data["trigger"] for c in planner.finish_phase()] == ["phase:build"]
    assert triggers(manager) == ["35%", "60%", "70%", "emergency", "phase:build"]


def test_a_full_window_is_an_emergency_without_a_plan(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    planner = planner_of(manager, tmp_path, window=1000)
    manager.record_message({"role": "assistant", "content": "x", "tokens_in": 800, "tokens_out": 50})
    assert planner.after_turn() == []
    manager.record_message({"role": "assistant", "content": "x", "tokens_in": 880, "tokens_out": 50})
    assert [c.data["trigger"] for c in planner.after_turn()] == ["emergency"]
    assert planner.after_turn() == []


KILLED = """
    import os, sys
    from pathlib import Path
    from p8.assistants.tokens import TokenBook
    from p8.core.checkpoints import Checkpoints
    from p8.core.context import ContextPlanner
    from p8.core.plan import Scope
    from p8.core.sessions import SessionManager
    from p8.store.manager import PersistenceManager

    home, place, session = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    turns, counted = int(sys.argv[4]), sys.argv[5]
    manager = SessionManager(PersistenceManager(home, background=False))
    planner = ContextPlanner(manager, Checkpoints(manager, lambda: place), TokenBook(home), lambda: "m", lambda: 10**6)
    if session:
        manager.resume_session(session)
    else:
        manager.start_session("demo")
        planner.make(Scope(100), [("build", 50), ("test", 50)])
    for _ in range(turns):
        manager.record_message({"role": "assistant", "content": "x", "tokens_in": 1, "tokens_out": 100})
        if counted:
            planner.after_turn()
    print(manager.current.session_id, flush=True)
    os.kill(os.getpid(), 9)
"""


def killed(home: Path, place: Path, session: str, turns: int, counted: bool) -> str:
    words = [str(home), str(place), session, str(turns), "yes" if counted else ""]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), *words], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    return done.stdout.strip()


def test_triggers_fire_once_across_kills_and_resumes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    session = killed(home, tmp_path, "", 4, True)  # 400 tokens: 35 % fires
    killed(home, tmp_path, session, 2, False)  # 600, killed before anybody counted
    killed(home, tmp_path, session, 1, True)  # 700: 60 % and 70 % fire now
    killed(home, tmp_path, session, 1, True)
    store = PersistenceManager(home, background=False)
    manager = SessionManager(store)
    manager.resume_session(session)
    planner = planner_of(manager, tmp_path)
    gauge = planner.gauge()

    assert gauge.used == 800
    assert triggers(manager) == ["35%", "60%", "70%"]
    assert gauge.fired == ("35%", "60%", "70%")
    assert planner.after_turn() == []
    store.close()


def test_a_fork_goes_on_with_the_plan_and_fires_nothing_again(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    planner = planner_of(manager, tmp_path)
    planner.make(Scope(100), [("build", 50), ("test", 50)])
    for _ in range(4):
        say(manager, 100)
        planner.after_turn()
    manager.fork_session()
    say(manager, 100)
    planner.after_turn()

    assert planner.plan is not None
    assert planner.usage.total == 500
    assert triggers(manager) == ["35%"]
    assert planner.fired == {"35%"}


def test_a_new_session_begins_at_nothing(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    planner = planner_of(manager, tmp_path)
    say(manager, 50)
    planner.after_turn()
    manager.start_session("other")

    assert planner.gauge().used == 0
    with pytest.raises(UsageError, match="no plan"):
        planner.required()


def test_phases_are_entered_finished_and_opened_again(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    planner = planner_of(manager, tmp_path)
    planner.make(Scope(100), [("build", 50), ("test", 50)])
    planner.finish_phase()
    planner.finish_phase()
    with pytest.raises(UsageError, match="all phases"):
        planner.finish_phase()
    assert planner.gauge().completion == 1
    planner.enter("build")
    assert planner.usage.done == ["test"]
    with pytest.raises(UsageError, match="no phase"):
        planner.enter("paint")


def test_a_correction_learns_ratio_and_constant() -> None:
    learnt = Correction()
    assert learnt.apply(1000) == 1000
    learnt.learn(100, 150)
    assert learnt.apply(1000) == 1500
    for counted in (200, 400, 800, 100):
        learnt.learn(counted, round(counted * 1.3) + 21)
    for counted in (100, 300, 900, 500, 50, 700):
        learnt.learn(counted, round(counted * 1.3) + 21)
    assert abs(learnt.apply(2000) - 2621) < 30
    assert abs(learnt.apply(1000, whole=False) - 1300) < 15
    learnt.learn(1000, 900_000)  # measured something else
    assert abs(learnt.apply(2000) - 2621) < 30


def test_what_was_learnt_serves_the_next_process(manager: SessionManager, tmp_path: Path) -> None:
    manager.start_session("demo")
    planner = planner_of(manager, tmp_path)
    planner.sending([{"role": "user", "content": "hello there " * 50}])
    raw = planner.raw_request([{"role": "user", "content": "hello there " * 50}])
    manager.record_message({"role": "assistant", "content": "y", "tokens_in": raw * 2, "tokens_out": 1})
    planner.after_turn()

    assert planner_of(manager, tmp_path).correction.apply(100) == 200
