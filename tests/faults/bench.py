"""An app to break, run in this process on a real Postgres, and a checker that tells how.

Its handlers draw: each run of a split yields another list, under another number. So that a
mixture of two runs can be seen, everything it causes carries that number. A `Member` is what
an instance of each role would be; cut off from its database it is as good as dead, and the
supervisor's part, handing back what it held, is done by `Bench.bury`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg

from rolekit import App, Backoff, Context, Message, Run, WorkerRole, gather, handle, wiring
from rolekit.bell import Bell
from rolekit.clock import SystemClock
from rolekit.database import Database
from rolekit.errors import Unavailable
from rolekit.flow.runtime import Runtime
from rolekit.link import OWNER_BITS
from rolekit.model.codec import Codec
from rolekit.model.envelope import Head, Packet, encode_head
from rolekit.roles.host import Instance
from rolekit.roles.services import Services
from rolekit.store.base import Commit, Outcome, Step
from rolekit.store.postgres import PostgresStore
from rolekit.transport.postgres import PostgresTransport
from rolekit.wiring.relaying import run_relay

if TYPE_CHECKING:
    from rolekit.connections import Pooled
    from rolekit.wiring.hosting import Host

QUIET_S = 10.0
"""Longer than it takes until what a dead member had under way is handed back."""
SCHEMA = "rolekit_bench"


class Job(Message):
    """Split into some parts."""

    name: str
    parts: int


class Raw(Message):
    """A part as it comes out of the split."""

    job: str
    i: int
    draw: int


class Part(Message):
    """A part that went through the direct step."""

    job: str
    i: int
    draw: int


class Done(Message):
    """A part that took effect."""

    i: int
    draw: int


class Script:
    """What handlers do at a point where a test wants something; nothing, unless it says so."""

    bench: Bench

    def __init__(self) -> None:
        self.draws: Counter[str] = Counter()

    def draw(self, job: Job) -> tuple[int, int]:
        """Number this run of the split, and say how many parts it yields: each time fewer."""
        self.draws[job.name] += 1
        run = self.draws[job.name]
        return run, max(1, job.parts + 2 - 2 * run)

    async def working(self, part: Part) -> None:
        """Be called before a part takes effect."""

    async def gathering(self, run: Run[Done]) -> None:
        """Be called before a run is reported."""


class _Stage:
    """Holds the script of the test that runs now: roles are made without arguments."""

    script = Script()


class Split(WorkerRole):
    """Splits each job, differently on each run."""

    @handle
    async def split(self, job: Job, ctx: Context) -> AsyncIterator[Raw]:
        draw, parts = _Stage.script.draw(job)
        ctx.write("insert into runs values ($1, $2, $3)", job.name, draw, parts)
        for i in range(parts):
            yield Raw(job=job.name, i=i, draw=draw)


class Pass(WorkerRole):
    """A direct step: one in, one out, no effect."""

    @handle
    async def forward(self, raw: Raw) -> Part:
        return Part(job=raw.job, i=raw.i, draw=raw.draw)


class Work(WorkerRole):
    """Has an effect for each part."""

    @handle(retry=Backoff(attempts=4, first_s=0.05))
    async def work(self, part: Part, ctx: Context) -> Done:
        await _Stage.script.working(part)
        ctx.write("insert into effects values ($1, $2, $3)", part.job, part.i, part.draw)
        return Done(i=part.i, draw=part.draw)


class Collect(WorkerRole):
    """Reports the parts of each job in order."""

    @gather(size=100)
    async def report(self, job: Job, run: Run[Done], ctx: Context) -> None:
        await _Stage.script.gathering(run)
        for place, part in enumerate(run, run.offset):
            ctx.write(
                "insert into report (job, place, i, draw) values ($1, $2, $3, $4)",
                job.name, place, part.i, part.draw,
            )  # fmt: skip


ROLES = (Split, Pass, Work, Collect)
app = App("bench", roles=ROLES)

TABLES = """
    create table runs (job text, draw int, parts int);
    create table effects (job text, i int, draw int);
    create table report (n bigserial, job text, place int, i int, draw int);
