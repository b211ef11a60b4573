"""How many messages run at once in an instance, and that a suspect runs alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


class Slot:
    """Room for one message; it is given back once, early or at the end."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free

    def release(self) -> None:
        """Let another begin."""
        free, self._free = self._free, None
        if free is not None:
            free()


class Slots:
    """So many at once, who came first goes first.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = asyncio.Semaphore(limit)
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def one(self, *, alone: bool = False) -> AsyncGenerator[Slot | None]:
        """Run beside others; or with nothing beside it, which waits for their ends.

        Yields:
            The slot, which may be given back before the end; None of one that runs alone.
        """
        if not alone:
            await self._free.acquire()
            slot = Slot(self._free.release)
            try:
                yield slot
            finally:
                slot.release()
            return
        async with self._alone:
            taken = 0
            try:
                for _ in range(self._limit):
                    await self._free.acquire()
                    taken += 1
                yield None
            finally:
                for _ in range(taken):
                    self._free.release()
