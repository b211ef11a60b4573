"""Long work on a broker runs from a claim in the database, as all work does on Postgres alone.

A broker takes a delivery back that is not acked in time, however alive its holder is, and the
message would run a second time beside the first. So what comes for a handler that may take
long is put into the table of queues in the database, acked, and claimed from there: a claim
has no time-out, and ends with its commit, its hand-back or its owner.

    broker's queue -> Moving -> table -> claim -> handler

A crash between putting and acking brings it into the table twice, under one id and
generation, of which the inbox lets one act.

Source: DESIGN 4.9, RELIABILITY H23.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import QueueFull, RolekitError, Unroutable

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.transport.base import Delivery, Depth, Sink, Subscription, Transport
    from rolekit.transport.postgres import PostgresTransport

log = structlog.get_logger("rolekit.transport")

WINDOW = 100
"""Messages of a queue on their way into the table, at most."""
ENOUGH = 1000
"""While so many of a queue wait in the table, the rest stays with the broker."""
LOOK_S = 1.0
AGAIN_S = 0.5


class LongWorkTransport:
    """A broker, and claims in the database for the queues of long work.

    Args:
        broker: Where messages are sent to, all of them.
        claims: On the database of the state.
        long: Queues whose messages run from claims.
        queues: All queues of the app: what is in the table for those that are not long, or
            not any more, goes back to the broker.

    Attributes:
        broker: As given.
    """

    def __init__(
        self,
        broker: Transport,
        claims: PostgresTransport,
        *,
        long: Container[str],
        queues: Sequence[str] = (),
    ) -> None:
        self.features = broker.features
        self.broker = broker
        self._claims = claims
        self._long = long
        self._short = [queue for queue in queues if queue not in long]

    async def start(self) -> None:
        """Connect to the broker; to the database when there is something to claim."""
        await self.broker.start()

    async def connect_to_send(self) -> None:
        """Connect to the broker for sending as well."""
        await self.broker.connect_to_send()

    async def stop(self) -> None:
        """Close every subscription and connection."""
        await self._claims.stop()
        await self.broker.stop()

    async def declare(self, queues: Iterable[str]) -> None:
        """Make these queues on the broker, if they are not there."""
        await self.broker.declare(queues)

    async def publish(self, packets: Sequence[Packet]) -> None:
        """Store all of these on the broker."""
        await self.broker.publish(packets)

    async def forward(
        self, subscription: Subscription, pairs: Sequence[tuple[Delivery, Packet]]
    ) -> None:
        """Publish each packet to the broker, then ack its delivery."""
        await self.broker.forward(subscription, pairs)

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink, epoch: int | None = None
    ) -> Subscription:
        """Begin to consume: long queues by claims, the rest from the broker."""
        long = [queue for queue in queues if queue in self._long]
        if not long:
            return await self.broker.subscribe(queues, window=window, sink=sink, epoch=epoch)
        await self._claims.declare(long)
        claimed = await self._claims.subscribe(long, window=window, sink=sink, epoch=epoch)
        moving = Moving(self._claims)
        moving.source = await self.broker.subscribe(
            long, window=WINDOW, sink=moving.take, epoch=epoch
        )
        short = [queue for queue in queues if queue not in self._long]
        rest = None
        if short:
            rest = await self.broker.subscribe(short, window=window, sink=sink, epoch=epoch)
        return LongWorkSubscription(frozenset(long), claimed, moving, rest)

    async def depths(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Say what stands in each of these queues, with the broker and in the table."""
        depths = await self.broker.depths(queues)
        long = [queue for queue in queues if queue in self._long]
        if long:
            there = await self._claims.depths(long)
            depths |= {queue: depths[queue] + there[queue] for queue in long}
        return depths

    def delivered_age_s(self) -> float | None:
        """Return what the broker's end knows."""
        return self.broker.delivered_age_s()

    def blocked_s(self) -> float:
        """Return for how long the broker has taken nothing, seconds."""
        return self.broker.blocked_s()

    async def recover(self) -> None:
        """Hand back what the gone hold; take back to the broker what is not long work."""
        await self.broker.recover()
        await self._claims.recover()
        if self._short:
            await self._take_back()

    async def _take_back(self) -> None:
        """Publish what waits for queues that are not long, and forget it.

        What the broker does not take now waits for the next time. It must not keep the
        relay from its other work, nor have the rest published again and again.
        """
        while packets := await self._claims.waiting(self._short, WINDOW):
            numbers, refused = list(packets), frozenset[int]()
            try:
                await self.broker.publish(list(packets.values()))
            except RolekitError as error:
                log.warning("the broker takes nothing back for now", error=str(error))
                which = error.which if isinstance(error, Unroutable | QueueFull) else None
                refused = frozenset(range(len(numbers))) if which is None else which
            await self._claims.forget([n for at, n in enumerate(numbers) if at not in refused])
            if refused:
                return
            log.info("took back to the broker what is no long work", count=len(numbers))

    async def hand_over(self) -> None:
        """Do as the broker's end does."""
        await self.broker.hand_over()


