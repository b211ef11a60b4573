"""The faulty network before a real broker: frames are what they are taken for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aio_pika
import pytest
from aio_pika.exceptions import AMQPError

from rolekit.testing.faults import Direction, Proxy, Verdict, cuts, drops
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractConnection

    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

WAIT_S = patient(10.0)


@pytest.fixture
async def proxy(rolekit_broker_server: PrivateBroker) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", rolekit_broker_server.port) as made:
        yield made


async def publish(connection: AbstractConnection, body: bytes) -> None:
    channel = await connection.channel()
    await channel.declare_queue("q", durable=True)
    await channel.default_exchange.publish(aio_pika.Message(body), "q")


async def stored(url: str) -> list[bytes]:
    found: list[bytes] = []
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).declare_queue("q", durable=True)
        while message := await queue.get(no_ack=True, fail=False):
            found.append(message.body)
    return found


async def test_a_message_whose_confirm_was_lost_is_stored(
    broker_url: str, proxy: Proxy
) -> None:
    proxy.on_frame = drops(Direction.TO_CLIENT, "Basic.Ack")
    connection = await aio_pika.connect(proxy.url(broker_url))
    waits = asyncio.create_task(publish(connection, b"unknown"))

    async with asyncio.timeout(WAIT_S):
        await proxy.until(lambda: proxy.to_client.dropped["Basic.Ack"] == 1)
    is_answered = waits.done()
    proxy.cut()
    with pytest.raises((AMQPError, OSError, asyncio.CancelledError)):
        await waits
    await connection.close()

    assert not is_answered
    assert await stored(broker_url) == [b"unknown"]


@pytest.mark.parametrize("name", ["Basic.Publish", "header", "body"])
async def test_a_message_that_was_cut_off_is_not_stored(
    broker_url: str, proxy: Proxy, name: str
) -> None:
    proxy.on_frame = cuts(Direction.TO_SERVER, name, verdict=Verdict.CUT_BEFORE)
    connection = await aio_pika.connect(proxy.url(broker_url))

    with pytest.raises((AMQPError, OSError, asyncio.CancelledError)):
        await publish(connection, b"never")
    await connection.close()

    assert await stored(broker_url) == []
