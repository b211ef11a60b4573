"""The queues behind `transport.memory`, and what goes wrong with them, by seed."""

from __future__ import annotations

import asyncio
import random
from bisect import insort
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import msgspec

from rolekit.clock import Clock, SystemClock
from rolekit.errors import FenceLost, Unroutable
from rolekit.transport.base import Delivery, Depth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.transport.memory import MemorySubscription

Faults = Literal["none", "repeat", "shuffle"]


@dataclass(slots=True, eq=False)
class Entry:
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
class Queue:
    """A queue; `epoch` is that of its only reader, 0 where it may have several."""

    waiting: list[Entry] = field(default_factory=list[Entry])
    readers: list[MemorySubscription] = field(default_factory=list["MemorySubscription"])
    in_hand: int = 0
    epoch: int = 0


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
        self._queues: dict[str, Queue] = {}
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
            if queue.in_hand or (queue.waiting and any(r.wants(name) for r in queue.readers))
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
            self._queues.setdefault(name, Queue())

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

    def _entry(self, packet: Packet, *, redelivered: bool = False) -> Entry:
        self._places += 1
        entry = Entry(self._places, packet, redelivered)
        self._queues[packet.queue].waiting.append(entry)
        return entry

    def _flip(self) -> bool:
        return self._random.random() < 0.5  # noqa: PLR2004 - a coin

    def forget(self, entry: Entry) -> None:
        """Delete what was acked; its repeat comes, if it has one."""
        self._queues[entry.packet.queue].in_hand -= 1
        if entry.repeat is not None:
            self._entry(entry.repeat, redelivered=self._flip())
        self.touched()

    def put_back(self, entry: Entry) -> None:
        """Put what was not settled back to its place, flagged."""
        queue = self._queues[entry.packet.queue]
        queue.in_hand -= 1
        entry.redelivered, entry.runs_alone = True, False
        insort(queue.waiting, entry, key=_place)
        self.touched()

    def join(self, reader: MemorySubscription, names: Iterable[str], epoch: int = 0) -> None:
        """Deliver from these queues to one more; to nobody else, if it has an epoch."""
        queues = [self._queues[name] for name in names]
        if any(epoch < queue.epoch for queue in queues):
            raise FenceLost(f"Epoch {epoch} of {', '.join(names)} is over.")
        for queue in queues:
            if epoch:
                queue.epoch = epoch
                for earlier in list(queue.readers):
                    earlier.end()
            queue.readers.append(reader)
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
        self, queue: Queue, batches: dict[MemorySubscription, list[Delivery]]
    ) -> None:
        left = len(queue.waiting)
        if self._faults == "shuffle" and left and not queue.epoch:
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

    def _next(self, queue: Queue) -> int:
        # The order of keys is promised, so a partition keeps it.
        if self._faults != "shuffle" or queue.epoch:
            return 0
        return self._random.randrange(len(queue.waiting))
