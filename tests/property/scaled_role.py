"""A role under load, simulated: what `Gauge`, `Ages` and `decide` do to it, second by second.

Time goes in steps. Each instance has so many places and takes what waits, oldest first; what
it has in hand ends at random, as handlers do. Supervisors see instances through beats that
are up to a second old, as in life.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from rolekit.model.gauging import Ages, Counted, Gauge, Look
from rolekit.model.scaling import Damping, Decision, Load, Past, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.model.policy import Scale

STEP_S = 0.1
LOOK_S = 1.0
START_S = 0.5
NOTHING = Counted(settled=0, in_hand=0, cpu_s=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one message costs.

    Attributes:
        takes_s: On average.
        places: Side by side in one instance.
        computes: It uses a core all the time: side by side they are as much slower.
    """

    takes_s: float
    places: int = 20
    computes: bool = False

    @property
    def per_s(self) -> float:
        """Messages a second that one instance can do."""
        return (1 if self.computes else self.places) / self.takes_s


@dataclass(slots=True)
class Copy:
    """One instance."""

    name: int
    ready_s: float
    in_hand: int = 0
    settled: int = 0
    cpu_s: float = 0
    said: Counted = NOTHING


@dataclass(slots=True)
class Story:
    """What happened.

    Attributes:
        counts: (second, instances wanted) at each look.
        ages: (second, age of the oldest waiting message) likewise.
        decisions: Those that changed something.
    """

    counts: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    ages: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    decisions: list[tuple[float, Decision]] = field(
        default_factory=list[tuple[float, Decision]]
    )
    handled: int = 0
    left: int = 0

    def turns(self) -> int:
        """Say how often it went up after going down, or down after going up."""
        moves = [decision.move for _, decision in self.decisions]
        return sum(one != other for one, other in pairwise(moves))

    def oldest_s(self, since_s: float = 0, until_s: float = 1e9) -> float:
        """Return the greatest age in a time."""
        return max((age for at, age in self.ages if since_s <= at <= until_s), default=0)

    def wanted(self, at_s: float) -> int:
        """Return how many were wanted at a time."""
        return next(count for at, count in reversed(self.counts) if at <= at_s)


class Simulated:
    """One role, its queue and its supervisor."""

    def __init__(
        self,
        scale: Scale,
        work: Work,
        arriving: Callable[[float], float],
        *,
        seed: int = 0,
        damping: Damping | None = None,
        is_told: bool = True,
    ) -> None:
        self._scale = scale
        self._work = work
        self._arriving = arriving
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._damping = damping or Damping()
        self._is_told = is_told
        self._waiting: deque[float] = deque()
        self._copies: list[Copy] = []
        self._leaving: list[Copy] = []
        self._named = 0
        self._gauge = Gauge(work.places)
        self._ages = Ages()
        self._delivered_s: float | None = None
        self._past = Past(changed_s=0)
        self.story = Story()
        self._resize(scale.min, 0)

    def run(self, seconds: float) -> Story:
        """Let so much time pass."""
        looked_s = 0.0
        for n in range(round(seconds / STEP_S)):
            now_s = n * STEP_S
            self._arrive(now_s)
            self._take(now_s)
            self._work_on()
            if now_s - looked_s >= LOOK_S - STEP_S / 2:
                looked_s = now_s
                self._look(now_s)
        self.story.left = len(self._waiting) + sum(one.in_hand for one in self._all())
        return self.story

    def _all(self) -> list[Copy]:
        return [*self._copies, *self._leaving]

    def _arrive(self, now_s: float) -> None:
        expected = self._arriving(now_s) * STEP_S
        self._waiting.extend([now_s] * _poisson(self._random, expected))

    def _take(self, now_s: float) -> None:
        for one in self._copies:
            if one.ready_s > now_s:
                continue
            while self._waiting and one.in_hand < self._work.places:
                age_s = now_s - self._waiting.popleft()
                self._delivered_s = max(self._delivered_s or 0, age_s)
                one.in_hand += 1

    def _work_on(self) -> None:
        work = self._work
        for one in self._all():
            each_s = work.takes_s * (one.in_hand if work.computes else 1)
            share = 1 - math.exp(-STEP_S / each_s) if one.in_hand else 0
            done = sum(self._random.random() < share for _ in range(one.in_hand))
            one.cpu_s += STEP_S if work.computes and one.in_hand else 0
            one.in_hand -= done
            one.settled += done
            self.story.handled += done
        self._leaving = [one for one in self._leaving if one.in_hand]

    def _look(self, now_s: float) -> None:
        for one in self._copies:
            if self._random.random() < 0.8:  # else the beat comes after the look
                one.said = Counted(settled=one.settled, in_hand=one.in_hand, cpu_s=one.cpu_s)
        ready = {one.name: one.said for one in self._copies if one.ready_s <= now_s}
        waiting = len(self._waiting)
        in_hand = sum(one.said.in_hand for one in self._all())
        self._gauge.note(Look(at_s=now_s, waiting=waiting, in_hand=in_hand, counts=ready))
        told_s = now_s - self._waiting[0] if self._waiting else None
        load = Load(
            wanted=len(self._copies),
            ready=len(ready),
            places=self._work.places,
            waiting=waiting,
            in_hand=in_hand,
            oldest_s=self._ages.note(
                now_s, waiting, told_s if self._is_told else self._delivered_s
            ),
            arriving=self._gauge.arriving,
            drain=self._gauge.drain,
        )
        self._delivered_s = None
        decision = decide(self._scale, self._damping, load, self._past, now_s)
        self._past = decision.past
        if decision.move != "stay":
            self.story.decisions.append((now_s, decision))
            self._resize(decision.count, now_s)
        self.story.counts.append((now_s, decision.count))
        self.story.ages.append((now_s, told_s or 0))

    def _resize(self, count: int, now_s: float) -> None:
        while len(self._copies) > count:
            self._leaving.append(self._copies.pop())
        while len(self._copies) < count:
            self._named += 1
            self._copies.append(Copy(self._named, now_s + START_S))


def _poisson(draws: random.Random, expected: float) -> int:
    if expected > 50:  # as good as normal, and quicker
        return max(0, round(draws.gauss(expected, expected**0.5)))
    count, left = 0, expected
    while (left := left - draws.expovariate(1)) > 0:
        count += 1
    return count
