"""Handlers that take from a queue of another program, on RabbitMQ."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aio_pika
import asyncpg
import pytest

from rolekit import App, Context, Message, WorkerRole, handle, wiring
from rolekit.errors import ConfigError
from rolekit.store.base import Letters
from rolekit.transport.rabbitmq import counting, plan
from tests.wired import RabbitTransport, wired

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aio_pika.abc import AbstractChannel

    from rolekit.roles.services import Services
    from rolekit.store.base import DeadLetterRow
    from rolekit.transport.rabbitmq.counting import Counts
    from rolekit.transport.rabbitmq.session import Session

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(40)]

QUEUE = "legacy orders"


class Ordered(Message):
    order: str
    boom: bool = False


class Checked(Message):
    order: str
    tenant: str


class Orders(WorkerRole):
    @handle(source=QUEUE)
    async def check(self, ordered: Ordered, ctx: Context) -> Checked:
        if ordered.boom and ctx.attempt == 1:
            msg = "boom"
            raise ValueError(msg)
        return Checked(order=ordered.order, tenant=ctx.headers.get("tenant", ""))

    @handle
    async def note(self, checked: Checked, ctx: Context) -> None:
        ctx.write("insert into noted values ($1, $2)", checked.order, checked.tenant)


app = App("src-shop", roles=[Orders])
SOURCES = {"Orders.check": QUEUE}


class Beside:
    """Another program on the broker, and the table in which the app notes."""

    def __init__(self, channel: AbstractChannel, db: asyncpg.Connection) -> None:
        self.channel = channel
        self.db = db

    async def publish(self, body: bytes, message_id: str | None = None, **headers: str) -> None:
        message = aio_pika.Message(body, message_id=message_id, headers={**headers})
        await self.channel.default_exchange.publish(message, QUEUE)

    async def noted(self, count: int) -> list[tuple[str, str]]:
        """Wait until so many rows are there; return them."""
        while True:
            rows = await self.db.fetch("select * from noted order by 1")
            if len(rows) >= count:
                return [(row["id"], row["tenant"]) for row in rows]
            await asyncio.sleep(0.02)

    async def left(self) -> int | None:
        """Count what waits in the other program's queue; what is in hand does not count."""
        queue = await self.channel.declare_queue(QUEUE, passive=True)
        return queue.declaration_result.message_count


@pytest.fixture
async def beside(rolekit_database: str, broker_url: str) -> AsyncGenerator[Beside]:
    connection = await aio_pika.connect(broker_url)
    db = await asyncpg.connect(rolekit_database)
    await db.execute("create table noted (id text, tenant text)")
    async with connection, connection.channel() as channel:
        await channel.declare_queue(QUEUE, durable=True)
        yield Beside(channel, db)
    await db.close()


async def test_messages_of_another_program_are_handled_once_for_each_id(
    beside: Beside, rolekit_database: str, broker_url: str
) -> None:
    await beside.publish(b'{"order": "1"}', "m1", tenant="blue")
    await beside.publish(b'{"order": "1"}', "m1", tenant="blue")

    async with wired(app, rolekit_database, broker_url):
        await beside.publish(b'{"order": "2", "more": 1}', "m2")
        await beside.publish(b'{"order": "3"}')
        await beside.publish(b'{"order": "3"}')
        noted = await beside.noted(4)

    assert noted == [("1", "blue"), ("2", ""), ("3", ""), ("3", "")]
    assert await beside.left() == 0


async def test_a_failure_comes_again_by_rolekits_own_queue_and_a_bad_body_is_a_dead_letter(
    beside: Beside, rolekit_database: str, broker_url: str
) -> None:
    async with wired(app, rolekit_database, broker_url) as services:
        await beside.publish(b"{", "m1")
        await beside.publish(b'{"order": "1", "boom": true}', "m2")
        noted = await beside.noted(1)
        dead = await _dead(services)

    assert noted == [("1", "")]
    assert [(one.handler, one.type) for one in dead] == [("Orders.check", "Ordered")]
    assert "The body of a Ordered cannot be read" in dead[0].reason
    assert await beside.left() == 0


async def _dead(services: Services) -> list[DeadLetterRow]:
    while True:
        found = await services.runtime.store.dead_letters(Letters(), limit=9)
        if found:
            return found
        await asyncio.sleep(0.02)


