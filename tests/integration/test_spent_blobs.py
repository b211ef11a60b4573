"""Blobs in Postgres that are dropped: beside saves, after a pause, by several relays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.database import Database, load_queries
from rolekit.store.migrate import migrate
from rolekit.store.postgres import PostgresStore
from tests.conformance.store import now_ms, pieces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

DAY_MS = 86_400_000
FAR_MS = 4_000_000_000_000
"""A time before which every blob was used."""


class World:
    """Two views of one schema."""

    def __init__(self, url: str) -> None:
        self.databases = [Database(url, "spent"), Database(url, "spent")]
        self.database = self.databases[0]
        self.store, self.other = (PostgresStore(each, joins=False) for each in self.databases)
        self.sql = load_queries("rolekit.store.sql", "queries.sql", self.database.schema)

    async def save(self) -> str:
        """Save always the same bytes."""
        return (await self.other.save_blob(pieces(b"abc"), 10)).id

    async def pieces(self) -> int:
        """Count what is there of all blobs."""
        async with self.database.connection() as connection:
            table = f"{self.database.schema}.blob_chunk"
            count: int = await connection.fetchval(f"select count(*) from {table}")  # noqa: S608
        return count

    async def waits(self) -> None:
        """Return when somebody waits for a lock."""
        query = "select count(*) from pg_locks where not granted"
        async with self.databases[0].connection() as connection:
            while not await connection.fetchval(query):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


@pytest.fixture
async def world(database_url: str) -> AsyncGenerator[World]:
    """A schema of its own."""
    world = World(database_url)
    await migrate(world.database)
    yield world
    for database in world.databases:
        await database.close()


async def test_a_save_waits_for_a_drop_that_is_under_way_and_then_keeps_the_bytes(
    world: World,
) -> None:
    name = await world.save()
    async with world.database.transaction() as connection:
        dropped = await connection.fetchval(world.sql["drop_blobs"], FAR_MS, 10)
        saving = asyncio.create_task(world.save())
        await world.waits()

    assert (dropped, await saving) == (1, name)
    assert await world.store.load_blob(name) == b"abc"
    assert await world.pieces() == 1


async def test_whoever_asks_during_a_drop_is_told_that_the_blob_is_gone(world: World) -> None:
    name = await world.save()
    async with world.database.transaction() as connection:
        await connection.fetchval(world.sql["drop_blobs"], FAR_MS, 10)
        asking = asyncio.create_task(world.other.use_blobs([name]))
        await world.waits()

    assert await asking == set()


async def test_a_drop_passes_by_what_is_being_used(world: World) -> None:
    name = await world.save()
    async with world.database.transaction() as connection:
        await connection.execute(world.sql["use_blobs"], [name])
        async with world.databases[1].connection() as other:
            dropped = await other.fetchval(world.sql["drop_blobs"], FAR_MS, 10)

    assert dropped == 0
    assert await world.store.load_blob(name) == b"abc"


async def test_saving_the_same_bytes_again_is_a_use(world: World) -> None:
    name = await world.save()
    async with world.database.connection() as connection:
        table = f"{world.database.schema}.blob"
        await connection.execute(f"update {table} set used_at = now() - interval '90 d'")  # noqa: S608

        await world.save()

        dropped = await connection.fetchval(world.sql["drop_blobs"], now_ms() - DAY_MS, 10)
    assert dropped == 0
    assert await world.store.load_blob(name) == b"abc"
    assert await world.pieces() == 1


async def test_days_on_which_nothing_ran_do_not_age_blobs_away(world: World) -> None:
    name = await world.save()
    for day in range(9):
        await world.store.keep_house(now_ms() + day * DAY_MS)

    for day in range(100, 107):
        await world.store.keep_house(now_ms() + day * DAY_MS)
    after_the_pause = await world.store.load_blob(name)
    for day in range(107, 126):
        await world.store.keep_house(now_ms() + day * DAY_MS)

    assert after_the_pause == b"abc"
    assert await world.store.load_blob(name) is None


async def test_of_several_relays_one_looks_on_a_day(world: World) -> None:
    for day in range(20):
        await world.store.keep_house(now_ms() + day * DAY_MS)
    name = await world.save()
    async with world.database.connection() as connection:
        table = f"{world.database.schema}.blob"
        await connection.execute(f"update {table} set used_at = now() - interval '90 d'")  # noqa: S608

    await world.other.keep_house(now_ms() + 19 * DAY_MS)
    on_the_same_day = await world.store.load_blob(name)
    await world.other.keep_house(now_ms() + 20 * DAY_MS)

    assert on_the_same_day == b"abc"
    assert await world.store.load_blob(name) is None
