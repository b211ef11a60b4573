"""The model broker: publishes are lost, repeated or unknown, and connections break.

It gives the queue of a partition to one reader at a time, in one of the two ways there are:
by epoch, as Postgres does, where a new owner ends the reader before; or to whoever came
first until that one is gone, as RabbitMQ does, which knows of no epochs.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from rolekit.errors import PublishUnknown, QueueFull, Unavailable, Unroutable
from rolekit.transport.memory import Faults, MemoryBroker, MemorySubscription, MemoryTransport
from tests.property.jumping import LoopClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.transport.base import Delivery, Sink
    from rolekit.transport.memory_broker import Entry, Queue
    from tests.property.simulated_fate import Fate
    from tests.property.simulated_host import Leases

FAULTS: tuple[Faults, ...] = ("none", "repeat", "shuffle")


class ModelBroker(MemoryBroker):
    """Queues that everybody shares.

    Args:
        fate: Draws what goes wrong with all of them.
        leases: Of hosts.

    Attributes:
        leases: Of hosts; where there are epochs, none takes without.
        wires: All that are open, each with the instance it belongs to.
        hidden: A queue that is not there for a while.
    """

    def __init__(self, fate: Fate, leases: Leases) -> None:
        super().__init__(LoopClock(), faults=fate.random.choice(FAULTS), seed=fate.seed)
        self.has_epochs = fate.happens(0.5)
        self.leases = leases
        self.wires: dict[Wire, int] = {}
        self.hidden = ""
        self._active: dict[str, list[MemorySubscription]] = {}

    def touched(self) -> None:
        # What a broker does next is no act of the process that touched it.
        Context().run(super().touched)

    def store(self, packets: Sequence[Packet]) -> None:
        lost = frozenset(at for at, each in enumerate(packets) if each.queue == self.hidden)
        if lost and self.has_epochs:
            raise Unroutable(f"There is no queue {self.hidden}; nothing was stored.")
        super().store([each for at, each in enumerate(packets) if at not in lost])
        if lost:  # a broker that takes each by itself
            error = self._refusal
            raise error(f"Nothing goes into {self.hidden}; the rest was stored.", which=lost)

    @property
    def _refusal(self) -> type[Unroutable | QueueFull]:
        return QueueFull if self.seed % 2 else Unroutable

    def join(self, reader: MemorySubscription, names: Iterable[str], epoch: int = 0) -> None:
        names = list(names)
        if self.has_epochs or not epoch:
            super().join(reader, names, epoch)
            return
        for name in names:
            queue = self._queues[name]
            queue.epoch = max(queue.epoch, epoch)  # it keeps its order from now on
            queue.readers.append(reader)
            self._active.setdefault(name, []).append(reader)
        self.touched()

    def leave(self, reader: MemorySubscription) -> None:
        for readers in self._active.values():
            if reader in readers:
                readers.remove(reader)
        super().leave(reader)

    def epoch_of(self, name: str) -> int:
        """Say under which epoch a queue is read."""
        return self._queues[name].epoch

    def is_active(self, name: str, reader: MemorySubscription) -> bool:
        """Whether a queue's messages go to this one of its readers."""
        readers = self._active.get(name)
        return not readers or readers[0] is reader


