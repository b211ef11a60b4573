"""What the flow of one process runs beside its instance: connections, commits, sends."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rolekit.flow.app_client import AppClient
from rolekit.flow.commit import Committer
from rolekit.flow.outbox import Forwarder, Outbox
from rolekit.observe.meters import FlowMeters

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.flow.runtime import Runtime


class Services:
    """The loops that the flow of one process needs, owned by one task group.

    Args:
        runtime: Of this process.
        intake_limit: Messages waiting in one queue above which clients get no more in.
    """

    def __init__(self, runtime: Runtime, *, intake_limit: int = 1_000_000) -> None:
        self.runtime = runtime
        joins = runtime.transport.features.joins_store
        tracing = runtime.tracing
        self.outbox = None if joins else Outbox(runtime.transport, runtime.store, tracing)
        self.committer = Committer(runtime.store, runtime.bell, self.outbox, tracing)
        self.forwarder = Forwarder(runtime.transport)
        self.client = AppClient(runtime, self.outbox, intake_limit=intake_limit)
        if runtime.meters is not None:
            self._count(FlowMeters(runtime.meters))

    def _count(self, meters: FlowMeters) -> None:
        self.committer.meters = self.forwarder.meters = meters
        if self.outbox is not None:
            self.outbox.meters = meters
        self.client.count_with(meters)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Connect, declare the app's queues and run the loops inside the block."""
        try:
            async with self._loops():
                yield
        finally:
            await self.runtime.transport.stop()
            await self.runtime.store.stop()

    @asynccontextmanager
    async def _loops(self) -> AsyncGenerator[None]:
        runtime = self.runtime
        await runtime.store.start()
        await runtime.transport.start()
        await runtime.transport.declare(runtime.own_queues)
        loops = [self.committer.run, self.forwarder.run, self.client.run, runtime.bell.run]
        if self.outbox is not None:
            loops.append(self.outbox.run)
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(loop()) for loop in loops]
            try:
                yield
            finally:
                for task in started:
                    task.cancel()
