"""Without the demultiplexer: aiormq carries every message, should its seam have changed.

    publisher, consumer ── frames ──> read here ──> basic_publish, basic_ack, basic_nack
    publisher, consumer <── calls of the tap <── written anew <── what aiormq delivers

Everything else is as it was: the same publisher, consumers and acks, the same bytes on the
wire. Each message takes a task of aiormq's and one of this module's, so it is slower by far.
It does not know when the broker blocks: what is published then ends as unknown, and a URL's
server_name= is not used.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import aio_pika
import aiormq
from aiormq.abc import DeliveredMessage
from pamqp import body, commands, frame, header

from rolekit.transport.rabbitmq.address import AWAY
from rolekit.transport.rabbitmq.demux import Returned
from rolekit.transport.rabbitmq.session import (
    CONNECT_S,
    RPC_S,
    Channel,
    Session,
    lost_not_cancelled,
)
from rolekit.transport.rabbitmq.wire import FRAME, OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractChannel
    from aiormq.abc import AbstractChannel as Underlay
    from yarl import URL


_REFUSED = object()


class PlainChannel(Channel):
    """A channel whose frames become aiormq's calls, and whose deliveries come from it."""

    def __init__(self, session: Session, opened: AbstractChannel, calls: Underlay) -> None:
        super().__init__(session, opened, calls)
        # Owned by close(), which ends them.
        self._acking: set[asyncio.Task[None]] = set()
        self._publishing: set[asyncio.Task[None]] = set()
        self._by_id: dict[str, asyncio.Task[None]] = {}
        self._outcomes: dict[int, object] = {}
        self._number = 0
        self._told = 0
        self._publish = commands.Basic.Publish()
        self._header = header.ContentHeader()
        self._body: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Do what these frames say; nothing once it is lost."""
        if self.lost.done():
            return
        at = 0
        while at < len(data):
            end = at + FRAME.unpack_from(data, at)[2] + OVERHEAD
            self._do(frame.unmarshal(data[at:end])[2])
            at = end

    def _do(self, read: frame.FrameTypes) -> None:
        if isinstance(read, commands.Basic.Ack):
            self._ack(self.calls.basic_ack(read.delivery_tag, read.multiple, wait=False))
        elif isinstance(read, commands.Basic.Nack):
            self._ack(self.calls.basic_nack(read.delivery_tag, requeue=True, wait=False))
        elif isinstance(read, commands.Basic.Publish):
            self._publish = read
        elif isinstance(read, header.ContentHeader):
            self._header, self._body = read, []
            self._if_whole()
        elif isinstance(read, body.ContentBody):
            self._body.append(read.value)
            self._if_whole()

    # -- acks --------------------------------------------------------------------------------

    def _ack(self, call: Awaitable[None]) -> None:
        task = asyncio.create_task(_unless_away(call))
        self._acking.add(task)
        task.add_done_callback(self._acking.discard)

    async def sent(self) -> None:
        """Wait until aiormq has the acks."""
        if self._acking:
            await asyncio.wait(self._acking, timeout=RPC_S)

    async def close(self) -> None:
        """Close it, which hands back what it holds."""
        await self.sent()
        await super().close()
        for task in [*self._acking, *self._publishing]:
            task.cancel()

    # -- publishing --------------------------------------------------------------------------

    def _if_whole(self) -> None:
        """Publish what is complete, under the next number of the channel."""
        if sum(map(len, self._body)) != self._header.body_size:
            return
        self._number += 1
        data, properties = b"".join(self._body), self._header.properties
        id_ = properties.message_id or ""
        before = self._by_id.get(id_)
        key = self._publish.routing_key
        publishing = self._publish_one(self._number, key, data, properties, before)
        task = asyncio.create_task(publishing)
        self._by_id[id_] = task
        self._publishing.add(task)
        task.add_done_callback(lambda _: self._published(task, id_))

    def _published(self, task: asyncio.Task[None], id_: str) -> None:
        self._publishing.discard(task)
        if self._by_id.get(id_) is task:
            del self._by_id[id_]

    async def _publish_one(
        self,
        number: int,
        key: str,
        data: bytes,
        properties: commands.Basic.Properties,
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:  # aiormq tells returned messages from one another by their ids
            await asyncio.wait([before])
        try:
            answer: object = await self.calls.basic_publish(
                data, routing_key=key, properties=properties, mandatory=True
            )
        except aiormq.exceptions.DeliveryError:
            answer = _REFUSED
        except AWAY:
            return  # the channel is lost, and with it what is in flight
        self._outcomes[number] = answer
        self._tell()

    def _tell(self) -> None:
        """Tell the outcomes in the order of publishing, as the broker does with returns."""
        while self._told + 1 in self._outcomes:
            self._told += 1
            outcome = self._outcomes.pop(self._told)
            if isinstance(outcome, DeliveredMessage):
                method = outcome.delivery
                code, text = getattr(method, "reply_code", 0), getattr(method, "reply_text", "")
                props = properties_of(outcome)
                key = outcome.routing_key or ""
                self._tap.on_return(Returned(code, text, key, props, outcome.body))
            self._tap.on_confirm(self._told, False, outcome is _REFUSED)  # noqa: FBT003 - a Tap

    # -- consuming ---------------------------------------------------------------------------

    async def take(self, message: DeliveredMessage) -> None:
        """Hand a message to the tap."""
        tag = message.delivery_tag
        if tag is not None:
            props = properties_of(message)
            self._tap.on_deliveries([(tag, bool(message.redelivered), props, message.body)])


async def _unless_away(call: Awaitable[None]) -> None:
    with suppress(*AWAY):
        await call


def properties_of(message: DeliveredMessage) -> bytes:
    """Write properties as they are on the wire, without headers that cannot be."""
    properties = message.header.properties
    try:
        return bytes(properties.marshal())
    except (TypeError, ValueError, OverflowError, struct.error):
        headers = properties.headers or {}
        for name in [*headers]:
            if not isinstance(headers[name], (str, bytearray)):
                del headers[name]
        return bytes(properties.marshal())


class PlainSession(Session):
    """One life of a connection that is aiormq's alone."""

    channel_type = PlainChannel

    async def open(self, url: URL, name: str) -> None:
        """Connect."""
        connection = aio_pika.Connection(url.update_query(name=name))
        self._connection = connection  # close() ends it, also where it cannot connect
        with lost_not_cancelled():
            await connection.connect(timeout=CONNECT_S)
        self._adopt(connection, url)

    @property
    def can_write(self) -> bool:
        """Whether it takes more: aiormq does not tell, and takes all."""
        return not self.lost.done()

    def on_resume(self, call: Callable[[], None]) -> None:
        """Never call this: nothing is ever held up."""
