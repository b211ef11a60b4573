"""What a supervisor needs from the databases."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.bell import Bell
from rolekit.database import Database, redacted
from rolekit.errors import Unavailable
from rolekit.store import migrate as migration
from rolekit.store.postgres import PostgresStore
from rolekit.store.postgres.host import PostgresHost
from rolekit.transport.postgres import PostgresTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What stands in the queue of one handler."""

    waiting: int
    in_hand: int
    oldest_s: float
    dead: int


class Host(PostgresHost):
    """The link of a supervisor to the databases."""

    def __init__(
        self, parts: tuple[PostgresStore, PostgresTransport], databases: list[Database]
    ) -> None:
        super().__init__(databases)
        self._store, self._transport = parts

    async def depths(self) -> dict[str, QueueDepth]:
        """Say what stands in the queue of each handler, by its name."""
        dead = await self._store.count_dead()
        names = [row["name"] for row in await self._transport.fetch("queue_names")]
        handlers = [name for name in names if not name.startswith("~")]
        depths = await self._transport.depths(handlers)
        return {
            name: QueueDepth(d.waiting, d.in_hand, d.oldest_s, dead.get(name, 0))
            for name, d in depths.items()
        }


@asynccontextmanager
async def open_host(app_name: str, database: str, broker: str) -> AsyncGenerator[Host]:
    """Open a supervisor's link: take the lease, renew it and listen inside the block."""
    state = Database(database, app_name, max_connections=4)
    joins = not broker or broker == database
    queues = state if joins else Database(broker, app_name, max_connections=4)
    store = PostgresStore(state, joins=joins)
    transport = PostgresTransport(queues, owner=0, bell=Bell(), joins_store=joins)
    host = Host((store, transport), [state] if joins else [state, queues])
    await host.start()
    running = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await host.stop()
        await state.close()
        await queues.close()


async def migrate(app_name: str, database: str, broker: str = "") -> list[str]:
    """Check the servers and bring the app's schema up to date on each."""
    done: list[str] = []
    for url in dict.fromkeys([database, broker or database]):
        there = Database(url, app_name)
        try:
            unsafe = os.environ.get("ROLEKIT_ALLOW_UNSAFE_DATABASE") == "1"
            await migration.check_server(there, allow_unsafe=unsafe)
            done += await migration.migrate(there)
        finally:
            await there.close()
    return done


async def wait_for(database: str, wait_s: float, say: Callable[[str], None]) -> None:
    """Wait until a server answers.

    Raises:
        Unavailable: It did not within `wait_s` seconds.
    """
    there = Database(database, "wait")
    until = time.monotonic() + wait_s
    said = False
    try:
        while True:
            try:
                async with there.connection() as connection:
                    await connection.execute("select 1")
            except Unavailable as error:
                if time.monotonic() >= until:
                    raise Unavailable(
                        f"{redacted(database)} did not answer in {wait_s:g} s: {error.what}",
                        fix="Start the server, or correct the URL in `database`.",
                    ) from error
                if not said:
                    say(f"waiting for {redacted(database)} ({error.what})")
                    said = True
                await asyncio.sleep(0.3)
            else:
                return
    finally:
        await there.close()
