"""What the Postgres transport carries: messages/s, and CPU per message, in one process.

    python -m benchmarks.postgres_transport [--messages 20000] [--rounds 5] [--json FILE]

Each round runs every case once; the medians count. Messages are typed, 256 bytes of JSON;
fsync is on; one process, one event loop. CPU is that of this process, in µs a message; the
server's own is given beside it. Figures say something about this machine on this day, and
ratios between cases of one run say more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import structlog

from rolekit import App, Context, Message, Reply, Run, State, WorkerRole, field, gather, handle
from rolekit.link import OWNER_BITS
from rolekit.roles.host import Instance, Services
from rolekit.store import embedded
from rolekit.wiring import migrate, open_host
from rolekit.wiring.parts import build
from rolekit.wiring.relaying import run_relay

CONCURRENCY = 500
PARTS = 1000


class Noop(Message):
    """Handled, with nothing to record."""

    number: int
    fill: str


class First(Message):
    """Goes through a direct step."""

    number: int
    fill: str


class Second(Message):
    """What a direct step gives."""

    number: int
    fill: str


class Effect(Message):
    """Goes through a recorded step with a statement of SQL."""

    number: int
    fill: str


class Listed(Message):
    """Goes through a recorded step without SQL: a list of one."""

    number: int
    fill: str


class Job(Message):
    """Split into parts."""

    parts: int


class Part(Message):
    """One part."""

    number: int


class Done(Message):
    """One part, handled."""

    number: int


class JobDone(Reply):
    """Every part came, in order."""

    parts: int


class Seen(State):
    """How far a gather came."""

    parts: int = field(default=0)


class Counter:
    """Counts what arrived, and says when it is enough."""

    def __init__(self) -> None:
        self.count = 0
        self.wanted = 0
        self.reached = asyncio.Event()

    def expect(self, wanted: int) -> None:
        """Begin to count to `wanted`."""
        self.count, self.wanted = 0, wanted
        self.reached.clear()

    def hit(self) -> None:
        """Count one."""
        self.count += 1
        if self.count == self.wanted:
            self.reached.set()


COUNTER = Counter()


class Worker(WorkerRole):
    """Every case's handlers."""

    concurrency = CONCURRENCY

    @handle
    async def noop(self, message: Noop) -> None:
        """Do nothing."""
        del message
        COUNTER.hit()

    @handle
    async def first(self, message: First) -> Second:
        """Pass on: a direct step."""
        return Second(number=message.number, fill=message.fill)

    @handle
    async def second(self, message: Second) -> None:
        """Take what a direct step gave."""
        del message
        COUNTER.hit()

    @handle
    async def effect(self, message: Effect, ctx: Context) -> Noop:
        """Write one row and pass on: a recorded step with a statement a message."""
        ctx.write("insert into public.effect (number) values ($1)", message.number)
        return Noop(number=message.number, fill=message.fill)

    @handle
    async def listed(self, message: Listed) -> list[Noop]:
        """Pass on in a list: a recorded step without a statement."""
        return [Noop(number=message.number, fill=message.fill)]

    @handle
    async def split(self, job: Job) -> AsyncIterator[Part]:
        """Split."""
        for number in range(job.parts):
            yield Part(number=number)

    @handle
    async def work(self, part: Part) -> Done:
        """Handle a part."""
        return Done(number=part.number)

    @gather(size=PARTS)
    async def collect(self, job: Job, run: Run[Done]) -> JobDone | None:
        """Take the parts in order."""
        assert [part.number for part in run] == list(range(run.offset, run.offset + len(run)))
        return JobDone(parts=job.parts) if run.is_last else None


app = App("bench", roles=[Worker])


@dataclass(frozen=True, slots=True)
class Figure:
    """One case in one round."""

    per_s: float
    cpu_us: float
    server_cpu_us: float


def server_cpu(home: Path) -> float:
    """Return the CPU seconds of the embedded server and its live sessions."""
    pid = int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    there = psutil.Process(pid)
    return sum(
        sum(process.cpu_times()[:2]) for process in [there, *there.children(recursive=True)]
    )


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Services]:
    """Run the app in this process on a server of its own."""
    async with embedded.server(home) as url:
        await migrate(app.name, url)
        async with open_host(app.name, url, "") as host:
            services = build(app.plan(), host.epoch << OWNER_BITS | 1, url, "").services
            async with services.running():
                async with services.runtime.store.transaction() as tx:
                    await tx.execute("create table public.effect (number int not null)", ())
                stopped = asyncio.Event()
                instance = Instance(Worker, services)
                tasks = [
                    asyncio.create_task(instance.run(lambda: None)),
                    asyncio.create_task(run_relay(services, lambda: None, stopped)),
                ]
                yield services
                instance.stop(5)
                stopped.set()
                await asyncio.gather(*tasks)


async def measured(home: Path, count: int, work: Callable[[], Awaitable[object]]) -> Figure:
    """Measure one case."""
    cpu, server, begin = time.process_time(), server_cpu(home), time.perf_counter()
    await work()
    wall = time.perf_counter() - begin
    return Figure(
        count / wall,
        (time.process_time() - cpu) / count * 1e6,
        (server_cpu(home) - server) / count * 1e6,
    )


async def one_round(home: Path, services: Services, count: int) -> dict[str, Figure]:
    """Run every case once."""
    client, fill = services.client, "x" * 220
    found: dict[str, Figure] = {}

    async def through(messages: Iterable[Message]) -> None:
        COUNTER.expect(count)
        await client.send_many(messages)
        await COUNTER.reached.wait()

    cases: dict[str, type[Noop | First | Effect | Listed]] = {
        "send + no-op": Noop,
        "send + direct A -> B": First,
        "send + recorded A -> B": Listed,
        "send + recorded A -> B, one SQL write": Effect,
    }
    for name, cls in cases.items():
        messages = [cls(number=n, fill=fill) for n in range(count)]
        found[name] = await measured(home, count, lambda m=messages: through(m))  # type: ignore[misc]

    async def job() -> None:
        receipt = await client.send(Job(parts=PARTS))
        async for _ in client.follow(receipt, until=JobDone):
            pass

    found[f"split/gather of {PARTS}, one job"] = await measured(home, PARTS, job)
    return found


async def main(count: int, rounds: int, target: Path | None) -> None:
    """Run the rounds, print medians."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    with TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        async with running(home) as services:
            await one_round(home, services, 500)
            results = [await one_round(home, services, count) for _ in range(rounds)]
    rows = {
        name: {
            key: statistics.median(getattr(result[name], key) for result in results)
            for key in ("per_s", "cpu_us", "server_cpu_us")
        }
        for name in results[0]
    }
    print(f"{'case':40} {'messages/s':>11} {'CPU us':>8} {'server us':>10}")
    for name, row in rows.items():
        print(
            f"{name:40} {row['per_s']:11,.0f} {row['cpu_us']:8.0f} {row['server_cpu_us']:10.0f}"
        )
    if target is not None:
        target.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    asyncio.run(main(given.messages, given.rounds, given.json))
