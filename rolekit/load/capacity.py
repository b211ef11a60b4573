"""Search for the highest rate at which a scenario still passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import ConfigError
from rolekit.load.arrivals import Constant, Poisson

if TYPE_CHECKING:
    from rolekit.load.result import Result
    from rolekit.load.scenario import Scenario

_CLOSE = 1.05
_TRIALS = 24


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One rate that was tried.

    Attributes:
        rate: Requests per second that were due.
        reasons: Why it failed; empty: it passed.
    """

    rate: float
    measured: float
    p50_us: int
    p99_us: int
    reasons: list[str]

    @property
    def is_passed(self) -> bool:
        """Whether all objectives were met."""
        return not self.reasons


Attempt = Callable[["Scenario"], Awaitable["Result"]]


async def find_capacity(
    scenario: Scenario, attempt: Attempt, on_trial: Callable[[Trial], None]
) -> tuple[Result, list[Trial]]:
    """Find the highest rate that passes, to within 5 %.

    Doubles the rate until a run fails, or halves it until one passes, then goes between.

    Returns:
        The run at the highest rate that passed (or at the lowest, when none did), and all
        trials in their order.

    Raises:
        ConfigError: The scenario has no objective, or a law without one rate.
    """
    arrival = scenario.arrival
    if not isinstance(arrival, Constant | Poisson):
        raise ConfigError(
            f"A capacity cannot be found with the law {arrival.__struct_config__.tag!r}.",
            fix='Use law = "poisson" or "constant": the search sets the rate.',
        )
    if not any(one.percentile is not None for one in scenario.wanted):
        raise ConfigError(
            "A capacity is the highest rate that meets an objective, and there is none.",
            fix="Name one: --objective p99=250ms",
        )
    trials: list[Trial] = []
    best: Result | None = None
    lowest: Result | None = None
    good, bad, rate = 0.0, 0.0, arrival.rate
    while len(trials) < _TRIALS and not (good and bad and bad / good <= _CLOSE):
        result = await attempt(msgspec.structs.replace(scenario, arrival=arrival.at_rate(rate)))
        trials.append(_trial(rate, result))
        on_trial(trials[-1])
        if result.is_passed:
            good, best = rate, result
        else:
            bad = rate
            lowest = (
                result if lowest is None or rate <= min(one.rate for one in trials) else lowest
            )
        rate = (good * bad) ** 0.5 if good and bad else (rate * 2 if good else rate / 2)
        if rate < 0.1:  # noqa: PLR2004 - one request in ten seconds: nothing is left to halve
            break
    found = best or lowest
    assert found is not None  # noqa: S101 - at least one was tried
    return found, trials


def _trial(rate: float, result: Result) -> Trial:
    p50, p99 = (result.at(50), result.at(99)) if result.percentiles else (0, 0)
    return Trial(
        rate=rate, measured=result.rate, p50_us=p50, p99_us=p99, reasons=list(result.reasons)
    )
