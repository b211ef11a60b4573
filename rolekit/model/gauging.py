"""What can be said of a role's load from counters that only grow: pure arithmetic.

Each look gives what stands in the queues and what each instance has counted so far. From
several come what arrives, and how much one instance gets through when it always has work:
messages settled, over the time its instances were busy.

An instance is busy all the time while enough waits, and what is measured then is certain.
Otherwise it counts as busy for the share of its places that are taken, or of a core that it
uses, whichever is more. That is an estimate, with which a role may go down before it was
overloaded once; afterwards what was certain gives way to it slowly, over some minutes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OVER_S = 5.0
"""Rates are taken over so long: an instance counts once a second, at its own time."""
ARRIVED = 20
"""What arrives is counted over longer where so few come,"""
ARRIVING_OVER_S = 60.0
"""but over no more."""
SETTLED = 50
"""Capacity is taken from so many messages, if there are,"""
SETTLED_LEAST = 10
"""from so many at least,"""
CAPACITY_OVER_S = 600.0
"""and from none that are older."""
SHORT = 0.1
"""Instances always had work while more waited than this share of what they settled."""
TRUST_S = 300.0
"""What was certain gives way to an estimate that is higher, doubling in so long."""
LEAST_BUSY = 0.02
"""Nobody who settled anything was idler, though nothing was in hand at either look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one instance has counted.

    Attributes:
        settled: Deliveries since its start.
        in_hand: Deliveries now.
        cpu_s: Seconds of a core since its start.
    """

    settled: int
    in_hand: int
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of a role at one moment.

    Attributes:
        at_s: Monotonic seconds.
        waiting: Messages nobody holds.
        in_hand: Messages somebody holds, also on other hosts where that is known.
        counts: By something that names an instance for its life; of those that are ready.
    """

    at_s: float
    waiting: int
    in_hand: int
    counts: Mapping[int, Counted]


@dataclass(frozen=True, slots=True)
class _Span:
    """What happened between two looks.

    Attributes:
        settled: Messages.
        busy_s: Seconds of instances.
        is_short: Enough waited all the time.
    """

    at_s: float
    settled: int
    busy_s: float
    is_short: bool


class Gauge:
    """Turns looks at one role into rates.

    Args:
        places: Deliveries one instance works on side by side, at most.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._last: Look | None = None
        self._settled = 0
        self._totals: deque[tuple[float, int]] = deque()
        self._spans: deque[_Span] = deque()
        self._known: float | None = None

    def note(self, look: Look) -> None:
        """Take a look into account."""
        last, self._last = self._last, look
        if last is not None:
            self._compare(last, look)
        self._totals.append((look.at_s, self._settled + look.waiting + look.in_hand))
        while self._totals[0][0] < look.at_s - ARRIVING_OVER_S:
            self._totals.popleft()
        while self._spans and self._spans[0].at_s < look.at_s - CAPACITY_OVER_S:
            self._spans.popleft()
        if last is not None:
            self._learn(look.at_s - last.at_s)

    @property
    def arriving(self) -> float:
        """Messages that arrive, less those that other hosts settle; a second."""
        until_s, last = self._totals[-1] if self._totals else (0.0, 0)
        rate = 0.0
        for at_s, total in reversed(self._totals):
            passed_s = until_s - at_s
            if passed_s > 0:
                rate = max(last - total, 0) / passed_s
            if passed_s >= OVER_S and last - total >= ARRIVED:
                break
        return rate

    @property
    def drain(self) -> float | None:
        """Messages a second that one instance gets through when busy; None: not known."""
        if self._known is None:
            return self._rate(is_short=False)
        settled, busy_s = self._lately(is_short=True)
        # What it was before; unless so few are settled now that it cannot be.
        at_most = (settled + SETTLED_LEAST) / busy_s if busy_s else self._known
        return min(self._known, at_most)

    def _learn(self, passed_s: float) -> None:
        is_short = self._spans[-1].is_short
        rate = self._rate(is_short=is_short)
        if rate is None:
            return
        if is_short:
            self._known = rate
        elif self._known is not None and rate > self._known:
            self._known = min(self._known * 2 ** (passed_s / TRUST_S), rate)

    def _rate(self, *, is_short: bool) -> float | None:
        settled, busy_s = self._lately(is_short=is_short)
        return settled / busy_s if settled >= SETTLED_LEAST and busy_s else None

    def _lately(self, *, is_short: bool) -> tuple[int, float]:
        """Return messages settled, and in how many busy seconds of instances.

        Args:
            is_short: Of times in which they always had work, or of the others.
        """
        settled, busy_s, spans_s = 0, 0.0, 0.0
        for one, before in pairwise(reversed(self._spans)):
            if settled >= SETTLED and spans_s >= OVER_S:
                break
            if one.is_short == is_short:
                settled += one.settled
                busy_s += one.busy_s
                spans_s += one.at_s - before.at_s
        return settled, busy_s

    def _compare(self, last: Look, look: Look) -> None:
        passed_s = look.at_s - last.at_s
        # One that just began has its first messages in hand for as long as they take.
        known = {name: one for name, one in last.counts.items() if one.settled}
        stayed = [(known[name], now) for name, now in look.counts.items() if name in known]
        settled = sum(now.settled - before.settled for before, now in stayed)
        is_short = min(last.waiting, look.waiting) > SHORT * settled
        busy_s = sum(
            passed_s if is_short else passed_s * self._share(before, now, passed_s)
            for before, now in stayed
        )
        came = sum(now.settled for name, now in look.counts.items() if name not in known)
        # What came from one that had settled none until now counts as settled, not as capacity.
        self._settled += settled + came
        self._spans.append(_Span(look.at_s, settled, busy_s, is_short))

    def _share(self, before: Counted, now: Counted, passed_s: float) -> float:
        """Return which share of an instance was busy between two looks."""
        taken = (before.in_hand + now.in_hand) / 2 / self._places
        core = (now.cpu_s - before.cpu_s) / passed_s if passed_s > 0 else 0
        least = LEAST_BUSY if now.settled > before.settled else 0
        return min(max(taken, core, least), 1)


class Ages:
    """How old the oldest waiting message is, from what was delivered.

    A broker that does not tell leaves bounds: what waits came after the last that was
    delivered, and after the queue was empty last.
    """

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._was_empty = False
        self._delivered: tuple[float, float] | None = None

    def note(self, now_s: float, waiting: int, delivered_s: float | None) -> float:
        """Take a look into account; return the age, seconds.

        Args:
            now_s: Monotonic.
            waiting: Messages that wait.
            delivered_s: Age of the oldest of those delivered since the last look, or of the
                oldest that waits, where that is known; None: of none.
        """
        if self._since_s is None or not waiting:
            self._since_s, self._was_empty, self._delivered = now_s, not waiting, None
        if delivered_s is not None:
            self._delivered = (now_s, delivered_s)
        if not waiting:
            return 0
        bounds = [now_s - self._since_s] if self._was_empty or not self._delivered else []
        if self._delivered is not None:
            at_s, age_s = self._delivered
            bounds.append(age_s + now_s - at_s)
        return max(min(bounds), 0.0)
