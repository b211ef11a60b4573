"""Nothing grows but what is meant to: half an hour of a steady load with effects."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import psutil
import pytest

from rolekit.supervisor.status import FleetStatus
from tests.faults.steady_app import KEYS, Take, app
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockbuster import BlockBuster

    from rolekit import Client

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults, pytest.mark.load]

ROOT = Path(__file__).parent.parent.parent
STEADY_S = float(os.environ.get("ROLEKIT_STEADY_S", "1800"))
"""How long the load lasts; slopes over a shorter time say less."""
RATE = 300
SENDS_EVERY_S = 0.1
LOOKS_EVERY_S = 5.0
SHARE_BEFORE = 0.25
"""Of the time, in which pools, buffers and caches grow to the size that they keep."""
MIB_PER_MIN = 1.0
DEAD_ROWS = 60_000
"""Of all tables together, at most: what a minute leaves behind, several times over."""
COUNT = "select sum(times) from public.total"
LEFT = """
select 'outbox' as what, count(*) as many from rolekit_steady.outbox
union all select 'dead: ' || reason, count(*) from rolekit_steady.dead_letter group by reason
"""
STANDS_STILL_S = patient(60)
TABLES = """
select relname as name, n_live_tup as live, n_dead_tup as dead,
       pg_total_relation_size(relid) / 1048576.0 as mib
from pg_stat_user_tables where schemaname = $1
"""


@dataclass
class Look:
    """What was there at one time; minutes, MiB."""

    at_min: float
    rss: dict[str, float]
    open_files: dict[str, float]
    outbox: float
    dead_rows: float
    mib: dict[str, float]


@dataclass
class Watch:
    """What was seen, and how it moved."""

    looks: list[Look] = field(default_factory=list[Look])

    def per_min(self, values: list[float]) -> float:
        kept = [
            (look.at_min, value)
            for look, value in zip(self.looks, values, strict=True)
            if look.at_min > SHARE_BEFORE * STEADY_S / 60
        ]
        return statistics.linear_regression(*zip(*kept, strict=True)).slope


@pytest.fixture
def environment(broker_url: str, database_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ROLEKIT_BROKER": broker_url,
        "ROLEKIT_DATABASE": database_url,
        "ROLEKIT_LOG_FORMAT": "json",
    }


@pytest.fixture
def fleet(environment: dict[str, str], tmp_path: Path) -> Iterator[psutil.Process]:
    """Run `rolekit up` on the app."""
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rolekit", "up", "--app", "tests.faults.steady_app:app"],
            cwd=ROOT,
            env={**environment, "ROLEKIT_HOME": str(tmp_path / "home")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


async def until_ready(home: str) -> None:
    """Wait until every instance is."""
    async with asyncio.timeout(patient(60)):
        while True:
            asked = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "rolekit", "ps", "--json"),
                env={**os.environ, "PYTHONPATH": str(ROOT), "ROLEKIT_HOME": home,
                     "ROLEKIT_APP": "tests.faults.steady_app:app"},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            said, _ = await asked.communicate()
            if asked.returncode == 0 and all(
                role.ready == role.instances
                for role in msgspec.json.decode(said, type=FleetStatus).roles
            ):
                return


async def look(
    fleet: psutil.Process, connection: asyncpg.Connection[asyncpg.Record], at_s: float
) -> Look:
    processes = {
        f"{number} {one.name()}": one
        for number, one in enumerate([fleet, *fleet.children(recursive=True)])
    }
    rows = await connection.fetch(TABLES, "rolekit_steady")
    return Look(
        at_min=at_s / 60,
        rss={name: one.memory_info().rss / 2**20 for name, one in processes.items()},
        open_files={name: one.num_fds() for name, one in processes.items()},
        outbox=float(await connection.fetchval("select count(*) from rolekit_steady.outbox")),
        dead_rows=float(sum(row["dead"] for row in rows)),
        mib={str(row["name"]): float(row["mib"]) for row in rows},
    )


async def all_done(connection: asyncpg.Connection[asyncpg.Record], sent: int) -> None:
    """Wait as long as more and more of them have had their effect."""
    loop = asyncio.get_running_loop()
    before, until = -1, 0.0
    while (done := await connection.fetchval(COUNT)) != sent:
        if done != before:
            before, until = done, loop.time() + STANDS_STILL_S
        if loop.time() > until:
            left = [dict(row) for row in await connection.fetch(LEFT)]
            pytest.fail(f"{sent} sent, {done} had their effect; left: {left}")
        await asyncio.sleep(0.1)


async def send_steadily(client: Client, until_s: float) -> int:
    """Send at one rate, whatever happens; return how many."""
    began_s, sent = time.monotonic(), 0
    while (now_s := time.monotonic()) < until_s:
        due = round((now_s - began_s) * RATE) - sent
        await client.send_many([Take(number=number) for number in range(sent, sent + due)])
        sent += due
        await asyncio.sleep(SENDS_EVERY_S)
    return sent


@pytest.mark.timeout(1.5 * STEADY_S + 180)
async def test_nothing_grows_under_a_steady_load_with_effects(
    fleet: psutil.Process,
    environment: dict[str, str],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    no_blocking_calls: BlockBuster,
) -> None:
    no_blocking_calls.deactivate()  # psutil reads /proc, and nobody waits for it here
    for name in ("ROLEKIT_BROKER", "ROLEKIT_DATABASE"):
        monkeypatch.setenv(name, environment[name])
    watch = Watch()
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table public.counter (key int primary key, times bigint)")
    await connection.execute("create table public.total (id int primary key, times bigint)")
    await connection.execute(
        "insert into public.counter select n, 0 from generate_series(0, $1 - 1) n", KEYS
    )
    await connection.execute(
        "insert into public.total select n, 0 from generate_series(0, 63) n"
    )

    await until_ready(fleet.environ()["ROLEKIT_HOME"])
    async with app.client() as client:
        began_s = time.monotonic()
        sending = asyncio.create_task(send_steadily(client, began_s + STEADY_S))
        while not sending.done():
            watch.looks.append(await look(fleet, connection, time.monotonic() - began_s))
            await asyncio.wait([sending], timeout=LOOKS_EVERY_S)
        sent = await sending
    await all_done(connection, sent)
    counted = await connection.fetchval("select sum(times) from public.counter")
    await connection.close()

    report(watch, sent)
    assert counted == sent
    for name in watch.looks[-1].rss:
        values = [one.rss.get(name, 0) for one in watch.looks]
        assert watch.per_min(values) <= MIB_PER_MIN, name
        files = [one.open_files.get(name, 0) for one in watch.looks]
        assert abs(watch.per_min(files)) < 0.5, name
    assert max(one.outbox for one in watch.looks) < 10 * RATE
    assert max(one.dead_rows for one in watch.looks) < DEAD_ROWS


def report(watch: Watch, sent: int) -> None:
    """Print how each figure moved: what it is at the end, and by how much a minute."""
    last = watch.looks[-1]
    lines = [f"{sent:,} messages in {last.at_min:.1f} min"]
    for what in ("rss", "open_files", "mib"):
        for name, value in sorted(getattr(last, what).items()):
            series = [getattr(one, what).get(name, 0.0) for one in watch.looks]
            lines.append(
                f"{what:<11} {name:<28} {value:9.1f} {watch.per_min(series):+8.3f}/min"
            )
    for what in ("outbox", "dead_rows"):
        series = [getattr(one, what) for one in watch.looks]
        lines.append(f"{what:<40} {max(series):9.0f} {watch.per_min(series):+8.1f}/min (max)")
    print("\n".join(lines))  # noqa: T201 - measured