class Moving:
    """Puts what a broker delivers into the table, in the order in which it came."""

    source: Subscription

    def __init__(self, claims: PostgresTransport) -> None:
        self._claims = claims
        self._came: deque[Delivery] = deque()
        self._something = asyncio.Event()
        # Owned by close(), which ends it.
        self._running = asyncio.create_task(self._run(), name="move long work")

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Take what the broker delivers."""
        self._came.extend(deliveries)
        self._something.set()

    async def _run(self) -> None:
        while True:
            await self._something.wait()
            try:
                await self._move()
            except RolekitError as error:
                log.warning("cannot put long work into its table", error=str(error))
                await asyncio.sleep(AGAIN_S)
            except Exception:
                # A bug; a loop that ended would stop the queue as well.
                log.exception("cannot put long work into its table")
                await asyncio.sleep(AGAIN_S)

    async def _move(self) -> None:
        queues = list({delivery.packet.queue for delivery in self._came})
        depths = await self._claims.depths(queues)
        full = {queue for queue in queues if depths[queue].waiting >= ENOUGH}
        moved = [one for one in self._came if one.packet.queue not in full]
        if moved:
            await self._claims.publish([one.packet for one in moved])
            self.source.ack(moved)
            gone = {id(one) for one in moved}
            self._came = deque(one for one in self._came if id(one) not in gone)
        if full:
            await asyncio.sleep(LOOK_S)
        elif not self._came:
            self._something.clear()

    async def close(self) -> None:
        """Move nothing more; what was not moved stays with the broker."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self.source.close()


class LongWorkSubscription:
    """Some queues consumed together, of which those of long work are claimed.

    Args:
        long: Names of the latter.
        claimed: Their claims.
        moving: Brings what is claimed there.
        rest: Of the broker, for the others; None: there are none.
    """

    def __init__(
        self,
        long: frozenset[str],
        claimed: Subscription,
        moving: Moving,
        rest: Subscription | None,
    ) -> None:
        self._long = long
        self._claimed = claimed
        self._moving = moving
        self._rest = rest or claimed
        self._all = [claimed, moving.source] if rest is None else [claimed, moving.source, rest]

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Forget these for ever, soon."""
        for delivery in deliveries:
            self._of(delivery.packet.queue).ack([delivery])

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Do as `ack`: commits settle no claims here."""
        self.ack(deliveries)

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give these back to their queues, to be delivered again, flagged."""
        for delivery in deliveries:
            self._of(delivery.packet.queue).hand_back([delivery])

    async def run_alone(self, delivery: Delivery) -> None:
        """Note that a suspect runs with nothing beside it."""
        await self._of(delivery.packet.queue).run_alone(delivery)

    def widen(self, queue: str, window: int) -> None:
        """Change how many deliveries of a queue may be in hand."""
        self._of(queue).widen(queue, window)

    def pause(self) -> None:
        """Take no more until `resume`."""
        for one in self._all:
            one.pause()

    def resume(self) -> None:
        """Take again."""
        for one in self._all:
            one.resume()

    async def flush(self) -> None:
        """Wait until the acks given so far have been sent."""
        for one in self._all:
            await one.flush()

    async def close(self) -> None:
        """Take no more; hand back whatever is not settled."""
        await self._moving.close()
        await asyncio.gather(self._claimed.close(), self._rest.close())

    def _of(self, queue: str) -> Subscription:
        return self._claimed if queue in self._long else self._rest
