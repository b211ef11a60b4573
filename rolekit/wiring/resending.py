"""What was sent, sent again, for the command line."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rolekit.database import Database
from rolekit.errors import ConfigError
from rolekit.store.postgres import PostgresStore
from rolekit.wiring.broker import joins_store
from rolekit.wiring.parts import load_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from rolekit.config import Config
    from rolekit.model.envelope import Packet
    from rolekit.store.sent import SentBetween

ROWS = 50
"""Rows of what was sent that are read at once; each may be 4 MiB."""


class SentMessages:
    """What one app sent, as far as it was kept."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def packets(self, which: SentBetween) -> AsyncIterator[Sequence[Packet]]:
        """Yield the packets that are meant, some at a time, in the order of their confirms."""
        after = 0
        while found := await self._store.sent(which, after=after, limit=ROWS):
            after = found[-1].n
            packets = [one for row in found for one in row.packets if which.has(one)]
            if packets:
                yield packets

    async def send(self, packets: Sequence[Packet]) -> None:
        """Put packets into the outbox again; a relay publishes them."""
        await self._store.accept(packets, [], None)


@asynccontextmanager
async def sent_messages(config: Config) -> AsyncGenerator[SentMessages]:
    """Open what the app that the settings name has sent.

    Raises:
        ConfigError: Its queues are in the database itself, so nothing is kept beside it.
    """
    app = load_app(config.app)
    if joins_store(config.database, config.broker):
        raise ConfigError(
            "The queues are in the database itself, so nothing is kept beside them.",
            fix="`rolekit replay` is for a broker of its own; `rolekit dead replay` for dead "
            "letters.",
        )
    database = Database(config.database, app.name)
    try:
        yield SentMessages(PostgresStore(database, joins=False))
    finally:
        await database.close()
