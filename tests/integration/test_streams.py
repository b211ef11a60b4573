"""Streams: ticks without end, handled side by side, drawn in the order they were sent."""
# ruff: noqa: D101, D106 - a message class is named for what it says

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, ClassVar

import pytest

from rolekit import (
    App,
    Backoff,
    Context,
    Hole,
    Message,
    Reject,
    Run,
    State,
    WebRole,
    WorkerRole,
    gather,
    handle,
    web,
)
from rolekit.errors import AppError, IntakeFull, QueueFull, RolekitError, Unroutable
from rolekit.flow import in_order, outbox
from rolekit.flow.app_client import AppClient
from rolekit.model import position
from rolekit.testing import Running, run_app
from rolekit.transport.memory import MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet
    from rolekit.transport.memory import Faults

pytestmark = pytest.mark.anyio


class Tick(Message):
    n: int


class Price(Message):
    n: int


class Bar(Message):
    ns: list[int]


class Quiet(Message):
    n: int


class Pricing(WorkerRole):
    chance: ClassVar[random.Random] = random.Random(1)  # noqa: S311 - a test
    bars: ClassVar[list[int]]
    lasts: ClassVar[list[bool]]

    @handle(retry=Backoff(attempts=1))
    async def price(self, tick: Tick) -> Price | None:
        for _ in range(self.chance.randrange(5)):  # the later may be done first
            await asyncio.sleep(0)
        if tick.n < 0:
            raise Reject("below nothing")
        return Price(n=tick.n) if tick.n != 13 else None

    @handle
    async def show(self, bar: Bar) -> None:
        self.bars.extend(bar.ns)


class Count(State):
    runs: int = 0


class Draws(Pricing):
    @gather(size=4)
    async def draw(self, run: Run[Price], ctx: Context) -> Bar | None:
        count = await ctx.state(Count)
        count.runs += 1
        assert run.offset >= count.runs - 1
        self.lasts.append(run.is_last)
        return Bar(ns=[price.n for price in run]) if run else None


class Skips(Pricing):
    @gather(on_dead="skip")
    async def draw(self, run: Run[Price]) -> Bar:
        return Bar(ns=[price.n for price in run])


class Holes(Pricing):
    @gather
    async def draw(self, run: Run[Price | Hole]) -> Bar:
        return Bar(ns=[-99 if isinstance(each, Hole) else each.n for each in run])


class Lists(Pricing):
    @gather(size=4)
    async def draw(self, run: Run[Price]) -> list[Bar]:
        return [Bar(ns=[price.n]) for price in run]


class Waits(Pricing):
    @gather(size=2, age_s=5)
    async def draw(self, run: Run[Price]) -> Bar:
        return Bar(ns=[price.n for price in run])


class Direct(WorkerRole):
    seen: ClassVar[list[int]]

    @gather(size=3)
    async def take(self, run: Run[Quiet]) -> None:
        self.seen.extend(quiet.n for quiet in run)


class Front(WebRole):
    @web.post("/ticks/{n}", status=202)
    async def tick(self, n: int) -> None:
        await self.client.send(Tick(n=n), stream="ticks")
        await self.client.send(Tick(n=n + 1), stream="ticks")


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory"
    url: str = request.getfixturevalue("rolekit_database")
    return url


def app_of(role: type[Pricing]) -> App:
    role.bars, role.lasts = [], []
    return App("ticker", roles=[role])


async def send(running: Running, *ns: int, stream: str = "ticks") -> None:
    await asyncio.gather(*(running.client.send(Tick(n=n), stream=stream) for n in ns))


def drawn(running: Running) -> list[int]:
    return [n for bar in running.seen(Bar) for n in bar.ns]


async def test_what_is_sent_comes_in_order_though_handled_side_by_side(database: str) -> None:
    async with run_app(app_of(Draws), database=database) as running:
        await send(running, *range(1, 12))
        await running.idle()
        early = drawn(running)
        await send(running, 12, 13, 14)
        await running.idle()

        assert (early, drawn(running)) == ([*range(1, 12)], [*range(1, 13), 14])
        assert not any(Draws.lasts)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("faults", ["repeat", "shuffle"])
