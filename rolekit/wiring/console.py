"""What a dashboard asks the database of an app, over one pool that stays open."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from rolekit.bell import Bell
from rolekit.database import Database
from rolekit.store.postgres import PostgresStore
from rolekit.store.postgres.audit import AuditLog
from rolekit.store.postgres.traces import TraceStore
from rolekit.wiring.broker import joins_store
from rolekit.wiring.operator import DeadLetters, holes_of
from rolekit.wiring.parts import carry_by_notify, load_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.config import Config
    from rolekit.flow.holes import Line
    from rolekit.model.span import Span
    from rolekit.store.base import DeadLetterRow
    from rolekit.store.letters import Letters
    from rolekit.store.postgres.audit import Act
    from rolekit.store.postgres.traces import Kept


class AppConsole:
    """Sequences, dead letters and traces of one app, and who changed something of it."""

    def __init__(
        self,
        store: PostgresStore,
        letters: DeadLetters,
        traces: TraceStore,
    ) -> None:
        self._store = store
        self._letters = letters
        self._traces = traces

    async def holes(self, limit: int) -> Sequence[Line]:
        """Return the sequences in flight, and what each waits for."""
        return await holes_of(self._store, limit)

    async def letters(self, which: Letters, limit: int) -> Sequence[DeadLetterRow]:
        """Return dead letters, newest first."""
        return await self._letters.list(which, limit=limit)

    async def letter(self, id_: str) -> tuple[DeadLetterRow, str]:
        """Return one, with its body as text."""
        return await self._letters.show(id_)

    async def replay(self, ids: Sequence[str]) -> int:
        """Send these again; return how many were."""
        return await self._letters.replay(ids)

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these; return how many were open."""
        return await self._letters.drop(ids)

    async def note(self, act: Act) -> None:
        """Keep what an operator did."""
        await self._letters.note(act)

    async def traces(self, limit: int) -> Sequence[Kept]:
        """Return the newest traces."""
        return await self._traces.newest(limit)

    async def trace(self, id_: str) -> Sequence[Span]:
        """Return the spans of a trace, or of the newest trace of a message."""
        found = await self._traces.of(id_)
        return found[0] if found else ()


@asynccontextmanager
async def open_console(config: Config) -> AsyncGenerator[AppConsole]:
    """Open what the database says of the app that the settings name."""
    app = load_app(config.app)
    database = Database(config.database, app.name)
    store = PostgresStore(database, joins=joins_store(config.database, config.broker))
    bell = Bell(carry_by_notify(database, 0))
    carrying = asyncio.create_task(bell.run())
    try:
        letters = DeadLetters(store, bell, app.plan(), AuditLog(database))
        yield AppConsole(store, letters, TraceStore(database))
    finally:
        carrying.cancel()
        with suppress(asyncio.CancelledError):
            await carrying
        await database.close()