class Wire(MemorySubscription):
    """A subscription over a connection: what was sent arrives later, unless it broke."""

    def __init__(
        self,
        broker: ModelBroker,
        owner: int,
        queues: Sequence[str],
        window: int,
        sink: Sink,
        epoch: int,
    ) -> None:
        self._of = broker
        self._epoch = epoch
        self._to = sink
        self._context = copy_context()
        self._is_closed = False
        self._is_cut = False
        self._is_dead = False
        broker.wires[self] = owner
        super().__init__(broker, queues, window, self._send, epoch)

    def _send(self, batch: Sequence[Delivery]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._arrive, batch, context=self._context)

    def _arrive(self, batch: Sequence[Delivery]) -> None:
        # What is taken away from a reader meanwhile arrives all the same, and is no more his.
        if not self._is_closed:
            self._to(batch)

    async def close(self) -> None:
        if not self._is_dead:
            self._is_closed = True
            await super().close()

    def crash(self) -> None:
        self._is_closed = True
        super().crash()

    def die(self) -> None:
        """End unseen: what is in hand stays there until the lease of its host is over."""
        self._is_closed = self._is_dead = True

    def lapse(self) -> None:
        """Give what is in hand to others, who saw that the lease of its host is over."""
        held, self._held = list(self._held.values()), {}
        self._counts.clear()
        for entry in held:
            entry.crashed += entry.runs_alone
            entry.is_suspect = True
            self._of.put_back(entry)
        if self._is_dead:
            self._of.leave(self)

    def has_room(self, queue: Queue) -> bool:
        of, name = self._of, queue.waiting[0].packet.queue
        if self._is_closed or (of.has_epochs and not of.leases.holds(of.wires[self])):
            return False
        return of.is_active(name, self) and super().has_room(queue)

    def _settled(self, deliveries: Iterable[Delivery]) -> list[Entry]:
        return [] if self._is_dead else super()._settled(deliveries)

    def cancel(self) -> None:
        """Take no more, and keep what is in hand, as `basic.cancel` does."""
        self._is_closed = True
        self._of.leave(self)

    def cut(self) -> None:
        """Lose the connection: all it has in hand is given to others."""
        if not self._is_over:
            self._is_cut = True
            self._of.leave(self)
            held, self._held = list(self._held.values()), {}
            self._counts.clear()
            for entry in held:
                self._of.put_back(entry)

    def mend(self) -> None:
        """Connect again: last in the line of a queue that has one reader at a time."""
        if not self._is_cut:
            return  # it was made since
        self._is_cut = False
        names = list(self._windows)
        is_past = self._of.has_epochs and any(
            self._epoch < self._of.epoch_of(name) for name in names
        )
        if not self._is_over and not is_past:
            self._of.join(self, names, self._epoch)


class ShakyTransport(MemoryTransport):
    """One process's connection to the model broker."""

    def __init__(self, broker: ModelBroker, owner: int, fate: Fate) -> None:
        super().__init__(broker)
        self._owner = owner
        self._fate = fate
        self._model = broker
        self._cuts = 0

    def _check(self) -> None:
        super()._check()
        if self._cuts:
            raise Unavailable("drawn: there is no connection")

    async def publish(self, packets: Sequence[Packet]) -> None:
        await asyncio.sleep(self._fate.random.random() * 0.01)
        if self._fate.happens():
            raise PublishUnknown("drawn: nothing was stored")
        await super().publish(packets)
        if self._fate.happens():
            raise PublishUnknown("drawn: everything was stored")

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink, epoch: int | None = None
    ) -> Wire:
        self._check()
        wire = Wire(self._model, self._owner, queues, window, sink, epoch or 0)
        self._open.append(wire)
        return wire

    async def recover(self) -> None:
        """Hand back what lost hosts hold, where it is known who holds what."""
        leases = self._model.leases
        for wire, owner in list(self._model.wires.items()):
            if self._model.has_epochs and leases.may_take_over(self._owner, owner):
                wire.lapse()

    def die(self) -> None:
        """Die with the whole host: a broker without leases sees it when no heartbeat comes."""
        self.is_dead = True
        for wire in self._wires():
            wire.die() if self._model.has_epochs else wire.crash()

    def cut(self) -> None:
        """Lose the connection, for one more reason."""
        self._cuts += 1
        for wire in self._wires():
            wire.cut()

    def mend(self) -> None:
        """Connect again, if there is no other reason left."""
        self._cuts -= 1
        for wire in self._wires() if not self._cuts else ():
            wire.mend()

    def _wires(self) -> list[Wire]:
        return [wire for wire in self._open if isinstance(wire, Wire)]