async def test_faults_and_crashes_change_nothing(
    database: str, faults: Faults, seed: int
) -> None:
    app = app_of(Draws)
    async with run_app(app, database=database, faults=faults, seed=seed) as running:
        for begin in (20, 30, 40):
            await send(running, *range(begin, begin + 10))
            await running.kill(Draws)
        await running.idle()

        assert drawn(running) == [*range(20, 50)]
        assert running.dead == []


class Ages(Pricing):
    @gather(size=1, age_s=5)
    async def draw(self, run: Run[Price]) -> Bar:
        return Bar(ns=[price.n for price in run])


@pytest.mark.parametrize("role", [Skips, Ages, Lists])
async def test_what_the_broker_refuses_holds_back_what_comes_behind_it(
    database: str, monkeypatch: pytest.MonkeyPatch, role: type[Pricing]
) -> None:
    publish, known, refused = MemoryTransport.publish, set[str](), set[str]()

    async def refusing(transport: MemoryTransport, packets: Sequence[Packet]) -> None:
        """Take every second bar only when it comes again."""
        which = set[int]()
        for at, packet in enumerate(packets):
            if packet.queue.endswith(".show") and packet.id not in known:
                known.add(packet.id)
                if len(known) % 2:
                    refused.add(packet.id)
                    which.add(at)
        await publish(transport, [p for at, p in enumerate(packets) if at not in which])
        if which:
            raise QueueFull("The queue takes no more.", which=frozenset(which))

    monkeypatch.setattr(MemoryTransport, "publish", refusing)
    monkeypatch.setattr(in_order, "AGAIN_S", 0.01)
    monkeypatch.setattr(outbox, "AWAY_MAX_S", 0.3)
    async with run_app(app_of(role), database=database) as running:
        await send(running, *range(20, 30))
        await running.advance(5)
        await send(running, *range(30, 32))
        await running.advance(60)

        assert drawn(running) == [*range(20, 32)]
        assert refused


async def test_a_run_waits_for_more_also_behind_another(database: str) -> None:
    async with run_app(app_of(Waits), database=database) as running:
        await send(running, 20, 21, 22)
        await running.advance(5)
        early = drawn(running)
        await send(running, 23)
        await running.advance(5)

        assert early == [20, 21]
        assert [bar.ns for bar in running.seen(Bar)] == [[20, 21], [22, 23]]


async def test_streams_are_apart(database: str) -> None:
    async with run_app(app_of(Draws), database=database) as running:
        await send(running, 1, -1, 2, stream="one")  # held up by what died
        await send(running, 3, 4, stream="other")
        await running.idle()

        assert sorted(drawn(running)) == [1, 3, 4]


async def test_a_dead_one_is_passed_or_handed_over_where_the_gather_says_so(
    database: str,
) -> None:
    found: list[list[int]] = []
    for role in (Skips, Holes):
        app = App(role.__name__, roles=[role])
        role.bars = []
        async with run_app(app, database=database) as running:
            await send(running, 1, -1, 2)
            await running.idle()
            found.append(drawn(running))

    assert found == [[1, 2], [1, -99, 2]]


async def test_a_gather_may_be_sent_to_itself(database: str) -> None:
    Direct.seen = []
    async with run_app(App("direct", roles=[Direct]), database=database) as running:
        for n in range(7):
            await running.client.send(Quiet(n=n), stream="q")
        await running.idle()

        assert Direct.seen == [*range(7)]


async def test_a_stream_goes_on_where_it_was(rolekit_database: str) -> None:
    for begin in (20, 30):
        async with run_app(app_of(Draws), database=rolekit_database) as running:
            await send(running, *range(begin, begin + 5))
            await running.idle()
            await running.advance(20 * 86_400)  # beyond every horizon
            await send(running, *range(begin + 5, begin + 10))
            await running.idle()

            assert drawn(running) == [*range(begin, begin + 10)]


