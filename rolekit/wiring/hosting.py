"""What a supervisor needs from the databases."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rolekit.bell import Bell
from rolekit.database import Database, load_queries, redacted
from rolekit.errors import ConfigError, Unavailable, WriteFailed
from rolekit.store import migrate as migration
from rolekit.store.postgres import PostgresStore
from rolekit.store.postgres.dividing import divide
from rolekit.store.postgres.host import PostgresHost
from rolekit.store.postgres.traces import TraceStore
from rolekit.supervisor.host import Backlog, OpenSequences
from rolekit.transport.base import DEAD_QUEUE, INBOUND, Depth
from rolekit.transport.postgres import PostgresTransport
from rolekit.wiring.broker import joins_store, rabbit_transport, refuse_sources
from rolekit.wiring.holding import consumer_timeout_s, is_rabbit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from rolekit.transport.rabbitmq import RabbitTransport


HOST = "(host)"
"""What a supervisor is called in the list of a database's sessions."""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What stands in the queue of one handler."""

    waiting: int
    in_hand: int
    oldest_s: float
    dead: int
    consumers: int | None = None


class Host(PostgresHost):
    """The link of a supervisor to the databases, and to the broker where that is another."""

    def __init__(
        self, store: PostgresStore, queues: _Queues, databases: list[Database]
    ) -> None:
        super().__init__(databases, has_queues=isinstance(queues, _PostgresQueues))
        self._store = store
        self._queues = queues
        self.traces = TraceStore(databases[0])

    def look_at(self, queues: Sequence[str]) -> None:
        """Look at these queues too, which another version of the app has."""
        self._queues.add(queues)

    async def depths(self) -> dict[str, QueueDepth]:
        """Say what stands in each queue and behind held keys, and died in each handler."""
        dead = await self._store.count_dead()
        aside = await self._store.count_aside()
        depths = await self._queues.depths()
        names = dict.fromkeys((*depths, *dead, *aside))
        there = {name: depths.get(name, Depth()) for name in names}
        return {
            name: QueueDepth(
                d.waiting + aside.get(name, 0),
                d.in_hand,
                d.oldest_s,
                dead.get(name, 0),
                d.consumers,
            )
            for name, d in there.items()
        }

    async def backlog(self, queues: Sequence[str], gathers: Mapping[str, float]) -> Backlog:
        """Say what stands in these queues, and how long sequences have stood still."""
        depths = await self._queues.of(queues)
        stood_s = await self.standing(gathers) if gathers else {}
        return Backlog(depths, stood_s, await self.hosts())

    async def open_sequences(self, gathers: Sequence[str]) -> Mapping[str, OpenSequences]:
        """Say of each gather which sequences are in flight."""
        found = await self.in_flight(gathers)
        return {name: OpenSequences(*one) for name, one in found.items()}


class _PostgresQueues:
    """The queues of handlers, in Postgres: whatever names are there."""

    def __init__(self, transport: PostgresTransport) -> None:
        self._transport = transport

    def add(self, names: Sequence[str]) -> None:
        """Do nothing: whatever is there is found."""

    async def depths(self) -> dict[str, Depth]:
        names = [row["name"] for row in await self._transport.fetch("queue_names")]
        return await self.of([n for n in names if not n.startswith("~")])

    async def of(self, names: Sequence[str]) -> dict[str, Depth]:
        return await self._transport.depths(names)


class _RabbitQueues:
    """The queues of handlers, on a broker, which is connected to when it is first asked.

    What is long work is in the database as well.
    """

    def __init__(
        self, transport: RabbitTransport, claims: PostgresTransport, handlers: Sequence[str]
    ) -> None:
        self._transport = transport
        self._claims = claims
        self._handlers = list(handlers)

    def add(self, names: Sequence[str]) -> None:
        """Look at these too."""
        self._handlers = list(dict.fromkeys((*self._handlers, *names)))

    async def depths(self) -> dict[str, Depth]:
        return await self.of(self._handlers)

    async def of(self, names: Sequence[str]) -> dict[str, Depth]:
        await self._transport.start()
        depths = await self._transport.depths(names)
        claims = await self._claims.depths(names)
        return {name: depth + claims[name] for name, depth in depths.items()}


_Queues = _PostgresQueues | _RabbitQueues


@asynccontextmanager
async def open_host(
    app_name: str,
    database: str,
    broker: str,
    queues: Sequence[str] = (),
    sources: Mapping[str, str] | None = None,
    roles: Sequence[str] = (),
) -> AsyncGenerator[Host]:
    """Open a supervisor's link: take the lease, renew it and listen inside the block.

    Args:
        app_name: Names schema and queues.
        database: URL of the state.
        broker: URL of the queues; empty: in the database.
        queues: That are looked at, on a broker that cannot list them.
        sources: Queues of other programs, by the handler that takes from them.
        roles: That run here, for hosts which share their work.
    """
    async with AsyncExitStack() as held:
        opened = partial(Database, app=app_name, part=HOST, max_connections=4)
        state = opened(database)
        held.push_async_callback(state.close)
        joins = joins_store(database, broker)
        store = PostgresStore(state, joins=joins)
        databases = [state]
        looked_at: _Queues
        if is_rabbit(broker):
            rabbit = rabbit_transport(app_name, broker, sources=sources)
            held.push_async_callback(rabbit.stop)
            claims = PostgresTransport(state, owner=0, bell=Bell(), joins_store=False)
            looked_at = _RabbitQueues(rabbit, claims, queues)
        else:
            there = state if joins else opened(broker)
            if not joins:
                held.push_async_callback(there.close)
                databases.append(there)
            looked_at = _PostgresQueues(
                PostgresTransport(there, owner=0, bell=Bell(), joins_store=joins)
            )
        host = Host(store, looked_at, databases)
        host.roles = list(roles)
        await host.start()
        running = asyncio.create_task(host.run())
        try:
            yield host
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await host.stop()