"""


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What went wrong, by class; all zero when nothing did.

    Attributes:
        lost: Parts of a job without effect, or without a line in its report.
        duplicates: Effects, runs and lines beyond the first of their kind.
        ghosts: Effects of a run of the split that was not the one recorded.
        out_of_order: Lines that do not stand where their part stood.
        forked: Messages that took effect and were tried again all the same.
        stuck: Sequences that nobody will move on.
        parked: Dead letters.
    """

    lost: int = 0
    duplicates: int = 0
    ghosts: int = 0
    out_of_order: int = 0
    forked: int = 0
    stuck: int = 0
    parked: int = 0

    @property
    def classes(self) -> set[str]:
        """Names of those that are there."""
        return {name for name, count in asdict(self).items() if count}


_CHECKS = {
    "lost": """
        select count(*) from unnest($1::text[]) as j (job) left join runs r using (job)
            left join lateral generate_series(0, r.parts - 1) as i on true
        where i is null
           or not exists (select from effects e where e.job = j.job and e.i = i)
           or not exists (select from report l where l.job = j.job and l.i = i)""",
    "duplicates": """
        select coalesce(sum(times - 1), 0) from (
            select count(*) as times from effects group by job, i
            union all select count(*) from runs group by job
            union all select count(*) from report group by job, place) as seen""",
    "ghosts": """
        select count(*) from (select job, i, draw from effects
                              union all select job, i, draw from report) as e
        where not exists (select from runs r
            where r.job = e.job and r.draw = e.draw and e.i < r.parts)""",
    "out_of_order": """
        select count(*) from (
            select i, place, row_number() over (partition by job order by n) - 1 as turn
            from report) as line where i <> place or place <> turn""",
    "forked": """
        select count(*) from {s}.inbox a join {s}.inbox b using (id)
        where a.outcome = 1 and b.generation > a.generation""",
    "stuck": "select count(*) from {s}.sequence where state = 0",
    "parked": "select count(*) from {s}.dead_letter",
}
_LEFT = """
    select (select count(*) from {s}.queue) + (select count(*) from {s}.schedule)
         + (select count(*) from {s}.outbox)
"""
_TWICE = """
    create function arrive_again() returns trigger language plpgsql as $$
        begin
            insert into {s}.queue (queue, id, generation, birth_ms, head, body)
            values (new.queue, new.id, new.generation, new.birth_ms, new.head, new.body);
            return null;
        end $$;
    create trigger twice after insert on {s}.queue for each row
        when (pg_trigger_depth() = 0) execute function arrive_again();
"""


class Severed(Database):
    """A database that a member can be cut off from."""

    is_cut = False

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncGenerator[Pooled]:
        self._refuse_if_cut()
        async with super().connection() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Pooled]:
        self._refuse_if_cut()
        async with super().transaction() as connection:
            yield connection

    def _refuse_if_cut(self) -> None:
        if self.is_cut:
            raise Unavailable("cut off")


Kills = Callable[[Step], bool]
"""Says of a step whether its commit is the moment of death."""


class MortalStore(PostgresStore):
    """Dies just before a commit that a test names, or loses the first answer to each."""

    def __init__(
        self, database: Severed, owner: int, *, kills: Kills | None, answers: bool
    ) -> None:
        super().__init__(database, owner=owner)
        self.is_dead = asyncio.Event()
        self._severed = database
        self._kills = kills
        self._answers = answers
        self._unheard: set[tuple[str, int]] = set()

    async def commit(self, steps: Sequence[Step]) -> Commit:
        if self._kills is not None and any(self._kills(step) for step in steps):
            self._severed.is_cut = True
            self.is_dead.set()
        commit = await super().commit(steps)
        unheard = {step.key for step in steps} - self._unheard
        if unheard and not self._answers:
            self._unheard |= unheard
            raise Unavailable("the answer was lost")
        return commit


@dataclass(slots=True)
class Member:
    """One instance of each role, sharing one connection pool: they live and die together."""

    services: Services
    store: MortalStore
    owner: int
    instances: list[Instance] = field(default_factory=list[Instance])


