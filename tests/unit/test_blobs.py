"""Blobs of one process: what the store is told of their use, and when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.clock import ManualClock
from rolekit.flow.blobs import Blobs
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_tables import MemoryTables

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio


class Told(MemoryStore):
    """Notes what it was told of."""

    def __init__(self, tables: MemoryTables) -> None:
        super().__init__(tables)
        self.told: list[str] = []

    async def use_blobs(self, ids: Sequence[str]) -> set[str]:
        self.told += ids
        return await super().use_blobs(ids)


class World:
    """One process on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tables = MemoryTables(self.clock)
        self.store = Told(self.tables)
        self.blobs = Blobs(self.store, self.clock)


async def test_loads_tell_of_their_use_once_an_hour() -> None:
    world = World()
    saved = await world.blobs.save(b"abc", "")
    at_first = list(world.store.told)

    told: list[int] = []
    for _ in range(3):
        world.clock.advance(3000)
        for _ in range(5):
            assert await world.blobs.load(saved) == b"abc"
        await asyncio.sleep(0)
        told.append(len(world.store.told) - len(at_first))

    assert at_first == [saved.id]  # a save asks whether it is there
    assert told == [0, 1, 1]


async def test_the_first_load_of_a_process_tells_of_it() -> None:
    world = World()
    saved = await world.blobs.save(b"abc", "")
    other = Told(world.tables)

    await Blobs(other, world.clock).load(saved)
    await asyncio.sleep(0)

    assert other.told == [saved.id]


async def test_a_save_of_what_was_dropped_keeps_the_bytes_again() -> None:
    world = World()
    saved = await world.blobs.save(b"abc", "")
    world.clock.advance(40 * 86_400)
    for _ in range(2):
        await world.store.keep_house(world.clock.now_ms())
    dropped = await world.store.load_blob(saved.id)

    again = await world.blobs.save(b"abc", "")

    assert (dropped, again) == (None, saved)
    assert await world.store.load_blob(saved.id) == b"abc"
