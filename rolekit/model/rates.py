"""A rate as a row of slots: each unit has its instant, and nobody gets one that is taken.

A bucket remembers when its next free slot is. Who wants units reserves the slots that come
next, within a horizon, and uses each when its instant has come: so whoever reserves first,
and however many do, units leave no faster than the slots lie apart. Slots that nobody wanted
are lost, but for the last few: those may go at once, which is the burst.

Who finds no slot within the horizon may line up: the bucket also remembers where the line of
those ends that come again for a slot. A place there is an estimate, nobody's property, and
lies no further ahead than the line may be long, so a flood takes away no slots of the future.

Source: the generic cell rate algorithm, ITU-T I.371, with reservations.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rolekit.model.policy import Rate

BURST = 0.1
"""Of the limit: so much may go at once, and one message always may."""
LATE_MS = 250.0
"""A slot that is reserved and not used for so long is lost."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Units that are wanted of a bucket.

    Attributes:
        bucket: Its name.
        wanted: Units.
        first: Of those, what the first message takes: it gets all or nothing.
        step_ms: Between two units.
        burst: Units that may go at once.
        ahead_ms: How far ahead slots are reserved, at most.
        line_ms: How far ahead units that get no slot line up, at most; 0: they do not.
    """

    bucket: str
    wanted: float
    first: float
    step_ms: float
    burst: float
    ahead_ms: float
    line_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Slots that were reserved.

    Attributes:
        bucket: Of which.
        start_ms: When the first one is, from now on; may lie in the past.
        granted: Units; 0: there is none within the horizon, and `start_ms` is the next one.
        place_ms: When the first unit that got no slot can expect one, from now on, if it lined
            up; each of the others a step later.
    """

    bucket: str
    start_ms: float
    granted: float
    place_ms: float = 0.0


class Bucket(NamedTuple):
    """What is kept of a bucket: when its next free slot is, and where its line ends."""

    free_ms: float = 0.0
    line_ms: float = 0.0


def reserve(ask: Ask, bucket: Bucket, now_ms: float) -> tuple[Grant, Bucket]:
    """Reserve slots; return them, and the bucket as it is then.

    Args:
        ask: What is wanted.
        bucket: As it is; one that is new had nothing taken.
        now_ms: The time.
    """
    start = max(bucket.free_ms, now_ms - ask.burst * ask.step_ms)
    room = now_ms + ask.ahead_ms - start
    granted = 0.0
    if room >= 0:
        granted = min(ask.wanted, max(ask.first, math.floor(room / ask.step_ms) + 1))
    free_ms = start + granted * ask.step_ms if granted else bucket.free_ms
    place, line_ms = now_ms, bucket.line_ms
    if ask.line_ms and granted < ask.wanted:
        end_ms = now_ms + ask.line_ms
        place = min(max(line_ms, start + granted * ask.step_ms), end_ms)
        line_ms = min(place + (ask.wanted - granted) * ask.step_ms, end_ms)
    grant = Grant(ask.bucket, start - now_ms, granted, place - now_ms)
    return grant, Bucket(free_ms, line_ms)


def step_ms_of(rate: Rate) -> float:
    """Return how far apart two units are."""
    return rate.per_s * 1000 / rate.limit


def burst_of(rate: Rate) -> float:
    """Return how many units may go at once."""
    return max(1.0, rate.limit * BURST)


@dataclass(slots=True)
class _Span:
    """Slots next to one another that are left of a grant, and when that was."""

    next_ms: float
    units: float
    since_ms: float


class Lease:
    """Slots of one bucket that this process reserved, in order.

    Args:
        step_ms: Between two units.
    """

    def __init__(self, step_ms: float) -> None:
        self._step_ms = step_ms
        self._spans: deque[_Span] = deque()

    def add(self, start_ms: float, granted: float, now_ms: float) -> None:
        """Take what was granted: from this instant on, so many units."""
        self._spans.append(_Span(start_ms, granted, now_ms))

    def left(self, now_ms: float) -> float:
        """Return how many units are left, those that are late left out."""
        oldest_ms = now_ms - LATE_MS
        while self._spans:
            span = self._spans[0]
            late = math.ceil((oldest_ms - span.next_ms) / self._step_ms)
            # Of a burst all are late already when they are granted.
            if late > 0 and oldest_ms > span.since_ms:
                span.next_ms += late * self._step_ms
                span.units -= late
            if span.units > 0:
                break
            self._spans.popleft()
        return sum(span.units for span in self._spans)

    def wait_ms(self, now_ms: float) -> float:
        """Say how long the next unit has to wait; 0: it may go. There must be one."""
        return max(0.0, self._spans[0].next_ms - now_ms)

    def use(self, units: float) -> None:
        """Use up units; there are so many."""
        while units > 0 and self._spans:
            span = self._spans[0]
            used = min(units, span.units)
            units -= used
            span.next_ms += used * self._step_ms
            span.units -= used
            if span.units <= 0:
                self._spans.popleft()
