"""What befell the line to the broker is counted, against a broker for a moment."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from pamqp import commands, frame

from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.transport.rabbitmq.stand_in import StandIn
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = [pytest.mark.anyio]

Numbers = dict[tuple[str, str], float]


class Speaking(StandIn):
    """Says on its newest connection whatever a test wants."""

    writer: asyncio.StreamWriter

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        await super()._serve(reader, writer)


@asynccontextmanager
async def lines() -> AsyncGenerator[tuple[Speaking, RabbitTransport]]:
    """A broker, and a transport that consumes from it."""
    broker = Speaking()
    async with broker.listening() as url:
        transport = RabbitTransport(url, app="n")
        try:
            await transport.start()
            yield broker, transport
        finally:
            await transport.stop()


def numbers(transport: RabbitTransport) -> Numbers:
    return {
        (one.name.removeprefix("rolekit.broker."), "".join(v for _, v in one.labels)): one.value
        for one in transport.numbers()
    }


async def until(transport: RabbitTransport, holds: Callable[[Numbers], bool]) -> Numbers:
    async with asyncio.timeout(patient(20)):
        while not holds(found := numbers(transport)):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    return found


async def test_a_connection_that_is_blocked_is_told_as_long_as_it_is() -> None:
    async with lines() as (broker, transport):
        before = numbers(transport)
        broker.writer.write(frame.marshal(commands.Connection.Blocked("memory"), 0))
        await until(transport, lambda found: found["blocked", "consume"] == 1)
        broker.writer.write(frame.marshal(commands.Connection.Unblocked(), 0))
        await until(transport, lambda found: found["blocked", "consume"] == 0)

    assert set(before.values()) == {0}  # all of them are said from the start


async def test_a_lost_connection_is_counted_and_apart_one_on_which_nonsense_came() -> None:
    async with lines() as (broker, transport):
        broker.writer.transport.abort()
        lost = await until(transport, lambda found: found["reconnects", "consume"] == 1)
        async with asyncio.timeout(patient(20)):
            await transport.consuming()

        broker.writer.write(b"\xff" * 64)
        nonsense = await until(transport, lambda found: found["reconnects", "consume"] == 2)

    assert (lost["frame_faults", "consume"], nonsense["frame_faults", "consume"]) == (0, 1)
    assert nonsense["reconnects", "publish"] == 0
