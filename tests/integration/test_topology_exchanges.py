"""Queues bound to exchanges, made anew while another program publishes to these."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import aio_pika
import pytest

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.testing.faults import Direction, Frame, Proxy, Verdict
from rolekit.transport.rabbitmq.detour import ASIDE, Binding
from rolekit.transport.rabbitmq.migrate import apply
from rolekit.transport.rabbitmq.topology import MIGRATING
from tests.integration.rabbit_queues import (
    IDS,
    LOCK,
    WORK,
    channel_to,
    fill,
    ids_in,
    made_anew,
    published_to,
    session_to,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

BOUND = [Binding(WORK.name, "orders", "new"), Binding(WORK.name, "orders", "again")]
CHANGES = {
    "Queue.Bind", "Queue.Unbind", "Queue.Delete",
    "Exchange.Bind", "Exchange.Unbind", "Exchange.Delete",
}  # fmt: skip
"""Frames that change what is on the broker, but for declarations."""
KEYS = [one.key for one in BOUND]
BINDINGS = len(BOUND)
EMPTYING = 2 + BINDINGS + BINDINGS + 2
"""Changes until Q is deleted: A to T, M to Q; X to M; X off Q; Q off M; Q."""
BRINGING_BACK = 1 + BINDINGS + BINDINGS + 1
"""Changes until M is deleted: M to Q; X to Q; X off M; M."""
ENDING = BINDINGS + 1
"""Changes after that, which are repeated: X to Q; M. A and T are left."""


async def bind(url: str) -> None:
    """Make the exchange, a classic queue with some messages, and the bindings."""
    await fill(url, WORK.name, IDS)
    async with channel_to(url) as channel:
        exchange = await channel.declare_exchange("orders", aio_pika.ExchangeType.DIRECT)
        queue = await channel.get_queue(WORK.name)
        for one in BOUND:
            await queue.bind(exchange, one.key)


def left_over(broker: PrivateBroker, url: str) -> set[str]:
    """Name what there is on the broker that was to be gone."""
    vhost = url.rpartition("/")[2]
    names: list[str] = broker.evaluate(f"""
        [Name || {{resource, _, _, Name}} <-
            rabbit_exchange:list_names() ++ rabbit_amqqueue:list_names(<<"{vhost}">>)].""")
    return {name for name in names if name.endswith((MIGRATING, ASIDE))}


def out_of_place(found: list[str]) -> int:
    """Count those that come behind one that was published later."""
    highest = itertools.accumulate(found, max)
    return sum(id_ < high for id_, high in zip(found, highest, strict=True))


async def test_what_is_published_to_its_exchanges_meanwhile_is_not_lost_and_comes_once(
    broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    await bind(broker_url)

    async with published_to(broker_url, "orders", KEYS) as confirmed:
        (done,) = await made_anew(broker_url, BOUND)
        await asyncio.sleep(0.04)  # it goes on behind it
    found = await ids_in(broker_url, WORK.name)

    assert done.did == "made anew"
    assert len(confirmed) > 100
    assert sorted(found) == sorted(IDS + confirmed)
    assert out_of_place(found) <= 20
    assert await asyncio.to_thread(left_over, rolekit_broker_server, broker_url) == set()


async def test_cut_off_at_each_change_it_still_loses_nothing_of_what_was_confirmed(
    broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    await bind(broker_url)
    cuts = [1, 3, 5, 7, EMPTYING, 1, 3, 5, BRINGING_BACK, ENDING + 1, ENDING + 2]

    async with (
        published_to(broker_url, "orders", KEYS) as confirmed,
        Proxy("127.0.0.1", rolekit_broker_server.port) as proxy,
    ):
        for at in cuts:
            proxy.on_frame = cut_after(at)
            with pytest.raises(Unavailable, match="went away"):
                await once_alone(proxy.url(broker_url))
        proxy.on_frame = None
        await once_alone(broker_url)
    found = await ids_in(broker_url, WORK.name)

    assert set(found) == {*IDS, *confirmed}
    assert await asyncio.to_thread(left_over, rolekit_broker_server, broker_url) == set()


def cut_after(count: int) -> Callable[[Direction, Frame], Verdict]:
    left = count

    def on_frame(direction: Direction, frame: Frame) -> Verdict:
        nonlocal left
        if direction is Direction.TO_SERVER and frame.name in CHANGES:
            left -= 1
            if left == 0:
                return Verdict.CUT_AFTER
        return Verdict.PASS

    return on_frame


async def once_alone(url: str) -> None:
    """Run it, once the broker has noticed that the one before is gone."""
    while True:
        try:
            await made_anew(url, BOUND)
        except RolekitError as error:
            if "Another" not in error.what and "is running" not in error.what:
                raise
            await asyncio.sleep(0.02)
        else:
            return


async def test_whoever_goes_on_has_to_name_the_bindings_again(
    broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    await bind(broker_url)
    async with Proxy("127.0.0.1", rolekit_broker_server.port) as proxy:
        proxy.on_frame = cut_after(EMPTYING)
        with suppress(Unavailable):
            await made_anew(proxy.url(broker_url), BOUND)

    async with session_to(broker_url) as session:
        with pytest.raises(ConfigError, match="which exchanges these are") as caught:
            await apply(session, [WORK], lock=f"{LOCK}.other")

    assert "Give the same --bound as before" in caught.value.fix


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Binding(WORK.name, "nowhere"), "There is no exchange 'nowhere'"),
        (Binding("shop.Other.other", "orders"), "which this app does not have"),
    ],
)
async def test_a_binding_that_cannot_be_is_refused_before_anything_is_changed(
    wrong: Binding, said: str, broker_url: str, rolekit_broker_server: PrivateBroker
) -> None:
    await bind(broker_url)

    async with session_to(broker_url) as session:
        with pytest.raises(ConfigError, match=said):
            await apply(session, [WORK], lock=LOCK, bindings=[wrong])

    assert await asyncio.to_thread(left_over, rolekit_broker_server, broker_url) == set()


@pytest.mark.parametrize("text", ["shop.Work.work", "=orders", "shop.Work.work=:key", ""])
def test_what_names_no_binding_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="QUEUE=EXCHANGE"):
        Binding.read(text)


def test_a_key_may_have_colons_and_may_be_left_out() -> None:
    assert Binding.read("q=x:a:b") == Binding("q", "x", "a:b")
    assert Binding.read("q=x") == Binding("q", "x", "")
