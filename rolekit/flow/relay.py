"""Moves what no instance holds: what is due, what the dead left, what ran out of time.

Several relays do no harm, since each row is claimed by one of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import RolekitError
from rolekit.store.base import OUTBOX, SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit.bell import Bell
    from rolekit.clock import Clock
    from rolekit.flow.timers import Timers
    from rolekit.store.base import Commit, Outgoing, Store
    from rolekit.transport.base import Transport

log = structlog.get_logger("rolekit.relay")

BATCH = 500
ADOPT_EVERY_S = 1.0
HOUSE_EVERY_S = 60.0
AWAY_S = 0.5
MAX_SLEEP_S = 1.0
LOOK_AT_TIMERS_S = 5.0
"""A timer that another host planted, or moved on, is seen by then."""


class Relay:
    """Runs the relay of one host.

    Args:
        store: Where rows are.
        transport: Hands back what the dead still hold.
        bell: Rings for queues that got something, and for the schedule.
        clock: Says what is due.
        leave: Takes outbox rows to publish; None where the transport joins the store.
        timers: Of handlers that are called by time.
    """

    def __init__(
        self,
        store: Store,
        transport: Transport,
        bell: Bell,
        clock: Clock,
        leave: Callable[[Sequence[Outgoing]], None] | None,
        timers: Timers | None = None,
    ) -> None:
        self._store = store
        self._transport = transport
        self._bell = bell
        self._clock = clock
        self._leave = leave
        self._timers = timers
        self._planned = asyncio.Event()
        self._left_behind = asyncio.Event()

    async def run(self) -> None:
        """Relay until cancelled."""
        offs = [
            self._bell.on([SCHEDULE], self._planned.set),
            self._bell.on([OUTBOX], self._left_behind.set),
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._every(0, self._move_and_sleep))
                tasks.create_task(self._every(ADOPT_EVERY_S, self.sweep))
                tasks.create_task(self._every(0, self._adopt_when_told))
                tasks.create_task(self._every(HOUSE_EVERY_S, self._keep_house))
                if self._timers is not None and self._timers.has_any:
                    tasks.create_task(self._every(0, self._fire_and_sleep))
        finally:
            for off in offs:
                off()

    async def move_due(self) -> int:
        """Move everything that is due now; return how many packets that was."""
        moved = 0
        while True:
            commit = await self._store.move_due(self._clock.now_ms(), BATCH)
            self._tell(commit)
            count = commit.moved
            moved += count
            if count < BATCH:
                return moved

    async def fire(self) -> None:
        """Send the firings that are due of handlers that are called by time."""
        if self._timers is not None and self._timers.has_any:
            for commit in await self._timers.fire():
                self._tell(commit)

    async def sweep(self) -> None:
        """Hand back what the dead hold; end sequences whose time is up; adopt the outbox."""
        await self._transport.recover()
        self._tell(await self._store.expire(self._clock.now_ms(), BATCH))
        await self._adopt()

    async def _adopt(self) -> None:
        if self._leave is not None:
            rows = await self._store.adopt(BATCH)
            if rows:
                log.info("adopted rows of the outbox that nobody held", rows=len(rows))
                self._leave(rows)

    async def _adopt_when_told(self) -> None:
        await self._left_behind.wait()
        self._left_behind.clear()
        await self._adopt()

    async def _keep_house(self) -> None:
        await self._store.keep_house(self._clock.now_ms())
        if self._timers is not None:
            await self._timers.drop_gone()

    async def _fire_and_sleep(self) -> None:
        await self.fire()
        next_ms = None if self._timers is None else await self._timers.next_ms()
        sleep_s = LOOK_AT_TIMERS_S
        if next_ms is not None:
            sleep_s = min(max((next_ms - self._clock.now_ms()) / 1000, 0.001), sleep_s)
        await asyncio.sleep(sleep_s)

    async def _move_and_sleep(self) -> None:
        self._planned.clear()
        await self.move_due()
        due_ms = await self._store.next_due_ms()
        sleep_s = MAX_SLEEP_S
        if due_ms is not None:
            sleep_s = min(max((due_ms - self._clock.now_ms()) / 1000, 0.001), MAX_SLEEP_S)
        try:
            async with asyncio.timeout(sleep_s):
                await self._planned.wait()
        except TimeoutError:
            pass

    def _tell(self, commit: Commit) -> None:
        if commit.leaving and self._leave is not None:
            self._leave(commit.leaving)
        self._bell.ring(commit.topics)

    async def _every(self, seconds: float, turn: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await turn()
            except RolekitError as error:
                log.warning("relay waits", error=str(error))
                await asyncio.sleep(AWAY_S)
            if seconds:
                await asyncio.sleep(seconds)
