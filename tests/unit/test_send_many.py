"""Sending a long list to RabbitMQ: it is stored in its order, whatever else goes out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit import App, Message, WorkerRole, handle
from rolekit.transport.memory import MemoryTransport
from rolekit.transport.rabbitmq import publisher as publishing
from tests.property.jumping import run
from tests.unit.fakes_flow import services_of
from tests.unit.fakes_rabbitmq import Bench, bench, ids, packets, turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit import Client, Receipt
    from rolekit.model.envelope import Packet

MANY = 2_000
SHORT = 10**6


class Line(Message):
    """One of many."""

    n: int


class Reader(WorkerRole):
    """Reads lines."""

    @handle
    async def read(self, line: Line) -> None:
        """Never called."""


class ToBench(MemoryTransport):
    """Publishes as the transport on RabbitMQ does."""

    def __init__(self, to: Bench) -> None:
        super().__init__()
        self._to = to

    async def publish(self, packets: Sequence[Packet]) -> None:
        await self._to.publisher.publish(packets)


def client_of(to: Bench) -> Client:
    plan = App("lines", roles=[Reader]).plan()
    return services_of(plan, transport=ToBench(to)).client


async def stored(to: Bench, sending: asyncio.Task[list[Receipt]], *, beside: bool) -> list[int]:
    """Confirm what is written until all was sent; return what was written, in order."""
    short = SHORT
    while not sending.done():
        await turns(3)
        if beside and short < SHORT + 20:
            await to.publish(*packets(1, first=short))
            short += 1
        to.broker.now.ack(len(to.broker.now.written), multiple=True)
    return ids(to.broker.now.written)


@pytest.mark.parametrize("window", [publishing.WINDOW, 300, 70])
@pytest.mark.parametrize("beside", [False, True])
def test_a_long_list_is_stored_in_its_order(
    monkeypatch: pytest.MonkeyPatch, window: int, *, beside: bool
) -> None:
    monkeypatch.setattr(publishing, "WINDOW", window)

    async def main() -> None:
        async with bench() as to:
            client = client_of(to)
            sending = asyncio.create_task(client.send_many(Line(n=n) for n in range(MANY)))
            written = await stored(to, sending, beside=beside)
            sent = [int(receipt.id, 16) for receipt in await sending]

            among = [id_ for id_ in written if not SHORT <= id_ < SHORT + 20]
            assert among == sent
            assert len(sent) == MANY

    run(main())


def test_what_is_published_while_the_connection_opens_keeps_its_order() -> None:
    async def main() -> None:
        to = Bench()
        to.broker.opened.clear()
        calls = [asyncio.create_task(to.publisher.publish(packets(1, first=n))) for n in (1, 2)]
        await turns()

        to.broker.opened.set()
        calls.append(asyncio.create_task(to.publisher.publish(packets(1, first=3))))
        await turns()
        to.broker.now.ack(3, multiple=True)
        await asyncio.gather(*calls)

        assert ids(to.broker.now.written) == [1, 2, 3]
        await to.publisher.stop()

    run(main())
