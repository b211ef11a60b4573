"""Queues in this process, for tests: the contract of `transport.base`, and faults by seed.

A `MemoryBroker` holds the queues, and each `MemoryTransport` is one process's connection to
it, which may crash. There is no time in here: what happens next is decided by the order of
calls and by the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import Unavailable
from rolekit.transport.base import Delivery, Depth, Features, Sink, Subscription
from rolekit.transport.memory_broker import Entry, Faults, MemoryBroker, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.model.envelope import Packet

__all__ = ["Faults", "MemoryBroker", "MemorySubscription", "MemoryTransport"]


class MemoryTransport:
    """Keeps the contract of `transport.base.Transport`: one process's connection.

    Args:
        broker: Shared by everybody who is to meet there; one of its own unless given.
    """

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.features = Features(joins_store=False)
        self.broker = broker or MemoryBroker()
        self.is_dead = False
        self._open: list[MemorySubscription] = []

    async def start(self) -> None:
        """Connects to nothing."""

    async def connect_to_send(self) -> None:
        """Does nothing: there is no connection."""

    async def stop(self) -> None:
        """Close every subscription."""
        for subscription in list(self._open):
            await subscription.close()

    def crash(self) -> None:
        """Die: what its subscriptions hold comes back, suspected, and nothing more is done."""
        self.is_dead = True
        for subscription in list(self._open):
            subscription.crash()
        self._open.clear()

    async def declare(self, queues: Iterable[str]) -> None:
        """Make these queues if they are not there."""
        self.broker.declare(queues)

    async def publish(self, packets: Sequence[Packet]) -> None:
        """Store all of these, in this order, or none."""
        self._check()
        self.broker.store(packets)

    async def forward(
        self, subscription: Subscription, pairs: Sequence[tuple[Delivery, Packet]]
    ) -> None:
        """Publish each packet, then ack its delivery."""
        await self.publish([packet for _, packet in pairs])
        subscription.ack([delivery for delivery, _ in pairs])

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink, epoch: int | None = None
    ) -> MemorySubscription:
        """Begin to consume."""
        self._check()
        subscription = MemorySubscription(self.broker, queues, window, sink, epoch or 0)
        self._open.append(subscription)
        return subscription

    async def depths(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Say what stands in each of these queues."""
        return {name: self.broker.depth(name) for name in queues}

    def delivered_age_s(self) -> float | None:
        """Say nothing: `depths` tells ages."""
        return None

    def blocked_s(self) -> float:
        """Say that messages are taken."""
        return 0.0

    async def recover(self) -> None:
        """Does nothing: a crash hands back by itself."""

    async def hand_over(self) -> None:
        """Does nothing: there is one app here."""

    def _check(self) -> None:
        if self.is_dead:
            raise Unavailable("This connection to the queues in memory has crashed.")


class MemorySubscription:
    """One consumer; what it has in hand is in `_held` until it is settled."""

    def __init__(
        self,
        broker: MemoryBroker,
        queues: Sequence[str],
        window: int,
        sink: Sink,
        epoch: int = 0,
    ) -> None:
        self._broker = broker
        self._windows = dict.fromkeys(queues, window)
        self._sink = sink
        self._held: dict[int, Entry] = {}
        self._tags = 0
        self._counts: dict[str, int] = {}
        self._is_paused = False
        self._is_over = False
        broker.join(self, queues, epoch)

    # -- the contract --------------------------------------------------------------------------

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Forget these for ever."""
        for entry in self._settled(deliveries):
            self._broker.forget(entry)

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Make room in the window: here the same as an ack."""
        self.ack(deliveries)

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give these back to their queues."""
        for entry in self._settled(deliveries):
            self._broker.put_back(entry)

    async def run_alone(self, delivery: Delivery) -> None:
        """Note that a suspect runs with nothing beside it."""
        entry = self._held.get(delivery.tag)
        if entry is not None:
            entry.runs_alone = True

    def widen(self, queue: str, window: int) -> None:
        """Change how many deliveries of a queue may be in hand."""
        self._windows[queue] = window
        self._broker.touched()

    def pause(self) -> None:
        """Take no more until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        """Take again."""
        self._is_paused = False
        self._broker.touched()

    async def flush(self) -> None:
        """Does nothing: an ack is sent when it is given."""

    async def close(self) -> None:
        """Take no more; hand back whatever is not settled."""
        self.end()

    def end(self) -> None:
        """Close, also because another one has a higher epoch."""
        for entry in self._end():
            self._broker.put_back(entry)

    # -- between broker and subscription -------------------------------------------------------

    def crash(self) -> None:
        """End as a process does that is killed: what it holds comes back, suspected."""
        for entry in self._end():
            entry.crashed += entry.runs_alone
            entry.is_suspect = True
            self._broker.put_back(entry)

    def wants(self, name: str) -> bool:
        """Whether it takes of this queue at all."""
        return self._windows[name] > 0

    def has_room(self, queue: Queue) -> bool:
        """Whether its window takes one more of this queue."""
        name = queue.waiting[0].packet.queue
        return not self._is_paused and self._counts.get(name, 0) < self._windows[name]

    def take(self, entry: Entry) -> Delivery:
        """Take one into the window."""
        self._tags += 1
        self._held[self._tags] = entry
        name = entry.packet.queue
        self._counts[name] = self._counts.get(name, 0) + 1
        return Delivery(
            entry.packet, self._tags, entry.redelivered, entry.is_suspect, entry.crashed
        )

    def give(self, batch: Sequence[Delivery]) -> None:
        """Hand a batch over, but for what was taken away meanwhile."""
        there = [delivery for delivery in batch if delivery.tag in self._held]
        if there:
            self._sink(there)

    def _settled(self, deliveries: Iterable[Delivery]) -> list[Entry]:
        settled: list[Entry] = []
        for delivery in deliveries:
            entry = self._held.pop(delivery.tag, None)
            if entry is not None:
                self._counts[entry.packet.queue] -= 1
                settled.append(entry)
        return settled

    def _end(self) -> list[Entry]:
        if self._is_over:
            return []
        self._is_over = True
        self._broker.leave(self)
        held, self._held = list(self._held.values()), {}
        return held
