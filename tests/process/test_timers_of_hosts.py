"""Handlers called by time, on several hosts of which some are killed: each time once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.patience import patient
from tests.process import hosts
from tests.process.flowing import Look

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

PERIOD_MS = 500
TICKS = "select count(*) from tick"


def host(
    home: Path, database: str, broker: str
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Run the app as a host of its own would."""
    return hosts.host("clock_app:app", "Clock", home, database, broker)


async def ticked(look: Look, count: int) -> None:
    """Wait for so many more firings."""
    until = (await look.number(TICKS) or 0) + count
    async with asyncio.timeout(patient(30)):
        while (await look.number(TICKS) or 0) < until:  # noqa: ASYNC110 - a table tells nobody
            await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_each_time_comes_once_though_hosts_come_and_are_killed(
    tmp_path: Path, database_url: str, broker: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "create table tick (at_ms bigint); create table tock (at_ms bigint)"
    )

    with contextlib.ExitStack() as stack:
        async with Look(database_url) as look:
            running = [stack.enter_context(host(tmp_path / str(n), database_url, broker))
                       for n in range(2)]  # fmt: skip
            await ticked(look, 8)
            for n in (2, 3):
                running.pop(0).kill()  # nobody has time to hand anything over
                running.append(
                    stack.enter_context(host(tmp_path / str(n), database_url, broker))
                )
                await ticked(look, 8)
            # With nobody there, one firing makes up for all that passed.
            while running:
                running.pop().kill()
            await asyncio.sleep(4 * PERIOD_MS / 1000)
            stack.enter_context(host(tmp_path / "last", database_url, broker))
            await ticked(look, 8)
            ticks = [row["at_ms"] for row in await connection.fetch("select at_ms from tick")]
            # What a killed host had in hand comes again once its lease is over.
            left = "select count(*) from unnest($1::bigint[]) at where at not in (table tock)"
            async with asyncio.timeout(patient(45)):
                while await connection.fetchval(left, ticks):  # noqa: ASYNC110 - a table
                    await asyncio.sleep(0.1)

    tocks = [row["at_ms"] for row in await connection.fetch("select at_ms from tock")]
    await connection.close()
    assert len(ticks) == len(set(ticks)), "fired twice"
    assert set(ticks) <= set(tocks)
    assert len(tocks) == len(set(tocks)), "took effect twice"
    assert all(at_ms % PERIOD_MS == 0 for at_ms in ticks)
    gaps = sorted(b - a for a, b in zip(sorted(ticks), sorted(ticks)[1:], strict=False))
    assert gaps[-1] >= 4 * PERIOD_MS, "nobody was there for two seconds"
