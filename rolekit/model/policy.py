"""Policies as users write them: frozen data, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rolekit.errors import AppError


def _refuse(owner: object, field: str, value: object, expected: str) -> None:
    raise AppError(
        f"{type(owner).__name__}({field}={value!r}): {field} must be {expected}.",
        fix="Change the number where this policy is written.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often, and how far apart, a failing message is tried again.

    The delay before attempt n + 1 is drawn evenly from 0 to
    `min(max_s, first_s * factor ** (n - 1))` (full jitter).

    Attributes:
        attempts: In all, the first one included; 1 means never again.
        first_s: Upper bound of the first delay, seconds.
        factor: By which the bound grows with each attempt.
        max_s: Where it stops growing, seconds.
        on: Exceptions this policy is for.
    """

    attempts: int = 5
    first_s: float = 1
    factor: float = 2
    max_s: float = 600
    on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.attempts < 1:
            _refuse(self, "attempts", self.attempts, "1 or more")
        if self.first_s < 0:
            _refuse(self, "first_s", self.first_s, "0 or more")
        if self.factor < 1:
            _refuse(self, "factor", self.factor, "1 or more")
        if self.max_s < self.first_s:
            _refuse(self, "max_s", self.max_s, f"first_s ({self.first_s}) or more")


@dataclass(frozen=True, slots=True)
class Rate:
    """How much may be handled in a time, over the whole fleet.

    Attributes:
        limit: How much.
        per_s: In how many seconds.
        key: Field or property; one bucket for each value.
        cost: Field or property that says how much one message takes.
        name: Handlers that give the same name share a bucket.
    """

    limit: float
    per_s: float = 1
    key: str | None = None
    cost: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if not 0 < self.limit < math.inf:
            _refuse(self, "limit", self.limit, "more than 0")
        if not 0 < self.per_s < math.inf:
            _refuse(self, "per_s", self.per_s, "more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """When to stop calling a handler that keeps failing, and for how long.

    Attributes:
        failures: Share of calls, 0 to 1, that opens the circuit.
        over_s: Counted over so many seconds,
        at_least: and only from so many calls on.
        pause_s: How long it stays open before one call probes.
    """

    failures: float = 0.5
    over_s: float = 60
    at_least: int = 20
    pause_s: float = 30

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if not 0 < self.failures <= 1:
            _refuse(self, "failures", self.failures, "more than 0 and at most 1")
        if not 0 < self.over_s < math.inf:
            _refuse(self, "over_s", self.over_s, "more than 0")
        if self.at_least < 1:
            _refuse(self, "at_least", self.at_least, "1 or more")
        if not 0 < self.pause_s < math.inf:
            _refuse(self, "pause_s", self.pause_s, "more than 0")


MOST_INSTANCES = 10_000
"""Of a role on one host: beyond, it is a slip of the finger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Between how many instances a role may have on each host, and what it is scaled for.

    With `min` and `max` the same it has always so many, and `rolekit scale` is refused.

    Attributes:
        min: Instances, at least.
        max: Instances, at most.
        target_age_s: Seconds the oldest message may wait before more are started.
    """

    min: int
    max: int
    target_age_s: float = 10

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if type(self.min) is not int or self.min < 0:
            _refuse(self, "min", self.min, "a whole number, 0 or more")
        most = max(self.min, 1)
        if type(self.max) is not int or not most <= self.max <= MOST_INSTANCES:
            _refuse(self, "max", self.max, f"a whole number from {most} to {MOST_INSTANCES:,}")
        if not 0 < self.target_age_s < math.inf:
            _refuse(self, "target_age_s", self.target_age_s, "seconds, more than 0")
