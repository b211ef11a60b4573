"""The laws of rates: however many ask, units leave no faster than the limit and a burst."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolekit.model.policy import Rate
from rolekit.model.rates import (
    LATE_MS,
    Ask,
    Bucket,
    Lease,
    burst_of,
    reserve,
    step_ms_of,
)

pytestmark = pytest.mark.timeout(120)

FINEST_MS = 0.001
"""Times are floating-point numbers: around now they are no finer."""
RATES = st.builds(
    Rate,
    st.sampled_from([0.5, 1, 3, 10, 50, 500, 20_000]),
    st.sampled_from([0.1, 1, 60, 3600]),
)


def ask_of(rate: Rate, wanted: float, ahead_ms: float, first: float = 1) -> Ask:
    return Ask("b", wanted, first, step_ms_of(rate), burst_of(rate), ahead_ms)


@given(RATES, st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 60)), max_size=60))
def test_slots_are_no_nearer_than_the_limit_allows_and_nobody_shares_one(
    rate: Rate, asks: list[tuple[int, int]]
) -> None:
    step_ms, burst = step_ms_of(rate), burst_of(rate)
    bucket, now_ms = Bucket(), 1e12
    slots: list[tuple[float, float]] = []  # when it may be used, and its place in the row

    for wait_ms, wanted in asks:
        now_ms += wait_ms
        grant, bucket = reserve(ask_of(rate, wanted, 250), bucket, now_ms)
        start = now_ms + grant.start_ms
        assert grant.granted <= wanted
        granted = [start + n * step_ms for n in range(int(grant.granted))]
        slots += [(max(place, now_ms), place) for place in granted]
        if grant.granted:
            assert start + (grant.granted - 1) * step_ms <= now_ms + 250 + 1
        else:
            assert grant.start_ms > 250 - 1

    places = [place for _, place in slots]
    assert places == sorted(places)
    assert all(b - a >= step_ms * 0.999 - FINEST_MS for a, b in pairwise(places))
    used = sorted(at for at, _ in slots)
    for n in range(len(used)):
        for m in range(n, min(n + 200, len(used))):
            # In any time: what the limit allows in it, one more, and the burst.
            assert m - n + 1 <= (used[m] - used[n] + FINEST_MS) / step_ms + burst + 1.01


@given(RATES, st.floats(1, 1e6), st.floats(0, 1000))
def test_a_message_that_costs_more_than_the_burst_goes_and_is_paid_for_afterwards(
    rate: Rate, cost: float, ahead_ms: float
) -> None:
    now_ms = 1e12
    first, bucket = reserve(ask_of(rate, cost, ahead_ms, cost), Bucket(), now_ms)
    second, _ = reserve(ask_of(rate, 1, 1e13), bucket, now_ms)

    assert first.granted == pytest.approx(cost)
    behind_ms = (cost - burst_of(rate)) * step_ms_of(rate)
    assert second.start_ms == pytest.approx(behind_ms, rel=1e-3, abs=1)


@given(RATES, st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 500)), max_size=60))
def test_what_gets_no_slot_lines_up_in_order_no_further_than_the_line_is_long(
    rate: Rate, asks: list[tuple[int, int]]
) -> None:
    step_ms, bucket, now_ms = step_ms_of(rate), Bucket(), 1e12
    plan_ms, line_ms, end_ms = 60_000.0, 3_600_000.0, 0.0

    for wait_ms, wanted in asks:
        now_ms += wait_ms
        ask = Ask("b", wanted, 1, step_ms, burst_of(rate), plan_ms, line_ms)
        grant, bucket = reserve(ask, bucket, now_ms)
        assert bucket.free_ms <= now_ms + plan_ms + step_ms + 1, "no more slots than planned"
        assert bucket.line_ms <= now_ms + line_ms
        if grant.granted == wanted:
            continue
        place = now_ms + grant.place_ms
        assert place >= min(bucket.free_ms, now_ms + line_ms) - 1, "behind all who have slots"
        assert place >= min(end_ms, now_ms + line_ms) - 1, "and behind all who stand there"
        assert grant.place_ms > min(plan_ms - step_ms, line_ms) - 1
        end_ms = bucket.line_ms


@given(
    st.sampled_from([1.0, 7.0, 40.0]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9)), max_size=30),
)
def test_a_lease_gives_each_slot_once_not_before_its_time_and_not_long_after(
    step_ms: float, grants: list[tuple[int, int]]
) -> None:
    lease, now_ms, end_ms, given_units, used = Lease(step_ms), 0.0, 0.0, 0, 0
    for gap, units in grants:
        start = max(end_ms, now_ms) + gap
        lease.add(start, units, now_ms)
        end_ms, given_units = start + units * step_ms, given_units + units
        now_ms += gap / 2
        while lease.left(now_ms) >= 1 and lease.wait_ms(now_ms) == 0:
            lease.use(1)
            used += 1
    assert used <= given_units
    assert lease.left(end_ms + LATE_MS + 2 * step_ms) == 0


@settings(max_examples=60)
@given(
    st.sampled_from([Rate(50), Rate(10), Rate(300, per_s=60), Rate(500)]),
    st.integers(1, 6),
    st.integers(0, 10**6),
)
def test_several_that_want_all_they_can_get_come_to_the_limit_together(
    rate: Rate, askers: int, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    bucket, now_ms, units = Bucket(), 1e12, 0.0
    length_ms = max(5000.0, 40 * step_ms_of(rate))
    until_ms = now_ms + length_ms
    due = [(now_ms + chance.uniform(0, 100), n) for n in range(askers)]
    while due:
        now_ms, n = due.pop(due.index(min(due)))
        if now_ms > until_ms:
            break
        grant, bucket = reserve(ask_of(rate, 1000, 250), bucket, now_ms)
        start = now_ms + grant.start_ms
        inside = [
            1 for k in range(int(grant.granted)) if start + k * step_ms_of(rate) <= until_ms
        ]
        units += len(inside)
        due.append((now_ms + chance.uniform(80, 120), n))

    allowed = length_ms / step_ms_of(rate)
    assert allowed * 0.9 - 1 <= units <= allowed + burst_of(rate) + 1
