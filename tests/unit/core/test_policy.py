"""What is decided: alerts with their thresholds, restarts with their pauses and their end."""

from __future__ import annotations

from p8.containers.base import Sample, State
from p8.containers.settings import HealthRules, Resources
from p8.containers.watch import Verdict
from p8.core.policy import Alert, Decision, GiveUp, Policy, Recover, Tell

RULES = HealthRules(retry_delay_s=10.0, max_retries=3, max_restarts=4, stable_s=60.0)
RESOURCES = Resources()


def verdict(healthy: bool, state: State | None = State.RUNNING, name: str = "i") -> Verdict:
    return Verdict(name, "c", healthy, state, () if healthy else ("broken",), 0)


def said(decisions: list[Decision]) -> list[str]:
    return [str(d.alert) if isinstance(d, Tell) else type(d).__name__ for d in decisions]


def test_a_stopped_container_is_recovered_at_once() -> None:
    assert said(Policy().judge(verdict(False, State.EXITED), RULES, 0)) == ["UNHEALTHY", "Recover"]


def test_one_that_does_not_answer_is_given_its_retries() -> None:
    policy = Policy()

    assert [said(policy.judge(verdict(False), RULES, now)) for now in range(3)] == [[], [], ["UNHEALTHY", "Recover"]]


def test_a_good_check_forgets_the_bad_ones_before() -> None:
    policy = Policy()
    for healthy in (False, False, True, False, False):
        assert policy.judge(verdict(healthy), RULES, 0) == []


def test_recovery_is_told_with_how_long_it_took() -> None:
    policy = Policy()
    policy.judge(verdict(False, None), RULES, 100.0)
    policy.tried("i", RULES, 101.0)
    told = policy.judge(verdict(True), RULES, 102.5)

    assert said(told) == ["RECOVERED"]
    assert told[0].data["after_s"] == 2.5


def judged(policy: Policy, silent: int, of: int, at: float, state: State = State.RUNNING) -> dict[str, list[str]]:
    """Judge so many at a time, twice, of which the first are silent; return what is decided of these."""
    rules, found = RULES._replace(max_retries=1), {}
    for now in (at, at + 1):
        for number in range(of):
            seen = verdict(number >= silent, state if number < silent else State.RUNNING, f"i{number}")
            for one in policy.judge(seen, rules, now):
                found.setdefault(one.instance, []).append(*said([one]))
    return found


def test_where_most_fall_silent_at_once_the_machine_is_waited_for() -> None:
    policy = Policy()
    found = judged(policy, silent=4, of=6, at=0.0)
    assert [name for name, what in found.items() if "Recover" in what] == ["i0", "i1"]  # before a third was silent
    assert found["i3"] == ["UNHEALTHY"]
    assert judged(policy, silent=0, of=6, at=5.0)["i3"] == ["RECOVERED"]


def test_where_most_stay_silent_they_are_restarted_all_the_same() -> None:
    policy = Policy()
    for at in (0.0, 4.0, 8.0, 12.0):
        assert "Recover" not in judged(policy, silent=4, of=6, at=at).get("i2", [])
    assert judged(policy, silent=4, of=6, at=16.0) == {"i2": ["Recover"], "i3": ["Recover"]}


def test_some_that_fall_silent_and_all_that_have_ended_are_restarted_at_once() -> None:
    assert sum("Recover" in what for what in judged(Policy(), silent=4, of=10, at=0.0).values()) == 4
    assert sum("Recover" in what for what in judged(Policy(), 4, 6, 0.0, State.EXITED).values()) == 4


def test_nothing_is_decided_while_a_recovery_is_under_way() -> None:
    policy = Policy()
    policy.judge(verdict(False, None), RULES, 0)

    assert policy.judge(verdict(False, None), RULES, 1) == []


def test_a_crash_loop_backs_off_and_is_given_up() -> None:
    policy, now, tries, ends = Policy(), 0.0, [], []
    while not ends and now < 10_000:
        for decision in policy.judge(verdict(False, State.EXITED), RULES, now):
            if isinstance(decision, Recover):
                tries.append(now)
                policy.tried("i", RULES, now)
                policy.judge(verdict(True), RULES, now)  # it comes up, and ends again
            elif not isinstance(decision, Tell) or decision.alert is Alert.RECOVERY_FAILED:
                ends.append(decision)
        now += 1.0

    assert tries == [0.0, 10.0, 30.0, 70.0]
    assert said(ends) == ["RECOVERY_FAILED", "GiveUp"]
    assert isinstance(ends[1], GiveUp)
    assert [said(policy.judge(verdict(False, State.EXITED), RULES, now + n)) for n in range(3)] == [[], [], []]


