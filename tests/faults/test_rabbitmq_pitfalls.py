"""What aio-pika and RabbitMQ do behind one's back does rolekit no harm: PITFALLS T1 to T13."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from rolekit.errors import ConfigError, Unroutable
from rolekit.transport.base import Depth
from rolekit.transport.rabbitmq import topology
from tests.conformance.transport import Inbox, consume, packet, packets, settled
from tests.faults.rabbit import APP, RESUMES_S, published, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.transport.base import Delivery
    from tests.faults.rabbit import Rig

pytestmark = [
    pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults, pytest.mark.timeout(60)
]  # fmt: skip


# -- T1 -------------------------------------------------------------------------------------


async def test_a_queue_deleted_and_declared_again_is_consumed_again(rig: Rig) -> None:
    transport, inbox = await rig.connect(queue_type="classic"), Inbox()
    other = await rig.connect(queue_type="classic")
    await consume(transport, inbox)
    await rig.until(lambda state: state.consumers == 1)

    await rig.delete(other)
    await other.declare(["q"])
    await other.publish([packet(1)])

    await within(RESUMES_S, lambda: bool(inbox.got))
    assert inbox.bodies == [b"1"]


async def test_a_quorum_queue_declared_again_too_soon_loses_nothing(rig: Rig) -> None:
    # RabbitMQ 3.10 then tells its consumer nothing, takes it over into the new queue, and
    # sends what it hands out to nobody, until the consumer's channel ends.
    transport, other, inbox = await rig.connect(), await rig.connect(), Inbox()
    await consume(transport, inbox)
    await rig.until(lambda state: state.consumers == 1)

    await rig.delete(other)
    await other.declare(["q"])
    await other.publish([packet(1)])
    await rig.until(lambda state: state.ready + state.unacked == 1)
    await rig.close_connections()

    await within(RESUMES_S, lambda: bool(inbox.got))


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_consumer_whose_queue_is_gone_makes_it_again(
    rig: Rig, queue_type: topology.QueueType
) -> None:
    transport, inbox = await rig.connect(queue_type=queue_type), Inbox()
    other = await rig.connect(queue_type=queue_type)
    await consume(transport, inbox)
    await rig.until(lambda state: state.consumers == 1)

    await rig.delete(other)  # RabbitMQ cancels the consumer, or closes its connection
    state = await rig.until(lambda state: state.consumers == 1)
    await other.publish([packet(1)])

    await inbox.count(1)
    assert state.type == queue_type


async def test_a_queue_deleted_while_its_consumer_rests_is_made_again(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox)
    subscription.pause()
    await rig.until(lambda state: state.consumers == 0)

    await rig.delete(transport)
    subscription.resume()

    await rig.until(lambda state: state.consumers == 1)


async def test_whoever_publishes_to_a_queue_that_it_declared_makes_it_again(rig: Rig) -> None:
    transport, other, inbox = await rig.connect(), await rig.connect(), Inbox()
    await transport.declare(["q", "r"])
    await consume(other, inbox)
    await rig.until(lambda state: state.consumers == 1)

    await rig.delete(transport)
    await transport.publish([packet(1, "r"), packet(2)])

    await within(RESUMES_S, lambda: bool(inbox.got))
    await settled(transport, Depth(1, 0), "r")


# -- T2, T3, T4 -----------------------------------------------------------------------------


async def test_what_cannot_be_routed_raises_before_and_after_a_reconnect(rig: Rig) -> None:
    transport = await rig.connect()
    await transport.declare(["q"])

    with pytest.raises(Unroutable, match="nowhere"):
        await transport.publish([packet(1, "nowhere")])
    assert await rig.close_connections() == 2
    async with asyncio.timeout(RESUMES_S):
        tries = await published(transport, packet(2))
    with pytest.raises(Unroutable, match="nowhere"):
        await transport.publish([packet(3, "nowhere")])

    assert tries <= 2
    await settled(transport, Depth(1, 0))


@pytest.mark.parametrize("queues", [("nowhere", "q"), ("q", "nowhere")])
async def test_of_two_publishes_with_one_id_the_unroutable_one_is_blamed(
    rig: Rig, queues: tuple[str, str]
) -> None:
    transport = await rig.connect()
    await transport.declare(["q"])

    results = await asyncio.gather(
        *(transport.publish([packet(1, queue)]) for queue in queues), return_exceptions=True
    )

    by_queue = dict(zip(queues, results, strict=True))
    assert by_queue["q"] is None
    assert isinstance(by_queue["nowhere"], Unroutable)
    await settled(transport, Depth(1, 0))


# -- T9, T12 --------------------------------------------------------------------------------


async def test_calls_that_are_cancelled_disturb_no_consumer(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish([packet(0)])
    await inbox.count(1)

    for turns in range(40):
        calls: list[asyncio.Task[Any]] = [
            asyncio.create_task(transport.declare([f"other{turns}"])),
            asyncio.create_task(transport.depths(["q"])),
            asyncio.create_task(transport.publish([packet(1000 + turns, "aside")])),
            asyncio.create_task(subscription.flush()),
        ]
        await asyncio.sleep(turns * 0.0002)  # each time somewhat later in the call
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await transport.publish([packet(1)])
    await inbox.count(2)
    subscription.ack(inbox.got)

    await rig.until(lambda state: state.unacked == state.ready == 0)
    assert [delivery.redelivered for delivery in inbox.got] == [False, False]
    assert transport.stale_acks == 0


async def test_a_declaration_that_differs_says_so_and_disturbs_no_consumer(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish([packet(0)])
    await inbox.count(1)

    for number in range(1, 4):
        there = topology.Names(APP).queue("q")
        other = topology.Queue(there.name, {**there.arguments, "x-delivery-limit": 5})
        with pytest.raises(ConfigError, match=r"x-delivery-limit is .*100.*5"):
            await topology.declare(await transport.consuming(), [other])
        await transport.publish([packet(number)])
    await inbox.count(4)
    subscription.ack(inbox.got)

    await rig.until(lambda state: state.unacked == state.ready == 0)
    assert not any(delivery.redelivered for delivery in inbox.got)
    assert transport.stale_acks == 0


# -- T10, T13 -------------------------------------------------------------------------------


async def test_a_subscription_that_nobody_keeps_goes_on(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    await consume(transport, inbox)
    gc.collect()

    await transport.publish([packet(1)])

    await inbox.count(1)


async def test_no_more_than_the_window_is_in_hand_also_after_a_reconnect(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox, window=10)
    await transport.publish(packets(300))
    await inbox.count(10)

    await rig.close_connections()
    got = await inbox.wait(lambda got: sum(d.redelivered for d in got) == 10)
    held = (await rig.until(lambda state: state.unacked > 0)).unacked

    assert held == 10
    assert len(got) == 20
    subscription.ack(got)
    await inbox.count(30)
    await rig.until(lambda state: (state.ready, state.unacked) == (280, 10))
    assert len(inbox.got) == 30


async def test_a_window_changed_while_the_connection_is_lost_holds_afterwards(
    rig: Rig,
) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox, window=2)
    await transport.publish(packets(100))
    await inbox.count(2)

    await rig.close_connections()
    for window in (50, 4, 20):
        subscription.widen("q", window)
        await asyncio.sleep(0.03)

    await rig.until(lambda state: state.unacked >= 20)
    subscription.ack(inbox.got)  # also what a window of in between brought
    await rig.until(lambda state: state.unacked == 20)
    await asyncio.sleep(0.3)
    await rig.until(lambda state: state.unacked == 20)


async def test_a_flush_while_the_window_changes_leaves_it_as_it_was_asked_for(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox, window=2)
    await transport.publish(packets(100))
    subscription.ack(await inbox.count(2))
    await rig.until(lambda state: state.unacked == 2)

    subscription.widen("q", 20)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(50):
            tasks.create_task(subscription.flush())
            await asyncio.sleep(0)

    await inbox.count(22)
    await rig.until(lambda state: state.unacked == 20)


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_window_that_grows_while_messages_flow_brings_none_of_them_again(
    rig: Rig, queue_type: topology.QueueType
) -> None:
    transport, inbox = await rig.connect(queue_type=queue_type), Inbox()

    def settle(batch: Sequence[Delivery]) -> None:
        inbox(batch)
        subscription.ack(batch)

    subscription = await consume(transport, settle, window=2)
    await transport.publish(packets(3000))

    for window in (8, 32, 128, 512):
        subscription.widen("q", window)
        await inbox.count(len(inbox.got) + 150)

    got = await inbox.count(3000)
    assert not any(delivery.redelivered for delivery in got)
    assert len(got) == 3000


async def test_a_window_that_shrinks_holds_no_more_than_it_says(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox, window=2)
    await rig.until(lambda state: state.consumers == 1)
    subscription.widen("q", 8)
    await rig.until(lambda state: state.consumers == 2)
    subscription.widen("q", 32)
    await rig.until(lambda state: state.consumers == 3)
    await transport.publish(packets(100))
    await rig.until(lambda state: state.unacked == 32)

    subscription.widen("q", 20)
    await rig.until(lambda state: state.unacked == 44)  # 12 more come before 24 no longer do
    subscription.ack(await inbox.count(44))
    await rig.until(lambda state: state.unacked == 20)
    await asyncio.sleep(0.3)
    await rig.until(lambda state: state.unacked == 20)
