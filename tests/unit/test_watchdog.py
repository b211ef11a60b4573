"""What the watchdog makes of counts, without a broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from rolekit.transport.rabbitmq.counting import Counting
from rolekit.transport.rabbitmq.watchdog import STUCK_ROUNDS, Watchdog

if TYPE_CHECKING:
    from rolekit.transport.rabbitmq.consumer import QueueConsumer
    from rolekit.transport.rabbitmq.transport import RabbitTransport

pytestmark = pytest.mark.anyio


class FakeBroker:
    """A transport, its session and its channel in one, which tell counts."""

    def __init__(self, messages: int, consumers: int) -> None:
        self.counts = SimpleNamespace(message_count=messages, consumer_count=consumers)
        self.calls = self
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked = self.opened = 0
        self.counting = Counting()

    async def consuming(self) -> FakeBroker:
        return self

    async def channel(self) -> FakeBroker:
        self.opened += 1
        return self

    async def queue_declare(self, name: str, *, passive: bool) -> SimpleNamespace:
        self.asked += 1
        return self.counts

    def broker_name(self, queue: str) -> str:
        return queue


class FakeConsumer:
    """A consumer that counts how often it began anew."""

    queue = name = "Work.work"
    is_consuming = True
    life = 1

    def __init__(self, in_hand: int = 0, *, window: int = 2, lost: int = 0) -> None:
        self.in_hand = in_hand
        self.window = window
        self.delivered = 0
        self._lost = lost
        self.reasons: list[str] = []

    def count_lost(self) -> int:
        return self._lost

    def restart(self, why: str) -> None:
        self.reasons.append(why)


def watchdog(broker: FakeBroker, consumer: FakeConsumer) -> Watchdog:
    return Watchdog(cast("RabbitTransport", broker), lambda: [cast("QueueConsumer", consumer)])


async def test_messages_that_wait_while_none_comes_for_two_rounds_are_a_dead_consumer() -> None:
    consumer = FakeConsumer()
    dog = watchdog(FakeBroker(messages=3, consumers=1), consumer)

    seen: list[int] = []
    for _ in range(4):
        await dog.look()
        seen.append(dog.healed)

    assert seen == [0, 0, 1, 1]
    assert consumer.reasons == [
        "watchdog: 3 messages wait and none is delivered, with 0 of 2 in hand"
    ]


async def test_messages_that_wait_behind_others_that_come_are_a_busy_consumer() -> None:
    consumer = FakeConsumer()
    dog = watchdog(FakeBroker(messages=3, consumers=1), consumer)

    for _ in range(6):
        await dog.look()
        consumer.delivered += 1

    assert consumer.reasons == []


async def test_messages_that_wait_behind_a_full_window_are_a_slow_handler() -> None:
    consumer = FakeConsumer(in_hand=2)
    dog = watchdog(FakeBroker(messages=3, consumers=1), consumer)

    for _ in range(6):
        await dog.look()

    assert consumer.reasons == []


async def test_messages_that_wait_beside_a_free_place_are_an_ack_that_was_lost() -> None:
    consumer = FakeConsumer(in_hand=1)
    dog = watchdog(FakeBroker(messages=3, consumers=1), consumer)

    for _ in range(3):
        await dog.look()

    assert consumer.reasons == [
        "watchdog: 3 messages wait and none is delivered, with 1 of 2 in hand"
    ]


async def test_what_is_in_hand_for_long_is_looked_for_once_a_minute() -> None:
    consumer = FakeConsumer(in_hand=2, lost=1)
    dog = watchdog(FakeBroker(messages=3, consumers=1), consumer)

    seen: list[int] = []
    for _ in range(STUCK_ROUNDS + 1):
        await dog.look()
        seen.append(dog.healed)

    assert seen == [0] * STUCK_ROUNDS + [1]
    assert consumer.reasons == ["watchdog: 1 of 2 deliveries in hand are nobody's"]


async def test_what_a_slow_handler_has_in_hand_is_left_to_it() -> None:
    consumer = FakeConsumer(in_hand=2)
    dog = watchdog(FakeBroker(messages=0, consumers=1), consumer)

    for _ in range(3 * STUCK_ROUNDS):
        await dog.look()

    assert consumer.reasons == []


async def test_the_broker_is_asked_on_one_channel_and_only_of_what_is_quiet() -> None:
    consumer, broker = FakeConsumer(), FakeBroker(messages=3, consumers=1)
    dog = watchdog(broker, consumer)

    for _ in range(6):
        await dog.look()
        consumer.delivered += 1
    asked_of_a_busy_one = broker.asked
    for _ in range(3):
        await dog.look()

    assert asked_of_a_busy_one == 0
    assert (broker.asked, broker.opened) == (2, 1)


async def test_a_consumer_that_the_broker_lacks_gets_one_round_to_appear() -> None:
    consumer = FakeConsumer(in_hand=1)
    dog = watchdog(FakeBroker(messages=1, consumers=0), consumer)

    await dog.look()
    at_first = list(consumer.reasons)
    await dog.look()

    assert at_first == []
    assert consumer.reasons == ["watchdog: the broker has no consumer of this queue"]


async def test_neither_messages_nor_consumers_is_a_queue_too_busy_to_answer() -> None:
    consumer = FakeConsumer()
    dog = watchdog(FakeBroker(messages=0, consumers=0), consumer)

    for _ in range(6):
        await dog.look()

    assert consumer.reasons == []
