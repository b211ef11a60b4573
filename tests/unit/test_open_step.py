"""Opening the transaction of a step: what it took is given back if that does not work."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from rolekit.database import Database
from rolekit.errors import Unavailable
from rolekit.store.postgres.steps import StepStore
from tests.unit.fakes_flow import SOON_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.connections import Pooled

pytestmark = pytest.mark.anyio

ID = "0a" * 16


class NoConnection(Database):
    """Has no connection to lend, or none for a long time."""

    def __init__(self, *, is_away: bool) -> None:
        super().__init__("postgresql://nowhere/db", "app", max_connections=2)
        self.asked = asyncio.Semaphore(0)
        self._is_away = is_away

    @asynccontextmanager
    async def borrowed(self) -> AsyncGenerator[Pooled]:
        self.asked.release()
        if self._is_away:
            raise Unavailable("Postgres cannot be reached.")
        await asyncio.Event().wait()
        async with super().borrowed() as connection:
            yield connection


async def test_a_transaction_that_gets_no_connection_gives_its_slot_back() -> None:
    store = StepStore(NoConnection(is_away=True))

    async with asyncio.timeout(SOON_S):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await store.begin(ID, 0, 0)

    assert not store.tx_slots.locked()


async def test_a_transaction_that_is_given_up_before_its_connection_gives_its_slot_back() -> (
    None
):
    database = NoConnection(is_away=False)
    store = StepStore(database)

    for _ in range(2):
        beginning = asyncio.create_task(store.begin(ID, 0, 0))
        async with asyncio.timeout(SOON_S):
            await database.asked.acquire()
        beginning.cancel()
        await asyncio.wait([beginning])

    assert not store.tx_slots.locked()