class Bench:
    """The app, with members that come and go."""

    def __init__(
        self,
        url: str,
        host: Host,
        looks: asyncpg.Pool[asyncpg.Record],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._looks = looks
        self._url = url
        self._host = host
        self._tasks = tasks
        self._bell = Bell()
        self._jobs: list[str] = []
        self._is_over = asyncio.Event()
        self._living: list[asyncio.Task[None]] = []

    async def member(
        self, kills: Kills | None = None, *, answers: bool = True, unknown_s: float = 600
    ) -> Member:
        """Let a member live until the end, or until the commit at which it dies.

        Args:
            kills: Says at which commit.
            answers: Whether it hears of a commit the first time.
            unknown_s: How long a type that it does not know may come again.
        """
        owner = self._host.epoch << OWNER_BITS | len(self._living) + 1
        plan = app.plan()
        database = Severed(self._url, app.name)
        store = MortalStore(database, owner, kills=kills, answers=answers)
        runtime = Runtime(
            plan=plan,
            codec=Codec(plan.types, plan.wire_names, plan.codec),
            store=store,
            transport=PostgresTransport(database, owner=owner, bell=self._bell),
            bell=self._bell,
            clock=SystemClock(),
            owner=owner,
            unknown_s=unknown_s,
        )
        member = Member(Services(runtime), store, owner)
        ready = asyncio.Event()
        self._living.append(self._tasks.create_task(self._live(member, ready)))
        await ready.wait()
        return member

    async def bury(self, member: Member) -> None:
        """Hand back what a dead member held, as its supervisor does."""
        await member.store.is_dead.wait()
        await self._host.release(member.owner)
        self._bell.ring(["*"])

    async def send(self, member: Member, job: Job) -> None:
        """Send a job."""
        self._jobs.append(job.name)
        await member.services.client.send(job)

    async def send_unknown(self, member: Member, job: Job) -> None:
        """Send a job under the name of a type that nobody knows."""
        runtime = member.services.runtime
        _, version, body = runtime.codec.encode(job)
        head = Head(type="bench.newer", type_version=version, root=uuid4().hex)
        packet = Packet(queue="Split.split", id=uuid4().hex, head=encode_head(head), body=body)
        await runtime.transport.publish([packet])

    async def outcomes(self) -> list[tuple[int, str]]:
        """List generations and their outcomes, in order."""
        found = await self._looks.fetch(
            "select generation, outcome from rolekit_bench.inbox order by generation"
        )
        return [(row["generation"], Outcome(row["outcome"]).name.lower()) for row in found]

    async def reasons(self) -> list[str]:
        """List the reasons of dead letters."""
        found = await self._looks.fetch("select reason from rolekit_bench.dead_letter")
        return [row["reason"] for row in found]

    async def twice(self) -> None:
        """Let every packet arrive twice from now on."""
        await self._looks.execute(_TWICE.replace("{s}", SCHEMA))

    async def until(self, table: str, count: int) -> None:
        """Wait until a table has so many rows."""
        sql = f"select count(*) from {table}"  # noqa: S608 - a name from the test
        while await self._looks.fetchval(sql) < count:  # noqa: ASYNC110 - a database tells nobody
            await asyncio.sleep(0.01)

    async def check(self) -> Anomalies:
        """Wait until nothing is on its way, or nothing gets on; then look."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                while await self._looks.fetchval(_LEFT.replace("{s}", SCHEMA)):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
        found: dict[str, int] = {}
        for name, sql in _CHECKS.items():
            arguments = [self._jobs] if "$1" in sql else []
            found[name] = int(
                await self._looks.fetchval(sql.replace("{s}", SCHEMA), *arguments)
            )
        return Anomalies(**found)

    async def end(self) -> None:
        """End all members, at once."""
        self._is_over.set()
        await asyncio.gather(*self._living)

    async def _live(self, member: Member, ready: asyncio.Event) -> None:
        services = member.services
        member.instances = [Instance(role, services) for role in ROLES]
        async with services.running(), asyncio.TaskGroup() as tasks:
            started = [asyncio.Event() for _ in ROLES]
            for instance, event in zip(member.instances, started, strict=True):
                tasks.create_task(instance.run(event.set))
            tasks.create_task(run_relay(services, lambda: None, self._is_over))
            for event in started:
                await event.wait()
            ready.set()
            await self._is_over.wait()
            for instance in member.instances:
                instance.stop(0)


@contextlib.asynccontextmanager
async def bench(url: str, script: Script | None = None) -> AsyncGenerator[Bench]:
    """Set the app up in a fresh database."""
    _Stage.script = script or Script()
    await wiring.migrate(app.name, url)
    async with asyncpg.create_pool(url, min_size=0, max_size=2) as looks:
        await looks.execute(TABLES)
        async with wiring.open_host(app.name, url, "") as host, asyncio.TaskGroup() as tasks:
            made = Bench(url, host, looks, tasks)
            _Stage.script.bench = made
            try:
                yield made
            finally:
                await made.end()
