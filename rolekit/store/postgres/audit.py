"""What operators changed, in Postgres: bounded, and kept through a crash.

Source: RELIABILITY T7, T17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rolekit.database import load_queries

if TYPE_CHECKING:
    from rolekit.database import Database

KEPT = 10_000
"""So many of the newest are kept."""
_CHARS = 300


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator did.

    Attributes:
        at: When, seconds since 1970; 0: it is not kept yet.
        who: From where, and by what right; or which user of which machine.
        act: What was done, in a word: scale, restart, replay, drop, edit.
        what: To what: a role, a dead letter.
        outcome: What came of it, in words.
    """

    at: float = 0.0
    who: str
    act: str
    what: str
    outcome: str


class AuditLog:
    """What operators did with one app."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._sql = load_queries("rolekit.store.sql", "audit.sql", database.schema)

    async def note(self, act: Act) -> None:
        """Keep this; of long texts the beginning.

        Raises:
            Unavailable: The database cannot be reached.
        """
        texts = [text[:_CHARS] for text in (act.who, act.act, act.what, act.outcome)]
        async with self._db.connection() as connection:
            await connection.execute(self._sql["note"], *texts, KEPT)

    async def newest(self, limit: int) -> list[Act]:
        """Return the newest, the newest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(self._sql["newest"], limit)
        return [
            Act(
                at=row["at"].timestamp(),
                who=row["who"],
                act=row["act"],
                what=row["what"],
                outcome=row["outcome"],
            )
            for row in rows
        ]
