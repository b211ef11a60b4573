"""A recorded pipeline on RabbitMQ and Postgres, in this process, and what must hold of it.

Each job is split; each part goes through a direct step and then takes effect; a gather reports
the parts of a job in order. Jobs are sent with a key, again and again until somebody says that
they are durable. Nothing in the tables is unique, so that what happens twice can be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from rolekit import App, Context, Message, Run, WorkerRole, gather, handle, wiring
from rolekit.errors import RolekitError
from rolekit.link import OWNER_BITS
from rolekit.roles.host import Instance
from rolekit.transport.long_work import LongWorkTransport
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.wiring.parts import build
from rolekit.wiring.relaying import run_relay
from tests.patience import patient

if TYPE_CHECKING:
    from rolekit.roles.services import Services
    from rolekit.testing.faults import Proxy
    from rolekit.wiring.hosting import Host
    from tests.faults.rabbit import Rig

PARTS = 10
WORK_S = 0.03
DRAINS_S = patient(60.0)


class Job(Message):
    """Split into parts."""

    name: str
    parts: int


class Raw(Message):
    """A part as it comes out of the split."""

    job: str
    i: int


class Part(Message):
    """A part that went through the direct step."""

    job: str
    i: int


class Done(Message):
    """A part that took effect."""

    i: int


async def _for_a_while(part: Part) -> None:
    """Keep a part in hand, so that a fault meets some."""
    del part
    await asyncio.sleep(WORK_S)


@dataclass(slots=True)
class Stage:
    """What handlers share with the test that runs now: roles are made without arguments.

    Attributes:
        ran_s: When a handler began last.
        runs: How often one began.
        working: Awaited before a part takes effect.
    """

    ran_s: float = 0.0
    runs: int = 0
    working: Callable[[Part], Awaitable[None]] = _for_a_while
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def beat(self) -> None:
        """Note that a handler began."""
        self.ran_s = time.monotonic()
        self.runs += 1
        self.began.set()


class _Now:
    stage = Stage()


class Split(WorkerRole):
    """Splits each job."""

    @handle
    async def split(self, job: Job, ctx: Context) -> AsyncIterator[Raw]:
        _Now.stage.beat()
        ctx.write("insert into runs values ($1)", job.name)
        for i in range(job.parts):
            yield Raw(job=job.name, i=i)


class Pass(WorkerRole):
    """A direct step: one in, one out, no effect."""

    @handle
    async def forward(self, raw: Raw) -> Part:
        _Now.stage.beat()
        return Part(job=raw.job, i=raw.i)


class Work(WorkerRole):
    """Has an effect for each part."""

    @handle
    async def work(self, part: Part, ctx: Context) -> Done:
        _Now.stage.beat()
        await _Now.stage.working(part)
        ctx.write("insert into effects values ($1, $2)", part.job, part.i)
        return Done(i=part.i)


class Collect(WorkerRole):
    """Reports the parts of each job in order."""

    @gather(size=100)
    async def report(self, job: Job, run: Run[Done], ctx: Context) -> None:
        for place, part in enumerate(run, run.offset):
            ctx.write(
                "insert into report (job, place, i) values ($1, $2, $3)",
                job.name,
                place,
                part.i,
            )


ROLES = (Split, Pass, Work, Collect)
app = App("rflow", roles=ROLES)

TABLES = """
    create table runs (job text);
    create table effects (job text, i int);
    create table report (n bigserial, job text, place int, i int);
"""
_LEFT = """
    select (select count(*) from rolekit_rflow.schedule)
         + (select count(*) from rolekit_rflow.outbox)
         + (select count(*) from rolekit_rflow.sequence where state = 0)
