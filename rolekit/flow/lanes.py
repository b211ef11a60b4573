"""Which delivery of an instance runs next."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.transport.base import Delivery


class Lanes:
    """Which delivery runs next: so many beside one another, a suspect alone.

    Queues take turns, so a full one does not keep the others waiting. While a suspect
    waits nothing else begins, and it begins when nothing else runs.

    Args:
        queues: Names.
        limit: How many may run at once.
    """

    def __init__(self, queues: Iterable[str], limit: int) -> None:
        self._limit = limit
        self._fresh: dict[str, deque[Delivery]] = {name: deque() for name in queues}
        self._turn = deque(self._fresh)
        self._suspects: deque[Delivery] = deque()
        self._running = 0
        self._is_alone = False
        self.is_closed = False
        self.waiting = 0

    def add(self, delivery: Delivery) -> None:
        """Put a delivery in its lane."""
        self.waiting += 1
        if delivery.is_suspect:
            self._suspects.append(delivery)
        else:
            self._fresh[delivery.packet.queue].append(delivery)

    def close(self) -> None:
        """Let nothing begin any more; what waits is handed back by its subscription."""
        self.is_closed = True

    @property
    def may_begin(self) -> bool:
        """Whether something waits that may begin now."""
        if self.is_closed or not self.waiting or self._running >= self._limit:
            return False
        return not self._running if self._suspects else not self._is_alone

    def next(self) -> Delivery | None:
        """Take the delivery that runs next; None while nothing may begin."""
        if not self.may_begin:
            return None
        if self._suspects:
            return self._begun(self._suspects)
        for _ in range(len(self._turn)):
            lane = self._fresh[self._turn[0]]
            self._turn.rotate(-1)
            if lane:
                return self._begun(lane)
        return None

    def done(self, delivery: Delivery) -> None:
        """Note that a delivery runs no more."""
        self._running -= 1
        if delivery.is_suspect:
            self._is_alone = False

    def surplus(self, queue: str, keep: int) -> list[Delivery]:
        """Take out what waits in a queue's lane beyond some, the last ones."""
        lane = self._fresh[queue]
        taken = [lane.pop() for _ in range(len(lane) - keep)]
        self.waiting -= len(taken)
        return taken

    def _begun(self, lane: deque[Delivery]) -> Delivery:
        self.waiting -= 1
        self._running += 1
        delivery = lane.popleft()
        self._is_alone = delivery.is_suspect
        return delivery
