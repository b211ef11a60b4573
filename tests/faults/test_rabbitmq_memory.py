"""What a process holds of RabbitMQ's messages is bounded, however fast others are."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rolekit.transport.rabbitmq import publisher
from tests.conformance.transport import packet
from tests.faults.rabbit import RESUMES_S
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.transport.base import Delivery
    from rolekit.transport.rabbitmq import RabbitTransport
    from rolekit.transport.rabbitmq.subscription import RabbitSubscription
    from tests.faults.rabbit import Rig

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

WINDOW = 50
MESSAGES = 12_000
CALLERS, BATCH = 6, 1000
FLAT_S = float(os.environ.get("ROLEKIT_FLAT_S", "600"))
"""How long memory is watched; its slope over a shorter time says less."""
FLAT_MIB_PER_MIN = 1.0
OUTSTANDING = 5000
SHARE_BEFORE = 0.25
"""Of the time, in which pools and buffers grow to the size that they keep."""


class Slow:
    """Acks what came, half as fast as it is published."""

    def __init__(self, transport: RabbitTransport) -> None:
        self.most_in_hand = 0
        self.most_in_flight = 0
        self.got: set[str] = set()
        self.subscription: RabbitSubscription | None = None
        self._transport = transport
        self._held: list[Delivery] = []

    def __call__(self, batch: Sequence[Delivery]) -> None:
        self._held += batch
        self._look()

    def _look(self) -> None:
        if self.subscription is not None:
            in_hand = self.subscription.consumers["q"].in_hand
            self.most_in_hand = max(self.most_in_hand, in_hand)
        self.most_in_flight = max(self.most_in_flight, self._transport.in_flight)

    async def work(self) -> None:
        """Ack until everything came."""
        assert self.subscription is not None
        while len(self.got) < MESSAGES:
            await asyncio.sleep(0)
            self._look()
            now, self._held = self._held[:WINDOW], self._held[WINDOW:]
            self.got.update(delivery.packet.id for delivery in now)
            self.subscription.ack(now)


@pytest.mark.timeout(60)
async def test_a_producer_faster_than_its_consumer_is_held_back_by_the_windows(
    rig: Rig,
) -> None:
    transport = await rig.connect()
    slow = Slow(transport)
    await transport.declare(["q"])
    slow.subscription = await transport.subscribe(["q"], window=WINDOW, sink=slow)

    async def produce(caller: int) -> None:
        for begin in range(caller * BATCH, MESSAGES, CALLERS * BATCH):
            await transport.publish([packet(n) for n in range(begin, begin + BATCH)])

    async with asyncio.timeout(patient(40)), asyncio.TaskGroup() as tasks:
        for caller in range(CALLERS):
            tasks.create_task(produce(caller))
        tasks.create_task(slow.work())

    print(f"at most {slow.most_in_flight} in flight, {slow.most_in_hand} in hand")  # noqa: T201 - measured
    assert WINDOW / 2 <= slow.most_in_hand <= WINDOW
    assert BATCH <= slow.most_in_flight <= publisher.WINDOW
    await rig.until(lambda state: state.ready == state.unacked == 0)


@pytest.mark.timeout(60)
async def test_what_waits_for_a_broker_that_takes_nothing_is_held_back_by_the_window(
    rig: Rig,
) -> None:
    transport = await rig.connect()
    await transport.declare(["q"])
    await transport.publish([packet(0)])

    await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=True)
    try:
        calls = [
            asyncio.create_task(transport.publish([packet(n) for n in range(b, b + BATCH)]))
            for b in range(1, 10 * BATCH, BATCH)
        ]
        await asyncio.sleep(1)
        held = transport.in_flight
        is_done = [call.done() for call in calls]
    finally:
        await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=False)
    async with asyncio.timeout(2 * RESUMES_S):
        await asyncio.gather(*calls)

    assert held <= publisher.WINDOW
    assert not any(is_done)
    await rig.until(lambda state: state.ready == 10 * BATCH + 1)


@pytest.mark.load
@pytest.mark.timeout(1.5 * FLAT_S + 60)
async def test_memory_is_flat_at_full_rate(rig: Rig) -> None:
    transport = await rig.connect()
    room, count = asyncio.Semaphore(OUTSTANDING // BATCH), 0
    subscription: RabbitSubscription | None = None

    def ack(batch: Sequence[Delivery]) -> None:
        nonlocal count
        assert subscription is not None
        subscription.ack(batch)
        for _ in range((count + len(batch)) // BATCH - count // BATCH):
            room.release()
        count += len(batch)

    await transport.declare(["q"])
    subscription = await transport.subscribe(["q"], window=1280, sink=ack)
    samples: list[tuple[float, float]] = []
    began_s = time.monotonic()
    while (at_s := time.monotonic() - began_s) < FLAT_S:
        await room.acquire()
        await transport.publish([packet(n) for n in range(BATCH)])
        samples.append((at_s / 60, _rss_mib()))

    kept = [sample for sample in samples if sample[0] > SHARE_BEFORE * FLAT_S / 60]
    slope, _ = statistics.linear_regression(*zip(*kept, strict=True))
    print(f"{count / FLAT_S:,.0f} messages/s, {kept[-1][1]:.0f} MiB, {slope:+.2f} MiB/min")  # noqa: T201 - measured
    assert slope <= FLAT_MIB_PER_MIN


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
