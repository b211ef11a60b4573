"""Tables in days: made ahead, and dropped whole when nothing needs them.

A day of the inbox is over when the app has run on enough days since: a message that waited
while nothing ran is not too old for that. What is in the database and may still need a day
keeps it: the outbox, the schedule, waiting lists, and splits that are open.

Source: DESIGN 4.7; RELIABILITY H16.
"""

from __future__ import annotations

import math

import structlog

from rolekit.errors import Contended
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase

DAYS_AHEAD = 3
DAYS_BACK = 7
"""Days of the inbox that a new app begins with, so that a message which waited is known."""
LOCK_MS = 200
"""So long commits may wait behind the drop of a day; it is tried again a minute later."""

log = structlog.get_logger("rolekit.relay")


class Days(PostgresBase):
    """The days of the inbox, and of what was sent."""

    async def make_days(self, now_ms: int) -> None:
        """Make the days that are missing, up to some days ahead."""
        await self._make("inbox", now_ms, DAYS_BACK)
        await self._make("sent", now_ms, 1)

    async def _make(self, name: str, now_ms: int, back: int) -> None:
        today = rows.day_of(now_ms)
        table = f"{self._db.schema}.{name}"
        async with self._db.transaction() as connection:
            # Hosts that start together make them one after another: "if not exists" alone
            # still fails where two make one table in the same moment.
            await connection.execute("select pg_advisory_xact_lock(hashtext($1))", table)
            row = await connection.fetchrow(self._sql["days"], table)
            if row is None or not row["is_there"]:
                return  # an older schema
            last = row["last"]
            begin = today - back if last is None else last + 1
            end = today + DAYS_AHEAD
            if begin <= end:
                await connection.execute(self._sql["make_days"], name, begin, end)

    async def drop_days(self, now_ms: int) -> None:
        """Note that the app runs today; drop the days that are over."""
        days = math.ceil(self.horizon_s / 86_400)
        async with self._db.connection() as connection:
            await connection.execute(self._sql["ran_today"], rows.day_of(now_ms))
        for day in await self._spent("sent", days):
            await self._drop("sent", day)
        spent = await self._spent("inbox", days)
        if spent:
            await self._drop_of_inbox(spent)

    async def _spent(self, name: str, days: int) -> list[int]:
        """List the days of a table since which the app has run on more than so many days."""
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["spent_days"], f"{self._db.schema}.{name}", days
            )
        return [row["day"] for row in found]

    async def _drop_of_inbox(self, spent: list[int]) -> None:
        async with self._db.connection() as connection:
            needed_ms: int | None = await connection.fetchval(self._sql["needed_since"])
        for day in spent:
            if needed_ms is not None and day >= rows.day_of(needed_ms):
                break
            await self._drop("inbox", day)
        async with self._db.connection() as connection:
            days = await connection.fetchrow(self._sql["days"], f"{self._db.schema}.inbox")
            if days is not None and days["first"] is not None:
                await connection.execute(self._sql["drop_running_days"], days["first"])

    async def _drop(self, name: str, day: int) -> None:
        table = f"{self._db.schema}.{name}_{day}"
        try:
            async with self._db.transaction() as connection:
                await connection.execute(f"set local lock_timeout = {LOCK_MS}")
                await connection.execute(self._sql["drop_day"], name, day)
        except Contended:
            log.info("a day is dropped later: its table is in use", table=table)
        else:
            log.info("dropped a day that nothing needs any more", table=table)
