"""How many messages run at once in an instance, and that a suspect runs alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


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
    async def one(self, *, alone: bool = False) -> AsyncGenerator[None]:
        """Run beside others; or with nothing beside it, which waits for their ends."""
        if not alone:
            async with self._free:
                yield
            return
        async with self._alone:
            taken = 0
            try:
                for _ in range(self._limit):
                    await self._free.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._free.release()