async def test_rows_of_positions_follow_one_another(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position, "ROW", 4)
    monkeypatch.setattr("rolekit.flow.streaming.ROW", 4)
    async with run_app(app_of(Draws), database=database) as running:
        for n in range(20, 31):
            await send(running, n)
        await running.idle()

        assert drawn(running) == [*range(20, 31)]


async def test_a_repeat_under_a_key_stands_once(database: str) -> None:
    async with run_app(app_of(Draws), database=database) as running:
        first = await running.client.send(Tick(n=1), stream="ticks", idempotency_key="k")
        again = await running.client.send(Tick(n=1), stream="ticks", idempotency_key="k")
        await send(running, 2)
        await running.idle()

        assert first == again
        assert drawn(running) == [1, 2]


async def test_what_a_request_sends_leaves_with_it(database: str) -> None:
    Draws.bars, Draws.lasts = [], []
    app = App("ticker", roles=[Draws, Front])
    async with run_app(app, database=database) as running:
        http = running.http(Front)
        for key in ("a", "a", "b"):
            await http.post("/ticks/5", headers={"Idempotency-Key": key})
        await running.idle()

        assert drawn(running) == [5, 6, 5, 6]


async def test_a_stream_whose_gather_is_far_behind_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rolekit.flow.streaming.LOOK_EVERY_S", -1)
    async with run_app(app_of(Draws)) as running:
        client = running.client
        assert isinstance(client, AppClient)
        client._intake.streams._limit = 3  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await send(running, -1, 2, 3)
        await running.idle()

        with pytest.raises(IntakeFull, match="3 messages of the stream 'ticks' wait for Draws"):
            await send(running, 4)


async def test_sending_past_the_stream_is_refused() -> None:
    async with run_app(app_of(Draws)) as running:
        with pytest.raises(Unroutable, match=r"comes to Draws\.draw, which no split feeds"):
            await running.client.send(Tick(n=1))
        with pytest.raises(Unroutable, match=r"comes to Draws\.draw"):
            await running.client.send_many([Tick(n=1)])
        with pytest.raises(Unroutable, match="nothing that becomes of a Bar comes to a gather"):
            await running.client.send(Bar(ns=[]), stream="ticks")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stream": ""}, "cannot be called ''"),
        ({"stream": "x" * 201}, "cannot be called"),
        ({"stream": "x", "delay_s": 1}, "everything sent into the stream after it would wait"),
        ({"stream": "x", "via": object()}, "would wait for the end of that transaction"),
    ],
)
async def test_what_does_not_go_with_a_stream_is_refused(
    options: dict[str, object], said: str
) -> None:
    async with run_app(app_of(Draws)) as running:
        with pytest.raises(RolekitError, match=said):
            await running.client.send(Tick(n=1), **options)  # type: ignore[arg-type]


class Mistakes:
    """One role for each."""

    class Deadline(Pricing):
        @gather(deadline_s=5)
        async def draw(self, run: Run[Price | Hole]) -> None: ...

    class Unordered(Pricing):
        @gather(ordered=False)
        async def draw(self, run: Run[Price]) -> None: ...

    class Fails(Pricing):
        @gather(on_dead="fail")
        async def draw(self, run: Run[Price]) -> None: ...

    class Listed(Pricing):
        @gather
        async def draw(self, prices: list[Price]) -> None: ...


@pytest.mark.parametrize(
    ("role", "said"),
    [
        (Mistakes.Deadline, "has deadline_s=5; but no split leads here, so it takes a stream"),
        (Mistakes.Unordered, "has ordered=False; but no split leads here"),
        (Mistakes.Fails, 'has on_dead="fail"; but no split leads here'),
        (Mistakes.Listed, r"takes list\[Price\], but no handler splits into messages"),
    ],
)
def test_a_gather_that_cannot_take_a_stream_is_refused(role: type[Pricing], said: str) -> None:
    with pytest.raises(AppError, match=said):
        App("ticker", roles=[role]).plan()
