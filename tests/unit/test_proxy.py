"""The faulty network, between an echo server and clients that talk by hand."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from rolekit.testing.faults import Direction, Flow, Proxy
from rolekit.testing.wire import reset
from tests.patience import patient
from tests.unit.fakes_network import QUIET_S, WAIT_S, Net, Server, network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

TO_SERVER, TO_CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with network() as made:
        yield made


async def test_bytes_pass_both_ways_for_several_clients(net: Net) -> None:
    clients = [await net.client() for _ in range(3)]
    bodies = [b"%d" % i * 200_000 for i in range(3)]

    for client, body in zip(clients, bodies, strict=True):
        client.send(body)

    assert [await client.get(200_000) for client in clients] == bodies
    assert net.proxy.connections == (1, 2, 3)


async def test_the_end_of_one_direction_passes_and_the_other_goes_on(net: Net) -> None:
    client = await net.client(b"last words")

    client.writer.write_eof()

    assert await client.rest() == b"last words"
    await net.until(lambda: not net.proxy.connections)


async def test_a_reset_passes(net: Net) -> None:
    client = await net.client(b"x")
    await client.get(1)

    reset(net.server.peers[0].writer)

    with pytest.raises(ConnectionResetError):
        await client.get(1)


async def test_what_is_stalled_arrives_once_it_heals(net: Net) -> None:
    client = await net.client()
    net.proxy.to_server.stall()

    client.send(b"held")
    await net.until(lambda: net.proxy.to_server.bytes_in == 4)
    is_quiet = await client.hears_nothing()
    net.proxy.heal()

    assert is_quiet
    assert await client.get(4) == b"held"


async def test_a_stall_makes_the_sender_wait(net: Net) -> None:
    client = await net.client()
    net.proxy.to_server.stall()

    client.send(b"x" * 64_000_000)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.writer.drain(), 0.5)
    assert net.proxy.to_server.bytes_in < 32_000_000
    client.writer.transport.abort()


async def test_a_stall_of_one_connection_leaves_the_others_alone(net: Net) -> None:
    first, second = await net.client(), await net.client()
    net.proxy.to_server.stall(1)

    first.send(b"a")
    second.send(b"b")

    assert await second.get(1) == b"b"
    assert await first.hears_nothing()


async def test_what_is_swallowed_never_arrives_and_nobody_is_told(net: Net) -> None:
    client = await net.client()
    net.proxy.to_client.swallow()

    client.send(b"gone")
    await net.until(lambda: net.proxy.to_client.bytes_swallowed == 4)
    net.proxy.heal()
    client.send(b"here")

    assert await client.get(4) == b"here"
    assert bytes(net.server.got[0]) == b"gonehere"


@pytest.mark.parametrize("is_reset", [False, True])
async def test_not_even_the_end_gets_through_a_swallowing_network(
    net: Net, *, is_reset: bool
) -> None:
    client = await net.client(b"x")
    await client.get(1)
    net.proxy.to_client.swallow()

    if is_reset:
        reset(net.server.peers[0].writer)
    else:
        net.server.peers[0].writer.close()
    await net.server.until(lambda: bool(net.server.ends))

    assert await client.hears_nothing()


async def test_delay_and_jitter_make_pieces_late_and_keep_their_order(net: Net) -> None:
    client = await net.client()
    net.proxy.to_server.delay_s = 0.1
    net.proxy.to_server.jitter_s = 0.02
    clock = asyncio.get_running_loop().time
    start_s = clock()

    for i in range(10):
        client.send(b"%d" % i)
        await asyncio.sleep(0.005)
    got = await client.get(10)

    assert got == b"0123456789"
    assert 0.1 <= clock() - start_s < patient(2)


async def test_a_slow_network_takes_its_time(net: Net) -> None:
    client = await net.client()
    net.proxy.to_client.bytes_per_s = 20_000
    clock = asyncio.get_running_loop().time
    start_s = clock()

    client.send(b"x" * 6_000)
    await client.get(6_000)

    assert 0.25 <= clock() - start_s < patient(2)


async def test_bytes_come_in_slices(net: Net) -> None:
    client = await net.client()
    net.proxy.to_client.slice_bytes = 3
    net.proxy.to_client.bytes_per_s = 100  # five at a time, were it not for the slices
    pieces: list[bytes] = []

    client.send(b"0123456789")
    async with asyncio.timeout(WAIT_S):
        while sum(map(len, pieces)) < 10:
            pieces.append(await client.reader.read(100))

    assert pieces == [b"012", b"345", b"678", b"9"]


async def test_a_cut_by_reset_is_an_error_at_both_ends(net: Net) -> None:
    client = await net.client(b"x")
    await client.get(1)

    net.proxy.cut()

    with pytest.raises(ConnectionResetError):
        await client.get(1)
    await net.server.until(lambda: net.server.ends == ["reset"])


async def test_an_orderly_cut_is_an_end_at_both_ends(net: Net) -> None:
    client = await net.client(b"x")
    await client.get(1)

    net.proxy.cut(by_reset=False)

    assert await client.rest() == b""
    await net.server.until(lambda: net.server.ends == ["eof"])


async def test_one_connection_of_several_can_be_cut(net: Net) -> None:
    first, second = await net.client(b"x"), await net.client(b"x")
    await first.get(1)

    net.proxy.cut(1)

    with pytest.raises(ConnectionResetError):
        await first.get(1)
    second.send(b"y")
    assert await second.get(2) == b"xy"


async def test_a_connection_is_cut_after_so_many_bytes(net: Net) -> None:
    net.proxy.to_server.cut_after_bytes = 5
    client = await net.client(b"012")

    client.send(b"3456")

    await net.server.until(lambda: bool(net.server.ends))
    assert bytes(net.server.got[0]) == b"01234"


@pytest.mark.parametrize("gone", Direction)
async def test_half_open_means_that_one_end_is_not_told(net: Net, gone: Direction) -> None:
    client = await net.client(b"x")
    await client.get(1)

    net.proxy.half_open(gone)
    client.send(b"y" if gone is TO_SERVER else b"")

    assert net.proxy.connections == (1,)
    if gone is TO_SERVER:
        await net.server.until(lambda: net.server.ends == ["reset"])
        assert await client.hears_nothing()
    else:
        with pytest.raises(ConnectionResetError):
            await client.get(1)
        assert net.server.ends == []


async def test_the_end_that_is_left_ends_a_half_open_connection(net: Net) -> None:
    client = await net.client(b"x")
    await client.get(1)
    net.proxy.half_open(TO_SERVER)

    client.writer.close()

    await net.until(lambda: not net.proxy.connections)


async def test_a_refusing_proxy_resets_new_clients_and_keeps_old_ones(net: Net) -> None:
    old = await net.client()
    net.proxy.is_refusing = True
    new = await net.client()

    with pytest.raises(ConnectionResetError):
        await new.get(1)
    old.send(b"x")
    assert await old.get(1) == b"x"


async def test_a_client_is_reset_where_the_target_does_not_listen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        async with Proxy("127.0.0.1", taken.getsockname()[1]) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(1), WAIT_S)
            writer.close()


async def test_a_proxy_that_ends_while_it_connects_leaves_nothing_behind() -> None:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with Proxy("127.0.0.1", listener.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.until(lambda: proxy.accepted == 1)

    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), WAIT_S)
    writer.close()
    listener.close()
    await server.until(lambda: len(server.ends) == len(server.got))


async def test_a_wait_that_is_given_up_leaves_nothing_behind(net: Net) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await net.proxy.until(lambda: False)

    assert await net.client(b"x") is not None


def test_a_url_leads_through_the_proxy() -> None:
    proxy = Proxy("127.0.0.1", 5672)
    proxy.port = 1234

    assert proxy.url("amqp://u:p%40@host:5672/v") == "amqp://u:p%40@127.0.0.1:1234/v"


def test_to_heal_takes_every_fault_away() -> None:
    flow, untouched = Flow(), Flow()
    flow.stall(1)
    flow.swallow(2)
    flow.delay_s = flow.jitter_s = flow.bytes_per_s = 1.0
    flow.slice_bytes = flow.cut_after_bytes = 1

    flow.heal()

    assert settings(flow) == settings(untouched)
    assert not flow.is_stalled


def settings(flow: Flow) -> dict[str, Any]:
    return {name: value for name, value in vars(flow).items() if not name.startswith("_")}
