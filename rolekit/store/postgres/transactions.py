"""Transactions that the user's code works in: `ctx.tx`, and those outside of a step."""

from __future__ import annotations

from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

import asyncpg

from rolekit.database import Database, end, roll_back, translated
from rolekit.errors import WriteFailed
from rolekit.refusals import is_refusal, refused
from rolekit.store.base import Commit, Step, Taken

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.store.postgres.steps import StepStore


class OpenTransaction:
    """A transaction that the user's code works in, with the inbox row taken."""

    def __init__(
        self, store: StepStore, database: Database, key: tuple[str, int], delete_claims: str
    ) -> None:
        self._delete_claims = delete_claims
        self.transaction: Statements
        self._store = store
        self._db = database
        self._key = key
        self._stack = AsyncExitStack()
        self._connection: Pooled
        self._is_over = False

    async def open(self, insert_inbox: str, row: Sequence[str]) -> None:
        """Begin, and take the row; somebody else's uncommitted row is waited for."""
        try:
            await self._stack.enter_async_context(self._store.tx_slots)
            self._connection = await self._stack.enter_async_context(self._db.borrowed())
        except BaseException:
            await self._stack.aclose()
            raise
        self.transaction = Statements(self._connection, self._key[0])
        try:
            with translated():
                await self._connection.execute(self._db.begin)
                taken = await self._connection.fetch(insert_inbox, *row)
        except BaseException:
            await self.abandon()
            raise
        if not taken:
            await self.abandon()
            raise Taken(*self._key)

    async def finish(self, step: Step) -> Commit:
        """Commit the rest of the step with what the transaction did.

        From here on the transaction is this method's: `abandon` leaves it alone.
        """
        self._is_over = True
        commit = Commit(fresh={self._key})
        try:
            with translated():
                # A partition's row must not be locked while the user's code runs.
                await self._store.begin_keyed(self._connection, [step])
                if step.claim is not None:
                    await self._connection.execute(self._delete_claims, [step.claim])
                await self._store.effects(self._connection, [step], commit)
                await commit_tidied(self._db, self._connection)
        except BaseException:
            self._db.doubt()  # the stack ends as if nothing had been raised
            await self._roll_back()
            raise
        await self._stack.aclose()
        return commit

    async def abandon(self) -> None:
        """Roll everything back."""
        if not self._is_over:
            self._is_over = True
            await self._roll_back()

    async def _roll_back(self) -> None:
        try:
            await roll_back(self._connection, then=self._db.tidy)
        finally:
            await self._stack.aclose()


async def commit_tidied(database: Database, connection: Pooled) -> None:
    """Commit a transaction of the user's, and undo what its statements set besides."""
    if database.is_pooled:
        # Before the commit: after it the connection of the server may be another's.
        await connection.execute(f"{database.tidy}; commit")
        return
    await connection.execute("commit")
    try:
        await connection.execute(database.tidy)
    except Exception:  # noqa: BLE001 - it is committed: only the connection is lost
        end(connection)


class Statements:
    """What `ctx.tx` runs its statements on; where one fails, `message_id` says of whom."""

    def __init__(self, connection: Pooled, message_id: str = "") -> None:
        self._connection = connection
        self._message_id = message_id

    @property
    def driver_connection(self) -> object:
        """The connection of asyncpg."""
        return self._connection

    async def execute(self, sql: str, args: Sequence[object]) -> int:
        """Run one statement; return the rows touched."""
        with translated(), self._blamed(sql):
            return rows_of(await self._connection.execute(sql, *args))

    async def fetch(self, sql: str, args: Sequence[object]) -> list[Mapping[str, object]]:
        """Run one query; return its rows."""
        with translated(), self._blamed(sql):
            found: list[asyncpg.Record] = await self._connection.fetch(sql, *args)
        return [dict(row) for row in found]

    def _blamed(self, sql: str) -> AbstractContextManager[None]:
        return blamed(self._connection, self._message_id, sql)


@contextmanager
def blamed(connection: Pooled, message_id: str, sql: str) -> Generator[None]:
    """Blame a statement for what the server, or asyncpg itself, refuses.

    asyncpg raises one error for too many arguments and for a connection that is gone; only
    the latter may be tried again.
    """
    try:
        yield
    except asyncpg.InterfaceError as error:
        if connection.is_closed():
            raise
        raise WriteFailed(
            f"A statement cannot be sent to Postgres: {error}. The statement: {sql}"
        ) from None
    except asyncpg.PostgresError as error:
        if not is_refusal(error):
            raise
        raise refused(error, message_id, sql) from None


def rows_of(status: str) -> int:
    """Read the number of rows from a command tag such as "UPDATE 3"."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
