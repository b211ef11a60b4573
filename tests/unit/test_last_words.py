"""What an instance wrote is heard, though its process ended before its supervisor read it."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from rolekit import link
from rolekit.model.span import Span
from rolekit.supervisor.forker import Birth
from rolekit.supervisor.instance import Instance, Patience

pytestmark = [pytest.mark.anyio]
SPANS = 10
DETAIL = "x" * 35_000
"""So long that they take more than one read of an event loop, and fit into a socket."""


async def test_what_an_instance_said_before_it_died_is_heard() -> None:
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.settimeout(10)
    spans = [
        Span(trace="ab" * 16, id=f"{n:016x}", name="send X", begun_ns=1, detail=DETAIL)
        for n in range(SPANS)
    ]
    with theirs:
        lines = [link.encode(link.Traced(span)) for span in spans]
        theirs.sendall(b"".join([*lines, link.encode(link.Ending("it had enough"))]))
    pidfd, end = os.pipe()  # readable, as the pidfd of a process that ended is
    os.close(end)
    status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    status.set_result(link.ENDED)
    birth = Birth(pid=0, pidfd=pidfd, status=status)
    instance = await Instance.open("Work/0", birth, ours, Patience())
    heard: list[Span] = []
    instance.on_span = heard.append

    assert await instance.live() == link.ENDED

    assert heard == spans
    assert instance.why == "it had enough"
