"""The line to RabbitMQ goes silent, in part or whole: nothing is lost, all goes on by itself.

No fault is healed here but by rolekit: connections that are made anew work, the old ones never.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import PublishUnknown
from rolekit.testing.faults import Direction, Frame, Proxy, Verdict, drops
from rolekit.transport.rabbitmq import publisher
from tests.conformance.transport import Inbox, consume, packet, packets
from tests.faults.rabbit import RESUMES_S, published
from tests.faults.rabbit_line import Line
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.rabbit import Rig

pytestmark = [
    pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults, pytest.mark.timeout(60)
]  # fmt: skip

CONFIRM_S, LOOK_EVERY_S = 0.6, 0.2
HEARTBEAT_S = 1
NOTICED_S = 3 * (HEARTBEAT_S + 1) + 1
"""aiormq gives a silent connection up after three heartbeats."""


@pytest.fixture
async def proxy(rig: Rig) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", rig.broker.port) as made:
        yield made


async def test_what_was_not_confirmed_in_time_is_unknown_and_may_go_again(
    rig: Rig, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_S", CONFIRM_S)
    monkeypatch.setattr(publisher, "LOOK_EVERY_S", LOOK_EVERY_S)
    transport, inbox = await rig.connect(proxy=proxy), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish([packet(0)])

    opened = proxy.to_server.frames["Channel.Open"]
    proxy.on_frame = drops(Direction.TO_CLIENT, "Basic.Ack")
    began_s = time.monotonic()
    with pytest.raises(PublishUnknown):
        await transport.publish([packet(1), packet(2)])
    took_s = time.monotonic() - began_s
    proxy.heal()
    async with asyncio.timeout(RESUMES_S):
        tries = await published(transport, packet(1), packet(2))
        got = await inbox.count(5)

    assert took_s < CONFIRM_S + patient(1)
    assert tries == 1
    assert proxy.to_server.frames["Channel.Open"] == opened + 1  # it counts anew
    assert [delivery.packet.body for delivery in got] == [b"0", b"1", b"2", b"1", b"2"]
    subscription.ack(got)
    await rig.until(lambda state: state.ready == state.unacked == 0)


async def test_what_was_acked_in_vain_comes_again_flagged(rig: Rig, proxy: Proxy) -> None:
    transport, inbox = await rig.connect(proxy=proxy), Inbox()
    subscription = await consume(transport, inbox)
    await transport.publish(packets(3))
    await inbox.count(3)

    proxy.on_frame = drops(Direction.TO_SERVER, "Basic.Ack")
    subscription.ack(inbox.got)
    async with asyncio.timeout(RESUMES_S):
        await proxy.until(lambda: proxy.to_server.dropped["Basic.Ack"] > 0)
        proxy.heal()
        proxy.cut()
        got = await inbox.count(6)
    subscription.ack(got[3:])

    await rig.until(lambda state: state.ready == state.unacked == 0)
    assert [delivery.packet.id for delivery in got[3:]] == [packet(n).id for n in range(3)]
    assert [delivery.redelivered for delivery in got] == [False] * 3 + [True] * 3


def _stall_to_server(proxy: Proxy) -> None:
    proxy.to_server.stall(*proxy.connections)


def _stall_to_client(proxy: Proxy) -> None:
    proxy.to_client.stall(*proxy.connections)


def _swallow_all(proxy: Proxy) -> None:
    proxy.to_client.swallow(*proxy.connections)
    proxy.to_server.swallow(*proxy.connections)


def _server_is_gone(proxy: Proxy) -> None:
    proxy.half_open(Direction.TO_SERVER)


def _client_is_gone(proxy: Proxy) -> None:
    proxy.half_open(Direction.TO_CLIENT)


def _silent_as_channels_open(proxy: Proxy) -> None:
    """Let the next two connections answer nothing once a channel is opened on them."""
    silent: set[int] = set()

    def judge(direction: Direction, frame: Frame) -> Verdict:
        if direction is Direction.TO_SERVER:
            if frame.name == "Channel.Open" and len(silent) < 2:
                silent.add(frame.connection)
            return Verdict.PASS
        return Verdict.DROP if frame.connection in silent else Verdict.PASS

    proxy.on_frame = judge
    proxy.cut()


FAULTS = (
    _stall_to_server, _stall_to_client, _swallow_all, _server_is_gone, _client_is_gone,
    _silent_as_channels_open,
)  # fmt: skip


async def test_lines_that_go_silent_are_replaced_and_nothing_is_lost(rig: Rig) -> None:
    took_s = await asyncio.gather(
        *(_falls_silent(rig, f"f{n}", fault) for n, fault in enumerate(FAULTS))
    )

    for fault, seconds in zip(FAULTS, took_s, strict=True):
        print(f"{fault.__name__}: went on after {seconds:.2f} s")  # noqa: T201 - measured


async def _falls_silent(rig: Rig, app: str, fault: Callable[[Proxy], None]) -> float:
    """Send two messages down a line that falls silent; say how long they took."""
    async with Proxy("127.0.0.1", rig.broker.port) as proxy:
        transport = await rig.connect(proxy=proxy, heartbeat_s=HEARTBEAT_S, app=app)
        line = Line(transport)
        await line.open()
        await line.send(0)
        await line.arrived(0)

        fault(proxy)
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(NOTICED_S + RESUMES_S):
                await line.send(1, 2)
                await line.arrived(1, 2)
            took_s = time.monotonic() - began_s
            for queue in ("a", "b"):
                await rig.until(lambda state: state.ready + state.unacked == 0, queue, app)
        finally:
            await line.close()
            await transport.stop()
        assert line.unexplained() == []
        return took_s