"""
_CHECKS = {
    "lost": """
        select count(*) from unnest($1::text[]) as j (job)
            cross join lateral generate_series(0, $2 - 1) as i
        where not exists (select from effects e where e.job = j.job and e.i = i)
           or not exists (select from report l where l.job = j.job and l.i = i)""",
    "twice": """
        select coalesce(sum(times - 1), 0) from (
            select count(*) as times from effects group by job, i
            union all select count(*) from runs group by job
            union all select count(*) from report group by job, place) as seen""",
    "out of order": """
        select count(*) from (
            select i, place, row_number() over (partition by job order by n) - 1 as turn
            from report) as line where i <> place or place <> turn""",
    "dead": "select count(*) from rolekit_rflow.dead_letter",
}


class Flow:
    """The pipeline, living in members: processes in all but name.

    Args:
        looks: For looking into the database.
        stage: Of this test.
    """

    def __init__(self, looks: asyncpg.Pool[asyncpg.Record], stage: Stage, rig: Rig) -> None:
        self.stage = stage
        self.services: list[Services] = []
        self.jobs: list[str] = []
        self._looks = looks
        self._rig = rig
        self._is_over = asyncio.Event()

    async def send(self, parts: int = PARTS, by: int = 0) -> None:
        """Send a job, by one of the members, until it says that the job is durable."""
        job = Job(name=f"job{len(self.jobs)}", parts=parts)
        self.jobs.append(job.name)
        while True:
            try:
                await self.services[by].client.send(job, idempotency_key=job.name)
            except RolekitError:
                await asyncio.sleep(0.05)
            else:
                return

    async def keep_sending(self, enough: asyncio.Event, pause_s: float) -> None:
        """Send jobs, one after another."""
        while not enough.is_set():
            await self.send()
            await asyncio.sleep(pause_s)

    async def moved(self) -> float:
        """Wait until a handler begins; say how long that took, in seconds."""
        began_s = time.monotonic()
        self.stage.began.clear()
        await self.stage.began.wait()
        return time.monotonic() - began_s

    async def ran(self, runs: int) -> None:
        """Wait until handlers ran so often."""
        while self.stage.runs < runs:
            await self.moved()

    @property
    def stale_acks(self) -> int:
        """Acks that came too late for their channel."""
        return sum(self.broker_end(at).stale_acks for at in range(len(self.services)))

    def broker_end(self, at: int) -> RabbitTransport:
        """Return what one of the processes has of the broker."""
        transport = self.services[at].runtime.transport
        assert isinstance(transport, LongWorkTransport)
        assert isinstance(transport.broker, RabbitTransport)
        return transport.broker

    async def count(self, table: str) -> int:
        """Count the rows of a table."""
        found: int = await self._looks.fetchval(f"select count(*) from {table}")  # noqa: S608 - named by a test
        return found

    async def problems(self, parts: int = PARTS) -> dict[str, int]:
        """Wait until nothing is on its way, or nothing gets on; say what went wrong."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAINS_S):
                while not await self._is_drained(parts):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.1)
        found: dict[str, int] = {"left in queues": await self._rig.left(app.name)}
        for name, sql in _CHECKS.items():
            arguments = [self.jobs, parts] if "$1" in sql else []
            found[name] = int(await self._looks.fetchval(sql, *arguments))
        return {name: count for name, count in found.items() if count}

    async def _is_drained(self, parts: int) -> bool:
        if await self.count("report") < parts * len(self.jobs):
            return False
        return not (await self._looks.fetchval(_LEFT) or await self._rig.left(app.name))

    async def live(self, services: Services, ready: asyncio.Event) -> None:
        """Be one member until the end."""
        instances = [Instance(role, services) for role in ROLES]
        async with services.running(), asyncio.TaskGroup() as tasks:
            started = [asyncio.Event() for _ in ROLES]
            for instance, event in zip(instances, started, strict=True):
                tasks.create_task(instance.run(event.set))
            tasks.create_task(run_relay(services, lambda: None, self._is_over))
            for event in started:
                await event.wait()
            ready.set()
            await self._is_over.wait()
            for instance in instances:
                instance.stop(2)

    def end(self) -> None:
        """End all members."""
        self._is_over.set()


@contextlib.asynccontextmanager
async def flowing(
    rig: Rig,
    database: str,
    *,
    members: int = 2,
    heartbeat_s: int = 20,
    proxy: Proxy | None = None,
) -> AsyncGenerator[Flow]:
    """Set the pipeline up in a fresh database and virtual host."""
    _Now.stage = Stage()
    url = rig.url if proxy is None else proxy.url(rig.url)
    broker = f"{url}?heartbeat={heartbeat_s}"
    await wiring.migrate(app.name, database)
    async with asyncpg.create_pool(database, min_size=0, max_size=2) as looks:
        await looks.execute(TABLES)
        async with wiring.open_host(app.name, database, broker) as host:
            flow = Flow(looks, _Now.stage, rig)
            async with asyncio.TaskGroup() as tasks:
                try:
                    for number in range(1, members + 1):
                        await _join(flow, tasks, host, (database, broker), number)
                    yield flow
                finally:
                    flow.end()


async def _join(
    flow: Flow, tasks: asyncio.TaskGroup, host: Host, places: tuple[str, str], number: int
) -> None:
    services = build(app.plan(), host.epoch << OWNER_BITS | number, *places).services
    ready = asyncio.Event()
    tasks.create_task(flow.live(services, ready))
    await ready.wait()
    flow.services.append(services)
