"""Runs the app in this process, as `rolekit run` would, with the services at hand."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.meter import Meter
from benchmarks.own import app as own
from benchmarks.own.app import HITS, TABLE
from benchmarks.own.profiling import profile
from rolekit.flow.tracing import Tracing
from rolekit.garbage import pass_over_what_is_there
from rolekit.link import OWNER_BITS
from rolekit.observe.meters import Meters
from rolekit.observe.tracing import FIRST_PER_S, Sampling, Tracer
from rolekit.roles.host import Instance
from rolekit.wiring import migrate, open_host
from rolekit.wiring.parts import build, hear
from rolekit.wiring.relaying import run_relay
from rolekit.wiring.shipping import Shipping

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.meter import Job
    from rolekit import App
    from rolekit.flow.app_client import AppClient
    from rolekit.roles.base import Role
    from rolekit.roles.services import Services
    from rolekit.wiring.hosting import Host


@dataclass(slots=True)
class Ground:
    """The services of an app in this process, and what counts."""

    job: Job
    app: App
    services: Services
    meter: Meter
    done: asyncio.Event

    @property
    def client(self) -> AppClient:
        """The client of the app."""
        return self.services.client

    def expect(self, wanted: int) -> None:
        """Count hits from now on, up to `wanted`."""
        self.done.clear()
        self.meter = Meter(self.job, self.done.set, wanted=wanted)
        profile(self.meter)
        HITS.start, HITS.hit = self.meter.start, self.meter.hit

    @asynccontextmanager
    async def instance(
        self, role: type[Role], listening: socket.socket | None = None
    ) -> AsyncGenerator[None]:
        """Run one instance of a role inside the block."""
        ready = asyncio.Event()
        pass_over_what_is_there()
        one = Instance(role, self.services, listening=listening)
        running = asyncio.create_task(one.run(ready.set))
        await ready.wait()
        try:
            yield
        finally:
            one.stop(5)
            await running


@asynccontextmanager
async def ground(job: Job, app: App = own.app) -> AsyncGenerator[Ground]:
    """Be a host of one process inside the block: lease, relay and wake-ups."""
    os.environ["ROLEKIT_QUEUE_TYPE"] = job.queue_type
    plan = app.plan()
    queues = plan.queues()
    await migrate(app.name, job.database, job.broker, queues, partitions=plan.partitions)
    async with (
        open_host(app.name, job.database, job.broker, queues) as host,
        traced(job.options.get("traces")) as tracing,
    ):
        owner = host.epoch << OWNER_BITS | 1
        meters = Meters() if job.options.get("meters") else None
        services = build(
            plan, owner, job.database, job.broker, tracing=tracing, meters=meters
        ).services
        async with services.running():
            async with services.runtime.store.transaction() as tx:
                await tx.execute(TABLE, ())
            stopped = asyncio.Event()
            tasks = [
                asyncio.create_task(run_relay(services, lambda: None, stopped)),
                asyncio.create_task(_listen(host, services, owner)),
            ]
            done = asyncio.Event()
            yield Ground(job, app, services, Meter(job, done.set), done)
            stopped.set()
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def traced(
    ratio: float | None, first_per_s: int = FIRST_PER_S
) -> AsyncGenerator[Tracing | None]:
    """Ship spans as an instance does, to a process that throws them away.

    Args:
        ratio: The share that is kept; None: trace nothing.
        first_per_s: So many that begin in a second are kept in any case.
    """
    if ratio is None:
        yield None
        return
    ours, theirs = socket.socketpair()
    with theirs:
        reader = await asyncio.create_subprocess_exec(
            "cat", stdin=theirs, stdout=asyncio.subprocess.DEVNULL
        )
    _, writer = await asyncio.open_connection(sock=ours)

    sampling = Sampling(ratio=ratio, first_per_s=first_per_s)
    tracer = Tracer(Shipping(writer).ship, sampling, role="Stages", instance="Stages/0")
    yield Tracing(tracer, system="rabbitmq", prefix=f"{own.app.name}.", leaves_later=True)
    writer.close()
    await reader.wait()


async def _listen(host: Host, services: Services, owner: int) -> None:
    async for topics in host.topics():
        hear(services.runtime.bell, owner, topics)
