"""What is asked for at the same moment is done together: here, numbers are stored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import Unavailable, WriteFailed
from rolekit.grouped import AT_ONCE, COUNT, Grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio


class Stored:
    """Stands for the table: takes a statement when `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.statements: list[list[int]] = []
        self.error: Exception | None = None
        self.bad = self.slow = -1
        self.sends: Grouped[Sequence[int], int] = Grouped(
            self.store, lambda numbers: (len(numbers), 0), "store"
        )

    async def store(self, groups: Sequence[Sequence[int]]) -> list[int]:
        numbers = [number for group in groups for number in group]
        self.statements.append(numbers)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if numbers == [self.slow]:
            await asyncio.Event().wait()
        if self.bad in numbers:
            raise WriteFailed("No.")
        return [sum(group) for group in groups]

    def send(self, *numbers: int) -> asyncio.Task[int]:
        return asyncio.create_task(self.sends.ask(numbers))

    async def fill(self) -> list[asyncio.Task[int]]:
        """Have as many statements under way as may be."""
        tasks: list[asyncio.Task[int]] = []
        for number in range(AT_ONCE):
            tasks.append(self.send(number))
            await asyncio.sleep(0.001)
        return tasks


async def test_what_comes_while_statements_are_under_way_goes_with_the_next() -> None:
    stored = Stored()
    first = await stored.fill()
    rest = [stored.send(10, 11), stored.send(12)]
    await asyncio.sleep(0.001)
    before = list(stored.statements)

    stored.gate.set()
    await asyncio.gather(*first, *rest)

    assert [each.result() for each in rest] == [21, 12]
    assert before == [[0], [1]]
    assert stored.statements[2:] == [[10, 11, 12]]


async def test_a_statement_has_an_end() -> None:
    stored = Stored()
    first = await stored.fill()
    rest = [stored.send(*range(100, 100 + COUNT - 1)), stored.send(7, 8), stored.send(9)]
    await asyncio.sleep(0.001)

    stored.gate.set()
    await asyncio.gather(*first, *rest)

    assert [len(each) for each in stored.statements[2:]] == [COUNT + 1, 1]


async def test_who_is_refused_harms_nobody_else() -> None:
    stored = Stored()
    stored.bad = 11
    first = await stored.fill()
    rest = [stored.send(10), stored.send(11), stored.send(12)]
    await asyncio.sleep(0.001)

    stored.gate.set()
    results = await asyncio.gather(*first, *rest, return_exceptions=True)

    assert [type(result) for result in results[2:]] == [int, WriteFailed, int]
    assert stored.statements[2:] == [[10, 11, 12], [10], [11], [12]]


async def test_where_the_database_is_away_all_are_told_and_nothing_is_repeated() -> None:
    stored = Stored()
    stored.error = Unavailable("Away.")
    first = await stored.fill()
    rest = [stored.send(10), stored.send(11)]
    await asyncio.sleep(0.001)

    stored.gate.set()
    results = await asyncio.gather(*first, *rest, return_exceptions=True)

    assert {type(result) for result in results} == {Unavailable}
    assert stored.statements == [[0], [1], [10, 11]]


async def test_who_left_before_a_statement_began_is_not_in_it() -> None:
    stored = Stored()
    first = await stored.fill()
    gone, stays = stored.send(10), stored.send(11)
    await asyncio.sleep(0.001)

    gone.cancel()
    await asyncio.sleep(0.001)
    stored.gate.set()
    await asyncio.gather(*first, stays)

    assert stored.statements[2:] == [[11]]


async def test_whoever_waits_is_told_when_it_stops() -> None:
    stored = Stored()
    first = await stored.fill()
    rest = [stored.send(10)]
    await asyncio.sleep(0.001)

    await stored.sends.close()

    results = await asyncio.gather(*first, *rest, return_exceptions=True)
    assert {type(result) for result in results} == {Unavailable}


async def test_who_asks_in_the_turn_in_which_the_last_group_ends_is_heard() -> None:
    stored = Stored()

    async def again() -> list[int]:
        return [await stored.sends.ask([n]) for n in (1, 2)]

    both = asyncio.create_task(again())
    await asyncio.sleep(0.001)
    other = stored.send(3)
    await asyncio.sleep(0.001)

    stored.gate.set()
    async with asyncio.timeout(5):
        assert await both == [1, 2]
        assert await other == 3


async def test_one_that_takes_long_alone_keeps_none_of_its_group_waiting() -> None:
    stored = Stored()
    stored.bad = stored.slow = 11
    first = await stored.fill()
    rest = [stored.send(n) for n in range(11, 30)]
    await asyncio.sleep(0.001)

    stored.gate.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*first, *rest[1:])

    assert not rest[0].done()
    await stored.sends.close()
    assert isinstance((await asyncio.gather(*rest[:1], return_exceptions=True))[0], Unavailable)
