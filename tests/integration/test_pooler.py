"""A pooler in transaction mode: what a session keeps elsewhere, a transaction brings here."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import asyncpg
import pytest

from rolekit.database import Database
from rolekit.errors import ConfigError, Unavailable, WriteFailed
from rolekit.store.postgres import PostgresStore
from rolekit.wiring import check_pooler, migrate, open_host
from tests.pgbouncer import ROLE, PrivatePgBouncer
from tests.servers import PrivatePostgres, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

pytestmark = pytest.mark.anyio

APP = "pooled"


@pytest.fixture
def server() -> Generator[PrivatePostgres]:
    with PrivatePostgres() as server:
        yield server


@pytest.fixture
async def pooler(server: PrivatePostgres) -> AsyncGenerator[str]:
    """The URL of a pooler with one connection, which everybody gets in turn."""
    await on(server.url, f"create role {ROLE} superuser login")
    await migrate(APP, server.url)
    with PrivatePgBouncer(server.url, 1) as pooler:
        yield pooler.url


async def on(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def stores(pooler: str, count: int) -> AsyncGenerator[list[PostgresStore]]:
    databases = [Database(pooler, APP, is_pooled=True) for _ in range(count)]
    try:
        yield [PostgresStore(database) for database in databases]
    finally:
        for database in databases:
            await database.close()


async def test_each_transaction_brings_its_time_outs(pooler: str) -> None:
    database = Database(pooler, APP, is_pooled=True)

    async with database.connection() as connection:
        inside = await connection.fetchval("show lock_timeout")
    async with database.borrowed() as connection:
        outside = await connection.execute("show lock_timeout")
        await connection.execute(
            "do $$ begin assert current_setting('lock_timeout') = '0'; end $$"
        )
    await database.close()

    assert (inside, outside) == ("5s", "SHOW")


async def test_what_a_transaction_of_the_users_sets_is_gone_after_it(pooler: str) -> None:
    async with stores(pooler, 2) as (one, other):
        async with one.transaction() as opened:
            await opened.execute("set search_path to elsewhere", ())
            await opened.execute("set client_encoding to 'LATIN1'", ())
            await opened.fetch("select pg_advisory_lock(7)", ())
            await driver_of(opened).prepare("select 1", name="mine")
        with pytest.raises(WriteFailed):
            await _lock_and_fail(one)

        async with other.transaction() as opened:
            await driver_of(opened).prepare("select 1", name="mine")
            found = await opened.fetch(
                "select current_setting('search_path') as path, '…' as text,"
                " (select count(*) from pg_locks where locktype = 'advisory') as locks",
                (),
            )

    assert found == [{"path": '"$user", public', "text": "…", "locks": 0}]


async def _lock_and_fail(store: PostgresStore) -> None:
    async with store.transaction() as opened:
        await opened.fetch("select pg_advisory_lock(8)", ())
        await driver_of(opened).prepare("select 1", name="mine")
        await opened.execute("nonsense", ())


def driver_of(opened: object) -> asyncpg.Connection[asyncpg.Record]:
    return cast(
        "asyncpg.Connection[asyncpg.Record]",
        getattr(opened, "driver_connection"),  # noqa: B009 - not of every store
    )


async def test_a_trial_brings_its_time_outs_and_leaves_nothing(pooler: str) -> None:
    database = Database(pooler, APP, is_pooled=True)

    async with database.trial() as connection:
        await connection.execute("create table tried ()")
        await connection.execute("savepoint half")
        inside = await connection.fetchval("show lock_timeout")
    async with database.connection() as connection:
        found = await connection.fetchval("select to_regclass('tried')::text")
    await database.close()

    assert (inside, found) == ("5s", None)


async def test_what_fails_or_is_cancelled_leaves_nothing_and_holds_nobody_up(
    server: PrivatePostgres, pooler: str
) -> None:
    await on(server.url, "create table kept (number int)")
    database = Database(pooler, APP, is_pooled=True)
    is_in = asyncio.Event()

    async def write(number: int) -> None:
        async with database.connection() as connection:
            await connection.execute("insert into kept values ($1)", number)
            is_in.set()
            await asyncio.Event().wait()

    async def fail(number: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("insert into kept values ($1)", number)
            await connection.execute("nonsense")

    writing = asyncio.create_task(write(1))
    await is_in.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    with pytest.raises(WriteFailed):
        await fail(2)
    async with database.connection() as connection:
        await connection.execute("insert into kept values ($1)", 3)
    async with database.connection() as connection:
        rows = await connection.fetch("select number from kept")
    await database.close()

    assert [row["number"] for row in rows] == [3]


async def test_a_pooler_that_leads_elsewhere_is_refused(
    server: PrivatePostgres, pooler: str
) -> None:
    await on(server.url, "create database elsewhere")
    elsewhere = server.url.replace("/postgres", "/elsewhere")

    with PrivatePgBouncer(elsewhere, 1) as other:
        async with open_host(APP, server.url, "") as host:
            await check_pooler(APP, pooler, host.epoch, 5, print)
            with pytest.raises(ConfigError, match="another one than ROLEKIT_DATABASE names"):
                await check_pooler(APP, other.url, host.epoch, 5, print)


async def test_a_pooler_that_does_not_answer_is_named() -> None:
    nobody = f"postgresql://x@127.0.0.1:{free_port()}/x"

    with pytest.raises(Unavailable, match="did not answer in 0 s") as refused:
        await check_pooler(APP, nobody, 1, 0, print)

    assert "correct the URL in `pooler`" in str(refused.value)
