"""Spans are written together, once each, before the loop turns."""

from __future__ import annotations

import asyncio
import socket

import pytest

from rolekit import link
from rolekit.model.span import Span
from rolekit.wiring.shipping import Shipping

pytestmark = [pytest.mark.anyio]


def span(n: int, *, ended_ns: int = 0) -> Span:
    return Span(
        trace="ab" * 16, id=f"{n:016x}", name="process X", begun_ns=1, ended_ns=ended_ns
    )


async def test_what_began_and_ended_in_a_turn_goes_once_and_before_what_comes_after() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # noqa: FBT003 - the only way to say it
    _, writer = await asyncio.open_connection(sock=ours)
    shipping = Shipping(writer)
    with theirs:
        shipping.ship(span(1))
        shipping.ship(span(2))
        shipping.ship(span(1, ended_ns=5))
        after: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: after.set_result(theirs.recv(65536)))

        lines = (await after).splitlines()

        told = [link.from_instance(line) for line in lines]
        assert told == [link.Traced(span(1, ended_ns=5)), link.Traced(span(2))]
        shipping.ship(span(3))
        await asyncio.sleep(0)
        assert link.from_instance(theirs.recv(65536)) == link.Traced(span(3))
        writer.close()
