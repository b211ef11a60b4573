"""Which delivery of an instance runs next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.transport.base import Delivery


@dataclass(slots=True, eq=False)
class _Lane:
    """One queue: what waits of it, and how much of it runs."""

    waiting: deque[Delivery] = field(default_factory=deque["Delivery"])
    running: int = 0


class Lanes:
    """Which delivery runs next: so many beside one another, a suspect alone.

    Queues take turns, so a full one does not keep the others waiting. Turns alone let a
    slow handler with a backlog end up in every place, so each queue of which nothing runs
    has one place kept for it, where there are at least two places a queue.

    While a suspect waits nothing else begins, and it begins when nothing else runs.

    Args:
        queues: Names.
        limit: How many may run at once.
    """

    def __init__(self, queues: Iterable[str], limit: int) -> None:
        self._limit = limit
        self._fresh = {name: _Lane() for name in queues}
        self._turn = deque(self._fresh.values())
        self._keeps = 1 < len(self._fresh) <= limit // 2
        self._kept = len(self._fresh) if self._keeps else 0
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
            self._fresh[delivery.packet.queue].waiting.append(delivery)

    def close(self) -> None:
        """Let nothing begin any more; what waits is handed back by its subscription."""
        self.is_closed = True

    @property
    def may_begin(self) -> bool:
        """Whether something waits that may begin now."""
        if self.is_closed or not self.waiting or self._running >= self._limit:
            return False
        if self._suspects:
            return not self._running
        if self._is_alone:
            return False
        return self._running + self._kept < self._limit or any(
            lane.waiting and not lane.running for lane in self._turn
        )

    def next(self) -> Delivery | None:
        """Take the delivery that runs next; None while nothing may begin."""
        if not self.may_begin:
            return None
        if self._suspects:
            self._is_alone = True
            return self._begun(self._suspects)
        turn, are_all_kept = self._turn, self._running + self._kept >= self._limit
        for _ in range(len(turn)):
            lane = turn[0]
            turn.rotate(-1)
            if lane.waiting and not (are_all_kept and lane.running):
                if self._keeps:
                    self._kept -= not lane.running
                    lane.running += 1
                return self._begun(lane.waiting)
        return None

    def done(self, delivery: Delivery) -> None:
        """Note that a delivery runs no more."""
        self._running -= 1
        if delivery.is_suspect:
            self._is_alone = False
        elif self._keeps:
            lane = self._fresh[delivery.packet.queue]
            lane.running -= 1
            self._kept += not lane.running

    def surplus(self, queue: str, keep: int) -> list[Delivery]:
        """Take out what waits in a queue's lane beyond some, the last ones."""
        lane = self._fresh[queue].waiting
        taken = [lane.pop() for _ in range(len(lane) - keep)]
        self.waiting -= len(taken)
        return taken

    def _begun(self, lane: deque[Delivery]) -> Delivery:
        self.waiting -= 1
        self._running += 1
        return lane.popleft()
