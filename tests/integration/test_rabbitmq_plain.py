"""With and without the demultiplexer, on a real broker: the same messages and answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aio_pika
import pytest

from rolekit.errors import Unavailable, Unroutable
from rolekit.model.envelope import Packet
from rolekit.testing.faults import Proxy
from rolekit.transport.rabbitmq import RabbitTransport
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pamqp.common import FieldTable

    from rolekit.transport.base import Delivery

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]
EACH_WAY = pytest.mark.parametrize("is_plain", [False, True])


@contextlib.asynccontextmanager
async def connected(url: str, *, is_plain: bool) -> AsyncGenerator[RabbitTransport]:
    transport = RabbitTransport(url, app="p", queue_type="classic", is_plain=is_plain)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.stop()


async def taken(transport: RabbitTransport, queue: str, count: int) -> list[Packet]:
    """Consume and ack so many packets."""
    found: list[Packet] = []
    done = asyncio.Event()

    def sink(batch: Sequence[Delivery]) -> None:
        found.extend(delivery.packet for delivery in batch)
        subscription.ack(batch)
        if len(found) >= count:
            done.set()

    subscription = await transport.subscribe([queue], window=100, sink=sink)
    async with asyncio.timeout(patient(20)):
        await done.wait()
    await subscription.flush()
    await subscription.close()
    return found


def packet(number: int, body: bytes = b"", queue: str = "q") -> Packet:
    head = bytes(range(256))
    return Packet(
        queue=queue, id=f"{number:032x}", generation=7, birth_ms=9, head=head, body=body
    )


@pytest.mark.parametrize("reads_plain", [False, True])
@pytest.mark.parametrize("writes_plain", [False, True])
async def test_what_one_writes_the_other_reads(
    broker_url: str, *, writes_plain: bool, reads_plain: bool
) -> None:
    bodies = [b"", b"b", b"\xce" * 131_072, bytes(range(256)) * 4096]
    sent = [packet(number, body) for number, body in enumerate(bodies)]

    async with (
        connected(broker_url, is_plain=writes_plain) as one,
        connected(broker_url, is_plain=reads_plain) as other,
    ):
        await one.declare(["q"])
        await one.publish(sent)
        got = await taken(other, "q", len(sent))
        depths = await one.depths(["q"])

    assert got == sent
    assert (depths["q"].waiting, depths["q"].in_hand) == (0, 0)


@EACH_WAY
async def test_publishes_with_the_same_id_are_all_told_that_they_came_back(
    broker_url: str, *, is_plain: bool
) -> None:
    async with connected(broker_url, is_plain=is_plain) as transport:
        await transport.declare(["q"])
        lists = [[packet(1, queue="gone")], [packet(1), packet(1, queue="gone")], [packet(2)]]

        results = await asyncio.gather(
            *(transport.publish(each) for each in lists * 2), return_exceptions=True
        )

    kinds = [type(result) for result in results]
    assert kinds == [Unroutable, Unroutable, type(None)] * 2


@EACH_WAY
async def test_a_full_queue_refuses(broker_url: str, *, is_plain: bool) -> None:
    connection = await aio_pika.connect(broker_url)
    async with connection:
        channel = await connection.channel()
        full: FieldTable = {
            "x-queue-type": "classic",
            "x-max-length": 1,
            "x-overflow": "reject-publish",
        }
        await channel.declare_queue("p.full", durable=True, arguments=full)

        async with connected(broker_url, is_plain=is_plain) as transport:
            await transport.declare(["q"])
            await transport.publish([packet(1, queue="full"), packet(1)])
            with pytest.raises(Unavailable, match="refused 1 of 2"):
                await transport.publish([packet(2, queue="full"), packet(2)])


@EACH_WAY
async def test_a_foreign_message_is_the_same_each_way(
    broker_url: str, *, is_plain: bool
) -> None:
    connection = await aio_pika.connect(broker_url)
    async with connection, connected(broker_url, is_plain=is_plain) as transport:
        await transport.declare(["q"])
        channel = await connection.channel()
        message = aio_pika.Message(
            b"{}",
            message_id="m",
            type="order",
            headers={"a": "b", "n": 1},
            timestamp=1_700_000_000,
        )
        await channel.default_exchange.publish(message, "p.q")
        (got,) = await taken(transport, "q", 1)

    assert got.body == b"{}"
    assert got.birth_ms == 1_700_000_000_000
    assert b"order" in got.head


@EACH_WAY
async def test_acks_given_before_closing_get_through(
    broker_url: str, *, is_plain: bool
) -> None:
    got: list[Delivery] = []
    all_came = asyncio.Event()

    def sink(batch: Sequence[Delivery]) -> None:
        got.extend(batch)
        if len(got) == 200:
            all_came.set()

    async with connected(broker_url, is_plain=is_plain) as transport:
        await transport.declare(["q"])
        await transport.publish([packet(number) for number in range(200)])
        subscription = await transport.subscribe(["q"], window=200, sink=sink)
        async with asyncio.timeout(patient(20)):
            await all_came.wait()
        subscription.ack(got[1::2])
        await subscription.close()
        left = await taken(transport, "q", 100)

    assert [one.id for one in left] == [one.packet.id for one in got[::2]]


@EACH_WAY
async def test_what_connected_to_send_opens_nothing_more_for_its_first_message(
    broker_url: str, *, is_plain: bool
) -> None:
    parts = urlsplit(broker_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with (
        Proxy(parts.hostname, parts.port) as proxy,
        connected(proxy.url(broker_url), is_plain=is_plain) as transport,
    ):
        await transport.declare(["q"])
        before = proxy.accepted
        await transport.connect_to_send()
        meanwhile = proxy.accepted
        await transport.publish([packet(1)])

        assert (meanwhile, proxy.accepted) == (before + 1, before + 1)
