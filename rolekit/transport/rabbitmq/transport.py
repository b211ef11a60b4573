"""Queues on RabbitMQ: the contract of `transport.base.Transport` on two connections.

One connection publishes and one consumes, since a broker that is short of memory stops
reading whoever publishes, and acks must still get through.

Source: DESIGN 5; RELIABILITY 0.6.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING

import structlog

from rolekit.clock import Clock, SystemClock
from rolekit.errors import CodecError, QueueFull, Unavailable, Unroutable
from rolekit.model.envelope import Packet
from rolekit.model.sample import Sample
from rolekit.transport.base import (
    DEAD_QUEUE,
    OUTSIDE,
    Delivery,
    Depth,
    Features,
    Sink,
    Subscription,
)
from rolekit.transport.rabbitmq import topology, wire
from rolekit.transport.rabbitmq.access import check_read, check_write
from rolekit.transport.rabbitmq.address import AWAY, UrlFile, parse_address
from rolekit.transport.rabbitmq.connection import BrokerConnection
from rolekit.transport.rabbitmq.counting import NOTHING, Counting
from rolekit.transport.rabbitmq.foreign import packet_of
from rolekit.transport.rabbitmq.lint import refuse_dangers
from rolekit.transport.rabbitmq.plain import PlainSession
from rolekit.transport.rabbitmq.plan import refuse_left_over
from rolekit.transport.rabbitmq.publisher import Publisher
from rolekit.transport.rabbitmq.session import Session
from rolekit.transport.rabbitmq.sources import check_source
from rolekit.transport.rabbitmq.subscription import RabbitSubscription
from rolekit.transport.rabbitmq.watchdog import EVERY_S, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from rolekit.transport.rabbitmq.consumer import QueueConsumer

log = structlog.get_logger("rolekit.rabbitmq")

SESSION_S = 10.0
AFTER_CONSUMERS_S = 1.0
LOOK_S = 1.0
"""Who only wants to know how much waits does not wait long for a connection."""

_SERIALS = itertools.count(1)


class RabbitTransport:
    """Keeps the contract of `transport.base.Transport` on a RabbitMQ broker.

    Args:
        url: `amqp://` or `amqps://`, one host or several; or a file with it, which is read
            again before each connection.
        app: Name of the app: its queues begin with it.
        queue_type: Of handlers' queues.
        sole_types: Wire name of the only message a queue's handler takes, for messages
            from other programs that do not name their type.
        sources: Queues of other programs, by the queue whose handler takes from them too.
        clock: Gives packets without a birth theirs.
        made: Queues that whoever started this process has made: they are not declared again.
        watch_s: Seconds between looks whether what is consumed comes.
        is_plain: Leave every message to aiormq, without the demultiplexer: see `plain`.
    """

    def __init__(  # noqa: PLR0913 - given by name, each with its default
        self,
        url: str | UrlFile,
        *,
        app: str,
        queue_type: topology.QueueType = "quorum",
        sole_types: Mapping[str, str] | None = None,
        sources: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        made: Iterable[str] = (),
        watch_s: float = EVERY_S,
        is_plain: bool = False,
    ) -> None:
        self.features = Features(sees_holders=False, gives_up=True)
        file = url if isinstance(url, UrlFile) else None
        self._address = parse_address(url.url if isinstance(url, UrlFile) else url)
        self._names = topology.Names(app, queue_type)
        self._sole_types = sole_types or {}
        self.sources = sources or {}
        self._clock = clock or SystemClock()
        kind = PlainSession if is_plain else Session
        self._consuming = BrokerConnection(self._address, f"{app} consume", file, kind)
        self._publishing = BrokerConnection(self._address, f"{app} publish", file, kind)
        self._publisher = Publisher(self._publishing, self._names.of, self._clock)
        self._open: set[RabbitSubscription] = set()
        self._made = frozenset(made)
        self._declared = set(self._made)
        self.counting = Counting()
        self._watchdog = Watchdog(self, self._consumers, watch_s)
        self.stale_acks = 0
        self._first_birth_ms = 0

    @property
    def in_flight(self) -> int:
        """Messages published and not confirmed."""
        return self._publisher.in_flight

    @property
    def healed(self) -> int:
        """Consumers that were dead without a word, and began anew."""
        return self._watchdog.healed

    def numbers(self) -> tuple[Sample, ...]:
        """Say what befell this end of the broker since it began, and how that is now."""
        publisher, found = self._publisher, list[Sample]()
        for name, one in (("consume", self._consuming), ("publish", self._publishing)):
            label = (("connection", name),)
            found += [
                Sample("rolekit.broker.reconnects", label, one.reconnects),
                Sample("rolekit.broker.frame_faults", label, one.frame_faults),
                Sample("rolekit.broker.blocked", label, float(one.is_blocked)),
            ]
        return (
            *found,
            Sample("rolekit.broker.healed", (), self.healed),
            Sample("rolekit.broker.stale_acks", (), self.stale_acks),
            Sample("rolekit.broker.unknown", (), publisher.unknown),
            Sample("rolekit.broker.returned", (), publisher.returned),
        )

    @property
    def server_version(self) -> str:
        """As the broker said it when the connection began; empty while there is none."""
        session = self._consuming.current
        return "" if session is None else session.version

    def call_before_write(self, call: Callable[[], None]) -> None:
        """Have this called before messages are written; it must not raise."""
        self._publisher.before_write = call

    async def start(self) -> None:
        """Connect for consuming and declaring; for publishing when that is first asked for."""
        await self._consuming.start()

    async def connect_to_send(self) -> None:
        """Open the connection that publishes."""
        await self._publisher.start()

    async def stop(self) -> None:
        """Close every subscription and connection."""
        await self._watchdog.stop()
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
        """Make these queues if they are not there, but for those of other apps.

        Raises:
            ConfigError: One is there with other arguments, or would lose messages.
            Unavailable: There is no connection, or it was lost meanwhile.
        """
        names = [name for name in queues if not name.startswith(OUTSIDE)]
        if missing := [name for name in names if name not in self._made]:
            await self.make(missing)

    async def make(self, names: Sequence[str]) -> None:
        """Do as `declare`, also for queues that were made before: one was found gone."""
        wanted = self.wanted(names)
        refuse_dangers(wanted)
        session = await self.consuming()
        with self._calling():
            await topology.declare(session, wanted)
        self._declared.update(names)

    async def check(self, queues: Sequence[str]) -> None:
        """Make sure that these queues, which are there, can be worked with.

        Raises:
            ConfigError: This user may not consume one, or not publish; or the migration of
                one was interrupted and still has its messages; or the queue of another
                program is not there.
        """
        wanted = self.wanted(queues)
        names = [queue.name for queue in wanted]
        with self._calling():
            session = await self.consuming()
            await check_read(session, names)
            for queue in queues:
                if queue in self.sources:
                    await check_source(session, queue, self.sources[queue])
            await refuse_left_over(session, names)
            await self._publishing.start()
            await check_write(await self._publishing.session(SESSION_S), names[0])

    async def publish(self, packets: Sequence[Packet]) -> None:
        """Store all of these, in this order; return when the broker confirmed that.

        A queue that this process declared and somebody deleted is made again.
        """
        if not packets:
            return
        try:
            await self._publisher.publish(packets)
        except Unroutable as error:
            which = sorted(error.which or ())
            if not await self._make_again({packets[at].queue for at in which}):
                raise
            try:
                await self._publisher.publish([packets[at] for at in which])
            except (Unroutable, QueueFull) as again:
                again.which = frozenset(which[at] for at in again.which or ())
                raise

    async def _make_again(self, queues: set[str]) -> bool:
        """Make those of these queues that were declared and are gone; say if any was.

        Its consumers are let be the first: of a quorum queue that is made again within
        50 ms, RabbitMQ 3.10 does not tell them that it was gone, and they get nothing more.
        """
        known = {self._names.of(queue): queue for queue in queues & self._declared}
        if not known:
            return False
        await asyncio.sleep(AFTER_CONSUMERS_S)
        session = await self.consuming()
        with self._calling():
            there = await self.counting.count(session, known)
        gone = [queue for name, queue in known.items() if name not in there]
        if gone:
            await self.make(gone)
            log.warning("queues were gone with what was in them; made again", queues=gone)
        return True

    async def forward(
        self, subscription: Subscription, pairs: Sequence[tuple[Delivery, Packet]]
    ) -> None:
        """Publish each packet, then ack its delivery."""
        await self.publish([packet for _, packet in pairs])
        subscription.ack([delivery for delivery, _ in pairs])

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink, epoch: int | None = None
    ) -> RabbitSubscription:
        """Begin to consume.

        The broker keeps no epochs: of a partition's queue it delivers to one consumer at a
        time, and to the next one when the channel of the one before is gone.
        """
        del epoch
        subscription = RabbitSubscription(self, queues, window, sink)
        self._open.add(subscription)
        self._watchdog.start()
        return subscription

    async def depths(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Say how many wait in each of these queues, and who takes them; no more is told.

        A quorum queue that is too busy to answer within 250 ms is said to have neither.
        """
        session = await self._consuming.session(LOOK_S)
        names = {queue: self._feeding(queue) for queue in queues}
        with self._calling():
            all_names = [name for several in names.values() for name in several]
            found = await self.counting.count(session, all_names)
        depths: dict[str, Depth] = {}
        for queue, several in names.items():
            there = [found.get(name, NOTHING) for name in several]
            depths[queue] = Depth(
                sum(one.messages for one in there),
                consumers=min(one.consumers for one in there),
            )
        return depths

    def _feeding(self, queue: str) -> list[str]:
        """Name the queues on the broker that a handler takes from: its own comes first."""
        own, source = self._names.of(queue), self.sources.get(queue)
        return [own] if source is None else [own, source]

    def note_birth(self, birth_ms: int | None) -> None:
        """Note when the first of a batch was born: it stood at the head of its queue."""
        if birth_ms is not None and not 0 < self._first_birth_ms <= birth_ms:
            self._first_birth_ms = birth_ms

    def delivered_age_s(self) -> float | None:
        """Return the age of the oldest of what came here since this was asked last, seconds."""
        birth_ms, self._first_birth_ms = self._first_birth_ms, 0
        return max(self._clock.now_ms() - birth_ms, 0) / 1000 if birth_ms else None

    def blocked_s(self) -> float:
        """Return for how long the broker has read nothing that is published, seconds."""
        return self._publishing.blocked_s

    async def recover(self) -> None:
        """Do nothing: the broker hands back what a lost connection held."""

    async def hand_over(self) -> None:
        """Do nothing: it is published to the other app's queue."""

    @contextmanager
    def _calling(self) -> Generator[None]:
        """Raise what the driver raises of a connection that is lost under a call as such."""
        try:
            yield
        except AWAY as error:
            said = str(error) or type(error).__name__
            raise Unavailable(
                f"The broker {self._address.shown} did not answer: {said}."
            ) from error

    # -- for its parts -------------------------------------------------------------------------

    async def consuming(self) -> Session:
        """Return what is open for consuming and calls, once something is."""
        return await self._consuming.session(SESSION_S)

    def wanted(self, queues: Iterable[str]) -> list[topology.Queue]:
        """Say how these queues should be on the broker."""
        return [self._names.queue(name) for name in queues]

    def broker_name(self, queue: str) -> str:
        """Return what a queue is called on the broker."""
        return self._names.of(queue)

    def next_serial(self) -> int:
        """Number one more channel, as no other of this process."""
        return next(_SERIALS)

    def _consumers(self) -> list[QueueConsumer]:
        return [one for it in self._open for one in it.all_consumers()]

    def gone(self, subscription: RabbitSubscription) -> None:
        """Forget a subscription that closed."""
        self._open.discard(subscription)

    def count_stale(self) -> None:
        """Note an ack for a channel that is gone: the delivery comes again."""
        self.stale_acks += 1
        if self.stale_acks == 1:
            log.info("an ack came after its channel was lost; the inbox absorbs the repeat")

    def packet(self, queue: str, props: bytes, body: bytes, source: str = "") -> Packet:
        """Build the packet of a delivery, which came from another program's queue, if any."""
        try:
            if queue == DEAD_QUEUE:
                queue = self._names.back(wire.first_death(props)) or queue
            read = wire.read(props, body)
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
                body=read.body,
            )
        return packet_of(
            read,
            body,
            queue=queue,
            source=source or queue,
            type_=self._sole_types.get(queue, ""),
            now_ms=self._clock.now_ms(),
        )
