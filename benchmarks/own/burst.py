"""A burst on a role that scales by itself: `python -m benchmarks.own.burst`.

    --messages 50000   in one burst
    --postgres         without RabbitMQ: the database is the queue
    --picture FILE     draw what happened, as SVG
    --record FILE      keep what was seen, as JSON

Runs `rolekit up` on servers of its own, sends, and looks twice a second until the role is at
its least again. Fails when a message is lost or its row is there twice, or when it went up
after it had gone down.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from benchmarks.own import burst_app
from benchmarks.own.burst_picture import draw
from benchmarks.servers.ground import servers
from rolekit import wiring
from rolekit.cli.client import GONE, Control
from rolekit.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rolekit.supervisor.status import RoleStatus

LOOK_S = 0.5
START_S = 60
END_S = 600


class Sample(msgspec.Struct, kw_only=True):
    """What `rolekit ps` showed.

    Attributes:
        at_s: Seconds since the first message was sent.
        instances: That it should have.
    """

    at_s: float
    instances: int
    ready: int
    waiting: int
    in_hand: int
    oldest_s: float
    rate: float


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What happened.

    Attributes:
        sent_s: How long sending took.
        rows: That were written.
        distinct: Messages that have one.
        reasons: What was decided, with seconds since the first message was sent.
    """

    messages: int
    sent_s: float
    rows: int
    distinct: int
    samples: list[Sample]
    reasons: list[tuple[float, str]]

    @property
    def counts(self) -> list[int]:
        """Instances, each time there were others."""
        counts = [one.instances for one in self.samples]
        return [counts[0], *(after for before, after in pairwise(counts) if before != after)]

    def flaps(self) -> int:
        """Say how often it went up after it had gone down."""
        moves = [after - before for before, after in pairwise(self.counts)]
        return sum(one < 0 < other for one, other in pairwise(moves))


@contextmanager
def supervised(command: Sequence[str], home: Path, config: Config) -> Generator[Control]:
    """Run a supervisor of the app inside the block, and stop it at its end."""
    environ = {
        **{name: value for name, value in os.environ.items() if "ROLEKIT" not in name},
        "ROLEKIT_DATABASE": config.database,
        "ROLEKIT_BROKER": config.broker,
        "ROLEKIT_HOME": str(home),
        "ROLEKIT_LOG": "warning",
    }
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL)  # noqa: S603 - ours
    try:
        yield Control(home / "burst.sock")
    finally:
        process.terminate()
        process.wait(START_S)


def role_of(control: Control) -> RoleStatus | None:
    """Ask how the role is; None while nobody answers."""
    try:
        return next(one for one in control.status().roles if one.role == "Deliverer")
    except (*GONE, StopIteration):
        return None


async def until_ready(control: Control) -> None:
    """Wait until an instance is ready."""
    async with asyncio.timeout(START_S):
        while True:
            role = await asyncio.to_thread(role_of, control)
            if role is not None and role.ready:
                return
            await asyncio.sleep(0.1)


async def watch(
    control: Control, since_s: float, is_over: Callable[[list[Sample]], bool]
) -> list[Sample]:
    """Look until it is over."""
    samples: list[Sample] = []
    async with asyncio.timeout(END_S):
        while not is_over(samples):
            role = await asyncio.to_thread(role_of, control)
            if role is not None:
                samples.append(_sample(role, time.time() - since_s))
            await asyncio.sleep(LOOK_S)
    return samples


def _sample(role: RoleStatus, at_s: float) -> Sample:
    return Sample(
        at_s=round(at_s, 2),
        instances=role.instances,
        ready=role.ready,
        waiting=role.waiting or 0,
        in_hand=role.in_hand,
        oldest_s=round(role.oldest_s or 0, 2) if role.waiting else 0,
        rate=round(role.rate, 1),
    )


def is_calm(samples: list[Sample]) -> bool:
    """Whether it has been up and is at its least again, with nothing left."""
    if not samples or max(one.instances for one in samples) == samples[0].instances:
        return False
    last = samples[-1]
    return last.instances == last.ready == 1 and not last.waiting and not last.in_hand


async def burst(config: Config, control: Control, messages: int) -> Record:
    """Send so many at once to an app that is up, and see what its supervisor does."""
    connection = await asyncpg.connect(config.database)
    try:
        await connection.execute("create table if not exists delivered (number int)")
        await until_ready(control)
        since_s = time.time()
        watching = asyncio.create_task(watch(control, since_s, is_calm))
        async with wiring.open_client(burst_app.app, config) as client:
            await client.send_many(burst_app.Letter(number=n) for n in range(messages))
        sent_s = time.time() - since_s
        samples = await watching
        rows, distinct = await connection.fetchrow(
            "select count(*), count(distinct number) from delivered"
        )
    finally:
        await connection.close()
    role = await asyncio.to_thread(role_of, control)
    reasons = [] if role is None else [(one.at - since_s, one.what) for one in role.reasons]
    return Record(
        messages=messages,
        sent_s=sent_s,
        rows=rows,
        distinct=distinct,
        samples=samples,
        reasons=[(round(at_s, 2), what) for at_s, what in reasons],
    )


async def measured(messages: int, *, on_postgres: bool) -> Record:
    """Have a burst on servers that are only for it."""
    command = [sys.executable, "-m", "rolekit", "up", f"{burst_app.__name__}:app"]
    with TemporaryDirectory(prefix="burst", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        async with servers(home) as running, running.place() as place:
            broker = "" if on_postgres else place.broker
            config = Config(database=place.database, broker=broker)
            with supervised(command, home, config) as control:
                return await burst(config, control, messages)


def main() -> int:
    """Measure, print, draw and judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    record = asyncio.run(measured(options.messages, on_postgres=options.postgres))
    for at_s, what in record.reasons:
        print(f"{at_s:6.1f} s  {what}")
    print(
        f"{record.messages:,} sent in {record.sent_s:.1f} s; {record.rows:,} rows of "
        f"{record.distinct:,}; instances {' -> '.join(map(str, record.counts))}; "
        f"over after {record.samples[-1].at_s:.0f} s"
    )
    if options.record:
        options.record.write_bytes(msgspec.json.encode(record))
    if options.picture:
        drawn = draw(record.messages, record.samples, record.flaps())
        options.picture.write_text(drawn, encoding="utf-8")
    is_whole = record.rows == record.distinct == record.messages
    return 0 if is_whole and not record.flaps() else 1


if __name__ == "__main__":
    sys.exit(main())
