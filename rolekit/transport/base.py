"""What every transport promises: written with RabbitMQ in mind, kept by all.

    publish    returns when every packet is stored durably (confirmed); a packet for a
               queue that was not declared raises `Unroutable`; no answer in time raises
               `PublishUnknown`, which means unknown, never failed.
    subscribe  pushes batches of deliveries, at most `window` in hand per queue. Each
               subscription is a channel of its own.
    epochs     a subscription with an epoch has its queues for itself, as far as the
               transport can tell: see `Transport.subscribe`.
    settle     each delivery ends as acked, or handed back: alone, or because its
               subscription closed or its instance died. Acks are hints: they may be lost,
               and the delivery come again, flagged.

One conformance suite, `tests/conformance/transport.py`, runs on every implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rolekit.model.envelope import Packet

DEAD_QUEUE = "~dead"
"""Where a broker puts what it gave up by itself; consumed into dead letters."""

INBOUND = "~in"
"""Where other apps send to: each app has one, and its relays hand on what comes there."""
OUTSIDE = "~app."
"""Begins the name of another app's `INBOUND`, as this app calls it."""


def outside_queue(app: str) -> str:
    """Name the queue by which another app is reached."""
    return f"{OUTSIDE}{app}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a transport can do beyond the contract.

    Attributes:
        joins_store: Its queues are tables of the app's own database, so that a commit
            takes outputs and acks with it and needs no outbox.
        sees_holders: It knows who holds what: it counts what is in hand, tells the age of
            what waits, and flags what an instance held that died. Otherwise the store keeps
            what is known of deaths; see `store.base.Deaths`.
        gives_up: It may give up by itself what it delivered too often. That comes out of
            `DEAD_QUEUE`, with the name of the queue it was in.
    """

    joins_store: bool = False
    sees_holders: bool = True
    gives_up: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """One arrival of a packet at this instance.

    Attributes:
        packet: What came.
        tag: The transport's name for this arrival; means nothing outside its subscription.
        redelivered: It was handed out before, perhaps handled. A hint.
        is_suspect: It was in the hands of an instance that died. A hint.
        crashed: How many instances died while they ran it alone.
    """

    packet: Packet
    tag: int
    redelivered: bool = False
    is_suspect: bool = False
    crashed: int = 0


Sink = Callable[[Sequence[Delivery]], None]
"""Takes one batch of deliveries. Called in the event loop; must not block or raise."""


@dataclass(frozen=True, slots=True)
class Depth:
    """What stands in one queue.

    Attributes:
        waiting: Packets nobody holds.
        in_hand: Packets delivered and not yet settled.
        oldest_s: Age of the oldest waiting packet in seconds; 0 when none waits.
        consumers: Who takes from it, on any host; None: nobody tells.
    """

    waiting: int = 0
    in_hand: int = 0
    oldest_s: float = 0
    consumers: int | None = None

    def __add__(self, other: Depth) -> Depth:
        """Say what stands in two places of one queue; consumers are those of the first."""
        return Depth(
            self.waiting + other.waiting,
            self.in_hand + other.in_hand,
            max(self.oldest_s, other.oldest_s),
            self.consumers,
        )


class Subscription(Protocol):
    """A consumer of some queues, with its own window and its own tags."""

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Forget these for ever. Sent soon, together with others; may be lost."""

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Make room in the window: these were settled by the commit that took their claim."""

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give these back to their queues, to be delivered again, flagged."""

    async def run_alone(self, delivery: Delivery) -> None:
        """Note that a suspect runs now, with nothing beside it in this instance.

        If the instance dies before it is settled, the death counts against it.
        """

    def widen(self, queue: str, window: int) -> None:
        """Change how many deliveries of a queue may be in hand, soon.

        A smaller window takes nothing away: what is in hand above it stays, or is handed
        back by the caller. With 0 no more of this queue is taken until it is widened.
        """

    def pause(self) -> None:
        """Take no more until `resume`. What is in hand stays."""

    def resume(self) -> None:
        """Take again."""

    async def flush(self) -> None:
        """Wait until the acks given so far have been sent."""

    async def close(self) -> None:
        """Take no more; hand back whatever is not settled. Safe to call twice."""


class Transport(Protocol):
    """Queues somewhere."""

    features: Features

    async def start(self) -> None:
        """Connect.

        Raises:
            Unavailable: Nobody answers there.
        """

    async def connect_to_send(self) -> None:
        """Connect for sending as well, so that the first who sends does not wait for that.

        Raises:
            Unavailable: Nobody answers there.
            ConfigError: One answers, but not to this app, or to no more of it.
        """

    async def stop(self) -> None:
        """Close every subscription and connection. Safe to call twice, and before start."""

    async def declare(self, queues: Iterable[str]) -> None:
        """Make these queues if they are not there.

        Raises:
            Unavailable: There is no connection, or it was lost meanwhile.
        """

    async def publish(self, packets: Sequence[Packet]) -> None:
        """Store all of these, in this order; return when that is confirmed.

        Raises:
            Unroutable: One of the queues does not exist. `which` says what was not stored.
            QueueFull: One of them takes no more. `which` says what was not stored.
            PublishUnknown: No confirm came in time.
            Unavailable: There is no connection; nothing was sent.
        """

    async def forward(
        self, subscription: Subscription, pairs: Sequence[tuple[Delivery, Packet]]
    ) -> None:
        """Publish each packet, then ack its delivery: the way of a direct step.

        A crash between the two brings the delivery back; its output then comes a second
        time under the same id and generation.
        """

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink, epoch: int | None = None
    ) -> Subscription:
        """Begin to consume; the queues are declared already.

        Args:
            queues: Names.
            window: Deliveries in hand per queue, at most; from 1.
            sink: Takes each batch.
            epoch: Of a partition's owner: one subscription at a time is delivered to, and in
                the order in which packets came. What an earlier one had in hand comes first,
                flagged; either because that one is over, or because the epoch is higher.

        Raises:
            FenceLost: Another subscription has a higher epoch, where the transport keeps it.
        """
        ...

    async def depths(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Say what stands in each of these queues.

        Raises:
            Unavailable: There is no connection, or it was lost meanwhile.
        """
        ...

    def delivered_age_s(self) -> float | None:
        """Return the age of the oldest of what came here since this was asked last, seconds.

        None: nothing came, or `depths` tells ages, which is better.
        """

    def blocked_s(self) -> float:
        """Return for how long the broker has refused to take messages, seconds; 0: it takes.

        It may be noticed only when something is published.
        """
        ...

    async def recover(self) -> None:
        """Hand back what instances that are gone still hold, where the broker does not."""

    async def hand_over(self) -> None:
        """Hand over what is for other apps, where `publish` only keeps it.

        What is for an app that was never started here stays; the log says so.
        """
