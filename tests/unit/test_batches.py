"""Handlers of `Batch[M]`: together as far as it goes, each item with an outcome of its own."""
# ruff: noqa: D101, D106 - messages and roles of a test are named for what they are

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import asyncpg
import pytest

from rolekit import (
    App,
    Backoff,
    Batch,
    Context,
    DeadLetter,
    Message,
    Reject,
    Reply,
    Retry,
    State,
    WorkerRole,
    gather,
    handle,
)
from rolekit.flow.batching import Batching, Bundle
from rolekit.model.envelope import Head, Packet, encode_head
from rolekit.store.base import Step
from rolekit.testing import FakeContext, batch_of, run_app
from rolekit.transport.base import Delivery

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

TWICE = Backoff(attempts=2, first_s=1)


class Row(Message):
    n: int


class Stored(Reply):
    n: int


class Count(State):
    rows: int = 0


class Sink(WorkerRole):
    sizes: ClassVar[list[int]] = []

    @handle(size=10, retry=TWICE)
    async def store(self, rows: Batch[Row], ctx: Context) -> list[Stored | None]:
        self.sizes.append(len(rows))
        for index, row in enumerate(rows):
            if row.n == -1:
                raise ValueError("poison")
            if row.n == -2:
                batch_index = index
                rows.reject(batch_index, "not a row")
            if row.n == -3 and ctx.attempt == 1:
                rows.retry(index, delay_s=60)
        ctx.write("insert into rows select unnest($1::int[])", [row.n for row in rows])
        return [Stored(n=row.n) if row.n % 2 else None for row in rows]


app = App("sink", roles=[Sink])


@pytest.fixture
async def connection(rolekit_database: str) -> AsyncGenerator[asyncpg.Connection]:
    """A look into the database, which has a table of rows without a thirteenth."""
    opened = await asyncpg.connect(rolekit_database)
    await opened.execute("create table rows (n int check (n <> 13))")
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def afresh() -> None:
    Sink.sizes.clear()


def written(writes: list[tuple[str, tuple[object, ...]]]) -> list[int]:
    rows: list[int] = []
    for _, (some,) in writes:
        assert isinstance(some, list)
        rows += some
    return rows


async def test_what_waits_is_handled_together_up_to_its_size() -> None:
    async with run_app(app) as running:
        await running.client.send_many([Row(n=n) for n in range(25)])
        await running.idle()

        assert sum(Sink.sizes) == 25
        assert max(Sink.sizes) == 10
        assert len(running.writes) == len(Sink.sizes)
        assert sorted(written(running.writes)) == list(range(25))


async def test_output_i_answers_input_i() -> None:
    async with run_app(app) as running:
        receipts = await running.client.send_many([Row(n=n) for n in range(6)])
        await running.idle()

        got = [await running.client.result(receipt, Stored) for receipt in receipts]

        assert got == [Stored(n=n) if n % 2 else None for n in range(6)]


async def test_an_item_may_be_rejected_or_tried_again_alone() -> None:
    async with run_app(app) as running:
        await running.client.send_many([Row(n=n) for n in (1, -2, -3, 4)])
        await running.idle()
        sizes = list(Sink.sizes)
        await running.advance(61)

        assert sizes == [4]
        assert [(dead.message, dead.reason) for dead in running.dead] == [
            (Row(n=-2), "not a row")
        ]
        assert Sink.sizes == [4, 1]
        assert running.seen(Stored) == [Stored(n=1), Stored(n=-3)]


async def test_whoever_is_at_fault_is_found_and_takes_nobody_with_it() -> None:
    async with run_app(app) as running:
        await running.client.send_many([Row(n=n) for n in (0, 1, 2, -1, 4, 5, 6, 7)])
        await running.idle()
        tried = len(Sink.sizes)
        await running.advance(60)

        assert sorted(written(running.writes)) == [0, 1, 2, 4, 5, 6, 7]
        assert [(dead.message, dead.attempts) for dead in running.dead] == [(Row(n=-1), 2)]
        assert tried == 7  # 8, 4, 2, 2, 1, 1, 4


class Down(WorkerRole):
    """Nothing works until it does."""

    is_down: ClassVar[bool] = True
    attempts: ClassVar[list[tuple[int, int]]] = []

    @handle(size=16, retry=Backoff(attempts=2, first_s=30))
    async def load(self, rows: Batch[Row], ctx: Context) -> None:
        self.attempts.append((len(rows), ctx.attempt))
        if self.is_down:
            raise ConnectionError("warehouse is away")
        ctx.write("insert into rows select unnest($1::int[])", [row.n for row in rows])


async def test_an_outage_is_not_searched_to_the_end_and_uses_up_few_attempts() -> None:
    Down.is_down = True
    Down.attempts.clear()
    async with run_app(App("down", roles=[Down])) as running:
        await running.client.send_many([Row(n=n) for n in range(16)])
        await running.idle()
        tried = [size for size, _ in Down.attempts]
        Down.is_down = False
        await running.advance(60)

        assert tried == [16, 8, 4, 2, 1, 1, 2, 1]
        assert running.dead == []
        assert sorted(written(running.writes)) == list(range(16))
        assert max(attempt for _, attempt in Down.attempts) == 2


