"""What becomes of a message whose handler raised: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.errors import Reject, Retry
from rolekit.model.envelope import Attempts
from rolekit.model.policy import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN_DELAYS_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
CRASHES = 5
"""Crashes that a message running alone may cause before it becomes a dead letter."""
MAX_DELAY_S = 10 * 365 * 86_400.0
"""Longest delay that is kept: a time that fits every column, also when nobody meant it."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try again: the next generation, due in `delay_s` seconds.

    Attributes:
        delay_s: When.
        attempts: Of the next generation.
        of: How many attempts there are at most; 0: they are not counted.
    """

    delay_s: float
    attempts: Attempts
    of: int = 0


@dataclass(frozen=True, slots=True)
class Park:
    """Make it a dead letter."""

    reason: str


def decide(
    error: Exception, attempts: Attempts, policies: Sequence[Backoff], chance: float
) -> Again | Park:
    """Decide what becomes of a message whose handler raised.

    Args:
        error: What it raised.
        attempts: Of this generation, before this attempt.
        policies: In order; the first whose `on` matches decides. The last is the app's.
        chance: From 0 to 1, drawn evenly: where in the back-off's span to land.

    Returns:
        When to try again, or why not.
    """
    if isinstance(error, Reject):
        return Park(error.reason or "rejected")
    policy = next((one for one in policies if isinstance(error, one.on)), None)
    if isinstance(error, Retry):
        return _retry(error, attempts, policy or Backoff(), chance)
    tried = attempts.failures + 1
    if policy is None or tried >= policy.attempts:
        return Park(f"{type(error).__name__}: {error}")
    delay_s = _kept(span_s(policy, tried) * chance)
    return Again(delay_s, _counted(attempts, tried), policy.attempts)


def _retry(error: Retry, attempts: Attempts, policy: Backoff, chance: float) -> Again | Park:
    tried = attempts.failures + 1 if error.counts else attempts.failures
    if error.counts and tried >= policy.attempts:
        return Park(f"retried {tried} times: {error.reason or 'no reason given'}")
    delay_s = error.delay_s
    if delay_s is None:
        delay_s = span_s(policy, max(tried, 1)) * chance
    of = policy.attempts if error.counts else 0
    return Again(_kept(delay_s), _counted(attempts, tried), of)


def _kept(delay_s: float) -> float:
    """Bound a delay; what is not a number is none."""
    return min(delay_s, MAX_DELAY_S) if delay_s > 0 else 0.0


def span_s(policy: Backoff, tried: int) -> float:
    """Return the longest wait after so many attempts, in seconds."""
    exponent = min(tried - 1, 64)
    try:
        grown = policy.first_s * float(policy.factor) ** exponent
    except OverflowError:
        grown = policy.max_s if policy.first_s else 0.0
    return float(min(policy.max_s, grown))


def _counted(attempts: Attempts, failures: int) -> Attempts:
    return Attempts(failures, attempts.crashes, 0)


def decide_unknown(attempts: Attempts, now_ms: int, unknown_s: float, why: str) -> Again | Park:
    """Decide about a type, or version, that nobody here knows: a newer instance may.

    No attempt is used up; what counts is how long it has gone on.
    """
    since_ms = attempts.unknown_since_ms or now_ms
    waited_s = (now_ms - since_ms) / 1000
    if waited_s >= unknown_s:
        return Park(f"{why} Nobody knew it for {waited_s:.0f} s.")
    delay_s = next((d for d in UNKNOWN_DELAYS_S if waited_s < d * 2), UNKNOWN_DELAYS_S[-1])
    return Again(delay_s, Attempts(attempts.failures, attempts.crashes, since_ms))
