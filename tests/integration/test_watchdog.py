"""The watchdog: a consumer that died without a word comes back, a quiet one is left alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from rolekit.model.envelope import Packet
from rolekit.testing.faults import Direction, Proxy, drops
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.transport.rabbitmq.consumer import TAG_BITS
from rolekit.transport.rabbitmq.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.testing.broker import PrivateBroker
    from rolekit.transport.base import Delivery
    from rolekit.transport.rabbitmq.consumer import QueueConsumer
    from rolekit.transport.rabbitmq.subscription import RabbitSubscription

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(30)]

QUEUE = "Work.work"
WATCH_S = 0.1


class Taker:
    """A transport that consumes one queue, and what came."""

    def __init__(self, transport: RabbitTransport, *, acks: bool) -> None:
        self.transport = transport
        self.ids: list[str] = []
        self.deliveries: list[Delivery] = []
        self.is_forgetful = False
        self.acks = acks
        self._came = asyncio.Event()
        self._subscription: RabbitSubscription | None = None

    @property
    def subscription(self) -> RabbitSubscription:
        assert self._subscription is not None
        return self._subscription

    @property
    def consumer(self) -> QueueConsumer:
        return self.subscription.consumers[QUEUE]

    async def consume(self, window: int = 10) -> None:
        self._subscription = await self.transport.subscribe(
            [QUEUE], window=window, sink=self._take
        )

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        if not self.is_forgetful:
            self.deliveries += deliveries
        self.ids += [delivery.packet.id for delivery in deliveries]
        if self.acks:
            self.subscription.ack(deliveries)
        self._came.set()

    async def has(self, id_: str) -> None:
        """Wait until this message has come."""
        while id_ not in self.ids:
            self._came.clear()
            await self._came.wait()

    async def send(self) -> str:
        packet = Packet(queue=QUEUE, id=uuid4().hex, head=b"", body=b"")
        await self.transport.publish([packet])
        return packet.id

    async def cancel_behind_its_back(self) -> None:
        """End the consumer at the broker as nobody here is told."""
        channel = self.consumer._channel  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        assert channel is not None
        serial, number = divmod(self.consumer.life, 1 << TAG_BITS)
        await channel.calls.basic_cancel(f"rolekit-{serial}-{number}")


@asynccontextmanager
async def taker(
    url: str, *, acks: bool = True, watch_s: float = WATCH_S
) -> AsyncGenerator[Taker]:
    transport = RabbitTransport(url, app="w", watch_s=watch_s)
    try:
        await transport.start()
        await transport.declare([QUEUE])
        yield Taker(transport, acks=acks)
    finally:
        await transport.stop()


async def test_a_consumer_that_the_broker_does_not_have_begins_anew(broker_url: str) -> None:
    async with taker(broker_url) as it:
        await it.consume()
        await it.has(await it.send())

        await it.cancel_behind_its_back()
        await it.has(await it.send())

        assert it.transport.healed == 1


async def test_a_queue_deleted_while_the_word_of_it_was_lost_is_made_and_consumed_again(
    broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    vhost = broker_url.rpartition("/")[2]
    async with (
        Proxy("127.0.0.1", rolekit_broker_server.port) as proxy,
        taker(proxy.url(broker_url)) as it,
    ):
        await it.consume()
        await it.has(await it.send())
        proxy.on_frame = drops(Direction.TO_CLIENT, "Basic.Cancel")

        await asyncio.to_thread(rolekit_broker_server.delete_queue, "w.Work.work", vhost)
        await proxy.until(lambda: it.transport.healed == 1)
        await it.has(await it.send())

        assert proxy.to_client.dropped["Basic.Cancel"] == 1


async def test_where_others_consume_too_waiting_messages_tell_that_ours_is_dead(
    broker_url: str,
) -> None:
    async with (
        taker(broker_url) as it,
        taker(broker_url, acks=False, watch_s=60) as greedy,
    ):
        await it.consume()
        await it.has(await it.send())
        await it.cancel_behind_its_back()
        await greedy.consume(window=1)
        await greedy.has(await greedy.send())  # and keeps it

        waiting = await greedy.send()
        await it.has(waiting)

        assert it.transport.healed == 1


async def test_an_ack_that_was_lost_takes_no_place_for_ever(
    broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    async with (
        Proxy("127.0.0.1", rolekit_broker_server.port) as proxy,
        taker(proxy.url(broker_url), acks=False) as it,
    ):
        await it.consume(window=2)
        await it.has(await it.send())  # and keeps it
        await it.has(await it.send())
        proxy.on_frame = drops(Direction.TO_SERVER, "Basic.Ack")
        it.subscription.ack(it.deliveries[1:])
        await proxy.until(lambda: proxy.to_server.dropped["Basic.Ack"] == 1)
        proxy.on_frame = None
        it.acks = True

        await it.has(await it.send())

        assert it.transport.healed == 1


async def test_a_delivery_that_got_lost_in_this_process_comes_again(broker_url: str) -> None:
    async with taker(broker_url, acks=False) as it:
        await it.consume(window=2)
        await it.has(await it.send())  # and keeps it
        it.is_forgetful = True
        forgotten = await it.send()
        await it.has(forgotten)
        it.is_forgetful = False
        it.ids.clear()

        await it.has(forgotten)

        assert it.transport.healed == 1


async def test_quiet_busy_and_paused_queues_are_left_alone(broker_url: str) -> None:
    async with taker(broker_url, acks=False, watch_s=60) as it:
        await it.consume(window=1)
        dog = Watchdog(it.transport, lambda: [it.consumer])

        await it.has(await it.send())
        it.subscription.ack([it.deliveries[0]])
        await it.subscription.flush()
        for _ in range(4):  # quiet
            await dog.look()
        await it.has(await it.send())
        await it.send()
        for _ in range(4):  # busy: its window is full, and one more waits
            await dog.look()
        it.subscription.pause()
        for _ in range(4):
            await dog.look()

        assert dog.healed == 0


async def test_a_consumer_that_began_anew_by_itself_is_waited_for_again(
    broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    async with (
        Proxy("127.0.0.1", rolekit_broker_server.port) as proxy,
        taker(proxy.url(broker_url), watch_s=60) as it,
        taker(broker_url, watch_s=60) as sender,
    ):
        await it.consume()
        await it.has(await sender.send())
        dog = Watchdog(it.transport, lambda: [it.consumer])
        await dog.look()

        proxy.cut()
        await it.has(await sender.send())
        await it.cancel_behind_its_back()
        await sender.send()
        await dog.look()
        healed_at_first = dog.healed
        await dog.look()

        assert (healed_at_first, dog.healed) == (0, 1)
