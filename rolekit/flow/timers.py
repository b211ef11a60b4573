"""Calls handlers by time: whoever moves a timer on sends its firing, in one transaction.

Each handler that is called by time has one row, its timer, with when it is due next. Every
relay looks; the one that moves the row sends, so it does not matter how many hosts there are,
or that all of them were down when it was due. Its firing has the id of (name, due time), so
its outcome is recorded once, whatever else may happen.

What the code says goes into the row when a relay starts, so the code that started last
counts. A row that others let pass, since no relay of their code is left, is taken over; one
that nobody's code knows is dropped.

Source: DESIGN 4.4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from rolekit.model.envelope import Head, Kind, Packet, encode_head
from rolekit.model.timing import firing_id
from rolekit.store.base import TimerRow

if TYPE_CHECKING:
    from rolekit.clock import Clock
    from rolekit.model.envelope import CodecName
    from rolekit.model.plan import AppPlan
    from rolekit.model.timing import Timing
    from rolekit.store.base import Commit, Store

log = structlog.get_logger("rolekit.timers")

LEFT_MS = 30_000
"""A timer that is seen overdue for so long has no relay that knows its schedule."""
GONE_MS = 600_000
"""Likewise, when what knows it may just be away for a while: then its row is dropped."""
DAY_MS = 86_400_000


class Timers:
    """Looks after the timers of one app.

    Args:
        plan: The app.
        store: Where timers are.
        clock: Says what is due.
    """

    def __init__(self, plan: AppPlan, store: Store, clock: Clock) -> None:
        self._app = plan.name
        self._timings = {one.name: one.timing for one in plan.timed if one.timing is not None}
        self._codec: CodecName = plan.codec
        self._store = store
        self._clock = clock
        self._has_begun = False
        self._foreign: dict[str, tuple[TimerRow, int]] = {}

    @property
    def has_any(self) -> bool:
        """Whether the app has handlers that are called by time."""
        return bool(self._timings)

    async def next_ms(self) -> int | None:
        """Say when the next one is due, of those that this app's code knows."""
        if not self._timings:
            return None
        rows = await self._rows()
        return min((row.next_ms for row in rows.values() if self._is_ours(row)), default=None)

    async def fire(self) -> list[Commit]:
        """Send the firings that are due; return what was committed."""
        now_ms = self._clock.now_ms()
        rows = await self._planted(now_ms)
        commits: list[Commit] = []
        for row in rows.values():
            timing = self._timings.get(row.handler)
            if timing is None or row.schedule != timing.text:
                continue
            due = timing.due(row.next_ms, now_ms)
            if due.next_ms == row.next_ms:
                continue
            packets = [self._firing(row.handler, ms, now_ms) for ms in due.fires_ms]
            fired_ms = due.fires_ms[-1] if due.fires_ms else row.fired_ms
            becomes = replace(row, next_ms=due.next_ms, fired_ms=fired_ms)
            commit = await self._store.fire(row, becomes, packets)
            if commit is not None:
                commits.append(commit)
                log.debug("fired", handler=row.handler, firings=len(packets))
        return commits

    async def drop_gone(self) -> None:
        """Drop rows that have been due for long and that this code does not know."""
        now_ms = self._clock.now_ms()
        for row in (await self._rows()).values():
            if row.handler not in self._timings and now_ms - row.next_ms > GONE_MS:
                await self._store.drop_timer(row)
                log.info("dropped a timer that no code knows", handler=row.handler)

    async def _rows(self) -> dict[str, TimerRow]:
        return {row.handler: row for row in await self._store.timers()}

    def _is_ours(self, row: TimerRow) -> bool:
        timing = self._timings.get(row.handler)
        return timing is not None and row.schedule == timing.text

    async def _planted(self, now_ms: int) -> dict[str, TimerRow]:
        """Read the rows; make or change first what is missing, or is another one."""
        rows = await self._rows()
        new = [
            TimerRow(handler=name, schedule=timing.text, next_ms=timing.next_ms(now_ms))
            for name, timing in self._timings.items()
            if self._is_to_plant(rows.get(name), timing, now_ms)
        ]
        self._has_begun = True
        if not new:
            return rows
        await self._store.plant(new)
        for row in new:
            log.info("planned", handler=row.handler, schedule=row.schedule)
        return await self._rows()

    def _is_to_plant(self, row: TimerRow | None, timing: Timing, now_ms: int) -> bool:
        if row is None:
            return True
        if row.schedule == timing.text:
            self._foreign.pop(row.handler, None)
            return False
        return not self._has_begun or self._is_left(row, now_ms)

    def _is_left(self, row: TimerRow, now_ms: int) -> bool:
        """Say whether a row of another schedule was seen to be overdue, and nobody fired it.

        After an outage everything is overdue: whoever looks first must not judge the others.
        """
        if row.next_ms > now_ms:
            return False
        held, since_ms = self._foreign.get(row.handler, (None, now_ms))
        if held != row:
            self._foreign[row.handler] = row, now_ms
            return False
        return now_ms - since_ms > LEFT_MS

    def _firing(self, handler: str, due_ms: int, now_ms: int) -> Packet:
        """Build a firing, born when it was due; or now, where the inbox may not know then."""
        id_ = firing_id(self._app, handler, due_ms)
        head = Head(kind=Kind.FIRING, codec=self._codec, root=id_, sent_at_ms=due_ms)
        return Packet(
            queue=handler,
            id=id_,
            birth_ms=due_ms if now_ms - due_ms < DAY_MS else now_ms,
            head=encode_head(head),
        )
