"""The servers themselves, for load tests: their versions, and to cut their sessions."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rolekit.database import Database, load_queries
from rolekit.errors import RolekitError
from rolekit.wiring.broker import rabbit_transport
from rolekit.wiring.holding import is_rabbit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PART = "load"
_NAME_CHARS = 63
"""Postgres cuts longer names of sessions."""


async def server_versions(database: str, broker: str) -> Mapping[str, str]:
    """Say which version each server is; of one that does not answer, nothing."""
    found: dict[str, str] = {}
    with suppress(RolekitError, OSError):
        there = Database(database, _PART)
        try:
            async with there.connection() as connection:
                version = str(await connection.fetchval("show server_version"))
        finally:
            await there.close()
        found["PostgreSQL"] = version.partition(" ")[0]
    if is_rabbit(broker):
        with suppress(RolekitError, OSError):
            rabbit = rabbit_transport(_PART, broker)
            try:
                await rabbit.start()
                found["RabbitMQ"] = rabbit.server_version
            finally:
                await rabbit.stop()
    return found


async def cut_sessions(database: str, app: str, roles: Sequence[str]) -> int:
    """End the sessions of instances in the middle of whatever they do.

    Returns:
        How many there were.

    Raises:
        Unavailable: The database cannot be reached.
    """
    there = Database(database, app)
    names = [f"rolekit {app} {role}"[:_NAME_CHARS] for role in roles]
    try:
        sql = load_queries("rolekit.store.sql", "host.sql", there.schema)["cut_sessions"]
        async with there.connection() as connection:
            return int(await connection.fetchval(sql, names))
    finally:
        await there.close()
