"""The page about two apps, run on both transports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit import App, Message, WorkerRole, handle
from rolekit.errors import Unroutable
from rolekit.store.base import Letters
from rolekit.testing import run_app
from tests.examples.pages import imported
from tests.wired import wired

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from types import ModuleType

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

PAGE = "docs/how-to/other-app.md"


@pytest.fixture
def shop() -> Iterator[ModuleType]:
    with imported(PAGE, "shop_page", blocks=slice(0, 1)) as module:
        yield module


@pytest.fixture
def billing() -> Iterator[ModuleType]:
    with imported(PAGE, "billing_page", blocks=slice(1, 2)) as module:
        yield module


@pytest.fixture(params=["postgres", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "postgres" else str(request.getfixturevalue("broker_url"))


@pytest.fixture
async def db(rolekit_database: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(rolekit_database)
    await connection.execute("create table orders (number text, paid boolean)")
    await connection.execute("create table invoices (order_number text, cents int)")
    yield connection
    await connection.close()


async def until(db: asyncpg.Connection, count: int) -> None:
    """Wait until so many orders are paid."""
    while await db.fetchval("select count(*) from orders where paid") < count:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.02)


async def test_two_apps_send_to_one_another(
    shop: ModuleType, billing: ModuleType, db: asyncpg.Connection, rolekit_database: str,
    broker: str,
) -> None:  # fmt: skip
    async with (
        wired(shop.app, rolekit_database, broker) as services,
        wired(billing.app, rolekit_database, broker),
    ):
        for n in range(20):
            await services.client.send(shop.Order(number=str(n), cents=n))
        await services.client.send(shop.Invoice(order="0", cents=7))
        await until(db, 20)

    invoices = await db.fetch("select cents from invoices order by 1")
    assert [row["cents"] for row in invoices] == sorted([*range(20), 7])


async def test_what_is_for_an_app_that_was_never_started_waits_for_it(
    shop: ModuleType, billing: ModuleType, db: asyncpg.Connection, rolekit_database: str,
    broker: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    async with wired(shop.app, rolekit_database, broker) as services:
        await services.client.send(shop.Order(number="1", cents=5))
        while not await db.fetchval("select count(*) from orders"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        if broker:
            with pytest.raises(Unroutable, match="Start the app billing on this broker"):
                await services.client.send(shop.Invoice(order="1", cents=7))
        said = "~app.billing" if broker else "what is for another app waits"
        out = ""
        while said not in (out := out + capsys.readouterr().out):  # noqa: ASYNC110 - a log
            await asyncio.sleep(0.02)
    async with (
        wired(billing.app, rolekit_database, broker),
        wired(shop.app, rolekit_database, broker),
    ):
        await until(db, 1)

    assert await db.fetchval("select count(*) from invoices") == 1


async def test_what_no_handler_there_takes_is_a_dead_letter_there(
    shop: ModuleType, db: asyncpg.Connection, rolekit_database: str, broker: str
) -> None:
    class Paid(Message, name="billing.paid"):
        order: str

    class Invoice(Message, name="billing.invoice"):
        order: str
        cents: int

    class Idle(WorkerRole):
        @handle
        async def other(self, paid: Paid) -> None: ...

    deaf = App("billing", roles=[Idle], names={Invoice: "billing.invoice"})
    async with (
        wired(shop.app, rolekit_database, broker) as services,
        wired(deaf, rolekit_database, broker) as there,
    ):
        receipt = await services.client.send(shop.Order(number="1", cents=5))
        while not (dead := await there.runtime.store.dead_letters(Letters(), limit=9)):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)

    assert [(one.handler, one.type) for one in dead] == [("~in", "billing.invoice")]
    assert "no handler of billing takes a billing.invoice" in dead[0].reason
    assert dead[0].packet.id != receipt.id


async def test_in_a_test_what_goes_to_another_app_is_seen(
    shop: ModuleType, rolekit_database: str, db: asyncpg.Connection
) -> None:
    async with run_app(shop.app, database=rolekit_database, faults="repeat") as running:
        await running.client.send(shop.Order(number="1", cents=5))
        await running.idle()
        with pytest.raises(Unroutable, match="cannot answer"):
            await running.client.ask(shop.Invoice(order="1", cents=5), shop.Paid)

        assert running.seen(shop.Invoice) == [shop.Invoice(order="1", cents=5)]
