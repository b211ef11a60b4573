"""What a dead instance had under way in the server, and what ends after it was buried.

A process dies in an instant; the statement it had sent goes on. A claim that commits after
the supervisor handed back what the dead one held would keep its messages for ever, since the
host's lease, which covers all its instances, goes on too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from rolekit import wiring
from rolekit.bell import Bell
from rolekit.database import Database
from rolekit.link import OWNER_BITS
from rolekit.model.envelope import Packet
from rolekit.transport.postgres import PostgresTransport
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.servers,
    pytest.mark.faults,
    pytest.mark.timeout(60),
]

APP = "late"


@pytest.fixture
async def connection(database_url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to a database with an app's tables."""
    await wiring.migrate(APP, database_url)
    opened = await asyncpg.connect(database_url)
    try:
        yield opened
    finally:
        await opened.close()


async def test_a_claim_that_commits_after_its_owner_was_buried_comes_back(
    connection: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    await connection.execute(
        "insert into rolekit_late.queue (queue, id, generation, birth_ms, head, body)"
        " values ('Role.handler', gen_random_uuid(), 0, 1, '', '')"
    )
    async with wiring.open_host(APP, database_url, "") as host:
        dead = host.epoch << OWNER_BITS | 1

        async with connection.transaction():
            await connection.execute("update rolekit_late.queue set owner = $1", dead)
            await host.release(dead)

        await _until_nothing(connection, "rolekit_late.queue where owner is not null")


async def test_an_outbox_row_that_commits_after_its_owner_was_buried_is_anyone_s(
    connection: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    async with wiring.open_host(APP, database_url, "") as host:
        dead = host.epoch << OWNER_BITS | 1

        async with connection.transaction():
            await connection.execute(
                "insert into rolekit_late.outbox"
                " (owner, queues, ids, generations, births_ms, heads, bodies) values ($1,"
                " '{Role.handler}', array[gen_random_uuid()],"
                " '{0}', '{1}', '{\"\"}', '{\"\"}')",
                dead,
            )
            await host.release(dead)

        await _until_nothing(connection, "rolekit_late.outbox where owner <> 0")


class Startled(PostgresTransport):
    """Fails once in a way that nobody foresaw."""

    is_startled = False

    async def fetch(self, name: str, *args: object) -> list[Any]:
        if name == "claim" and not self.is_startled:
            self.is_startled = True
            raise RuntimeError("nobody foresaw this")
        return await super().fetch(name, *args)


async def test_a_queue_is_served_on_after_an_error_that_nobody_foresaw(
    connection: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    came = asyncio.Event()
    database = Database(database_url, APP)
    async with wiring.open_host(APP, database_url, "") as host:
        transport = Startled(database, owner=host.epoch << OWNER_BITS | 1, bell=Bell())
        await transport.start()
        await transport.declare(["Role.handler"])
        await transport.publish([Packet(queue="Role.handler", id=uuid4().hex, head=b"")])

        with capture_logs() as logs:
            await transport.subscribe(["Role.handler"], window=1, sink=lambda _: came.set())
            async with asyncio.timeout(patient(5)):
                await came.wait()

        await transport.stop()
    await database.close()
    assert [line["log_level"] for line in logs] == ["error"]


async def _until_nothing(connection: asyncpg.Connection[asyncpg.Record], where: str) -> None:
    async with asyncio.timeout(patient(8)):
        while await connection.fetchval(f"select count(*) from {where}"):  # noqa: ASYNC110, S608 - the database tells nobody; a name from the test
            await asyncio.sleep(0.05)
