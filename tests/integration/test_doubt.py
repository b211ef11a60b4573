"""When an answer of Postgres is lost, who looks for what it may have left behind is told."""

from __future__ import annotations

import asyncpg
import pytest

from rolekit.database import Database
from rolekit.errors import RolekitError
from rolekit.store.postgres import PostgresStore

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

APP = "shop"


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
