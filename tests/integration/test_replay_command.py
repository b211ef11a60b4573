"""`rolekit replay` on a RabbitMQ that lost what it had confirmed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit import wiring
from rolekit.link import OWNER_BITS
from rolekit.wiring.parts import build
from rolekit.wiring.relaying import run_relay
from tests.integration.rabbit_queues import channel_to
from tests.integration.replay_app import Job, Worker, app
from tests.integration.test_batch_brokers import alive
from tests.process.test_bad_input import Command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

APP = "tests.integration.replay_app:app"


async def test_what_a_broker_lost_is_sent_again_and_takes_effect_once(
    broker_url: str, database_url: str, tmp_path: Path
) -> None:
    handlers = list(app.plan().handlers)
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table done (n int)")
    await wiring.migrate(app.name, database_url, broker_url, handlers)
    command = Command(tmp_path, database_url, ROLEKIT_BROKER=broker_url)
    async with wiring.open_host(app.name, database_url, broker_url, handlers) as host:
        made = [
            build(
                app.plan(), host.epoch << OWNER_BITS | n, database_url, broker_url,
                keeps_sent=True,
            ).services
            for n in range(1, 4)
        ]  # fmt: skip
        async with made[2].running():
            stopped = asyncio.Event()
            relay = asyncio.create_task(run_relay(made[2], lambda: None, stopped))
            async with alive(Worker, made[0]):
                await made[0].client.send_many([Job(n=n) for n in range(30)])
                await _until(connection, 30)
                assert made[0].outbox is not None
                await made[0].outbox.empty()  # what is told as sent by then is kept
            assert made[2].outbox is not None
            await made[2].client.send_many([Job(n=n) for n in range(30, 50)])
            await made[2].outbox.empty()
            async with channel_to(broker_url) as channel:
                queue = await channel.get_queue(f"{app.name}.Worker.start", ensure=False)
                await queue.purge()  # confirmed, and gone

            counted = await command.run(
                "replay", "--since", "1h", "--dry-run", "--json", "--app", APP
            )
            async with alive(Worker, made[1]):
                again = await command.run(
                    "replay", "--since", "1h", "--rate", "500", "--app", APP
                )
                await _until(connection, 50)
                await asyncio.sleep(0.5)  # nothing tells that nothing more comes
            stopped.set()
            await relay
    rows = await connection.fetch("select n from done order by n")
    await connection.close()

    assert (counted.code, again.code) == (0, 0), (counted, again)
    assert json.loads(counted.out)["queues"]["Worker.start"] == 50
    assert "sent: " in again.out
    assert [row["n"] for row in rows] == list(range(50))


async def test_that_nothing_is_kept_is_said(
    broker_url: str, database_url: str, tmp_path: Path
) -> None:
    await wiring.migrate(app.name, database_url, broker_url, list(app.plan().handlers))
    command = Command(tmp_path, database_url, ROLEKIT_BROKER=broker_url)
    embedded = Command(tmp_path, database_url)

    none = await command.run("replay", "--since", "1h", "--app", APP)
    beside = await embedded.run("replay", "--since", "1h", "--app", APP)

    assert (none.code, beside.code) == (1, 2)
    assert "is kept." in none.err
    assert "The queues are in the database itself" in beside.err


async def _until(connection: asyncpg.Connection, count: int) -> None:
    while await connection.fetchval("select count(*) from done") < count:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
