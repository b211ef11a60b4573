"""Attempts of one handler, in a whole app: what is kept between them, and what ends them."""
# ruff: noqa: D101 - messages and roles of a test are named for what they are

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import pytest

from rolekit import App, Backoff, Context, Message, Reply, Retry, WorkerRole, handle
from rolekit.testing import run_app

pytestmark = pytest.mark.anyio


class Ask(Message):
    n: int = 0


class Paid(Message):
    status: int


class Told(Reply):
    status: int


class Asks(WorkerRole):
    calls: ClassVar[list[str]] = []

    @handle(retry=Backoff(attempts=3, first_s=1))
    async def pay(self, ask: Ask, ctx: Context) -> Told:
        paid = await ctx.once("pay", Paid, self._bank, key=ctx.id)
        ctx.write("insert into paid values ($1)", paid.status)
        if ctx.attempt < 3:
            raise ConnectionError("after the call")
        return Told(status=paid.status)

    async def _bank(self, *, key: str) -> Paid:
        self.calls.append(key)
        return Paid(status=200)


async def test_what_once_kept_is_there_on_every_attempt_and_effects_are_of_the_last() -> None:
    Asks.calls.clear()
    async with run_app(App("once", roles=[Asks]), faults="repeat", seed=2) as running:
        sent = await running.client.send(Ask())
        await running.advance(60)

        assert await running.client.result(sent, Told) == Told(status=200)
        assert set(Asks.calls) == {sent.id}
        assert len(Asks.calls) <= 2  # a repeat may call at the same moment
        assert running.writes == [("insert into paid values ($1)", (200,))]


class Random(Message):
    n: int


async def test_outputs_that_are_recorded_are_of_one_attempt_for_all_who_read_them() -> None:
    made: list[int] = []
    read: list[int] = []

    class Dice(WorkerRole):
        @handle(record=True)
        async def throw(self, ask: Ask) -> Random:
            made.append(len(made))
            return Random(n=made[-1])

    class Readers(WorkerRole):
        @handle
        async def one(self, random: Random) -> None:
            read.append(random.n)

    for seed in range(5):
        made.clear()
        read.clear()
        async with run_app(
            App("dice", roles=[Dice, Readers]), faults="repeat", seed=seed
        ) as running:
            await running.client.send(Ask())
            await running.idle()

            assert len(set(read)) == 1
            assert len(running.seen(Random)) == 1


class Flaky(ConnectionError):
    """Has a policy of its own."""


class Policies(WorkerRole):
    attempts: ClassVar[dict[int, int]] = {}

    @handle(
        retry=[
            Backoff(on=Flaky, attempts=4, first_s=1),
            Backoff(on=(OSError, ValueError), attempts=2, first_s=1),
        ]
    )
    async def work(self, ask: Ask, ctx: Context) -> None:
        self.attempts[ask.n] = ctx.attempt
        raise (Flaky, OSError, KeyError)[ask.n]("no")


async def test_the_first_policy_that_matches_an_exception_decides_else_the_app_s() -> None:
    Policies.attempts.clear()
    app = App("policies", roles=[Policies], retry=Backoff(attempts=3, first_s=1))
    async with run_app(app) as running:
        await running.client.send_many([Ask(n=n) for n in range(3)])
        await running.advance(100)

        assert Policies.attempts == {0: 4, 1: 2, 2: 3}
        assert sorted(dead.attempts for dead in running.dead) == [2, 3, 4]


async def test_a_retry_that_does_not_count_uses_up_no_attempt() -> None:
    seen: list[int] = []

    class Patient(WorkerRole):
        @handle(retry=Backoff(attempts=2))
        async def work(self, ask: Ask, ctx: Context) -> None:
            seen.append(ctx.attempt)
            if len(seen) < 6:
                raise Retry("busy", delay_s=1, counts=False)

    async with run_app(App("patient", roles=[Patient])) as running:
        await running.client.send(Ask())
        await running.advance(10)

        assert seen == [1] * 6
        assert running.dead == []


async def test_a_coroutine_that_overruns_is_cancelled_and_fails() -> None:
    cancelled: list[int] = []

    class Slow(WorkerRole):
        @handle(timeout_s=0.05, retry=Backoff(attempts=2, first_s=1))
        async def work(self, ask: Ask) -> None:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append(ask.n)
                raise

    async with run_app(App("slow", roles=[Slow])) as running:
        await running.client.send(Ask(n=7))
        await running.advance(10)

        assert cancelled == [7, 7]
        (dead,) = running.dead
        assert "It took longer than 0.05 s." in dead.reason


async def test_a_thread_that_overruns_costs_its_instance_and_others_go_on() -> None:
    free, all_began = threading.Event(), asyncio.Event()
    loop, started = asyncio.get_running_loop(), list[int]()

    class Threaded(WorkerRole):
        lives: ClassVar[int] = 0

        async def on_start(self) -> None:
            type(self).lives += 1

        @handle(timeout_s=0.05, retry=Backoff(attempts=1))
        def work(self, ask: Ask) -> None:
            started.append(ask.n)
            if len(started) == 4:
                loop.call_soon_threadsafe(all_began.set)
            if ask.n == 0:
                free.wait(20)

    async with run_app(App("threaded", roles=[Threaded])) as running:
        await running.client.send(Ask(n=0))
        await running.idle()
        await running.client.send_many([Ask(n=n) for n in range(1, 4)])
        await all_began.wait()
        free.set()
        await running.idle()

        assert sorted(started) == [0, 1, 2, 3]
        assert Threaded.lives == 2
        assert [dead.message for dead in running.dead] == [Ask(n=0)]
