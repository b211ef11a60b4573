"""The suite of transports on queues in Postgres, and the leases that only those have."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from rolekit import link
from rolekit.bell import Bell
from rolekit.database import Database
from rolekit.errors import FenceLost
from rolekit.store.migrate import migrate
from rolekit.store.postgres.host import PostgresHost
from rolekit.transport.base import INBOUND, Depth
from rolekit.transport.postgres import PostgresTransport
from tests.conformance import schemas
from tests.conformance import transport as suite
from tests.conformance import transport_epochs as epochs
from tests.conformance import transport_outside as outside
from tests.conformance import transport_settling as settling
from tests.conformance.transport import Inbox, consume, flags, packets, settled
from tests.least import worker_of
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.transport.base import Sink, Transport
    from rolekit.transport.postgres_claims import PostgresSubscription

pytestmark = pytest.mark.anyio

DRAINED_S = 0.1
"""A claim under way ends within this time."""


class Mortal(PostgresTransport):
    """A transport whose process can be stopped without a farewell."""

    def __init__(self, database: Database, owner: int) -> None:
        super().__init__(database, owner=owner, bell=Bell())
        self.subscriptions: list[PostgresSubscription] = []

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink, epoch: int | None = None
    ) -> PostgresSubscription:
        subscription = await super().subscribe(queues, window=window, sink=sink, epoch=epoch)
        self.subscriptions.append(subscription)
        return subscription


class PostgresGround:
    """Connections to one database, under the lease of one host; with the least rights."""

    def __init__(self, url: str, app: str) -> None:
        self.url = url
        self.app = app
        self._databases: list[Database] = []
        self._opened: list[Mortal] = []
        self._others: list[PostgresGround] = []
        self._by = url
        self.host = PostgresHost([self._database()])

    def _database(self) -> Database:
        database = Database(self._by, self.app, max_connections=4)
        self._databases.append(database)
        return database

    async def start(self) -> None:
        owned = self._databases[0]
        self._by = await worker_of(owned)
        await migrate(owned)
        async with owned.connection() as connection:
            await schemas.note(self.app, connection)
        self.host = PostgresHost([self._database()])
        await self.host.start()

    def unconnected(self) -> Mortal:
        number = len(self._opened) + 1
        transport = Mortal(self._database(), self.host.epoch << link.OWNER_BITS | number)
        self._opened.append(transport)
        return transport

    async def connect(self) -> Mortal:
        transport = self.unconnected()
        await transport.start()
        return transport

    async def other(self) -> tuple[Mortal, str, str]:
        app = schemas.take(self.url)
        self._others.append(PostgresGround(self.url, app))
        await self._others[-1].start()
        return await self._others[-1].connect(), app, INBOUND

    async def stop_working(self, transport: Transport) -> None:
        """Let a process claim nothing more."""
        assert isinstance(transport, Mortal)
        for subscription in transport.subscriptions:
            subscription.pause()
        await asyncio.sleep(DRAINED_S)

    async def die(self, transport: Transport) -> None:
        assert isinstance(transport, Mortal)
        await self.stop_working(transport)
        await self.host.release(transport.owner)

    async def stop(self) -> None:
        for other in self._others:
            await other.stop()
            await schemas.give_back(self.url, other.app)
        for transport in self._opened:
            await transport.stop()
        for database in self._databases:
            await database.close()


@pytest.fixture
async def ground(shared_url: str) -> AsyncGenerator[PostgresGround]:
    async with schemas.lent(shared_url) as app, standing(shared_url, app) as ground:
        yield ground


@asynccontextmanager
async def standing(url: str, app: str) -> AsyncGenerator[PostgresGround]:
    ground = PostgresGround(url, app)
    await ground.start()
    try:
        yield ground
    finally:
        await ground.stop()


class TestPublishing(suite.Publishing):
    """See `tests.conformance.transport`."""


class TestConsuming(suite.Consuming):
    """See `tests.conformance.transport`."""


class TestSettling(settling.Settling):
    """See `tests.conformance.transport_settling`."""


class TestEpochs(epochs.Epochs):
    """See `tests.conformance.transport_epochs`."""


class TestDying(settling.Dying):
    """See `tests.conformance.transport_settling`."""


@pytest.fixture
def two_apps(ground: PostgresGround) -> PostgresGround:
    return ground


class TestHandingOver(outside.HandingOver):
    """See `tests.conformance.transport_outside`."""


async def test_what_a_host_without_lease_held_comes_back_suspected(
    ground: PostgresGround,
) -> None:
    async with standing(ground.url, ground.app) as dead:
        transport, inbox, later = await dead.connect(), Inbox(), Inbox()
        await consume(transport, inbox)
        await transport.publish(packets(2))
        await inbox.count(2)
        await dead.stop_working(transport)
        await dead.host.stop()
        living = await ground.connect()

        await living.recover()
        await consume(living, later)

        again = await later.count(2)
        assert [flags(delivery) for delivery in again] == [(True, True, 0)] * 2


async def test_an_instance_of_a_host_without_lease_claims_nothing(
    ground: PostgresGround,
) -> None:
    transport, inbox = await ground.connect(), Inbox()
    await ground.host.stop()

    await consume(transport, inbox)
    await transport.publish(packets(2))
    await asyncio.sleep(suite.QUIET_S)

    assert inbox.got == []
    await settled(transport, Depth(2, 0))


async def test_many_claim_from_one_queue_and_none_gets_what_another_has(
    ground: PostgresGround,
) -> None:
    transports = [await ground.connect() for _ in range(4)]
    inboxes = [Inbox() for _ in transports]
    for transport, inbox in zip(transports, inboxes, strict=True):
        await consume(transport, inbox, window=1000)

    for begin in range(0, 400, 50):
        await transports[0].publish(packets(400)[begin : begin + 50])
    async with asyncio.timeout(patient(8)):
        while sum(len(inbox.got) for inbox in inboxes) < 400:  # noqa: ASYNC110 - four tell
            await asyncio.sleep(0.02)

    assert sorted(int(body) for inbox in inboxes for body in inbox.bodies) == list(range(400))


async def test_a_former_owner_claims_nothing_more(ground: PostgresGround) -> None:
    first, second = await ground.connect(), await ground.connect()
    before, after = Inbox(), Inbox()
    await epochs.own(first, before, 1)
    await epochs.own(second, after, 2, window=3)

    await first.publish(packets(10, epochs.QUEUE))
    await after.count(3)
    await asyncio.sleep(suite.QUIET_S)

    assert before.got == []
    with pytest.raises(FenceLost):
        await epochs.own(first, before, 1)


@pytest.mark.parametrize("query", ["claim", "claim_own"])
async def test_a_claim_of_a_queue_with_little_in_it_does_not_walk_a_deep_one(
    ground: PostgresGround, query: str
) -> None:
    transport = await ground.connect()
    database = Database(ground.url, ground.app)
    schema = database.schema
    arguments = [1, ["rare", "deep"], [50, 50], 1][: 3 if query == "claim" else 4]
    async with database.connection() as connection:
        await connection.execute(
            f"insert into {schema}.queue (queue, id, generation, birth_ms, head, body)"  # noqa: S608 - ours
            " select case when n % 5000 = 0 then 'rare' else 'deep' end, gen_random_uuid(), 0,"
            " 0, '', '' from generate_series(1, 20000) as n"
        )
        await connection.execute(f"analyze {schema}.queue")

        plan = await connection.fetch(f"explain {transport.sql[query]}", *arguments)
    await database.close()

    steps = [row[0] for row in plan]
    assert any("queue_waiting" in step for step in steps), steps
    assert sum("queue_pkey" in step for step in steps) == 1, steps  # to mark what was found
