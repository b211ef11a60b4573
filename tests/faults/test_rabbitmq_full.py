"""One queue takes no more: what goes to other queues leaves, and leaves once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import QueueFull
from rolekit.flow import in_order
from rolekit.flow import outbox as leaving
from rolekit.flow.outbox import Forwarder, Outbox
from rolekit.model.envelope import Head, Kind, Packet, encode_head
from rolekit.store.base import Outgoing
from rolekit.store.memory import MemoryStore
from rolekit.testing.erlang import binary
from tests.conformance.transport import Inbox, packet
from tests.faults.rabbit import APP, RESUMES_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.transport.base import Delivery
    from rolekit.transport.rabbitmq import RabbitTransport
    from tests.faults.rabbit import Rig

pytestmark = [
    pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults, pytest.mark.timeout(60)
]  # fmt: skip

COUNT = 20
MANY = 500


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "AWAY_MAX_S", 0.2)
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(in_order, "AGAIN_S", 0.005)


@asynccontextmanager
async def _running(loop: Outbox | Forwarder) -> AsyncGenerator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _limit(rig: Rig, queue: str) -> None:
    """Let a queue refuse what is published, once there is something in it."""
    definition = '{"max-length": 1, "overflow": "reject-publish"}'
    texts = (rig.vhost, "full", f"^{APP}.{queue}$", definition, "0", "queues", "test")
    arguments = ", ".join(binary(text) for text in texts)
    await asyncio.to_thread(
        rig.broker.evaluate, f"ok = rabbit_policy:parse_set({arguments}), ok."
    )


async def _fill(rig: Rig, queue: str = "full") -> None:
    """Fill a queue until it refuses: it learns of its limit, and of its length, soon."""
    transport = await rig.connect()
    await _limit(rig, queue)
    async with asyncio.timeout(RESUMES_S):
        for number in range(1000, 2000):
            try:
                await transport.publish([packet(number, queue)])
            except QueueFull:
                return
            await asyncio.sleep(0.02)


async def _drain(transport: RabbitTransport) -> Inbox:
    """Take what is in the full queue, and all that follows."""
    inbox = Inbox()

    def take(batch: Sequence[Delivery]) -> None:
        inbox(batch)
        subscription.ack(batch)

    subscription = await transport.subscribe(["full"], window=1, sink=take)
    return inbox


def _packets(count: int) -> list[Packet]:
    return [packet(number, "full") for number in range(count)]


def _rows() -> list[Outgoing]:
    """Make rows of two messages each, of which the first goes to the full queue."""
    return [
        Outgoing(n, packet(10 * n + place, queue))
        for n in range(COUNT)
        for place, queue in enumerate(("full", "q"))
    ]


async def test_the_outbox_is_not_held_up_by_a_queue_that_is_full(rig: Rig) -> None:
    transport, free = await rig.connect(), Inbox()
    await transport.declare(["q", "full"])
    await _fill(rig)
    await transport.subscribe(["q"], window=1000, sink=free)
    outbox = Outbox(transport, MemoryStore())

    async with _running(outbox):
        outbox.leave(_rows())
        await free.count(COUNT)
        await asyncio.sleep(1)  # for what is full it tries again and again meanwhile
        came = len(free.got)
        full = await _drain(transport)
        async with asyncio.timeout(RESUMES_S):
            await outbox.empty()

    assert came == COUNT
    assert {d.packet.id for d in free.got} == {packet(10 * n + 1).id for n in range(COUNT)}
    wanted = {packet(10 * n).id for n in range(COUNT)}
    await full.wait(lambda got: wanted <= {delivery.packet.id for delivery in got})


async def test_what_leaves_in_order_comes_in_order_though_its_queue_is_full(rig: Rig) -> None:
    # A classic queue decides for each message anew.
    transport = await rig.connect(queue_type="classic")
    await transport.declare(["q", "full"])
    await _fill(rig)
    head = encode_head(Head(kind=Kind.BEHIND))
    token = Packet(queue="q", id=packet(MANY).id, head=head)
    outbox = Outbox(transport, MemoryStore())

    async with _running(outbox):
        outbox.leave([Outgoing(1, each) for each in [*_packets(MANY), token]])
        full = await _drain(transport)
        async with asyncio.timeout(RESUMES_S):
            await outbox.empty()
            await full.wait(lambda got: packet(MANY - 1).id in {d.packet.id for d in got})

    came = [d.packet.id for d in full.got if d.packet.id < packet(1000).id]
    assert list(dict.fromkeys(came)) == [each.id for each in _packets(MANY)]


async def test_direct_outputs_are_not_held_up_by_a_queue_that_is_full(rig: Rig) -> None:
    transport, came, free = await rig.connect(), Inbox(), Inbox()
    await transport.declare(["in", "q", "full"])
    await _fill(rig)
    source = await transport.subscribe(["in"], window=1000, sink=came)
    await transport.subscribe(["q"], window=1000, sink=free)
    await transport.publish([packet(n, "in") for n in range(2 * COUNT)])
    forwarder = Forwarder(transport)

    async with _running(forwarder):
        done = [
            forwarder.forward(source, d, packet(n, "q" if n % 2 else "full"))
            for n, d in enumerate(await came.count(2 * COUNT))
        ]
        await free.count(COUNT)
        later = forwarder.forward(source, came.got[0], packet(999))
        async with asyncio.timeout(RESUMES_S):
            await later
        await asyncio.sleep(1)  # as above
        counts = len(free.got), sum(not each.done() for each in done)
        await _drain(transport)
        async with asyncio.timeout(RESUMES_S):
            await asyncio.gather(*done)

    assert counts == (COUNT + 1, COUNT)
    await rig.until(lambda state: state.ready == state.unacked == 0, "in")
