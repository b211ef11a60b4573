"""The user that instances should be on Postgres: it owns nothing, and creates nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolekit.database import Database

WORKER = "worker"
_MAKE = f"""
do $$ begin create role {WORKER} login; exception when duplicate_object then null; end $$;
revoke create on schema public from public;
alter default privileges grant usage on schemas to {WORKER};
alter default privileges grant select, insert, update, delete on tables to {WORKER};
alter default privileges grant usage on sequences to {WORKER};
alter default privileges grant execute on functions to {WORKER};
"""


async def worker_of(database: Database) -> str:
    """Make a user who may use what the owner makes from now on; return its URL.

    The grants are those of `docs/how-to/deploy.md`.

    Args:
        database: As its owner sees it, on a server that trusts.
    """
    async with database.connection() as connection:
        await connection.execute(_MAKE)
    scheme, _, rest = database.url.partition("://")
    return f"{scheme}://{WORKER}@{rest.partition('@')[2]}"
