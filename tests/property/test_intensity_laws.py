"""The laws of a role's budget of deaths: what spends it, and what never does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.model.intensity import Intensity
from rolekit.model.restart import RestartPolicy, RestartState, after_death

POLICY = RestartPolicy()
EARLY_S, LONG_S = POLICY.early_s / 2, POLICY.early_s
places = st.integers(0, 20)
lives = st.sampled_from((0.0, EARLY_S, LONG_S))
histories = st.lists(st.tuples(places, lives), max_size=300)


def role(count: int) -> Intensity:
    """A role whose places have all been ready once."""
    intensity = Intensity(POLICY)
    for place in range(count):
        intensity.was_ready(place)
    return intensity


def deaths_until_noticed(intensity: Intensity, count: int, healthy_s: float) -> int:
    """Let one place after another die, over and over; return after how many that is seen."""
    for death in range(count * POLICY.restarts):
        if healthy_s:
            intensity.was_ready(death % count)
        intensity.died(death % count, healthy_s)
        if intensity.is_crash_looping:
            return death + 1
    raise AssertionError("nobody noticed")


@given(st.integers(2, 200))
def test_a_build_that_dies_after_being_ready_is_seen_at_one_death_a_place_and_a_few(
    count: int,
) -> None:
    assert (
        deaths_until_noticed(Intensity(POLICY), count, EARLY_S) == count + POLICY.restarts + 1
    )


@given(st.integers(2, 200))
def test_a_build_that_is_never_ready_is_seen_whatever_the_number_of_places(count: int) -> None:
    assert deaths_until_noticed(Intensity(POLICY), count, 0) == POLICY.restarts + 1


@given(st.integers(1, 50), st.integers(0, 500))
def test_one_place_alone_never_makes_its_role_crash_loop(count: int, deaths: int) -> None:
    intensity = role(count)

    for _ in range(deaths):
        intensity.died(0, 0)

    assert not intensity.is_crash_looping


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n // 2))))
def test_no_more_than_half_of_the_places_ever_do(counts: tuple[int, int]) -> None:
    count, bad = counts
    intensity = role(count)

    for death in range(bad * 50):
        intensity.died(death % bad, EARLY_S)

    assert not intensity.is_crash_looping


@given(st.integers(1, 300), st.permutations(range(20)))
def test_killing_each_instance_once_never_does_however_young_they_are(
    count: int, order: list[int]
) -> None:
    intensity = role(count)

    for place in [*order[:count], *range(20, count)]:
        intensity.died(place, 0.01)
        intensity.was_ready(place)

    assert not intensity.is_crash_looping


@given(st.lists(places, max_size=500))
def test_deaths_of_those_that_have_lived_never_do(order: list[int]) -> None:
    intensity = role(21)

    for place in order:
        intensity.died(place, LONG_S)

    assert not intensity.is_crash_looping
    assert intensity.early_deaths == 0


@given(st.integers(0, 2**32), st.sampled_from((4, 20)), st.floats(6, 60))
def test_kills_at_random_do_not(seed: int, count: int, mean_s: float) -> None:
    """As of a test that kills whom it meets: each lives for `mean_s` on average."""
    chance = random.Random(seed)  # noqa: S311 - the same kills wanted again
    intensity, ready_s, now_s = role(count), [0.0] * count, 0.0
    for _ in range(200):
        now_s += chance.expovariate(count / mean_s)
        place = chance.randrange(count)
        for other, since_s in enumerate(ready_s):
            if intensity.fails(other) and now_s - since_s >= POLICY.early_s:
                intensity.has_lived(other)
        intensity.died(place, now_s - ready_s[place])
        intensity.was_ready(place)
        ready_s[place] = now_s

        assert not intensity.is_crash_looping


@given(histories)
def test_it_is_over_once_one_that_failed_has_lived(history: list[tuple[int, float]]) -> None:
    intensity = Intensity(POLICY)

    for place, healthy_s in history:
        was, did_fail = intensity.is_crash_looping, intensity.fails(place)
        intensity.died(place, healthy_s)
        if was:
            assert intensity.is_crash_looping != (did_fail and healthy_s >= POLICY.early_s)
        elif intensity.is_crash_looping:
            assert healthy_s < POLICY.early_s


@given(st.integers(2, 30))
def test_it_is_over_once_those_that_failed_are_given_up(count: int) -> None:
    intensity = Intensity(POLICY)
    deaths_until_noticed(intensity, count, 0)

    for place in range(count):
        intensity.left(place)

    assert not intensity.is_crash_looping
    assert intensity.failing == 0


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=200).map(sorted))
def test_all_places_together_have_as_many_turns_as_one_has_deaths(died_s: list[float]) -> None:
    intensity = Intensity(POLICY)

    turns = [intensity.turn_s(at_s) for at_s in died_s]

    assert all(
        turn >= at_s + POLICY.longest_s for turn, at_s in zip(turns, died_s, strict=True)
    )
    for first in turns:
        within = [one for one in turns if first <= one < first + POLICY.longest_s - 1e-6]
        assert len(within) <= POLICY.restarts


@pytest.mark.parametrize("count", [2, 5, 50])
def test_a_role_sees_it_before_its_places_do(count: int) -> None:
    """With fifty, at a death and a bit for each, instead of eleven."""
    alone, deaths = RestartState(), 0
    while not alone.is_crash_looping:
        alone = after_death(POLICY, alone, now_s=0, healthy_s=0, draw=0).state
        deaths += 1

    assert deaths_until_noticed(Intensity(POLICY), count, EARLY_S) < deaths * count
