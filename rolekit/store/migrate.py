"""The schema of an app: numbered migrations, applied under a lock, one way."""

from __future__ import annotations

import re
import time
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from rolekit.database import redacted
from rolekit.errors import ConfigError, WriteFailed
from rolekit.store import rights
from rolekit.store.postgres import PostgresStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.connections import Pooled
    from rolekit.database import Database

LOCK = 7_041_966_213
"""An advisory lock that every rolekit takes before it changes a schema."""

UNSAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


async def migrate(database: Database) -> list[str]:
    """Bring the app's schema up to date; several may call it at once.

    Who may not change a schema makes do with one that is up to date.

    Returns:
        Names of the migrations that were applied.

    Raises:
        ConfigError: A newer rolekit has been here; or something has to be made, or done by
            every process of the app, that this user may not.
        Unavailable: The server cannot be reached.
    """
    done: list[str] = []
    async with _sentences(database):
        if await _missing(database):
            done = await _apply(database)
    await rights.check(database)
    await PostgresStore(database).make_days(time.time_ns() // 1_000_000)
    return done


async def _missing(database: Database) -> list[str]:
    """List what a look without any lock finds missing: mostly nothing."""
    table = f"{database.schema}.migration"
    async with database.connection() as connection:
        if not await connection.fetchval("select to_regclass($1) is not null", table):
            return [name for name, _ in _migrations()]
        applied = await _applied(connection, database.schema)
    return [name for name, _ in _migrations() if name not in applied]


async def _apply(database: Database) -> list[str]:
    schema = database.schema
    done: list[str] = []
    async with database.transaction() as connection:
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(f"create schema if not exists {schema}")
        await connection.execute(
            f"create table if not exists {schema}.migration (number int primary key,"
            " name text not null, at timestamptz not null default now())"
        )
        applied = await _applied(connection, schema)
        for name, sql in _migrations():
            if name in applied:
                continue
            # By name: what was written side by side may come in another order.
            number = max(applied.values(), default=0) + 1
            await connection.execute(sql.replace("{s}", schema))
            await connection.execute(
                f"insert into {schema}.migration (number, name) values ($1, $2)",  # noqa: S608 - schema_of checked it
                number,
                name,
            )
            applied[name] = number
            done.append(name)
    return done


async def _applied(connection: Pooled, schema: str) -> dict[str, int]:
    """Return the number of each migration that was applied, by name.

    Raises:
        ConfigError: One of them is not known here.
    """
    found = await connection.fetch(
        f"select number, name from {schema}.migration"  # noqa: S608 - schema_of checked it
    )
    applied = {row["name"]: row["number"] for row in found}
    newer = sorted(applied.keys() - {name for name, _ in _migrations()})
    if newer:
        raise ConfigError(
            f"The database has migration {newer[-1]}, which this rolekit does not know.",
            fix="Upgrade rolekit on this host.",
        )
    return applied


@asynccontextmanager
async def _sentences(database: Database) -> AsyncGenerator[None]:
    """Say what a user lacks who may not look at the schema, or may not change it."""
    try:
        yield
    except WriteFailed as error:
        if error.sqlstate != rights.INSUFFICIENT:
            raise
        raise ConfigError(
            f"The schema {database.schema} in {redacted(database.url)} is not up to date, or "
            f"cannot be read, and this user may not change that: {error.detail}.",
            fix="Run `rolekit migrate` as the user that owns it, which grants this one what "
            "it needs where default privileges say so: see docs/how-to/deploy.md.",
        ) from error


def _migrations() -> list[tuple[str, str]]:
    folder = files("rolekit.store.sql.migrations")
    named = sorted(f.name for f in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", f.name))
    return [(name[:-4], folder.joinpath(name).read_text(encoding="utf-8")) for name in named]


async def check_server(database: Database, *, allow_unsafe: bool = False) -> None:
    """Refuse a server that may forget what it said was committed.

    Raises:
        ConfigError: Its settings are unsafe, or it is older than PostgreSQL 14.
        Unavailable: It cannot be reached.
    """
    async with database.connection() as connection:
        version = int(await connection.fetchval("show server_version_num"))
        found = {name: await connection.fetchval(f"show {name}") for name in UNSAFE}
    if version < 140_000:  # noqa: PLR2004 - client_connection_check_interval came with 14
        raise ConfigError(
            f"The server is PostgreSQL {version // 10_000}; 14 or newer is needed.",
            fix="Upgrade the server.",
        )
    unsafe = [f"{name} = {found[name]}" for name, bad in UNSAFE.items() if found[name] == bad]
    if unsafe and not allow_unsafe:
        raise ConfigError(
            f"The Postgres server may lose what it confirmed: {', '.join(unsafe)}.",
            fix="Switch these on; or set ROLEKIT_ALLOW_UNSAFE_DATABASE=1 to accept loss.",
        )
