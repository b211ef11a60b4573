"""Copies are cheap: many instances from `rolekit scale`, on RabbitMQ.

ROLEKIT_INSTANCES=1000 shows it at the size that is promised; the bars are for that.
"""

from __future__ import annotations

import asyncio
import os
import time
from statistics import mean
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest

from tests.process.many import Many
from tests.process.supervised import eventually

if TYPE_CHECKING:
    from pathlib import Path

COUNT = int(os.environ.get("ROLEKIT_INSTANCES", "60"))
UP_S = DOWN_S = 15.0 + COUNT * 0.015
"""Bars for 1,000: 15 s each. A test shares its machine, so it gets twice that."""
USS_MIB = 9.0
"""8 is aimed at; this notices when one imports for itself again, or none was rehearsed."""
HOST_CONNECTIONS = 5
"""One that listens, and those that a supervisor looks and writes through."""
MIB = 1 << 20

pytestmark = pytest.mark.timeout(120)


async def connections(url: str, name: str) -> int:
    """Count the connections of a database that were opened under this name."""
    connection = await asyncpg.connect(url)
    try:
        return int(
            await connection.fetchval(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and application_name = $1",
                name,
            )
        )
    finally:
        await connection.close()


def test_many_instances_are_soon_there_each_works_and_none_needs_postgres(
    tmp_path: Path, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Many(tmp_path, database_url, broker_url, monkeypatch) as fleet:
        began = time.monotonic()
        fleet.scale("W", COUNT, UP_S)
        ready_s = time.monotonic() - began
        pids = set(fleet.pids("W"))
        while not pids <= {pid for pid, _ in fleet.handled()}:
            fleet.send(COUNT)
            eventually(lambda: len(fleet.numbers()) == fleet.sent, UP_S)
        held = asyncio.run(connections(database_url, "rolekit many W"))
        of_host = asyncio.run(connections(database_url, "rolekit many (host)"))
        sizes = [psutil.Process(pid).memory_full_info().uss / MIB for pid in list(pids)[:50]]
        supervisor = psutil.Process(fleet.process.pid).memory_info().rss / MIB

        began = time.monotonic()
        fleet.send(COUNT)
        fleet.scale("W", 1, DOWN_S)
        down_s = time.monotonic() - began
        eventually(lambda: fleet.numbers() == set(range(fleet.sent)))

    print(f"{COUNT}: ready {ready_s:.1f} s, USS {mean(sizes):.1f} MiB, down {down_s:.1f} s")  # noqa: T201 - what is measured
    assert held == 0, "instances that do not write hold connections"
    assert 0 < of_host <= HOST_CONNECTIONS
    assert mean(sizes) <= USS_MIB
    assert supervisor <= 100
