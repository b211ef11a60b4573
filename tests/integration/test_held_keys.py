"""Idempotency keys that another transaction is just taking, or dropping."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit import wiring
from rolekit.database import Database, schema_of
from rolekit.errors import Contended, Unavailable
from rolekit.store.base import Accept, KeyRow
from rolekit.store.postgres import PostgresStore
from tests.conformance.store import packet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from rolekit.connections import Pooled

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

APP = "held"
REQUESTS = [
    Accept([packet(n)], [], KeyRow(key=f"{n:02x}" * 16, body_hash="cc" * 16))
    for n in range(1, 10)
]


TAKE = f"insert into {schema_of(APP)}.idempotency (key, body_hash) values ($1, $1)"  # noqa: S608 - ours
DROP = f"delete from {schema_of(APP)}.idempotency where key = $1"  # noqa: S608 - ours


class Dropped(PostgresStore):
    """A store whose keys another program drops just before it reads who took them.

    Args:
        database_url: Where both are.
        times: How often; but for the last time, it takes each again just behind.
    """

    def __init__(self, database_url: str, times: int) -> None:
        super().__init__(Database(database_url, APP), owner=3)
        self._database_url = database_url
        self._times = times

    async def _find_keys(self, connection: Pooled, keys: Sequence[str]) -> dict[str, KeyRow]:
        await self._others(DROP, keys)
        found = await super()._find_keys(connection, keys)
        self._times -= 1
        if self._times:
            await self._others(TAKE, keys)
        return found

    async def _others(self, sql: str, keys: Sequence[str]) -> None:
        connection = await asyncpg.connect(self._database_url)
        await connection.executemany(sql, [(key,) for key in keys])
        await connection.close()


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[list[PostgresStore]]:
    await wiring.migrate(APP, database_url)
    stores = [PostgresStore(Database(database_url, APP), owner=n) for n in (1, 2)]
    yield stores
    for store in stores:
        await store.stop()


@asynccontextmanager
async def held(database_url: str, number: int) -> AsyncGenerator[None]:
    """Take the key of a request inside the block, and give it back."""
    connection = await asyncpg.connect(database_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(TAKE, f"{number:02x}" * 16)
        yield
        await transaction.rollback()
    finally:
        await connection.close()


async def test_two_groups_with_the_same_keys_never_lock_each_other_out(
    database_url: str, stores: list[PostgresStore]
) -> None:
    one, other = stores
    async with held(database_url, 5):
        groups = [
            asyncio.create_task(one.accept_all(REQUESTS)),
            asyncio.create_task(other.accept_all(REQUESTS[::-1])),
        ]
        await asyncio.sleep(0.2)

    answers = await asyncio.gather(*groups)

    assert sum(prior is None for _, priors in answers for prior in priors) == len(REQUESTS)


async def test_a_group_does_not_wait_long_for_the_key_of_one(
    database_url: str, stores: list[PostgresStore]
) -> None:
    one, _ = stores
    async with held(database_url, 5):
        begin = time.monotonic()
        with pytest.raises(Contended):
            await one.accept_all(REQUESTS)
        waited_s = time.monotonic() - begin

        _, priors = await one.accept_all([each for each in REQUESTS if each is not REQUESTS[4]])

    assert waited_s < 4, "alone it would have waited for 5 s"
    assert priors == [None] * 8


@pytest.mark.parametrize("group", [REQUESTS[4:5], REQUESTS], ids=["alone", "in a group"])
async def test_a_key_that_is_dropped_while_it_is_asked_for_is_free(
    group: list[Accept], database_url: str, stores: list[PostgresStore]
) -> None:
    await stores[0].accept_all(REQUESTS[4:5])
    late = Dropped(database_url, 1)

    _, priors = await late.accept_all(group)
    _, again = await stores[0].accept_all(group)
    await late.stop()

    assert priors == [None] * len(group)
    assert None not in again, "it was not taken"


async def test_a_key_that_is_dropped_again_and_again_is_left_with_an_error(
    database_url: str, stores: list[PostgresStore]
) -> None:
    await stores[0].accept_all(REQUESTS[4:5])
    late = Dropped(database_url, 2)

    with pytest.raises(Unavailable, match="was forgotten just now"):
        await late.accept_all(REQUESTS)
    _, priors = await stores[0].accept_all(REQUESTS)
    await late.stop()

    assert priors == [None] * len(REQUESTS), "some were taken without the others"
