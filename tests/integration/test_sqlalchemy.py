"""`rolekit.sqlalchemy`: a session in the step's transaction, and sends in the user's own."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import JSON, ForeignKey, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from rolekit import App, Backoff, Context, Message, WebRole, WorkerRole, handle, web
from rolekit.errors import RolekitError
from rolekit.sqlalchemy import session, via
from rolekit.testing import FakeContext, run_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sqlalchemy.ext.asyncio import AsyncEngine

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int]
    lines: Mapped[list[str]] = mapped_column(JSONB, default=list)
    note: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)


class Payment(Base):
    __tablename__ = "payments"
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), primary_key=True)


class Place(Message):
    id: str
    cents: int
    then: str = ""


class Placed(Message):
    id: str


class Orders(WorkerRole):
    @handle(retry=Backoff(attempts=1))
    async def place(self, place: Place, ctx: Context[Placed]) -> None:
        async with session(ctx) as db:
            db.add(Order(id=place.id, cents=place.cents, lines=["a"], note={"b": "c"}))
            await db.commit()
            found = (await db.scalars(select(Order).where(Order.id == place.id))).one()
            assert (found.lines, found.note) == (["a"], {"b": "c"})
        if place.then == "fail":
            msg = "after the block"
            raise ValueError(msg)
        if place.then == "undo":
            try:
                async with session(ctx) as db:
                    db.add(Payment(order_id=place.id))
                    db.add(Payment(order_id="nobody's"))
            except IntegrityError:
                ctx.send(Placed(id="undone"))
                return
        ctx.write("update orders set cents = cents + 1 where id = $1", place.id)
        ctx.send(Placed(id=place.id))

    @handle
    async def nothing(self, placed: Placed) -> None:
        """Placed is seen; that is enough."""


class Front(WebRole):
    @web.get("/count")
    async def count(self) -> Placed:
        async with self.tx() as tx, session(tx) as db:
            return Placed(id=str(len((await db.scalars(select(Order))).all())))


app = App("alchemy", roles=[Orders, Front])


def async_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


@asynccontextmanager
async def tables(url: str) -> AsyncGenerator[AsyncEngine]:
    engine = create_async_engine(async_url(url))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        yield engine
    finally:
        await engine.dispose()


async def orders(engine: AsyncEngine) -> list[tuple[str, int]]:
    async with AsyncSession(engine) as db:
        return [(o.id, o.cents) for o in await db.scalars(select(Order).order_by(Order.id))]


async def test_a_session_commits_with_the_step_beside_its_writes_and_sends(
    rolekit_database: str,
) -> None:
    async with (
        tables(rolekit_database) as engine,
        run_app(app, database=rolekit_database, faults="repeat") as running,
    ):
        for n in range(3):
            await running.client.send(Place(id=str(n), cents=n))
        await running.idle()
        count = await running.http(Front).get("/count")

        assert await orders(engine) == [("0", 1), ("1", 2), ("2", 3)]
        assert sorted(p.id for p in running.seen(Placed)) == ["0", "1", "2"]
        assert running.dead == []
        assert count.json() == {"id": "3"}


async def test_what_a_session_committed_is_undone_with_a_step_that_fails(
    rolekit_database: str,
) -> None:
    async with (
        tables(rolekit_database) as engine,
        run_app(app, database=rolekit_database) as running,
    ):
        await running.client.send(Place(id="1", cents=5, then="fail"))
        await running.idle()

        assert await orders(engine) == []
        assert ["after the block" in dead.reason for dead in running.dead] == [True]


async def test_a_block_that_raises_is_undone_alone(rolekit_database: str) -> None:
    async with (
        tables(rolekit_database) as engine,
        run_app(app, database=rolekit_database) as running,
    ):
        await running.client.send(Place(id="1", cents=5, then="undo"))
        await running.idle()
        async with AsyncSession(engine) as db:
            payments = (await db.scalars(select(Payment))).all()

        assert await orders(engine) == [("1", 5)]
        assert payments == []
        assert running.seen(Placed) == [Placed(id="undone")]


async def test_a_message_leaves_with_the_commit_of_a_session(rolekit_database: str) -> None:
    async with (
        tables(rolekit_database) as engine,
        run_app(app, database=rolekit_database) as running,
    ):
        async with AsyncSession(engine) as db:
            db.add(Order(id="1", cents=5))
            await running.client.send(Placed(id="no"), via=via(db))
            await db.rollback()
            db.add(Order(id="2", cents=5))
            await running.client.send(Placed(id="2"), via=via(db))
            await running.idle()
            before = running.seen(Placed)
            await db.commit()
        async with engine.begin() as connection:
            await running.client.send(Placed(id="3"), via=via(connection))
        await running.idle()

        assert before == []
        assert sorted(p.id for p in running.seen(Placed)) == ["2", "3"]
        assert await orders(engine) == [("2", 5)]


async def test_an_engine_that_commits_each_statement_is_refused(rolekit_database: str) -> None:
    engine = create_async_engine(async_url(rolekit_database), isolation_level="AUTOCOMMIT")
    async with run_app(app, database=rolekit_database) as running, AsyncSession(engine) as db:
        with pytest.raises(RolekitError, match="without an open transaction"):
            await running.client.send(Placed(id="1"), via=via(db))
    await engine.dispose()


async def test_a_synchronous_session_is_refused_with_the_reason() -> None:
    wrong = cast("Any", Session())

    with pytest.raises(RolekitError, match="given a Session; an AsyncSession"):
        via(wrong)


async def test_a_fake_context_says_that_there_is_no_database() -> None:
    with pytest.raises(RolekitError, match="rolekit_database"):
        async with session(FakeContext()):
            pass


async def test_a_lost_connection_uses_up_no_attempt(rolekit_database: str) -> None:
    lost: list[int] = []

    class Unlucky(WorkerRole):
        @handle(retry=Backoff(attempts=1))
        async def place(self, place: Place, ctx: Context) -> None:
            async with session(ctx) as db:
                db.add(Order(id=place.id, cents=ctx.attempt))
                await db.flush()
                if not lost:
                    lost.append(1)
                    await db.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    async with (
        tables(rolekit_database) as engine,
        run_app(App("unlucky", roles=[Unlucky]), database=rolekit_database) as running,
    ):
        await running.client.send(Place(id="1", cents=0))
        await running.idle()

        assert await orders(engine) == [("1", 1)]
        assert running.dead == []


def test_without_the_extra_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None; import rolekit.sqlalchemy"

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1
    assert "pip install 'rolekit[sqlalchemy]'" in last