async def test_retry_without_an_attempt_is_for_the_whole_batch() -> None:
    calls: list[int] = []

    class Busy(WorkerRole):
        @handle(size=16)
        async def load(self, rows: Batch[Row]) -> None:
            calls.append(len(rows))
            if len(calls) == 1:
                raise Retry("busy", delay_s=5, counts=False)

    async with run_app(App("busy", roles=[Busy])) as running:
        await running.client.send_many([Row(n=n) for n in range(8)])
        await running.idle()
        first = list(calls)
        await running.advance(10)

        assert first == [8]
        assert sum(calls) == 16
        assert running.dead == []


async def test_a_plain_function_takes_batches_in_a_thread() -> None:
    class Plain(WorkerRole):
        @handle(size=8)
        def load(self, rows: Batch[Row], ctx: Context) -> list[Stored]:
            ctx.write("insert into rows select unnest($1::int[])", [row.n for row in rows])
            return [Stored(n=row.n) for row in rows]

    async with run_app(App("plain", roles=[Plain])) as running:
        await running.client.send_many([Row(n=n) for n in range(8)])
        await running.idle()

        assert written(running.writes) == list(range(8))
        assert [each.n for each in running.seen(Stored)] == list(range(8))


async def test_repeats_take_effect_once() -> None:
    for seed in range(5):
        async with run_app(app, faults="repeat", seed=seed) as running:
            await running.client.send_many([Row(n=n) for n in range(30)])
            await running.idle()

            assert sorted(written(running.writes)) == list(range(30))


async def test_where_some_had_their_outcome_the_batch_runs_again_without_them() -> None:
    sizes: list[int] = []

    class Raced(WorkerRole):
        @handle(size=8)
        async def load(self, rows: Batch[Row], ctx: Context) -> None:
            sizes.append(len(rows))
            ctx.write("insert into rows select unnest($1::int[])", [row.n for row in rows])
            if len(sizes) == 1:  # another instance is faster with two of them
                store = vars(running)["_store"]
                due_ms = vars(running)["_clock"].now_ms()
                await store.commit(
                    [Step(id=id_, generation=0, birth_ms=due_ms) for id_ in rows.ids[2:4]]
                )

    async with run_app(App("raced", roles=[Raced])) as running:
        await running.client.send_many([Row(n=n) for n in range(6)])
        await running.idle()

        assert sizes == [6, 4]
        assert written(running.writes) == [0, 1, 4, 5]


async def test_a_crash_leaves_each_row_once(
    rolekit_database: str, connection: asyncpg.Connection
) -> None:
    for seed in range(4):
        async with run_app(app, database=rolekit_database, faults="repeat", seed=seed) as run:
            await run.client.send_many([Row(n=1000 + 100 * seed + n) for n in range(40)])
            await run.kill(Sink)
            await run.idle()

    rows = await connection.fetch("select n from rows order by n")
    assert [row["n"] for row in rows] == [
        1000 + 100 * s + n for s in range(4) for n in range(40)
    ]


async def test_a_refused_statement_is_the_fault_of_its_item(
    rolekit_database: str, connection: asyncpg.Connection
) -> None:
    async with run_app(app, database=rolekit_database) as running:
        await running.client.send_many([Row(n=n) for n in range(10, 20)])
        await running.advance(60)

        (dead,) = running.dead
        assert dead.message == Row(n=13)
        assert "violates check constraint" in dead.reason
    rows = await connection.fetch("select n from rows order by n")
    assert [row["n"] for row in rows] == [n for n in range(10, 20) if n != 13]


async def test_a_state_is_kept_with_the_batch(rolekit_database: str) -> None:
    class Counter(WorkerRole):
        instances = 2

        @handle(size=7)
        async def count(self, rows: Batch[Row], ctx: Context) -> None:
            (await ctx.state(Count, key="all")).rows += len(rows)

        @handle
        async def ask(self, stored: Asked, ctx: Context) -> Stored:
            return Stored(n=(await ctx.state(Count, key="all")).rows)

    async with run_app(
        App("counter", roles=[Counter]), database=rolekit_database, faults="repeat"
    ) as running:
        await running.client.send_many([Row(n=n) for n in range(40)])
        await running.idle()

        assert await running.client.ask(Asked(), Stored) == Stored(n=40)


class Asked(Message):
    pass


class Table(Message):
    rows: list[int]


class Loaded(Message):
    n: int


class Whole(Reply):
    rows: list[int]


class Tables(WorkerRole):
    @handle
    async def split(self, table: Table) -> list[Row]:
        return [Row(n=n) for n in table.rows]

    @handle(size=4)
    async def load(self, rows: Batch[Row]) -> list[Loaded | None]:
        return [Loaded(n=row.n) if row.n else None for row in rows]

    @gather
    async def join(self, table: Table, rows: list[Loaded]) -> Whole:
        return Whole(rows=[each.n for each in rows])


