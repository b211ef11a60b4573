"""Limits by the real clock: what is handed back often, and keys that wait in hand."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from rolekit import App, Context, Message, Rate, WorkerRole, handle
from rolekit.store.letters import Letters
from rolekit.transport.rabbitmq import topology
from tests.integration.living import living
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

LIMIT = 2


class Costly(Message):
    """Costs more than a second of its rate."""

    n: int
    tokens: int = 26


class Put(Message):
    """Waits for the rate of its key."""

    who: str
    n: int


class Free(Message):
    """Waits for nothing."""

    who: str
    n: int


class Calls:
    """What was called: by whom, which, its attempt, when."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int, int, float]] = []

    def note(self, who: str, n: int, ctx: Context) -> None:
        """Note a call."""
        self.made.append((who, n, ctx.attempt, time.monotonic()))

    def of(self, who: str) -> list[int]:
        """List the calls for one key."""
        return [n for name, n, _, _ in self.made if name == who]


calls = Calls()


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Nothing was called."""
    calls.made.clear()


class Paid(WorkerRole):
    """Every message is in hand, and one can be paid for now and then."""

    concurrency = 10

    @handle(rate=Rate(20, per_s=1, cost="tokens"))
    async def pay(self, costly: Costly, ctx: Context) -> None:
        """Note it."""
        calls.note("", costly.n, ctx)


class Ledger(WorkerRole):
    """One partition, so that all keys share a window."""

    partitions = 1
    concurrency = 4

    @handle(key="who", rate=Rate(2, per_s=1, key="who"))
    async def put(self, put: Put, ctx: Context) -> None:
        """Note it."""
        calls.note(put.who, put.n, ctx)

    @handle(key="who")
    async def free(self, free: Free, ctx: Context) -> None:
        """Note it."""
        calls.note(free.who, free.n, ctx)


@pytest.fixture(params=["postgres", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker; empty: the database is it."""
    if request.param == "postgres":
        return ""
    url: str = request.getfixturevalue("broker_url")
    return url


async def until(is_so: Callable[[], bool], within_s: float = 40) -> None:
    """Wait for something that the handlers note."""
    async with asyncio.timeout(patient(within_s)):
        while not is_so():  # noqa: ASYNC110 - handlers tell nobody
            await asyncio.sleep(0.02)


async def test_what_a_limit_hands_back_is_not_given_up_by_the_broker(
    broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "DELIVERY_LIMIT", LIMIT)
    app = App("paid", roles=[Paid])
    async with living(app, database_url, broker_url, [Paid, Paid]) as services:
        await services.client.send_many([Costly(n=n) for n in range(7)])
        await until(lambda: len(calls.made) >= 7)
        dead = await services.runtime.store.dead_letters(Letters(), limit=10)

    times = [at for _, _, _, at in calls.made]
    assert dead == []
    assert sorted(calls.of("")) == list(range(7))
    assert {attempt for _, _, attempt, _ in calls.made} == {1}
    assert times[-1] - times[0] >= 6 * 1.3 - 2, "each time the others were handed back"


async def test_a_key_that_waits_makes_room_for_others_and_keeps_its_order(
    broker: str, database_url: str
) -> None:
    app = App("waits", roles=[Ledger])
    async with living(app, database_url, broker, [Ledger]) as services:
        began = time.monotonic()
        await services.client.send_many([Put(who="busy", n=n) for n in range(10)])
        await services.client.send_many([Free(who="busy", n=n) for n in range(10, 80)])
        await services.client.send_many([Free(who=f"w{n}", n=0) for n in range(40)])
        await until(lambda: sum(who != "busy" for who, *_ in calls.made) == 40)
        others_s, early = time.monotonic() - began, calls.of("busy")
        await until(lambda: len(calls.of("busy")) == 80)

    assert len(early) < 10, f"others were there after {others_s:.1f} s"
    assert calls.of("busy") == list(range(80))
    assert {attempt for _, _, attempt, _ in calls.made} == {1}
    times = [at for who, n, _, at in calls.made if who == "busy" and n < 10]
    assert times[-1] - times[0] >= 3.5
