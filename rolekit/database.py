"""One Postgres database as this process sees it: pool, named queries, errors by meaning.

Opens no connection before it is asked for one, and closes those that are idle, so a
thousand instances that do not write hold no connection.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from rolekit.connections import Connections, Pooled
from rolekit.errors import ConfigError, Contended, RolekitError, TooOld, Unavailable
from rolekit.refusals import AWAY, CONTENDED, has_no_day, refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping

CONNECT_S = 5.0
STATEMENTS = 100
"""That a connection keeps prepared: what asyncpg takes by default."""
IDLE_CONNECTION_S = 60.0
COMMAND_S = 75.0
"""Beyond the server's own time-out: then the server is gone without a word."""
DOUBT_S = 75.0
"""What was under way when its answer was lost has ended by then: see the time-outs below."""
SESSION = {
    "statement_timeout": "60s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
    "tcp_user_timeout": "10s",
    "client_connection_check_interval": "5s",
}
"""The server ends what hangs, since a client that hangs cannot.

Source: RELIABILITY E10, E11, H19.
"""


_TIDY = "select pg_advisory_unlock_all(); close all; unlisten *; reset all"
_TIDY_POOLED = f"{_TIDY}; deallocate all; set client_encoding = 'UTF8'"
"""Drivers that prepare statements by name would meet each other's names. A pooler's own
connection was not opened with the encoding that asyncpg counts on."""


class _Connection(asyncpg.Connection):
    """Leaves out the reset query, a round trip for each time a connection is given back.

    rolekit sets nothing in a session that a later user could notice; `ctx.tx` resets its
    connection itself.
    """

    def get_reset_query(self) -> str:
        """Return nothing to run."""
        return ""


def redacted(url: str) -> str:
    """Return a URL with its password hidden, for logs and sentences."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = f"{parts.username}:********@" if parts.username else ":********@"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, user + host, parts.path, parts.query, parts.fragment))


def schema_of(app: str) -> str:
    """Return the schema that holds an app's tables.

    Raises:
        ConfigError: The name has characters that a schema cannot have.
    """
    name = re.sub(r"[-.]", "_", app.lower())
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", name):
        raise ConfigError(
            f"The app is called {app!r}; a name has 1 to 48 letters, digits, '-', '.' or '_' "
            "and begins with a letter.",
            fix="Change App(name).",
        )
    return f"rolekit_{name}"


@cache
def load_queries(package: str, file: str, schema: str) -> Mapping[str, str]:
    """Read named queries: `-- name: what it does.` above each; `{s}` stands for the schema.

    Read once: nobody changes what is returned.
    """
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    found = re.split(r"^-- (\w+): .*$", text, flags=re.MULTILINE)
    return {
        name: body.strip().rstrip(";").replace("{s}", schema)
        for name, body in zip(found[1::2], found[2::2], strict=True)
    }


@contextmanager
def translated() -> Generator[None]:
    """Raise errors by what they mean for a step.

    Raises:
        Unavailable: No answer, or none that tells the outcome.
        Contended: Somebody else held a lock; nothing was done.
        TooOld: The inbox has no day for this message.
        WriteFailed: The server refused a statement.
    """
    try:
        yield
    except RolekitError:
        raise
    except CONTENDED as error:
        raise Contended(f"Postgres gave way: {error}.") from error
    except AWAY as error:
        raise Unavailable(
            f"Postgres cannot be reached: {str(error) or type(error).__name__}."
        ) from error
    except asyncpg.PostgresError as error:
        if has_no_day(error):
            raise TooOld("Too old, perhaps done: the inbox no longer has its day.") from error
        raise refused(error) from None


def _set_local() -> Generator[str]:
    for name, value in SESSION.items():
        yield f"set local {name} = '{value}'"


async def roll_back(connection: Pooled, then: str = "") -> None:
    """End a transaction without its effects, and run `then` in the same message.

    Never raises: a connection that is broken ends, and that rolls back too.
    """
    try:
        await connection.execute(f"rollback; {then}" if then else "rollback")
    except Exception:  # noqa: BLE001 - see above
        end(connection)


def end(connection: Pooled) -> None:
    """Break a connection; one that is lost the pool may have taken back already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


