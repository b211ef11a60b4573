"""Handlers that are called by time, in a whole app."""

# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit import (
    App,
    Context,
    Message,
    Reject,
    Retry,
    Run,
    WorkerRole,
    cron,
    every,
    gather,
    handle,
)
from rolekit.testing import run_app

if TYPE_CHECKING:
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio


class Rollup(Message):
    day: str


class Part(Message):
    n: int


class Sum(Message):
    n: int


class Nightly(WorkerRole):
    @cron("0 3 * * *", tz="Europe/Berlin")
    async def due(self, ctx: Context) -> Rollup:
        return Rollup(day=ctx.sent_at.date().isoformat())

    @handle
    async def rollup(self, rollup: Rollup, ctx: Context) -> None:
        ctx.write("insert into daily values ($1)", rollup.day)


class Ticking(WorkerRole):
    @every(10)
    def tick(self) -> Part:
        return Part(n=1)

    @handle
    async def take(self, part: Part) -> None: ...


class Failing(WorkerRole):
    @cron("@hourly")
    async def run_it(self, ctx: Context) -> Part | None:
        if ctx.attempt < 3:
            raise Retry(delay_s=20)
        return Part(n=round((ctx.now - ctx.sent_at).total_seconds()))

    @handle
    async def take(self, part: Part) -> None: ...


class Spreading(WorkerRole):
    @cron("30 12 * * *")
    async def spread(self) -> list[Part]:
        return [Part(n=n) for n in range(4)]

    @gather
    async def join(self, parts: Run[Part]) -> Sum | None:
        return Sum(n=sum(part.n for part in parts)) if parts.is_last else None

    @handle
    async def take(self, total: Sum) -> None: ...


nightly = App("nightly", roles=[Nightly])


async def test_a_cron_fires_at_its_time_each_day() -> None:
    async with run_app(nightly) as running:
        await running.idle()
        before = running.seen(Rollup)

        await running.advance(3 * 86_400)

        assert before == []
        # The clock begins at 2027-01-15 08:00 UTC; 3 o'clock in Berlin is 2 in UTC.
        assert [rollup.day for rollup in running.seen(Rollup)] == [
            "2027-01-16", "2027-01-17", "2027-01-18",
        ]  # fmt: skip
        assert len(running.writes) == 3


@pytest.mark.parametrize("faults", ["repeat", "shuffle"])
async def test_a_firing_takes_effect_once_whatever_repeats(faults: Faults) -> None:
    async with run_app(nightly, faults=faults, seed=3) as running:
        await running.advance(2 * 86_400)
        await running.kill(Nightly)
        await running.advance(86_400)

        assert len(running.writes) == 3


async def test_every_counts_from_one_to_the_next() -> None:
    async with run_app(App("ticking", roles=[Ticking])) as running:
        await running.advance(9.9)
        before = len(running.seen(Part))
        await running.advance(0.1)
        at = len(running.seen(Part))
        await running.advance(50)

        assert (before, at, len(running.seen(Part))) == (0, 1, 6)


async def test_a_firing_that_fails_is_tried_again_with_its_own_due_time() -> None:
    async with run_app(App("failing", roles=[Failing])) as running:
        await running.advance(3_600 + 60)

        assert running.seen(Part) == [Part(n=40)]
        assert running.dead == []


async def test_a_firing_may_be_split_and_gathered() -> None:
    async with run_app(App("spreading", roles=[Spreading])) as running:
        await running.advance(86_400)

        assert running.seen(Sum) == [Sum(n=6)]


async def test_timers_fire_on_a_database(rolekit_database: str) -> None:
    async with run_app(App("ticking", roles=[Ticking]), database=rolekit_database) as running:
        await running.advance(60)

        assert len(running.seen(Part)) == 6


class Refusing(WorkerRole):
    @cron("0 12 * * *")
    async def refuse(self) -> None:
        raise Reject("not today")


async def test_a_firing_that_is_rejected_becomes_a_dead_letter() -> None:
    async with run_app(App("refusing", roles=[Refusing])) as running:
        await running.advance(86_400)

        (dead,) = running.dead
        assert (dead.handler, dead.reason) == ("Refusing.refuse", "not today")
