"""Wake-ups: who waits for a topic hears of it, here and in other processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit import bell as ringing
from rolekit.bell import ALL, Bell
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.anyio


def listener(bell: Bell, *topics: str) -> list[str]:
    heard: list[str] = []
    bell.on(topics, lambda: heard.append(topics[0]))
    return heard


async def test_who_waits_for_a_topic_hears_it_and_nobody_else() -> None:
    bell = Bell()
    one, both, other = listener(bell, "a"), listener(bell, "b", "a"), listener(bell, "c")

    bell.ring(["a"])

    assert (one, both, other) == (["a"], ["b"], [])


async def test_a_ring_for_all_is_heard_by_all() -> None:
    bell = Bell()
    one, other = listener(bell, "a"), listener(bell, "b")

    bell.heard([ALL])

    assert (one, other) == (["a"], ["b"])


async def test_who_left_hears_nothing_and_the_others_still_do() -> None:
    bell = Bell()
    heard: list[int] = []
    off = bell.on(["a"], lambda: heard.append(1))
    bell.on(["a"], lambda: heard.append(2))

    off()
    off()
    bell.ring(["a"])

    assert heard == [2]


async def test_who_leaves_while_it_rings_harms_nobody() -> None:
    bell = Bell()
    heard: list[int] = []

    def leave() -> None:
        heard.append(1)
        off()

    off = bell.on(["a"], leave)
    bell.on(["a"], lambda: heard.append(2))

    bell.ring(["a"])
    bell.ring(["a"])

    assert sorted(heard) == [1, 2, 2]


class Carrier:
    """Another process, as far as a bell knows it."""

    def __init__(self, *errors: Exception) -> None:
        self.carried: list[set[str]] = []
        self.came = asyncio.Event()
        self._errors = list(errors)

    async def carry(self, topics: Iterable[str]) -> None:
        self.carried.append(set(topics))
        self.came.set()
        if self._errors:
            raise self._errors.pop()


async def test_rings_of_one_moment_are_carried_to_other_processes_as_one() -> None:
    carrier = Carrier()
    bell = Bell(carrier.carry)

    bell.ring(["a"])
    bell.ring(["b", "a"])
    async with asyncio.timeout(patient(5)), asyncio.TaskGroup() as tasks:
        run = tasks.create_task(bell.run())
        await carrier.came.wait()
        run.cancel()

    assert carrier.carried == [{"a", "b"}]


async def test_what_came_through_another_process_is_not_carried_back() -> None:
    carrier = Carrier()
    bell = Bell(carrier.carry)
    heard = listener(bell, "a")

    bell.heard(["a"])
    bell.ring([])
    run = asyncio.create_task(bell.run())
    for _ in range(5):
        await asyncio.sleep(0)
    run.cancel()

    assert heard == ["a"]
    assert carrier.carried == []


async def test_a_ring_that_cannot_be_carried_does_not_end_the_bell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ringing, "CARRY_EVERY_S", 0.0)
    carrier = Carrier(OSError("broken pipe"))
    bell = Bell(carrier.carry)

    async with asyncio.timeout(patient(5)), asyncio.TaskGroup() as tasks:
        run = tasks.create_task(bell.run())
        bell.ring(["a"])
        await carrier.came.wait()
        carrier.came.clear()
        bell.ring(["b"])
        await carrier.came.wait()
        run.cancel()

    assert carrier.carried == [{"a"}, {"b"}]


async def test_a_bell_with_nobody_to_carry_to_has_nothing_to_run() -> None:
    await asyncio.wait_for(Bell().run(), 1)
