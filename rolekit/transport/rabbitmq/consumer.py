"""Consuming: one channel for each queue, which comes back by itself.

It is a loop that opens a channel, consumes, and waits until that ends: the connection is
lost, the broker closes the channel or cancels a consumer, somebody pauses. Then it begins
again. A tag names its channel too, so that one from before is dead, not another message's.

Source: RELIABILITY H11, H12, H21, H22; PITFALLS T1, T5, T7, T8, T12.
"""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from aiormq.exceptions import ChannelNotFoundEntity

from rolekit.errors import RolekitError
from rolekit.transport.base import Delivery
from rolekit.transport.rabbitmq.acks import Acks
from rolekit.transport.rabbitmq.address import AWAY
from rolekit.transport.rabbitmq.demux import Tap
from rolekit.transport.rabbitmq.session import RPC_S, lost_not_cancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from rolekit.transport.base import Sink
    from rolekit.transport.rabbitmq.demux import Arrived
    from rolekit.transport.rabbitmq.session import Channel
    from rolekit.transport.rabbitmq.transport import RabbitTransport

log = structlog.get_logger("rolekit.rabbitmq")

GAP_S = 0.02
"""What finished beyond a gap waits so long for the gap to close, or until it is a quarter of
the window: single acks cost the broker more than anything else about a message."""
AGAIN_FIRST_S = 0.1
AGAIN_MAX_S = 3.0
CLOSE_S = 5.0
TAG_BITS = 44
"""A delivery tag below, the number of its channel among all of this process above."""
_TAG = (1 << TAG_BITS) - 1

_Share = tuple[int, int]
"""Number of a consumer on its channel, and its part of the window."""


