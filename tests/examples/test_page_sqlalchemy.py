"""The page about SQLAlchemy, run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from rolekit.testing import run_app
from tests.examples.pages import imported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


@pytest.fixture
def shown() -> Iterator[ModuleType]:
    with imported("docs/how-to/sqlalchemy.md", "warehouse_page") as module:
        yield module


async def test_stock_and_message_are_there_together_or_not_at_all(
    shown: ModuleType, rolekit_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = create_async_engine(rolekit_database.replace("://", "+asyncpg://", 1))
    async with engine.begin() as connection:
        await connection.run_sync(shown.Base.metadata.create_all)

    async with run_app(shown.app, database=rolekit_database) as running:
        async with AsyncSession(engine) as db:
            await shown.restock(db, running.client, "lamp")
        await running.idle()
        await running.client.send(shown.Reserve(sku="lamp", pieces=20))
        await running.idle()

    await engine.dispose()
    assert "lamp 9\n" in capsys.readouterr().out
    assert running.seen(shown.Reserved) == [shown.Reserved(sku="lamp", left=9)]
    assert running.dead == []
