"""What an operator asks for on the command line: dead letters, and holes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from rolekit.bell import Bell
from rolekit.clock import SystemClock
from rolekit.database import Database
from rolekit.errors import CodecError, ConfigError, RolekitError, UnknownType
from rolekit.flow.holes import Line, explain
from rolekit.flow.letters import answered_by, with_body
from rolekit.model.codec import Codec
from rolekit.model.envelope import Head, encode_head
from rolekit.model.message import wire_of
from rolekit.store.letters import Letters, readable
from rolekit.store.postgres import PostgresStore
from rolekit.store.postgres.audit import AuditLog
from rolekit.store.postgres.traces import TraceStore
from rolekit.wiring.broker import joins_store
from rolekit.wiring.parts import carry_by_notify, load_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.config import Config
    from rolekit.model.plan import AppPlan
    from rolekit.model.span import Span
    from rolekit.store.base import DeadLetterRow
    from rolekit.store.postgres.audit import Act


class DeadLetters:
    """Dead letters of one app."""

    def __init__(
        self, store: PostgresStore, bell: Bell, plan: AppPlan, audit: AuditLog
    ) -> None:
        self._store = store
        self._bell = bell
        self._plan = plan
        self._audit = audit

    async def list(self, which: Letters, *, limit: int) -> Sequence[DeadLetterRow]:
        """Return those that are meant, newest first."""
        return await self._store.dead_letters(which, limit=limit)

    async def show(self, id_: str, /) -> tuple[DeadLetterRow, str]:
        """Return one, open or closed, and its body as text.

        Raises:
            RolekitError: There is none that begins so, or there are several.
        """
        row = await self._one(id_)
        return row, _text_of(row)

    async def replay(
        self, ids: Sequence[str], *, force: bool = False, answered: bool = False
    ) -> int:
        """Send these again; return how many were. Closed ones are left out."""
        commit = await self._store.replay(ids, force=force, answered=answered)
        self._bell.ring(commit.topics)
        return len(commit.fresh)

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these; return how many were open."""
        return await self._store.drop(ids)

    async def edit(self, id_: str, data: bytes, /) -> DeadLetterRow:
        """Change the message of one that is open to what this JSON says.

        Raises:
            ConfigError: It is no such message; nothing was changed.
            RolekitError: There is no such dead letter, it is closed, or nobody knows what
                its message is.
        """
        row = await self._one(id_)
        head = readable(row.packet.head)
        if head is None or not head.type:
            raise RolekitError(
                f"What message {row.id} was cannot be read, so it cannot be edited.",
                fix="Drop it, and send another message instead.",
            )
        head, body = self._encoded(row, head, data)
        if not await self._store.edit(row.id, encode_head(head), body):
            raise RolekitError(f"{row.id} is closed already; nothing was changed.")
        return row

    async def note(self, act: Act) -> None:
        """Keep what an operator did to some of them."""
        await self._audit.note(act)

    def _encoded(self, row: DeadLetterRow, head: Head, data: bytes) -> tuple[Head, bytes]:
        plan = self._plan
        cls = plan.types.get(head.type)
        if cls is None:
            raise RolekitError(
                f"No message of this app is called {head.type!r}; nothing was changed.",
                fix="Name the app that knows it.",
            )
        codec = Codec(plan.types, plan.wire_names, plan.codec)
        try:
            message = codec.decode(plan.wire_names[cls], wire_of(cls).version, "json", data)
            name, version, body = codec.encode(message)
        except (CodecError, UnknownType) as error:
            raise ConfigError(f"Nothing was changed. {error.what}", fix=error.fix) from error
        edited = msgspec.structs.replace(
            head, type=name, type_version=version, codec=codec.default
        )
        return edited, with_body(head, row.packet.body, body)

    async def _one(self, id_: str) -> DeadLetterRow:
        """Return the one whose id begins so, in whatever state."""
        which = Letters(prefixes=(id_,), closed=True)
        rows = await self._store.dead_letters(which, limit=3)
        exact = [row for row in rows if row.id == id_]
        if not rows or not id_:
            raise RolekitError(
                f"There is no dead letter {id_}.", fix="`rolekit dead list` has all."
            )
        if len(rows) > 1 and not exact:
            names = " and ".join(row.id for row in rows[:2])
            raise RolekitError(
                f"Several dead letters begin with {id_}, such as {names}.",
                fix="Write more of the id.",
            )
        return exact[0] if exact else rows[0]


def _text_of(row: DeadLetterRow) -> str:
    """Return the body of a dead letter as a person can read it, as JSON where it can be."""
    head = readable(row.packet.head) or Head()
    notice = answered_by(head, row.packet.body)
    body = row.packet.body if notice is None else notice.body
    if head.codec == "msgpack":
        with suppress(msgspec.DecodeError, TypeError, ValueError):  # then as it is
            body = msgspec.json.encode(msgspec.msgpack.decode(body))
    return body.decode("utf-8", "backslashreplace")


@asynccontextmanager
async def dead_letters(config: Config) -> AsyncGenerator[DeadLetters]:
    """Open the dead letters of the app that the settings name."""
    app = load_app(config.app)
    async with _opened(config.database, app.name) as database:
        bell = Bell(carry_by_notify(database, 0))
        carrying = asyncio.create_task(bell.run())
        yield DeadLetters(_store(config, database), bell, app.plan(), AuditLog(database))
        carrying.cancel()


async def traces_of(config: Config, id_: str) -> list[list[Span]]:
    """Return the traces of a message, or the trace of that id, the newest first."""
    async with open_traces(config.database, load_app(config.app).name) as traces:
        return await traces.of(id_)


async def acts(config: Config, limit: int) -> list[Act]:
    """Return what operators did with the app, the newest first."""
    async with _opened(config.database, load_app(config.app).name) as database:
        return await AuditLog(database).newest(limit)


@asynccontextmanager
async def open_traces(database_url: str, app_name: str) -> AsyncGenerator[TraceStore]:
    """Open the traces that an app keeps; nothing is asked before."""
    async with _opened(database_url, app_name) as database:
        yield TraceStore(database)


async def holes_of(store: PostgresStore, limit: int) -> Sequence[Line]:
    """Say which sequences of a store are open, and what each waits for."""
    flights = await store.flights(limit)
    names = [flight.id for flight in flights]
    held = await store.held(names, [flight.source_id for flight in flights])
    return explain(flights, held, SystemClock().now_ms())


async def holes(config: Config, limit: int) -> Sequence[Line]:
    """Say which sequences of the app are open, and what each waits for."""
    async with _opened(config.database, load_app(config.app).name) as database:
        return await holes_of(_store(config, database), limit)


@asynccontextmanager
async def _opened(database_url: str, app_name: str) -> AsyncGenerator[Database]:
    database = Database(database_url, app_name)
    try:
        yield database
    finally:
        await database.close()


def _store(config: Config, database: Database) -> PostgresStore:
    return PostgresStore(database, joins=joins_store(config.database, config.broker))
