"""All the servers of a run, and a clean place on them for each contender."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from benchmarks.servers.rabbitmq import rabbitmq
from benchmarks.servers.redis import redis
from rolekit.store import embedded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from benchmarks.servers.rabbitmq import Node


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run of a contender happens.

    Attributes:
        broker: URL of an empty virtual host; empty where there is no RabbitMQ.
        database: URL of an empty database.
        redis: URL; empty where there is none.
        servers: Process ids by name.
    """

    broker: str
    database: str
    redis: str
    servers: dict[str, int]


@dataclass(slots=True)
class Servers:
    """What runs."""

    node: Node | None
    redis: str
    database: str
    pids: dict[str, int]
    made: int = 0

    async def versions(self) -> dict[str, str]:
        """Say which servers these are."""
        connection = await asyncpg.connect(self.database)
        try:
            found = {"postgres": str(await connection.fetchval("show server_version"))}
        finally:
            await connection.close()
        if self.node is not None:
            found["rabbitmq and erlang"] = self.node.version.strip("'")
        return found

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[Place]:
        """Make an empty place for the block."""
        self.made += 1
        name = f"run{self.made}"
        async with AsyncExitStack() as stack:
            broker = ""
            if self.node is not None:
                broker = await stack.enter_async_context(self.node.virtual_host())
            database = await embedded.create_database(self.database, name)
            stack.push_async_callback(embedded.drop_database, self.database, name)
            yield Place(broker, database, self.redis, self.pids)


@asynccontextmanager
async def servers(home: Path) -> AsyncGenerator[Servers]:
    """Run private servers inside the block: RabbitMQ and Redis where they are installed.

    PostgreSQL is the embedded one, with fsync on: the same for all who use a database.
    """
    for name in ("rabbitmq", "redis"):
        (home / name).mkdir()
    async with (
        embedded.server(home) as database,
        rabbitmq(home / "rabbitmq") as node,
        redis(home / "redis") as cache,
    ):
        pid = home / "postgres" / "data" / "postmaster.pid"
        pids = {"postgres": int(pid.read_text().split()[0])}
        if node is not None:
            pids["rabbitmq"] = node.process.pid
        yield Servers(node, cache or "", database, pids)
