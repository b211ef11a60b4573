"""Mail flows through mailflow on RabbitMQ while its processes, or the broker, are killed.

What is proved is the same as on Postgres alone: nothing lost, repeated or reordered, nothing
parked, by two checkers; and the kills did hit: messages came again and ran alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.patience import patient
from tests.process.flowing import Look, drained, keep_flowing
from tests.process.killing import RELAY, SUPERVISOR, Killings, MailflowFleet, kill_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

MANY = {
    "MAILFRONT": 2, "SMTP": 2, "SPLITTER": 2, "SPAMCHECK": 3, "INSPECTOR": 9,
    "DELIVERER": 5, "REPORTER": 2,
}  # fmt: skip
FEW = {
    "MAILFRONT": 1, "SMTP": 1, "SPLITTER": 1, "SPAMCHECK": 1, "INSPECTOR": 2, "DELIVERER": 2,
    "REPORTER": 1,
}  # fmt: skip
COPIES = 700
"""At least; more as long as there are faults."""
EVERY_S = 0.2
RESUMES_S = patient(10.0)
EMPTY_S = patient(30.0)
BUGS = ("the instance failed", "got a 500", "unexpected error", "rolekit failed", "Traceback")
SETTLED = "select count(*) from rolekit_mailflow.inbox"
AGAIN = "select count(*) from (select distinct id, generation from audit.again) as suspects"


@pytest.mark.parametrize("kill_s", [6, pytest.param(30, marks=pytest.mark.load)])
@pytest.mark.timeout(200)
async def test_killing_any_process_every_200_ms_loses_nothing_on_rabbitmq(
    tmp_path: Path, rolekit_database: str, private_broker: PrivateBroker, kill_s: int
) -> None:
    chance = random.Random(1)  # noqa: S311 - the same victims wanted again
    killings: list[Killings] = []

    async def kill(fleet: MailflowFleet, look: Look) -> None:
        async def is_enough(killed: Killings) -> bool:
            again = await look.number(AGAIN) or 0
            return killed.by_role.total() >= 2 * kill_s and again >= killed.by_role.total() / 4

        killings.append(await kill_for(kill_s, EVERY_S, fleet, chance, is_enough))

    again, log = await _survives(tmp_path, rolekit_database, private_broker, MANY, kill)

    by_role = killings[0].by_role
    print(f"killed {by_role.total()} {dict(by_role)}; {again} came again")  # noqa: T201
    assert by_role[SUPERVISOR] == 1
    assert by_role[RELAY] >= 1
    assert by_role.total() >= 2 * kill_s
    assert again >= by_role.total() / 4
    assert "Traceback" not in log


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "downs_s", [[1.0], pytest.param([0.5, 1.0, 3.0], marks=pytest.mark.load)]
)
async def test_rabbitmq_killed_under_flow_loses_nothing(
    tmp_path: Path,
    rolekit_database: str,
    private_broker: PrivateBroker,
    downs_s: list[float],
) -> None:
    took_s: list[float] = []

    async def kill(fleet: MailflowFleet, look: Look) -> None:
        await asyncio.to_thread(private_broker.sync_queues)
        for down_s in downs_s:
            await _moved(look)
            await asyncio.to_thread(private_broker.kill9)
            await asyncio.sleep(down_s)
            await asyncio.to_thread(private_broker.start)
            took_s.append(await _moved(look))

    _, log = await _survives(tmp_path, rolekit_database, private_broker, FEW, kill)

    print("flow was back after", [round(s, 2) for s in took_s], "s")  # noqa: T201 - measured
    assert max(took_s) <= RESUMES_S
    assert not [event for event in BUGS if event in log]


@pytest.mark.timeout(150)
async def test_an_alarm_and_lost_connections_lose_nothing(
    tmp_path: Path, rolekit_database: str, private_broker: PrivateBroker
) -> None:
    took_s: list[float] = []

    async def trouble(fleet: MailflowFleet, look: Look) -> None:
        await _moved(look)
        for _ in range(5):
            await asyncio.to_thread(private_broker.close_all_connections)
            await asyncio.sleep(0.3)
        await asyncio.to_thread(lambda: private_broker.set_memory_alarm(is_on=True))
        await asyncio.sleep(5)
        await asyncio.to_thread(lambda: private_broker.set_memory_alarm(is_on=False))
        took_s.append(await _moved(look))

    _, log = await _survives(tmp_path, rolekit_database, private_broker, FEW, trouble)

    print("flow was back after", [round(s, 2) for s in took_s], "s")  # noqa: T201 - measured
    assert max(took_s) <= RESUMES_S
    assert not [event for event in BUGS if event in log]


async def _survives(
    home: Path,
    database: str,
    broker: PrivateBroker,
    instances: dict[str, int],
    fault: Callable[[MailflowFleet, Look], Awaitable[None]],
) -> tuple[int, str]:
    """Let mail flow while a fault happens; return how much came again, and the log."""
    settings = {f"ROLEKIT_{role}__INSTANCES": str(n) for role, n in instances.items()}
    settings["ROLEKIT_BROKER"] = broker.url()
    async with MailflowFleet(home, database, settings) as fleet, Look(database) as look:
        await _watch_trials(database)
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            flow = tasks.create_task(keep_flowing(fleet.target, database, COPIES, enough))
            await fault(fleet, look)
            enough.set()
        findings, ledger = await drained(database, "", flow.result())
        left = await _left(broker)
        again = await look.number(AGAIN)
        log = fleet.log

    print(f"{ledger}\n{findings.last_line()}")  # noqa: T201 - the figures, for the log of the run
    assert ledger.is_clean, ledger
    assert findings.is_clean, findings.problems[:20]
    assert left == {}
    return again or 0, log


async def _watch_trials(database: str) -> None:
    """Have the database note each message that came again and may have killed somebody."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("""
            create schema audit;
            create table audit.again (id uuid, generation int);
            create function audit.note() returns trigger language plpgsql as $$
                begin
                    insert into audit.again values (new.id, new.generation);
                    return null;
                end $$;
            create trigger again after insert on rolekit_mailflow.trial for each row
                execute function audit.note();
        """)
    finally:
        await connection.close()


async def _left(broker: PrivateBroker) -> dict[str, int]:
    """Wait until the broker's queues are empty; return what is left if they do not get so."""
    vhost = urlsplit(broker.url()).path[1:].replace("%2F", "/") or "/"
    left: dict[str, int] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EMPTY_S):
            while True:
                queues = await asyncio.to_thread(broker.list_queues, vhost)
                left = {q.name: q.ready + q.unacked for q in queues if q.ready + q.unacked}
                if not left:
                    break
                await asyncio.sleep(0.3)
    return left


async def _moved(look: Look) -> float:
    """Wait until the flow has moved on; return how long that took, in seconds."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    first: int | None = None
    while True:
        now = await look.number(SETTLED)
        if now is not None and first is not None and now > first:
            return loop.time() - begun
        first = now if first is None else first
        await asyncio.sleep(0.02)
