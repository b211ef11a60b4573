"""What must be told before anything is stored is told before a connection is used."""

from __future__ import annotations

import pytest

from rolekit.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


async def test_before_each_use_of_a_connection_something_is_done(
    rolekit_database: str,
) -> None:
    told: list[str] = []
    database = Database(rolekit_database, "before", before_use=lambda: told.append("before"))
    try:
        async with database.connection() as connection:
            told.append(await connection.fetchval("select 'used'"))
        async with database.transaction() as connection:
            told.append(await connection.fetchval("select 'used'"))
        async with database.borrowed() as connection:
            told.append(await connection.fetchval("select 'used'"))
    finally:
        await database.close()

    assert told == ["before", "used"] * 3
