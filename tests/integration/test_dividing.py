"""Changing the number of partitions: only when nothing is left of the old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit import wiring
from rolekit.database import Database
from rolekit.errors import ConfigError
from rolekit.model.keys import partition_of, partition_queue
from rolekit.store.base import DeadLetterRow, Due, Outcome
from rolekit.store.keys import Fence, Hold
from rolekit.store.postgres import PostgresStore
from rolekit.transport.rabbitmq import RabbitTransport
from tests.conformance.store_keys import KEY, ROLE, keyed, message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

APP = "dividing"
OLD, NEW = 4, 7


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    await wiring.migrate(APP, database_url, partitions={ROLE: OLD})
    store = PostgresStore(Database(database_url, APP), owner=1)
    await store.enrol(ROLE, OLD)
    yield store
    await store.stop()


async def divide(database: str, count: int, broker: str = "") -> list[str]:
    queues = [partition_queue(ROLE, number) for number in range(count)]
    return await wiring.migrate(APP, database, broker, queues, partitions={ROLE: count})


async def owned(store: PostgresStore) -> Fence:
    await store.attend(ROLE)
    fences = await store.take(ROLE, [partition_of(KEY, OLD)])
    return fences[0]


async def test_keys_are_divided_anew_when_nothing_is_left(
    database_url: str, store: PostgresStore
) -> None:
    before = await owned(store)

    said = await divide(database_url, NEW)

    again = await divide(database_url, NEW)
    roll = await store.attend(ROLE)
    assert said[-1:] == [f"the keys of {ROLE}: {OLD} partitions became {NEW}"]
    assert again == []
    assert sorted(roll.partitions) == list(range(NEW))
    assert all(row.epoch >= before.epoch for row in roll.partitions.values())
    with pytest.raises(ConfigError, match=f"partitions = {OLD}, but .* divided into {NEW}"):
        await store.enrol(ROLE, OLD)


@pytest.mark.parametrize("where", ["queue", "schedule", "waiting list"])
async def test_they_are_not_while_a_message_is_on_its_way(
    database_url: str, store: PostgresStore, where: str
) -> None:
    fence = await owned(store)
    if where == "waiting list":
        await store.set_aside(fence, KEY, [message(1)], [])
    else:
        late = [Due(message(1), 1)] if where == "schedule" else []
        await store.accept([] if late else [message(1)], late, None)

    with pytest.raises(ConfigError, match="1 message of it are not handled yet"):
        await divide(database_url, NEW)

    assert len((await store.attend(ROLE)).partitions) == OLD


async def test_they_are_not_while_the_app_runs(database_url: str, store: PostgresStore) -> None:
    async with wiring.open_host(APP, database_url, ""):
        with pytest.raises(ConfigError, match="the app runs on 1 host") as refused:
            await divide(database_url, NEW)

    assert f"Set partitions = {OLD} again" in refused.value.fix


async def test_they_are_not_while_a_broker_has_messages_of_them(
    database_url: str, broker_url: str, store: PostgresStore
) -> None:
    await divide(database_url, OLD, broker_url)
    transport = RabbitTransport(broker_url, app=APP)
    await transport.start()
    try:
        await transport.publish([message(1)])

        with pytest.raises(ConfigError, match="1 message of it are not handled yet"):
            await divide(database_url, NEW, broker_url)
    finally:
        await transport.stop()


async def test_dead_letters_and_the_keys_they_hold_go_along(
    database_url: str, store: PostgresStore
) -> None:
    fence = await owned(store)
    dying = keyed(1, fence, Outcome.DEAD, holds=True)
    dying.dead = DeadLetterRow(
        id="d1", packet=message(1), handler="Orders.place", type="x", reason="broken"
    )
    await store.commit([dying])
    number = partition_of(KEY, NEW)

    await divide(database_url, NEW)

    letters = await store.dead_letters()
    assert [letter.packet.queue for letter in letters] == [partition_queue(ROLE, number)]
    assert await store.holds(Fence(ROLE, number, 9)) == {KEY: Hold(dying.id)}
