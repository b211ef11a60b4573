"""Days of the inbox, and of what was sent: dropped by days of running, never too early."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from rolekit.database import Database
from rolekit.errors import TooOld
from rolekit.store.base import Due
from rolekit.store.migrate import migrate
from rolekit.store.postgres import PostgresStore
from tests.conformance.store import error_of, opening, packet, step
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

DAY_MS = 86_400_000
HORIZON_DAYS = 3


class Calendar:
    """A store whose relay looks at the calendar once a day, where it runs."""

    def __init__(self, store: PostgresStore, database: Database) -> None:
        self.store = store
        self.database = database
        self.now_ms = time.time_ns() // 1_000_000
        store.horizon_s = HORIZON_DAYS * 86_400

    async def run(self, days: int) -> None:
        """Let days pass on which the app runs."""
        for _ in range(days):
            self.now_ms += DAY_MS
            await self.store.keep_house(self.now_ms)

    async def first(self, table: str = "inbox") -> int:
        """Return the first day that a table has, counted from today."""
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "select min(substring(c.relname from '\\d+$')::int) as day from pg_inherits i"
                " join pg_class c on c.oid = i.inhrelid where i.inhparent = $1::text::regclass",
                f"{self.database.schema}.{table}",
            )
        assert row is not None
        return int(row["day"]) - self.now_ms // DAY_MS


@pytest.fixture
async def calendar(database_url: str) -> AsyncGenerator[Calendar]:
    """Today."""
    database = Database(database_url, "days")
    await migrate(database)
    calendar = Calendar(PostgresStore(database, owner=7, joins=False), database)
    await calendar.store.keep_house(calendar.now_ms)
    yield calendar
    await database.close()


async def test_a_day_is_dropped_when_the_app_has_run_on_enough_days_since(
    calendar: Calendar,
) -> None:
    await calendar.run(HORIZON_DAYS)
    before = await calendar.first()
    await calendar.run(4)

    assert before <= -HORIZON_DAYS
    assert await calendar.first() == -HORIZON_DAYS
    assert await calendar.first("sent") == -HORIZON_DAYS


async def test_days_on_which_nothing_ran_do_not_count(calendar: Calendar) -> None:
    first = await calendar.first() + calendar.now_ms // DAY_MS

    calendar.now_ms += 30 * DAY_MS
    await calendar.run(HORIZON_DAYS - 1)

    assert await calendar.first() + calendar.now_ms // DAY_MS == first


async def test_what_is_older_than_the_first_day_is_too_old(calendar: Calendar) -> None:
    born_ms = calendar.now_ms
    await calendar.run(HORIZON_DAYS + 1)

    error = await error_of(calendar.store.commit([step(1, birth_ms=born_ms)]))
    inside = await calendar.store.commit([step(1, birth_ms=born_ms + DAY_MS)])

    assert isinstance(error, TooOld)
    assert len(inside.fresh) == 1


@pytest.mark.parametrize("keeper", ["outbox", "schedule", "split"])
async def test_a_day_that_is_needed_stays_until_it_is_not(
    calendar: Calendar, keeper: str
) -> None:
    store, born_ms = calendar.store, calendar.now_ms
    one = packet(1)
    one.birth_ms = born_ms
    asks = step(9, birth_ms=born_ms)
    if keeper == "outbox":
        asks.outputs = [one]
    elif keeper == "schedule":
        asks.later = [Due(one, born_ms)]
    else:
        asks.opening = opening(2)
        asks.opening.source.birth_ms = born_ms
    commit = await store.commit([asks])

    await calendar.run(HORIZON_DAYS + 5)
    needed = await calendar.first()
    if keeper == "outbox":
        await store.forget([out.n for out in commit.leaving])
    elif keeper == "schedule":
        moved = await store.move_due(born_ms, 10)
        await store.forget([out.n for out in moved.leaving])
    else:
        async with calendar.database.connection() as connection:
            await connection.execute("update rolekit_days.sequence set state = 2")
    await store.keep_house(calendar.now_ms)

    assert needed == -HORIZON_DAYS - 5
    assert await calendar.first() == -HORIZON_DAYS


async def test_a_drop_waits_for_nobody(calendar: Calendar) -> None:
    await calendar.run(HORIZON_DAYS)
    day = await calendar.first() + calendar.now_ms // DAY_MS
    async with calendar.database.transaction() as connection:
        await connection.execute(f"lock table rolekit_days.inbox_{day} in share mode")
        begin = time.monotonic()
        await calendar.run(1)
        took_s = time.monotonic() - begin

    before = await calendar.first()
    await calendar.store.keep_house(calendar.now_ms)

    assert took_s < patient(3)
    assert before < -HORIZON_DAYS
    assert await calendar.first() == -HORIZON_DAYS


async def test_hosts_that_start_together_make_their_days_one_after_another(
    calendar: Calendar,
) -> None:
    database, tomorrow_ms = calendar.database, calendar.now_ms + DAY_MS
    inbox, day = f"{database.schema}.inbox", tomorrow_ms // DAY_MS + 3
    async with database.transaction() as other_host:
        await other_host.execute("select pg_advisory_xact_lock(hashtext($1))", inbox)
        await other_host.execute(
            f"create table {inbox}_{day} partition of {inbox}"
            f" for values from ({day}) to ({day + 1})"
        )
        making = asyncio.create_task(calendar.store.make_days(tomorrow_ms))
        async with database.connection() as looking:
            while not await looking.fetchval(  # noqa: ASYNC110 - a lock tells nobody
                "select count(*) from pg_locks where not granted"
            ):
                await asyncio.sleep(0.01)
    await making

    assert (await calendar.store.commit([step(1)])).fresh
