"""Handlers of `DeadLetter[M]`: told with the parking, done with their own step."""
# ruff: noqa: D101 - messages and roles of a test are named for what they are

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import asyncpg
import pytest

from rolekit import (
    App,
    Backoff,
    Context,
    DeadLetter,
    Hole,
    Message,
    Reject,
    Reply,
    Retry,
    Run,
    WorkerRole,
    gather,
    handle,
)
from rolekit.errors import Failed
from rolekit.model.envelope import Head, Packet, encode_head
from rolekit.store.letters import OPEN, Letters
from rolekit.testing import Running, run_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rolekit.store.base import Commit, DeadLetterRow, Store

pytestmark = pytest.mark.anyio

ONCE = Backoff(attempts=1)


class Charge(Message):
    order: str
    cents: int


class Charged(Reply):
    order: str


class Refused(Reply):
    order: str
    why: str


class Payments(WorkerRole):
    is_down: ClassVar[bool] = True

    @handle(retry=ONCE)
    async def charge(self, charge: Charge) -> Charged:
        if self.is_down:
            raise Reject("no money")
        return Charged(order=charge.order)


class Orders(WorkerRole):
    is_down: ClassVar[bool] = False

    @handle(retry=ONCE)
    async def undo(self, dead: DeadLetter[Charge], ctx: Context) -> Refused:
        if self.is_down:
            raise Reject("cannot undo")
        ctx.write("insert into undone values ($1)", dead.message.order)
        return Refused(order=dead.message.order, why=f"{dead.handler}: {dead.reason}")


class Audit(WorkerRole):
    """A second one that is told."""

    @handle
    async def note(self, dead: DeadLetter[Charge], ctx: Context) -> None:
        ctx.write("insert into noted values ($1, $2)", dead.id, dead.attempts)


shop = App("shop", roles=[Payments, Orders])
audited = App("shop", roles=[Payments, Orders, Audit])


@pytest.fixture(autouse=True)
def afresh() -> None:
    Payments.is_down, Orders.is_down = True, False


async def letters(running: Running, which: Letters = OPEN) -> list[DeadLetterRow]:
    return await store_of(running).dead_letters(which, limit=10)


def store_of(running: Running) -> Store:
    store: Store = vars(running)["_store"]  # what an operator has
    return store


def send_on(running: Running, commit: Commit) -> None:
    """Let what a commit sends leave, as the relay does for an operator."""
    vars(running)["_relay"]._tell(commit)  # noqa: SLF001 - likewise


async def test_a_handler_is_told_of_a_dead_letter_and_answers_for_it() -> None:
    async with run_app(shop) as running:
        sent = await running.client.send(Charge(order="o1", cents=5))
        await running.idle()

        told = [each async for each in running.client.follow(sent, until=Refused)]

        assert told == [Refused(order="o1", why="Payments.charge: no money")]
        assert running.writes == [("insert into undone values ($1)", ("o1",))]


async def test_whoever_asks_gets_the_answer_and_no_failure() -> None:
    async with run_app(shop) as running:
        answer = await running.client.ask(Charge(order="o1", cents=5), Charged, Refused)

        assert answer == Refused(order="o1", why="Payments.charge: no money")


async def test_a_letter_is_answered_when_the_last_handler_is_done() -> None:
    async with run_app(audited) as running:
        await running.client.send(Charge(order="o1", cents=5))
        await running.idle()

        assert await letters(running) == []
        (row,) = await letters(running, Letters(answered=True))
        assert (row.closed_how, row.told) == ("answered", 0)
        assert len(running.writes) == 2


async def test_a_handler_without_effects_answers_too() -> None:
    class Quiet(WorkerRole):
        @handle
        async def tell(self, dead: DeadLetter[Charge]) -> Refused:
            return Refused(order=dead.message.order, why="quietly")

    async with run_app(App("quiet", roles=[Payments, Quiet])) as running:
        answer = await running.client.ask(Charge(order="o1", cents=5), Refused)
        await running.idle()

        assert answer.why == "quietly"
        (row,) = await letters(running, Letters(answered=True))
        assert row.closed_how == "answered"


