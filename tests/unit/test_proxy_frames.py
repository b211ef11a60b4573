"""What the faulty network does with AMQP frames, made by hand."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from rolekit.testing.faults import Direction, Frame, Proxy, Verdict, cuts, drops
from rolekit.testing.frames import BODY, HEADER, HEARTBEAT, PROTOCOL_HEADER, method
from tests.unit.fakes_network import WAIT_S, Net, Server, network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

TO_SERVER, TO_CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT
BEAT = Frame(HEARTBEAT, 0, b"")
ACK = method("Basic.Ack", b"\0" * 9)
PUBLISH = (method("Basic.Publish"), Frame(HEADER, 1, b"h"), Frame(BODY, 1, b"b"))


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with network() as made:
        yield made


async def test_frames_are_counted_by_name_in_whatever_pieces_they_come(net: Net) -> None:
    client = await net.client()
    sent = b"".join([PROTOCOL_HEADER, *(frame.encode() for frame in (*PUBLISH, ACK, BEAT))])

    for i in range(len(sent)):
        client.send(sent[i : i + 1])
        await asyncio.sleep(0)

    assert await client.get(len(sent)) == sent
    names = ["protocol", "Basic.Publish", "header", "body", "Basic.Ack", "heartbeat"]
    assert dict(net.proxy.to_server.frames) == dict.fromkeys(names, 1)
    assert net.proxy.to_client.frames == net.proxy.to_server.frames


async def test_a_client_that_speaks_something_else_is_not_looked_into(net: Net) -> None:
    client = await net.client(b"AMPLE", ACK)

    await client.get(5 + len(ACK.encode()))

    assert not net.proxy.to_server.frames


async def test_bytes_that_are_no_frames_pass_as_they_are(net: Net) -> None:
    garbage = b"\x01\0\0\0\0\0\x01xx" + b"more"
    client = await net.client(PROTOCOL_HEADER, BEAT, garbage, BEAT)

    sent = PROTOCOL_HEADER + BEAT.encode() + garbage + BEAT.encode()

    assert await client.get(len(sent)) == sent
    assert net.proxy.to_server.frames["heartbeat"] == 1


async def test_what_came_of_a_frame_passes_at_the_end(net: Net) -> None:
    client = await net.client(PROTOCOL_HEADER, ACK.encode()[:-1])

    client.writer.write_eof()

    assert await client.rest() == PROTOCOL_HEADER + ACK.encode()[:-1]


async def test_dropped_confirms_never_arrive_and_all_else_does(net: Net) -> None:
    net.proxy.on_frame = drops(TO_CLIENT, "Basic.Ack")

    client = await net.client(PROTOCOL_HEADER, ACK, BEAT)

    expected = PROTOCOL_HEADER + BEAT.encode()
    assert await client.get(len(expected)) == expected
    assert net.proxy.to_client.dropped["Basic.Ack"] == 1
    assert net.proxy.to_server.dropped["Basic.Ack"] == 0


async def test_a_dropped_method_takes_its_content_along(net: Net) -> None:
    other = Frame(BODY, 2, b"of another channel")
    net.proxy.on_frame = drops(TO_SERVER, "Basic.Publish")

    client = await net.client(PROTOCOL_HEADER, *PUBLISH, other, ACK, PUBLISH[1])

    expected = PROTOCOL_HEADER + other.encode() + ACK.encode() + PUBLISH[1].encode()
    assert await client.get(len(expected)) == expected
    assert net.proxy.to_server.dropped.total() == 3


@pytest.mark.parametrize(
    ("verdict", "arrives"), [(Verdict.CUT_BEFORE, [BEAT]), (Verdict.CUT_AFTER, [BEAT, ACK])]
)
async def test_a_cut_at_a_frame_comes_after_all_before_it_arrived(
    net: Net, verdict: Verdict, arrives: list[Frame]
) -> None:
    net.server.echoes = False
    net.proxy.to_server.delay_s = 0.02
    net.proxy.on_frame = cuts(TO_SERVER, "Basic.Ack", nth=2, verdict=verdict)

    client = await net.client(PROTOCOL_HEADER, ACK, BEAT, ACK, BEAT)

    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.get(1)
    await net.server.until(lambda: bool(net.server.ends))
    expected = [PROTOCOL_HEADER, ACK.encode(), *(frame.encode() for frame in arrives)]
    assert bytes(net.server.got[0]) == b"".join(expected)


async def test_what_the_other_direction_had_is_delivered_before_a_cut(net: Net) -> None:
    net.proxy.on_frame = cuts(TO_SERVER, "heartbeat")
    client = await net.client(PROTOCOL_HEADER, ACK)
    expected = PROTOCOL_HEADER + ACK.encode()
    await net.until(lambda: net.proxy.to_client.frames["Basic.Ack"] == 1)

    client.send(BEAT)

    assert await client.get(len(expected)) == expected


async def test_a_judge_is_told_which_connection_it_is(net: Net) -> None:
    seen: list[int] = []

    def judge(direction: Direction, frame: Frame) -> Verdict:
        if direction is TO_SERVER and frame.name == "heartbeat":
            seen.append(frame.connection)
        return Verdict.PASS

    net.proxy.on_frame = judge
    first, second = await net.client(PROTOCOL_HEADER), await net.client(PROTOCOL_HEADER)

    second.send(BEAT)
    await net.until(lambda: len(seen) == 1)
    first.send(BEAT)
    await net.until(lambda: len(seen) == 2)

    assert seen == [2, 1]


async def test_what_a_judge_raises_comes_out() -> None:
    def judge(*_: object) -> Verdict:
        raise LookupError("not in this test")

    async def runs_into_the_judge() -> None:
        async with Proxy("127.0.0.1", listener.sockets[0].getsockname()[1]) as proxy:
            proxy.on_frame = judge
            _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            with contextlib.closing(writer):
                writer.write(PROTOCOL_HEADER)
                await asyncio.wait_for(asyncio.Event().wait(), WAIT_S)

    listener = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
    with pytest.raises(ExceptionGroup) as raised:
        await runs_into_the_judge()
    listener.close()

    assert raised.value.subgroup(LookupError) is not None


async def test_a_frame_that_is_spoilt_arrives_without_its_end_and_the_next_ones_whole(
    net: Net,
) -> None:
    net.proxy.on_frame = cuts(TO_SERVER, "Basic.Ack", verdict=Verdict.SPOIL)
    client = await net.client(PROTOCOL_HEADER, ACK, BEAT)

    sent = PROTOCOL_HEADER + ACK.encode()[:-1] + b"\0" + BEAT.encode()

    assert await client.get(len(sent)) == sent
