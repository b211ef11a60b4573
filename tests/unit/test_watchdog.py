"""What the watchdog makes of counts, without a broker."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from rolekit.transport.rabbitmq.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.transport.rabbitmq.consumer import QueueConsumer
    from rolekit.transport.rabbitmq.transport import RabbitTransport

pytestmark = pytest.mark.anyio


class FakeBroker:
    """A transport, its session and its channel in one, which tell counts."""

    def __init__(self, messages: int, consumers: int) -> None:
        self.counts = SimpleNamespace(message_count=messages, consumer_count=consumers)
        self.calls = self

    async def consuming(self) -> FakeBroker:
        return self

    @asynccontextmanager
    async def brief_channel(self) -> AsyncGenerator[FakeBroker]:
        yield self

    async def queue_declare(self, name: str, *, passive: bool) -> SimpleNamespace:
        return self.counts

    def broker_name(self, queue: str) -> str:
        return queue


class FakeConsumer:
    """A consumer that counts how often it began anew."""

    queue = name = "Work.work"
    is_consuming = True
    life = 1

    def __init__(self, in_hand: int = 0) -> None:
        self.in_hand = in_hand
        self.delivered = 0
        self.reasons: list[str] = []

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
    assert consumer.reasons == ["watchdog: 3 messages wait and none is delivered"]


async def test_messages_that_wait_behind_others_that_come_are_a_busy_consumer() -> None:
    consumer = FakeConsumer()
    dog = watchdog(FakeBroker(messages=3, consumers=1), consumer)

    for _ in range(6):
        await dog.look()
        consumer.delivered += 1

    assert consumer.reasons == []


async def test_messages_that_wait_behind_some_in_hand_are_a_slow_handler() -> None:
    consumer = FakeConsumer(in_hand=1)
    dog = watchdog(FakeBroker(messages=3, consumers=1), consumer)

    for _ in range(6):
        await dog.look()

    assert consumer.reasons == []


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