async def test_a_letter_that_is_answered_is_replayed_only_when_that_is_said() -> None:
    async with run_app(shop) as running:
        await running.client.send(Charge(order="o1", cents=5))
        await running.idle()
        (row,) = await letters(running, Letters(answered=True))
        store = store_of(running)
        Payments.is_down = False

        plain = await store.replay([row.id], force=True)
        insisted = await store.replay([row.id], force=False, answered=True)
        again = await store.replay([row.id], force=False, answered=True)

        assert [len(each.fresh) for each in (plain, insisted, again)] == [0, 1, 0]


class Slow(WorkerRole):
    """Its compensation is tried again after a while, or replayed over in the middle."""

    meanwhile: ClassVar[list[Callable[[str], Awaitable[None]]]] = []
    calls: ClassVar[list[int]] = []

    @handle(retry=Backoff(attempts=3))
    async def undo(self, dead: DeadLetter[Charge], ctx: Context) -> Refused:
        self.calls.append(ctx.attempt)
        if not self.meanwhile:
            raise Retry(delay_s=60)
        await self.meanwhile[0](dead.id)
        return Refused(order=dead.message.order, why="undone")


async def replay_answered(running: Running, letter: str) -> None:
    Payments.is_down = False
    commit = await store_of(running).replay([letter], force=False, answered=True)
    send_on(running, commit)


async def test_a_replay_overtakes_compensation_that_waits_for_its_retry() -> None:
    Slow.meanwhile, Slow.calls = [], []
    async with run_app(App("shop", roles=[Payments, Slow])) as running:
        await running.client.send(Charge(order="o1", cents=5))
        await running.idle()
        (row,) = await letters(running, Letters(answered=True))

        await replay_answered(running, row.id)
        await running.advance(600)

        assert running.seen(Charged) == [Charged(order="o1")]
        assert (running.seen(Refused), Slow.calls) == ([], [1])


async def test_a_replay_overtakes_compensation_that_runs(rolekit_database: str) -> None:
    for database in ("memory", rolekit_database):
        Payments.is_down = True
        async with run_app(App("shop", roles=[Payments, Slow]), database=database) as running:
            Slow.meanwhile = [partial(replay_answered, running)]
            await running.client.send(Charge(order="o1", cents=5))
            await running.idle()

            assert running.seen(Charged) == [Charged(order="o1")]
            assert running.seen(Refused) == []


async def test_compensation_that_fails_is_a_dead_letter_and_nobody_is_told_of_it() -> None:
    Orders.is_down = True
    async with run_app(shop) as running:
        sent = await running.client.send(Charge(order="o1", cents=5))
        await running.idle()

        (row,) = await letters(running)
        assert (row.handler, row.type) == ("Orders.undo", "DeadLetter[Charge]")
        assert [dead.handler for dead in running.dead] == ["Payments.charge", "Orders.undo"]
        with pytest.raises(Failed, match="cannot undo"):
            await running.client.result(sent, Refused)


async def test_its_replay_answers_the_letter_after_all() -> None:
    Orders.is_down = True
    async with run_app(shop) as running:
        await running.client.send(Charge(order="o1", cents=5))
        await running.idle()
        Orders.is_down = False
        (row,) = await letters(running)

        commit = await store_of(running).replay([row.id], force=False)
        send_on(running, commit)
        await running.idle()

        assert await letters(running) == []
        answered = await letters(running, Letters(answered=True))
        assert [(each.handler, each.closed_how) for each in answered] == [
            ("Payments.charge", "answered")
        ]


async def test_a_letter_whose_compensation_is_dropped_is_open_again() -> None:
    Orders.is_down = True
    async with run_app(shop) as running:
        await running.client.send(Charge(order="o1", cents=5))
        await running.idle()
        (row,) = await letters(running)

        await store_of(running).drop([row.id])

        assert [each.handler for each in await letters(running)] == ["Payments.charge"]


async def test_repeats_of_everything_compensate_once() -> None:
    for seed in range(5):
        async with run_app(audited, faults="repeat", seed=seed) as running:
            await running.client.send(Charge(order="o1", cents=5))
            await running.idle()

            assert len(running.writes) == 2
            assert running.seen(Refused) == [
                Refused(order="o1", why="Payments.charge: no money")
            ]


