"""A broker for the publisher: it notes what is written, and says what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pamqp import body, commands, frame, header

from rolekit.errors import Unavailable
from rolekit.model.envelope import Packet
from rolekit.transport.rabbitmq.demux import Returned, Tap
from rolekit.transport.rabbitmq.publisher import Publisher
from tests.property.jumping import LoopClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from rolekit.transport.rabbitmq.connection import BrokerConnection


@dataclass
class Written:
    """A message as the broker got it."""

    queue: str
    id: str
    props: bytes
    body: bytes


class FakeChannel:
    """One channel with confirms."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.written: list[Written] = []
        self.writes = 0
        self.is_closed = False
        self._tap = Tap()

    def tap(self, tap: Tap) -> None:
        self._tap = tap

    def write(self, data: bytes) -> None:
        if self.lost.done():
            return
        self.writes += 1
        while data:
            size, number, read = frame.unmarshal(data)
            assert number == self.number
            if isinstance(read, commands.Basic.Publish):
                assert read.mandatory
                self.written.append(Written(read.routing_key, "", b"", b""))
            elif isinstance(read, header.ContentHeader):
                self.written[-1].props = data[19 : size - 1]
                self.written[-1].id = str(read.properties.message_id)
            elif isinstance(read, body.ContentBody):
                self.written[-1].body += read.value
            data = data[size:]

    def lose(self, why: str) -> None:
        self._tap.mute()
        if not self.lost.done():
            self.lost.set_result(why)

    async def close(self) -> None:
        self.is_closed = True
        self.lose("closed")

    # -- what a test lets the broker say -------------------------------------------------------

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        self._tap.on_confirm(tag, multiple, False)  # noqa: FBT003 - a Tap

    def nack(self, tag: int, *, multiple: bool = False) -> None:
        self._tap.on_confirm(tag, multiple, True)  # noqa: FBT003 - a Tap

    def send_back(self, number: int) -> None:
        """Return the message with this number."""
        one = self.written[number - 1]
        self._tap.on_return(Returned(312, "NO_ROUTE", one.queue, one.props, one.body))


class FakeBroker:
    """Connection, session and channels in one.

    Attributes:
        channels: Those opened so far; the last one is in use.
        is_away: Nobody gets a session.
        opened: Set, unless a test lets the connection wait.
    """

    def __init__(self) -> None:
        self.channels: list[FakeChannel] = []
        self.frame_max = 4096
        self.is_blocked = False
        self.can_write = True
        self.is_away = False
        self.opened = asyncio.Event()
        self.opened.set()
        self.on_block: Callable[[bool], None] = lambda _: None
        self.resume: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Connect."""
        await self.opened.wait()

    async def session(self, timeout_s: float) -> FakeBroker:
        if self.is_away:
            raise Unavailable("The broker cannot be reached.")
        return self

    async def channel(self, *, confirms: bool) -> FakeChannel:
        assert confirms
        self.channels.append(FakeChannel(len(self.channels) + 1))
        return self.channels[-1]

    def on_resume(self, call: Callable[[], None]) -> None:
        self.resume = call

    def block(self, *, is_blocked: bool) -> None:
        self.is_blocked = is_blocked
        self.on_block(is_blocked)

    @property
    def now(self) -> FakeChannel:
        return self.channels[-1]


class Bench:
    """A publisher before a fake broker, and the calls that were made."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.publisher = Publisher(
            cast("BrokerConnection", self.broker), lambda queue: f"app.{queue}", LoopClock()
        )
        self.calls: list[asyncio.Task[None]] = []

    async def publish(self, *packets: Packet) -> asyncio.Task[None]:
        """Call `publish`, and let it write what it can."""
        call = asyncio.create_task(self.publisher.publish(packets))
        self.calls.append(call)
        await turns()
        return call

    async def outcome(self, call: asyncio.Task[None]) -> str:
        """Wait until it ends; say how: stored, cancelled, or the name of its error."""
        await asyncio.wait([call])
        return outcome(call)


def outcome(call: asyncio.Task[None]) -> str:
    if not call.done():
        return "open"
    if call.cancelled():
        return "cancelled"
    error = call.exception()
    return "stored" if error is None else type(error).__name__


@contextlib.asynccontextmanager
async def bench() -> AsyncGenerator[Bench]:
    """Start a publisher; at the end it stops, and no call is left open."""
    made = Bench()
    await made.publisher.start()
    await turns()
    try:
        yield made
    finally:
        await made.publisher.stop()
        await asyncio.wait_for(asyncio.gather(*made.calls, return_exceptions=True), 5)


async def turns(count: int = 6) -> None:
    """Let everybody run who can."""
    for _ in range(count):
        await asyncio.sleep(0)


def packets(count: int, *, first: int = 1, queue: str = "q", size: int = 1) -> list[Packet]:
    return [
        Packet(queue=queue, id=f"{number:032x}", head=b"h", body=b"b" * size)
        for number in range(first, first + count)
    ]


def ids(written: Sequence[Written]) -> list[int]:
    return [int(one.id, 16) for one in written]
