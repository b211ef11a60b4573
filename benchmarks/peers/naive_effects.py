"""aio-pika and asyncpg without a framework: inbox, effect and outbox in a transaction each.

What one writes who knows the pattern and has no group commit: for each message a row in the
inbox, an effect, a row in the outbox, one commit, then the ack; a relay publishes the outbox
in batches and deletes what was confirmed. The effect adds to the state of 1 of 1,000 keys,
or, in the case `sql`, is an insert.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg

from benchmarks import meter
from benchmarks.peers.raw_aio_pika import SECOND, Raw, message

if TYPE_CHECKING:
    import aio_pika

CONNECTIONS = 10
KEYS = 1000
RELAY_ROWS = 500
IDLE_S = 0.005

TABLES = """
create table inbox (id text primary key);
create table effect (number bigint not null);
create table state (key int primary key, n bigint not null);
create table outbox (id bigserial primary key, number bigint not null);
insert into state select key, 0 from generate_series(0, 999) key;
"""
CLAIM = "insert into inbox (id) values ($1) on conflict do nothing returning id"
COUNT = "update state set n = n + 1 where key = $1"
INSERT = "insert into effect (number) values ($1)"
LEAVE = "insert into outbox (number) values ($1)"
UNSENT = "select id, number from outbox order by id limit $1"
SENT = "delete from outbox where id = any($1::bigint[])"


class Naive:
    """A pool of connections, and two queues."""

    def __init__(self, raw: Raw, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.raw = raw
        self.pool = pool

    async def handle(self, arrived: aio_pika.abc.AbstractIncomingMessage) -> None:
        """Record everything about one message, then ack it."""
        self.raw.meter.start()
        number = json.loads(arrived.body)["number"]
        async with self.pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(CLAIM, arrived.message_id):
                if self.raw.job.case == "sql":
                    await connection.execute(INSERT, number)
                else:
                    await connection.execute(COUNT, number % KEYS)
                await connection.execute(LEAVE, number)
        await arrived.ack()

    async def relay(self) -> None:
        """Publish what was committed, for ever."""
        exchange = self.raw.exchange
        while True:
            rows = await self.pool.fetch(UNSENT, RELAY_ROWS)
            if not rows:
                await asyncio.sleep(IDLE_S)
                continue
            await asyncio.gather(
                *[exchange.publish(message(row["number"]), routing_key=SECOND) for row in rows]
            )
            await self.pool.execute(SENT, [row["id"] for row in rows])


async def main() -> None:
    """Empty a queue into a second one through the database, and that one too."""
    raw = Raw(meter.job())
    await raw.open()
    pool = await asyncpg.create_pool(
        raw.job.database, min_size=CONNECTIONS, max_size=CONNECTIONS
    )
    await pool.execute(TABLES)
    naive = Naive(raw, pool)
    await raw.fill()
    relaying = asyncio.create_task(naive.relay())
    await raw.second.consume(raw.noop)
    await raw.first.consume(naive.handle)
    await raw.done.wait()
    relaying.cancel()
    assert await pool.fetchval("select count(*) from inbox") == raw.job.count
    raw.meter.report()
    meter.leave()


if __name__ == "__main__":
    asyncio.run(main())
