"""Worker processes of a peer, one after another: how soon each consumes, and how large it is.

What a copy costs there, beside rolekit's instances: a process of its own that imports what
its benchmark imports, and takes from the same empty queue as the others.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import aiormq
from aiormq.exceptions import ChannelNotFoundEntity

from benchmarks import meter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiormq.abc import AbstractConnection

    from benchmarks.meter import Job

LOOK_S = 0.01
READY_S = 20
REST_S = 2
"""Before memory is read: what is imported late is there by then."""
KIB_A_MIB = 1024


@asynccontextmanager
async def worker(job: Job) -> AsyncIterator[int]:
    """Run one inside the block; give its process id. It holds nothing, so it is killed."""
    environment = {**os.environ, meter.JOB: replace(job, case="worker", count=0).encode()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.peers.{job.case}_peer"), env=environment
    )
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def consumers(connection: AbstractConnection, queue: str) -> int:
    """Say how many take from a queue; one that is not there yet ends the channel."""
    channel = await connection.channel()
    try:
        declared = await channel.queue_declare(queue, passive=True)
    except ChannelNotFoundEntity:
        return 0
    await channel.close()
    return int(declared.consumer_count or 0)


async def until_ready(connection: AbstractConnection, queue: str, count: int) -> None:
    """Wait until so many take from a queue.

    Raises:
        TimeoutError: They do not.
    """
    async with asyncio.timeout(READY_S):
        while await consumers(connection, queue) < count:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(LOOK_S)


def memory_mib(pid: int) -> tuple[float, float]:
    """Return what a process has for itself, and its share of all that it uses: USS, PSS."""
    own = share = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, kib = line.split()[:2]
        own += int(kib) if name.startswith("Private_") else 0
        share += int(kib) if name == "Pss:" else 0
    return own / KIB_A_MIB, share / KIB_A_MIB


async def main(job: Job) -> None:
    """Start them, measure, end them."""
    took_s: list[float] = []
    async with AsyncExitStack() as running:
        connection = await running.enter_async_context(await aiormq.connect(job.broker))
        pids: list[int] = []
        for number in range(job.count):
            begin = time.perf_counter()
            pids.append(await running.enter_async_context(worker(job)))
            await until_ready(connection, f"{job.case}.first", number + 1)
            took_s.append(time.perf_counter() - begin)
        await asyncio.sleep(REST_S)
        sizes = [memory_mib(pid) for pid in pids]
    meter.report(
        job.count,
        sum(took_s),
        time.process_time(),
        ready_each_s=mean(took_s),
        uss_mib=mean(own for own, _ in sizes),
        pss_mib=mean(share for _, share in sizes),
    )


if __name__ == "__main__":
    asyncio.run(main(meter.job()))
