"""What an instance has in its hands of an engine: the streams of its guest, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from rolekit.guest import Container, Guest, Talks
from rolekit.guest.attached import HEAD_BYTES
from rolekit.guest.container import key_of, orders_of
from rolekit.guest.declare import guests_of
from rolekit.guest.launching import ordering
from rolekit.guest.talks import Session

if TYPE_CHECKING:
    from rolekit.guest.berth import Orders
    from tests.process.guest_programs import Leftovers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

REQUEST = b"GET /containers/json HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\n\r\n"
"""What would tell of all containers, where it reached the engine."""


class _Role:
    cat = Guest(Talks(Session, "cat"), host=Container(image="rolekit-test:base"))
    over = Guest(Talks(Session, "true"), host=Container(image="rolekit-test:base"))


async def test_a_request_on_a_stream_reaches_the_program_and_not_the_engine(
    left: Leftovers,
) -> None:
    async with ordering(_Role) as orders:
        stream = await _stream(orders, "cat")
        with stream:
            await asyncio.get_running_loop().sock_sendall(stream, REQUEST)
            stream.shutdown(socket.SHUT_WR)

            assert _payload(await _to_its_end(stream)) == REQUEST


async def test_a_request_on_the_stream_of_a_guest_that_ended_reaches_nobody(
    left: Leftovers,
) -> None:
    async with ordering(_Role) as orders:
        stream = await _stream(orders, "over")
        with stream:
            assert await _to_its_end(stream) == b""

            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await asyncio.get_running_loop().sock_sendall(stream, REQUEST)
                assert await _to_its_end(stream) == b""


async def _stream(orders: Orders, name: str) -> socket.socket:
    """Have a guest started, and get all that an instance gets of it."""
    (order,) = [o for o in orders_of(_Role, guests_of(_Role)) if o["guest"] == name]
    stream = socket.socket(fileno=await orders.order("start", key_of(order)).answered)
    stream.setblocking(False)  # noqa: FBT003 - the only way to say it
    return stream


async def _to_its_end(stream: socket.socket) -> bytes:
    said = b""
    while data := await asyncio.get_running_loop().sock_recv(stream, 1 << 16):
        said += data
    return said


def _payload(said: bytes) -> bytes:
    """Join what came in frames."""
    whole = b""
    while said:
        size = int.from_bytes(said[4:HEAD_BYTES], "big")
        whole, said = whole + said[HEAD_BYTES : HEAD_BYTES + size], said[HEAD_BYTES + size :]
    return whole
