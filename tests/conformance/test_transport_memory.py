"""The suite of transports on the one in memory, and the faults that only it has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.clock import SystemClock
from rolekit.errors import Unavailable
from rolekit.transport.base import outside_queue
from rolekit.transport.memory import MemoryBroker, MemoryTransport
from tests.conformance import transport as suite
from tests.conformance import transport_epochs as epochs
from tests.conformance import transport_outside as outside
from tests.conformance import transport_settling as settling
from tests.conformance.transport import Inbox, consume, packet, packets

if TYPE_CHECKING:
    from rolekit.transport.base import Transport
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio


class MemoryGround:
    """Connections to one broker in this process."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(SystemClock())

    def unconnected(self) -> MemoryTransport:
        return MemoryTransport(self._broker)

    async def connect(self) -> MemoryTransport:
        transport = self.unconnected()
        await transport.start()
        return transport

    async def other(self) -> tuple[MemoryTransport, str, str]:
        """Nobody else is here: what is for another app stays where it was published."""
        return await self.connect(), "other", outside_queue("other")

    async def die(self, transport: Transport) -> None:
        assert isinstance(transport, MemoryTransport)
        transport.crash()


@pytest.fixture
def ground() -> MemoryGround:
    return MemoryGround()


class TestPublishing(suite.Publishing):
    """See `tests.conformance.transport`."""


class TestConsuming(suite.Consuming):
    """See `tests.conformance.transport`."""


class TestSettling(settling.Settling):
    """See `tests.conformance.transport_settling`."""


class TestEpochs(epochs.Epochs):
    """See `tests.conformance.transport_epochs`."""


class TestDying(settling.Dying):
    """See `tests.conformance.transport_settling`."""


@pytest.fixture
def two_apps(ground: MemoryGround) -> MemoryGround:
    return ground


class TestHandingOver(outside.HandingOver):
    """See `tests.conformance.transport_outside`."""


async def all_of(faults: Faults, seed: int, count: int = 20) -> list[tuple[bytes, bool]]:
    """Publish one by one and ack at once; return what came, with its flags."""
    transport, inbox = MemoryTransport(MemoryBroker(faults=faults, seed=seed)), Inbox()
    subscription = await consume(transport, inbox)
    acked = 0
    for each in packets(count):
        await transport.publish([each])
        await asyncio.sleep(0)
        subscription.ack(inbox.got[acked:])
        acked = len(inbox.got)
    while not transport.broker.is_idle:
        await asyncio.sleep(0)
        subscription.ack(inbox.got[acked:])
        acked = len(inbox.got)
    return [(delivery.packet.body, delivery.redelivered) for delivery in inbox.got]


async def test_repeat_delivers_everything_twice_flagged_or_not() -> None:
    got = await all_of("repeat", seed=1)

    bodies = [body for body, _ in got]
    assert sorted(map(int, bodies)) == sorted([*range(20), *range(20)])
    seconds = {redelivered for n, (body, redelivered) in enumerate(got) if body in bodies[:n]}
    assert seconds == {True, False}


async def test_shuffle_delivers_everything_once_in_another_order() -> None:
    got = await all_of("shuffle", seed=1)

    numbers = [int(body) for body, _ in got]
    assert sorted(numbers) == list(range(20))
    assert numbers != sorted(numbers)


@pytest.mark.parametrize("faults", ["repeat", "shuffle"])
async def test_the_same_seed_gives_the_same_faults(faults: Faults) -> None:
    first, second, other = [await all_of(faults, seed) for seed in (7, 7, 8)]

    assert first == second
    assert first != other


async def test_without_faults_each_comes_once_in_order() -> None:
    assert await all_of("none", seed=1) == [(str(n).encode(), False) for n in range(20)]


async def test_a_connection_that_crashed_does_nothing_more() -> None:
    transport = MemoryTransport()
    await transport.declare(["q"])

    transport.crash()

    with pytest.raises(Unavailable):
        await transport.publish([packet(1)])


async def test_idle_waits_for_what_is_in_hand_and_for_what_somebody_would_take() -> None:
    transport, inbox = MemoryTransport(), Inbox()
    subscription = await consume(transport, inbox, window=1)
    await transport.declare(["nobody"])
    await transport.publish([*packets(2), packet(9, "nobody")])
    waiting = asyncio.create_task(transport.broker.idle())

    subscription.ack(await inbox.count(1))
    await inbox.count(2)
    is_early = waiting.done()
    subscription.ack(inbox.got[1:])
    await waiting

    assert not is_early