class QueueConsumer:
    """Consumes one queue, through one channel after another.

    Args:
        transport: Has the connection, and names channels.
        queue: Name of the handler.
        window: Deliveries in hand, at most.
        sink: Takes each batch.
        open_now: Where it is listed under the number of its channel, as long as that is open.
        source: The queue of another program to consume instead, for the same handler.
    """

    def __init__(
        self,
        transport: RabbitTransport,
        queue: str,
        window: int,
        sink: Sink,
        open_now: dict[int, QueueConsumer],
        source: str = "",
    ) -> None:
        self.queue = queue
        self.name = source or transport.broker_name(queue)
        self._source = source
        self.in_hand = 0
        self.delivered = 0
        self._transport = transport
        self._window = window
        self._sink = sink
        self._open_now = open_now
        self._loop = asyncio.get_running_loop()
        self._channel: Channel | None = None
        self._acks = Acks(0)
        self._serial = 0
        self._will_flush = False
        self._gap_timer: asyncio.TimerHandle | None = None
        self._is_wanted = asyncio.Event()
        self._is_wanted.set()
        self._changed = asyncio.Event()
        self._consumers = 0
        self._shares: list[_Share] = []
        self._prefetch = 0
        self._asked = 0
        self._is_closing = False
        # Owned by close(), which ends it.
        self._living = asyncio.create_task(self._live(), name=f"consume {queue}")

    @property
    def is_consuming(self) -> bool:
        """Whether the broker was asked to deliver, and is believed to."""
        return self._channel is not None and self._asked > 0 and self._is_wanted.is_set()

    @property
    def window(self) -> int:
        """How many deliveries the broker was asked to let be in hand."""
        return self._asked

    def count_lost(self) -> int:
        """Count deliveries that are in hand and that nobody has: their objects are gone.

        It looks at every object of the process, so that no delivery has to be kept track of.
        """
        serial, is_open = self._serial, self._acks.is_open
        kept = (one.tag for one in gc.get_objects() if type(one) is Delivery)
        return self.in_hand - sum(
            tag >> TAG_BITS == serial and is_open(tag & _TAG) for tag in kept
        )

    @property
    def life(self) -> int:
        """A number for this channel and this consumer on it, which no other has."""
        return self._serial << TAG_BITS | self._consumers

    # -- settling ----------------------------------------------------------------------------

    def ack(self, delivery: Delivery) -> None:
        """Forget a delivery of this channel; sent with others in the next turn of the loop."""
        self.in_hand -= 1
        self._acks.ack(delivery.tag & _TAG)
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def hand_back(self, delivery: Delivery) -> None:
        """Give a delivery of this channel back to its queue."""
        if self._channel is not None:
            self.in_hand -= 1
            self._channel.write(self._acks.requeue(delivery.tag & _TAG))

    def _flush(self) -> None:
        self._will_flush = False
        if self._channel is None:
            return
        frame = self._acks.prefix()
        if frame:
            self._channel.write(frame)
        if self._acks.beyond_gap >= max(1, self._window // 4):
            self._flush_rest()
        elif self._acks.beyond_gap and self._gap_timer is None:
            self._gap_timer = self._loop.call_later(GAP_S, self._flush_rest)

    def _flush_rest(self) -> None:
        if self._gap_timer is not None:
            self._gap_timer.cancel()
            self._gap_timer = None
        if self._channel is not None:
            self._channel.write(self._acks.prefix() + self._acks.rest())

    async def flush(self) -> None:
        """Wait until the broker has read the acks given so far."""
        self._flush_rest()
        channel = self._channel
        if channel is not None and not channel.lost.done():
            with suppress(*AWAY):
                await channel.sent()
                # A consumer may begin just behind this call: it must get its own window.
                same = channel.calls.basic_qos(prefetch_count=self._prefetch or 1)
                await asyncio.shield(self._call(same))

    # -- living ------------------------------------------------------------------------------

    def widen(self, window: int) -> None:
        """Change how many deliveries may be in hand."""
        self._window = window
        self._changed.set()

    def pause(self) -> None:
        """Take no more until `resume`."""
        self._is_wanted.clear()
        self._changed.set()

    def resume(self) -> None:
        """Take again."""
        self._is_wanted.set()
        self._changed.set()

    def restart(self, why: str) -> None:
        """Give the channel up, which hands back what it holds, and begin again."""
        if self._channel is not None:
            self._channel.lose(why)

    async def close(self) -> None:
        """Send the acks, then close the channel: what is not settled goes back."""
        self._is_closing = True
        self._is_wanted.set()
        self._changed.set()
        # A call that is cancelled under way closes its channel the hard way.
        await asyncio.wait([self._living], timeout=CLOSE_S)
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)

    async def _live(self) -> None:
        wait_s = AGAIN_FIRST_S
        while True:
            await self._is_wanted.wait()
            if self._is_closing:
                return
            began_s = self._loop.time()
            why = await self._once()
            if self._closing():
                return
            if self._loop.time() - began_s > AGAIN_MAX_S:
                wait_s = AGAIN_FIRST_S
            log.info("consuming anew", queue=self.queue, reason=why, in_s=round(wait_s, 2))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            wait_s = min(wait_s * 2, AGAIN_MAX_S)

    def _closing(self) -> bool:
        return self._is_closing

    async def _once(self) -> str:
        """Consume through one channel until that ends; return why."""
        try:
            session = await self._transport.consuming()
            channel = await session.channel()
            try:
                return await self._consume(channel)
            finally:
                await asyncio.shield(self._leave(channel))
        except ChannelNotFoundEntity:
            return await self._make_again()
        except (*AWAY, RolekitError) as error:
            return str(error) or type(error).__name__

    async def _make_again(self) -> str:
        """Make the queue, which somebody deleted: nobody else may come by who does.

        One of another program is waited for.
        """
        if self._source:
            return f"{self._source} is gone; the program that it belongs to has to make it"
        try:
            await self._transport.make([self.queue])
        except (*AWAY, RolekitError) as error:
            return f"the queue is gone and cannot be made again: {error}"
        log.warning("a queue was gone with what was in it; made again", queue=self.queue)
        return "the queue was gone"

    async def _consume(self, channel: Channel) -> str:
        """Consume until that ends; return why."""
        self._serial = self._transport.next_serial()
        self._open_now[self._serial] = self
        self._acks = Acks(channel.number)
        self._channel = channel
        self.in_hand = 0
        channel.tap(Tap(on_deliveries=self._arrived))
        cancelled: asyncio.Future[str] = self._loop.create_future()

        def on_cancel(frame: object) -> None:
            if not cancelled.done():
                cancelled.set_result(f"the broker cancelled the consumer ({frame})")

        channel.calls.on_consumer_cancel_callbacks.add(on_cancel)
        while not self._is_closing:
            self._changed.clear()
            await self._adjust(channel)
            await self._any_of(channel.lost, cancelled)
            for over in (channel.lost, cancelled):
                if over.done():
                    return over.result()
        return "closed"

    async def _adjust(self, channel: Channel) -> None:
        """Consume as it is wanted now: with this window, or not at all.

        The broker keeps the window of a consumer as it was when that began. So a larger one
        is another consumer beside those there are, for the difference. A smaller one ends
        some, which costs: what was on its way to those comes again, flagged as if somebody
        had died of it. A queue of another program may let only one be active at a time: there
        each replaces the one before.
        """
        wanted = self._window if self._is_wanted.is_set() else 0
        if self._is_closing or wanted == self._asked:
            return
        self._asked = wanted
        before = self._shares
        kept = [] if self._source else _within(wanted, before)
        self._prefetch = wanted - sum(share for _, share in kept)
        self._shares = kept
        if self._prefetch:
            self._consumers += 1
            self._shares = [*kept, (self._consumers, self._prefetch)]
            await self._call(channel.calls.basic_qos(prefetch_count=self._prefetch))
            tag = self._tag(self._consumers)
            await self._call(
                channel.calls.basic_consume(self.name, channel.take, consumer_tag=tag)
            )
        for number, _ in before[len(kept) :]:
            await self._call(channel.calls.basic_cancel(self._tag(number)))

    def _tag(self, number: int) -> str:
        return f"rolekit-{self._serial}-{number}"

    async def _any_of(self, *ends: asyncio.Future[str]) -> None:
        """Wait until one of these ends, or what is wanted changes."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            either: set[asyncio.Future[Any]] = {changed, *ends}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    async def _call(self, call: Awaitable[object]) -> object:
        with lost_not_cancelled():
            async with asyncio.timeout(RPC_S):
                return await call

    async def _leave(self, channel: Channel) -> None:
        """Send the acks and close the channel, whichever of these still can be done."""
        if self._gap_timer is not None:
            self._gap_timer.cancel()
            self._gap_timer = None
        self._flush_rest()
        self._channel = None
        self._open_now.pop(self._serial, None)
        self._serial = 0
        self._asked = self._prefetch = 0
        self._shares = []
        self.in_hand = 0
        await channel.close()

    def _arrived(self, arrived: list[Arrived]) -> None:
        mark = self._serial << TAG_BITS
        read, queue, source = self._transport.packet, self.queue, self._source
        batch = [
            Delivery(read(queue, props, body, source), mark | tag, redelivered)
            for tag, redelivered, props, body in arrived
        ]
        self.in_hand += len(batch)
        self.delivered += len(batch)
        self._transport.note_birth(batch[0].packet.birth_ms)
        self._sink(batch)


def _within(window: int, shares: Sequence[_Share]) -> list[_Share]:
    """Return the first of these, as many as a window has room for."""
    kept: list[_Share] = []
    for share in shares:
        window -= share[1]
        if window < 0:
            break
        kept.append(share)
    return kept