async def test_a_crash_of_the_compensation_leaves_it_done_once(rolekit_database: str) -> None:
    connection = await asyncpg.connect(rolekit_database)
    await connection.execute(
        "create table undone (id text); create table noted (id text, n int)"
    )
    for seed in range(4):
        async with run_app(audited, database=rolekit_database, seed=seed) as running:
            for number in range(5):
                await running.client.send(Charge(order=f"{seed}-{number}", cents=5))
            await running.kill(Payments)
            await running.kill(Orders)
            await running.idle()
            assert await letters(running) == []

    done = await connection.fetch("select id from undone order by id")
    noted = await connection.fetchval("select count(distinct id) = count(*) from noted")
    await connection.close()
    assert [row["id"] for row in done] == [f"{s}-{n}" for s in range(4) for n in range(5)]
    assert noted


# -- what is not told --------------------------------------------------------------------------


async def test_a_letter_that_cannot_be_read_is_not_told_and_stays_open() -> None:
    async with run_app(shop) as running:
        store = store_of(running)
        broken = Head(type="Charge", root="ab" * 16, headers={})
        packet = Packet(queue="Payments.charge", id="cd" * 16, head=encode_head(broken))
        packet.body = b'{"order": 1}'

        commit, _ = await store.accept([packet], [], None)
        send_on(running, commit)
        await running.idle()

        (row,) = await letters(running)
        assert (row.handler, row.told) == ("Payments.charge", 0)
        assert running.writes == []


# -- in a sequence -----------------------------------------------------------------------------


class Bill(Message):
    parts: list[str]


class Done(Reply):
    holes: int


class Paid(Message):
    order: str


class Bills(WorkerRole):
    @handle
    async def split(self, bill: Bill) -> AsyncIterator[Charge]:
        for part in bill.parts:
            yield Charge(order=part, cents=1)

    @handle(retry=ONCE)
    async def pay(self, charge: Charge) -> Paid:
        if charge.order == "bad":
            raise Reject("no money")
        return Paid(order=charge.order)

    @gather
    async def join(self, bill: Bill, run: Run[Paid | Hole]) -> Done | None:
        holes = sum(isinstance(part, Hole) for part in run)
        return Done(holes=holes) if run.is_last else None


@pytest.mark.parametrize("is_down", [False, True])
async def test_a_position_fails_at_once_and_the_compensation_stands_beside(
    is_down: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    Orders.is_down = is_down
    async with run_app(App("bills", roles=[Bills, Orders])) as running:
        sent = await running.client.send(Bill(parts=["a", "bad", "c"]))
        await running.idle()

        assert await running.client.result(sent, Done) == Done(holes=1)
        replies = await store_of(running).replies({sent.id: 0}, 10)
        assert not any(reply.is_failure for reply in replies)
        assert len(running.writes) == (0 if is_down else 1)


# -- refused at start --------------------------------------------------------------------------


def test_a_letter_of_a_message_nobody_handles_is_refused() -> None:
    class Charges(Message):
        n: int

    class Odd(WorkerRole):
        @handle
        async def undo(self, dead: DeadLetter[Charges]) -> None: ...

    (problem,) = App("odd", roles=[Payments, Odd]).problems()

    assert str(problem) == (
        "Odd.undo: takes DeadLetter[Charges], but nobody handles Charges, so it never becomes "
        "a dead letter.\n"
        "    Did you mean DeadLetter[Charge]? Name a message that a handler takes."
    )


def test_a_letter_whose_results_a_gather_would_receive_is_refused() -> None:
    class Odd(WorkerRole):
        @handle
        async def split(self, dead: Bill | DeadLetter[Charge]) -> list[Paid]:
            return []

        @handle
        async def charge(self, charge: Charge) -> None: ...

        @gather
        async def join(self, bill: Bill, run: Run[Paid]) -> Done | None: ...

    (problem,) = App("odd", roles=[Odd]).problems()

    assert str(problem).startswith("Odd.split: takes a DeadLetter, and a gather receives")
