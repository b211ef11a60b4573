"""What goes wrong in the simulated fleet, and for how long."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from rolekit.store.postgres.keys import MEMBER_S

if TYPE_CHECKING:
    from tests.property.simulated_copy import Copy
    from tests.property.simulation import World

COPIES = 2
AT_ONCE = ("kill", "kill", "stop", "scale", "down")
FOR_A_WHILE = ("pause", "sleep", "sleep", "away", "cut", "hide", "lease")
RARELY = 0.3
HEARTBEAT_S = 6.0
"""A broker gives up a connection on which nothing was heard for so long."""


class Faults:
    """Disturbs a world by its seed.

    Args:
        world: Which.

    Attributes:
        is_whole: Set while every queue is there.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._draw = world.fate.random
        self._under_way: set[asyncio.Task[None]] = set()
        self.is_whole = asyncio.Event()
        self.is_whole.set()

    async def disturb(self) -> None:
        """Let one thing go wrong."""
        world, draw = self._world, self._draw
        copy = draw.choice(world.copies)
        match draw.choice(AT_ONCE + FOR_A_WHILE):
            case "down" if draw.random() < RARELY:
                await self._down(copy)
            case "kill" | "down":
                world.remove(copy)
                await copy.kill()
                await world.add(copy.host)
            case "stop":
                world.remove(copy)
                await copy.stop(draw.choice((0, 0.05, 2)))
                await world.add(copy.host)
            case "scale" if len(world.copies) > COPIES:
                world.remove(copy)
                await copy.stop(1)
            case "scale":
                await world.add(copy.host)
            case fault:
                task = asyncio.create_task(self._for_a_while(copy, fault))
                self._under_way.add(task)

    async def over(self) -> None:
        """Wait until nothing is wrong any more."""
        while self._under_way:
            await self._under_way.pop()

    def nap(self, copy: Copy) -> None:
        """Put an instance to sleep now, in the middle of what it does, past its membership."""
        sleep = self._sleep(copy, MEMBER_S + self._draw.random() * 5)
        self._under_way.add(asyncio.create_task(sleep, context=Context()))

    async def _down(self, copy: Copy) -> None:
        """Lose a whole host, supervisor and all; another one comes in its place."""
        world, gone = self._world, copy.host
        gone.end()
        world.hosts.remove(gone)
        instead = world.new_host()
        for one in list(gone.copies):
            world.remove(one)
            await one.kill(is_noted=False)
            await world.add(instead)

    async def _for_a_while(self, copy: Copy, fault: str) -> None:
        for_s = self._draw.choice((0.1, 1, 10)) * self._draw.random()
        match fault:
            case "pause":
                copy.later(copy.instance.pause, True)  # noqa: FBT003 - as Role calls it
                await asyncio.sleep(for_s)
                copy.later(copy.instance.pause, False)  # noqa: FBT003 - likewise
            case "sleep":
                await self._sleep(copy, for_s)
            case "away":
                copy.store.is_away = True
                await asyncio.sleep(for_s)
                copy.store.is_away = False
            case "cut":
                copy.transport.cut()
                await asyncio.sleep(for_s)
                copy.transport.mend()
            case "lease":
                copy.host.is_away = True
                await asyncio.sleep(for_s * 3)
                copy.host.is_away = False
            case _:
                await self._hide(for_s)

    async def _sleep(self, copy: Copy, for_s: float) -> None:
        """Stop a process; after a while the broker takes its connection for lost."""
        is_cut = for_s > HEARTBEAT_S and not self._world.broker.has_epochs
        copy.process.stop()
        await asyncio.sleep(min(for_s, HEARTBEAT_S))
        if is_cut:
            copy.transport.cut()
        await asyncio.sleep(max(for_s - HEARTBEAT_S, 0))
        copy.process.go_on()
        if is_cut:
            copy.transport.mend()

    async def _hide(self, for_s: float) -> None:
        """Have a queue not be there."""
        world = self._world
        world.broker.hidden = self._draw.choice(world.plan.queues())
        self.is_whole.clear()
        await asyncio.sleep(for_s)
        world.broker.hidden = ""
        self.is_whole.set()
