"""Migrations while older processes still commit: nothing of theirs is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.database import Database
from rolekit.errors import ConfigError
from rolekit.store import migrate as module
from rolekit.store.migrate import migrate
from rolekit.store.postgres import PostgresStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

ID = "0a" * 16
OWNER = 7
BEFORE = 2
"""Migrations before the outbox had one row for each commit."""

INSERT = (
    "insert into rolekit_old.outbox (owner, queue, id, generation, birth_ms, head, body)"
    " values ($1, 'q', $2, 0, 1, 'head', 'body') returning n"
)
WAITING = (
    "select count(*) from pg_locks l join pg_database d on d.oid = l.database"
    " where d.datname = current_database() and not l.granted"
)


@pytest.fixture
async def old(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Database]:
    """A database as an older rolekit left it."""
    database = Database(database_url, "old")
    known = module._migrations()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    with monkeypatch.context() as older:
        older.setattr(module, "_migrations", lambda: known[:BEFORE])
        await migrate(database)
    yield database
    await database.close()


async def test_what_is_committed_to_the_outbox_while_it_is_rebuilt_is_kept(
    old: Database,
) -> None:
    async with old.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        n = await connection.fetchval(INSERT, OWNER, ID)
        migrating = asyncio.create_task(migrate(old))
        async with old.connection() as watcher:
            while not await watcher.fetchval(WAITING):  # noqa: ASYNC110 - Postgres tells nobody
                await asyncio.sleep(0.01)
        await transaction.commit()
        await migrating

    unsent = await PostgresStore(old, owner=OWNER, joins=False).unsent([], 10)
    assert [(out.n, out.packet.id, out.packet.body) for out in unsent] == [(n, ID, b"body")]


async def test_numbers_of_outbox_rows_go_on_though_all_of_the_old_ones_have_left(
    old: Database,
) -> None:
    async with old.connection() as connection:
        numbers = [await connection.fetchval(INSERT, OWNER, ID) for _ in range(3)]
        await connection.execute("delete from rolekit_old.outbox")

    await migrate(old)

    async with old.connection() as connection:
        following = await connection.fetchval(
            "select nextval(pg_get_serial_sequence('rolekit_old.outbox', 'n'))"
        )
    assert following == numbers[-1] + 1


async def test_a_migration_that_was_written_beside_others_is_applied_later(
    old: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = module._migrations()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    with monkeypatch.context() as without_one:
        without_one.setattr(module, "_migrations", lambda: [*known[:3], *known[4:]])
        await migrate(old)

    late = await migrate(old)

    assert late == [known[3][0]]
    assert await migrate(old) == []


async def test_a_database_of_a_newer_rolekit_is_refused(
    old: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(old)
    known = module._migrations()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(module, "_migrations", lambda: known[:-1])

    with pytest.raises(ConfigError, match=known[-1][0]):
        await migrate(old)
