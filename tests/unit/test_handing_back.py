"""What many instances held that end at once is handed back together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from rolekit.database import Database
from rolekit.errors import Unavailable
from rolekit.store.postgres import host as module
from rolekit.store.postgres.host import PostgresHost
from tests.unit.fakes_flow import SOON_S

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

MANY = 1000


class Back(PostgresHost):
    """A host whose database takes a turn of the loop for each transaction."""

    def __init__(self, away: int = 0) -> None:
        super().__init__([Database("postgresql://nowhere/db", "app")])
        self.freed: list[list[int]] = []
        self.away = away

    async def _hand_back(self, owners: Sequence[int]) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Unavailable("The database is away.")
        self.freed.append(list(owners))


async def test_many_that_end_at_once_take_few_transactions() -> None:
    host = Back()

    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*(host.release(owner) for owner in range(MANY)))

    assert sorted(owner for owners in host.freed for owner in owners) == list(range(MANY))
    assert len(host.freed) <= 3


async def test_a_database_that_is_away_is_said_once_for_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AWAY_S", 0)
    host = Back(away=1)

    with capture_logs() as logs:
        async with asyncio.timeout(SOON_S):
            await asyncio.gather(*(host.release(owner) for owner in range(MANY)))

    assert [line["event"] for line in logs] == ["cannot hand back what instances held"]
    assert sorted(owner for owners in host.freed for owner in owners) == list(range(MANY))
