"""The lease of a host: one row for all its instances, which none of them ever locks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from rolekit import App, Message, Reply, WorkerRole, gather, handle
from rolekit.database import Database
from tests.patience import patient
from tests.wired import wired

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

LINES = 30


class Page(Message):
    """Is split."""

    lines: int


class Line(Message):
    """Of a page."""

    number: int


class Printed(Reply):
    """A page, gathered."""

    lines: int


class Printer(WorkerRole):
    """Splits, and hands on."""

    @handle
    async def split(self, page: Page) -> AsyncIterator[Line]:
        for number in range(page.lines):
            yield Line(number=number)


class Press(WorkerRole):
    """Gathers."""

    @gather
    async def press(self, page: Page, lines: list[Line]) -> Printed:
        return Printed(lines=len(lines))


@pytest.fixture(params=["postgres", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker; empty: the database is it."""
    if request.param == "postgres":
        return ""
    url: str = request.getfixturevalue("broker_url")
    return url


async def test_work_goes_on_while_somebody_holds_the_row(
    database_url: str, broker: str
) -> None:
    app = App("lease", roles=[Printer, Press])
    table = f"{Database(database_url, 'lease').schema}.host"
    async with wired(app, database_url, broker) as services:
        holding = await asyncpg.connect(database_url)
        try:
            async with holding.transaction():
                rows = await holding.fetch(f"select epoch from {table} for update")  # noqa: S608

                # No longer than the lease holds without being renewed, which does lock it.
                async with asyncio.timeout(patient(8)):
                    printed = await services.client.ask(Page(lines=LINES), Printed)
        finally:
            await holding.close()

    assert len(rows) == 1
    assert printed.lines == LINES
