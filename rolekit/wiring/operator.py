"""Dead letters, for the command line."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rolekit.bell import Bell
from rolekit.database import Database
from rolekit.store.postgres import PostgresStore
from rolekit.wiring.parts import carry_by_notify, joins_store, load_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.config import Config
    from rolekit.store.base import DeadLetterRow


class DeadLetters:
    """Open dead letters of one app."""

    def __init__(self, store: PostgresStore, bell: Bell) -> None:
        self._store = store
        self._bell = bell

    async def list(self, *, handler: str = "", limit: int = 100) -> Sequence[DeadLetterRow]:
        """Return open dead letters, newest first."""
        return await self._store.dead_letters(handler=handler or None, limit=limit)

    async def show(self, id_: str, /) -> DeadLetterRow | None:
        """Return one, open or closed; None: there is none of this id."""
        found = await self._store.dead_letters(ids=[id_], limit=1)
        return found[0] if found else None

    async def replay(self, ids: Sequence[str], *, force: bool = False) -> int:
        """Send these again; return how many were. Closed ones are left out."""
        commit = await self._store.replay(ids, force=force)
        self._bell.ring(commit.topics)
        return len(commit.fresh)

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these; return how many were open."""
        return await self._store.drop(ids)


@asynccontextmanager
async def dead_letters(config: Config) -> AsyncGenerator[DeadLetters]:
    """Open the dead letters of the app that the settings name."""
    app = load_app(config.app)
    database = Database(config.database, app.name)
    joins = joins_store(config.database, config.broker)
    try:
        bell = Bell(carry_by_notify(database, 0))
        carrying = asyncio.create_task(bell.run())
        yield DeadLetters(PostgresStore(database, joins=joins), bell)
        carrying.cancel()
    finally:
        await database.close()
