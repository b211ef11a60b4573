"""An app that lives in the test's own process, by the real clock, on real servers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rolekit import link, wiring
from rolekit.roles.host import Instance
from rolekit.wiring.parts import build, hear
from rolekit.wiring.relaying import run_relay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit import App
    from rolekit.roles.base import Role
    from rolekit.roles.services import Services
    from rolekit.wiring.hosting import Host


@asynccontextmanager
async def living(
    app: App, database: str, broker: str, roles: Sequence[type[Role]]
) -> AsyncGenerator[Services]:
    """Run one instance of each of these roles inside the block, and a relay beside them.

    Yields:
        The services of the relay, whose client sends.
    """
    plan = app.plan()
    queues = plan.queues()
    await wiring.migrate(app.name, database, broker, queues, partitions=plan.partitions)
    async with wiring.open_host(app.name, database, broker, queues) as host:
        owners = [host.epoch << link.OWNER_BITS | n for n in range(1, len(roles) + 2)]
        parts = [build(plan, owner, database, broker).services for owner in owners]
        stopped, ready = asyncio.Event(), [asyncio.Event() for _ in roles]
        tasks = [asyncio.create_task(_listen(host, parts, owners))]
        async with parts[0].running():
            tasks.append(asyncio.create_task(run_relay(parts[0], lambda: None, stopped)))
            tasks += [
                asyncio.create_task(_run(role, services, one, stopped))
                for role, services, one in zip(roles, parts[1:], ready, strict=True)
            ]
            for one in ready:
                await one.wait()
            try:
                yield parts[0]
            finally:
                stopped.set()
                tasks[0].cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def _run(
    role: type[Role], services: Services, ready: asyncio.Event, stopped: asyncio.Event
) -> None:
    async with services.running():
        instance = Instance(role, services)
        running = asyncio.create_task(instance.run(ready.set))
        await stopped.wait()
        instance.stop(5)
        await running


async def _listen(host: Host, parts: Sequence[Services], owners: Sequence[int]) -> None:
    async for topics in host.topics():
        for services, owner in zip(parts, owners, strict=True):
            hear(services.runtime.bell, owner, topics)
