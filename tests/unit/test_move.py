"""Messages that are moved from queue to queue, while others come all the time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from rolekit.transport.rabbitmq.move import Mover

if TYPE_CHECKING:
    from rolekit.transport.rabbitmq.demux import Tap
    from rolekit.transport.rabbitmq.session import Session

pytestmark = pytest.mark.anyio

PLAIN = b"\x00\x3c\x00\x00" + (1).to_bytes(8, "big") + b"\x00\x00"
"""A header without properties, of a body of one byte."""


class Channel:
    """Takes what is written; the test says what the broker sends."""

    number = 1

    def __init__(self) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.calls = SimpleNamespace(
            basic_qos=self.answer, basic_consume=self.answer, basic_cancel=self.answer
        )
        self.taps: list[Tap] = []
        self.tap = self.taps.append

    async def answer(self, *_: object, **__: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_it_waits_for_what_was_taken_and_not_for_what_comes_meanwhile() -> None:
    channel = Channel()

    async def opened(*, confirms: bool) -> Channel:
        assert confirms
        return channel

    session = cast("Session", SimpleNamespace(channel=opened, frame_max=4096))
    async with Mover(session, "from", "to") as mover:
        (tap,) = channel.taps
        assert tap.on_deliveries is not None
        assert tap.on_confirm is not None
        tap.on_deliveries([(1, False, PLAIN, b"x")])
        settled = asyncio.create_task(mover.settled())
        await asyncio.sleep(0)
        assert not settled.done()

        for number in range(2, 50):  # there is always one that was taken and not moved
            tap.on_deliveries([(number, False, PLAIN, b"x")])
            tap.on_confirm(number - 1, False, False)  # noqa: FBT003 - as a tap is called
            await asyncio.sleep(0)

        assert settled.done()
        assert mover.moved == 48
