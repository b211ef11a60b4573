"""When an answer of Postgres is lost, who looks for what it may have left behind is told."""

from __future__ import annotations

import time

import asyncpg
import pytest

from rolekit.database import Database
from rolekit.errors import RolekitError, Unavailable
from rolekit.store.base import Step
from rolekit.store.migrate import migrate
from rolekit.store.postgres import PostgresStore

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

APP = "shop"
NOW_MS = int(time.time() * 1000)


async def test_who_asked_is_told_where_a_transaction_of_a_handler_loses_its_commit(
    database_url: str,
) -> None:
    await migrate(database := Database(database_url, APP))
    store = PostgresStore(database, owner=1, joins=False)
    told: list[bool] = []
    store.on_doubt(lambda: told.append(store.is_in_doubt))
    try:
        await store.make_days(NOW_MS)
        opened = await store.begin("0a" * 16, 0, NOW_MS)
        (pid,) = await opened.transaction.fetch("select pg_backend_pid() as pid", [])
        async with database.connection() as other:
            await other.execute("select pg_terminate_backend($1)", pid["pid"])

        with pytest.raises(Unavailable):
            await opened.finish(Step(id="0a" * 16, generation=0, birth_ms=NOW_MS))

        assert told == [True]
        store.on_doubt(lambda: told.append(False))  # who asks now is told at once
        assert told == [True, False]
    finally:
        await database.close()


async def test_who_asked_is_told_of_each_answer_that_is_lost(database_url: str) -> None:
    database = Database(database_url, APP)
    store = PostgresStore(database, owner=1, joins=False)
    told: list[bool] = []
    store.on_doubt(lambda: told.append(store.is_in_doubt))
    try:
        async with database.connection() as connection:
            await connection.execute("select 1")
        assert told == []

        for _ in range(2):
            with pytest.raises((RolekitError, asyncpg.PostgresError)):
                async with database.connection() as connection:
                    await connection.execute("select pg_terminate_backend(pg_backend_pid())")
        assert told == [True, True]
    finally:
        await database.close()
