"""The connections of one pool; one that was just used serves whoever comes next.

To give a connection back and take another costs a task and several turns of the loop, as much
as a statement. So one goes back a moment after it was taken, and not after each use; at once
where somebody waits, where it is not as it was, and for code of others.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from rolekit.refusals import AWAY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from asyncpg.pool import PoolConnectionProxy

    Pooled: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
else:
    Pooled = object

KEPT_S = 1.0
"""A connection that was taken from the pool goes back after so long, and not after each use."""
WAIT_S = 10.0
"""Who wants a connection waits so long for one."""


@dataclass(slots=True, eq=False)
class Kept:
    """A connection that does not go back to the pool each time; until it `is_over`."""

    connection: Pooled
    is_over: bool = False
    timer: asyncio.TimerHandle | None = None

    @property
    def is_fit(self) -> bool:
        """Whether it is as it was when it was taken."""
        try:
            return not (self.connection.is_closed() or self.connection.is_in_transaction())
        except asyncpg.InterfaceError:  # it was lost, and the pool took it back by itself
            return False

    def end(self) -> None:
        """Have nobody reminded of it any more."""
        if self.timer is not None:
            self.timer.cancel()


class Connections:
    """Opens a pool when a connection is first wanted, and again when it was closed.

    Args:
        open_pool: Opens it.
    """

    def __init__(self, open_pool: Callable[[], Awaitable[Pool]]) -> None:
        self._open_pool = open_pool
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self._at_hand: list[Kept] = []
        self._asking = 0
        self._going_back: set[asyncio.Task[None]] = set()

    async def take(self) -> Kept:
        """Take one for our own code, which holds on to it until it gives it back, no longer.

        Raises:
            OSError, asyncpg.PostgresError, TimeoutError: None can be had in time.
        """
        while self._at_hand:
            kept = self._at_hand.pop()
            if kept.is_fit:
                return kept
            await self.give_back(kept)
        kept = Kept(await self.acquire())
        kept.timer = asyncio.get_running_loop().call_later(KEPT_S, self._end_keeping, kept)
        return kept

    async def put(self, kept: Kept) -> None:
        """Keep one at hand that was used without an error, or give it back."""
        if kept.is_over or self._asking or not kept.is_fit:
            await self.give_back(kept)
        else:
            self._at_hand.append(kept)

    async def give_back(self, kept: Kept) -> None:
        """Give one back to the pool."""
        kept.end()
        await self.release(kept.connection)

    def _end_keeping(self, kept: Kept) -> None:
        kept.is_over = True
        if kept in self._at_hand:  # else it is in use, and goes back then
            self._at_hand.remove(kept)
            going = asyncio.get_running_loop().create_task(self.give_back(kept))
            self._going_back.add(going)
            going.add_done_callback(self._going_back.discard)

    async def acquire(self) -> Pooled:
        """Take one from the pool, for code of others; likewise."""
        self._asking += 1  # what others are done with meanwhile goes to the pool, and so here
        try:
            if self._at_hand:  # the pool gives it out again, in another's hands
                await self.give_back(self._at_hand.pop())
            pool = self._pool or await self._opened()
            return await pool.acquire(timeout=WAIT_S)
        finally:
            self._asking -= 1

    async def release(self, connection: Pooled) -> None:
        """Give back what was acquired; never raises for one that is lost."""
        if self._pool is not None:  # else it was closed, and this with it
            # Shielded by asyncpg itself; a broken connection is dropped by the pool.
            with contextlib.suppress(*AWAY):
                await self._pool.release(connection)

    async def _opened(self) -> Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await self._open_pool()
            return self._pool

    @property
    def counts(self) -> tuple[int, int]:
        """How many are in use, and how many are open besides."""
        pool = self._pool
        if pool is None:
            return 0, 0
        idle = pool.get_idle_size() + sum(kept.is_fit for kept in self._at_hand)
        return pool.get_size() - idle, idle

    def close(self) -> None:
        """Close every one at once. Safe to call twice."""
        pool, self._pool = self._pool, None
        for kept in self._at_hand:
            kept.end()
        self._at_hand.clear()
        if pool is not None:
            pool.terminate()
