"""What tracing adds to the CPU of two stages, as a share of it.

What it adds is measured without servers, all ways in turns in one process, to a tenth of a µs:
see `tracing_cost`. What two stages take with tracing off is measured on servers. Runs on
servers differ by 10 % and more from each other, which says nothing about 2 %.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING

import structlog

from benchmarks import meter
from benchmarks.figures import difference
from benchmarks.own import app as own
from benchmarks.own.run import stages
from benchmarks.own.running import ground
from benchmarks.own.tracing_cost import WARM_ROUNDS, measure, on_one_core
from benchmarks.scenarios.tracing import EVERY, OFF, SOME, UNSAMPLED

if TYPE_CHECKING:
    from benchmarks.meter import Job
    from benchmarks.own.tracing_cost import Way

PASSES = 5
"""On servers; the median counts."""
A_ROUND = 200
"""Messages of each way in a round without servers."""
NAMES = {UNSAMPLED: "unsampled", SOME: "some", EVERY: "every"}


async def on_servers(job: Job) -> list[float]:
    """Take messages through two stages on the servers; return the CPU of each pass, in µs."""
    found: list[float] = []
    async with ground(job) as there:
        for _ in range(PASSES):
            there.expect(job.count)
            await stages(there)
            found.append(there.meter.cpu_s / job.count * 1e6)
    return found


async def main(job: Job) -> None:
    """Measure, and report ratios to tracing off; the intervals are those of the differences."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    passes = await on_servers(job)
    off_us = median(passes)
    own.HITS.start = lambda: None
    on_one_core()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    rounds = job.options["rounds"] if not job.options["quick"] else 2
    ways = await measure(rounds, A_ROUND)
    details = {"off_us": off_us, "off_us_low": min(passes), "off_us_high": max(passes)}
    for way, name in NAMES.items():
        details |= _told(name, ways[way], ways[OFF], off_us)
    meter.report(
        len(ways) * (WARM_ROUNDS + rounds) * A_ROUND,
        time.perf_counter() - began_s,
        time.process_time() - began_cpu_s,
        **details,
    )


def _told(name: str, way: Way, off: Way, off_us: float) -> dict[str, float]:
    middle, low, high = difference(way.stages, off.stages)
    return {
        f"{name}_stage_us": middle / 2,
        name: 1 + middle / off_us,
        f"{name}_low": 1 + low / off_us,
        f"{name}_high": 1 + high / off_us,
    }


if __name__ == "__main__":
    asyncio.run(main(meter.job()))
