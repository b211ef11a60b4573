"""What waits for a handler of `Batch[M]`, until it is enough or has waited long enough.

One batch of a handler runs at a time in an instance: what comes meanwhile is the next one,
so batches grow with the load and nothing waits for more when there is nothing to do. A
suspect does not come here; it is a batch of its own, and runs alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from rolekit.transport.base import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rolekit.model.plan import HandlerPlan


@dataclass(slots=True, eq=False)
class Bundle(Delivery):
    """Deliveries that run together, in the place of one; `packet` is that of the first."""

    deliveries: tuple[Delivery, ...] = ()


@dataclass(slots=True)
class _Lane:
    """What waits for one handler, in order, each with the time it came."""

    size: int
    age_s: float
    waiting: deque[tuple[float, Delivery]] = field(
        default_factory=deque[tuple[float, Delivery]]
    )
    is_busy: bool = False
    timer: asyncio.Handle | None = None


class Batching:
    """Collects deliveries of an instance's batch handlers.

    Args:
        plans: Of those handlers.
        ready: Takes each batch.
        waits: Whether an age is waited for; otherwise what is there is a batch at once.
    """

    def __init__(
        self, plans: Iterable[HandlerPlan], ready: Callable[[Bundle], None], *, waits: bool
    ) -> None:
        self._lanes = {
            plan.name: _Lane(plan.size, plan.age_s if waits else 0) for plan in plans
        }
        self._ready = ready
        self._is_closed = False

    def __contains__(self, queue: str) -> bool:
        return queue in self._lanes

    @property
    def waiting(self) -> int:
        """Deliveries that are not in a batch yet."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def windows(self, concurrency: int) -> dict[str, int]:
        """Say how many deliveries of each queue to hold: a batch, and the next one."""
        return {name: max(concurrency, 2 * lane.size) for name, lane in self._lanes.items()}

    def add(self, delivery: Delivery) -> None:
        """Take one more."""
        lane = self._lanes[delivery.packet.queue]
        lane.waiting.append((asyncio.get_running_loop().time(), delivery))
        self._look(lane)

    def done(self, queue: str) -> None:
        """Note that the batch of a handler has run."""
        lane = self._lanes[queue]
        lane.is_busy = False
        self._look(lane)

    def taken_out(self, queue: str) -> list[Delivery]:
        """Take out what is in no batch of a handler yet."""
        lane = self._lanes[queue]
        taken = [one for _, one in lane.waiting]
        lane.waiting.clear()
        return taken

    def close(self) -> None:
        """Make no more batches; what waits is handed back by its subscription."""
        self._is_closed = True
        for lane in self._lanes.values():
            if lane.timer is not None:
                lane.timer.cancel()

    def _look(self, lane: _Lane) -> None:
        """Plan the next batch: at once where it is full, else when its first is old enough."""
        if lane.is_busy or self._is_closed or not lane.waiting:
            return
        loop = asyncio.get_running_loop()
        if len(lane.waiting) >= lane.size:
            self._begin(lane)
        elif lane.timer is None and lane.age_s:
            lane.timer = loop.call_at(lane.waiting[0][0] + lane.age_s, self._begin, lane)
        elif lane.timer is None:
            # Whatever comes in the same turn is part of it.
            lane.timer = loop.call_soon(self._begin, lane)

    def _begin(self, lane: _Lane) -> None:
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        if lane.is_busy or self._is_closed or not lane.waiting:
            return
        taken = [one for _, one in islice(lane.waiting, lane.size)]
        for _ in taken:
            lane.waiting.popleft()
        lane.is_busy = True
        self._ready(Bundle(taken[0].packet, taken[0].tag, deliveries=tuple(taken)))
