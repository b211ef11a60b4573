"""Gathers that take parts as they come: a poll whose votes are counted, each once."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

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
    gather,
    handle,
)
from rolekit.testing import run_app
from tests.patience import patient

if TYPE_CHECKING:
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio


class Poll(Message):
    votes: list[int]


class Ballot(Message):
    votes: list[int]


class Vote(Message):
    worth: int


class Counted(Message):
    worth: int


class Result(Reply):
    votes: int
    worth: int
    dropped: int
    holes: int = 0


class Tally(State):
    votes: int = 0
    worth: int = 0
    dropped: int = 0
    holes: int = 0
    is_over: bool = False


class Voting(WorkerRole):
    first: ClassVar[asyncio.Event]
    counted: ClassVar[asyncio.Semaphore]

    @handle
    async def open(self, poll: Poll) -> list[Ballot | Vote]:
        """Give the last vote on a ballot of its own, which splits once more."""
        return [*(Vote(worth=worth) for worth in poll.votes), Ballot(votes=poll.votes[:2])]

    @handle
    async def unfold(self, ballot: Ballot) -> list[Vote]:
        return [Vote(worth=worth) for worth in ballot.votes]

    @handle(retry=Backoff(attempts=1))
    async def check(self, vote: Vote) -> Counted | None:
        if vote.worth == 1:
            await self.first.wait()
        if vote.worth < 0:
            raise Reject("below nothing")
        return Counted(worth=vote.worth) if vote.worth else None


async def counted(run: Run[Counted] | Run[Counted | Hole], ctx: Context) -> Result | None:
    for _ in run:
        Voting.counted.release()
    tally = await ctx.state(Tally)
    assert not tally.is_over
    for one in run:
        if isinstance(one, Hole):
            tally.holes += 1
        else:
            tally.votes, tally.worth = tally.votes + 1, tally.worth + one.worth
    tally.dropped += run.dropped
    assert run.offset + len(run) == tally.votes + tally.holes
    if not run.is_last:
        return None
    tally.is_over = True
    return Result(
        votes=tally.votes, worth=tally.worth, dropped=tally.dropped, holes=tally.holes
    )


class Counts(Voting):
    @gather(ordered=False, size=3)
    async def count(self, poll: Poll, run: Run[Counted], ctx: Context) -> Result | None:
        return await counted(run, ctx)


class Holes(Voting):
    @gather(ordered=False, size=3, deadline_s=60)
    async def count(self, poll: Poll, run: Run[Counted | Hole], ctx: Context) -> Result | None:
        return await counted(run, ctx)

    @handle
    async def unfold(self, ballot: Ballot) -> list[Vote]:
        raise Retry("not yet", delay_s=1000)


class Fails(Voting):
    @gather(ordered=False, on_dead="fail")
    async def count(self, poll: Poll, run: Run[Counted], ctx: Context) -> Result | None:
        return await counted(run, ctx)


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory"
    url: str = request.getfixturevalue("rolekit_database")
    return url


def app_of(role: type[Voting]) -> App:
    role.first, Voting.counted = asyncio.Event(), asyncio.Semaphore(0)
    return App("poll", roles=[role])


async def test_what_came_is_counted_before_what_is_missing(database: str) -> None:
    async with run_app(app_of(Counts), database=database) as running:
        await running.client.send(Poll(votes=[1, 5, 6, 7]))
        async with asyncio.timeout(patient(10)):
            for _ in range(4):  # 5, 6, 7, and the 5 on the ballot
                await Voting.counted.acquire()
        before = running.seen(Result)
        Counts.first.set()
        await running.idle()

        assert (before, running.seen(Result)) == ([], [Result(votes=6, worth=25, dropped=0)])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("faults", ["repeat", "shuffle"])
async def test_each_is_counted_once_whatever_comes_again(
    database: str, faults: Faults, seed: int
) -> None:
    app = app_of(Counts)
    Counts.first.set()
    async with run_app(app, database=database, faults=faults, seed=seed) as running:
        await running.client.send(Poll(votes=[1, 5, 0, 6, 7, 0, 8, 9]))
        await running.kill(Counts)
        await running.idle()

        assert running.seen(Result) == [Result(votes=8, worth=42, dropped=2)]
        assert running.dead == []


async def test_a_poll_without_votes_ends_at_once(database: str) -> None:
    app = app_of(Counts)
    async with run_app(app, database=database) as running:
        await running.client.send(Poll(votes=[]))
        await running.idle()

        assert running.seen(Result) == [Result(votes=0, worth=0, dropped=0)]


async def test_what_died_or_ran_out_of_time_is_a_hole_each(database: str) -> None:
    app = app_of(Holes)
    Holes.first.set()
    async with run_app(app, database=database) as running:
        await running.client.send(Poll(votes=[1, -1, 5, 6]))
        await running.idle()
        before = running.seen(Result)
        await running.advance(61)

        assert before == []
        assert running.seen(Result) == [Result(votes=3, worth=12, dropped=0, holes=2)]


async def test_it_fails_with_the_first_that_died(database: str) -> None:
    app = app_of(Fails)
    Fails.first.set()
    async with run_app(app, database=database) as running:
        await running.client.send(Poll(votes=[1, 5, -1]))
        await running.idle()

        assert running.seen(Result) == []
        assert sorted(letter.handler for letter in running.dead) == [
            "Fails.check",
            "Fails.open",
        ]
