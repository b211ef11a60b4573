"""One instance of one role, on queues and a store in memory, without the rest of an app."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from rolekit import App, Message, WorkerRole
from rolekit.bell import Bell
from rolekit.clock import SystemClock
from rolekit.flow.call import Handler
from rolekit.flow.consume import Consumer
from rolekit.flow.pipeline import Pipeline
from rolekit.flow.runtime import Runtime
from rolekit.model.codec import Codec
from rolekit.roles.services import Services
from rolekit.store.memory import MemoryStore
from rolekit.transport.memory import MemoryTransport
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.flow.app_client import AppClient
    from rolekit.flow.tracing import Tracing
    from rolekit.model.plan import AppPlan
    from rolekit.observe.meters import Meters
    from rolekit.store.base import Commit, Step
    from rolekit.transport.base import Transport

R = TypeVar("R", bound=WorkerRole)

SOON_S = patient(5.0)
"""Nothing here takes so long, unless it never comes."""


class Note(Message):
    """Whatever a handler of a test is to do."""

    n: int


class Refusing(MemoryStore):
    """Refuses its first commits, each with the next of these errors."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.refused = asyncio.Semaphore(0)
        self._errors = list(errors)

    async def commit(self, steps: Sequence[Step]) -> Commit:
        if self._errors:
            self.refused.release()
            raise self._errors.pop(0)
        return await super().commit(steps)


def services_of(
    plan: AppPlan,
    store: MemoryStore | None = None,
    transport: Transport | None = None,
    tracing: Tracing | None = None,
    meters: Meters | None = None,
) -> Services:
    """Make the parts of one process."""
    store = store or MemoryStore()
    runtime = Runtime(
        plan=plan,
        codec=Codec(plan.types, plan.wire_names, plan.codec),
        store=store,
        transport=transport or MemoryTransport(),
        bell=Bell(),
        clock=SystemClock(),
        owner=store.owner,
        tracing=tracing,
        meters=meters,
    )
    return Services(runtime)


class Line(Generic[R]):
    """An instance as its process has it; the test holds the role, the store and the queues.

    Attributes:
        recycled: Why the instance should be replaced, each time that was said.
    """

    def __init__(
        self,
        role: type[R],
        store: MemoryStore | None = None,
        tracing: Tracing | None = None,
        meters: Meters | None = None,
    ) -> None:
        plan = App("line", roles=[role]).plan()
        self.role = role()
        self.store = store or MemoryStore()
        self.transport = MemoryTransport()
        self.recycled: list[str] = []
        self._services = services = services_of(
            plan, self.store, self.transport, tracing, meters
        )
        runtime = services.runtime
        handlers = {
            one.name: Handler(one, getattr(self.role, one.method))
            for one in plan.handlers.values()
        }
        pipeline = Pipeline(
            runtime, handlers, services.committer, services.forwarder, self.recycled.append
        )
        self.consumer = Consumer(
            runtime, handlers, pipeline, services.committer, role.concurrency
        )

    @property
    def client(self) -> AppClient:
        """The way in."""
        return self._services.client

    async def send(self, *messages: Message) -> None:
        """Let these come together."""
        await self._services.client.send_many(messages)

    async def idle(self) -> None:
        """Wait until nothing waits, and nothing is in hand.

        Raises:
            TimeoutError: Something hangs.
        """
        async with asyncio.timeout(SOON_S):
            await self.transport.broker.idle()
            await self.consumer.idle()

    @property
    def reasons(self) -> list[str]:
        """Why messages died."""
        return [dead.reason for dead in self.store.tables.dead.values()]


@asynccontextmanager
async def working(line: Line[R]) -> AsyncGenerator[R]:
    """Let an instance take messages inside the block."""
    async with line._services.running():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await line.consumer.start()
        try:
            yield line.role
        finally:
            await line.consumer.stop(0)
