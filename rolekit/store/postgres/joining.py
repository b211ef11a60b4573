"""What is sent in a transaction that is somebody else's: `client.send(..., via=...)`.

It becomes rows that nobody holds, as if their sender had died: whoever relays finds them once
they are committed. The connection is the user's, so nothing is assumed of it: every name has
its schema, every argument is text or a number, since it may have codecs of its own, and the
statement looks for the row of this process's host, which only the app's own database has.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, cast

from rolekit import link
from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.store.base import OUTBOX, SCHEDULE, Due, Executes
from rolekit.store.postgres.steps import PostgresBase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rolekit.model.envelope import Packet

NOT_HERE = {"22012", "3F000", "42P01", "42703"}
"""No such row, schema, table or column: the database is not the app's."""
NO_TRANSACTION = "25P01"
NO_RIGHT = "42501"


class JoinStore(PostgresBase):
    """Rows in transactions of the user's."""

    _host: tuple[Any, ...] | None = None

    async def accept_via(
        self, via: Executes, packets: Sequence[Packet], later: Sequence[Due]
    ) -> set[str]:
        """Take in what a client sends, in a transaction that is somebody else's."""
        host = self._host = self._host or await self._who_we_are()
        await _check_open(via)
        topics: set[str] = set()
        if packets:
            name = "via_queue" if self._joins else "via_outbox"
            await self._execute(via, name, host, packets, self._clock.now_ms())
            topics |= {packet.queue for packet in packets} if self._joins else {OUTBOX}
        if later:
            due = [due.packet for due in later]
            await self._execute(via, "via_schedule", host, due, later[0].due_ms)
            topics.add(SCHEDULE)
        return topics

    async def _who_we_are(self) -> tuple[Any, ...]:
        epoch = self._owner >> link.OWNER_BITS
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["who_we_are"], epoch)
        if row is None:
            raise Unavailable("This host's lease is not in the database: it starts, or ends.")
        return tuple(row)

    async def _execute(
        self,
        via: Executes,
        name: str,
        host: tuple[Any, ...],
        packets: Sequence[Packet],
        at_ms: int,
    ) -> None:
        columns = (
            [packet.queue for packet in packets],
            [packet.id for packet in packets],
            [b64encode(packet.head).decode() for packet in packets],
            [b64encode(packet.body).decode() for packet in packets],
        )
        try:
            await via.execute(self._sql[name], *host, *columns, at_ms)
        except Exception as error:
            raise self._refusal(error) or error from error

    def _refusal(self, error: Exception) -> RolekitError | None:
        """Say what is wrong with a connection, where it is what it is connected to."""
        state, schema = _sqlstate(error), self._db.schema
        if state in NOT_HERE:
            return ConfigError(
                f"via= is connected to another database than the app: its tables, of schema "
                f"{schema}, are not there, or are a copy.",
                fix="Connect to the database that ROLEKIT_DATABASE names.",
            )
        if state == NO_RIGHT:
            return ConfigError(
                f"The user of via= may not send: it has no rights to the tables of {schema}.",
                fix=f"grant usage on schema {schema} to ...; grant select on {schema}.host, "
                f"insert on {schema}.queue, {schema}.outbox, {schema}.schedule, and usage on "
                f"all sequences in schema {schema}.",
            )
        return None


async def _check_open(via: Executes) -> None:
    """Refuse a connection on which each statement commits at once, such as a pool.

    A savepoint is allowed only within a transaction.
    """
    is_in_transaction = getattr(via, "is_in_transaction", None)
    if is_in_transaction is not None:
        if not cast("Callable[[], bool]", is_in_transaction)():
            raise _no_transaction()
        return
    try:
        await via.execute("savepoint rolekit_via")
        await via.execute("release savepoint rolekit_via")
    except Exception as error:
        if _sqlstate(error) == NO_TRANSACTION:
            raise _no_transaction() from error
        raise


def _no_transaction() -> RolekitError:
    return RolekitError(
        "client.send(via=...) was given a connection without an open transaction: the message "
        "would leave at once, whatever follows.",
        fix="Open one first: async with connection.transaction(). A pool has none.",
    )


def _sqlstate(error: BaseException | None) -> str:
    """Return what Postgres said, also where somebody wrapped it."""
    while error is not None:
        state = getattr(error, "sqlstate", None)
        if isinstance(state, str):
            return state
        error = error.__cause__
    return ""
