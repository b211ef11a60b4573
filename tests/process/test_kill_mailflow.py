"""Mail flows through mailflow while its processes are killed, again and again.

What is proved, each from the database and not from what a process says of itself: nothing
was lost, repeated or reordered, nothing was parked although every body carries the time it
was made; and the kills did hit: instances died with claimed messages in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.process.flowing import drained, keep_flowing
from tests.process.killing import (
    RELAY,
    SUPERVISOR,
    Freed,
    Killings,
    MailflowFleet,
    freed_claims,
    kill_for,
    watch_claims,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from examples.mailflow import checker
    from rolekit.testing.plugin import DatabaseServer
    from tests.process.mailflow_ledger import Ledger

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

INSTANCES = {
    "MAILFRONT": 2, "SMTP": 2, "SPLITTER": 2, "SPAMCHECK": 3, "INSPECTOR": 9,
    "DELIVERER": 5, "REPORTER": 2,
}  # fmt: skip
"""So many that no place spends its restart budget, and more of them where the work is."""
EVERY_S = 0.2
SHARE = 0.1
"""Of the workers that are killed, at least so many had claimed messages in hand."""


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
        hit = ", ".join(f"{role} {n}" for role, n in sorted(self.freed.by_role.items()))
        share = self.freed.owners / max(1, self.killings.workers)
        return (
            f"killed {self.killings.by_role.total()} ({killed}), nobody to kill "
            f"{self.killings.idle} times; {self.freed.owners} of {self.killings.workers} "
            f"worker kills ({share:.0%}) hit claimed messages ({hit}), "
            f"{self.freed.rows} came again\n{self.ledger}\n{self.findings.last_line()}"
        )


@pytest.mark.parametrize("kill_s", [6, pytest.param(30, marks=pytest.mark.load)])
@pytest.mark.timeout(160)
async def test_killing_any_process_every_200_ms_loses_repeats_and_reorders_nothing(
    tmp_path: Path, rolekit_database: str, kill_s: int
) -> None:
    plan = Plan(
        database=rolekit_database,
        copies=70 * kill_s,
        kill_s=kill_s,
        kills=2 * kill_s,
        hits=7 * kill_s // 10,
    )

    outcome = await _run(tmp_path, plan)

    print(outcome)  # noqa: T201 - the figures, for the log of the run
    _assert_well(outcome)
    assert outcome.killings.by_role.total() >= plan.kills
    assert outcome.freed.owners >= plan.hits


@pytest.fixture
def broker_database(rolekit_database_server: DatabaseServer) -> Iterator[str]:
    """A second database: what is in it does not commit with the first one."""
    with rolekit_database_server.database() as url:
        yield url


@pytest.mark.load  # with RabbitMQ what carries messages is apart from the store too
@pytest.mark.timeout(100)
async def test_the_same_holds_when_the_broker_is_another_database(
    tmp_path: Path, rolekit_database: str, broker_database: str
) -> None:
    plan = Plan(
        database=rolekit_database,
        broker=broker_database,
        copies=500,
        kill_s=10,
        kills=10,
        hits=3,
    )

    outcome = await _run(tmp_path, plan)

    print(outcome)  # noqa: T201 - the figures, for the log of the run
    _assert_well(outcome)
    assert outcome.freed.owners >= plan.hits
    # Whether a kill finds a row between its commit and its confirm is chance by now.
    adopted = outcome.log.count("adopted rows of the outbox that nobody held")
    print(f"outbox rows of the dead were adopted {adopted} times")  # noqa: T201 - likewise


def _assert_well(outcome: Outcome) -> None:
    assert outcome.ledger.is_clean, outcome.ledger
    assert outcome.findings.is_clean, outcome.findings.problems[:20]
    assert (
        outcome.findings.lost, outcome.findings.duplicates, outcome.findings.out_of_order
    ) == (0, 0, 0)  # fmt: skip
    assert outcome.killings.by_role[SUPERVISOR] == 1
    assert outcome.killings.by_role[RELAY] >= 1
    assert outcome.freed.owners >= SHARE * outcome.killings.workers
    assert outcome.freed.rows >= outcome.freed.owners
    assert "Traceback" not in outcome.log


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run: at least so many copies, and kills for so many seconds.

    Attributes:
        kills: How many there must be at least,
        hits: and how many of them must find claimed messages.
        broker: URL of another database for the queues; empty: the same.
    """

    database: str
    copies: int
    kill_s: float
    kills: int
    hits: int
    broker: str = ""


async def _run(home: Path, plan: Plan) -> Outcome:
    settings = {f"ROLEKIT_{role}__INSTANCES": str(n) for role, n in INSTANCES.items()}
    async with (
        MailflowFleet(home, plan.database, settings, plan.broker) as fleet,
        _connected(plan.broker or plan.database) as queues,
    ):
        await watch_claims(queues)

        async def is_enough(killings: Killings) -> bool:
            hits = (await freed_claims(queues)).owners
            return killings.by_role.total() >= plan.kills and hits >= max(
                plan.hits, SHARE * killings.workers
            )

        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            flow = tasks.create_task(
                keep_flowing(fleet.target, plan.database, plan.copies, enough)
            )
            chance = random.Random(1)  # noqa: S311 - the same victims wanted again
            killings = await kill_for(plan.kill_s, EVERY_S, fleet, chance, is_enough)
            enough.set()
        findings, ledger = await drained(plan.database, plan.broker, flow.result())
        return Outcome(
            findings=findings,
            ledger=ledger,
            killings=killings,
            freed=await freed_claims(queues),
            log=fleet.log,
        )


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
