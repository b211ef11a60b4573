"""When requests are due: arrival laws as functions of a seed. Pure."""

from __future__ import annotations

import heapq
import math
import random
from itertools import count, repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Law(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="law"
):
    """The base of all laws."""


class Constant(_Law, frozen=True, kw_only=True, tag="constant"):
    """Evenly spaced.

    Attributes:
        rate: Requests per second.
    """

    rate: float

    def times(self, for_s: float, _chance: random.Random) -> Iterator[float]:
        """Yield when requests are due, in seconds from the start, ascending."""
        return _even(self.rate, self.rate, for_s)

    def at_rate(self, rate: float) -> Constant:
        """Return the same law at another rate."""
        return Constant(rate=rate)


class Poisson(_Law, frozen=True, kw_only=True, tag="poisson"):
    """Independent of each other, as people are.

    Attributes:
        rate: Requests per second, on average.
    """

    rate: float

    def times(self, for_s: float, chance: random.Random) -> Iterator[float]:
        """Yield when requests are due, in seconds from the start, ascending."""

        def all_times() -> Iterator[float]:
            now = 0.0
            while True:
                now += chance.expovariate(self.rate)
                yield now

        return takewhile(lambda at_s: at_s < for_s, all_times())

    def at_rate(self, rate: float) -> Poisson:
        """Return the same law at another rate."""
        return Poisson(rate=rate)


class Ramp(_Law, frozen=True, kw_only=True, tag="ramp", rename={"start": "from", "end": "to"}):
    """From one rate to another, changing steadily.

    Attributes:
        start: Requests per second at the beginning; "from" in a file.
        end: At the end; "to" in a file.
    """

    start: float
    end: float

    def times(self, for_s: float, _chance: random.Random) -> Iterator[float]:
        """Yield when requests are due, in seconds from the start, ascending."""
        return _even(self.start, self.end, for_s)


class Step(_Law, frozen=True, kw_only=True, tag="step"):
    """One rate after the other.

    Attributes:
        rates: Requests per second; each for an equal part of the time.
    """

    rates: tuple[float, ...]

    def times(self, for_s: float, _chance: random.Random) -> Iterator[float]:
        """Yield when requests are due, in seconds from the start, ascending."""
        each_s = for_s / len(self.rates)
        for step, rate in enumerate(self.rates):
            yield from (step * each_s + at_s for at_s in _even(rate, rate, each_s))


class Burst(_Law, frozen=True, kw_only=True, tag="burst"):
    """Many at once, again and again, over a steady rate.

    Attributes:
        size: Requests at once.
        every_s: From one burst to the next; the first comes after one such time.
        rate: Requests per second between them.
    """

    size: int
    every_s: float
    rate: float = 0

    def times(self, for_s: float, _chance: random.Random) -> Iterator[float]:
        """Yield when requests are due, in seconds from the start, ascending."""
        starts = takewhile(
            lambda at_s: at_s < for_s, (number * self.every_s for number in count(1))
        )
        bursts = (at_s for start in starts for at_s in repeat(start, self.size))
        return heapq.merge(bursts, _even(self.rate, self.rate, for_s))


class Replay(_Law, frozen=True, kw_only=True, tag="replay"):
    """As somebody recorded it.

    Attributes:
        file: One time a line, in seconds, ascending: of an access log, say. The first is
            the start. Beside the scenario, unless its path is absolute.
        speed: 2: twice as fast.
    """

    file: str
    speed: float = 1

    def times(self, for_s: float, _chance: random.Random) -> Iterator[float]:
        """Yield when requests are due, in seconds from the start, ascending.

        Raises:
            ConfigError: A line is no number, or goes back in time.
        """
        first = last = math.nan
        with Path(self.file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                at_s = _recorded(self.file, number, line)
                if at_s < last:
                    raise ConfigError(
                        f"{self.file}, line {number}: {at_s:g} lies before {last:g}.",
                        fix="Times ascend; sort them.",
                    )
                first, last = (at_s if math.isnan(first) else first), at_s
                if (at_s - first) / self.speed >= for_s:
                    return
                yield (at_s - first) / self.speed


Arrival: TypeAlias = Constant | Poisson | Ramp | Step | Burst | Replay


def due_times(arrival: Arrival, for_s: float, seed: int) -> Iterator[float]:
    """Yield when requests are due, in seconds from the start, ascending.

    The same arguments give the same times: all clients walk through them alike.
    """
    return arrival.times(for_s, random.Random(seed))  # noqa: S311 - a load, wanted again


def _even(start: float, end: float, for_s: float) -> Iterator[float]:
    """Yield when the integral of a straight line of rates passes whole numbers."""
    slope = (end - start) / for_s
    if start == end == 0:
        return
    yield 0.0
    for number in count(1):
        if slope == 0:
            at_s = number / start if start else math.inf
        else:
            root = start * start + 2 * slope * number
            # Not (sqrt - start) / slope: two numbers nearly alike, for small ones.
            at_s = 2 * number / (start + math.sqrt(root)) if root > 0 else math.inf
        if at_s >= for_s:
            return
        yield at_s


def _recorded(file: str, number: int, line: str) -> float:
    try:
        at_s = float(line)
    except ValueError:
        at_s = math.nan
    if not math.isfinite(at_s):
        raise ConfigError(
            f"{file}, line {number}: {line.strip()[:40]!r} is not a time.",
            fix="One time a line, in seconds: 12.75.",
        )
    return at_s
