"""One instance of the simulated fleet, wired as a real one is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVarTuple

from rolekit.bell import Bell
from rolekit.errors import RolekitError
from rolekit.flow.intake import Intake
from rolekit.flow.relay import Relay
from rolekit.flow.runtime import Runtime
from rolekit.roles.host import Instance
from rolekit.roles.services import Services
from tests.property.jumping import LoopClock, Process
from tests.property.simulated_broker import ShakyTransport
from tests.property.simulated_store import ShakyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rolekit import Message
    from tests.property.simulated_host import Host
    from tests.property.simulation import World

INTAKE_LIMIT = 1_000_000

_Ts = TypeVarTuple("_Ts")


class Copy:
    """One instance, which can be stopped, killed and put to sleep.

    Args:
        world: It lives in.
        owner: Names it.
        host: It runs on.
    """

    def __init__(self, world: World, owner: int, host: Host) -> None:
        self.owner = owner
        self.host = host
        self.process = Process()
        self.store = ShakyStore(
            world.tables, owner, world.fate, world.record, world.members, world.leases
        )
        self.transport = ShakyTransport(world.broker, owner, world.fate)
        self.process.context.run(self._wire, world)
        self._task: asyncio.Task[None] | None = None

    def _wire(self, world: World) -> None:
        plan = world.plan
        self.runtime = Runtime(
            plan=plan,
            codec=world.codec,
            store=self.store,
            transport=self.transport,
            bell=Bell(world.carry),
            clock=LoopClock(),
            owner=self.owner,
        )
        self._services = Services(self.runtime)
        self.instance = Instance(world.role, self._services, values={"concurrency": "5"})
        self.intake = Intake(self.runtime, self._services.outbox, INTAKE_LIMIT)
        outbox = self._services.outbox
        assert outbox is not None
        self._relay = Relay(
            self.store, self.transport, self.runtime.bell, LoopClock(), outbox.leave
        )

    async def start(self) -> None:
        """Begin to take messages."""
        ready = asyncio.Event()
        self._task = self._own(self._live(ready))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self.check()

    async def _live(self, ready: asyncio.Event) -> None:
        async with self._services.running(), asyncio.TaskGroup() as tasks:
            relay = tasks.create_task(self._relay.run())
            try:
                await self.instance.run(ready.set)
            finally:
                relay.cancel()
                await self.intake.close()

    def _own(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Begin something in this process."""
        return asyncio.create_task(work, context=self.process.context.copy())

    async def send(self, message: Message, root: str) -> None:
        """Send into the stream of the app, as its client does, or a plain message."""
        await self._own(self._streamed(message, root))

    async def _streamed(self, message: Message, root: str) -> None:
        beside, streamed = await self.intake.streamed(message, root, None, "s")
        with suppress(RolekitError):  # whether it was sent is not known
            await self.intake.streams.submit(beside, streamed)

    def later(self, call: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Have something come to this process from outside."""
        asyncio.get_running_loop().call_soon(call, *args, context=self.process.context)

    async def kill(self, *, is_noted: bool = True) -> None:
        """Die, in the middle of whatever it does; unless it is noted, nobody knows."""
        if is_noted:
            self.store.crash()
            self.transport.crash()
        else:
            self.store.is_dead = True
            self.transport.die()
        self.process.go_on()
        await self._own(self._end())

    async def stop(self, grace_s: float) -> None:
        """Finish what is in hand within a time, hand back the rest."""
        self.process.go_on()
        self.instance.stop(grace_s)
        assert self._task is not None
        await self._task
        self.store.crash()  # what it had not sent may be adopted

    async def _end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        for consumer in (self.instance.consumer, self.instance.keyed):
            if consumer is not None:
                await consumer.stop(0)

    def check(self) -> None:
        """Raise what ended it."""
        if self._task is not None and self._task.done():
            self._task.result()
            raise AssertionError("it ended by itself")
