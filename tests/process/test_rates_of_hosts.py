"""Rates over several hosts: what is measured, on Postgres and on RabbitMQ."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit.config import Config
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.wiring import open_client
from tests.patience import patient
from tests.process.hosts import host
from tests.process.paced_app import Call, KeyedCall, app

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

DRIVER = RabbitTransport
"""Imported before the loop runs: that reads files."""
HOSTS = 3
LIMIT = 60
BURST = 6
WINDOW_S = 5.0


async def noted(connection: asyncpg.Connection[asyncpg.Record], who: str) -> list[float]:
    sql = "select at from call where who = $1 order by at"
    return [row["at"] for row in await connection.fetch(sql, who)]


def most_within(times: list[float], seconds: float) -> int:
    """Count the calls of the fullest time of so many seconds."""
    return max(bisect_right(times, at + seconds) - n for n, at in enumerate(times))


@pytest.mark.timeout(120)
async def test_hosts_together_keep_a_rate_and_come_up_to_it(
    tmp_path: Path, database_url: str, broker: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table call (who text, at float8, attempt int)")
    async with open_client(app, Config(database=database_url, broker=broker)) as client:
        await client.send_many([Call() for _ in range(900)])
        keyed = [KeyedCall(who="busy") for _ in range(60)]
        await client.send_many([*keyed, *[KeyedCall(who=f"w{n}") for n in range(20)]])

    with contextlib.ExitStack() as hosts:
        for n in range(HOSTS):
            home = tmp_path / str(n)
            hosts.enter_context(host("paced_app:app", "Paced", home, database_url, broker))
        async with asyncio.timeout(patient(60)):
            while len(await noted(connection, "")) < LIMIT * 12:  # noqa: ASYNC110 - a table
                await asyncio.sleep(0.2)

    times = await noted(connection, "")
    steady = [at for at in times if at > times[-1] - WINDOW_S]  # all hosts are there by then
    busy = await noted(connection, "busy")
    others = await connection.fetchval("select count(*) from call where who like 'w%'")
    attempts = await connection.fetchval("select max(attempt) from call")
    await connection.close()
    print(f"{len(steady) / WINDOW_S:.1f}/s, at most {most_within(times, 1)} in a second")  # noqa: T201
    assert LIMIT * WINDOW_S * 0.9 <= len(steady) <= LIMIT * WINDOW_S * 1.1
    # Loops are late now and then, and slots that are a quarter of a second late still go.
    assert most_within(times, WINDOW_S) <= LIMIT * (WINDOW_S + 0.25) + BURST + 1
    assert len(busy) == 60
    assert most_within(busy, WINDOW_S) <= 10 * (WINDOW_S + 0.25) + 2
    assert others == 20
    assert attempts == 1
