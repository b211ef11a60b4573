"""Instances that split, work and gather are killed: no part is lost, repeated or out of order.

ROLEKIT_SEQUENCES and ROLEKIT_KILLS make it the run that the figures come from.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from tests.patience import patient
from tests.process.killing import MailflowFleet
from tests.process.sequences_app import STREAMS, size_of

if TYPE_CHECKING:
    from pathlib import Path

    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

SEQUENCES = int(os.environ.get("ROLEKIT_SEQUENCES", "60"))
KILLS = int(os.environ.get("ROLEKIT_KILLS", "12"))
EVERY_S = float(os.environ.get("ROLEKIT_KILL_EVERY_S", "0.25"))
STALLED_S = patient(40.0)
INSTANCES = {"SPLITTING": 2, "WORKING": 3, "GATHERING": 3, "FEEDING": 1}

TABLES = """
    create table got (at bigserial primary key, kind text, sequence int, n int);
    create table done (kind text, sequence int, n bigint);
"""


class SequencesFleet(MailflowFleet):
    """`rolekit up` of the app of sequences."""

    def __init__(self, home: Path, database: str, broker: str) -> None:
        instances = {f"ROLEKIT_{role}__INSTANCES": str(n) for role, n in INSTANCES.items()}
        settings = {"ROLEKIT_APP": "tests.process.sequences_app:app", "JOBS": str(SEQUENCES)}
        if broker:
            settings["ROLEKIT_BROKER"] = broker
        super().__init__(home, database, {**instances, **settings})
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(home / "sequences.sock")),
            base_url="http://rolekit",
            timeout=patient(5),
        )


async def killed(fleet: SequencesFleet) -> Counter[str]:
    """Kill one instance after another; return how many of each role."""
    chance = random.Random(3)  # noqa: S311 - the same victims wanted again
    count: Counter[str] = Counter()
    while count.total() < KILLS or len(count) < len(VICTIMS):
        victims = [one for one in await fleet.processes() if one.role in VICTIMS]
        victim = chance.choice(victims) if victims else None
        if victim is not None and victim.kill():
            count[victim.role] += 1
        await asyncio.sleep(EVERY_S)
    return count


VICTIMS = ("Splitting", "Working", "Gathering")


async def drained(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until everything was gathered, or nothing more is."""
    wanted = 2 * SEQUENCES + SEQUENCES // STREAMS * STREAMS
    last, since = -1, time.monotonic()
    while True:
        count = await connection.fetchval(
            "select (select count(*) from done)"
            " + (select count(*) from got where kind = 'tick')"
        )
        if count >= wanted:
            return
        if count != last:
            last, since = count, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            return
        await asyncio.sleep(0.2)


async def findings(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    """Compare what was handed over with what was sent."""
    rows = await connection.fetch(
        "select kind, sequence, array_agg(n order by at) as ns from got group by 1, 2"
    )
    got = {(row["kind"], row["sequence"]): list(row["ns"]) for row in rows}
    wanted = {("job", n): [*range(size_of(n))] for n in range(SEQUENCES)}
    wanted |= {("tick", s): [*range(SEQUENCES // STREAMS)] for s in range(STREAMS)}
    found: Counter[str] = Counter(lost=0, repeated=0, reordered=0, ends=0, miscounted=0)
    for key, ns in wanted.items():
        came = got.get(key, [])
        found["lost"] += len(set(ns) - set(came))
        found["repeated"] += len(came) - len(set(came))
        found["reordered"] += came != sorted(came)
    ends = await connection.fetch("select kind, sequence, n from done")
    found["ends"] = abs(len(ends) - 2 * SEQUENCES)
    for row in ends:
        if row["kind"] == "poll":
            votes = [n for n in range(row["sequence"] % 30) if n % 5]
            found["miscounted"] += row["n"] != sum(votes) * 1000 + len(votes)
    return dict(found)


async def _survives(home: Path, database: str, broker: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(TABLES)
        async with SequencesFleet(home, database, broker) as fleet:
            begun = time.monotonic()
            count = await killed(fleet)
            await drained(connection)
            took_s = time.monotonic() - begun
            log = fleet.log
        told = await findings(connection)
        left = await connection.fetchrow(
            "select (select count(*) from rolekit_sequences.part) as parts,"
            " (select count(*) from rolekit_sequences.taken) as taken,"
            " (select count(*) from rolekit_sequences.split) as splits,"
            " (select count(*) from rolekit_sequences.dead_letter) as dead"
        )
    finally:
        await connection.close()
    print(  # noqa: T201 - the figures, for the log of the run
        f"{3 * SEQUENCES} sequences and ticks, killed {dict(count)} in {took_s:.0f} s: {told}"
    )
    assert told == dict.fromkeys(told, 0)
    assert left is not None
    assert dict(left) == {"parts": 0, "taken": 0, "splits": 0, "dead": 0}
    assert set(count) == set(VICTIMS)
    assert "Traceback" not in log


@pytest.mark.timeout(60 + KILLS * 2 + SEQUENCES)
async def test_killing_who_splits_works_and_gathers_loses_repeats_and_reorders_nothing(
    tmp_path: Path, rolekit_database: str
) -> None:
    await _survives(tmp_path, rolekit_database, "")


@pytest.mark.timeout(90 + KILLS * 2 + SEQUENCES)
async def test_the_same_holds_on_rabbitmq(
    tmp_path: Path, rolekit_database: str, private_broker: PrivateBroker
) -> None:
    await _survives(tmp_path, rolekit_database, private_broker.url())
