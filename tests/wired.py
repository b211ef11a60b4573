"""An app on real servers, all in this process: roles, relay and client, wired as usual."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rolekit import wiring
from rolekit.link import OWNER_BITS
from rolekit.roles.host import Instance
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.wiring.parts import build, hear, sources_of
from rolekit.wiring.relaying import run_relay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit import App
    from rolekit.roles.services import Services


__all__ = ["RabbitTransport", "wired"]
"""The transport is imported here, since that would block a loop."""


@asynccontextmanager
async def wired(app: App, database: str, broker: str = "") -> AsyncGenerator[Services]:
    """Run every role of an app, and its relay, inside the block."""
    plan = app.plan()
    names, sources = plan.queues(), sources_of(plan)
    await wiring.migrate(app.name, database, broker, names, sources)
    async with wiring.open_host(app.name, database, broker, names, sources) as host:
        owner = host.epoch << OWNER_BITS | 1
        services = build(plan, owner, database, broker).services
        instances = [Instance(role, services) for role in app.roles]
        over = asyncio.Event()

        async def listen() -> None:
            async for topics in host.topics():
                hear(services.runtime.bell, owner, topics)

        async with services.running(), asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen())
            started = [asyncio.Event() for _ in instances]
            for instance, event in zip(instances, started, strict=True):
                tasks.create_task(instance.run(event.set))
            tasks.create_task(run_relay(services, lambda: None, over))
            for event in started:
                await event.wait()
            try:
                yield services
            finally:
                over.set()
                listening.cancel()
                for instance in instances:
                    instance.stop(2)
