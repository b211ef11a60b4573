"""Who runs roles owns nothing on Postgres; what lacks is said at the start, with the grants."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit.database import Database
from rolekit.errors import ConfigError
from rolekit.store.migrate import migrate
from rolekit.store.postgres import PostgresStore
from tests.least import WORKER, worker_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

APP = "shop"
DAY_MS = 86_400_000
HORIZON_DAYS = 3
COUNT_DAYS = "select count(*) from pg_inherits where inhparent = 'rolekit_shop.inbox'::regclass"


@pytest.fixture
async def owned(postgres15: str) -> AsyncGenerator[Database]:
    """A database as its owner sees it."""
    database = Database(postgres15, APP)
    yield database
    await database.close()


@pytest.fixture
async def worker(owned: Database) -> AsyncGenerator[Database]:
    """The same for a user who owns nothing, and may use what is made from now on."""
    database = Database(await worker_of(owned), APP)
    yield database
    await database.close()


async def execute(database: Database, sql: str) -> None:
    async with database.borrowed() as connection:
        await connection.execute(sql)


async def test_who_owns_nothing_starts_where_the_owner_has_migrated(
    owned: Database, worker: Database
) -> None:
    await migrate(owned)

    assert await migrate(worker) == []
    for sql in (
        "create table rolekit_shop.own ()",
        "create table public.own ()",
        "create schema own",
        "drop table rolekit_shop.sent",
        "truncate rolekit_shop.queue",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await execute(worker, sql)


async def test_who_owns_nothing_makes_days_and_drops_them(
    owned: Database, worker: Database
) -> None:
    await migrate(owned)
    store = PostgresStore(worker, owner=7, joins=True)
    store.horizon_s = HORIZON_DAYS * 86_400
    counts: list[int] = []

    for days in range(1, 15):
        await store.keep_house(time.time_ns() // 1_000_000 + days * DAY_MS)
        async with worker.connection() as connection:
            counts.append(int(await connection.fetchval(COUNT_DAYS)))

    assert max(counts) > counts[-1] == HORIZON_DAYS + 4  # with today, and three days ahead


@pytest.mark.parametrize("call", ["make_days('queue', 1, 2)", "drop_day('queue; drop', 1)"])
async def test_days_are_all_that_is_made_with_the_rights_of_the_owner(
    call: str, owned: Database, worker: Database
) -> None:
    await migrate(owned)

    with pytest.raises(asyncpg.RaiseError, match="there are no days of queue"):
        await execute(worker, f"select rolekit_shop.{call}")


async def test_nobody_else_makes_or_drops_days(owned: Database) -> None:
    await migrate(owned)

    async with owned.connection() as connection:
        found = await connection.fetch(
            "select p.proname, p.proconfig from pg_proc p, aclexplode(p.proacl) a"
            " where p.prosecdef and a.grantee = 0"
        )
        paths = await connection.fetch("select proconfig from pg_proc where prosecdef")
    assert found == []
    assert [row[0] for row in paths] == [["search_path=pg_catalog, pg_temp"]] * 2


async def test_who_may_not_migrate_is_told_who_may(worker: Database) -> None:
    with pytest.raises(ConfigError) as caught:
        await migrate(worker)

    assert "rolekit_shop" in caught.value.what
    assert "permission denied for database" in caught.value.what
    assert "Run `rolekit migrate` as the user that owns it" in caught.value.fix


async def test_who_may_not_even_look_is_told_so(owned: Database, worker: Database) -> None:
    await migrate(owned)
    await execute(owned, f"revoke usage on schema rolekit_shop from {WORKER}")

    with pytest.raises(ConfigError, match="permission denied for schema rolekit_shop"):
        await migrate(worker)


@pytest.mark.parametrize(
    ("revoke", "lacks"),
    [
        ("delete on rolekit_shop.queue", "has no delete on rolekit_shop.queue"),
        ("update, delete on rolekit_shop.host", "on rolekit_shop.host, nor 1 more of the kind"),
        ("usage on sequence rolekit_shop.host_epoch_seq", "usage on sequence rolekit_shop."),
        ("execute on function rolekit_shop.drop_day", "execute on rolekit_shop.drop_day(text,"),
    ],
)
async def test_a_right_that_lacks_is_named_with_the_grants(
    revoke: str, lacks: str, owned: Database, worker: Database
) -> None:
    await migrate(owned)
    await execute(owned, f"revoke {revoke} from {WORKER}")

    with pytest.raises(ConfigError) as caught:
        await migrate(worker)

    assert caught.value.what.startswith(f"User {WORKER} has no ")
    assert lacks in caught.value.what
    for grant in caught.value.fix.partition(": ")[2].split(";"):
        if grant.strip():
            await execute(owned, grant)
    assert await migrate(worker) == []
