"""What tracing costs, to the microsecond: `python -m benchmarks.own.tracing_cost`.

    --rounds 200     of each way to trace, in turns
    --messages 200   in each round

Sends messages and takes them through two stages, on queues in memory: no broker, no database
and no other process, so that CPU is of what rolekit does. Numbers are counted, as in every
instance. All ways to trace live side by side in this process, on one core, in an order drawn
for each round, without garbage collection while one runs. What one costs is the median of its
differences to tracing off, each within a round, with the interval of 95 % that the median lies
in; a second one with tracing off says how far to believe it. The first of each second, which an
app keeps whatever the share, is not kept here: in a round of 200 messages that one would be a
µs of each. Bars about throughput are for `make bench ONLY=tracing`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import structlog

from benchmarks import meter
from benchmarks.figures import difference
from benchmarks.own import app as own
from benchmarks.own.running import traced
from benchmarks.scenarios.tracing import EVERY, OFF, SOME, UNSAMPLED
from rolekit.bell import Bell
from rolekit.clock import SystemClock
from rolekit.flow.runtime import Runtime
from rolekit.model.codec import Codec
from rolekit.observe.meters import Meters
from rolekit.roles.host import Instance
from rolekit.roles.services import Services
from rolekit.store.memory import MemoryStore
from rolekit.transport.memory import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.flow.app_client import AppClient
    from rolekit.flow.consume import Consumer
    from rolekit.flow.tracing import Tracing

AGAIN = "off again"
WAYS: dict[str, float | None] = {
    OFF: None,
    AGAIN: None,
    UNSAMPLED: 0.0,
    SOME: 0.01,
    EVERY: 1.0,
}
"""Share of traces that is kept, by name."""
WARM_ROUNDS = 25
"""After them each way remembers as much as it ever will."""


@dataclass(slots=True)
class Way:
    """An instance that traces in one way; CPU a message of each round, in µs."""

    client: AppClient
    consumer: Consumer
    meters: Meters
    sends: list[float] = field(default_factory=list[float])
    stages: list[float] = field(default_factory=list[float])

    async def round(self, messages: Sequence[own.First]) -> None:
        """Send these, then take them through both stages."""
        done = asyncio.Event()
        left = len(messages)

        def hit() -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        own.HITS.hit = hit
        self.consumer.pause()
        self.meters.read()
        gc.collect()
        gc.disable()
        began_s = time.process_time()
        await self.client.send_many(messages)
        sent_s = time.process_time()
        self.consumer.resume()
        await done.wait()
        await self.consumer.idle()
        ended_s = time.process_time()
        gc.enable()
        self.sends.append((sent_s - began_s) / len(messages) * 1e6)
        self.stages.append((ended_s - sent_s) / len(messages) * 1e6)


@asynccontextmanager
async def _way(ratio: float | None) -> AsyncGenerator[Way]:
    meters = Meters()
    async with traced(ratio, first_per_s=0) as tracing:
        services = _services(tracing, meters)
        async with services.running(), _instance(services) as instance:
            assert instance.consumer is not None
            yield Way(services.client, instance.consumer, meters)


@asynccontextmanager
async def _instance(services: Services) -> AsyncGenerator[Instance]:
    instance, ready = Instance(own.Stages, services), asyncio.Event()
    running = asyncio.create_task(instance.run(ready.set))
    await ready.wait()
    try:
        yield instance
    finally:
        instance.stop(5)
        await running


def _services(tracing: Tracing | None, meters: Meters) -> Services:
    plan, store = own.app.plan(), MemoryStore()
    return Services(
        Runtime(
            plan=plan,
            codec=Codec(plan.types, plan.wire_names, plan.codec),
            store=store,
            transport=MemoryTransport(),
            bell=Bell(),
            clock=SystemClock(),
            owner=store.owner,
            tracing=tracing,
            meters=meters,
        )
    )


async def measure(rounds: int, count: int) -> dict[str, Way]:
    """Run rounds, each of them in an order of its own: what ran before leaves its caches."""
    messages = [own.First(**meter.fields(number)) for number in range(count)]
    async with AsyncExitStack() as stack:
        ways = {
            name: await stack.enter_async_context(_way(ratio)) for name, ratio in WAYS.items()
        }
        order = list(ways.values())
        gc.freeze()
        for _ in range(WARM_ROUNDS + rounds):
            random.shuffle(order)
            for way in order:
                await way.round(messages)
        for way in order:
            del way.sends[:WARM_ROUNDS], way.stages[:WARM_ROUNDS]
        return ways


def on_one_core() -> None:
    """Stay on one core from now on."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--messages", type=int, default=200)
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    on_one_core()
    ways = asyncio.run(measure(given.rounds, given.messages))
    off = ways.pop(OFF)
    print(
        f"{OFF}: send {median(off.sends):.1f} µs, "
        f"two stages {median(off.stages):.1f} µs a message"
    )
    for name, way in ways.items():
        print(
            f"{name}: send {_told(way.sends, off.sends)}, "
            f"two stages {_told(way.stages, off.stages)}"
        )


def _told(of: Sequence[float], against: Sequence[float]) -> str:
    middle, low, high = difference(of, against)
    return f"{middle:+.2f} µs [{low:+.2f}, {high:+.2f}], {middle / median(against):+.1%}"


if __name__ == "__main__":
    main()
