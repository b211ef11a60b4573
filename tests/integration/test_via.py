"""Messages that are sent in a transaction of the user's leave if and only if that commits."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import asyncpg
import pytest

from rolekit import App, Context, Message, WorkerRole, handle, wiring
from rolekit.errors import ConfigError, RolekitError
from rolekit.flow import outbox, relay
from rolekit.link import OWNER_BITS
from rolekit.testing import run_app
from rolekit.wiring.parts import build
from tests.patience import patient
from tests.wired import wired

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

    from rolekit import Client
    from rolekit.roles.services import Services
    from rolekit.store.base import Executes
    from rolekit.testing.plugin import DatabaseServer

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


class Placed(Message):
    order: str


class Checked(Message):
    order: str
    tenant: str


class Orders(WorkerRole):
    @handle
    async def check(self, placed: Placed, ctx: Context) -> Checked:
        return Checked(order=placed.order, tenant=ctx.headers.get("tenant", ""))

    @handle
    async def note(self, checked: Checked, ctx: Context) -> None:
        ctx.write("insert into noted values ($1, $2)", checked.order, checked.tenant)


app = App("via-shop", roles=[Orders])


@asynccontextmanager
async def tables(url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("create table cart (id text)")
        await connection.execute("create table noted (id text, tenant text)")
        yield connection
    finally:
        await connection.close()


async def error_of(coroutine: Coroutine[object, object, object]) -> RolekitError:
    with pytest.raises(RolekitError) as caught:
        await coroutine
    return caught.value


async def test_a_message_leaves_with_the_commit_of_the_transaction_it_was_sent_in(
    rolekit_database: str,
) -> None:
    async with (
        tables(rolekit_database) as db,
        run_app(app, database=rolekit_database) as running,
    ):
        async with db.transaction():
            await db.execute("insert into cart values ('1')")
            receipt = await running.client.send(
                Placed(order="1"), via=db, headers={"tenant": "blue"}
            )
            await running.idle()
            before = running.seen(Placed)
        await running.idle()

        assert before == []
        assert running.seen(Checked) == [Checked(order="1", tenant="blue")]
        assert await db.fetchval("select tenant from noted where id = '1'") == "blue"
        assert len(receipt.id) == 32


async def test_a_message_whose_transaction_is_rolled_back_never_was(
    rolekit_database: str,
) -> None:
    async with (
        tables(rolekit_database) as db,
        run_app(app, database=rolekit_database) as running,
    ):
        transaction = db.transaction()
        await transaction.start()
        await running.client.send(Placed(order="1"), via=db)
        await running.client.send(Placed(order="1"), via=db, delay_s=60)
        await transaction.rollback()
        await running.advance(120)

        assert running.seen(Placed) == []


async def test_what_is_sent_with_a_delay_is_due_after_it(rolekit_database: str) -> None:
    async with (
        tables(rolekit_database) as db,
        run_app(app, database=rolekit_database) as running,
    ):
        async with db.transaction():
            await running.client.send(Placed(order="1"), via=db, delay_s=60)
        await running.advance(59)
        early = running.seen(Placed)
        await running.advance(2)

        assert (early, running.seen(Placed)) == ([], [Placed(order="1")])


async def test_a_connection_with_codecs_and_a_search_path_of_its_own_serves(
    rolekit_database: str,
) -> None:
    async with (
        tables(rolekit_database) as db,
        run_app(app, database=rolekit_database) as running,
    ):
        for name in ("uuid", "bytea"):
            await db.set_type_codec(
                name, schema="pg_catalog", encoder=_refuse, decoder=_refuse, format="binary"
            )
        async with db.transaction():
            await db.execute("set local search_path to nowhere")
            await running.client.send(Placed(order="1"), via=db)
        await running.idle()

        assert running.seen(Placed) == [Placed(order="1")]


def _refuse(value: object) -> bytes:
    raise AssertionError(value)


async def test_a_connection_without_a_transaction_and_a_pool_are_refused(
    rolekit_database: str,
) -> None:
    async with (
        tables(rolekit_database) as db,
        asyncpg.create_pool(rolekit_database, min_size=1, max_size=2) as pool,
        run_app(app, database=rolekit_database) as running,
    ):
        send = running.client.send
        errors = [
            await error_of(send(Placed(order="1"), via=db)),
            await error_of(send(Placed(order="1"), via=pool)),
        ]
        await running.idle()

        assert [error.what[:62] for error in errors] == [
            "client.send(via=...) was given a connection without an open tr"
        ] * 2
        assert running.seen(Placed) == []


async def test_a_key_beside_via_is_refused(rolekit_database: str) -> None:
    async with (
        tables(rolekit_database) as db,
        run_app(app, database=rolekit_database) as running,
        db.transaction(),
    ):
        error = await error_of(
            running.client.send(Placed(order="1"), via=db, idempotency_key="k")
        )

        assert "both idempotency_key= and via=" in error.what
        assert "unique" in error.fix


@pytest.fixture
def others(rolekit_database_server: DatabaseServer) -> Iterator[list[str]]:
    """Two more databases."""
    with rolekit_database_server.database() as one, rolekit_database_server.database() as two:
        yield [one, two]


async def test_other_databases_are_refused_though_one_has_the_same_tables(
    rolekit_database: str, others: list[str]
) -> None:
    async with (
        run_app(app, database=rolekit_database) as running,
        run_app(app, database=others[1]),
    ):
        errors = [await error_of(_send_once(running.client, url)) for url in others]

        for error in errors:
            assert isinstance(error, ConfigError)
            assert "another database" in error.what
            assert "rolekit_via_shop" in error.what


async def _send_once(client: Client, url: str) -> None:
    db = await asyncpg.connect(url)
    try:
        async with db.transaction():
            await client.send(Placed(order="1"), via=db)
    finally:
        await db.close()


async def test_a_user_without_rights_to_the_tables_is_told_which_to_grant(
    rolekit_database: str,
) -> None:
    async with (
        tables(rolekit_database) as db,
        run_app(app, database=rolekit_database) as running,
    ):
        await db.execute("create role clerk")
        transaction = db.transaction()
        await transaction.start()
        await db.execute("set local role clerk")
        error = await error_of(running.client.send(Placed(order="1"), via=db))
        await transaction.rollback()
        await db.execute("drop role clerk")

        assert "has no rights" in error.what
        assert "grant usage on schema rolekit_via_shop" in error.fix


async def test_without_a_database_it_is_refused() -> None:
    with pytest.raises(RolekitError, match="rolekit_database"):
        async with run_app(app) as running:
            await running.client.send(Placed(order="1"), via=cast("Executes", object()))


# -- whoever sent it may be gone ---------------------------------------------------------------


@asynccontextmanager
async def passing(database: str, broker: str) -> AsyncGenerator[Services]:
    """Be a process that only sends, on a host of its own, and forget to say goodbye."""
    plan = app.plan()
    async with wiring.open_host(app.name, database, broker, list(plan.handlers)) as host:
        services = build(plan, host.epoch << OWNER_BITS | 1, database, broker).services
        yield services
        await services.runtime.transport.stop()
        await services.runtime.store.stop()


async def _sent_and_gone(database: str, broker: str, db: asyncpg.Connection) -> float:
    """Send in a transaction that commits once the sender is gone; return when that was."""
    transaction = db.transaction()
    async with passing(database, broker) as services:
        await transaction.start()
        await services.client.send(Placed(order="1"), via=db)
    await transaction.commit()
    return time.monotonic()


async def _noted(db: asyncpg.Connection) -> float:
    while not await db.fetchval("select count(*) from noted"):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    return time.monotonic()


async def test_on_postgres_it_arrives_within_a_second_though_its_sender_is_gone(
    rolekit_database: str,
) -> None:
    async with tables(rolekit_database) as db, wired(app, rolekit_database):
        committed_s = await _sent_and_gone(rolekit_database, "", db)

        assert await _noted(db) - committed_s < patient(3)


@pytest.mark.timeout(40)
async def test_on_rabbitmq_it_arrives_within_a_second_though_its_sender_is_gone(
    rolekit_database: str, broker_url: str
) -> None:
    async with tables(rolekit_database) as db, wired(app, rolekit_database, broker_url):
        committed_s = await _sent_and_gone(rolekit_database, broker_url, db)

        assert await _noted(db) - committed_s < patient(3)


@pytest.mark.timeout(40)
@pytest.mark.parametrize("is_rabbit", [False, True])
async def test_while_its_sender_lives_it_arrives_at_once(
    rolekit_database: str,
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_rabbit: bool,
) -> None:
    broker = broker_url if is_rabbit else ""
    monkeypatch.setattr(outbox, "LOOK_EVERY_S", 60.0)
    monkeypatch.setattr(relay, "ADOPT_EVERY_S", 60.0)
    async with tables(rolekit_database) as db, wired(app, rolekit_database, broker) as services:
        async with db.transaction():
            await services.client.send(Placed(order="1"), via=db)
        committed_s = time.monotonic()

        assert await _noted(db) - committed_s < patient(0.9)
