"""Splits longer than one commit: chunks, restarts, repeats that differ, missing ends."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, ClassVar

import asyncpg
import pytest

from rolekit import (
    App,
    Backoff,
    Context,
    Hole,
    Message,
    Reject,
    Reply,
    Retry,
    Run,
    State,
    WorkerRole,
    field,
    gather,
    handle,
)
from rolekit.flow import splitting
from rolekit.flow.app_client import AppClient
from rolekit.testing import Running, run_app

if TYPE_CHECKING:
    from rolekit.store.base import Flight

pytestmark = pytest.mark.anyio

CHUNK = 10
ONCE = Backoff(attempts=1)


class Count(Message):
    to: int


class Number(Message):
    n: int


class Squared(Message):
    n: int


class Aside(Message):
    n: int


class Chapter(Message):
    to: int


class Told(Reply):
    numbers: list[int]


class All(State):
    numbers: list[int] = field(default_factory=list[int])


class Counting(WorkerRole):
    trips: ClassVar[dict[int, list[Exception | None]]]
    """At which number to raise what, one attempt after another."""
    salt: ClassVar[int]
    stop: ClassVar[int]
    done: ClassVar[list[int]]

    def numbers(self, to: int) -> Iterator[Number]:
        for n in range(min(to, self.stop)):
            errors = self.trips.get(n)
            error = errors.pop(0) if errors else None
            if error is not None:
                raise error
            yield Number(n=n + self.salt)

    @handle(retry=Backoff(attempts=3, first_s=0.001))
    async def count(self, count: Count, ctx: Context[Aside]) -> AsyncIterator[Number]:
        ctx.write("insert into counted values ($1)", count.to)
        ctx.send(Aside(n=count.to))
        for number in self.numbers(count.to):
            yield number

    @handle
    async def square(self, number: Number) -> Squared | None:
        self.done.append(number.n)
        return Squared(n=number.n) if number.n % 7 else None

    @handle
    async def aside(self, aside: Aside) -> None: ...


async def told(run: Run[Squared] | Run[Squared | Hole], ctx: Context) -> Told | None:
    every = await ctx.state(All)
    every.numbers = every.numbers + [-1 if isinstance(each, Hole) else each.n for each in run]
    return Told(numbers=every.numbers) if run.is_last else None


class Waits(Counting):
    @gather(size=8)
    async def collect(self, count: Count, run: Run[Squared], ctx: Context) -> Told | None:
        return await told(run, ctx)


class Holes(Counting):
    @gather(size=8)
    async def collect(
        self, count: Count, run: Run[Squared | Hole], ctx: Context
    ) -> Told | None:
        return await told(run, ctx)


class Fails(Counting):
    @gather(size=8, on_dead="fail")
    async def collect(self, count: Count, run: Run[Squared], ctx: Context) -> Told | None:
        return await told(run, ctx)


class Unordered(Counting):
    @gather(size=8, ordered=False)
    async def collect(self, count: Count, run: Run[Squared], ctx: Context) -> Told | None:
        return await told(run, ctx)


class Within(Counting):
    """The long split is one within another: it has no gather of its own."""

    @handle
    async def chapters(self, chapter: Chapter) -> list[Count]:
        return [Count(to=chapter.to), Count(to=3)]

    @gather(size=8)
    async def collect(
        self, chapter: Chapter, run: Run[Squared | Hole], ctx: Context
    ) -> Told | None:
        return await told(run, ctx)


class Pages(Message):
    to: int


class InThread(Counting):
    @handle
    def pages(self, pages: Pages, ctx: Context) -> Iterator[Number]:
        ctx.write("insert into counted values ($1)", pages.to)
        yield from self.numbers(pages.to)

    @gather(size=8)
    async def collect(self, pages: Pages, run: Run[Squared], ctx: Context) -> Told | None:
        return await told(run, ctx)


@pytest.fixture(params=["memory", "postgres"])
def place(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory"
    url: str = request.getfixturevalue("rolekit_database")
    return url


@pytest.fixture
async def database(place: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(splitting, "CHUNK", CHUNK)
    if place == "memory":
        return place
    connection = await asyncpg.connect(place)
    await connection.execute("create table counted (n int)")
    await connection.close()
    return place


def app_of(role: type[Counting], trips: dict[int, list[Exception | None]] | None = None) -> App:
    role.trips, role.salt, role.stop, role.done = trips or {}, 0, 1 << 31, []
    return App("counting", roles=[role])


def expected(to: int) -> list[int]:
    return [n for n in range(to) if n % 7]


async def flights(running: Running) -> list[Flight]:
    store = running._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return await store.flights(10)


async def replay(running: Running) -> None:
    """Replay the first dead letter, as an operator would."""
    store = running._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    commit = await store.replay([running.dead[0].id], force=False)
    client = running.client
    assert isinstance(client, AppClient)
    client._intake._announce(commit)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    await running.idle()


def asides(running: Running) -> list[int]:
    return [aside.n for aside in running.seen(Aside)]


@pytest.mark.parametrize("role", [Waits, Unordered, InThread])
@pytest.mark.parametrize("to", [0, 9, 10, 11, 20, 35])
async def test_it_comes_whole_and_in_order_whatever_its_length(
    database: str, role: type[Counting], to: int
) -> None:
    async with run_app(app_of(role), database=database) as running:
        await running.client.send(Pages(to=to) if role is InThread else Count(to=to))
        await running.idle(timeout_s=20)

        (reply,) = running.seen(Told)
        assert sorted(reply.numbers) == expected(to)
        assert role is Unordered or reply.numbers == expected(to)
        assert sorted(role.done) == [*range(to)]
        assert running.dead == []


@pytest.mark.parametrize("at", [0, 5, 10, 11, 15, 29, 34])
async def test_a_restart_goes_on_where_it_was(database: str, at: int) -> None:
    trips: dict[int, list[Exception | None]] = {at: [TimeoutError(), Retry(delay_s=1)]}
    async with run_app(app_of(Waits, trips), database=database) as running:
        await running.client.send(Count(to=35))
        await running.advance(60)

        assert [reply.numbers for reply in running.seen(Told)] == [expected(35)]
        assert sorted(Waits.done) == [*range(35)]
        assert asides(running) == [35]


@pytest.mark.parametrize("seed", range(4))
async def test_repeats_and_crashes_change_nothing(database: str, seed: int) -> None:
    async with run_app(app_of(Waits), database=database, faults="repeat", seed=seed) as running:
        await running.client.send(Count(to=95))
        for _ in range(4):
            await asyncio.sleep(0)
            await running.kill(Waits)
        await running.idle(timeout_s=20)

        assert [reply.numbers for reply in running.seen(Told)] == [expected(95)]
        assert asides(running) == [95]
        assert running.dead == []


async def test_a_repeat_that_yields_something_else_dies_and_its_sequence_ends(
    database: str,
) -> None:
    trips: dict[int, list[Exception | None]] = {15: [Retry(delay_s=1)]}
    async with run_app(app_of(Waits, trips), database=database) as running:
        await running.client.send(Count(to=35))
        await running.idle()
        Waits.salt = 100
        await running.advance(5)
        (dead,) = running.dead
        open_ones = await flights(running)
        await replay(running)

        assert "did not yield the same 10 parts" in dead.reason
        assert open_ones == []
        assert [reply.numbers for reply in running.seen(Told)] == [
            [n for n in range(100, 135) if n % 7]
        ]


async def test_one_that_ends_before_what_was_committed_dies(database: str) -> None:
    trips: dict[int, list[Exception | None]] = {25: [Retry(delay_s=1)]}
    async with run_app(app_of(Waits, trips), database=database) as running:
        await running.client.send(Count(to=35))
        await running.idle()
        Waits.stop = 5
        await running.advance(5)

        (dead,) = running.dead
        assert "did not yield the same 20 parts" in dead.reason


async def test_one_that_dies_is_waited_for_and_its_replay_goes_on(database: str) -> None:
    async with run_app(app_of(Waits, {25: [Reject("no")]}), database=database) as running:
        await running.client.send(Count(to=35))
        await running.idle()
        before, (flight,) = running.seen(Told), await flights(running)
        await replay(running)

        assert (before, flight.cursor.next) == ([], (20,))
        assert [reply.numbers for reply in running.seen(Told)] == [expected(35)]
        assert sorted(Waits.done) == [*range(35)]


async def test_one_that_dies_is_a_hole_and_the_end_where_none_is_waited_for(
    database: str,
) -> None:
    async with run_app(app_of(Holes, {25: [Reject("no")]}), database=database) as running:
        await running.client.send(Count(to=35))
        await running.idle()

        assert [reply.numbers for reply in running.seen(Told)] == [[*expected(20), -1]]


async def test_one_that_dies_ends_a_sequence_that_fails_and_a_replay_begins_another(
    database: str,
) -> None:
    async with run_app(app_of(Fails, {25: [Reject("no")]}), database=database) as running:
        await running.client.send(Count(to=35))
        await running.idle()
        dead, open_ones = len(running.dead), await flights(running)
        await replay(running)

        assert (dead, open_ones) == (1, [])
        assert running.seen(Told)[-1].numbers[-len(expected(35)) :] == expected(35)


async def test_one_within_another_stands_in_its_place(database: str) -> None:
    async with run_app(app_of(Within), database=database) as running:
        await running.client.send(Chapter(to=35))
        await running.idle()

        assert [reply.numbers for reply in running.seen(Told)] == [expected(35) + expected(3)]


async def test_one_within_another_that_dies_leaves_a_hole_behind_what_it_gave(
    database: str,
) -> None:
    async with run_app(app_of(Within, {25: [Reject("no")]}), database=database) as running:
        await running.client.send(Chapter(to=35))
        await running.idle()

        assert [reply.numbers for reply in running.seen(Told)] == [
            [*expected(20), -1, *expected(3)]
        ]


async def test_a_transaction_cannot_be_held_over_chunks(rolekit_database: str) -> None:
    class Holding(Waits):
        @handle(retry=ONCE)
        async def count(self, count: Count, ctx: Context[Aside]) -> AsyncIterator[Number]:
            await ctx.tx()
            for n in range(count.to):
                yield Number(n=n)

    async with run_app(app_of(Holding), database=rolekit_database) as running:
        await running.client.send(Count(to=1001))
        await running.idle()

        assert "has ctx.tx open" in running.dead[0].reason
