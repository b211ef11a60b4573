"""Rates and circuits where a queue cannot wait: with keys, on gathers, before batches."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from rolekit import (
    App,
    Backoff,
    Batch,
    Circuit,
    Context,
    Message,
    Rate,
    Run,
    WorkerRole,
    gather,
    handle,
)
from rolekit.store.memory import MemoryStore
from rolekit.testing import run_app

if TYPE_CHECKING:
    from rolekit.store.memory_tables import MemoryTables
    from rolekit.testing.running import Running
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio

ONCE = Circuit(failures=0.5, over_s=60, at_least=4, pause_s=30)


class Put(Message):
    who: str
    n: int


class Slow(Message):
    who: str
    n: int


class Free(Message):
    who: str
    n: int


class Row(Message):
    n: int


class Job(Message):
    name: str
    parts: int


class Part(Message):
    n: int


class Done(Message):
    who: str
    n: int
    attempt: int
    at_s: float


class Bank:
    """What is called: up or down."""

    def __init__(self) -> None:
        self.is_up = True
        self.calls = 0

    def call(self) -> None:
        """Be called."""
        self.calls += 1
        if not self.is_up:
            raise OSError("down")


bank = Bank()


def done(ctx: Context, who: str, n: int) -> Done:
    return Done(who=who, n=n, attempt=ctx.attempt, at_s=ctx.now.timestamp())


class Result(WorkerRole):
    @handle
    async def done(self, done: Done) -> None: ...


class Keyed(WorkerRole):
    partitions = 2
    concurrency = 4

    @handle(key="who", rate=Rate(1, per_s=10, key="who"))
    async def put(self, put: Put, ctx: Context) -> Done:
        return done(ctx, put.who, put.n)

    @handle(key="who", rate=Rate(1, per_s=5))
    async def slow(self, slow: Slow, ctx: Context) -> Done:
        return done(ctx, slow.who, slow.n)

    @handle(key="who")
    async def free(self, free: Free, ctx: Context) -> Done:
        return done(ctx, free.who, free.n)


class Charged(WorkerRole):
    partitions = 2
    concurrency = 4

    @handle(key="who", circuit=ONCE, retry=Backoff(attempts=9, first_s=0))
    async def put(self, put: Put, ctx: Context) -> Done:
        bank.call()
        return done(ctx, put.who, put.n)

    @handle(key="who")
    async def free(self, free: Free, ctx: Context) -> Done:
        return done(ctx, free.who, free.n)


class Gathers(WorkerRole):
    @handle
    async def split(self, job: Job) -> AsyncIterator[Part]:
        for n in range(job.parts):
            yield Part(n=n)

    @gather(rate=Rate(1, per_s=10), circuit=ONCE, retry=Backoff(attempts=9, first_s=0))
    async def collect(self, job: Job, parts: list[Part], ctx: Context) -> Done:
        bank.call()
        assert [part.n for part in parts] == list(range(job.parts))
        return done(ctx, job.name, len(parts))


class Runs(WorkerRole):
    @handle
    async def split(self, job: Job) -> AsyncIterator[Part]:
        for n in range(job.parts):
            yield Part(n=n)

    @gather(size=2, rate=Rate(1, per_s=10))
    async def collect(self, job: Job, run: Run[Part], ctx: Context) -> Done | None:
        return done(ctx, job.name, run.offset) if len(run) else None


class Batches(WorkerRole):
    @handle(size=5, rate=Rate(20, per_s=10))
    async def store(self, rows: Batch[Row], ctx: Context) -> list[Done]:
        return [done(ctx, str(len(rows)), row.n) for row in rows]


class Guarded(WorkerRole):
    concurrency = 4

    @handle(size=2, circuit=ONCE, retry=Backoff(attempts=9, first_s=0))
    async def store(self, rows: Batch[Row], ctx: Context) -> list[Done]:
        if len(rows) > 1 and rows[0].n == -1:
            raise ValueError("a bad row, alone with another")
        bank.call()
        return [done(ctx, str(len(rows)), row.n) for row in rows]


class Flooded(WorkerRole):
    @handle(rate=[Rate(1, per_s=60, key="who"), Rate(10)])
    async def put(self, put: Put, ctx: Context) -> Done:
        return done(ctx, put.who, put.n)


keyed = App("keyed", roles=[Keyed, Result])
charged = App("charged", roles=[Charged, Result])
gathers = App("gathers", roles=[Gathers, Result])
runs = App("runs", roles=[Runs, Result])
batches = App("batches", roles=[Batches, Result])
guarded = App("guarded", roles=[Guarded, Result])
flooded = App("flooded", roles=[Flooded, Result])


@pytest.fixture(autouse=True)
def fresh() -> None:
    """A bank that is up and was not called."""
    bank.is_up, bank.calls = True, 0


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """Where the app keeps its state."""
    if request.param == "memory":
        return "memory"
    url: str = request.getfixturevalue("rolekit_database")
    return url


def of(seen: list[Done], who: str) -> list[int]:
    """Say what was done for one key, in order."""
    return [each.n for each in seen if each.who == who]


def stored(running: Running) -> MemoryTables:
    """Return what a database would hold."""
    store = running._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert isinstance(store, MemoryStore)
    return store.tables


def gaps(seen: list[Done], who: str | None = None) -> list[float]:
    """Say how far apart calls were."""
    times = sorted(each.at_s for each in seen if who in (None, each.who))
    return [after - before for before, after in pairwise(times)]


async def test_a_key_that_waits_for_its_rate_keeps_its_order_and_holds_up_no_other(
    database: str,
) -> None:
    async with run_app(keyed, database=database) as running:
        await running.client.send_many([Put(who="busy", n=n) for n in range(12)])
        await running.client.send_many([Put(who=f"w{n}", n=0) for n in range(20)])
        await running.client.send(Free(who="busy", n=100))
        await running.idle()
        early = running.seen(Done)
        await running.advance(130)
        seen = running.seen(Done)

    assert len([each for each in early if each.who != "busy"]) == 20
    assert len(of(early, "busy")) <= 2
    assert of(seen, "busy") == [*range(12), 100]
    assert min(gaps([each for each in seen if each.n < 100], "busy")[1:]) >= 9.9
    assert {each.attempt for each in seen} == {1}
    assert running.dead == []


async def test_a_rate_of_one_keyed_handler_holds_up_no_other_in_its_partitions(
    database: str,
) -> None:
    async with run_app(keyed, database=database) as running:
        slow = [Slow(who=f"s{n % 4}", n=n // 4) for n in range(16)]
        await running.client.send_many(slow)
        await running.client.send_many([Free(who=f"f{n}", n=0) for n in range(20)])
        await running.idle()
        early = running.seen(Done)
        await running.advance(90)
        seen = running.seen(Done)

    assert len([each for each in early if each.who.startswith("f")]) == 20
    assert {who: of(seen, who) for who in ("s0", "s1", "s2", "s3")} == {
        f"s{n}": [0, 1, 2, 3] for n in range(4)
    }
    slow_ones = [each for each in seen if each.who.startswith("s")]
    assert min(gaps(slow_ones)[1:]) >= 4.9
    assert max(each.at_s for each in slow_ones) - min(each.at_s for each in slow_ones) <= 82
    assert {each.attempt for each in seen} == {1}


@pytest.mark.parametrize("faults", ["repeat", "shuffle"])
async def test_kills_change_nothing_about_order_or_rate(faults: Faults) -> None:
    async with run_app(keyed, faults=faults, seed=3) as running:
        for n in range(6):
            await running.client.send(Put(who="busy", n=n))
            await running.kill(Keyed)
        await running.advance(200)

        assert of(running.seen(Done), "busy") == list(range(6))
        assert running.dead == []


async def test_an_open_circuit_holds_the_keys_of_its_handler_and_no_others(
    database: str,
) -> None:
    bank.is_up = False
    async with run_app(charged, database=database) as running:
        for n in range(3):
            await running.client.send_many([Put(who=f"w{w}", n=n) for w in range(10)])
        await running.client.send_many([Free(who=f"f{n}", n=0) for n in range(20)])
        await running.idle()
        tried, beside = bank.calls, running.seen(Done)
        await running.advance(29)
        before = bank.calls
        await running.advance(180)
        probed = bank.calls - before
        bank.is_up = True
        await running.advance(120)
        seen = running.seen(Done)

    assert before == tried <= 8, "nothing is tried during the pause"
    assert len(beside) == 20
    assert 3 <= probed <= 7, "one probe after each pause"
    assert {f"w{w}": of(seen, f"w{w}") for w in range(10)} == {
        f"w{w}": [0, 1, 2] for w in range(10)
    }
    assert running.dead == []
    assert sum(each.attempt - 1 for each in seen) == tried + probed


async def test_a_gather_is_called_at_its_rate_while_parts_come_in(database: str) -> None:
    async with run_app(gathers, database=database) as running:
        for n in range(6):
            await running.client.send(Job(name=f"j{n}", parts=5))
        await running.idle()
        early = len(running.seen(Done))
        await running.advance(60)
        seen = running.seen(Done)

    assert early <= 2
    assert Counter(each.who for each in seen) == Counter(f"j{n}" for n in range(6))
    assert min(gaps(seen)[1:]) >= 9.9
    assert {each.attempt for each in seen} == {1}


async def test_runs_of_a_sequence_come_in_order_at_the_rate_of_their_gather(
    database: str,
) -> None:
    async with run_app(runs, database=database) as running:
        await running.client.send(Job(name="j", parts=9))
        await running.advance(80)
        seen = running.seen(Done)

    assert of(seen, "j") == [0, 2, 4, 6, 8]
    assert min(gaps(seen)[1:]) >= 9.9


async def test_a_circuit_before_a_gather_spares_its_attempts(database: str) -> None:
    bank.is_up = False
    async with run_app(gathers, database=database) as running:
        for n in range(8):
            await running.client.send(Job(name=f"j{n}", parts=2))
        await running.advance(200)
        tried = bank.calls
        bank.is_up = True
        await running.advance(300)
        seen = running.seen(Done)

    assert 4 <= tried <= 10
    assert len(seen) == 8
    assert running.dead == []


async def test_the_rate_of_a_batch_handler_counts_its_messages(database: str) -> None:
    async with run_app(batches, database=database) as running:
        await running.client.send_many([Row(n=n) for n in range(60)])
        await running.idle()
        at_once = len(running.seen(Done))
        await running.advance(10)
        after_10 = len(running.seen(Done))
        await running.advance(25)
        seen = running.seen(Done)

    assert at_once <= 3
    assert 18 <= after_10 - at_once <= 22
    assert sorted(each.n for each in seen) == list(range(60))
    assert {each.attempt for each in seen} == {1}


async def test_a_circuit_before_batches_opens_when_whole_batches_fail(database: str) -> None:
    bank.is_up = False
    async with run_app(guarded, database=database) as running:
        await running.client.send_many([Row(n=n) for n in range(30)])
        await running.idle()
        tried = bank.calls
        await running.advance(25)
        paused = bank.calls
        await running.advance(65)
        probed = bank.calls - paused
        bank.is_up = True
        await running.advance(60)

        assert tried <= 20
        assert paused == tried
        assert 2 <= probed <= 3
        assert sorted(each.n for each in running.seen(Done)) == list(range(30))
        assert running.dead == []


async def test_a_bad_row_opens_no_circuit_as_long_as_others_of_its_batch_succeed() -> None:
    async with run_app(guarded) as running:
        for n in range(12):
            await running.client.send_many([Row(n=-1), Row(n=n)])
            await running.idle()

        assert bank.calls == 24
        assert len(running.seen(Done)) == 24


async def test_a_flood_to_one_key_plans_no_further_ahead_than_a_minute() -> None:
    count = 90  # of a minute each: more than an hour
    async with run_app(flooded) as running:
        await running.client.send_many([Put(who="busy", n=n) for n in range(count)])
        await running.client.send_many([Put(who=f"w{n}", n=0) for n in range(30)])
        await running.advance(100)
        others = [each for each in running.seen(Done) if each.who != "busy"]
        tables = stored(running)
        now_ms = tables.clock.now_ms()
        bucket = tables.buckets["Flooded.put:busy"]
        total = tables.buckets["Flooded.put#1"]
        planned = len(tables.schedule)
        await running.advance(count * 60 + 3600)
        seen = running.seen(Done)

    assert len(others) == 30
    assert bucket.free_ms <= now_ms + 60_000 + 60_000, "no slots beyond the plan"
    assert bucket.line_ms <= now_ms + 3_600_000
    assert total.free_ms <= now_ms + 60_000, (
        "of what all share a flood takes as much as it can use"
    )
    assert planned <= count, "one row a message"
    busy = [each for each in seen if each.who == "busy"]
    assert sorted(each.n for each in busy) == list(range(count))
    assert {each.attempt for each in seen} == {1}
    assert min(gaps(busy)[1:]) >= 59
    rows = len(tables.inbox)
    assert rows <= 4 * (count + 30) + len(seen), "each came again a few times, not each minute"
    late_s = max(each.at_s for each in busy) - min(each.at_s for each in busy)
    assert late_s <= count * 60 * 1.1
