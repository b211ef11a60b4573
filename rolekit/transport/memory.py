"""Queues in this process, for tests: the contract of `transport.base`, and faults by seed.

A `MemoryBroker` holds the queues, and each `MemoryTransport` is one process's connection to
it, which may crash. There is no time in here: what happens next is decided by the order of
calls and by the seed.
"""

from __future__ import annotations

import asyncio
import random
from bisect import insort
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import msgspec

from rolekit.clock import Clock, SystemClock
from rolekit.errors import Unavailable, Unroutable
from rolekit.transport.base import Delivery, Depth, Features, Sink, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rolekit.model.envelope import Packet

Faults = Literal["none", "repeat", "shuffle"]


@dataclass(slots=True, eq=False)
class _Entry:
    """A packet in its queue; `n` is its place there, also after it was handed back."""

    n: int
    packet: Packet
    redelivered: bool = False
    is_suspect: bool = False
    runs_alone: bool = False
    crashed: int = 0
    repeat: Packet | None = None
    """Comes once more when this one is acked."""


_place = attrgetter("n")


@dataclass(slots=True)
class _Queue:
    waiting: list[_Entry] = field(default_factory=list[_Entry])
    readers: list[MemorySubscription] = field(default_factory=list["MemorySubscription"])
    in_hand: int = 0


