"""Batches on real queues: two instances, one of which ends in the middle of a batch."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import asyncpg
import pytest

from rolekit import App, Backoff, Batch, Context, Message, WorkerRole, handle, wiring
from rolekit.link import OWNER_BITS
from rolekit.roles.host import Instance
from rolekit.transport.rabbitmq import topology
from rolekit.wiring.parts import build
from rolekit.wiring.relaying import run_relay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.roles.services import Services

DRIVER = topology
"""Imported before a loop runs."""

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

ROWS = 400
POISON = 77


class Row(Message):
    """One number; one of them is poison."""

    n: int


class Noted(Message):
    """A row that was stored; counted by another handler."""

    n: int


class Sink(WorkerRole):
    """Stores numbers, many at a time."""

    held: ClassVar[asyncio.Event]
    sizes: ClassVar[list[int]] = []

    @handle(size=50, age_s=0.05, retry=Backoff(attempts=2, first_s=0.1))
    async def store(self, rows: Batch[Row], ctx: Context) -> list[Noted | None]:
        """Store them; the very first batch of all holds on."""
        self.sizes.append(len(rows))
        if len(self.sizes) == 1:
            self.held.set()
            await asyncio.sleep(30)
        if any(row.n == POISON for row in rows):
            raise ValueError("poison")
        ctx.write("insert into stored select unnest($1::int[])", [row.n for row in rows])
        return [Noted(n=row.n) for row in rows]


class Notes(WorkerRole):
    """Writes down what was stored."""

    @handle
    async def note(self, noted: Noted, ctx: Context) -> None:
        """Write one number."""
        ctx.write("insert into noted values ($1)", noted.n)


app = App("sink", roles=[Sink, Notes])


@asynccontextmanager
async def alive(
    role: type[WorkerRole], services: Services
) -> AsyncGenerator[asyncio.Task[None]]:
    """Let an instance live in the block; ended by force if nobody ended it before."""
    ready = asyncio.Event()
    async with services.running():
        task = asyncio.create_task(Instance(role, services).run(ready.set))
        await ready.wait()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("on_rabbitmq", [False, True])
async def test_each_row_takes_effect_once_and_poison_alone_dies(
    broker_url: str,
    database_url: str,
    on_rabbitmq: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    url = broker_url if on_rabbitmq else ""
    Sink.held, handlers = asyncio.Event(), list(app.plan().handlers)
    Sink.sizes.clear()
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table stored (n int); create table noted (n int)")
    await wiring.migrate(app.name, database_url, url, handlers)
    async with wiring.open_host(app.name, database_url, url, handlers) as host:
        made = [
            build(app.plan(), host.epoch << OWNER_BITS | n, database_url, url).services
            for n in range(1, 5)
        ]
        async with alive(Sink, made[0]) as first:
            receipts = await made[0].client.send_many([Row(n=n) for n in range(ROWS)])
            await Sink.held.wait()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await host.release(made[0].runtime.owner)
        async with alive(Sink, made[1]), alive(Notes, made[2]), made[3].running():
            stopped = asyncio.Event()
            relay = asyncio.create_task(run_relay(made[3], lambda: None, stopped))
            while await connection.fetchval("select count(*) from noted") < ROWS - 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while not (letters := await made[1].runtime.store.count_dead()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            stopped.set()
            await relay
    stored = [row["n"] for row in await connection.fetch("select n from stored order by n")]
    noted = [row["n"] for row in await connection.fetch("select n from noted order by n")]
    await connection.close()

    good = [n for n in range(ROWS) if n != POISON]
    assert len(receipts) == ROWS
    assert (stored, noted) == (good, good)
    assert letters == {"Sink.store": 1}
    assert max(Sink.sizes) > 10
