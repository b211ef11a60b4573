"""Rates of handlers in a whole app: over the fleet, by key, by cost, without attempts."""
# ruff: noqa: D101, D106 - a message class is named for what it says

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from rolekit import App, Context, DeadLetter, Message, Rate, Run, WorkerRole, gather, handle
from rolekit.errors import AppError
from rolekit.testing import run_app

if TYPE_CHECKING:
    from rolekit.roles.base import Role
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio


class Call(Message):
    n: int


class Ask(Message):
    who: str
    n: int


class Prompt(Message):
    tokens: int


class Done(Message):
    who: str
    attempt: int
    at_s: float


class Result(WorkerRole):
    @handle
    async def done(self, done: Done) -> None: ...


def done(ctx: Context, who: str = "") -> Done:
    return Done(who=who, attempt=ctx.attempt, at_s=ctx.now.timestamp())


class Plain(WorkerRole):
    @handle(rate=Rate(10, per_s=1))
    async def call(self, call: Call, ctx: Context) -> Done:
        return done(ctx)


class ByKey(WorkerRole):
    @handle(rate=Rate(1, per_s=10, key="who"))
    async def ask(self, ask: Ask, ctx: Context) -> Done:
        return done(ctx, ask.who)


class ByCost(WorkerRole):
    @handle(rate=[Rate(600, per_s=60, cost="tokens", name="tokens"), Rate(5, name="n")])
    async def prompt(self, prompt: Prompt, ctx: Context) -> Done:
        return done(ctx)


plain = App("plain", roles=[Plain, Result])
by_key = App("by-key", roles=[ByKey, Result])
by_cost = App("by-cost", roles=[ByCost, Result])


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """Where the app keeps its state."""
    if request.param == "memory":
        return "memory"
    url: str = request.getfixturevalue("rolekit_database")
    return url


async def test_a_queue_is_taken_from_no_faster_than_its_rate(database: str) -> None:
    async with run_app(plain, database=database) as running:
        await running.client.send_many([Call(n=n) for n in range(60)])
        await running.idle()
        at_once = len(running.seen(Done))
        await running.advance(2)
        after_2 = len(running.seen(Done))
        await running.advance(8)

        assert 1 <= at_once <= 2
        assert 18 <= after_2 <= 22
        assert len(running.seen(Done)) == 60
        assert {each.attempt for each in running.seen(Done)} == {1}


async def test_one_exhausted_key_holds_up_no_other(database: str) -> None:
    async with run_app(by_key, database=database) as running:
        busy = [Ask(who="busy", n=n) for n in range(30)]
        await running.client.send_many([*busy, *[Ask(who=f"w{n}", n=0) for n in range(5)]])
        await running.idle()
        at_once = Counter(each.who for each in running.seen(Done))
        await running.advance(100)
        later = Counter(each.who for each in running.seen(Done))
        await running.advance(210)

        assert at_once.total() - at_once["busy"] == 5
        assert 1 <= at_once["busy"] <= 2
        assert 10 <= later["busy"] <= 12
        assert Counter(each.who for each in running.seen(Done))["busy"] == 30
        assert {each.attempt for each in running.seen(Done)} == {1}
        times = sorted(each.at_s for each in running.seen(Done) if each.who == "busy")
        assert times[-1] - times[0] == pytest.approx(290, abs=11)


@pytest.mark.parametrize("faults", ["repeat", "shuffle"])
async def test_what_waits_for_its_turn_takes_effect_once(faults: Faults) -> None:
    async with run_app(by_key, faults=faults, seed=5) as running:
        await running.client.send_many([Ask(who="busy", n=n) for n in range(10)])
        await running.kill(ByKey)
        await running.advance(300)

        assert len(running.seen(Done)) == 10
        assert running.dead == []


async def test_costs_and_counts_bound_together(database: str) -> None:
    async with run_app(by_cost, database=database) as running:
        costs = [100, 5, 5, 200, 0, 1]
        for tokens in costs:
            await running.client.send(Prompt(tokens=tokens))
            await running.advance(1)
        await running.advance(60)

        times = [each.at_s for each in running.seen(Done)]
        assert len(times) == len(costs)
        # 60 units may go at once and 10 each second, so 100 are paid for after 4 seconds.
        assert times[1] - times[0] == pytest.approx(4, abs=1.5)
        assert times[-1] - times[0] >= 20


async def test_a_rate_is_lifted_by_no_restart(database: str) -> None:
    async with run_app(plain, database=database) as running:
        await running.client.send_many([Call(n=n) for n in range(30)])
        for _ in range(4):
            await running.kill(Plain)
            await running.idle()

        assert len(running.seen(Done)) <= 3
        await running.advance(4)
        assert len(running.seen(Done)) == 30


class Wrong:
    """One role for each mistake."""

    class NoField(WorkerRole):
        @handle(rate=Rate(5, key="whom"))
        async def work(self, ask: Ask) -> None: ...

    class NoNumber(WorkerRole):
        @handle(rate=Rate(5, cost="who"))
        async def work(self, ask: Ask) -> None: ...

    class Unlike(WorkerRole):
        @handle(rate=Rate(5, name="x"))
        async def work(self, ask: Ask) -> None: ...

        @handle(rate=Rate(6, name="x"))
        async def other(self, call: Call) -> None: ...

    class Twice(WorkerRole):
        @handle(rate=[Rate(5), Rate(5)])
        async def work(self, ask: Ask) -> None: ...

    class OfRuns(WorkerRole):
        @handle
        async def split(self, call: Call) -> AsyncIterator[Ask]:
            yield Ask(who="a", n=call.n)

        @gather(rate=Rate(5, key="who"))
        async def work(self, run: Run[Ask]) -> None: ...

    class Dead(WorkerRole):
        @handle(rate=Rate(5, key="who"))
        async def work(self, letter: DeadLetter[Ask]) -> None: ...

        @handle
        async def ask(self, ask: Ask) -> None: ...


@pytest.mark.parametrize(
    ("role", "said"),
    [
        (Wrong.NoField, "key='whom' and takes Ask, which has no such field or property"),
        (Wrong.NoNumber, "cost='who' and takes Ask, where it is no number"),
        (Wrong.Unlike, "called 'x' of 6 in 1 s, but Unlike.work has one of 5 in 1 s"),
        (Wrong.Twice, "has the same rate twice"),
        (Wrong.OfRuns, "has a rate with key= and is a @gather"),
        (Wrong.Dead, "has a rate with key= and takes dead letters"),
    ],
)
def test_rates_that_fit_nothing_are_refused(role: type[Role], said: str) -> None:
    problems = [str(problem) for problem in App("wrong", roles=[role]).problems()]

    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1, "per_s": float("inf")}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AppError, match="must be more than 0"):
        Rate(**wrong)  # type: ignore[arg-type]
