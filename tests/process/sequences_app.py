"""Sequences of every kind, whose gathers write down what they were handed and in which order.

Jobs are split and gathered in order, polls are counted in any order, ticks are streams. The
feeder sends under keys, so that one which is started again sends nothing twice.
"""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator

from rolekit import App, Client, Context, Message, Run, State, WorkerRole, gather, handle

JOBS = int(os.environ.get("JOBS", "10"))
STREAMS = 3
LONG = 2500
AT_ONCE = 40


def size_of(job: int) -> int:
    """Say into how many parts a job is split: mostly few, now and then none, seldom many."""
    if job % 100 == 50:
        return LONG
    return job * 7919 % 40


class Job(Message):
    n: int
    parts: int


class Piece(Message):
    job: int
    n: int


class Made(Message):
    job: int
    n: int


class Poll(Message):
    n: int
    votes: int


class Vote(Message):
    poll: int
    worth: int


class Cast(Message):
    worth: int


class Tick(Message):
    stream: int
    n: int


class Tock(Message):
    stream: int
    n: int


class Tally(State):
    votes: int = 0
    worth: int = 0


class Splitting(WorkerRole):
    @handle
    async def split(self, job: Job) -> AsyncIterator[Piece]:
        for n in range(job.parts):
            yield Piece(job=job.n, n=n)

    @handle
    async def open(self, poll: Poll) -> list[Vote]:
        return [Vote(poll=poll.n, worth=n) for n in range(poll.votes)]


class Working(WorkerRole):
    @handle
    async def make(self, piece: Piece) -> Made:
        await asyncio.sleep(0.001 * (piece.n % 3))
        return Made(job=piece.job, n=piece.n)

    @handle
    async def cast(self, vote: Vote) -> Cast | None:
        return Cast(worth=vote.worth) if vote.worth % 5 else None

    @handle
    async def tock(self, tick: Tick) -> Tock:
        await asyncio.sleep(0.001 * (tick.n % 3))
        return Tock(stream=tick.stream, n=tick.n)


class Gathering(WorkerRole):
    @gather(size=20)
    async def collect(self, job: Job, run: Run[Made], ctx: Context) -> None:
        ctx.write(
            "insert into got (kind, sequence, n)"
            " select 'job', $1, n from unnest($2::int[]) with ordinality as u (n, at)"
            " order by at",
            job.n,
            [made.n for made in run],
        )
        if run.is_last:
            ctx.write("insert into done (kind, sequence, n) values ('job', $1, 0)", job.n)

    @gather(ordered=False, size=20)
    async def count(self, poll: Poll, run: Run[Cast], ctx: Context) -> None:
        tally = await ctx.state(Tally)
        tally.votes += len(run)
        tally.worth += sum(cast.worth for cast in run)
        if run.is_last:
            ctx.write(
                "insert into done (kind, sequence, n) values ('poll', $1, $2)",
                poll.n,
                tally.worth * 1000 + tally.votes,
            )

    @gather(size=20)
    async def listen(self, run: Run[Tock], ctx: Context) -> None:
        if run:
            ctx.write(
                "insert into got (kind, sequence, n)"
                " select 'tick', $1, n from unnest($2::int[]) with ordinality as u (n, at)"
                " order by at",
                run[0].stream,
                [tock.n for tock in run],
            )


class Feeding(WorkerRole):
    """Sends everything once, however often it begins."""

    async def run(self, client: Client) -> None:
        numbers = itertools.count()

        async def feed() -> None:
            while (n := next(numbers)) < JOBS:
                await client.send(Job(n=n, parts=size_of(n)), idempotency_key=f"job {n}")
                await client.send(Poll(n=n, votes=n % 30), idempotency_key=f"poll {n}")

        async def tick(stream: int) -> None:
            for n in range(JOBS // STREAMS):
                await client.send(
                    Tick(stream=stream, n=n),
                    stream=f"stream {stream}",
                    idempotency_key=f"tick {stream} {n}",
                )

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(feed())
            for stream in range(STREAMS):
                tasks.create_task(tick(stream))
        await asyncio.Event().wait()


app = App("sequences", roles=[Feeding, Splitting, Working, Gathering])
