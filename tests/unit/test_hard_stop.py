"""A hard stop of an instance whose soft one is under way: what is in hand is handed back."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from rolekit import App, Message, WorkerRole, handle
from rolekit.roles.host import Instance
from rolekit.transport.memory import MemoryTransport
from tests.unit.fakes_flow import SOON_S, services_of

pytestmark = pytest.mark.anyio


class Job(Message):
    """Never done."""


class Stuck(WorkerRole):
    """Never done with what it took."""

    began: ClassVar[asyncio.Event]

    @handle
    async def work(self, job: Job) -> None:
        self.began.set()
        await asyncio.Event().wait()


class Keyed(Message):
    """Never done either."""

    name: str = "x"


class StuckByKey(WorkerRole):
    """Likewise, one at a time."""

    began: ClassVar[asyncio.Event]

    @handle(key="name")
    async def work(self, job: Keyed) -> None:
        self.began.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(("role", "job"), [(Stuck, Job()), (StuckByKey, Keyed())])
async def test_it_does_not_wait_for_the_time_of_the_soft_one(
    role: type[Stuck | StuckByKey], job: Message
) -> None:
    app = App("hard", roles=[role])
    transport = MemoryTransport()
    services = services_of(app.plan(), transport=transport)
    role.began = asyncio.Event()
    instance = Instance(role, services)
    async with services.running(), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(instance.run(lambda: None))
        await services.client.send(job)
        await role.began.wait()

        with capture_logs():
            instance.stop(600)
            for _ in range(20):  # until it waits for what is in hand
                await asyncio.sleep(0)
            instance.stop(0)
            async with asyncio.timeout(SOON_S):
                await running
