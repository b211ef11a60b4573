"""Timers, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.database import Database
from rolekit.errors import WriteFailed
from rolekit.store.postgres import PostgresStore

if TYPE_CHECKING:
    from rolekit.store.base import TimerRow


async def read_timers(app_name: str, database_url: str) -> list[TimerRow]:
    """Read when the handlers that are called by time are due; none before a first start."""
    database = Database(database_url, app_name)
    try:
        return await PostgresStore(database).timers()
    except WriteFailed:
        return []  # there is no schema yet
    finally:
        await database.close()
