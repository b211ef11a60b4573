"""Queues that a process takes as made: not declared again, and made when they are gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.model.envelope import Packet
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.transport.rabbitmq.counting import Counting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.transport.base import Delivery

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(90)]

PACKET = Packet(queue="made", id="1" * 32, head=b"", body=b"")


@pytest.fixture
async def told_of_one(broker_url: str) -> AsyncGenerator[RabbitTransport]:
    """A transport that was told of a queue, which is not there."""
    transport = RabbitTransport(broker_url, app="m", made=["made"])
    try:
        await transport.start()
        await transport.declare(["made", "other"])
        yield transport
    finally:
        await transport.stop()


async def test_a_queue_that_was_made_is_not_declared_again(
    told_of_one: RabbitTransport,
) -> None:
    names = [queue.name for queue in told_of_one.wanted(["made", "other"])]

    there = await Counting().count(await told_of_one.consuming(), names)

    assert list(there) == names[1:]


async def test_who_consumes_it_makes_it_when_it_is_gone(told_of_one: RabbitTransport) -> None:
    came: asyncio.Queue[str] = asyncio.Queue()

    def take(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            came.put_nowait(delivery.packet.id)

    await told_of_one.subscribe(["made"], window=1, sink=take)
    # Published before, it may come while the queue is being made: then it is refused.
    while not (await told_of_one.depths(["made"]))["made"].consumers:  # noqa: ASYNC110 - a broker tells nobody
        await asyncio.sleep(0.05)
    await told_of_one.publish([PACKET])

    assert await came.get() == PACKET.id


async def test_who_publishes_to_it_makes_it_when_it_is_gone(
    told_of_one: RabbitTransport,
) -> None:
    await told_of_one.publish([PACKET])

    assert (await told_of_one.depths(["made"]))["made"].waiting == 1
