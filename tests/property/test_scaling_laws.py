"""The laws of scaling: within bounds, calm under a constant load, in time under any other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolekit.model.gauging import Ages, Counted, Gauge, Look
from rolekit.model.policy import Scale
from rolekit.model.scaling import Damping, Load, Past, decide
from tests.property.scaled_role import Simulated, Story, Work

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(120)

NOW_S = 10_000.0
SCALES = st.builds(
    Scale,
    min=st.integers(0, 20),
    max=st.integers(20, 200),
    target_age_s=st.sampled_from([0.5, 5, 60, 3600]),
)
LOADS = st.builds(
    Load,
    wanted=st.integers(0, 250),
    ready=st.integers(0, 250),
    places=st.sampled_from([1, 20, 500]),
    waiting=st.integers(0, 100_000),
    in_hand=st.integers(0, 5000),
    oldest_s=st.floats(0, 10_000),
    blocked_s=st.floats(0, 10_000),
    arriving=st.floats(0, 50_000),
    drain=st.none() | st.floats(0, 5000),
)
PASTS = st.builds(
    Past,
    changed_s=st.floats(NOW_S - 1000, NOW_S),
    needs=st.lists(
        st.tuples(st.floats(NOW_S - 400, NOW_S), st.integers(0, 250)), max_size=5
    ).map(tuple),
    too_few=st.lists(
        st.tuples(st.floats(NOW_S - 4000, NOW_S), st.integers(0, 250), st.floats(0, 50_000)),
        max_size=5,
    ).map(tuple),
)


def decided(scale: Scale, load: Load, past: Past) -> int:
    return decide(scale, Damping(), load, past, NOW_S).count


@given(SCALES, LOADS, PASTS)
def test_the_count_is_never_outside_its_bounds(scale: Scale, load: Load, past: Past) -> None:
    decision = decide(scale, Damping(), load, past, NOW_S)

    assert scale.min <= decision.count <= scale.max
    assert decision.why
    if decision.move == "stay":
        assert decision.count == load.wanted
    else:
        assert (decision.count > load.wanted) == (decision.move == "up")
        assert decision.past.changed_s == NOW_S


@given(SCALES, LOADS, PASTS, st.integers(0, 100_000))
def test_a_longer_queue_never_means_fewer(
    scale: Scale, load: Load, past: Past, more: int
) -> None:
    longer = replace(load, waiting=load.waiting + more)

    assert decided(scale, longer, past) >= decided(scale, load, past)


@given(SCALES, LOADS, PASTS, st.floats(0, 10_000))
def test_an_older_message_never_means_fewer(
    scale: Scale, load: Load, past: Past, more_s: float
) -> None:
    older = replace(load, oldest_s=load.oldest_s + more_s)

    assert decided(scale, older, past) >= decided(scale, load, past)


@given(SCALES, LOADS, PASTS)
def test_none_are_taken_away_while_the_oldest_is_near_the_target(
    scale: Scale, load: Load, past: Past
) -> None:
    late = replace(load, waiting=max(load.waiting, 1), oldest_s=scale.target_age_s)

    assert decided(scale, late, past) >= min(load.wanted, scale.max)


@given(SCALES, LOADS)
def test_what_is_in_hand_keeps_one(scale: Scale, load: Load) -> None:
    busy = replace(load, wanted=max(load.wanted, 1), in_hand=max(load.in_hand, 1))
    past = Past(changed_s=0)

    assert decided(scale, busy, past) >= 1


@given(SCALES, LOADS)
def test_one_message_wakes_a_role_that_has_no_instance(scale: Scale, load: Load) -> None:
    asleep = replace(load, wanted=0, ready=0, waiting=max(load.waiting, 1))

    assert decided(scale, asleep, Past(changed_s=NOW_S)) >= 1


@given(SCALES, LOADS)
def test_an_idle_role_is_at_its_least_after_the_calm_time(scale: Scale, load: Load) -> None:
    idle = replace(load, waiting=0, in_hand=0, arriving=0)
    past, damping = Past(changed_s=NOW_S), Damping()

    for second in range(0, 2400, 10):
        decision = decide(scale, damping, idle, past, NOW_S + second)
        past, idle = decision.past, replace(idle, wanted=decision.count)

    assert idle.wanted == scale.min


def test_a_position_that_stands_still_makes_what_waits_more_urgent() -> None:
    scale = Scale(min=1, max=50, target_age_s=10)
    load = Load(wanted=2, ready=2, waiting=80, arriving=20, drain=20, oldest_s=1)
    past = Past(changed_s=0)

    calm = decide(scale, Damping(), load, past, NOW_S)
    pressed = decide(scale, Damping(), replace(load, blocked_s=41), past, NOW_S)

    assert (calm.move, pressed.move) == ("stay", "up")
    assert pressed.why.startswith("80 wait, 2 s of work for 2")
    assert "a gather has stood for 41 s" in pressed.why


def test_the_reason_names_age_and_target() -> None:
    load = Load(wanted=12, ready=12, waiting=4201, oldest_s=3.1, arriving=1870, drain=150)

    decision = decide(
        Scale(min=1, max=50, target_age_s=5), Damping(), load, Past(changed_s=0), NOW_S
    )

    assert decision.count == 24
    assert decision.why == "oldest 3.1 s is near 5 s (1,870/s arrive, one takes 150/s)"


# -- over time --------------------------------------------------------------------------------

SCALE = Scale(min=1, max=40, target_age_s=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is simulated, but for the law by which messages arrive."""

    work: Work
    seed: int
    is_told: bool

    def rate(self, instances_worth: float) -> float:
        """Return what so many instances can do; not so much that a test takes minutes."""
        return min(instances_worth * self.work.per_s, 300)

    def run(self, arriving: Callable[[float], float], seconds: float) -> Story:
        role = Simulated(SCALE, self.work, arriving, seed=self.seed, is_told=self.is_told)
        return role.run(seconds)


