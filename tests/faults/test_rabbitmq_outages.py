"""RabbitMQ stops, blocks, and closes connections; the loop stands still: T5 to T8.

Each time the same ids come again, flagged, and everything goes on by itself.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import Unavailable
from rolekit.flow.intake import BLOCKED_GRACE_S
from rolekit.testing.faults import Proxy
from rolekit.transport.rabbitmq import publisher
from tests.conformance.transport import Inbox, consume, packet, packets
from tests.faults.rabbit import RESUMES_S, published, within
from tests.patience import patient
from tests.unit.fakes_flow import services_of
from tests.unit.shop import Front, shop
from tests.unit.web_front import calling

if TYPE_CHECKING:
    from tests.faults.rabbit import Rig

pytestmark = [
    pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults, pytest.mark.timeout(90)
]  # fmt: skip

CONFIRM_S, LOOK_EVERY_S = 0.6, 0.2


async def test_what_was_in_hand_while_the_loop_stood_still_comes_again_flagged(
    rig: Rig,
) -> None:
    transport, inbox = await rig.connect(heartbeat_s=1), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish(packets(3))
    await inbox.count(3)

    time.sleep(4)  # noqa: ASYNC251 - twice the time after which the broker gives up
    subscription.ack(inbox.got)
    async with asyncio.timeout(RESUMES_S):
        while not any(delivery.redelivered for delivery in inbox.got):
            await inbox.count(len(inbox.got) + 1)
        await published(transport, packet(3))
        got = await inbox.wait(lambda got: any(d.packet.body == b"3" for d in got))
    subscription.ack(got[3:])

    await rig.until(lambda state: state.ready == state.unacked == 0)
    again = [delivery for delivery in inbox.got[3:] if delivery.redelivered]
    assert {delivery.packet.id for delivery in again} == {packet(n).id for n in range(3)}


async def test_publishing_while_the_broker_is_stopped_ends_by_its_deadline(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_S", CONFIRM_S)
    monkeypatch.setattr(publisher, "LOOK_EVERY_S", LOOK_EVERY_S)
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish([packet(0)])
    subscription.ack(await inbox.count(1))
    await asyncio.to_thread(rig.broker.sync_queues)

    await asyncio.to_thread(rig.broker.stop)
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match="nothing was sent"):
        await transport.publish([packet(1)])
    took_s = time.monotonic() - began_s
    began_s = time.monotonic()
    with pytest.raises(Unavailable):
        await transport.depths(["q"])
    looked_s = time.monotonic() - began_s
    await asyncio.to_thread(rig.broker.start)
    began_s = time.monotonic()
    async with asyncio.timeout(RESUMES_S):
        await published(transport, packet(2))
        await inbox.wait(lambda got: any(d.packet.body == b"2" for d in got))

    print(f"publishing and consuming again after {time.monotonic() - began_s:.2f} s")  # noqa: T201 - measured
    assert took_s < CONFIRM_S + patient(1)
    assert looked_s < patient(2)


async def test_calls_under_way_when_the_connection_closes_say_that_it_is_away(
    rig: Rig,
) -> None:
    transport = await rig.connect()
    await transport.declare(["q"])
    results: set[str] = set()

    for turn in range(20):
        calls = [
            asyncio.create_task(_result(call))
            for call in (transport.declare(["q"]), transport.depths(["q"]))
        ]
        await asyncio.sleep(turn * 0.0005)  # each time somewhat later in the call
        (await transport.consuming()).abort()
        results.update(await asyncio.gather(*calls))

    assert results <= {"done", "Unavailable"}
    assert "Unavailable" in results


async def test_acks_get_through_while_the_broker_takes_no_messages(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox, window=2)
    await transport.publish(packets(4))
    await inbox.count(2)

    await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=True)
    try:
        blocked = asyncio.create_task(transport.publish([packet(4)]))
        subscription.ack(inbox.got)
        await inbox.count(4)
        subscription.ack(inbox.got[2:])
        await rig.until(lambda state: state.ready == state.unacked == 0)
        was_blocked, blocked_s = not blocked.done(), transport.blocked_s()
    finally:
        await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=False)
    async with asyncio.timeout(RESUMES_S):
        await blocked
        await inbox.count(5)

    assert was_blocked
    assert blocked_s > 0
    assert transport.blocked_s() == 0
    assert [delivery.packet.body for delivery in inbox.got] == [b"0", b"1", b"2", b"3", b"4"]


async def test_publishing_to_a_broker_that_takes_nothing_ends_by_its_deadline(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_S", CONFIRM_S)
    monkeypatch.setattr(publisher, "LOOK_EVERY_S", LOOK_EVERY_S)
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish([packet(0)])

    await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=True)
    try:
        async with asyncio.timeout(3 * (CONFIRM_S + 1)):
            results = [await _result(transport.publish([packet(n)])) for n in (1, 2)]
    finally:
        await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=False)
    async with asyncio.timeout(RESUMES_S):
        await published(transport, packet(1), packet(2))
        got = await inbox.wait(lambda got: {d.packet.body for d in got} == {b"0", b"1", b"2"})

    assert results == ["PublishUnknown", "Unavailable"]
    subscription.ack(got)


async def test_a_web_front_says_at_once_to_come_later_while_the_broker_takes_nothing(
    rig: Rig,
) -> None:
    transport = await rig.connect()
    plan = shop.plan()
    await transport.declare(plan.queues("Work"))
    client = services_of(plan, transport=transport).client

    async with calling(Front(), client) as http:
        first = await http.post("/orders", json={"n": 0})
        await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=True)
        try:
            # The broker says that it takes nothing only to who publishes.
            held = asyncio.create_task(http.post("/orders", json={"n": 1}))
            await within(RESUMES_S, lambda: transport.blocked_s() > BLOCKED_GRACE_S)
            async with asyncio.timeout(patient(2.0)):
                refused = [await http.post("/orders", json={"n": n}) for n in range(2, 22)]
            was_held = not held.done()
        finally:
            await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=False)
        async with asyncio.timeout(RESUMES_S):
            answers = [first, await held, await http.post("/orders", json={"n": 22})]
    state = await rig.until(lambda state: state.ready == len(answers), "Work.work", "f")

    assert was_held
    assert {answer.status_code for answer in refused} == {503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert state.unacked == 0


async def test_a_connection_lost_while_the_broker_takes_nothing_comes_back(rig: Rig) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish([packet(0)])

    await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=True)
    try:
        blocked = asyncio.create_task(_result(transport.publish([packet(1)])))
        subscription.ack(await inbox.count(1))
        await rig.until(lambda state: state.unacked == 0)
        was_blocked = not blocked.done() and transport.blocked_s() > 0
        await rig.close_connections()
        result = await blocked
        is_blocked = transport.blocked_s() > 0
    finally:
        await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=False)
    async with asyncio.timeout(RESUMES_S):
        await published(transport, packet(1))
        await inbox.wait(lambda got: got[-1].packet.body == b"1")

    assert was_blocked
    assert not is_blocked
    assert result == "PublishUnknown"


async def test_a_connection_that_is_lost_is_handed_to_nobody(rig: Rig) -> None:
    transport = await rig.connect()
    lost = await transport.consuming()

    lost.abort()
    await asyncio.wait([lost.lost], timeout=RESUMES_S)
    found = await transport.consuming()

    assert found is not lost
    assert not found.lost.done()


async def test_a_connection_that_could_not_be_opened_leaves_nothing_to_close(
    rig: Rig,
) -> None:
    gc.collect()
    async with Proxy("127.0.0.1", rig.broker.port) as proxy:
        proxy.is_refusing = True
        before = asyncio.all_tasks()

        with pytest.raises(Unavailable):
            await rig.connect(proxy=proxy)
        gc.collect()  # aio-pika closes what is forgotten open, in a task that nobody owns

        assert {task.get_name() for task in asyncio.all_tasks() - before} == set()


async def test_a_hand_back_after_the_connection_was_lost_gives_nothing_back_twice(
    rig: Rig,
) -> None:
    transport, inbox = await rig.connect(), Inbox()
    subscription = await consume(transport, inbox, window=3)
    await transport.publish(packets(3))
    old = list(await inbox.count(3))

    await rig.close_connections()
    new = list((await inbox.count(6))[3:])
    subscription.hand_back(old)
    subscription.ack(old)
    await asyncio.sleep(0.2)
    held = await rig.until(lambda state: state.unacked == 3)
    subscription.ack(new)

    await rig.until(lambda state: state.ready == state.unacked == 0)
    assert held.ready == 0
    assert all(delivery.redelivered for delivery in new)
    assert len(inbox.got) == 6
    assert transport.stale_acks == 3


async def _result(call: object) -> str:
    try:
        await call  # type: ignore[misc]
    except Exception as error:  # noqa: BLE001 - named in the assertion
        return type(error).__name__
    return "done"
