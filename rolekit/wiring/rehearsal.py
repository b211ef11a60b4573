"""Lives of an instance in the zygote, to see which code instances run, and to run it in.

One begins, takes one message, beats and stops, as any instance does, on a stand-in for the
broker. What it ran is then put together, see `supervisor/sharing.py`. It is an app of its
own: nothing of the user's is run.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING

from rolekit import link
from rolekit.config import Config
from rolekit.events import silenced
from rolekit.model.message import Message
from rolekit.roles.app import App
from rolekit.roles.declare import handle
from rolekit.roles.worker import WorkerRole
from rolekit.transport.rabbitmq.stand_in import StandIn
from rolekit.wiring import instance
from rolekit.wiring.broker import BROKER_FILE
from rolekit.wiring.parts import build, codec_of
from rolekit.wiring.warming import Common

if TYPE_CHECKING:
    from types import CodeType, FrameType

LIVES = 9
"""CPython rewrites code for the types that it meets after eight runs, on the next one. Where
that is done before the fork, an instance neither copies the page that its code lies on for
it, nor counts references to the name of each attribute that it sets."""
LONGEST_S = 2.0
"""It takes 0.1; where it does not end, instances do without."""
NOWHERE = "postgresql://nobody@/nothing?host=/nonexistent"


class Line(Message, name="rolekit.rehearsal.line"):
    """What the only actor hears."""

    number: int


class Actor(WorkerRole):
    """Plays an instance that writes nothing."""

    concurrency = 2

    @handle
    async def hear(self, line: Line) -> None:
        """Do nothing."""


def rehearse() -> tuple[list[CodeType], set[type]]:
    """Live once, in an event loop that is gone afterwards.

    Returns:
        The code that ran, in the order in which it did, and the classes of what was made.

    Raises:
        Exception: Whatever went wrong; nothing is left of it.
    """
    ran: dict[int, CodeType] = {}
    made: set[type] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call":
            ran[id(code)] = code
        elif event == "return" and code.co_name == "__init__" and code.co_argcount:
            one: object = frame.f_locals.get(code.co_varnames[0])
            made.add(type(one))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        _live()
    finally:
        sys.setprofile(before)
    return list(ran.values()), made


def run_in() -> None:
    """Live so often that CPython has made what instances run as fast as it can.

    Raises:
        Exception: Whatever went wrong; nothing is left of it.
    """
    for _ in range(LIVES):
        _live()


def _live() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # A file that names the broker leads to the real one, by way of a resolver's thread.
        named = os.environ.pop(BROKER_FILE, None)
        try:
            with silenced():
                asyncio.run(_life(ours, theirs))
        finally:
            if named is not None:
                os.environ[BROKER_FILE] = named


async def _life(ours: socket.socket, theirs: socket.socket) -> None:
    app = App("rehearsal", roles=[Actor])
    plan = app.plan()
    shared = Common(app, plan, Config(), codec_of(plan))
    broker = StandIn()
    async with asyncio.timeout(LONGEST_S), broker.listening() as url:
        spec = link.InstanceSpec(
            app="", role=Actor.__name__, slot=0, owner=0, broker=url, database=NOWHERE,
            settings={},
        )  # fmt: skip
        living = asyncio.create_task(instance.live(spec, shared, theirs, (None, None)))
        ours.setblocking(False)  # noqa: FBT003 - the only way to say it
        reader, writer = await asyncio.open_connection(sock=ours)
        await reader.readline()  # it is ready
        sender = build(plan, 1, NOWHERE, url, has_queues=True).services
        async with sender.running():
            await sender.client.send(Line(number=1))
            await broker.is_settled.wait()
        writer.write(link.encode(link.Stop(0)))
        await living
        writer.close()