def test_being_well_for_a_while_clears_the_account() -> None:
    policy = Policy()
    for start in (0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0):
        assert "Recover" in said(policy.judge(verdict(False, None), RULES, start))
        policy.tried("i", RULES, start)
        policy.judge(verdict(True), RULES, start + 1)
        policy.judge(verdict(True), RULES, start + 62)


def test_once_it_has_answered_that_time_is_over() -> None:
    policy = Policy()
    policy.judge(verdict(False, State.EXITED), RULES, 0)
    policy.tried("i", RULES, 0)
    policy.judge(verdict(True), RULES, 1.0)

    found = [said(policy.judge(verdict(False), RULES, 1.0 + 0.1 * n)) for n in range(1, 5)]
    assert found == [[], [], ["UNHEALTHY"], []]  # and restarted when its pause is over
    assert said(policy.judge(verdict(False), RULES, 10.0)) == ["Recover"]


def test_what_could_not_be_tried_does_not_count() -> None:
    policy = Policy()
    for now in range(20):
        assert "Recover" in said(policy.judge(verdict(False, None), RULES, now))
        policy.postponed("i")


def test_a_failed_recovery_is_tried_again_and_its_reason_is_told() -> None:
    policy, now, told = Policy(), 0.0, []
    while not told and now < 1000:
        for decision in policy.judge(verdict(False, None), RULES, now):
            if isinstance(decision, Recover):
                policy.tried("i", RULES, now, "no image x")
            elif isinstance(decision, Tell) and decision.alert is Alert.RECOVERY_FAILED:
                told.append(decision)
        now += 1

    assert "no image x" in told[0].text


def test_a_restarted_program_has_time_to_answer() -> None:
    policy = Policy()
    policy.judge(verdict(False, State.EXITED), RULES, 0)
    policy.tried("i", RULES, 1.0)

    assert [policy.judge(verdict(False), RULES, 1.0 + n) for n in range(9)] == [[]] * 9
    assert said(policy.judge(verdict(True), RULES, 10.0)) == ["RECOVERED"]


def test_restarts_can_be_switched_off() -> None:
    policy = Policy()
    rules = RULES._replace(restart=False)

    assert said(policy.judge(verdict(False, None), rules, 0)) == ["UNHEALTHY"]
    assert policy.judge(verdict(False, None), rules, 1) == []


# samples


def sample(cpu: float = 0.0, memory: int = 0) -> Sample:
    return Sample("c", cpu, memory, RESOURCES.memory_bytes, 1, 0, 0, 0, 0, 0)


def test_high_use_is_told_at_the_second_sample() -> None:
    policy = Policy()

    assert policy.weigh("i", sample(45, 440 << 20), RESOURCES, 0) == []
    told = policy.weigh("i", sample(45, 440 << 20), RESOURCES, 1)
    assert [(d.alert, d.level) for d in told] == [(Alert.HIGH_CPU, "warning"), (Alert.HIGH_MEM, "warning")]


def test_one_high_sample_among_low_ones_is_not_told() -> None:
    policy = Policy()

    assert not any(policy.weigh("i", sample(cpu), RESOURCES, n) for n, cpu in enumerate((10, 49, 10, 49, 10, 49)))


def test_it_is_told_once_then_when_it_becomes_critical_then_when_it_is_over() -> None:
    policy, told = Policy(), []
    for now, cpu in enumerate([42] * 20 + [49] * 20 + [5] * 20):
        told += [(now, d.level, d.data.get("over", False)) for d in policy.weigh("i", sample(cpu), RESOURCES, now)]

    assert told == [(1, "warning", False), (20, "error", False), (44, "info", True)]


def test_use_around_the_threshold_does_not_flood() -> None:
    policy, told = Policy(), 0
    for now in range(600):
        told += len(policy.weigh("i", sample(41 if now // 10 % 2 else 10), RESOURCES, now))

    assert told <= 2 * 600 / 60 + 2
