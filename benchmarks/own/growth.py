"""What a message costs as things grow: `python -m benchmarks.own.growth`.

There are two apps, alike but for what has grown in one of them. A fixed amount of work is
done on both in turns, and what it costs there is divided: a machine whose speed changes by
the minute would otherwise make one point dearer than another. The cost is CPU of client and
servers together, since a wall clock says more about the neighbours on this machine. What
stands in queues is sent; open sequences and inbox rows are copied in the database, because
to make a million of them takes longer than a benchmark may.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import asyncpg
import structlog

from benchmarks import meter
from benchmarks.own import app as own
from benchmarks.own.running import ground
from rolekit.database import schema_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.meter import Job
    from benchmarks.own.running import Ground

    Grow = Callable[[Ground, int, int], Awaitable[int]]
    Work = Callable[[Ground], Awaitable[int]]

QUEUED = 10_000
RECORDED = 3000
JOBS = 3
PARTS = 1000
CHUNK = 20_000
FILL_S = 60
"""A queue is not filled for longer than this; the point is then where it got to."""

LOOK_S = 0.01
IDLE = 0.1
"""Of a core: below this, servers have got over what was done before."""
SETTLE_S = 20

OPEN = "select count(*) from {s}.sequence where state = 0"
INBOX = """
insert into {s}.inbox (id, generation, day, outcome)
select gen_random_uuid(), 1, {day}, 0 from generate_series(1, $1)
"""
SEQUENCES = """
insert into {s}.sequence
select copy.*
from {s}.sequence one, generate_series(1, $1) n, lateral jsonb_populate_record(
    one, jsonb_build_object('id', gen_random_uuid(), 'source_id', gen_random_uuid(), 'n', n)
) copy
where one.id = (select id from {s}.sequence where state = 0 order by opened_at desc limit 1)
"""


async def depth(there: Ground, stands: int, size: int) -> int:
    """Have so many messages in a queue; return how many there are."""
    until = time.monotonic() + FILL_S
    while stands < size and time.monotonic() < until:
        more = min(CHUNK, size - stands)
        await _send(there, more)
        stands += more
    return stands


async def queued(there: Ground) -> int:
    """Send some to the tail, then handle as many at the head.

    One after the other, since a consumer that has a deep queue before it does not wait for
    the sender: more would be handled than is counted. What is handled until the instance
    has stopped is counted, and sent as well.
    """
    there.expect(QUEUED)
    handled, counted = 0, own.HITS.hit

    def hit() -> None:
        nonlocal handled
        handled += 1
        counted()

    own.HITS.hit = hit
    await _send(there, QUEUED)
    async with there.instance(own.Sinks):
        await there.done.wait()
    await _send(there, handled - QUEUED)
    return handled


async def _send(there: Ground, count: int) -> None:
    await there.client.send_many(own.Noop(**meter.fields(n)) for n in range(count))


async def sequences(there: Ground, stands: int, size: int) -> int:
    """Have so many sequences open: one that waits for a part nobody handles, and copies."""
    schema = schema_of(there.app.name)
    connection = await asyncpg.connect(there.job.database)
    if not stands:
        async with there.instance(own.Openers):
            await there.client.send(own.Held(parts=1))
            while not await connection.fetchval(OPEN.format(s=schema)):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)
        stands = 1
    await connection.execute(SEQUENCES.format(s=schema), size - stands)
    await connection.execute(f"vacuum analyze {schema}.sequence")
    await connection.close()
    return size


async def gathered(there: Ground) -> int:
    """Split and gather some jobs."""
    async with there.instance(own.Sequences):
        for _ in range(JOBS):
            receipt = await there.client.send(own.Job(parts=PARTS))
            async for _ in there.client.follow(receipt, until=own.JobDone):
                pass
    return JOBS * PARTS


async def inbox(there: Ground, stands: int, size: int) -> int:
    """Have so many rows in the inbox of today, beside those of work that was done."""
    schema = schema_of(there.app.name)
    insert = INBOX.format(s=schema, day=int(time.time() // 86_400))
    connection = await asyncpg.connect(there.job.database)
    await connection.execute(insert, size - stands, timeout=600)
    await connection.execute(f"vacuum analyze {schema}.inbox", timeout=600)
    await connection.close()
    return size


async def recorded(there: Ground) -> int:
    """Record some steps."""
    there.expect(RECORDED)
    async with there.instance(own.Effects):
        await there.client.send_many(own.Counted(**meter.fields(n)) for n in range(RECORDED))
        await there.done.wait()
    return RECORDED


CASES: dict[str, tuple[Grow, Work, int]] = {
    "depth": (depth, queued, 5),
    "sequences": (sequences, gathered, 3),
    "inbox": (inbox, recorded, 5),
}
"""How to grow, what to do then, and how often on both: the median of these counts."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What work costs a message, in µs of CPU."""

    client: float
    servers: float

    @property
    def all(self) -> float:
        """Of client and servers together."""
        return self.client + self.servers


async def cost(there: Ground, work: Work) -> Cost:
    """Return what the work costs."""
    client_s, servers_s = time.process_time(), _servers_s(there)
    count = await work(there)
    client_s, servers_s = time.process_time() - client_s, _servers_s(there) - servers_s
    return Cost(client_s / count * 1e6, servers_s / count * 1e6)


async def settle(there: Ground) -> None:
    """Wait until the servers rest: filling is no part of what a message costs afterwards.

    A quorum queue writes its log into segments, and Postgres its checkpoint, for seconds
    after the last message was confirmed.
    """
    until = time.monotonic() + SETTLE_S
    used_s = _servers_s(there)
    while time.monotonic() < until:
        await asyncio.sleep(1)
        before_s, used_s = used_s, _servers_s(there)
        if used_s - before_s < IDLE:
            return


def _servers_s(there: Ground) -> float:
    return sum(map(meter.cpu_of, there.job.servers.values()))


async def main(job: Job) -> None:
    """Do the job."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    grow, work, times = CASES[job.case]
    least, *sizes = job.options["quick_sizes" if job.options["quick"] else "sizes"]
    os.environ["ROLEKIT_INTAKE_LIMIT"] = str(10 * max(sizes))  # more waits than an app lets in
    begin_s = time.perf_counter()
    points: dict[str, float] = {}
    async with ground(job, own.twin) as small, ground(job) as grown:
        for there in (small, grown):
            await work(there)
            stands = await grow(there, 0, least)
        for size in sizes:
            stands = await grow(grown, stands, size)
            await settle(grown)
            pairs = [await _pair(small, grown, work, turn) for turn in range(times)]
            growth = median(of_grown.all / of_small.all for of_small, of_grown in pairs)
            points |= _point(least, [of_small for of_small, _ in pairs])
            points |= _point(stands, [of_grown for _, of_grown in pairs])
        seconds = time.perf_counter() - begin_s
        meter.report(stands, seconds, time.process_time(), growth=growth, **points)


def _point(stands: int, costs: Sequence[Cost]) -> dict[str, float]:
    return {
        f"{stands:,}": median(one.all for one in costs),
        f"{stands:,} client": median(one.client for one in costs),
    }


async def _pair(small: Ground, grown: Ground, work: Work, turn: int) -> tuple[Cost, Cost]:
    """Return what work costs where nothing has grown, and where something has."""
    costs: dict[bool, Cost] = {}
    for has_grown in (turn % 2 == 0, turn % 2 != 0):
        costs[has_grown] = await cost(grown if has_grown else small, work)
    return costs[False], costs[True]


if __name__ == "__main__":
    asyncio.run(main(meter.job()))