SOME = settings(max_examples=12, derandomize=True)
"""The same each time: chance may be as bad as it likes, and says little of a change."""
CASES = st.builds(
    Case,
    work=st.builds(
        Work,
        takes_s=st.floats(0.3, 4),
        places=st.sampled_from([4, 20]),
        computes=st.booleans(),
    ),
    seed=st.integers(0, 2**32),
    is_told=st.booleans(),
)


@SOME
@given(CASES, st.floats(0.05, 20))
def test_a_constant_load_does_not_flap_and_is_in_time(
    case: Case, instances_worth: float
) -> None:
    per_s = case.rate(instances_worth)

    story = case.run(lambda _: per_s, 400)

    assert story.turns() <= 2  # up to begin with, then to what it takes, which may be one more
    assert story.oldest_s(since_s=60) <= SCALE.target_age_s
    assert story.wanted(400) <= 4 * per_s / case.work.per_s + 3


@SOME
@given(CASES, st.floats(1, 20))
def test_a_step_is_carried_within_the_target(case: Case, instances_worth: float) -> None:
    per_s = case.rate(instances_worth)

    story = case.run(lambda at_s: per_s if at_s >= 40 else per_s / 20, 160)

    assert story.turns() <= 2
    assert story.oldest_s(until_s=60) <= 2 * SCALE.target_age_s
    assert story.oldest_s(since_s=80) <= SCALE.target_age_s
    assert story.wanted(160) >= math.floor(0.8 * per_s / case.work.per_s)


@SOME
@given(CASES)
def test_a_ramp_is_followed_in_time_up_and_down(case: Case) -> None:
    top = case.rate(15)

    story = case.run(lambda at_s: top * (1 - abs(at_s - 200) / 200), 900)

    assert story.turns() <= 3
    assert story.oldest_s(since_s=30) <= 1.5 * SCALE.target_age_s
    assert story.wanted(900) == SCALE.min
    assert story.left == 0