async def test_items_keep_their_places_in_a_sequence() -> None:
    async with run_app(App("tables", roles=[Tables]), faults="shuffle", seed=3) as running:
        sent = await running.client.send(Table(rows=[3, 0, 1, 4, 1, 5, 9, 2, 6]))
        await running.idle()

        whole = await running.client.result(sent, Whole)

        assert whole == Whole(rows=[3, 1, 4, 1, 5, 9, 2, 6])


async def test_items_that_cannot_be_read_fail_alone() -> None:
    async with run_app(app) as running:
        head = encode_head(Head(type="Row", root="ab" * 16))
        bodies = [b'{"n": 1}', b"?", b'{"n": 2}', b'{"n": 3}']
        packets = [
            Packet(queue="Sink.store", id=f"{n:032x}", head=head if n < 3 else b"?", body=body)
            for n, body in enumerate(bodies)
        ]
        commit, _ = await vars(running)["_store"].accept(packets, [], None)
        vars(running)["_relay"]._tell(commit)  # noqa: SLF001 - what came from outside leaves
        await running.idle()

        assert len(running.dead) == 2
        assert written(running.writes) == [1, 2]


async def test_a_list_of_another_length_fails_with_a_sentence() -> None:
    class Odd(WorkerRole):
        @handle(size=4, retry=Backoff(attempts=1))
        async def load(self, rows: Batch[Row]) -> list[Stored | None]:
            return [None] * (len(rows) + 1)

    async with run_app(App("odd", roles=[Odd])) as running:
        await running.client.send(Row(n=1))
        await running.idle()

        (dead,) = running.dead
        assert "returned 2 results for a batch of 1" in dead.reason


async def test_a_batch_waits_for_more_until_its_age() -> None:
    """Real time: the clock of a test does not make a batch wait."""
    sizes: list[int] = []

    class Slow(WorkerRole):
        @handle(size=100, age_s=0.2)
        async def load(self, rows: Batch[Row]) -> None:
            sizes.append(len(rows))

    (plan,) = App("slow", roles=[Slow]).plan().of_role("Slow")
    ready: asyncio.Queue[Bundle] = asyncio.Queue()
    batching = Batching([plan], ready.put_nowait, waits=True)
    loop = asyncio.get_running_loop()
    begin_s = loop.time()

    for n in range(3):
        batching.add(Delivery(Packet(queue=plan.name, id=str(n), head=b""), n))
        await asyncio.sleep(0)
    bundle = await ready.get()

    assert len(bundle.deliveries) == 3
    assert loop.time() - begin_s >= 0.19


async def test_a_batch_handler_is_a_method_to_call() -> None:
    ctx = FakeContext()
    rows = batch_of(Row(n=1), Row(n=-2))

    got = await Sink().store(rows, ctx)

    assert got == [Stored(n=1), None]
    assert rows.rejections == {1: "not a row"}
    assert len(ctx.writes) == 1


class Refusals:
    class Beside(WorkerRole):
        @handle
        async def load(self, rows: Batch[Row], row: Asked) -> None: ...

    class Keyed(WorkerRole):
        @handle(key="n")
        async def load(self, rows: Batch[Row]) -> None: ...

    class Iterates(WorkerRole):
        @handle
        async def load(self, rows: Batch[Row]) -> Stored:
            return Stored(n=len(rows))

    class Letters(WorkerRole):
        @handle
        async def load(self, rows: Batch[DeadLetter[Row]]) -> None: ...

    class Large(WorkerRole):
        @handle(size=10_001)
        async def load(self, rows: Batch[Row]) -> None: ...

    class Single(WorkerRole):
        @handle(size=5)
        async def load(self, row: Row) -> None: ...


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        (Refusals.Beside, "takes a Batch and a message beside it."),
        (Refusals.Keyed, "takes a Batch and has a key"),
        (Refusals.Iterates, "takes a Batch and returns Stored."),
        (Refusals.Letters, "dead letters come one by one."),
        (Refusals.Large, "a batch has at most 10000 messages."),
        (Refusals.Single, "has size=, but takes messages one by one."),
    ],
)
def test_what_cannot_work_is_refused(role: type[WorkerRole], sentence: str) -> None:
    found = "\n".join(map(str, App("odd", roles=[role]).problems()))

    assert sentence in found


async def test_raising_reject_parks_whoever_is_at_fault_only() -> None:
    class Strict(WorkerRole):
        @handle(size=8)
        async def load(self, rows: Batch[Row], ctx: Context) -> None:
            for row in rows:
                if row.n == 3:
                    raise Reject("three")
            ctx.write("insert into rows select unnest($1::int[])", [row.n for row in rows])

    async with run_app(App("strict", roles=[Strict])) as running:
        await running.client.send_many([Row(n=n) for n in range(8)])
        await running.idle()

        assert [dead.message for dead in running.dead] == [Row(n=3)]
        assert sorted(written(running.writes)) == [0, 1, 2, 4, 5, 6, 7]
