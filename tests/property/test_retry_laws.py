"""The laws of trying again: never more often than allowed, never later than said."""

from __future__ import annotations

import math
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.errors import Reject, Retry
from rolekit.model.envelope import Attempts
from rolekit.model.policy import Backoff
from rolekit.model.retry import MAX_DELAY_S, Again, Park, decide, decide_unknown, span_s

pytestmark = pytest.mark.timeout(60)

KINDS: tuple[type[Exception], ...] = (Exception, ValueError, LookupError, OSError)


def backoff(
    attempts: int, first_s: float, factor: float, more_s: float, on: type[Exception]
) -> Backoff:
    """Build a policy that is allowed, the absurd ones among them."""
    return Backoff(
        attempts=attempts, first_s=first_s, factor=factor, max_s=first_s + more_s, on=on
    )


BACKOFFS = st.builds(
    backoff,
    st.integers(1, 80),
    st.sampled_from([0, 0.1, 1, 30, 1e9]),
    st.sampled_from([1, 1.5, 2, 10, 1e6, 1e12, 10**12]),
    st.sampled_from([0, 0.1, 600, 1e9, math.inf]),
    st.sampled_from(KINDS),
)
POLICIES = st.lists(BACKOFFS, max_size=3)
CHANCES = st.floats(0, 1)
COUNTS = st.integers(0, 100)
ATTEMPTS = st.builds(Attempts, COUNTS, COUNTS, st.integers(0, 2**40))
ERRORS = st.sampled_from([ValueError("v"), KeyError("k"), OSError("o"), RuntimeError("r")])


def policy_for(error: Exception, policies: list[Backoff]) -> Backoff | None:
    """Find the policy that decides."""
    return next((one for one in policies if isinstance(error, one.on)), None)


@given(st.lists(ERRORS, min_size=1, max_size=4), POLICIES, CHANCES)
def test_a_message_is_tried_no_more_often_than_its_policies_allow(
    errors: list[Exception], policies: list[Backoff], chance: float
) -> None:
    attempts, tries = Attempts(), 0

    for error in islice(cycle(errors), 100):
        tries += 1
        verdict = decide(error, attempts, policies, chance)
        policy = policy_for(error, policies)
        if isinstance(verdict, Park):
            assert policy is None or tries >= policy.attempts
            break
        assert policy is not None
        assert tries < policy.attempts
        attempts = verdict.attempts

    assert tries <= max([one.attempts for one in policies], default=1)


@given(ERRORS, ATTEMPTS, POLICIES, CHANCES)
def test_a_delay_lies_within_its_span(
    error: Exception, attempts: Attempts, policies: list[Backoff], chance: float
) -> None:
    verdict = decide(error, attempts, policies, chance)

    policy = policy_for(error, policies)
    if policy is None:
        assert isinstance(verdict, Park)
    elif isinstance(verdict, Again):
        assert 0 <= verdict.delay_s <= span_s(policy, attempts.failures + 1) <= policy.max_s
        assert verdict.delay_s <= MAX_DELAY_S


@given(BACKOFFS, st.integers(1, 200))
def test_a_span_never_shrinks_from_one_attempt_to_the_next(policy: Backoff, tried: int) -> None:
    assert span_s(policy, tried) <= span_s(policy, tried + 1)


@given(
    attempts=ATTEMPTS,
    policies=POLICIES,
    chance=CHANCES,
    delay_s=st.floats() | st.none(),
    counts=st.booleans(),
)
def test_a_handler_that_asks_for_a_delay_gets_one_that_can_be_kept(
    attempts: Attempts,
    policies: list[Backoff],
    chance: float,
    delay_s: float | None,
    *,
    counts: bool,
) -> None:
    verdict = decide(Retry(delay_s=delay_s, counts=counts), attempts, policies, chance)

    if isinstance(verdict, Again):
        assert 0 <= verdict.delay_s <= MAX_DELAY_S
        if delay_s is not None and 0 <= delay_s <= MAX_DELAY_S:
            assert verdict.delay_s == delay_s


@given(ATTEMPTS, POLICIES, CHANCES)
def test_a_retry_that_does_not_count_uses_up_nothing(
    attempts: Attempts, policies: list[Backoff], chance: float
) -> None:
    verdict = decide(Retry(counts=False), attempts, policies, chance)

    assert isinstance(verdict, Again)
    assert verdict.attempts.failures == attempts.failures
    assert verdict.attempts.crashes == attempts.crashes


@given(ATTEMPTS, POLICIES, CHANCES)
def test_a_retry_that_counts_uses_up_one_attempt_or_parks(
    attempts: Attempts, policies: list[Backoff], chance: float
) -> None:
    verdict = decide(Retry("busy"), attempts, policies, chance)

    policy = policy_for(Retry(), policies) or Backoff()
    if isinstance(verdict, Park):
        assert attempts.failures + 1 >= policy.attempts
        assert "busy" in verdict.reason
    else:
        assert attempts.failures + 1 < policy.attempts
        assert verdict.attempts.failures == attempts.failures + 1


@given(ATTEMPTS, POLICIES, CHANCES, st.text())
def test_a_rejected_message_is_parked_whatever_the_policies_say(
    attempts: Attempts, policies: list[Backoff], chance: float, reason: str
) -> None:
    assert decide(Reject(reason), attempts, policies, chance) == Park(reason or "rejected")


@given(ATTEMPTS, st.floats(1, 900), st.integers(1, 2**42))
def test_an_unknown_type_comes_again_until_its_time_is_up_and_uses_up_nothing(
    attempts: Attempts, unknown_s: float, now_ms: int
) -> None:
    fresh = Attempts(attempts.failures, attempts.crashes)
    started_ms, rounds = now_ms, 0
    verdict = decide_unknown(fresh, now_ms, unknown_s, "why.")

    while isinstance(verdict, Again):
        assert 0 < verdict.delay_s <= 30
        assert verdict.attempts.failures == fresh.failures
        assert verdict.attempts.crashes == fresh.crashes
        rounds += 1
        assert rounds < 60, "it would come again for ever"
        now_ms += round(verdict.delay_s * 1000)
        verdict = decide_unknown(verdict.attempts, now_ms, unknown_s, "why.")

    assert now_ms - started_ms >= unknown_s * 1000 - 1
    assert now_ms - started_ms <= (unknown_s + 31) * 1000
