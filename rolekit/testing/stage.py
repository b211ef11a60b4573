"""Where an app runs in a test: queues in memory, a store, and one life for each role.

A life is what a process would be: it has an owner number, connections and loops of its own,
so that it can be killed without the others noticing.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, cast

from rolekit.bell import Bell
from rolekit.clock import ManualAlarms
from rolekit.errors import RolekitError
from rolekit.flow.runtime import Runtime
from rolekit.model.codec import Codec
from rolekit.roles.host import Instance, bound_socket
from rolekit.roles.http_app import WebApp, asgi
from rolekit.roles.services import Services
from rolekit.roles.web import WebRole
from rolekit.testing.journal import WatchedMemoryStore, WatchedPostgresStore
from rolekit.transport.memory import MemoryBroker, MemoryTransport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    import anyio

    from rolekit.model.plan import AppPlan
    from rolekit.roles.base import Role
    from rolekit.testing.ground import Ground

GRACE_S = 1.0
"""For what is still in hand when a test ends well."""
PASSES = 200
LIVES = 10
"""How often an instance that ends by itself is followed by another."""


class Stage:
    """One app in one loop."""

    def __init__(self, plan: AppPlan, ground: Ground, broker: MemoryBroker) -> None:
        self.plan = plan
        self.ground = ground
        self.broker = broker
        self.bell = Bell()
        self.alarms = ManualAlarms(ground.clock)
        self.random = random.Random(broker.seed)  # noqa: S311 - where to crash, not a secret
        self.lives: list[Life] = []
        self.failed = asyncio.Event()
        self.failures: list[BaseException] = []
        self._processes = 0

    def process(self) -> Services:
        """Make the parts of one more process."""
        self._processes += 1
        owner = self.ground.owner(self._processes)
        plan = self.plan
        runtime = Runtime(
            plan=plan,
            codec=Codec(plan.types, plan.wire_names, plan.codec),
            store=self.ground.store(owner),
            transport=MemoryTransport(self.broker),
            bell=self.bell,
            clock=self.ground.clock,
            alarms=self.alarms,
            owner=owner,
        )
        return Services(runtime)

    def fail(self, error: BaseException) -> None:
        """Remember what ended a life that nobody ended."""
        self.failures.append(error)
        self.failed.set()

    async def quiet(self) -> None:
        """Wait until nothing is queued for a life, in hand, or committed and not sent.

        Whatever ends one of these begins another first, so that a look at all of them, with
        nothing happening in between, cannot miss a message on its way.
        """
        while True:
            turns = self.broker.turns
            await self.broker.idle()
            for life in self.lives:
                await life.settled()
                if life.services.outbox is not None:
                    await life.services.outbox.empty()
            if self.broker.turns == turns and self.broker.is_idle:
                return


class Life:
    """A process of the app: what a client has; with an instance, see `RoleLife`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.services = stage.process()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        stage.lives.append(self)

    async def start(self) -> None:
        """Begin to live.

        Raises:
            Exception: Whatever the role raised in `on_start`.
        """
        ready = asyncio.Event()
        # Owned by stop(), or by kill().
        self._task = asyncio.create_task(self._live(ready), name=f"life {self}")
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([self._task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            await self._task
        self._task.add_done_callback(self._ended)

    async def stop(self, grace_s: float) -> None:
        """End in an orderly way."""
        del grace_s  # there is no handler here that could need it
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def settled(self) -> None:
        """Wait until it works on nothing that no queue knows of."""

    async def _live(self, ready: asyncio.Event) -> None:
        try:
            async with self.services.running():
                ready.set()
                await self._stopping.wait()
        except BaseExceptionGroup as group:
            raise innermost(group) from None

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stage.fail(error)


class RoleLife(Life):
    """The life of one role, instance after instance.

    Args:
        stage: Where.
        role: Which.
        values: Its settings.
    """

    def __init__(self, stage: Stage, role: type[Role], values: Mapping[str, object]) -> None:
        self.role = role
        self._values = values
        self.listening = _socket_of(role, values)
        self.instance: Played | None = None
        super().__init__(stage)

    def __str__(self) -> str:
        return self.role.__name__

    async def stop(self, grace_s: float) -> None:
        """End in an orderly way: what is in hand may be finished first."""
        self._stopping.set()
        if self.instance is not None:
            self.instance.stop(grace_s)
        await super().stop(grace_s)
        if self.listening is not None:
            self.listening.close()

    async def settled(self) -> None:
        """Wait until nothing comes out of a waiting list."""
        if self.instance is not None and self.instance.keyed is not None:
            await self.instance.keyed.idle()

    async def _live(self, ready: asyncio.Event) -> None:
        for _ in range(LIVES):
            self.instance = self._cast()
            try:
                async with self.services.running():
                    await self.instance.run(ready.set)
            except BaseExceptionGroup as group:
                raise innermost(group) from None
            if self._stopping.is_set():
                return
            self.services = self._stage.process()
        why = "" if self.instance is None else self.instance.why_stopped
        raise RolekitError(
            f"{self.role.__name__} ended {LIVES} times, at last because "
            f"{why or 'its run returned'}.",
            fix="A run method goes on until it is cancelled.",
        )

    def _cast(self) -> Played:
        listening = None if self.listening is None else self.listening.dup()
        return Played(self.role, self.services, values=self._values, listening=listening)

    async def kill(self) -> None:
        """Crash in the middle of what it holds, and live again."""
        await self._until_it_holds_something()
        services, task, instance = self.services, self._task, self.instance
        transport, store = services.runtime.transport, services.runtime.store
        assert isinstance(transport, MemoryTransport)  # noqa: S101 - made by process()
        assert isinstance(store, (WatchedMemoryStore, WatchedPostgresStore))  # noqa: S101
        transport.crash()
        await self._stage.ground.crash(store)
        if instance is not None:
            await instance.vanish()
        if task is not None:
            task.remove_done_callback(self._ended)
            task.cancel()
            await asyncio.wait([task])
        await self._stage.ground.bury(services.runtime.owner)
        self.services = self._stage.process()
        await self.start()

    async def _until_it_holds_something(self) -> None:
        """Let it get to work, and then some way, by seed; as long as there is any."""
        names = self._stage.plan.queues(self.role.__name__)
        broker, chance = self._stage.broker, self._stage.random
        await _while(
            lambda: (
                any(broker.depth(n).waiting for n in names)
                and not any(broker.depth(n).in_hand for n in names)
            )
        )
        steps = iter(range(chance.randrange(12)))
        await _while(
            lambda: (
                any(broker.depth(n).in_hand for n in names) and next(steps, None) is not None
            )
        )


class Played(Instance):
    """An instance whose HTTP is answered without a socket, and which may vanish."""

    web: WebApp | None = None

    async def vanish(self) -> None:
        """End as a process does that is killed: nothing is settled, nothing put away."""
        vars(self.role)["on_stop"] = _nothing  # a killed process runs nothing
        for consumer in (self.consumer, self.keyed):
            if consumer is not None:
                await consumer.stop(0)

    async def _serve(self, role: WebRole, stopping: anyio.Event) -> None:
        self.web = asgi(role, self._services.client)
        async with self.web.running():
            await stopping.wait()
            self.web.closing.set()


async def _while(holds: Callable[[], bool]) -> None:
    """Let others run as long as something holds, within reason."""
    for _ in range(PASSES):
        if not holds():
            return
        await asyncio.sleep(0)


async def _nothing() -> None:
    """Stand in for `on_stop`."""


def _socket_of(role: type[Role], values: Mapping[str, object]) -> socket.socket | None:
    """Open a socket for a worker that listens, on a port that is free."""
    bind = str(values.get("bind", role.bind or ""))
    if not bind or issubclass(role, WebRole):
        return None
    return bound_socket(f"{bind.rpartition(':')[0]}:0")


def innermost(error: BaseException) -> BaseException:
    """Return the first error of a group that is none: what a person wants to read."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        error = group.exceptions[0]
    return error
