"""Queues on RabbitMQ: the contract of `transport.base.Transport` on two connections.

One connection publishes and one consumes, since a broker that is short of memory stops
reading whoever publishes, and acks must still get through.

Source: DESIGN 5; RELIABILITY 0.6.
"""

from __future__ import annotations

import itertools
from hashlib import blake2b
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from rolekit.clock import Clock, SystemClock
from rolekit.errors import CodecError, RolekitError
from rolekit.model.envelope import Head, Packet, encode_head
from rolekit.transport.base import Delivery, Depth, Features, Sink, Subscription
from rolekit.transport.rabbitmq import topology, wire
from rolekit.transport.rabbitmq.address import parse_address
from rolekit.transport.rabbitmq.connection import BrokerConnection
from rolekit.transport.rabbitmq.consumer import RabbitSubscription
from rolekit.transport.rabbitmq.plain import PlainSession
from rolekit.transport.rabbitmq.publisher import Publisher
from rolekit.transport.rabbitmq.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

log = structlog.get_logger("rolekit.rabbitmq")

SESSION_S = 10.0


class RabbitTransport:
    """Keeps the contract of `transport.base.Transport` on a RabbitMQ broker.

    Args:
        url: `amqp://` or `amqps://`, one host or several.
        app: Name of the app: its queues begin with it.
        queue_type: Of handlers' queues.
        sole_types: Wire name of the only message a queue's handler takes, for messages
            from other programs that do not name their type.
        clock: Gives packets without a birth theirs.
        is_plain: Leave every message to aiormq, without the demultiplexer: see `plain`.
    """

    def __init__(
        self,
        url: str,
        *,
        app: str,
        queue_type: topology.QueueType = "quorum",
        sole_types: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        is_plain: bool = False,
    ) -> None:
        self.features = Features(sees_holders=False)
        self._address = parse_address(url)
        self._names = topology.Names(app, queue_type)
        self._sole_types = sole_types or {}
        self._clock = clock or SystemClock()
        kind = PlainSession if is_plain else Session
        self._consuming = BrokerConnection(self._address, f"{app} consume", kind)
        self._publishing = BrokerConnection(self._address, f"{app} publish", kind)
        self._publisher = Publisher(self._publishing, self._names.of, self._clock)
        self._serials = itertools.count(1)
        self._open: set[RabbitSubscription] = set()
        self.stale_acks = 0

    async def start(self) -> None:
        """Connect for consuming and declaring; for publishing when that is first asked for."""
        await self._consuming.start()

    async def stop(self) -> None:
        """Close every subscription and connection."""
        for subscription in list(self._open):
            await subscription.close()
        await self._publisher.stop()
        await self._publishing.stop()
        await self._consuming.stop()

    async def abort(self) -> None:
        """Break every connection without a word, as the death of this process does."""
        for connection in (self._publishing, self._consuming):
            connection.abort()
        await self.stop()

    async def declare(self, queues: Iterable[str]) -> None:
        """Make these queues if they are not there."""
        wanted = [self._names.queue(name) for name in queues]
        await topology.declare(await self.consuming(), wanted)

    async def publish(self, packets: Sequence[Packet]) -> None:
        """Store all of these, in this order; return when the broker confirmed that."""
        if packets:
            await self._publisher.publish(packets)

    async def forward(
        self, subscription: Subscription, pairs: Sequence[tuple[Delivery, Packet]]
    ) -> None:
        """Publish each packet, then ack its delivery."""
        await self._publisher.publish([packet for _, packet in pairs])
        subscription.ack([delivery for delivery, _ in pairs])

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink
    ) -> RabbitSubscription:
        """Begin to consume."""
        subscription = RabbitSubscription(self, queues, window, sink)
        self._open.add(subscription)
        return subscription

    async def depths(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Say how many wait in each of these queues; the broker tells no more."""
        session = await self.consuming()
        names = {queue: self._names.of(queue) for queue in queues}
        found = await topology.counts(session, names.values())
        return {queue: Depth(found.get(name, 0)) for queue, name in names.items()}

    async def recover(self) -> None:
        """Do nothing: the broker hands back what a lost connection held."""

    # -- for its parts -------------------------------------------------------------------------

    async def consuming(self) -> Session:
        """Return the session for consuming and calls, once there is one."""
        return await self._consuming.session(SESSION_S)

    def broker_name(self, queue: str) -> str:
        """Return what a queue is called on the broker."""
        return self._names.of(queue)

    def next_serial(self) -> int:
        """Number one more channel."""
        return next(self._serials)

    def gone(self, subscription: RabbitSubscription) -> None:
        """Forget a subscription that closed."""
        self._open.discard(subscription)

    def count_stale(self) -> None:
        """Note an ack for a channel that is gone: the delivery comes again."""
        self.stale_acks += 1
        if self.stale_acks == 1:
            log.info("an ack came after its channel was lost; the inbox absorbs the repeat")

    def packet(self, queue: str, props: bytes, body: bytes) -> Packet:
        """Build the packet of a delivery."""
        try:
            read = wire.read_properties(props)
        except CodecError as error:
            log.warning("a message cannot be read", queue=queue, error=str(error))
            id_ = blake2b(props + body, digest_size=16).hexdigest()
            return Packet(
                queue=queue, id=id_, birth_ms=self._clock.now_ms(), head=b"", body=body
            )
        if isinstance(read, wire.Own):
            return Packet(
                queue=queue,
                id=read.id,
                generation=read.generation,
                birth_ms=read.birth_ms,
                head=read.head,
                body=body,
            )
        return self._foreign(queue, read, body)

    def _foreign(self, queue: str, read: wire.Foreign, body: bytes) -> Packet:
        """Name a message of another program by (its message id, queue).

        Without a message id it is another one each time it is delivered.
        """
        sent_ms = self._clock.now_ms() if read.timestamp_s is None else read.timestamp_s * 1000
        if sent_ms > wire.MAX_BIRTH_MS:
            sent_ms = self._clock.now_ms()  # some programs write milliseconds, or worse
        if read.message_id:
            text = f"{read.message_id}\0{queue}".encode()
            id_ = blake2b(text, digest_size=16).hexdigest()
        else:
            id_ = uuid4().hex
        is_msgpack = "msgpack" in (read.content_type or "")
        head = Head(
            type=read.type or self._sole_types.get(queue, ""),
            codec="msgpack" if is_msgpack else "json",
            root=id_,
            sent_at_ms=sent_ms,
            headers={k: v for k, v in read.headers.items() if isinstance(v, str)},
        )
        try:
            encoded = encode_head(head)
        except RolekitError:
            encoded = b""
        return Packet(queue=queue, id=id_, birth_ms=sent_ms, head=encoded, body=body)
