"""A whole app in one loop, with its state in a database."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import asyncpg
import pytest

from rolekit import App, Backoff, Context, Message, WorkerRole, handle
from rolekit.errors import RolekitError
from rolekit.store.postgres import PostgresStore
from rolekit.testing import run_app
from tests.unit.programs_for_run_app import (
    DAY_S,
    Issue,
    Nudge,
    Orders,
    Payments,
    Place,
    Post,
    Reporter,
    Summary,
    news,
    shop,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.store.base import Commit, Step
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio

KEY = {"Payments.api_key": "k"}


@asynccontextmanager
async def tables(url: str, *statements: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
        yield connection
    finally:
        await connection.close()


async def test_the_shop_survives_repeats_and_crashes(rolekit_database: str) -> None:
    async with (
        tables(
            rolekit_database,
            "create table orders (id text primary key, paid_with text)",
            "create table reminders (id text)",
        ) as database,
        run_app(shop, database=rolekit_database, faults="repeat", settings=KEY) as running,
    ):
        await running.client.send(Place(order="1"))
        await running.kill(Orders)
        await running.idle()
        early = running.seen(Nudge)
        await running.kill(Payments)
        await running.advance(DAY_S + 3600)

        orders = [tuple(row) for row in await database.fetch("select * from orders")]
        reminders = [tuple(row) for row in await database.fetch("select * from reminders")]
        assert early == []
        assert [nudge.order for nudge in running.seen(Nudge)] == ["1"]
        assert (orders, reminders) == ([("1", "k")], [("1",)])
        assert running.dead == []


@pytest.mark.parametrize(("faults", "seed"), [("none", 0), ("repeat", 1), ("shuffle", 2)])
async def test_a_split_comes_back_whole_through_crashes(
    rolekit_database: str, faults: Faults, seed: int
) -> None:
    readers = [f"{name}@here" for name in ("ann", "bob", "late", "cy")]
    async with (
        tables(rolekit_database, "create table box (reader text)") as database,
        run_app(news, database=rolekit_database, faults=faults, seed=seed) as running,
    ):
        text = await running.client.save(b"one\ntwo")
        await running.client.send(Issue(readers=readers, text=text))
        for role in news.roles:
            await running.kill(role)
        await running.idle()
        await running.kill(Post)
        await running.advance(400)

        boxes = [row["reader"] for row in await database.fetch("select reader from box")]
        assert running.seen(Summary) == [Summary(lines=[f"{each}: posted" for each in readers])]
        assert sorted(boxes) == sorted(readers)
        assert running.dead == []


async def test_what_was_committed_is_seen_though_a_kill_took_the_answer(
    rolekit_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, is_committed = PostgresStore.commit, asyncio.Event()

    async def without_answer(store: PostgresStore, steps: Sequence[Step]) -> Commit:
        answer = await commit(store, steps)
        if any(step.replies for step in steps) and not is_committed.is_set():
            is_committed.set()
            await asyncio.Event().wait()  # until it is killed
        return answer

    monkeypatch.setattr(PostgresStore, "commit", without_answer)
    async with run_app(news, database=rolekit_database) as running:
        text = await running.client.save(b"one")
        await running.client.send(Issue(readers=[], text=text))
        await is_committed.wait()
        await running.kill(Reporter)
        await running.idle()

        assert running.seen(Summary) == [Summary(lines=[])]


async def test_a_deadline_comes_with_the_clock(rolekit_database: str) -> None:
    without_post = [role for role in news.roles if role is not Post]
    async with run_app(news, database=rolekit_database, only=without_post) as running:
        text = await running.client.save(b"one")
        await running.client.send(Issue(readers=["ann@here"], text=text))
        await running.advance(3500)
        before = running.seen(Summary)

        await running.advance(200)

        assert before == []
        assert running.seen(Summary) == [Summary(lines=["lost: deadline"])]


async def test_a_failing_statement_makes_a_dead_letter(rolekit_database: str) -> None:
    async with run_app(shop, database=rolekit_database, settings=KEY) as running:
        await running.client.send(Place(order="1"))
        await running.idle()

        (dead,) = running.dead
        assert dead.message == Place(order="1")
        assert "orders" in dead.reason


async def test_writes_are_looked_up_in_the_database(rolekit_database: str) -> None:
    async with run_app(shop, database=rolekit_database, settings=KEY) as running:
        with pytest.raises(RolekitError, match="Look into the database"):
            _ = running.writes


async def test_what_was_kept_is_there_in_the_next_run(rolekit_database: str) -> None:
    async with run_app(news, database=rolekit_database) as running:
        text = await running.client.save(b"one")
        sent = await running.client.send(Issue(readers=[], text=text))
        await running.idle()

    async with run_app(news, database=rolekit_database) as running:
        assert await running.client.result(sent, Summary) == Summary(lines=[])


class Severed(Message):
    """Its handler's connection is cut at the first attempt."""


class Cutter(WorkerRole):
    """Has its own connection ended by the server."""

    cuts: ClassVar[list[int]] = []

    @handle(retry=Backoff(attempts=1))
    async def cut(self, severed: Severed, ctx: Context) -> None:
        tx = await ctx.tx()
        await tx.execute("insert into cut values ($1)", ctx.attempt)
        if not self.cuts:
            self.cuts.append(1)
            await tx.execute("select pg_terminate_backend(pg_backend_pid())")


async def test_a_connection_lost_in_a_step_uses_up_no_attempt(rolekit_database: str) -> None:
    async with (
        tables(rolekit_database, "create table cut (attempt int)") as database,
        run_app(App("cutter", roles=[Cutter]), database=rolekit_database) as running,
    ):
        await running.client.send(Severed())
        await running.idle()

        assert [row["attempt"] for row in await database.fetch("table cut")] == [1]
        assert running.dead == []