class MemoryBroker:
    """The queues, and what goes wrong with them.

    Args:
        clock: Gives packets without a birth theirs.
        faults: "repeat" delivers everything twice: at once, or again after the ack, flagged
            or not. "shuffle" delivers in any order.
        seed: Of the faults.

    Attributes:
        seed: As given.
        turns: Grows whenever anything happens to a queue.
        watch: Called with each packet that is stored.
    """

    def __init__(
        self, clock: Clock | None = None, *, faults: Faults = "none", seed: int = 0
    ) -> None:
        self.seed = seed
        self.turns = 0
        self.watch: Callable[[Packet], None] = lambda _: None
        self._clock = clock or SystemClock()
        self._faults = faults
        self._random = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._queues: dict[str, _Queue] = {}
        self._places = 0
        self._will_pump = False
        self._waiters: list[asyncio.Future[None]] = []

    # -- what tests ask ----------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in hand, and nothing waits where somebody consumes."""
        return not self.busy()

    def busy(self) -> dict[str, Depth]:
        """Say which queues hold what somebody has in hand, or would take."""
        return {
            name: self.depth(name)
            for name, queue in self._queues.items()
            if queue.in_hand or (queue.waiting and queue.readers)
        }

    async def idle(self) -> None:
        """Wait until nothing is in hand, and nothing waits where somebody consumes."""
        while not self.is_idle:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def depth(self, name: str) -> Depth:
        """Say what stands in one queue."""
        queue = self._queues.get(name)
        if queue is None:
            return Depth()
        births = [entry.packet.birth_ms or 0 for entry in queue.waiting]
        oldest_s = (self._clock.now_ms() - min(births)) / 1000 if births else 0.0
        return Depth(len(queue.waiting), queue.in_hand, max(oldest_s, 0.0))

    # -- what connections do -------------------------------------------------------------------

    def declare(self, names: Iterable[str]) -> None:
        """Make these queues if they are not there."""
        for name in names:
            self._queues.setdefault(name, _Queue())

    def store(self, packets: Sequence[Packet]) -> None:
        """Append to the queues, all or nothing."""
        unknown = sorted({packet.queue for packet in packets} - self._queues.keys())
        if unknown:
            raise Unroutable(
                f"There is no queue {', '.join(unknown)}; nothing was stored.",
                fix="Run the role that takes it, or declare the queue first.",
            )
        for packet in packets:
            self.watch(packet)
            born = packet.birth_ms or self._clock.now_ms()
            self._append(msgspec.structs.replace(packet, birth_ms=born))
        self.touched()

    def _append(self, packet: Packet) -> None:
        entry = self._entry(packet)
        if self._faults != "repeat":
            return
        if self._random.random() < 0.5:  # noqa: PLR2004 - a coin
            entry.repeat = packet
        else:
            self._entry(packet, redelivered=self._flip())

    def _entry(self, packet: Packet, *, redelivered: bool = False) -> _Entry:
        self._places += 1
        entry = _Entry(self._places, packet, redelivered)
        self._queues[packet.queue].waiting.append(entry)
        return entry

    def _flip(self) -> bool:
        return self._random.random() < 0.5  # noqa: PLR2004 - a coin

    def forget(self, entry: _Entry) -> None:
        """Delete what was acked; its repeat comes, if it has one."""
        self._queues[entry.packet.queue].in_hand -= 1
        if entry.repeat is not None:
            self._entry(entry.repeat, redelivered=self._flip())
        self.touched()

    def put_back(self, entry: _Entry) -> None:
        """Put what was not settled back to its place, flagged."""
        queue = self._queues[entry.packet.queue]
        queue.in_hand -= 1
        entry.redelivered, entry.runs_alone = True, False
        insort(queue.waiting, entry, key=_place)
        self.touched()

    def join(self, reader: MemorySubscription, names: Iterable[str]) -> None:
        """Deliver from these queues to one more."""
        for name in names:
            self._queues[name].readers.append(reader)
        self.touched()

    def leave(self, reader: MemorySubscription) -> None:
        """Deliver to this one no more."""
        for queue in self._queues.values():
            if reader in queue.readers:
                queue.readers.remove(reader)
        self.touched()

    def touched(self) -> None:
        """Note that something changed: deliver soon, and wake who waits for quiet."""
        self.turns += 1
        if not self._will_pump:
            self._will_pump = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._will_pump = False
        batches: dict[MemorySubscription, list[Delivery]] = {}
        for queue in self._queues.values():
            self._hand_out(queue, batches)
        for reader, batch in batches.items():
            reader.give(batch)
        if self.is_idle:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _hand_out(
        self, queue: _Queue, batches: dict[MemorySubscription, list[Delivery]]
    ) -> None:
        left = len(queue.waiting)
        if self._faults == "shuffle" and left:
            # Some come now and some later, so that even those sent apart change places.
            left = self._random.randint(0, left)
        while queue.waiting:
            reader = next((one for one in queue.readers if one.has_room(queue)), None)
            if reader is None:
                return
            if not left:
                self.touched()
                return
            left -= 1
            queue.readers.remove(reader)
            queue.readers.append(reader)
            entry = queue.waiting.pop(self._next(queue))
            queue.in_hand += 1
            batches.setdefault(reader, []).append(reader.take(entry))

    def _next(self, queue: _Queue) -> int:
        return self._random.randrange(len(queue.waiting)) if self._faults == "shuffle" else 0


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
        self, queues: Sequence[str], *, window: int, sink: Sink
    ) -> MemorySubscription:
        """Begin to consume."""
        self._check()
        subscription = MemorySubscription(self.broker, queues, window, sink)
        self._open.append(subscription)
        return subscription

    async def depths(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Say what stands in each of these queues."""
        return {name: self.broker.depth(name) for name in queues}

    async def recover(self) -> None:
        """Does nothing: a crash hands back by itself."""

    def _check(self) -> None:
        if self.is_dead:
            raise Unavailable("This connection to the queues in memory has crashed.")


class MemorySubscription:
    """One consumer; what it has in hand is in `_held` until it is settled."""

    def __init__(
        self, broker: MemoryBroker, queues: Sequence[str], window: int, sink: Sink
    ) -> None:
        self._broker = broker
        self._windows = dict.fromkeys(queues, window)
        self._sink = sink
        self._held: dict[int, _Entry] = {}
        self._tags = 0
        self._counts: dict[str, int] = {}
        self._is_paused = False
        self._is_over = False
        broker.join(self, queues)

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
        for entry in self._end():
            self._broker.put_back(entry)

    # -- between broker and subscription -------------------------------------------------------

    def crash(self) -> None:
        """End as a process does that is killed: what it holds comes back, suspected."""
        for entry in self._end():
            entry.crashed += entry.runs_alone
            entry.is_suspect = True
            self._broker.put_back(entry)

    def has_room(self, queue: _Queue) -> bool:
        """Whether its window takes one more of this queue."""
        name = queue.waiting[0].packet.queue
        return not self._is_paused and self._counts.get(name, 0) < self._windows[name]

    def take(self, entry: _Entry) -> Delivery:
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

    def _settled(self, deliveries: Iterable[Delivery]) -> list[_Entry]:
        settled: list[_Entry] = []
        for delivery in deliveries:
            entry = self._held.pop(delivery.tag, None)
            if entry is not None:
                self._counts[entry.packet.queue] -= 1
                settled.append(entry)
        return settled

    def _end(self) -> list[_Entry]:
        if self._is_over:
            return []
        self._is_over = True
        self._broker.leave(self)
        held, self._held = list(self._held.values()), {}
        return held
