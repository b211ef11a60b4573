"""Postgres dies under flow, whole and in pieces; nothing is lost, and nobody is restarted.

What is measured is printed: how long after the server was back the flow had moved on.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.patience import patient
from tests.process.flowing import Look, drained, keep_flowing
from tests.process.killing import MailflowFleet, Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.servers import PrivatePostgres

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

INSTANCES = {
    "MAILFRONT": 1, "SMTP": 1, "SPLITTER": 1, "SPAMCHECK": 1, "INSPECTOR": 2, "DELIVERER": 2,
    "REPORTER": 1,
}  # fmt: skip
COPIES = 300
RESUMES_S = patient(10.0)
BUGS = ("the instance failed", "got a 500", "unexpected error", "rolekit failed")
"""What no log may say: an outage is foreseen, and answered by waiting."""
SETTLED = "select count(*) from rolekit_mailflow.inbox"
"""Grows with each outcome of any message: the pulse of the flow."""


@pytest.mark.timeout(120)
async def test_postgres_killed_under_flow_loses_nothing(
    tmp_path: Path, postgres_server: PrivatePostgres
) -> None:
    await _survives_kills(tmp_path, postgres_server, [2.0])


@pytest.mark.load
@pytest.mark.timeout(180)
async def test_postgres_killed_three_times_under_flow_loses_nothing(
    tmp_path: Path, postgres_server: PrivatePostgres
) -> None:
    await _survives_kills(tmp_path, postgres_server, [1.0, 2.0, 3.0])


async def _survives_kills(home: Path, server: PrivatePostgres, downs_s: list[float]) -> None:
    """Kill the server and start it again, once for each time that it is down."""
    took_s: list[float] = []

    async def kill(look: Look) -> None:
        for down_s in downs_s:
            await _moved(look)
            await asyncio.to_thread(server.kill9)
            await asyncio.sleep(down_s)
            await asyncio.to_thread(server.start)
            took_s.append(await _moved(look))

    await _flow_survives(home, server.url, kill)

    print("flow was back after", [round(s, 2) for s in took_s], "s")  # noqa: T201 - measured
    assert max(took_s) <= RESUMES_S


@pytest.mark.load
@pytest.mark.timeout(120)
async def test_a_backend_killed_makes_postgres_drop_all_and_loses_nothing(
    tmp_path: Path, postgres_server: PrivatePostgres
) -> None:
    took_s: list[float] = []

    async def kill_one_backend(look: Look) -> None:
        await _moved(look)
        await _kill_backend(postgres_server.url)
        took_s.append(await _moved(look))

    await _flow_survives(tmp_path, postgres_server.url, kill_one_backend)

    print("flow was back after", [round(s, 2) for s in took_s], "s")  # noqa: T201 - measured
    assert max(took_s) <= RESUMES_S


@pytest.mark.timeout(120)
async def test_sessions_ended_at_random_every_100_ms_lose_nothing(
    tmp_path: Path, postgres_server: PrivatePostgres
) -> None:
    ended = 0

    async def end_sessions(look: Look) -> None:
        nonlocal ended
        await _moved(look)
        for _ in range(20):
            ended += (
                await look.number(
                    "with one as (select pid from pg_stat_activity"
                    " where application_name like 'rolekit%' order by random() limit 1)"
                    " select count(pg_terminate_backend(pid)) from one"
                )
                or 0
            )
            await asyncio.sleep(0.1)

    await _flow_survives(tmp_path, postgres_server.url, end_sessions)

    print(ended, "sessions were ended")  # noqa: T201 - measured
    assert ended > 10


async def _flow_survives(
    home: Path, database: str, fault: Callable[[Look], Awaitable[None]]
) -> None:
    """Let mail flow while a fault happens; every message has one outcome, nobody died of it."""
    settings = {f"ROLEKIT_{role}__INSTANCES": str(n) for role, n in INSTANCES.items()}
    async with MailflowFleet(home, database, settings) as fleet, Look(database) as look:
        before = await _alive(fleet)
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            flow = tasks.create_task(keep_flowing(fleet.target, database, COPIES, enough))
            await fault(look)
            enough.set()
        findings, ledger = await drained(database, "", flow.result())
        after = await _alive(fleet)
        log = fleet.log

    print(f"{ledger}\n{findings.last_line()}")  # noqa: T201 - the figures, for the log of the run
    assert ledger.is_clean, ledger
    assert findings.is_clean, findings.problems[:20]
    assert after == before
    assert not [event for event in BUGS if event in log]


async def _alive(fleet: MailflowFleet) -> list[Process]:
    return sorted(await fleet.processes(), key=lambda process: process.pid)


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


async def _kill_backend(url: str) -> None:
    """Kill one server process that works for rolekit, after making sure that it is one."""
    connection = await asyncpg.connect(url)
    try:
        pids = await connection.fetch(
            "select pid from pg_stat_activity where application_name like 'rolekit%'"
        )
        chosen = random.choice([row["pid"] for row in pids])  # noqa: S311 - any of them
        held = os.pidfd_open(chosen)
        try:
            assert _parent(chosen) == _parent(connection.get_server_pid())
            signal.pidfd_send_signal(held, signal.SIGKILL)
        finally:
            os.close(held)
    finally:
        connection.terminate()


def _parent(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[1])
