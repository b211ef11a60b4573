"""What another program, or another app, sends: processes die, and each takes effect once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aio_pika
import asyncpg
import httpx
import pytest

from tests.patience import patient
from tests.process.foreign_app import QUEUE
from tests.process.killing import RELAY, MailflowFleet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from aio_pika.abc import AbstractChannel

pytestmark = [
    pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults, pytest.mark.timeout(120)
]  # fmt: skip

COUNT = 1000
KILLS = 10
"""At least; more until one of each of `VICTIMS` is among them."""
VICTIMS = {"Taking", "Booking", RELAY}
EVERY_S = 0.2


class Fleet(MailflowFleet):
    """`rolekit up` of one of the apps."""

    def __init__(
        self, home: Path, app: str, database: str, broker: str, instances: int
    ) -> None:
        role = {"orders": "TAKING", "billing": "BOOKING"}[app]
        settings = {
            "ROLEKIT_APP": f"tests.process.foreign_app:{app}",
            "ROLEKIT_BROKER": broker,
            f"ROLEKIT_{role}__INSTANCES": str(instances),
        }
        super().__init__(home / app, database, settings)
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(home / app / f"{app}.sock")),
            base_url="http://rolekit",
            timeout=patient(5),
        )


class Beside:
    """The other program, and a look into the database."""

    def __init__(self, channel: AbstractChannel, database: asyncpg.Connection) -> None:
        self._channel = channel
        self._database = database

    async def publish(self, n: int, message_id: str | None) -> None:
        message = aio_pika.Message(json.dumps({"n": n}).encode(), message_id=message_id)
        await self._channel.default_exchange.publish(message, QUEUE)

    async def got(self) -> Counter[tuple[str, int]]:
        rows = await self._database.fetch("table got")
        return Counter((row["kind"], row["n"]) for row in rows)

    async def until(self, count: int) -> Counter[tuple[str, int]]:
        """Wait until so much took effect, or for a minute; then for what comes too often."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patient(60)):
                while (await self.got()).total() < count:  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        return await self.got()

    async def dead(self, count: int) -> list[tuple[str, str]]:
        """Wait for so many dead letters; return their bodies and reasons."""
        async with asyncio.timeout(patient(80)):
            while True:
                rows = await self._database.fetch("table rolekit_orders.dead_letter")
                if len(rows) >= count:
                    return [(row["body"].decode(), row["reason"]) for row in rows]
                await asyncio.sleep(0.1)


@pytest.fixture
async def beside(rolekit_database: str, broker_url: str) -> AsyncGenerator[Beside]:
    connection = await aio_pika.connect(broker_url)
    database = await asyncpg.connect(rolekit_database)
    await database.execute("create table got (kind text, n int)")
    async with connection, connection.channel() as channel:
        await channel.declare_queue(QUEUE, durable=True)
        yield Beside(channel, database)
    await database.close()


@asynccontextmanager
async def fleets(
    home: Path, database: str, broker: str, instances: int = 2
) -> AsyncGenerator[list[Fleet]]:
    """Run both apps; whoever is sent to is there first."""
    async with (
        Fleet(home, "billing", database, broker, instances) as billing,
        Fleet(home, "orders", database, broker, instances) as orders,
    ):
        yield [orders, billing]


async def test_killing_whoever_takes_loses_and_repeats_nothing_from_outside(
    beside: Beside, tmp_path: Path, rolekit_database: str, broker_url: str
) -> None:
    chance, killed = random.Random(5), Counter[str]()  # noqa: S311 - the same victims wanted again
    async with fleets(tmp_path, rolekit_database, broker_url) as both:
        sending = asyncio.create_task(_send_slowly(beside))
        while killed.total() < KILLS or not set(killed) >= VICTIMS:
            victims = [one for fleet in both for one in await fleet.processes()]
            victim = chance.choice(victims) if victims else None
            if victim is not None and victim.kill():
                killed[victim.role] += 1
            await asyncio.sleep(EVERY_S)
        await sending
        got = await beside.until(2 * COUNT)

    assert got == Counter((kind, n) for kind in ("order", "invoice") for n in range(COUNT))
    assert set(killed) >= VICTIMS


async def _send_slowly(beside: Beside) -> None:
    """Send as long as there are kills, twenty at once: there always is work in hand."""
    for begin in range(0, COUNT, 20):
        await asyncio.gather(*(beside.publish(n, f"m{n}") for n in range(begin, begin + 20)))
        await asyncio.sleep(20 * KILLS * EVERY_S / COUNT)


async def test_a_message_without_an_id_that_kills_is_a_dead_letter_in_the_end(
    beside: Beside, tmp_path: Path, rolekit_database: str, broker_url: str
) -> None:
    for n in (1, 2, -1, 3, 4):
        await beside.publish(n, None)

    async with fleets(tmp_path, rolekit_database, broker_url, instances=1):
        ((body, reason),) = await beside.dead(1)
        got = await beside.until(8)

    assert json.loads(body) == {"n": -1}
    assert reason == "5 instances died while they ran it alone"
    assert {n for _, n in got} == {1, 2, 3, 4}
