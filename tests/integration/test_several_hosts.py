"""Several hosts in the URL of a broker: whichever answers is taken, in any order."""

from __future__ import annotations

import asyncio
import random
import socket
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import Unavailable
from rolekit.testing.faults import Proxy
from rolekit.transport.rabbitmq.address import parse_address
from rolekit.transport.rabbitmq.connection import BrokerConnection
from rolekit.transport.rabbitmq.session import USER_TIMEOUT_MS
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableSequence

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

BACK_S = patient(10.0)


@pytest.fixture
async def hosts(broker_url: str) -> AsyncIterator[tuple[Proxy, Proxy]]:
    """Two ways to one broker, each of which may refuse."""
    place = urllib.parse.urlsplit(broker_url)
    target = (place.hostname or "", place.port or 5672)
    async with Proxy(*target) as first, Proxy(*target) as second:
        yield first, second


@pytest.fixture
async def connection(
    broker_url: str, hosts: tuple[Proxy, Proxy], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BrokerConnection]:
    """A connection to both, which tries them in the order in which they are written."""
    monkeypatch.setattr(random, "shuffle", _leave)
    made = BrokerConnection(parse_address(url_of(broker_url, hosts)), "several hosts")
    yield made
    await made.stop()


def _leave(_hosts: list[object]) -> None:
    """Do not shuffle."""


def url_of(broker_url: str, hosts: tuple[Proxy, Proxy]) -> str:
    """Name both hosts in one URL."""
    place = urllib.parse.urlsplit(broker_url)
    user, at, _ = place.netloc.rpartition("@")
    both = ",".join(f"127.0.0.1:{host.port}" for host in hosts)
    return urllib.parse.urlunsplit(place._replace(netloc=f"{user}{at}{both}"))


async def test_where_the_first_host_refuses_the_second_is_taken(
    connection: BrokerConnection, hosts: tuple[Proxy, Proxy]
) -> None:
    hosts[0].is_refusing = True

    await connection.start()

    assert (len(hosts[0].connections), len(hosts[1].connections)) == (0, 1)
    assert hosts[0].accepted == 1


async def test_when_the_host_in_use_goes_the_other_takes_over(
    connection: BrokerConnection, hosts: tuple[Proxy, Proxy]
) -> None:
    first, second = hosts
    await connection.start()
    before = (len(first.connections), len(second.connections))

    first.is_refusing = True
    first.cut()
    async with asyncio.timeout(BACK_S):
        await second.until(lambda: bool(second.connections))
        session = await connection.session(BACK_S)
        async with session.brief_channel():
            after = (len(first.connections), len(second.connections))

    assert (before, after) == ((1, 0), (0, 1))


async def test_where_every_host_refuses_that_is_said(
    connection: BrokerConnection, hosts: tuple[Proxy, Proxy]
) -> None:
    for host in hosts:
        host.is_refusing = True

    with pytest.raises(Unavailable):
        await connection.start()

    assert [host.accepted for host in hosts] == [1, 1]


async def test_hosts_are_tried_in_an_order_that_is_drawn_each_time(
    broker_url: str, hosts: tuple[Proxy, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reverse(urls: MutableSequence[object]) -> None:
        urls.reverse()

    monkeypatch.setattr(random, "shuffle", reverse)
    connection = BrokerConnection(parse_address(url_of(broker_url, hosts)), "several hosts")

    await connection.start()
    found = (len(hosts[0].connections), len(hosts[1].connections))
    await connection.stop()

    assert found == (0, 1)


async def test_the_kernel_gives_a_line_up_that_acknowledges_nothing(
    connection: BrokerConnection,
) -> None:
    await connection.start()
    session = await connection.session(BACK_S)

    wire = session._factory.transport  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert wire is not None
    sock: socket.socket = wire.get_extra_info("socket")

    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
