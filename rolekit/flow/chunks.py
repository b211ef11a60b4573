"""Sends of a client that leave by the hundred, in the order in which they were made."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolekit.flow.intake import Intake
    from rolekit.model.envelope import Packet

CHUNK = 250
"""So many messages of a list leave together; a broker takes them as one piece, in order."""


class Chunks:
    """Lets packets leave in chunks, in order; one is made while the one before leaves.

    A broker keeps the order of what is published one after the other. Two commits need not,
    so where the queues are in the database each waits for the one before.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._packets: list[Packet] = []
        self._leaving: deque[asyncio.Task[object]] = deque()

    def add(self, packets: list[Packet]) -> bool:
        """Add packets; say whether they are enough to let go."""
        self._packets += packets
        return len(self._packets) >= CHUNK

    async def let_go(self) -> None:
        """Let what was added leave; wait while enough is under way."""
        packets, self._packets = self._packets, []
        while len(self._leaving) >= self._intake.at_once:
            await self._leaving[0]
            self._leaving.popleft()
        # Owned by finish() and abandon().
        self._leaving.append(asyncio.create_task(self._intake.leave(packets, [], None)))

    async def finish(self) -> None:
        """Wait until everything is durable."""
        await self.let_go()
        while self._leaving:
            await self._leaving[0]
            self._leaving.popleft()

    async def abandon(self) -> None:
        """End what is under way, after an error."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