async def migrate(
    app_name: str,
    database: str,
    broker: str = "",
    queues: Sequence[str] = (),
    sources: Mapping[str, str] | None = None,
    *,
    partitions: Mapping[str, int] | None = None,
) -> list[str]:
    """Check the servers, bring the app's schema up to date, and make its queues.

    Raises:
        ConfigError: A server is unsafe, refuses, has queues with other arguments, or lets
            this user do too little; or keys are divided otherwise, and not drained.
        Unavailable: One cannot be reached.
    """
    if is_rabbit(broker):
        consumer_timeout_s()
    else:
        refuse_sources(sources or {})
    done: list[str] = []
    databases = [database] if is_rabbit(broker) else [database, broker or database]
    for url in dict.fromkeys(databases):
        there = Database(url, app_name)
        try:
            unsafe = os.environ.get("ROLEKIT_ALLOW_UNSAFE_DATABASE") == "1"
            await migration.check_server(there, allow_unsafe=unsafe)
            done += await migration.migrate(there)
        finally:
            await there.close()
    if is_rabbit(broker):
        rabbit = rabbit_transport(app_name, broker, sources=sources)
        try:
            await rabbit.start()
            wanted = [*queues, INBOUND, DEAD_QUEUE]
            await rabbit.declare(wanted)
            await rabbit.check(wanted)
        finally:
            await rabbit.stop()
    if partitions:
        done += await _divide(app_name, database, broker, partitions)
    return done


async def _divide(
    app_name: str, database: str, broker: str, partitions: Mapping[str, int]
) -> list[str]:
    """Divide the keys of roles as their classes say, if nothing of them is left."""
    there = Database(database, app_name)

    async def count(names: Sequence[str]) -> int:
        return 0 if joins_store(database, broker) else await _count(app_name, broker, names)

    try:
        return await divide(there, partitions, count)
    finally:
        await there.close()


async def _count(app_name: str, broker: str, names: Sequence[str]) -> int:
    """Count what is in queues that are not in the database of the state."""
    async with AsyncExitStack() as held:
        queues: RabbitTransport | PostgresTransport
        if is_rabbit(broker):
            queues = rabbit_transport(app_name, broker)
            held.push_async_callback(queues.stop)
            await queues.start()
        else:
            there = Database(broker, app_name)
            held.push_async_callback(there.close)
            queues = PostgresTransport(there, owner=0, bell=Bell(), joins_store=False)
        depths = await queues.depths(names)
        return sum(depth.waiting + depth.in_hand for depth in depths.values())


async def check_pooler(
    app_name: str, pooler: str, epoch: int, wait_s: float, say: Callable[[str], None]
) -> None:
    """Wait until a pooler answers, and see that it leads to where this host's lease is.

    Raises:
        ConfigError: It leads elsewhere.
        Unavailable: It did not answer within `wait_s` seconds.
    """
    there = Database(pooler, app_name, is_pooled=True)
    sql = load_queries("rolekit.store.sql", "queries.sql", there.schema)["who_we_are"]

    async def look() -> None:
        found = None
        with suppress(WriteFailed):  # no such table
            async with there.connection() as connection:
                found = await connection.fetchrow(sql, epoch)
        if found is None:
            raise ConfigError(
                f"The pooler {redacted(pooler)} leads to a database without this host's lease:"
                " to another one than ROLEKIT_DATABASE names.",
                fix="Let both lead to one database; see [databases] in pgbouncer.ini.",
            )

    fix = "Start the pooler, or correct the URL in `pooler`."
    try:
        await _until(look, redacted(pooler), wait_s, say, fix)
    finally:
        await there.close()


async def wait_for_broker(broker: str, wait_s: float, say: Callable[[str], None]) -> None:
    """Wait until a broker answers, where it is RabbitMQ.

    Raises:
        Unavailable: It did not within `wait_s` seconds.
        ConfigError: It refuses these credentials, this vhost, or TLS.
    """
    if not is_rabbit(broker):
        return

    async def look() -> None:
        rabbit = rabbit_transport("wait", broker)
        try:
            await rabbit.start()
        finally:
            await rabbit.stop()

    await _until(look, "the broker", wait_s, say, "Start it, or correct the URL in `broker`.")


async def wait_for(database: str, wait_s: float, say: Callable[[str], None]) -> None:
    """Wait until a server answers.

    Raises:
        Unavailable: It did not within `wait_s` seconds.
    """
    there = Database(database, "wait")

    async def look() -> None:
        async with there.connection() as connection:
            await connection.execute("select 1")

    fix = "Start the server, or correct the URL in `database`."
    try:
        await _until(look, redacted(database), wait_s, say, fix)
    finally:
        await there.close()


async def _until(
    look: Callable[[], Awaitable[None]],
    what: str,
    wait_s: float,
    say: Callable[[str], None],
    fix: str,
) -> None:
    until = time.monotonic() + wait_s
    said = False
    while True:
        try:
            await look()
        except Unavailable as error:
            if time.monotonic() >= until:
                raise Unavailable(
                    f"{what} did not answer in {wait_s:g} s: {error.what}", fix=fix
                ) from error
            if not said:
                say(f"waiting for {what} ({error.what})")
                said = True
            await asyncio.sleep(0.3)
        else:
            return