async def test_what_an_instance_had_in_hand_goes_back_to_the_other_programs_queue(
    beside: Beside, rolekit_database: str, broker_url: str
) -> None:
    async with wired(app, rolekit_database, broker_url) as services:
        await beside.publish(b'{"order": "1"}', "m1")
        await beside.noted(1)
        depths = await services.runtime.transport.depths(["Orders.check"])
    await beside.publish(b'{"order": "2"}', "m2")
    async with wired(app, rolekit_database, broker_url):
        noted = await beside.noted(2)

    assert depths["Orders.check"].waiting == 0
    assert noted == [("1", ""), ("2", "")]


async def test_the_depth_of_a_handler_counts_both_its_queues(
    beside: Beside, rolekit_database: str, broker_url: str
) -> None:
    await wiring.migrate(app.name, rolekit_database, broker_url, ["Orders.check"], SOURCES)
    await beside.publish(b'{"order": "1"}', "m1")
    host = wiring.open_host(app.name, rolekit_database, broker_url, ["Orders.check"], SOURCES)

    async with host as opened:
        depths = await opened.depths()

    assert depths["Orders.check"].waiting == 1


async def test_a_queue_that_is_not_there_is_refused_and_not_made(
    rolekit_database: str, broker_url: str
) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            await wiring.migrate(
                app.name, rolekit_database, broker_url, ["Orders.check"], SOURCES
            )

        assert "takes its messages from the queue legacy orders, which is not on" in str(
            caught.value
        )
        assert "Start the program that declares it" in caught.value.fix


async def test_how_the_other_programs_queue_loses_messages_is_said(
    rolekit_database: str, broker_url: str, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    connection = await aio_pika.connect(broker_url)
    async with connection, connection.channel() as channel:
        await channel.declare_queue(QUEUE, durable=True, arguments={"x-message-ttl": 60_000})

        await wiring.migrate(app.name, rolekit_database, broker_url, ["Orders.check"], SOURCES)

    assert (
        "x-message-ttl is 60000: messages that wait longer are dropped"
        in capsys.readouterr().out
    )


async def test_the_plan_shows_the_other_programs_queue_and_apply_leaves_it_alone(
    rolekit_database: str, broker_url: str
) -> None:
    connection = await aio_pika.connect(broker_url)
    link = wiring.open_topology(app.name, rolekit_database, broker_url, [], [QUEUE])
    async with connection, connection.channel() as channel, link as there:
        assert there is not None
        missing = (await there.plan())[-1]
        await there.apply(force=False, say=lambda _: None)
        still_missing = (await there.plan())[-1]
        await channel.declare_queue(QUEUE, durable=True, arguments={"x-max-length": 5})
        found = (await there.plan())[-1]

    assert missing == still_missing
    assert (missing.queue.name, missing.state, missing.is_done) == (QUEUE, "missing", False)
    assert missing.action == "nothing: its owner makes it"
    assert (found.state, found.differences, found.action) == ("there", (), "")
    assert found.dangers[0].startswith("x-max-length is 5 and x-overflow drop-head")


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_looking_at_a_queue_that_goes_just_then_does_not_make_it(
    broker_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    connection = await aio_pika.connect(broker_url)
    transport = RabbitTransport(broker_url, app=app.name)
    real = counting.count
    async with connection, connection.channel() as channel:
        arguments: dict[str, str] = {"x-queue-type": kind}
        await channel.declare_queue(QUEUE, durable=True, arguments={**arguments})

        async def then_it_goes(session: Session, name: str) -> Counts | None:
            counts = await real(session, name)
            await channel.queue_delete(QUEUE)
            return counts

        monkeypatch.setattr(plan, "count", then_it_goes)
        await transport.start()
        session = await transport.consuming()
        found = await plan.look_at_source(session, QUEUE)

        assert found.state == "there"
        assert await real(session, QUEUE) is None
        await transport.stop()


async def test_without_rabbitmq_it_is_refused(rolekit_database: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await wiring.migrate(app.name, rolekit_database, "", ["Orders.check"], SOURCES)

    assert "messages travel through Postgres" in caught.value.what
