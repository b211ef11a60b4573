"""What every transport must do. `test_transport_*.py` run it on each implementation.

A `Ground` makes connections to the same queues, and lets one of them die.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from rolekit.clock import SystemClock
from rolekit.errors import Unroutable
from rolekit.model.envelope import Head, Packet, encode_head
from rolekit.transport.base import Delivery, Depth
from rolekit.transport.long_work import LongWorkTransport
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rolekit.transport.base import Sink, Subscription, Transport

HEAD = encode_head(Head(type="x"))
QUIET_S = 0.15
"""Longer than any implementation takes to deliver what it has."""


class Ground(Protocol):
    """Where a transport is tried."""

    async def connect(self) -> Transport:
        """Open one more connection, as a process of its own would."""
        ...

    def unconnected(self) -> Transport:
        """Make a connection that was not opened."""
        ...

    async def die(self, transport: Transport) -> None:
        """Let the process of a connection die; return when that has become known."""
        ...


class Inbox:
    """A sink that remembers, and whose reader waits."""

    def __init__(self) -> None:
        self.got: list[Delivery] = []
        self._came = asyncio.Event()

    def __call__(self, batch: Sequence[Delivery]) -> None:
        self.got += batch
        self._came.set()

    async def wait(self, enough: Callable[[list[Delivery]], bool]) -> list[Delivery]:
        """Wait until what came is enough."""
        async with asyncio.timeout(patient(5)):
            while not enough(self.got):
                self._came.clear()
                await self._came.wait()
        return self.got

    async def count(self, n: int) -> list[Delivery]:
        """Wait until so many came."""
        return await self.wait(lambda got: len(got) >= n)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.packet.body for delivery in self.got]


def packet(number: int, queue: str = "q") -> Packet:
    return Packet(queue=queue, id=f"{number:032x}", head=HEAD, body=str(number).encode())


def packets(count: int, queue: str = "q") -> list[Packet]:
    return [packet(number, queue) for number in range(count)]


def bodies(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


async def consume(
    transport: Transport, sink: Sink, *queues: str, window: int = 100
) -> Subscription:
    names = queues or ("q",)
    await transport.declare(names)
    return await transport.subscribe(names, window=window, sink=sink)


async def settled(transport: Transport, expected: Depth, queue: str = "q") -> None:
    """Wait until a queue holds what is expected; acks are sent soon, not at once.

    Of a transport that does not see who holds what, only what waits is compared.
    """
    sees = transport.features.sees_holders
    async with asyncio.timeout(patient(5)):
        while True:
            found = (await transport.depths([queue]))[queue]
            in_hand = found.in_hand if sees else expected.in_hand
            if Depth(found.waiting, in_hand) == expected:
                return
            await asyncio.sleep(0.01)


Flags = tuple[bool, bool, int]
"""Redelivered, suspect, crashed."""


def flags(delivery: Delivery) -> Flags:
    return delivery.redelivered, delivery.is_suspect, delivery.crashed


def told(transport: Transport, known: Flags) -> Flags:
    """Return the flags that a transport can tell, of what is known of a delivery."""
    # Claims see holders, though the broker of long work does not.
    sees = transport.features.sees_holders or isinstance(transport, LongWorkTransport)
    return known if sees else (known[0], False, 0)


async def two(ground: Ground) -> tuple[Transport, Transport]:
    return await ground.connect(), await ground.connect()


class Publishing:
    """`publish`, and what arrives of it."""

    async def test_packets_come_in_the_order_they_were_published(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox)

        await transport.publish(packets(3))
        await transport.publish([packet(3), packet(4)])

        await inbox.count(5)
        assert inbox.bodies == bodies(5)

    async def test_packets_that_waited_come_in_order_through_a_small_window(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await transport.declare(["q"])
        await transport.publish(packets(20))

        subscription = await consume(transport, inbox, window=3)
        for number in range(20):
            got = await inbox.count(number + 1)
            subscription.ack([got[number]])

        assert inbox.bodies == bodies(20)

    async def test_what_arrives_is_what_was_published(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox)
        sent = Packet(
            queue="q", id="ab" * 16, generation=3, birth_ms=1_790_000_000_123,
            head=HEAD, body=b"\x00\xff",
        )  # fmt: skip

        await transport.publish([sent])

        (got,) = await inbox.count(1)
        assert got.packet == sent
        assert flags(got) == (False, False, 0)

    async def test_a_packet_without_birth_is_born_when_it_is_published(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox)
        before_ms = SystemClock().now_ms()

        await transport.publish([packet(1)])

        (got,) = await inbox.count(1)
        assert got.packet.birth_ms is not None
        assert before_ms - 1000 <= got.packet.birth_ms <= before_ms + 5000

    async def test_a_queue_that_was_not_declared_is_refused(self, ground: Ground) -> None:
        transport = await ground.connect()

        with pytest.raises(Unroutable, match="nowhere"):
            await transport.publish([packet(1, "nowhere")])

    async def test_a_queue_that_another_process_declared_is_there(self, ground: Ground) -> None:
        transport, other = await ground.connect(), await ground.connect()
        await other.declare(["q"])

        await transport.publish([packet(1)])

        await settled(transport, Depth(1, 0))

    async def test_declaring_again_keeps_what_is_in_a_queue(self, ground: Ground) -> None:
        transport = await ground.connect()
        await transport.declare(["q"])
        await transport.publish(packets(2))

        await transport.declare(["q"])

        await settled(transport, Depth(2, 0))

    async def test_publishing_wakes_a_subscriber_that_sleeps(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox)
        took_s: list[float] = []
        for n in range(1, 4):
            await asyncio.sleep(0.9)  # by now the next look of one that polls is far away
            began_s = time.monotonic()
            await transport.publish([packet(n)])
            await inbox.count(n)
            took_s.append(time.monotonic() - began_s)
            if took_s[-1] < 0.3:
                break  # a busy machine may hold up one, but who polls is late each time

        assert min(took_s) < 0.3, took_s


class Consuming:
    """Windows, and several subscriptions."""

    async def test_no_more_than_the_window_is_in_hand(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox, window=3)

        await transport.publish(packets(10))
        await inbox.count(3)
        await asyncio.sleep(QUIET_S)

        assert inbox.bodies == bodies(3)
        await settled(transport, Depth(7, 3))

    async def test_each_queue_has_a_window_of_its_own(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox, "q", "r", window=2)

        await transport.publish([*packets(5, "q"), *packets(5, "r")])
        await inbox.count(4)
        await asyncio.sleep(QUIET_S)

        assert sorted(d.packet.queue for d in inbox.got) == ["q", "q", "r", "r"]

    async def test_settling_makes_room(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox, window=2)
        await transport.publish(packets(4))

        subscription.ack((await inbox.count(2))[:2])

        await inbox.count(4)
        assert inbox.bodies == bodies(4)

    async def test_two_subscriptions_never_share_a_packet(self, ground: Ground) -> None:
        one, other = await ground.connect(), await ground.connect()
        first, second = Inbox(), Inbox()
        await consume(one, first, window=10)
        await consume(other, second, window=10)

        await one.publish(packets(20))
        await first.count(10)
        await second.count(10)
        await asyncio.sleep(QUIET_S)

        assert sorted(map(int, first.bodies + second.bodies)) == list(range(20))

    async def test_two_subscriptions_of_one_connection_never_share_a_packet(
        self, ground: Ground
    ) -> None:
        transport, first, second = await ground.connect(), Inbox(), Inbox()
        one = await consume(transport, first, window=5)
        await consume(transport, second, window=5)
        await transport.publish(packets(10))
        await first.count(5)
        await second.count(5)

        await one.close()  # gives back its own, and nothing else
        await settled(transport, Depth(5, 5))
        await asyncio.sleep(QUIET_S)

        assert len(second.got) == 5

    async def test_a_paused_subscription_takes_nothing_and_a_resumed_one_does(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        subscription.pause()
        await asyncio.sleep(QUIET_S)

        await transport.publish(packets(2))
        await asyncio.sleep(QUIET_S)
        held = len(inbox.got)
        subscription.resume()

        await inbox.count(2)
        assert held == 0

    async def test_what_is_in_hand_stays_so_through_a_pause(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish([packet(1)])
        await inbox.count(1)

        subscription.pause()
        await asyncio.sleep(QUIET_S)

        await settled(transport, Depth(0, 1))
