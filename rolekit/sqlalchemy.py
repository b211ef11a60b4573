"""SQLAlchemy beside rolekit: the step's transaction as a session, and sends in yours.

    async with session(ctx) as db:             in a handler: commits with the step
    await client.send(message, via=via(db))    anywhere else: leaves with your commit

Needs the extra `rolekit[sqlalchemy]`: SQLAlchemy 2, with asyncpg as its driver.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Never, cast

import asyncpg

from rolekit.database import translated
from rolekit.errors import Contended, RolekitError, Unavailable, WriteFailed
from rolekit.flow.context import Context, Transaction

try:
    from sqlalchemy import types
    from sqlalchemy.dialects import postgresql, registry
    from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import (
        AsyncConnection,
        AsyncEngine,
        AsyncSession,
        create_async_engine,
    )
    from sqlalchemy.pool import NullPool
except ImportError as error:
    raise ImportError(
        "rolekit.sqlalchemy needs SQLAlchemy 2, which is not installed. "
        "Install the extra: pip install 'rolekit[sqlalchemy]'."
    ) from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.store.base import Executes

__all__ = ["session", "via"]


@asynccontextmanager
async def session(ctx: Context[Never] | Transaction, /) -> AsyncGenerator[AsyncSession]:
    """Open a session on the connection, and in the transaction, of a step.

    What it did commits with the step, and not before: its own `commit` only ends a savepoint.
    At the end of the block what is pending is flushed. A block that raises is
    undone alone; the step goes on if the handler catches that.

    Args:
        ctx: Of a handler: opens `ctx.tx()`. Or a transaction, such as that of `WebRole.tx`.

    Raises:
        RolekitError: There is no database behind it, as in a test on the store in memory.
        Unavailable: The connection was lost; the step runs again, no attempt is used up.
        Contended: Others held locks; likewise.
        sqlalchemy.exc.DBAPIError: Whatever else Postgres refused.
    """
    transaction = await ctx.tx() if isinstance(ctx, Context) else ctx
    held = _Held(_driver_of(transaction))
    try:
        async with _connected(held) as connection, _session_on(connection) as opened:
            yield opened
            await opened.commit()
    except DBAPIError as error:
        _raise_translated(error, held)
        raise


def via(session: AsyncSession | AsyncConnection, /) -> Executes:
    """Let `client.send(..., via=...)` send in the transaction that SQLAlchemy is in.

    Args:
        session: On asyncpg, connected to the app's own database; a connection serves too.

    Raises:
        RolekitError: It is not one of these: a synchronous session would block the loop.
    """
    return _Via(_checked(session))


def _checked(session: object) -> AsyncSession | AsyncConnection:
    if isinstance(session, (AsyncSession, AsyncConnection)):
        return session
    raise RolekitError(
        f"via() was given a {type(session).__name__}; an AsyncSession or AsyncConnection of "
        "SQLAlchemy is expected.",
        fix="A synchronous session would keep the event loop waiting: use an async one.",
    )


class _Via:
    """Runs statements in the transaction of a session."""

    def __init__(self, session: AsyncSession | AsyncConnection) -> None:
        self._session = session

    async def execute(self, query: str, /, *args: object) -> object:
        """Run a statement, with $1, $2, ... for its arguments."""
        opened = self._session
        connection = await opened.connection() if isinstance(opened, AsyncSession) else opened
        if connection.dialect.driver != "asyncpg":
            raise RolekitError(
                f"via() was given a session on {connection.dialect.driver}; the driver "
                "asyncpg is expected.",
                fix="Make its engine with postgresql+asyncpg://…",
            )
        return await connection.exec_driver_sql(query, args)


class _Held:
    """A connection of asyncpg that is somebody else's: SQLAlchemy may use, not close it."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.held = connection

    def __getattr__(self, name: str) -> object:
        """Be the connection in everything else."""
        return getattr(self.held, name)

    def is_closed(self) -> bool:
        """Whether it is lost; a pool takes back at once what is."""
        try:
            return self.held.is_closed()
        except asyncpg.InterfaceError:
            return True

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as asyncpg has it
        """Leave it open."""

    def terminate(self) -> None:
        """Leave it open: rolekit rolls back, and looks whether it is broken."""


class Dialect(PGDialect_asyncpg):
    """Reads JSON from text: its own way changes the codecs of a connection for good."""

    supports_statement_cache = True
    # The first tells SQLAlchemy from 2.1 on, the second tells 2.0.
    supports_native_json_deserialization = False
    colspecs = {  # noqa: RUF012 - as in its base
        **PGDialect_asyncpg.colspecs,
        types.JSON: postgresql.JSON,
        postgresql.JSONB: postgresql.JSONB,
    }

    def on_connect(self) -> Any:  # noqa: ANN401 - as in its base
        """Change nothing."""


registry.register("postgresql.rolekit", __name__, Dialect.__name__)

_connecting: ContextVar[_Held] = ContextVar("connecting")


@cache
def _engine() -> AsyncEngine:
    """Make the engine of this process, which learns of the server once and holds nothing."""

    async def connect(*_: object, **__: object) -> _Held:
        return _connecting.get()

    return create_async_engine(
        "postgresql+rolekit://",
        async_creator=connect,
        poolclass=NullPool,
        # The transaction is begun and ended by rolekit, never by SQLAlchemy.
        isolation_level="AUTOCOMMIT",
    )


@asynccontextmanager
async def _connected(held: _Held) -> AsyncGenerator[AsyncConnection]:
    """Give SQLAlchemy the connection, in what it takes for a transaction of its own."""
    token = _connecting.set(held)
    try:
        connection = await _engine().connect()
    finally:
        _connecting.reset(token)
    async with aclosing(connection), connection.begin():
        yield connection


def _session_on(connection: AsyncConnection) -> AsyncSession:
    return AsyncSession(
        connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
    )


def _driver_of(transaction: Transaction) -> asyncpg.Connection[asyncpg.Record]:
    found: Any = getattr(transaction, "driver_connection", None)
    if found is None:
        raise RolekitError(
            f"session() was given a {type(transaction).__name__}, which is on no database.",
            fix="Give it the Context of a handler, or what WebRole.tx() gave. In a test, take "
            "the fixture rolekit_database.",
        )
    return cast("asyncpg.Connection[asyncpg.Record]", found)


def _raise_translated(error: DBAPIError, held: _Held) -> None:
    """Raise what is not the message's fault as such; leave the rest to SQLAlchemy."""
    cause = None if error.orig is None else error.orig.__cause__
    if not isinstance(cause, Exception):
        return
    try:
        with translated():
            raise cause
    except WriteFailed:
        return
    except Unavailable as found:
        if held.is_closed() or not isinstance(cause, asyncpg.InterfaceError):
            raise found from error
    except Contended as found:
        raise found from error
