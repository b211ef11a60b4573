"""A circuit before a handler: its queue waits while what it calls is down."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit import App, Backoff, Circuit, Context, Message, Reject, Retry, WorkerRole, handle
from rolekit.errors import AppError, CodecError
from rolekit.flow.circuits import is_failure
from rolekit.testing import run_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


class Call(Message):
    n: int


class Other(Message):
    n: int


class Done(Message):
    n: int


class Bank:
    """What is called: up or down."""

    def __init__(self) -> None:
        self.is_up = True
        self.calls: list[int] = []
        self.fails_once: set[int] = set()


@asynccontextmanager
async def tables(database: str) -> AsyncGenerator[None]:
    """Make what the handlers write to, where there is a database."""
    if database != "memory":
        connection = await asyncpg.connect(database)
        await connection.execute("create table done (n int)")
        await connection.close()
    yield


bank = Bank()


class Caller(WorkerRole):
    concurrency = 4

    @handle(
        retry=Backoff(attempts=3, first_s=0),
        circuit=Circuit(failures=0.5, over_s=60, at_least=4, pause_s=30),
    )
    async def call(self, call: Call) -> Done:
        bank.calls.append(call.n)
        if not bank.is_up or call.n in bank.fails_once:
            bank.fails_once.discard(call.n)
            raise OSError("down")
        return Done(n=call.n)

    @handle
    async def other(self, other: Other) -> Done:
        return Done(n=other.n)

    @handle
    async def done(self, done: Done, ctx: Context) -> None:
        ctx.write("insert into done values ($1)", done.n)


app = App("caller", roles=[Caller])


@pytest.fixture(autouse=True)
def fresh() -> None:
    """A bank that is up and was not called."""
    bank.is_up = True
    bank.calls.clear()
    bank.fails_once.clear()


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """Where the app keeps its state."""
    if request.param == "memory":
        return "memory"
    url: str = request.getfixturevalue("rolekit_database")
    return url


async def test_an_open_circuit_lets_the_queue_wait_and_uses_up_no_attempts(
    database: str,
) -> None:
    bank.is_up = False
    async with tables(database), run_app(app, database=database) as running:
        for n in range(30):
            await running.client.send(Call(n=n))
        await running.idle()
        tried = len(bank.calls)
        await running.client.send(Other(n=100))
        await running.idle()
        beside = list(running.seen(Done))

        await running.advance(95)  # three pauses: three probes fail
        probed = len(bank.calls) - tried
        bank.is_up = True
        await running.advance(31)

        assert tried < 10
        assert beside == [Done(n=100)], "other queues go on"
        assert probed == 3
        assert running.dead == []
        assert sorted(done.n for done in running.seen(Done)) == [*range(30), 100]


async def test_a_share_of_failures_below_the_limit_opens_nothing() -> None:
    async with run_app(app) as running:
        bank.fails_once = set(range(0, 40, 4))
        for n in range(40):
            await running.client.send(Call(n=n))
            await running.idle()

        assert len(bank.calls) == 50
        assert len(running.seen(Done)) == 40
        assert running.dead == []


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (OSError("down"), True),
        (TimeoutError(), True),
        (Retry("soon"), True),
        (Retry("busy", counts=False), False),
        (Reject("no such account"), False),
        (CodecError("not read"), False),
    ],
)
def test_only_what_speaks_against_the_handler_is_a_failure(
    error: Exception, *, counts: bool
) -> None:
    assert is_failure(error) is counts


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"over_s": 0}, {"at_least": 0}, {"pause_s": 0}]
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AppError, match=next(iter(wrong))):
        Circuit(**wrong)  # type: ignore[arg-type]