@SOME
@given(CASES)
def test_a_burst_takes_it_from_least_to_most_and_back_once(case: Case) -> None:
    messages = SCALE.max * max(case.work.per_s * 20, case.work.places * 5)

    story = case.run(lambda at_s: messages * 10 if 10 <= at_s < 10.1 else 0, 900)

    counts = [count for _, count in story.counts]
    peak = counts.index(SCALE.max)
    assert counts[:peak] == sorted(counts[:peak])
    assert counts[peak:] == sorted(counts[peak:], reverse=True)
    assert counts[-1] == SCALE.min
    assert story.left == 0


@SOME
@given(CASES, st.integers(40, 200))
def test_a_sawtooth_turns_it_no_more_often_than_it_turns(case: Case, period_s: int) -> None:
    top = case.rate(10)

    story = case.run(lambda at_s: top * (at_s % period_s) / period_s, 600)

    assert story.turns() <= 2 * math.ceil(600 / period_s)
    assert story.oldest_s(since_s=60) <= 1.5 * SCALE.target_age_s


# -- what is measured -------------------------------------------------------------------------


@given(
    st.integers(1, 30),
    st.floats(5, 2000),
    st.integers(20, 200),
    st.floats(0.7, 1.3),
)
def test_what_one_takes_is_right_when_they_always_have_work(
    instances: int, per_s: float, waiting: int, look_s: float
) -> None:
    gauge = Gauge(places=20)

    for n in range(20):
        settled = int(per_s * n * look_s)
        counts = {
            name: Counted(settled=settled, in_hand=20, cpu_s=0) for name in range(instances)
        }
        backlog = round(waiting * instances * per_s)
        gauge.note(
            Look(at_s=n * look_s, waiting=backlog, in_hand=20 * instances, counts=counts)
        )

    assert gauge.drain == pytest.approx(per_s, rel=0.2, abs=1)


@pytest.mark.parametrize("kind", ["waits", "computes"])
@given(instances=st.integers(1, 30), busy=st.floats(0.1, 0.9))
def test_what_one_would_take_is_seen_before_it_is_overloaded(
    kind: str, instances: int, busy: float
) -> None:
    gauge = Gauge(places=20)
    computes = kind == "computes"

    for n in range(20):
        count = Counted(
            settled=round(100 * busy * n),
            in_hand=0 if computes else round(20 * busy),
            cpu_s=busy * n if computes else 0,
        )
        counts = dict.fromkeys(range(instances), count)
        gauge.note(Look(at_s=n, waiting=0, in_hand=5, counts=counts))

    assert gauge.drain == pytest.approx(100, rel=0.5)


@given(st.lists(st.integers(0, 50), min_size=10, max_size=80))
def test_what_arrives_is_what_was_settled_and_what_is_there_more(arrivals: list[int]) -> None:
    gauge, waiting, settled = Gauge(places=1), 0, 0

    for n, came in enumerate(arrivals):
        waiting += came
        done = min(waiting, 7)
        waiting, settled = waiting - done, settled + done
        counts = {1: Counted(settled=settled, in_hand=0, cpu_s=0)}
        gauge.note(Look(at_s=n, waiting=waiting, in_hand=0, counts=counts))

    rates = [sum(arrivals[-n:]) / n for n in range(1, len(arrivals))]
    assert any(gauge.arriving == pytest.approx(rate) for rate in rates)
    if sum(arrivals[-5:]) >= 20:
        assert gauge.arriving == pytest.approx(sum(arrivals[-5:]) / 5)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60))
def test_an_age_that_nobody_tells_is_never_taken_for_less(
    turns: list[tuple[int, int]],
) -> None:
    ages, queue = Ages(), list[float]()
    ages.note(0, 0, None)

    for second, (came, taken) in enumerate(turns, 1):
        delivered = [second - at for at in queue[:taken]]
        queue = [*queue[taken:], *[second] * came]
        told_s = ages.note(second, len(queue), max(delivered, default=None))

        true_s = second - queue[0] if queue else 0
        assert true_s <= told_s <= second
