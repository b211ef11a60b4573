"""A connection serves one after another for a moment, and only then goes back to the pool."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit import connections
from rolekit.connections import KEPT_S, Pooled
from rolekit.database import Database
from rolekit.errors import WriteFailed
from tests.embedded_users import until
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

PID = "select pg_backend_pid()"


@pytest.fixture
async def database(rolekit_database: str) -> AsyncIterator[Database]:
    """One that opens a single connection at most."""
    database = Database(rolekit_database, "kept", max_connections=1)
    yield database
    await database.close()


@pytest.fixture
def for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is kept much longer than a test takes."""
    monkeypatch.setattr(connections, "KEPT_S", 60.0)


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What went back to a pool."""
    release, given = asyncpg.Pool.release, list[object]()

    async def noted(
        pool: asyncpg.Pool[asyncpg.Record], connection: Pooled, **how: float
    ) -> None:
        given.append(connection)
        await release(pool, connection, **how)

    monkeypatch.setattr(asyncpg.Pool, "release", noted)
    return given


async def test_one_after_another_uses_it_and_the_pool_has_it_back_a_moment_later(
    database: Database, given_back: list[object]
) -> None:
    async with database.connection() as first:
        assert database.connections == (1, 0)
    async with database.transaction() as second:
        assert database.connections == (1, 0)

    assert second is first
    assert given_back == []
    assert database.connections == (0, 1)

    await asyncio.sleep(KEPT_S * 1.2)
    assert given_back == [first]
    assert database.connections == (0, 1)


async def test_who_uses_it_all_the_time_gives_it_back_now_and_then(
    database: Database, given_back: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEPT_S", 0.05)
    until_s, used = time.monotonic() + patient(0.5), 0
    while time.monotonic() < until_s and len(given_back) < 3:
        async with database.connection() as connection:
            await connection.execute("select 1")
        used += 1

    assert len(given_back) == 3
    assert used > 3


@pytest.mark.parametrize("uses", ["connection", "transaction", "borrowed"])
async def test_who_waits_has_it_as_soon_as_it_is_free(
    database: Database, for_long: None, uses: str
) -> None:
    async with database.connection() as connection:
        first = await connection.fetchval(PID)
        waits = asyncio.create_task(_pid(database, uses))
        await asyncio.sleep(0.05)
        assert not waits.done()

    async with asyncio.timeout(patient(5)):
        assert await waits == first


async def test_code_of_others_has_it_in_its_own_hands(
    database: Database, for_long: None
) -> None:
    first = await _pid(database)
    async with asyncio.timeout(patient(5)), database.borrowed() as theirs:
        assert await theirs.fetchval(PID) == first

    async with database.connection():
        with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
            await theirs.execute("select 1")


async def test_what_went_wrong_on_it_nobody_meets(
    database: Database, for_long: None, given_back: list[object]
) -> None:
    with pytest.raises(WriteFailed):
        async with database.connection() as connection:
            await connection.execute("begin; select 1 / 0")
    assert len(given_back) == 1

    async with database.transaction() as connection:
        assert await connection.fetchval("select 1") == 1


async def test_a_transaction_that_was_left_open_nobody_meets(
    database: Database, for_long: None
) -> None:
    async with database.connection() as connection:
        await connection.execute("begin; create table left_open (n int)")

    async with database.connection() as connection:
        assert await connection.fetchval("select to_regclass('left_open')") is None


async def test_one_that_was_lost_meanwhile_is_replaced(
    database: Database, for_long: None, rolekit_database: str
) -> None:
    first = await _pid(database)
    await _end_at_the_server(rolekit_database, first)
    await until(lambda: database.connections == (0, 0))

    assert await _pid(database) != first


async def test_one_that_is_lost_in_use_is_replaced(
    database: Database, for_long: None, rolekit_database: str
) -> None:
    async with database.connection() as connection:  # which does not notice
        first = await connection.fetchval(PID)
        await _end_at_the_server(rolekit_database, first)
        await until(lambda: database.connections == (0, 0))
    assert database.connections == (0, 0)

    assert await _pid(database) != first


async def test_who_is_stopped_after_a_commit_leaves_it_in_doubt(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEPT_S", 0.0)
    told: list[str] = []
    database.on_doubt(lambda: told.append("doubt"))
    release = asyncpg.Pool.release

    async def stopped(pool: asyncpg.Pool[asyncpg.Record], connection: Pooled) -> None:
        told.append("goes back")
        task.cancel()
        await release(pool, connection)

    monkeypatch.setattr(asyncpg.Pool, "release", stopped)

    async def commits() -> None:
        async with database.transaction() as connection:
            await connection.execute("select 1")
            await asyncio.sleep(0.02)  # until it is not kept any longer

    task = asyncio.create_task(commits())
    with pytest.raises(asyncio.CancelledError):
        await task

    assert told == ["goes back", "doubt"]


async def test_none_is_left_when_all_is_closed(database: Database, for_long: None) -> None:
    async with database.connection() as connection:
        pass
    await database.close()

    with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
        await connection.execute("select 1")

    assert await _pid(database) is not None  # it can be opened again
    assert database.connections == (0, 1)


async def _pid(database: Database, uses: str = "connection") -> int:
    async with getattr(database, uses)() as connection:
        pid: int = await connection.fetchval(PID)
        return pid


async def _end_at_the_server(url: str, pid: int) -> None:
    other = await asyncpg.connect(url)
    try:
        await other.execute("select pg_terminate_backend($1)", pid)
    finally:
        await other.close()
