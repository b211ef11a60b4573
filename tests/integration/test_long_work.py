"""Calls that take longer than RabbitMQ lets anybody hold a message: each runs once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit import App, Context, Message, WorkerRole, handle
from rolekit.bell import Bell
from rolekit.database import Database
from rolekit.transport.postgres import PostgresTransport
from tests.wired import wired

if TYPE_CHECKING:
    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(90)]

PATIENCE_S = 3
"""Of the broker; handlers with a timeout_s of more than a third of it are long."""
CUTTING_S = 8
FRAMES = 20


class Film(Message):
    """Takes long."""

    n: int


class Frame(Message):
    """Takes no time."""

    n: int


class Cutter(WorkerRole):
    """Does both."""

    @handle(timeout_s=60)
    async def cut(self, film: Film, ctx: Context) -> None:
        """Outlast the broker's patience."""
        ctx.write("insert into begun values ($1)", film.n)
        async with asyncio.timeout(CUTTING_S + 5):
            await asyncio.sleep(CUTTING_S if film.n == 0 else 0)
        CALLS.append(film.n)

    @handle(timeout_s=0.9)
    async def show(self, frame: Frame, ctx: Context) -> None:
        """Write it down."""
        ctx.write("insert into shown values ($1)", frame.n)


CALLS: list[int] = []

app = App("films", roles=[Cutter])


async def rows(connection: asyncpg.Connection[asyncpg.Record], table: str) -> list[int]:
    return [row["n"] for row in await connection.fetch(f"select n from {table} order by n")]  # noqa: S608


async def test_a_call_outlasts_the_brokers_patience_and_runs_once(
    private_broker: PrivateBroker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEKIT_CONSUMER_TIMEOUT_S", str(PATIENCE_S))
    await asyncio.to_thread(
        private_broker.evaluate,
        f"application:set_env(rabbit, consumer_timeout, {PATIENCE_S * 1000}), "
        "application:set_env(rabbit, channel_tick_interval, 500), ok.",
    )
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table begun (n int); create table shown (n int)")
    CALLS.clear()

    async with wired(app, database_url, private_broker.url()) as services:
        await services.client.send_many([Film(n=0), *(Frame(n=n) for n in range(FRAMES))])
        await asyncio.sleep(CUTTING_S / 2)
        in_hand = {
            one.name: one.unacked for one in await asyncio.to_thread(private_broker.list_queues)
        }
        depths = await services.runtime.transport.depths(["Cutter.cut"])
        await asyncio.sleep(CUTTING_S)
        left = await services.runtime.transport.depths(["Cutter.cut"])

    assert (CALLS, await rows(connection, "begun")) == ([0], [0])
    assert await rows(connection, "shown") == list(range(FRAMES))
    assert in_hand["films.Cutter.cut"] == 0
    assert (depths["Cutter.cut"].in_hand, left["Cutter.cut"].in_hand) == (1, 0)
    await connection.close()


async def test_what_waits_in_the_database_for_work_that_is_not_long_goes_to_the_broker(
    broker_url: str, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table begun (n int); create table shown (n int)")
    there = Database(database_url, app.name)
    CALLS.clear()

    async with wired(app, database_url, broker_url) as services:
        # As a version left it whose `cut` was long work.
        claims = PostgresTransport(there, owner=0, bell=Bell(), joins_store=False)
        await claims.declare(["Cutter.cut"])
        intake = services.client._intake  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        left = [intake.build(Film(n=n), f"{n:032x}")[0] for n in range(1, 251)]
        await claims.publish(left)
        while len(CALLS) < len(left):  # noqa: ASYNC110 - others do it
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        depths = await claims.depths(["Cutter.cut"])

    assert sorted(CALLS) == await rows(connection, "begun") == list(range(1, 251))
    assert depths["Cutter.cut"].waiting == depths["Cutter.cut"].in_hand == 0
    await connection.close()
    await there.close()
