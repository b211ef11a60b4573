"""From one app to another in the same database: from our queue into theirs, in one commit.

What is for another app waits in a queue of ours until a relay moves it, so that a commit of
ours never depends on tables that are somebody else's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from rolekit.database import Database, load_queries, schema_of
from rolekit.errors import WriteFailed
from rolekit.transport.base import INBOUND, OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Iterable

BATCH = 500
SAY_EVERY_S = 60.0

log = structlog.get_logger("rolekit.transport")


class Couriers:
    """Moves what is for other apps.

    Args:
        database: Where the queues of all of them are.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql: dict[str, dict[str, str]] = {}
        self._said_at: dict[str, float] = {}

    async def hand_over(self, queues: Iterable[str]) -> None:
        """Move what waits in those of these queues that are for other apps."""
        for queue in sorted(queues):
            if queue.startswith(OUTSIDE):
                await self._hand_over(queue, queue.removeprefix(OUTSIDE))

    async def _hand_over(self, queue: str, app: str) -> None:
        schema, sql = schema_of(app), self._queries(app)
        while True:
            try:
                async with self._db.connection() as connection:
                    if not await connection.fetchval(sql["waits_for_other"], queue):
                        return
                    moved = await connection.fetchval(sql["hand_over"], queue, BATCH, INBOUND)
                    if moved:
                        await connection.execute(sql["wake"], schema, f">0\n{INBOUND}")
            except WriteFailed as error:
                self._say(app, str(error))
                return
            if moved < BATCH:
                return

    def _queries(self, app: str) -> dict[str, str]:
        if app not in self._sql:
            read = load_queries("rolekit.transport.sql", "queue.sql", self._db.schema)
            self._sql[app] = {
                name: text.replace("{other}", schema_of(app)) for name, text in read.items()
            }
        return self._sql[app]

    def _say(self, app: str, error: str) -> None:
        """Say why nothing is handed over, now and then."""
        now = time.monotonic()
        if now - self._said_at.get(app, -SAY_EVERY_S) >= SAY_EVERY_S:
            self._said_at[app] = now
            log.warning(
                "what is for another app waits: that was never started in this database, or "
                "runs on a broker",
                app=app,
                fix=f"start {app} once, with the same ROLEKIT_DATABASE and without a broker",
                error=error,
            )
