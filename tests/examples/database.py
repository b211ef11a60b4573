"""mailflow's tables on a fresh database, without a running app."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, LiteralString, TypeVar

import asyncpg
import msgspec

from examples.mailflow import schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    Connection = asyncpg.Connection[asyncpg.Record]

R = TypeVar("R")


class PlainTransaction:
    """What a role's `tx` gives, on a connection of the test's own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, sql: LiteralString, /, *args: object) -> int:
        tag = await self._connection.execute(sql, *args)
        return int(tag.rpartition(" ")[2]) if tag[-1].isdigit() else 0

    async def fetch(self, into: type[R], sql: LiteralString, /, *args: object) -> list[R]:
        rows = await self._connection.fetch(sql, *args)
        return [msgspec.convert(dict(row), into) for row in rows]

    async def fetch_one(self, into: type[R], sql: LiteralString, /, *args: object) -> R | None:
        rows = await self.fetch(into, sql, *args)
        return rows[0] if rows else None


class Tables:
    """A database with mailflow's tables and what a test puts into them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @contextlib.asynccontextmanager
    async def tx(self) -> AsyncGenerator[PlainTransaction]:
        """Open a transaction, as a role does."""
        async with self.connection.transaction():
            yield PlainTransaction(self.connection)

    async def letter(self, raw: bytes, *, mail_id: str, copies: int) -> None:
        """Put what the splitter writes."""
        await self.connection.execute(
            "insert into mail.letter values ($1, $2) on conflict do nothing",
            f"l-{mail_id}",
            raw,
        )
        await self.connection.execute(
            "insert into mail.sent values ($1, 'ada@mail.example', $2, $3, now())",
            mail_id,
            f"l-{mail_id}",
            copies,
        )

    async def row(
        self, owner: str, position: int, *, mail_id: str, folder: str = "inbox"
    ) -> None:
        """Put what the deliverer writes."""
        await self.connection.execute(
            "insert into mail.mailbox (owner, mail_id, position, sender, letter, folder, score,"
            " step_id, accepted_at) values ($1, $2, $3, 'ada@mail.example', $4, $5, 0, 's',"
            " clock_timestamp() - interval '250 ms')",
            owner,
            mail_id,
            position,
            f"l-{mail_id}",
            folder,
        )

    async def line(
        self, number: int, rcpt: str, *, mail_id: str, outcome: str = "delivered"
    ) -> None:
        """Put what the reporter writes."""
        await self.connection.execute(
            "insert into mail.report (mail_id, number, rcpt, outcome, detail)"
            " values ($1, $2, $3, $4, '')",
            mail_id,
            number,
            rcpt,
            outcome,
        )


@contextlib.asynccontextmanager
async def tables(url: str) -> AsyncGenerator[Tables]:
    """Make the tables, and an empty place for dead letters."""
    connection: Connection = await asyncpg.connect(url)
    try:
        found = Tables(connection)
        async with found.tx() as tx:
            await schema.create(tx)
        await connection.execute(
            "create schema rolekit_mailflow; create table rolekit_mailflow.dead_letter"
            " (id text, handler text, reason text, at_ms bigint, closed_at timestamptz)"
        )
        yield found
    finally:
        await connection.close()
