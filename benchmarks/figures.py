"""What the numbers mean: medians with their spread, ratios within a round, bars.

The machine's speed drifts by a factor of two within minutes, so contenders run in turn, and
a ratio is taken round by round before the median is: what drifts between rounds cancels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RATE, CPU_US = "rate", "cpu_us"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one contender.

    Attributes:
        messages: How many went the whole way.
        seconds: How long that took.
        cpu_s: CPU of the client process; with child processes where it has any.
        details: What else was measured, by name.
        error: Why there is no figure; empty when there is one.
    """

    messages: int = 0
    seconds: float = 0
    cpu_s: float = 0
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""

    def metric(self, name: str) -> float | None:
        """Return messages/s, CPU in µs a message, or a detail; None when it is missing."""
        if self.error or not self.messages:
            return None
        if name == RATE:
            return self.messages / self.seconds
        if name == CPU_US:
            return self.cpu_s / self.messages * 1e6
        found = self.details.get(name)
        return None if found is None else float(found)


Round = Mapping[str, Run]
"""The runs of one round, by contender."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and how far the rounds lie apart."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread | None:
    """Return the median of some values with their range; None of none."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def difference(of: Sequence[float], against: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of the differences, and the interval of 95 % that it lies in.

    Source: the binomial interval of a median, by the normal approximation.
    """
    found = sorted(a - b for a, b in zip(of, against, strict=True))
    low = max(math.floor((len(found) - 1.96 * math.sqrt(len(found))) / 2) - 1, 0)
    return statistics.median(found), found[low], found[-1 - low]


def metric(rounds: Sequence[Round], contender: str, name: str) -> Spread | None:
    """Return a metric of one contender over all rounds."""
    found = [run.metric(name) for one in rounds if (run := one.get(contender)) is not None]
    return spread([value for value in found if value is not None])


def ratio(rounds: Sequence[Round], of: str, against: str, name: str) -> Spread | None:
    """Return how two contenders compare: the median of the ratios of each round."""
    found: list[float] = []
    for one in rounds:
        if of not in one or against not in one:
            continue
        above, below = one[of].metric(name), one[against].metric(name)
        if above is not None and below:
            found.append(above / below)
    return spread(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Something that must be reached.

    Attributes:
        name: As it is printed.
        of: The contender it is about.
        metric: Which metric of it.
        against: Contender to divide by; empty: the metric itself counts.
        at_least: Lower limit, or None.
        at_most: Upper limit, or None.
        unit: Of the figure; `x` for ratios.
    """

    name: str
    of: str
    metric: str = RATE
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"

    @property
    def required(self) -> str:
        """What is required, in words."""
        sign, limit = (">=", self.at_least) if self.at_most is None else ("<=", self.at_most)
        return f"{sign} {limit:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a bar.

    Attributes:
        figure: None when it was not measured.
        ok: None when a contender that is not rolekit was missing, so nothing can be said.
        why: Why nothing was measured.
    """

    bar: Bar
    figure: Spread | None
    ok: bool | None
    why: str = ""

    def __str__(self) -> str:
        """Return the line that `make bench` ends with."""
        bar = self.bar
        head = f"bar {bar.name}:"
        if self.figure is None:
            verdict = "not measured" if self.ok is None else "falls short"
            return f"{head} - (required {bar.required}): {verdict}: {self.why}"
        verdict = "ok" if self.ok else "falls short"
        figure = f"{self.figure.median:.3g} {bar.unit}"
        rounds = f"{self.figure.rounds} round{'s' * (self.figure.rounds != 1)}"
        return f"{head} {figure} (required {bar.required}, {rounds}): {verdict}"


def judge(bar: Bar, rounds: Sequence[Round], missing: Mapping[str, str]) -> Judgement:
    """Say whether a bar is reached.

    Args:
        bar: Which.
        rounds: All that were run.
        missing: Contenders that this machine cannot run, and why.
    """
    for name in (bar.of, bar.against):
        if name in missing:
            return Judgement(bar, None, None, f"{name}: {missing[name]}")
    if bar.against:
        figure = ratio(rounds, bar.of, bar.against, bar.metric)
    else:
        figure = metric(rounds, bar.of, bar.metric)
    if figure is None:
        return Judgement(bar, None, ok=False, why=_why(bar, rounds))
    ok = (bar.at_least is None or figure.median >= bar.at_least) and (
        bar.at_most is None or figure.median <= bar.at_most
    )
    return Judgement(bar, figure, ok)


def exit_code(judgements: Sequence[Judgement]) -> int:
    """Return 1 when any bar falls short."""
    return int(any(one.ok is False for one in judgements))


def _why(bar: Bar, rounds: Sequence[Round]) -> str:
    for one in rounds:
        for name in (bar.of, bar.against):
            if name in one and one[name].error:
                return f"{name}: {one[name].error}"
    return f"no round has {bar.metric} of {bar.of}"
