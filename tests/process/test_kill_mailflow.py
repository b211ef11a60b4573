"""Mail flows through mailflow while its processes are killed, again and again.

What is proved, each from the database and not from what a process says of itself: nothing
was lost, repeated or reordered, nothing was parked although every body carries the time it
was made; and the kills did hit: instances died with claimed messages in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import pytest

from examples.mailflow import checker
from examples.mailflow.demo import wait_until_closed
from examples.mailflow.load import Mail, Sender, make_load
from examples.mailflow.samples import all_samples
from tests.process.killing import (
    Freed,
    Killings,
    MailflowFleet,
    freed_claims,
    kill_for,
    watch_claims,
)
from tests.process.mailflow_ledger import Ledger, read_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from rolekit.testing.plugin import DatabaseServer

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

SMALL_BYTES = 20_000
"""Samples beyond are left out: they test bytes, and cost the time that kills need."""
INSTANCES = {
    "MAILFRONT": 3, "SMTP": 2, "SPLITTER": 3, "SPAMCHECK": 4, "INSPECTOR": 4,
    "DELIVERER": 5, "REPORTER": 3,
}  # fmt: skip
"""So many that no place spends its restart budget: each dies about five times."""
EVERY_S = 0.2
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to."""

    findings: checker.Findings
    ledger: Ledger
    killings: Killings
    freed: Freed
    log: str

    def __str__(self) -> str:
        """Sum up, for the log of the test run."""
        killed = ", ".join(f"{role} {n}" for role, n in sorted(self.killings.by_role.items()))
        share = self.freed.owners / max(1, self.killings.workers)
        return (
            f"killed {self.killings.by_role.total()} ({killed}); {self.freed.owners} of "
            f"{self.killings.workers} worker kills ({share:.0%}) hit claimed messages, "
            f"{self.freed.rows} came again\n{self.ledger}\n{self.findings.last_line()}"
        )


@pytest.mark.timeout(160)
async def test_killing_any_process_every_200_ms_loses_repeats_and_reorders_nothing(
    tmp_path: Path, rolekit_database: str
) -> None:
    mails = _load(copies=2000, people=300)

    outcome = await _run(tmp_path, rolekit_database, "", mails, kill_s=30)

    print(outcome)
    _assert_well(outcome)
    assert outcome.killings.by_role.total() >= 100
    assert outcome.freed.owners > 20


@pytest.mark.timeout(100)
async def test_the_same_holds_when_the_broker_is_another_database(
    tmp_path: Path, rolekit_database: str, rolekit_database_server: DatabaseServer
) -> None:
    mails = _load(copies=500, people=120)

    with rolekit_database_server.database() as broker:
        outcome = await _run(tmp_path, rolekit_database, broker, mails, kill_s=10)

    print(outcome)
    _assert_well(outcome)
    assert outcome.freed.owners > 5


def _assert_well(outcome: Outcome) -> None:
    assert outcome.ledger.is_clean, outcome.ledger
    assert outcome.findings.is_clean, outcome.findings.problems[:20]
    assert (
        outcome.findings.lost, outcome.findings.duplicates, outcome.findings.out_of_order
    ) == (0, 0, 0)  # fmt: skip
    assert outcome.killings.by_role["(supervisor)"] == 1
    assert outcome.freed.owners >= 0.3 * outcome.killings.workers
    assert outcome.freed.rows >= outcome.freed.owners
    assert "Traceback" not in outcome.log


def _load(*, copies: int, people: int) -> list[Mail]:
    samples = [sample for sample in all_samples() if len(sample.raw) < SMALL_BYTES]
    return make_load(samples, copies=copies, people=people, run="killed")


async def _run(
    home: Path, database: str, broker: str, mails: Sequence[Mail], *, kill_s: float
) -> Outcome:
    settings = {f"ROLEKIT_{role}__INSTANCES": str(n) for role, n in INSTANCES.items()}
    if broker:
        settings["ROLEKIT_BROKER"] = broker
    async with (
        MailflowFleet(home, database, settings) as fleet,
        _connected(database) as connection,
        _connected(broker or database) as queues,
    ):
        await watch_claims(queues)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(fleet, mails, kill_s * 0.8))
            killing = tasks.create_task(kill_for(kill_s, EVERY_S, fleet, random.Random(1)))
        sent, killings = sending.result(), killing.result()
        await wait_until_closed(connection, sent, stalled_s=30)
        await _until_quiet(connection, queues)
        return Outcome(
            findings=await checker.check(connection, sent),
            ledger=await read_ledger(connection, queues, sent),
            killings=killings,
            freed=await freed_claims(queues),
            log=fleet.log,
        )


async def _send(
    fleet: MailflowFleet, mails: Sequence[Mail], over_s: float
) -> list[checker.Expected]:
    """Send mails evenly over a time; each again until it is surely taken."""
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def one(place: int, mail: Mail, sender: Sender) -> checker.Expected:
        await asyncio.sleep(max(0.0, begun + over_s * place / len(mails) - loop.time()))
        return mail.expected(await sender.send(mail))

    async with Sender(fleet.target, patience_s=PATIENCE_S) as sender:
        async with asyncio.TaskGroup() as tasks:
            each = [tasks.create_task(one(i, mail, sender)) for i, mail in enumerate(mails)]
        return [task.result() for task in each]


async def _until_quiet(
    connection: asyncpg.Connection[asyncpg.Record],
    queues: asyncpg.Connection[asyncpg.Record],
) -> None:
    """Wait until nothing is on its way; what never ends is for the ledger to say."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        left = await queues.fetchval("select count(*) from rolekit_mailflow.queue")
        left += await connection.fetchval(
            "select (select count(*) from rolekit_mailflow.outbox)"
            " + (select count(*) from rolekit_mailflow.schedule)"
        )
        if not left:
            return
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
