"""What clients are told while the broker takes nothing."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from rolekit import Reply
from rolekit.errors import IntakeFull
from rolekit.flow import intake
from rolekit.flow.app_client import AppClient
from rolekit.flow.outbox import Outbox
from rolekit.transport.memory import MemoryTransport
from tests.unit.fakes_flow import services_of
from tests.unit.shop import Front, Order, shop
from tests.unit.web_front import calling

pytestmark = pytest.mark.anyio


class Answer(Reply):
    """What comes of one, if somebody asks."""


class Blocked(MemoryTransport):
    """Has refused messages for some seconds, as a broker does that is short of memory."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def blocked_s(self) -> float:
        return self.seconds

    def waiting(self) -> int:
        return self.broker.depth("Work.work").waiting


async def client_on(transport: MemoryTransport) -> AppClient:
    await transport.declare(["Work.work"])
    return services_of(shop.plan(), transport=transport).client


async def test_while_the_broker_takes_nothing_senders_are_told_to_come_later() -> None:
    transport = Blocked(7.2)
    client = await client_on(transport)

    for call in (
        client.send(Order(n=1)),
        client.send(Order(n=1), delay_s=5),
        client.send(Order(n=1), idempotency_key="one"),
        client.send_many([Order(n=1)]),
        client.ask(Order(n=1), Answer),
    ):
        with pytest.raises(IntakeFull, match="has taken nothing for 7 s"):
            await call

    assert transport.waiting() == 0


async def test_a_broker_that_takes_nothing_for_a_moment_is_waited_for() -> None:
    transport = Blocked(0.9)
    client = await client_on(transport)

    await client.send(Order(n=1))

    assert transport.waiting() == 1


async def test_one_who_could_send_a_moment_ago_is_told_too() -> None:
    transport = Blocked(0)
    client = await client_on(transport)
    await client.send(Order(n=1))

    transport.seconds = 7.2
    with pytest.raises(IntakeFull, match="has taken nothing for 7 s"):
        await client.send(Order(n=2))

    assert transport.waiting() == 1


async def test_one_whose_messages_no_longer_leave_is_told_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = Blocked(0)
    client = await client_on(transport)
    await client.send(Order(n=1))

    monkeypatch.setattr(Outbox, "has_room", False)
    with pytest.raises(IntakeFull, match="Too many messages wait for the broker"):
        await client.send(Order(n=2))

    assert transport.waiting() == 1


async def test_a_queue_that_is_seen_to_be_full_takes_no_more_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = Blocked(0)
    await transport.declare(["Work.work"])
    client = AppClient(
        services_of(shop.plan(), transport=transport).runtime, None, intake_limit=2
    )
    passing = itertools.count(10, intake.LOOK_EVERY_S * 0.6).__next__
    monkeypatch.setattr(intake, "time", SimpleNamespace(monotonic=passing))

    async def send_on() -> None:
        while True:
            await client.send(Order(n=1))
            await asyncio.sleep(0)  # the look beside it

    with pytest.raises(IntakeFull, match="2 messages wait for"):
        await send_on()

    # Two within the time of the first look, and one beside the second.
    assert transport.waiting() == 3


async def test_over_http_that_is_503_with_a_time_to_come_back_after() -> None:
    transport = Blocked(7.2)

    async with calling(Front(), await client_on(transport)) as http:
        refused = await http.post("/orders", json={"n": 1})
        transport.seconds = 0
        taken = await http.post("/orders", json={"n": 2})

    assert (refused.status_code, taken.status_code) == (503, 204)
    assert int(refused.headers["Retry-After"]) >= 1
    assert "short of memory" in refused.json()["detail"]
    assert transport.waiting() == 1