class Database:
    """A lazily opened pool of connections.

    Args:
        url: `postgresql://…`.
        app: Name of the app, for its schema and in the server's list of sessions.
        max_connections: Open at most so many at once.
        part: What of the app connects, for the server's list of sessions too.
        before_use: Called before a connection is used, so that what must be known before a
            commit can be told; must not raise.
        is_pooled: The URL leads to a pooler that gives another connection of the server to
            each transaction, such as PgBouncer in transaction mode. Then each statement is
            part of a transaction, which brings its own time-outs, and none stays prepared.

    Attributes:
        begin: Begins a transaction.
        tidy: Undoes whatever somebody else's statements set on a connection, since the pool
            resets nothing. To be sent together with the end of a transaction if `is_pooled`:
            after it, another connection may be meant.
    """

    def __init__(
        self,
        url: str,
        app: str,
        *,
        part: str = "",
        max_connections: int = 8,
        is_pooled: bool = False,
        before_use: Callable[[], None] | None = None,
    ) -> None:
        self.url = url
        self.is_pooled = is_pooled
        self.begin = "; ".join(("begin", *_set_local())) if is_pooled else "begin"
        self.tidy = _TIDY_POOLED if is_pooled else _TIDY
        self.schema = schema_of(app)
        self._before_use = before_use
        self._name = f"rolekit {app} {part}".rstrip()
        self.max_connections = max_connections
        self._connections = Connections(self._open_pool)
        self._doubted_at = -math.inf
        self._to_tell: list[Callable[[], None]] = []

    def on_doubt(self, tell: Callable[[], None]) -> None:
        """Have this called whenever an answer was lost, see `is_in_doubt`."""
        self._to_tell.append(tell)
        if self.is_in_doubt:
            tell()

    def doubt(self) -> None:
        """Note that an answer was lost, and tell all who asked."""
        self._doubted_at = time.monotonic()
        for tell in self._to_tell:
            tell()

    @property
    def is_in_doubt(self) -> bool:
        """Whether something may have been committed, or may be yet, whose answer was lost."""
        return time.monotonic() - self._doubted_at < DOUBT_S

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Pooled]:
        """Borrow a connection; through a pooler, with a transaction open.

        Raises:
            Unavailable: None can be had in time.
        """
        async with self._used() as connection:
            if not self.is_pooled:
                yield connection
                return
            async with self._begun(connection):
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Pooled]:
        """Borrow a connection with a transaction open; it commits at the end.

        Raises:
            Unavailable: None can be had in time.
        """
        async with self._used() as connection, self._begun(connection):
            yield connection

    @asynccontextmanager
    async def trial(self) -> AsyncGenerator[Pooled]:
        """Borrow a connection with a transaction open, of which nothing stays.

        Raises:
            Unavailable: None can be had in time.
        """
        async with self._used() as connection:
            try:
                await connection.execute(self.begin)
                yield connection
            finally:
                await roll_back(connection)

    @asynccontextmanager
    async def _begun(self, connection: Pooled) -> AsyncGenerator[None]:
        try:
            # With the time-outs in one message: a round trip less, and no moment without.
            await connection.execute(self.begin)
            yield
            await connection.execute("commit")
        except BaseException:
            await roll_back(connection)
            raise

    @asynccontextmanager
    async def _used(self) -> AsyncGenerator[Pooled]:
        with translated():
            kept = await self._connections.take()
            with self._doubted():
                try:
                    if self._before_use is not None:
                        self._before_use()
                    yield kept.connection
                except BaseException:
                    await self._connections.give_back(kept)
                    raise
                await self._connections.put(kept)

    @contextmanager
    def _doubted(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            self.doubt()
            raise

    @asynccontextmanager
    async def borrowed(self) -> AsyncGenerator[Pooled]:
        """Borrow a connection for code that is not ours: what it raises is left as it is.

        It comes from the pool and goes back there, so that whoever holds on to it cannot meet
        those who use it next.

        Raises:
            Unavailable: None can be had in time.
        """
        with translated():
            connection = await self._connections.acquire()
        with self._doubted():
            try:
                if self._before_use is not None:
                    self._before_use()
                yield connection
            finally:
                await self._connections.release(connection)

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use, and how many are open besides."""
        return self._connections.counts

    async def dedicated(self) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection outside the pool, to listen on.

        Raises:
            Unavailable: It cannot be opened.
        """
        with translated():
            return await asyncpg.connect(
                self.url, timeout=CONNECT_S, server_settings=self._session
            )

    @property
    def _session(self) -> dict[str, str]:
        named = {"application_name": self._name}
        # A pooler refuses to connect with settings that it does not know.
        return named if self.is_pooled else {**SESSION, **named}

    async def _open_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        # With min_size 0 this connects to nothing.
        return await asyncpg.create_pool(
            self.url,
            min_size=0,
            max_size=self.max_connections,
            max_inactive_connection_lifetime=IDLE_CONNECTION_S,
            timeout=CONNECT_S,
            command_timeout=COMMAND_S,
            connection_class=_Connection,
            statement_cache_size=0 if self.is_pooled else STATEMENTS,
            server_settings=self._session,
        )

    async def close(self) -> None:
        """Close every connection, at once if they do not end in time. Safe to call twice."""
        self._connections.close()
