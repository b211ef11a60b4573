"""What waits too long for its slots: when it comes again, with slots or to ask for some.

Slots are reserved for the next minute at most, so that a flood to one key takes no more of the
future than that, whatever then becomes of it. What finds none there gets a place in the line
of its bucket, and comes again shortly before its place, to ask. Places are estimates: no
further ahead than an hour, so whoever stands beyond that comes again now and then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rolekit.model.rates import Ask, burst_of, step_ms_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from rolekit.flow.runtime import Runtime
    from rolekit.model.policy import Rate
    from rolekit.model.rates import Grant
    from rolekit.transport.base import Delivery

PLAN_MS = 60_000.0
"""For what comes again slots are reserved so far ahead."""
LINE_MS = 3_600_000.0
LINE_UNITS = 60.0
"""A line is so long at most, or has room for so many units."""


@dataclass(slots=True)
class Waiting:
    """A delivery, and how many units it takes of which buckets."""

    delivery: Delivery
    needs: dict[str, float]


class Planned(NamedTuple):
    """When a delivery comes again, and whether it then has all the slots that it needs."""

    item: Waiting
    due_ms: int
    has_slots: bool


async def plan_ahead(
    runtime: Runtime,
    items: Sequence[Waiting],
    scarce: AbstractSet[str],
    rates: Mapping[str, Rate],
) -> list[Planned]:
    """Reserve slots for these, in order, and give places to those for which there are none.

    Args:
        runtime: Of this process.
        items: Each needs units of a scarce bucket.
        scarce: Buckets that are short of slots. Of others slots are taken only for those that
            got their scarce ones, or a flood to one key would use up what all keys share.
        rates: Of the buckets.
    """
    rows = await _lined_up(runtime, items, scarce, rates)
    lucky = _with_slots(items, rows)
    if rest := {bucket for one in lucky for bucket in one.needs} - scarce:
        rows |= await _lined_up(runtime, lucky, rest, rates)
    planned: list[Planned] = []
    for one in items:
        known = [rows[bucket] for bucket in one.needs if bucket in rows]
        has_slots = len(known) == len(one.needs) and all(
            rows[bucket].left >= units for bucket, units in one.needs.items()
        )
        due_ms = max(
            rows[bucket].take(units, is_slot=has_slots)
            for bucket, units in one.needs.items()
            if has_slots or bucket in scarce
        )
        planned.append(Planned(one, math.ceil(due_ms), has_slots))
    return planned


async def _lined_up(
    runtime: Runtime,
    items: Sequence[Waiting],
    buckets: AbstractSet[str],
    rates: Mapping[str, Rate],
) -> dict[str, _Row]:
    wanted: dict[str, float] = {}
    first: dict[str, float] = {}
    for one in items:
        for bucket in buckets & one.needs.keys():
            first.setdefault(bucket, one.needs[bucket])
            wanted[bucket] = wanted.get(bucket, 0.0) + one.needs[bucket]
    steps = {bucket: step_ms_of(rates[bucket]) for bucket in wanted}
    grants = await runtime.store.reserve(
        [
            Ask(
                bucket=bucket,
                wanted=units,
                first=first[bucket],
                step_ms=steps[bucket],
                burst=burst_of(rates[bucket]),
                ahead_ms=PLAN_MS,
                line_ms=max(LINE_MS, LINE_UNITS * steps[bucket]),
            )
            for bucket, units in wanted.items()
        ]
    )
    now_ms = runtime.clock.now_ms()
    return {grant.bucket: _Row(grant, steps[grant.bucket], now_ms) for grant in grants}


def _with_slots(items: Sequence[Waiting], rows: Mapping[str, _Row]) -> list[Waiting]:
    """Return those for which there are slots in all these rows that they need."""
    left = {bucket: row.left for bucket, row in rows.items()}
    lucky: list[Waiting] = []
    for one in items:
        needs = {bucket: units for bucket, units in one.needs.items() if bucket in left}
        if all(left[bucket] >= units for bucket, units in needs.items()):
            lucky.append(one)
            for bucket, units in needs.items():
                left[bucket] -= units
    return lucky


class _Row:
    """The slots of a bucket that were reserved for several, and the places behind them.

    Args:
        grant: Of the bucket.
        step_ms: Between two units.
        now_ms: When it was given.
    """

    def __init__(self, grant: Grant, step_ms: float, now_ms: float) -> None:
        self.left = grant.granted
        self._step_ms = step_ms
        self._slot_ms = now_ms + grant.start_ms
        self._place_ms = now_ms + grant.place_ms

    def take(self, units: float, *, is_slot: bool) -> float:
        """Take units; return when they are due, or, without slots, when to ask for some."""
        if is_slot:
            due_ms, self.left = self._slot_ms, self.left - units
            self._slot_ms += units * self._step_ms
            return due_ms
        due_ms = self._place_ms - PLAN_MS / 2
        self._place_ms += units * self._step_ms
        return due_ms
