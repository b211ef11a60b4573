"""What every store must do with timers: each firing leaves once, with its row's move."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit.store.base import TimerRow
from tests.conformance.store import packet, sent

if TYPE_CHECKING:
    from tests.conformance.store import Ground


def timer(handler: str = "q", schedule: str = "each hour", next_ms: int = 1000) -> TimerRow:
    return TimerRow(handler=handler, schedule=schedule, next_ms=next_ms)


class Timers:
    """Planted, moved by compare-and-set, dropped."""

    async def test_a_timer_is_read_as_it_was_planted(self, ground: Ground) -> None:
        store, other = await ground.open(), await ground.open()
        before = await store.timers()

        await store.plant([timer("b"), timer("a", next_ms=7)])

        assert before == []
        rows = sorted(await other.timers(), key=lambda row: row.handler)
        assert rows == [timer("a", next_ms=7), timer("b")]

    async def test_planting_changes_another_schedule_only(self, ground: Ground) -> None:
        store = await ground.open()
        await store.plant([timer("same"), timer("other")])

        await store.plant(
            [timer("same", next_ms=5), timer("other", schedule="each day", next_ms=5)]
        )

        rows = {row.handler: row for row in await store.timers()}
        assert rows["same"] == timer("same")
        assert rows["other"] == timer("other", schedule="each day", next_ms=5)

    async def test_firing_sends_and_moves_on(self, ground: Ground) -> None:
        store = await ground.open()
        await store.plant([timer()])
        becomes = replace(timer(), next_ms=3000, fired_ms=2000)

        commit = await store.fire(timer(), becomes, [packet(1), packet(2)])

        assert commit is not None
        assert sent(commit) == [1, 2]
        assert await store.timers() == [becomes]

    async def test_of_several_that_fire_one_timer_one_does(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(4)]
        await stores[0].plant([timer()])
        becomes = replace(timer(), next_ms=2000, fired_ms=1000)

        commits = await asyncio.gather(
            *(store.fire(timer(), becomes, [packet(n)]) for n, store in enumerate(stores))
        )

        assert len([commit for commit in commits if commit is not None]) == 1
        left = [await store.unsent([], 10) for store in stores]
        assert sum(map(len, left)) == 1

    async def test_a_timer_of_another_schedule_is_not_fired(self, ground: Ground) -> None:
        store = await ground.open()
        await store.plant([timer()])
        await store.plant([timer(schedule="each day")])

        commit = await store.fire(timer(), replace(timer(), next_ms=2000), [packet(1)])

        assert commit is None
        assert await store.timers() == [timer(schedule="each day")]

    async def test_what_is_due_nowhere_moves_without_sending(self, ground: Ground) -> None:
        store = await ground.open()
        await store.plant([timer()])

        commit = await store.fire(timer(), replace(timer(), next_ms=2000), [])

        assert commit is not None
        assert commit.leaving == []
        assert await store.timers() == [timer(next_ms=2000)]

    async def test_only_the_row_that_was_read_is_dropped(self, ground: Ground) -> None:
        store = await ground.open()
        await store.plant([timer("moved"), timer("same")])
        await store.fire(timer("moved"), timer("moved", next_ms=2000), [])

        for row in (timer("moved"), timer("same"), timer("never")):
            await store.drop_timer(row)

        assert await store.timers() == [timer("moved", next_ms=2000)]
