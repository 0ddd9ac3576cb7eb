from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p8.core.plan import (
    PHASES,
    Plan,
    Scope,
    allocate,
    buffer_left,
    completion,
    forecast,
    parse_phases,
    reallocate,
    share,
)
from p8.errors import UsageError

scopes = st.builds(Scope, *[st.integers(0, 100_000)] * 3).filter(any)
phase_lists = st.lists(st.integers(1, 100), min_size=1, max_size=8).map(
    lambda weights: [(f"p{n}", w) for n, w in enumerate(weights)]
)


def test_the_formula_of_the_document_by_hand() -> None:
    # 700 * 10 + 200 * 10 * 1.5 + 50 * 10 * 1.2 = 7000 + 3000 + 600; a fifth on top: 12720
    plan = allocate(Scope(700, 200, 50))

    assert (plan.estimate, plan.total_budget, plan.buffer) == (10600, 12720, 2120)
    assert [(p.name, p.tokens) for p in plan.phases] == [
        ("implement", 3710), ("integrate", 2650), ("test", 2120), ("document", 1060), ("finish", 1060),
    ]  # fmt: skip
    assert [(t.name, t.at_tokens) for t in plan.triggers if t.kind != "phase"] == [
        ("35%", 3710), ("60%", 6360), ("70%", 7420), ("emergency", 11448),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "estimate", "total"),
    [
        (Scope(1, 0, 0), 10, 12), (Scope(0, 1, 0), 15, 18), (Scope(0, 0, 1), 12, 14), (Scope(0, 0, 4), 48, 58),
        (Scope(2000, 0, 0), 20000, 24000), (Scope(1, 1, 1), 37, 44),
    ],
)  # fmt: skip
def test_more_of_the_formula_by_hand(scope: Scope, estimate: int, total: int) -> None:
    plan = allocate(scope)
    assert (plan.estimate, plan.total_budget) == (estimate, total)


@given(scopes, phase_lists)
def test_the_formula_holds_for_any_scope(scope: Scope, phases: list[tuple[str, int]]) -> None:
    plan = allocate(scope, phases)

    exact = scope.lines * 10 + scope.tests * 10 * 1.5 + scope.docs * 10 * 1.2
    assert plan.estimate == pytest.approx(exact)
    assert abs(plan.total_budget - exact * 1.2) <= 0.5 + 1e-6 * exact
    assert sum(phase.tokens for phase in plan.phases) == plan.estimate
    whole = sum(weight for _, weight in phases)
    for phase, (_, weight) in zip(plan.phases, phases, strict=True):
        assert abs(phase.tokens - plan.estimate * weight / whole) < 1
    assert Plan.from_dict(plan.to_dict()) == plan


@given(st.integers(0, 10**9), st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_shares_add_up(tokens: int, weights: list[int]) -> None:
    assert sum(share(tokens, weights)) == (tokens if any(weights) else 0)


@given(scopes, phase_lists, st.data())
def test_reallocation_never_exceeds_what_is_left_of_the_budget(scope, phases, data) -> None:
    plan = allocate(scope, phases)
    used = {p.name: data.draw(st.integers(0, 3 * p.tokens + 10)) for p in plan.phases}
    done = data.draw(st.sets(st.sampled_from([p.name for p in plan.phases])))

    may = reallocate(plan, used, done)

    spent = sum(used[name] for name in done)
    assert set(may) == {p.name for p in plan.phases} - done
    assert all(tokens >= 0 for tokens in may.values())
    assert sum(may.values()) <= max(0, plan.total_budget - spent)
    assert 0 <= buffer_left(plan, used, done) <= plan.buffer
    if may and spent <= plan.total_budget:  # and nothing is lost: open phases and buffer are all that is left
        assert sum(may.values()) + buffer_left(plan, used, done) == plan.total_budget - spent


def test_what_a_phase_saves_goes_to_the_others_by_their_shares() -> None:
    plan = allocate(Scope(1000), [("a", 50), ("b", 30), ("c", 20)])

    assert reallocate(plan, {}, ()) == {"a": 5000, "b": 3000, "c": 2000}
    assert reallocate(plan, {"a": 4000}, {"a"}) == {"b": 3600, "c": 2400}


def test_what_a_phase_takes_too_much_comes_from_the_buffer_first() -> None:
    plan = allocate(Scope(1000), [("a", 50), ("b", 30), ("c", 20)])  # 10,000 and a buffer of 2,000

    assert reallocate(plan, {"a": 6500}, {"a"}) == {"b": 3000, "c": 2000}
    assert buffer_left(plan, {"a": 6500}, {"a"}) == 500
    assert reallocate(plan, {"a": 8000}, {"a"}) == {"b": 2400, "c": 1600}
    assert buffer_left(plan, {"a": 8000}, {"a"}) == 0


def test_completion_counts_the_current_phase_in_part() -> None:
    plan = allocate(Scope(1000), [("a", 50), ("b", 50)])

    assert completion(plan, {}, ()) == 0
    assert completion(plan, {"a": 5000}, {"a"}, "b") == pytest.approx(0.5)
    assert completion(plan, {"a": 5000, "b": 2500}, {"a"}, "b") == pytest.approx(0.75)
    assert completion(plan, {"a": 5000, "b": 50000}, {"a"}, "b") == pytest.approx(0.95)
    assert completion(plan, {"a": 1, "b": 1}, {"a", "b"}) == pytest.approx(1)


def test_forecast_by_hand() -> None:
    # i = 0..3, t = 100..400: mean 250, slope 100
    ahead = forecast([100, 200, 300, 400])

    assert (ahead.per_turn, ahead.slope, ahead.trend) == (250, 100, "rising")
    assert ahead.turns_until(250) == 1  # 250, then 350
    assert ahead.turns_until(600) == 2
    assert ahead.turns_until(0) == 0
    falling = forecast([400, 300, 200])  # mean 300, slope -100: 300, 200, then 150 each
    assert falling.trend == "falling"
    assert falling.turns_until(1000) == 5
    assert forecast([100] * 30) == (100, 0, "steady")
    assert forecast([100] * 30).turns_until(1000) == 10
    assert forecast([76, 144, 68]).trend == "steady"  # mean 96, slope -4: too little to go by
    assert forecast([76, 144, 68]).turns_until(960) == 10
    assert forecast([]).turns_until(1000) is None
    assert forecast([0, 0, 0]).turns_until(1000) is None


@pytest.mark.parametrize(
    "text", ["", "lines", "lines=x", "lines=-1", "lines=1,lines=2", "words=5", "lines=99999999999"]
)
def test_a_scope_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Scope.parse(text)
    assert caught.value.hint


def test_scopes_and_phases_are_read() -> None:
    assert Scope.parse("tests=200, lines=700") == Scope(700, 200, 0)
    assert parse_phases("build=60, test=40") == (("build", 60), ("test", 40))
    assert sum(percent for _, percent in PHASES) == 100
    for text in ("build=60", "build=60,build=40", "build=0,x=100", "=100", "a=b"):
        with pytest.raises(UsageError):
            parse_phases(text)
