"""When an instance that died may start again: laws for any history of deaths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rolekit.model.restart import RestartPolicy, RestartState, after_death

POLICY = RestartPolicy()
draws = st.floats(0, 1)
lives = st.lists(st.tuples(st.floats(0, 200), draws), min_size=1, max_size=60)


def starts(history: list[tuple[float, float]], policy: RestartPolicy) -> list[float]:
    """Play lives of given lengths; return when each successor started."""
    now_s, state, times = 0.0, RestartState(), list[float]()
    for lived_s, draw in history:
        now_s += lived_s
        verdict = after_death(policy, state, now_s=now_s, healthy_s=lived_s, draw=draw)
        now_s += verdict.delay_s
        state = verdict.state
        times.append(now_s)
    return times


@given(lives)
def test_no_delay_is_longer_than_the_longest_or_negative(
    history: list[tuple[float, float]],
) -> None:
    state, now_s = RestartState(), 0.0

    for lived_s, draw in history:
        now_s += lived_s
        verdict = after_death(POLICY, state, now_s=now_s, healthy_s=lived_s, draw=draw)
        state = verdict.state

        assert 0 <= verdict.delay_s <= POLICY.longest_s


@given(lives.map(lambda history: [(lived_s % 1, draw) for lived_s, draw in history]))
def test_short_lives_start_no_more_often_than_the_budget(
    history: list[tuple[float, float]],
) -> None:
    times = starts(history, POLICY)

    # Beyond the budget one start each `longest_s` is all there is.
    most = POLICY.restarts + POLICY.within_s / POLICY.longest_s + 1
    for first in times:
        assert sum(first <= one < first + POLICY.within_s for one in times) <= most


@given(lives, draws)
def test_a_healthy_life_forgets_everything(
    history: list[tuple[float, float]], draw: float
) -> None:
    state, now_s = RestartState(), 0.0
    for lived_s, one in history:
        now_s += lived_s
        state = after_death(POLICY, state, now_s=now_s, healthy_s=0, draw=one).state
    now_s += POLICY.healthy_s

    verdict = after_death(POLICY, state, now_s=now_s, healthy_s=POLICY.healthy_s, draw=draw)

    assert verdict.delay_s == 0
    assert verdict.state == RestartState(failures=1, deaths=(now_s,))


@given(st.integers(1, 200))
def test_the_bound_doubles_until_the_longest(failures: int) -> None:
    state = RestartState(failures=failures - 1)

    verdict = after_death(POLICY, state, now_s=0, healthy_s=0, draw=1)

    assert verdict.delay_s == min(POLICY.longest_s, POLICY.first_s * 2 ** (failures - 1))


@given(st.integers(0, 40))
def test_a_crash_loop_begins_exactly_beyond_the_budget(restarts: int) -> None:
    policy = RestartPolicy(restarts=restarts)
    state = RestartState()
    verdicts = list[bool]()

    for _ in range(restarts + 1):
        state = after_death(policy, state, now_s=5, healthy_s=0, draw=0).state
        verdicts.append(state.is_crash_looping)

    assert verdicts == [False] * restarts + [True]


def test_a_crash_loop_stays_one_until_a_healthy_life() -> None:
    looping = RestartState(failures=11, deaths=(1.0,), is_crash_looping=True)

    later = after_death(POLICY, looping, now_s=500, healthy_s=59, draw=0.5)
    healed = after_death(POLICY, looping, now_s=500, healthy_s=60, draw=0.5)

    assert (later.state.is_crash_looping, later.delay_s) == (True, POLICY.longest_s)
    assert (healed.state.is_crash_looping, healed.delay_s) == (False, 0)


@given(draws)
def test_the_first_death_after_being_ready_is_followed_at_once_and_the_second_is_not(
    draw: float,
) -> None:
    first = after_death(POLICY, RestartState(), now_s=9, healthy_s=POLICY.first_s, draw=draw)
    second = after_death(POLICY, first.state, now_s=9.2, healthy_s=POLICY.first_s, draw=1)

    assert (first.delay_s, second.delay_s) == (0, POLICY.first_s * 2)


def test_a_crash_loop_of_years_remembers_no_more_than_the_budget() -> None:
    policy = RestartPolicy(within_s=1e9)
    state = RestartState()

    for now_s in range(1000):
        state = after_death(policy, state, now_s=now_s, healthy_s=0, draw=0).state

    assert len(state.deaths) == policy.restarts + 1
