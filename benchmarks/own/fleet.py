"""Fleets under `rolekit up`, scaled by its control: `python -m benchmarks.own.fleet`.

busy, waiting   so many instances handle a queue; timed from the first message sent to the
                last handled
instances       from the order to scale until all are ready, and until each has handled a
                message; their own memory, and what they hold of Postgres; what the supervisor
                uses while there is nothing to do; and back to one
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import asyncpg
import psutil

from benchmarks import meter
from benchmarks.own import fleet_app
from rolekit.cli.client import GONE, Control
from rolekit.supervisor.control import Scaled, ScaleOrder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from benchmarks.meter import Job
    from rolekit import App, Client
    from rolekit.supervisor.status import RoleStatus

LOOK_S = 0.1
"""Seldom, because looking takes CPU from what is looked at."""

START_S = 40
AT_FIRST = 1
IDLE_S = 5.0
POSTGRES_MOST = 100
"""Instances on the Postgres transport, each of which holds a connection to wait on."""

MIB = 1 << 20


class Fleet:
    """A supervisor that runs one app of one role."""

    def __init__(self, control: Control, role: str) -> None:
        self._control = control
        self._role = role

    def status(self) -> RoleStatus:
        """Ask for the state of the role."""
        return next(one for one in self._control.status().roles if one.role == self._role)

    def supervisor(self) -> int:
        """Ask for its process id."""
        return self._control.status().pid

    def is_ready(self, count: int) -> bool:
        """Say whether so many instances are ready."""
        try:
            if not self._control.is_ready():  # asks for no list of a thousand places
                return False
            status = self.status()
        except (*GONE, StopIteration):
            return False
        return status.ready == status.running == count

    async def scale(self, count: int) -> float:
        """Scale; return the seconds until all are ready."""
        begin = time.perf_counter()
        order = ScaleOrder(self._role, str(count))
        await asyncio.to_thread(self._control.order, "/scale", order, Scaled)
        await until(lambda: self.is_ready(count))
        return time.perf_counter() - begin


async def until(is_so: Callable[[], bool]) -> None:
    """Look again and again, since another process tells nobody.

    Raises:
        TimeoutError: It was not so in time.
    """
    async with asyncio.timeout(START_S):
        while not await asyncio.to_thread(is_so):  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def fleet(job: Job, name: str, home: Path) -> AsyncGenerator[tuple[Fleet, App]]:
    """Run `rolekit up` inside the block."""
    app: App = getattr(fleet_app, name)
    os.environ.update(
        ROLEKIT_DATABASE=job.database,
        ROLEKIT_BROKER=job.broker,
        ROLEKIT_HOME=str(home),
        ROLEKIT_LOG="error",
    )
    os.environ[fleet_app.HITS] = str(home / "hits")
    (home / "hits").touch()
    supervisor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rolekit", "up", f"{fleet_app.__name__}:{name}"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    found = Fleet(Control(home / f"{name}.sock"), app.roles[0].__name__)
    try:
        await until(lambda: found.is_ready(AT_FIRST))
        yield found, app
    finally:
        supervisor.terminate()
        await supervisor.wait()


async def scale_out(job: Job, name: str, home: Path) -> None:
    """Have so many instances handle a queue."""
    instances = int(job.options["instances"])
    hits = home / "hits"
    async with fleet(job, name, home) as (there, app), app.client() as client:
        if instances != AT_FIRST:
            await there.scale(instances)
        begin_s = time.time()
        await client.send_many(
            fleet_app.Work(**meter.fields(number)) for number in range(job.count)
        )
        await until(lambda: hits.stat().st_size >= job.count)
        seconds = hits.stat().st_mtime - begin_s
    meter.report(job.count, seconds, time.process_time(), instances=instances)


async def instances(job: Job, home: Path) -> None:
    """Start many instances, give each something to do, and take them away again."""
    count = job.count if job.broker else min(job.count, POSTGRES_MOST)
    async with fleet(job, "idle", home) as (there, app), app.client() as client:
        ready_s = await there.scale(count)
        pids = {place.pid for place in there.status().places if place.pid is not None}
        begin = time.perf_counter()
        await _each_handles(client, pids, home / "hits")
        handled_s = ready_s + time.perf_counter() - begin
        sizes = [_own_bytes(pid) for pid in pids]
        held = await _connections(job, f"rolekit {app.name} Idle")
        of_supervisor = await _connections(job, f"rolekit {app.name} (host)")
        supervisor = psutil.Process(there.supervisor())
        begin_cpu_s = meter.cpu_of(supervisor.pid)
        await asyncio.sleep(IDLE_S)
        idle_cpu = (meter.cpu_of(supervisor.pid) - begin_cpu_s) / IDLE_S
        supervisor_mib = supervisor.memory_info().rss / MIB
        down_s = await there.scale(AT_FIRST)
    meter.report(
        count,
        ready_s,
        time.process_time(),
        ready_s=ready_s,
        handled_s=handled_s,
        down_s=down_s,
        supervisor_mib=supervisor_mib,
        supervisor_cpu_percent=idle_cpu * 100,
        uss_mib=mean(sizes) / MIB,
        supervisor_connections=of_supervisor,
        connections=held,
    )


async def _each_handles(client: Client, pids: set[int], hits: Path) -> None:
    """Send messages until every one of these processes has handled one."""
    sent = 0

    def all_came() -> bool:
        return hits.read_text().count("\n") >= sent

    while not pids <= set(map(int, hits.read_text().split())):
        await client.send_many(
            fleet_app.Work(**meter.fields(sent + n)) for n in range(len(pids))
        )
        sent += len(pids)
        await until(all_came)


def _own_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_full_info().uss)


async def _connections(job: Job, name: str) -> int:
    connection = await asyncpg.connect(job.database)
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


async def main(job: Job) -> None:
    """Do the job."""
    with TemporaryDirectory(prefix="fleet", ignore_cleanup_errors=True) as folder:
        if job.case == "instances":
            await instances(job, Path(folder))
        else:
            await scale_out(job, job.case, Path(folder))


if __name__ == "__main__":
    asyncio.run(main(meter.job()))
