"""When an instance that died may start again: full-jitter back-off and a budget.

Time and randomness come in as arguments. Like Erlang/OTP there is an intensity budget;
unlike it, going beyond does not end the role: it is called crash-looping, loudly, and tried
again at the longest interval, since nobody stands above this supervisor to do better.
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DOUBLINGS = 60  # beyond, the bound is far past any `longest_s`, and floats overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How patiently a place in the fleet is filled again.

    Attributes:
        first_s: Upper bound of the first delay; it doubles with each death in a row. One that
            had been ready for as long is followed at once the first time: whatever ended it,
            it was not its start.
        longest_s: Where the bound stops growing, and the interval of a crash loop.
        healthy_s: A life of so many seconds after being ready forgets what was before.
        restarts: The budget: so many deaths
        within_s: in so many seconds are borne; one more is a crash loop.
        early_s: A death sooner after being ready counts for the whole role; see `intensity`.
    """

    first_s: float = 0.1
    longest_s: float = 30
    healthy_s: float = 60
    restarts: int = 10
    within_s: float = 60
    early_s: float = 2


@dataclass(frozen=True, slots=True)
class RestartState:
    """What is remembered of one place between two lives.

    Attributes:
        failures: Deaths in a row without a healthy life between them.
        deaths: When, monotonic seconds, oldest first; only those within the budget's time.
        is_crash_looping: The budget was spent, and no healthy life came since.
    """

    failures: int = 0
    deaths: tuple[float, ...] = ()
    is_crash_looping: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a death: wait so many seconds, and remember this."""

    delay_s: float
    state: RestartState


def after_death(
    policy: RestartPolicy, state: RestartState, *, now_s: float, healthy_s: float, draw: float
) -> Verdict:
    """Decide when the successor of a dead instance may start.

    Args:
        policy: The numbers.
        state: As the previous verdict left it.
        now_s: Monotonic time of the death. Never goes backwards.
        healthy_s: How long the dead one had been ready; 0 when it never was.
        draw: Randomness, 0 to 1.

    Returns:
        A delay from 0 to `policy.longest_s`; exactly that while crash-looping, and 0 after
        the first death in a row of one that had been ready for `policy.first_s`.

    Source: RELIABILITY 4.5, "crash loop".
    """
    if healthy_s >= policy.healthy_s:
        state = RestartState()
    deaths = (*(at for at in state.deaths if now_s - at < policy.within_s), now_s)
    failures = state.failures + 1
    is_crash_looping = state.is_crash_looping or len(deaths) > policy.restarts
    bound = min(policy.longest_s, policy.first_s * 2 ** min(failures - 1, _MAX_DOUBLINGS))
    if failures == 1 and healthy_s >= policy.first_s:
        bound = 0
    delay_s = policy.longest_s if is_crash_looping else bound * draw
    # Only the newest `restarts + 1` deaths can matter: a crash loop must not grow this.
    kept = deaths[-(policy.restarts + 1) :]
    return Verdict(delay_s, RestartState(failures, kept, is_crash_looping))
